// From a program to code and a memory plan, without touching a device: kernels as WGSL, offsets in
// the arena, and an error message if the device is too small. Also the report that `explain`
// prints.
import { withFreshTable } from "../../dsl/node.ts";
import type { KernelReport, Precision, Program, ProgramReport } from "../backend.ts";
import { byteLength, plan } from "../lower/storage/plan_memory.ts";
import {
  axesOf,
  type Kernel,
  type LoweredProgram,
  size,
  type Storage,
} from "../lower/kernel_ir.ts";
import { lower } from "../lower/pipeline.ts";
import { inKernel } from "../codegen/verify_addresses.ts";
import { unfusedBytes } from "../codegen/traffic.ts";
import { dispatchesOf } from "./dispatches.ts";
import {
  type Binder,
  binder,
  inArena,
  type Packing,
  sharedBuffer,
  sharedNames,
  type Windows,
  windowsOf,
} from "./wgsl/bindings.ts";
import { withHiddenBounds } from "./wgsl/hide_bounds.ts";
import { printExpression } from "./wgsl/rows.ts";
import { type Body, type Code, moduleOf } from "./wgsl/module.ts";
import { printScan } from "./wgsl/scan.ts";
import { parallelismOf } from "./schedules.ts";
import type { Target } from "./target.ts";

/** Kernels that run as one dispatch, and their code. */
export interface Step {
  readonly kernels: readonly Kernel[];
  readonly code: Code;
}

/** A compiled program, with the offset of every intermediate value. */
export interface Compiled {
  readonly lowered: LoweredProgram;
  readonly steps: readonly Step[];
  /** Offsets of storages in their arena, by id, in bytes. */
  readonly offsets: ReadonlyMap<number, number>;
  /** The size of the arena, and of the one for f16. */
  readonly arenaBytes: number;
  readonly halvesBytes: number;
  readonly precision: Precision;
  /** Milliseconds of lowering and of printing. */
  readonly took: { readonly lowering: number; readonly printing: number };
}

/** The properties of a device that code depends on. */
export interface Place {
  /** The device's description. */
  readonly name: string;
  readonly limits: GPUSupportedLimits;
  readonly target: Target;
  /** True if all parameters are in one buffer that one binding can hold. */
  readonly oneForParams?: boolean;
}

/** The shape of a storage, for messages. */
export const describe = (storage: Storage): string =>
  storage.dims.length === 0
    ? "1 element"
    : `${storage.dims.map((dim) => `${dim.axis} ${dim.size}`).join(" x ")} = ${
      size(storage.dims)
    } elements`;

/** All storages that a kernel's code reads or writes. */
export const storagesOf = ({ bindings, packed }: Code): readonly Storage[] =>
  [...bindings, ...packed].map(({ storage }) => storage);

/** The storages that a kernel writes. */
export const writesOf = (kernel: Kernel): readonly Storage[] => [
  ...kernel.roots.map((root) => root.storage),
  ...(kernel.shape === "scan" ? Object.values(kernel.checkpoints?.storage ?? {}) : []),
];

/** Storage buffers that a module binds; each window on packed storages adds one. */
const boundBuffers = ({ bindings, packed }: Pick<Code, "bindings" | "packed">): number =>
  bindings.length + sharedNames(packed).length;

/** The kernels of a dispatch, for messages. */
export const pathOf = ({ kernels }: Step): string => kernels.map(({ path }) => path).join(" + ");

