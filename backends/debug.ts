// What FORMANT_DEBUG prints for developers, on standard error: 1, a line for each compiled program;
// 2, a line for each kernel as well; 3, also its code; 4, also the first kernel, by its path, that
// wrote a value that is not finite (kernels then run one at a time).
import type { KernelReport, ProgramReport } from "./backend.ts";

/** The level; 0 for nothing. */
export const debugLevel = (): number => Number(globalThis.Deno?.env.get("FORMANT_DEBUG") ?? 0) || 0;

const say = (text: string): void => console.error(`formant: ${text}`);

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;

/** Milliseconds of the steps from a program to something that runs. */
export interface Took {
  readonly lowering: number;
  readonly printing: number;
  /** The unit of code: "pipelines" or "functions". */
  readonly pieces: string;
  /** Compiling the code of all programs opened together, by `devices` devices. */
  readonly compiling: number;
  readonly devices: number;
}

const kernelLine = (kernel: KernelReport, k: number): string =>
  `  ${k + 1} ${kernel.shapes.join("+")} ${kernel.grid.join("x")} ${
    (kernel.flops / 1e6).toFixed(2)
  } Mflop, ${megabytes(kernel.bytesRead)} in, ${
    megabytes(kernel.bytesWritten)
  } out: ${kernel.path}`;

/** Prints a compiled program at a level. */
export const showProgram = (
  level: number,
  name: string,
  { kernels, pipelines, peakBytes }: ProgramReport,
  took: Took,
): void => {
  say(
    `program '${name}': ${kernels.length} kernels, ${pipelines} ${took.pieces}, ` +
      `${megabytes(peakBytes)} of intermediate values; lowered in ${
        took.lowering.toFixed(0)
      } ms, ` +
      `printed in ${took.printing.toFixed(0)} ms, ${took.pieces} of all programs in ` +
      `${took.compiling.toFixed(0)} ms` +
      (took.devices > 1 ? ` on ${took.devices} devices` : ""),
  );
  kernels.forEach((kernel, k) => {
    if (level >= 2) console.error(kernelLine(kernel, k));
    if (level >= 3) console.error(kernel.code);
  });
};

/** Reports a value that is not finite; true if there was one. */
export const showNotFinite = (
  program: string,
  path: string,
  axes: Readonly<Record<string, number>>,
  values: Float32Array,
): boolean => {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return false;
  const sizes = Object.entries(axes).map(([axis, size]) => `${axis} ${size}`).join(" x ");
  say(
    `program '${program}': the kernel '${path}' wrote ${values[at]} at element ${at}` +
      (sizes === "" ? "" : ` of ${sizes}`),
  );
  return true;
};
