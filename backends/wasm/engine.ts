// What the engine makes of instructions, by which printers choose them.
import { hasRelaxed } from "./assembler/encode.ts";

/** How functions are printed. */
export interface Engine {
  /** Fused multiply-add. */
  readonly relaxed: boolean;
  /**
   * Vectors in pairs of neighbours, for an engine that makes one of 256 bits of them, and only of
   * instructions that it knows so. The values are the same bits.
   */
  readonly wide: boolean;
}

/** Neighbouring vectors that are computed beside each other. */
export const atOnce = ({ wide }: Engine): number => wide ? 2 : 1;

/** What V8 must be told for {@linkcode Engine.wide}: it pairs only accesses that it need not check. */
export const wideFlags = ["--experimental-wasm-revectorize", "--no-wasm-bounds-checks"] as const;

/** The variable of the environment by which Deno is told V8's flags, with commas between them. */
export const flagsVariable = "DENO_V8_FLAGS";

/** The flags that this process's V8 was started with, as far as they can be seen. */
const flagsOf = (): string => {
  const { permissions, env } = Deno;
  const { state } = permissions.querySync({ name: "env", variable: flagsVariable });
  return state === "granted" ? env.get(flagsVariable) ?? "" : "";
};

/** The engine of this process. */
export const engineHere = (): Engine => {
  const flags = globalThis.Deno === undefined ? [] : flagsOf().split(",").map((one) => one.trim());
  return { relaxed: hasRelaxed(), wide: wideFlags.every((flag) => flags.includes(flag)) };
};
