// From a program to what a device needs to run it, without touching a device: kernels as WGSL, places
// in the arena, and refusals in words where the device is too small. Also the report of all that.
import type { KernelReport, Program, ProgramReport } from "../backend.ts";
import { plan } from "../lower/memory.ts";
import { axesOf, type Kernel, type Lowered, size, type Storage } from "../lower/program.ts";
import { lower } from "../lower/schedule.ts";
import { unfusedBytes } from "../unfused.ts";
import { withHiddenBounds } from "./bounds.ts";
import { type Code, printExpression, type Target } from "./kernels.ts";
import { printScan } from "./scan.ts";

/** A program as code, with the place of every intermediate value. */
export interface Compiled {
  readonly lowered: Lowered;
  readonly codes: readonly Code[];
  /** Where in the arena the storages of these ids begin, in bytes. */
  readonly offsets: ReadonlyMap<number, number>;
  readonly arenaBytes: number;
  /** Milliseconds that lowering took, and that printing took. */
  readonly took: { readonly lowering: number; readonly printing: number };
}

/** A device as far as code depends on it. */
export interface Place {
  /** The device in words. */
  readonly name: string;
  readonly limits: GPUSupportedLimits;
  readonly target: Target;
}

/** Bytes of a storage; no binding is empty. */
export const byteLength = (storage: Storage): number => Math.max(4 * size(storage.dims), 4);

/** The shape of a storage in words. */
export const describe = (storage: Storage): string =>
  storage.dims.length === 0
    ? "1 element"
    : `${storage.dims.map((dim) => `${dim.axis} ${dim.size}`).join(" x ")} = ${
      size(storage.dims)
    } elements`;

/** All storages that a kernel's code reads or writes. */
export const storagesOf = (code: Code): readonly Storage[] => [
  ...code.bindings.map((binding) => binding.storage),
  ...code.packed,
];

/** The storages that a kernel writes. */
export const writesOf = (kernel: Kernel): readonly Storage[] => [
  ...kernel.roots.map((root) => root.storage),
  ...(kernel.shape === "scan" ? Object.values(kernel.checkpoints?.storage ?? {}) : []),
];

/** Storage buffers that a kernel binds; what is packed is one more. */
const boundBuffers = (code: Code): number =>
  code.bindings.length + (code.packed.length > 0 ? 1 : 0);

const refuseTooLarge = (
  { lowered, codes, arenaBytes }: Compiled,
  { name, limits }: Place,
): void => {
  if (arenaBytes > limits.maxBufferSize) {
    throw new RangeError(
      `the program needs ${arenaBytes} bytes for intermediate values, but ${name} allows buffers of` +
        ` ${limits.maxBufferSize} (maxBufferSize); use a smaller batch`,
    );
  }
  codes.forEach((code, k) => {
    const { path } = lowered.kernels[k];
    const large = storagesOf(code).find((of) =>
      byteLength(of) > limits.maxStorageBufferBindingSize
    );
    if (large !== undefined) {
      throw new RangeError(
        `the kernel '${path}' needs a value of ${describe(large)}, which is ${byteLength(large)}` +
          ` bytes, but ${name} binds at most ${limits.maxStorageBufferBindingSize}` +
          ` (maxStorageBufferBindingSize); use a smaller batch`,
      );
    }
    if (boundBuffers(code) > limits.maxStorageBuffersPerShaderStage) {
      throw new RangeError(
        `the kernel '${path}' needs ${boundBuffers(code)} buffers, but ${name} allows` +
          ` ${limits.maxStorageBuffersPerShaderStage} (maxStorageBuffersPerShaderStage)`,
      );
    }
  });
};

/** Compiles a program. A RangeError says what a device is too small for. */
export const compile = (program: Program, place: Place): Compiled => {
  const { limits, target } = place;
  const began = performance.now();
  const lowered = lower(program, place.target.storedLimit);
  const lowering = performance.now() - began;
  const codes = lowered.kernels.map((kernel) => {
    const print = (pack: boolean) =>
      kernel.shape === "scan"
        ? printScan(kernel, lowered.stored, pack)
        : printExpression(kernel, lowered.stored, target, pack);
    const plain = print(false);
    const binds = boundBuffers(plain) <= limits.maxStorageBuffersPerShaderStage;
    const code = binds ? plain : print(true);
    return target.onCpu ? { ...code, wgsl: withHiddenBounds(code.wgsl) } : code;
  });
  const printing = performance.now() - began - lowering;
  const kept = [...Object.values(lowered.outputs), ...lowered.copies.map((copy) => copy.from)];
  const arena = plan(codes.map(storagesOf), kept, limits.minStorageBufferOffsetAlignment);
  const compiled = {
    lowered,
    codes,
    offsets: arena.offsets,
    arenaBytes: arena.bytes,
    took: { lowering, printing },
  };
  refuseTooLarge(compiled, place);
  return compiled;
};

const kernelReport = (
  kernel: Kernel,
  code: Code,
  stored: Lowered["stored"],
): KernelReport => {
  const own = new Set(writesOf(kernel));
  const written = storagesOf(code).filter((storage) => own.has(storage));
  const read = storagesOf(code).filter((storage) => !own.has(storage) || storage.role === "param");
  const total = (list: readonly Storage[]) => list.reduce((n, of) => n + byteLength(of), 0);
  const roots = kernel.shape === "scan" ? [kernel.scan] : kernel.roots.map((root) => root.node);
  return {
    path: kernel.path,
    shape: kernel.shape,
    grid: code.grid,
    flops: code.flops,
    bytesRead: total(read),
    bytesWritten: total(written),
    unfusedBytes: unfusedBytes(roots, (of) => stored.has(of)),
    code: code.wgsl,
    writes: written.map((storage) => axesOf(storage.dims)),
  };
};

/** What a program was compiled to. */
export const programReport = ({ lowered, codes, arenaBytes }: Compiled): ProgramReport => ({
  kernels: lowered.kernels.map((kernel, k) => kernelReport(kernel, codes[k], lowered.stored)),
  pipelines: new Set(codes.map((code) => code.wgsl)).size,
  peakBytes: arenaBytes,
});