const refuseTooLarge = (
  { steps, arenaBytes, halvesBytes }: Compiled,
  { name, limits }: Place,
): void => {
  const most = Math.max(arenaBytes, halvesBytes);
  if (most > limits.maxBufferSize) {
    throw new RangeError(
      `the program needs ${most} bytes for intermediate values, but ${name} allows buffers of` +
        ` ${limits.maxBufferSize} (maxBufferSize); use a smaller batch`,
    );
  }
  steps.forEach((step) => {
    const { code } = step, path = pathOf(step);
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

/** Compiles a program. Throws a RangeError if the device is too small for it. */
export const compile = (program: Program, place: Place): Compiled =>
  withFreshTable(() => compileHere(program, place));

const compileHere = (program: Program, place: Place): Compiled => {
  const { limits, target, oneForParams = false } = place;
  const began = performance.now();
  const { storedLimit, halvesFrom } = target;
  const lowered = lower(program, storedLimit, halvesFrom, parallelismOf(target));
  const lowering = performance.now() - began;
  const most = limits.maxStorageBuffersPerShaderStage;
  const isBindable = (code: Code) => boundBuffers(code) <= most;
  const body = (kernel: Kernel, bound: Binder): Body =>
    kernel.shape === "scan"
      ? printScan(kernel, lowered.stored, bound, target)
      : printExpression(kernel, lowered.stored, target, bound);
  const print = (kernels: readonly Kernel[], packing: Packing, windows?: Windows): Code => {
    const bound = binder(packing, windows);
    return moduleOf(
      kernels.map((kernel) => inKernel(kernel.path, () => body(kernel, bound))),
      bound,
    );
  };
  const alone = lowered.kernels.map((kernel) => print([kernel], "none"));
  const touched = alone.map((code, k) => ({
    writes: new Set(writesOf(lowered.kernels[k])),
    all: new Set(storagesOf(code)),
  }));
  const fits = (together: readonly number[]): boolean => {
    // Mesa's software driver masks branches instead of jumping over them, so it would run all
    // kernels of a dispatch in every workgroup.
    if (target.onCpu || target.apart) return false;
    // A module has one size of workgroups.
    if (together.some((k) => alone[k].workgroup !== alone[together[0]].workgroup)) return false;
    const storages = [...new Set(together.flatMap((k) => storagesOf(alone[k])))];
    const isPacked = (of: Storage) => inArena(of) || (oneForParams && of.role === "param");
    const bindings = storages.filter((of) => !isPacked(of));
    const isPlain = together.every((k) => lowered.kernels[k].shape !== "scan");
    return isPlain &&
      bindings.length + new Set(storages.filter(isPacked).map(sharedBuffer)).size <= most;
  };
  const dispatches = dispatchesOf(touched, fits);
  const kept = [...Object.values(lowered.outputs), ...lowered.copies.map((copy) => copy.from)];
  const planned = (halves: boolean) => {
    const isOf = (storage: Storage) => (storage.half ?? false) === halves;
    const uses = dispatches.map((together) =>
      together.flatMap((k) => storagesOf(alone[k])).filter(isOf)
    );
    return plan(uses, kept.filter(isOf), limits.minStorageBufferOffsetAlignment);
  };
  const arena = planned(false), halves = planned(true);
  const offsets = new Map([...arena.offsets, ...halves.offsets]);
  const packings: readonly Packing[] = ["arena", ...oneForParams ? ["all" as const] : []];
  /**
   * The code of kernels, with the first of these packings that does not exceed the device's
   * bindings.
   */
  const packed = (together: readonly number[], ways = packings): Code => {
    const storages = together.flatMap((k) => storagesOf(alone[k]));
    const windows = windowsOf(storages, offsets, limits.maxStorageBufferBindingSize);
    const codes = ways.map((packing) => () =>
      print(together.map((k) => lowered.kernels[k]), packing, windows)
    );
    return codes.slice(1).reduce((code, next) => isBindable(code) ? code : next(), codes[0]());
  };
  const steps = dispatches.flatMap((together): readonly Step[] => {
    const stepOf = (numbers: readonly number[], code: Code): Step => ({
      kernels: numbers.map((k) => lowered.kernels[k]),
      code: target.unrolls ? { ...code, wgsl: withHiddenBounds(code.wgsl) } : code,
    });
    const joined = together.length === 1 ? undefined : packed(together, packings.slice(-1));
    if (joined !== undefined && isBindable(joined)) return [stepOf(together, joined)];
    // If kernels of one dispatch reach too much of the arena, each gets its own dispatch.
    return together.map((k) => stepOf([k], isBindable(alone[k]) ? alone[k] : packed([k])));
  });
  const printing = performance.now() - began - lowering;
  const compiled = {
    lowered,
    steps,
    offsets,
    arenaBytes: arena.bytes,
    halvesBytes: halves.bytes,
    precision: halvesFrom === undefined ? "f32" as const : "f16" as const,
    took: { lowering, printing },
  };
  refuseTooLarge(compiled, place);
  return compiled;
};

const stepReport = (step: Step, stored: LoweredProgram["stored"]): KernelReport => {
  const { kernels, code } = step;
  const own = new Set(kernels.flatMap(writesOf));
  const written = storagesOf(code).filter((storage) => own.has(storage));
  const read = storagesOf(code).filter((storage) => !own.has(storage) || storage.role === "param");
  const total = (list: readonly Storage[]) => list.reduce((n, of) => n + byteLength(of), 0);
  const roots = kernels.flatMap((kernel) =>
    kernel.shape === "scan" ? [kernel.scan] : kernel.roots.map((root) => root.node)
  );
  return {
    path: pathOf(step),
    shapes: kernels.map((kernel) => kernel.shape),
    grid: code.grid,
    flops: code.flops,
    bytesRead: total(read),
    bytesWritten: total(written),
    unfusedBytes: unfusedBytes(roots, (node) => stored.has(node)),
    code: code.wgsl,
    tuned: code.tuned,
    writes: written.map((storage) => axesOf(storage.dims)),
  };
};

/** The report of a compiled program. */
export const programReport = (
  { lowered, steps, arenaBytes, halvesBytes, precision }: Compiled,
): ProgramReport => ({
  kernels: steps.map((step) => stepReport(step, lowered.stored)),
  pipelines: new Set(steps.map(({ code }) => code.wgsl)).size,
  peakBytes: arenaBytes + halvesBytes,
  precision,
});
