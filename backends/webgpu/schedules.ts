// Schedules of kernels: they follow from the kernel's sizes and the target, and a tuning table may
// override them for kernels that were measured on a device.
import { type Contraction, type ExpressionKernel, size } from "../lower/kernel_ir.ts";
import type { Parallelism } from "../lower/graph/split_reductions.ts";
import {
  fewGroups,
  type ProductSchedule,
  type RowSchedule,
  type Target,
  threads,
  workgroupBytes,
} from "./target.ts";

/** Allowed values of the numeric fields of schedules. */
export const NUMBERS = {
  side: [4, 8, 16],
  down: [1, 2, 4, 8],
  across: [1, 2, 4, 8],
  depth: [8, 16, 32],
  threads: [64, 128, 256],
} as const;
/** Allowed values of the text fields of schedules. */
export const WORDS = {
  from: ["tiles", "memory", "matrices"],
  by: ["invocation", "workgroup", "subgroup"],
} as const;

/** A schedule with those edits applied that leave it valid. */
const edited = <S extends ProductSchedule | RowSchedule>(
  schedule: S,
  key: string,
  target: Target,
  isSound: (edited: S, target: Target) => boolean,
): S =>
  (target.tuning?.[key] ?? []).reduce<S>((now, edit) => {
    const next = { ...now, ...edit };
    return isSound(next, target) ? next : now;
  }, schedule);
/** Most results in the registers of an invocation. */
const mostResults = 64;

/** True if a contraction's tiles and results fit a device. */
const isSoundProduct = (
  { side, down, across, depth, from }: ProductSchedule,
  { matrices }: Target,
): boolean =>
  down * across <= mostResults && (from !== "matrices" || matrices !== undefined) &&
  (from === "memory" || 4 * depth * (side * down + threads / side * across) <= workgroupBytes);

/** The tuning key: kernels of the same sizes and precision share a schedule. */
export const productKey = ({ batch, rows, columns, over }: Contraction, target: Target): string =>
  `product ${size(batch)} x ${size(rows)} x ${size(columns)} over ${size(over)}` +
  (target.halvesFrom === undefined ? "" : " f16");

const sideOf = (rows: number, columns: number): number => rows <= 4 ? 4 : columns <= 4 ? 16 : 8;

/**
 * Results per invocation along an axis: more share the reads of the other operand, as long as
 * enough invocations remain.
 */
const resultsOf = (extent: number, side: number): number =>
  extent > 4 * side ? 8 : extent > 2 * side ? 4 : extent > side ? 2 : 1;

/** Where operands are read from: on a CPU, caches do the work of workgroup memory. */
const sourceOf = (
  { rows, columns, over }: Contraction,
  target: Target,
): ProductSchedule["from"] => {
  const { matrices, onCpu } = target;
  const isLarge = matrices !== undefined &&
    [rows, columns, over].every((dims) => size(dims) >= matrices.least);
  return isLarge ? "matrices" : onCpu ? "memory" : "tiles";
};
/** A CPU core runs one workgroup at a time. */
const fewCores = 4;
/** Least gain: estimates are rough, while the cost of kernels and partial results is certain. */
const gain = 1.75;

/**
 * How much work fills a device. WebGPU does not report the number of processors, so one number
 * stands for all GPUs: integrated ones fill up with less, and the largest need about as much. CPU
 * cores are not counted either, since the bits of results would depend on the cores that a run is
 * given; and one lane fills a CPU core: chunked scans gather their inputs, and were often slower.
 */
export const parallelismOf = (
  { onCpu, parallelism }: Pick<Target, "onCpu" | "parallelism">,
): Parallelism =>
  parallelism ??
    // A launch takes some 40 µs on a CPU of 100 Gflop/s, and 10 on a GPU of 13 Tflop/s.
    (onCpu
      ? { groups: fewCores, lanes: 1, launchCost: 2 ** 22, gain }
      : { groups: fewGroups, lanes: fewGroups * threads, launchCost: 2 ** 27, gain });

/**
 * Results of an invocation along the rows and the columns: fewer if a GPU would be idle otherwise.
 */
const resultsFor = (of: Contraction, side: number, onCpu: boolean): readonly [number, number] => {
  const rows = size(of.rows), columns = size(of.columns), sideColumns = threads / side;
  let down = resultsOf(rows, side), across = resultsOf(columns, sideColumns);
  const groups = () =>
    size(of.batch) * Math.ceil(rows / (side * down)) * Math.ceil(columns / (sideColumns * across));
  while (!onCpu && groups() < fewGroups && Math.max(down, across) > 2) {
    if (side * down >= sideColumns * across && down > 2) down /= 2;
    else across /= 2;
  }
  return [down, across];
};

/** How a contraction is computed on a target. */
export const productSchedule = (of: Contraction, target: Target): ProductSchedule => {
  const side = sideOf(size(of.rows), size(of.columns));
  const [down, across] = resultsFor(of, side, target.onCpu);
  const sound: ProductSchedule = {
    side,
    down,
    across,
    depth: 16,
    from: sourceOf(of, target),
  };
  return edited(sound, productKey(of, target), target, isSoundProduct);
};

/** As {@linkcode productKey}, of rows. */
export const rowKey = ({ space, over, reductions }: ExpressionKernel): string =>
  `${size(space)} rows of ${size(over)}, ${reductions.length} reductions`;

/** Number of rows from which one invocation per row fills a device. */
export const manyRows = 1024;

/** How rows are reduced; with `along`, the lanes of a row would read neighbouring elements. */
export const rowSchedule = (
  kernel: ExpressionKernel,
  along: boolean,
  target: Target,
): RowSchedule => {
  const over = size(kernel.over), { subgroup } = target;
  const by = subgroup !== undefined && along && over >= 4 * subgroup
    ? "subgroup"
    : size(kernel.space) < manyRows && over >= 32
    ? "workgroup"
    : "invocation";
  const isSound = ({ by }: RowSchedule) => by !== "subgroup" || subgroup !== undefined;
  return edited({ by, threads }, rowKey(kernel), target, isSound);
};
