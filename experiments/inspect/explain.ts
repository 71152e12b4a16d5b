// `deno task explain NAME`: the kernels of an experiment's training step and, with `--time`, the time of
// each kernel and its share of the device's peak.
import * as E from "fp-ts/Either.js";
import type {
  Backend,
  KernelReport,
  Machine,
  Peaks,
  Precision,
  Program,
  ProgramReport,
  Values,
} from "../../backends/backend.ts";
import { unfusedBytesOf } from "../../backends/codegen/traffic.ts";
import { volume } from "../../dsl/axes.ts";
import { type Node, nodeOf, topologicalOrder } from "../../dsl/node.ts";
import { openBackend } from "../machines/device.ts";
import { draw } from "../io/random.ts";
import type { Spec } from "../specs/spec.ts";
import { readSpec, specReadErrorText } from "../specs/read.ts";
import { programsOf } from "../training/programs.ts";
import { textTable } from "../formats/tables.ts";

/** Measurements on the device. */
export interface Timing {
  /** Milliseconds per kernel, in the order of the report. */
  readonly kernels: readonly number[];
  readonly peaks: Peaks;
}

/** A compiled program with its measurements. */
export interface Explanation {
  readonly report: ProgramReport;
  /** Bytes that the program would move without fusion, if every operation read and wrote memory. */
  readonly unfusedBytes: number;
  readonly timing?: Timing;
}

const moved = (kernel: KernelReport): number => kernel.bytesRead + kernel.bytesWritten;

/** Fractions of the device's measured copy bandwidth and multiply-add throughput, over `ms`. */
const shares = (bytes: number, flops: number, ms: number, peaks: Peaks) => ({
  ofCopy: bytes / (ms / 1000) / peaks.bytesPerSecond,
  ofFlops: flops / (ms / 1000) / peaks.flopsPerSecond,
});

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(2);
const percent = (share: number): string =>
  Number.isFinite(share) ? `${(100 * share).toFixed(0)}%` : "-";

/** Number of kernels in the table of the slowest. */
const SLOWEST = 15;

const head = (timed: boolean): string =>
  "   # shape       grid              Mflop   read MB  write MB   unfused" +
  (timed ? "       ms   copy   flop" : "") + "  path";

const row = (kernel: KernelReport, k: number, timing: Timing | undefined): string => {
  const cells = [
    `${k + 1}`.padStart(4),
    kernel.shapes.join("+").padEnd(11),
    kernel.grid.join("x").padEnd(12),
    (kernel.flops / 1e6).toFixed(1).padStart(10),
    megabytes(kernel.bytesRead).padStart(9),
    megabytes(kernel.bytesWritten).padStart(9),
    megabytes(kernel.unfusedBytes).padStart(9),
  ];
  if (timing !== undefined) {
    const ms = timing.kernels[k];
    const { ofCopy, ofFlops } = shares(moved(kernel), kernel.flops, ms, timing.peaks);
    cells.push(
      ms.toFixed(3).padStart(8),
      percent(ofCopy).padStart(6),
      percent(ofFlops).padStart(6),
    );
  }
  return `${cells.join(" ")}  ${kernel.path}`;
};

const sum = (list: readonly number[]): number => list.reduce((total, x) => total + x, 0);

