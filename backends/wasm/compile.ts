// From a program to functions and a memory plan, without running anything. Also the report that
// `explain` prints.
import { withFreshTable } from "../../dsl/node.ts";
import type { KernelReport, Program, ProgramReport } from "../backend.ts";
import { plan } from "../lower/storage/plan_memory.ts";
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
import { printContraction } from "./simd/contraction.ts";
import type { Engine } from "./engine.ts";
import { printElements, printThin } from "./simd/rows.ts";
import type { Launch } from "./simd/launch.ts";
import { showFunc } from "./assembler/disassemble.ts";
import { printScan } from "./simd/scan.ts";

/** A kernel and the functions that run it, one after the other. */
export interface Step {
  readonly kernel: Kernel;
  readonly launches: readonly Launch[];
}

/** A compiled program, with the offset of every intermediate value. */
export interface Compiled {
  readonly lowered: LoweredProgram;
  readonly steps: readonly Step[];
  /** Offsets of storages in the arena, by id, in bytes. */
  readonly offsets: ReadonlyMap<number, number>;
  readonly arenaBytes: number;
  /** Bytes of scratch memory that each thread needs. */
  readonly scratchBytes: number;
  /** Milliseconds of lowering and of printing. */
  readonly took: { readonly lowering: number; readonly printing: number };
}

/** Alignment of storages in bytes: a cache line. */
export const alignment = 64;

/** Bytes of a storage. */
export const byteLength = (storage: Storage): number => 4 * size(storage.dims);

/** The storages that a kernel writes. */
export const writesOf = (kernel: Kernel): readonly Storage[] => [
  ...kernel.roots.map((root) => root.storage),
  ...(kernel.shape === "scan" ? Object.values(kernel.checkpoints?.storage ?? {}) : []),
];

/** Compiles a program; `storedLimit` as for lowering. */
export const compile = (program: Program, options: Options): Compiled =>
  withFreshTable(() => compileHere(program, options));

interface Options {
  readonly engine: Engine;
  readonly storedLimit?: number;
}

const compileHere = (program: Program, options: Options): Compiled => {
  const began = performance.now();
  const lowered = lower(program, options.storedLimit);
  const lowering = performance.now() - began;
  const { stored } = lowered;
  const print = (kernel: Kernel): readonly Launch[] => {
    switch (kernel.shape) {
      case "scan":
        return [printScan(kernel, stored, options.engine)];
      case "contraction": {
        const thin = printThin(kernel, stored, options.engine);
        return thin === undefined ? printContraction(kernel, stored, options.engine) : [thin];
      }
      default:
        return printElements(kernel, stored, options.engine);
    }
  };
  const steps = lowered.kernels.map((kernel) => ({
    kernel,
    launches: inKernel(kernel.path, () => print(kernel)),
  }));
  const kept = [...Object.values(lowered.outputs), ...lowered.copies.map((copy) => copy.from)];
  const arena = plan(
    steps.map(({ launches }) => [...new Set(launches.flatMap((one) => one.storages))]),
    kept,
    alignment,
  );
  const scratchBytes = steps.flatMap(({ launches }) => launches)
    .reduce((most, { scratch }) => Math.max(most, scratch), 0);
  const printing = performance.now() - began - lowering;
  return {
    lowered,
    steps,
    offsets: arena.offsets,
    arenaBytes: arena.bytes,
    scratchBytes,
    took: { lowering, printing },
  };
};

const stepReport = ({ kernel, launches }: Step, stored: LoweredProgram["stored"]): KernelReport => {
  const own = new Set(writesOf(kernel));
  const storages = [...new Set(launches.flatMap((one) => one.storages))];
  const written = storages.filter((storage) => own.has(storage));
  const read = storages.filter((storage) => !own.has(storage) || storage.role === "param");
  const total = (list: readonly Storage[]) => list.reduce((n, of) => n + byteLength(of), 0);
  const roots = kernel.shape === "scan" ? [kernel.scan] : kernel.roots.map((root) => root.node);
  return {
    path: kernel.path,
    shapes: [kernel.shape],
    grid: launches.map((one) => one.units),
    flops: launches.reduce((n, one) => n + one.flops, 0),
    bytesRead: total(read),
    bytesWritten: total(written),
    unfusedBytes: unfusedBytes(roots, (node) => stored.has(node)),
    // Text is long and rarely requested.
    get code() {
      return launches.map(({ func, units, scratch }) =>
        `;; ${units} units of work, ${scratch} bytes of scratch memory\n${showFunc(func)}`
      ).join("\n");
    },
    writes: written.map((storage) => axesOf(storage.dims)),
  };
};

/** The report of a compiled program; `functions` is the number of distinct ones. */
export const programReport = (
  { lowered, steps, arenaBytes }: Compiled,
  functions: number,
): ProgramReport => ({
  kernels: steps.map((step) => stepReport(step, lowered.stored)),
  pipelines: functions,
  peakBytes: arenaBytes,
  precision: "f32",
});
