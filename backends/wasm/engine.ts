// Capabilities of the JavaScript engine that decide how functions are printed.
import { hasRelaxed } from "./assembler/encode.ts";

/** How functions are printed. */
export interface Engine {
  /** Fused multiply-add. */
  readonly relaxed: boolean;
  /**
   * Vectors are printed in adjacent pairs, for an engine that fuses such pairs into 256-bit
   * instructions, and only where it does. The values are the same bits.
   */
  readonly wide: boolean;
}

/** Adjacent vectors that are computed in parallel. */
export const atOnce = ({ wide }: Engine): number => wide ? 2 : 1;

/** V8's flags for {@linkcode Engine.wide}: it fuses only accesses without bounds checks. */
export const wideFlags = ["--experimental-wasm-revectorize", "--no-wasm-bounds-checks"] as const;

/** The environment variable with V8's flags for Deno, separated by commas. */
export const flagsVariable = "DENO_V8_FLAGS";

/** The flags that this process's V8 was started with, as far as they are visible. */
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