/** An explanation as a table in program order, the slowest kernels if timed, and totals. */
export const explanationText = (
  { report, unfusedBytes, timing }: Explanation,
  code: boolean,
): string => {
  const { kernels } = report;
  const timed = timing !== undefined;
  const rows = kernels.flatMap((kernel, k) =>
    code ? [row(kernel, k, timing), kernel.code] : [row(kernel, k, timing)]
  );
  const bytes = sum(kernels.map(moved)), flops = sum(kernels.map((kernel) => kernel.flops));
  const totals = [
    `${kernels.length} kernels, ${report.pipelines} unique pipelines, ` +
    `${
      megabytes(report.peakBytes)
    } MB of intermediate values at most, computed in ${report.precision}`,
    `${(flops / 1e9).toFixed(2)} Gflop, ${megabytes(bytes)} MB moved; ` +
    `unfused floor: ${megabytes(unfusedBytes)} MB if every operation read and wrote memory` +
    (bytes === 0 ? "" : ` (${(unfusedBytes / bytes).toFixed(1)} times as much)`),
  ];
  if (timing === undefined) return [head(timed), ...rows, ...totals].join("\n");
  const { bytesPerSecond, flopsPerSecond } = timing.peaks;
  const total = sum(timing.kernels);
  const { ofCopy, ofFlops } = shares(bytes, flops, total, timing.peaks);
  const slowest = kernels.map((kernel, k) => ({ kernel, k, ms: timing.kernels[k] }))
    .sort((a, b) => b.ms - a.ms).slice(0, SLOWEST);
  return [
    head(timed),
    ...rows,
    "",
    `the slowest, ${percent(sum(slowest.map(({ ms }) => ms)) / total)} of the time:`,
    ...slowest.map(({ kernel, k }) => row(kernel, k, timing)),
    "",
    ...totals,
    `${total.toFixed(2)} ms on the device: ${percent(ofCopy)} of its copy bandwidth ` +
    `(${(bytesPerSecond / 1e9).toFixed(1)} GB/s), ${percent(ofFlops)} of its multiply-adds ` +
    `(${(flopsPerSecond / 1e9).toFixed(0)} Gflop/s), both measured in this run`,
  ].join("\n");
};

/** Kernels, bytes, flops and, if timed, time of a whole program. */
export interface Totals {
  readonly kernels: number;
  readonly pipelines: number;
  readonly peakBytes: number;
  readonly precision: Precision;
  readonly flops: number;
  /** Bytes read and written. */
  readonly bytes: number;
  readonly unfusedBytes: number;
  readonly ms?: number;
}

/** The totals of an explanation. */
export const totalsOf = ({ report, unfusedBytes, timing }: Explanation): Totals => ({
  kernels: report.kernels.length,
  pipelines: report.pipelines,
  peakBytes: report.peakBytes,
  precision: report.precision,
  flops: sum(report.kernels.map((kernel) => kernel.flops)),
  bytes: sum(report.kernels.map(moved)),
  unfusedBytes,
  ...(timing === undefined ? {} : { ms: sum(timing.kernels) }),
});

/** The totals of several programs, one per line. */
export const totalsText = (named: Readonly<Record<string, Totals>>): string => {
  const timed = Object.values(named).some(({ ms }) => ms !== undefined);
  const head = ["kernels", "pipelines", "peak MB", "Gflop", "moved MB", "unfused MB"];
  const rows = [
    ["", ...head, ...(timed ? ["ms"] : [])],
    ...Object.entries(named).map(([name, of]) => [
      name,
      `${of.kernels}`,
      `${of.pipelines}`,
      megabytes(of.peakBytes),
      (of.flops / 1e9).toFixed(2),
      megabytes(of.bytes),
      megabytes(of.unfusedBytes),
      ...(timed ? [of.ms?.toFixed(2) ?? "-"] : []),
    ]),
  ];
  return textTable(rows, 1).join("\n");
};

/** An explanation as one JSON object; times in milliseconds, fractions between 0 and 1. */
export const explanationJson = (
  explanation: Explanation,
  device: string,
  code: boolean,
): string => {
  const { report, timing } = explanation;
  const kernels = report.kernels.map(({ code: wgsl, ...kernel }, k) => ({
    ...kernel,
    ...(code ? { code: wgsl } : {}),
    ...(timing === undefined ? {} : {
      ms: timing.kernels[k],
      ...shares(
        kernel.bytesRead + kernel.bytesWritten,
        kernel.flops,
        timing.kernels[k],
        timing.peaks,
      ),
    }),
  }));
  return JSON.stringify({
    device,
    kernels,
    totals: totalsOf(explanation),
    peaks: timing?.peaks,
  });
};

/** The inputs and parameters that a program reads. */
export const leavesOf = ({ outputs, updates }: Program): readonly Node[] =>
  topologicalOrder([
    ...Object.values(outputs).map(({ of }) => nodeOf(of)),
    ...Object.values(updates ?? {}).map(nodeOf),
  ]).filter(({ op }) => op === "input" || op === "param");

/**
 * Small positive values for inputs or parameters: times do not depend on values, as long as these are
 * ordinary. u32 are zeros, which are valid positions within any axis.
 */
export const filled = (leaves: readonly Node[]): Values =>
  Object.fromEntries(
    leaves.map(({ attributes: { name }, dtype, axes }) => [
      name!,
      dtype === "f32"
        ? Float32Array.from({ length: volume(axes) }, (_, k) => 0.1 * draw(0, k))
        : new Uint32Array(volume(axes)),
    ]),
  );

/** Number of timed runs; each kernel's time is their median. */
const RUNS = 5;

/** Measures a program opened as `key`. On the left, why it cannot be measured, in words. */
export const measured = async (
  backend: Backend,
  machine: Machine,
  key: string,
  program: Program,
): Promise<E.Either<string, Timing>> => {
  const { time } = machine;
  if (time === undefined || backend.peaks === undefined) {
    return E.left(
      `times can not be measured: ${backend.device} offers no timestamps (timestamp-query)`,
    );
  }
  const leaves = leavesOf(program);
  const inputs = filled(leaves.filter(({ op }) => op === "input"));
  machine.write(filled(leaves.filter(({ op }) => op === "param")));
  // The first run may compile.
  await machine.run(key, inputs);
  const runs: (readonly number[])[] = [];
  for (let k = 0; k < RUNS; k++) runs.push(await time(key, inputs));
  const median = (k: number) => runs.map((run) => run[k]).sort((a, b) => a - b)[RUNS >> 1];
  return E.right({ kernels: runs[0].map((_, k) => median(k)), peaks: await backend.peaks() });
};

/** The explanation of a spec's training step on a device. */
const explained = async (backend: Backend, spec: Spec, time: boolean): Promise<Explanation> => {
  const program = programsOf(spec).programs.train;
  const machine = await backend.open({ train: program });
  try {
    const timing = time ? await measured(backend, machine, "train", program) : E.left(undefined);
    if (E.isLeft(timing) && timing.left !== undefined) console.error(timing.left);
    return {
      report: machine.report("train"),
      unfusedBytes: unfusedBytesOf(program),
      ...(E.isRight(timing) ? { timing: timing.right } : {}),
    };
  } finally {
    machine.close();
  }
};

/**
 * Prints the explanation of a spec's training step, or for several specs the totals of each. Gives the
 * exit status.
 */
export const explain = async (
  names: readonly string[],
  options: {
    /** Changed fields of the specs, `path=value`. */
    readonly changes: readonly string[];
    readonly device: string;
    readonly json: boolean;
    readonly code: boolean;
    readonly time: boolean;
  },
): Promise<number> => {
  const specs: Spec[] = [];
  for (const name of names) {
    const spec = await readSpec(name, options.changes)();
    if (E.isLeft(spec)) {
      console.error(specReadErrorText(spec.left));
      return 1;
    }
    specs.push(spec.right);
  }
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) {
    console.error(chosen.left);
    return 1;
  }
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  const { device } = backend;
  console.error(`device: ${device}`);
  if (specs.length === 1) {
    const explanation = await explained(backend, specs[0], options.time);
    console.log(
      options.json
        ? explanationJson(explanation, device, options.code)
        : explanationText(explanation, options.code),
    );
  } else {
    const totals: Record<string, Totals> = {};
    for (const [k, spec] of specs.entries()) {
      totals[names[k]] = totalsOf(await explained(backend, spec, options.time));
    }
    console.log(options.json ? JSON.stringify({ device, totals }) : totalsText(totals));
  }
  backend.close();
  return 0;
};
