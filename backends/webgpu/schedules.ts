// What code is printed for, and how: kernels have a schedule that follows from their sizes, and a
// tuning table may edit it for kernels that were measured on a device.
import { type Contraction, type ExpressionKernel, size } from "../lower/kernel_ir.ts";
import type { Breadth } from "../lower/graph/split_reductions.ts";
import {
  fewGroups,
  type ProductSchedule,
  type RowSchedule,
  type Target,
  threads,
  workgroupBytes,
} from "./target.ts";

/** What fields of schedules may be. */
export const NUMBERS = {
  side: [4, 8, 16],
  down: [1, 2, 4, 8],
  across: [1, 2, 4, 8],
  depth: [8, 16, 32],
  threads: [64, 128, 256],
} as const;
/** What fields of schedules may be that are words. */
export const WORDS = {
  from: ["tiles", "memory", "matrices"],
  by: ["invocation", "workgroup", "subgroup"],
} as const;

/** A schedule after those of its edits that leave it sound. */
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

/** True when a product's tiles and results fit a device. */
const isSoundProduct = (
  { side, down, across, depth, from }: ProductSchedule,
  { matrices }: Target,
): boolean =>
  down * across <= mostResults && (from !== "matrices" || matrices !== undefined) &&
  (from === "memory" || 4 * depth * (side * down + threads / side * across) <= workgroupBytes);

/** Kernels of one key have one schedule: those of the same sizes and the same precision. */
export const productKey = ({ batch, rows, columns, over }: Contraction, target: Target): string =>
  `product ${size(batch)} x ${size(rows)} x ${size(columns)} over ${size(over)}` +
  (target.halvesFrom === undefined ? "" : " f16");

const sideOf = (rows: number, columns: number): number => rows <= 4 ? 4 : columns <= 4 ? 16 : 8;

/** More results share what is read of the other axis, as long as there are enough of them. */
const resultsOf = (extent: number, side: number): number =>
  extent > 4 * side ? 8 : extent > 2 * side ? 4 : extent > side ? 2 : 1;

/** Where a product's operands are summed from: a CPU's caches do what workgroup memory is for. */
const sourceOf = (
  { rows, columns, over }: Contraction,
  target: Target,
): ProductSchedule["from"] => {
  const { matrices, onCpu } = target;
  const isLarge = matrices !== undefined &&
    [rows, columns, over].every((dims) => size(dims) >= matrices.least);
  return isLarge ? "matrices" : onCpu ? "memory" : "tiles";
};
/** Each core of a CPU runs a workgroup at a time. */
const fewCores = 4;
/** Estimates are rough, and more kernels and partial results are sure. */
const gain = 1.75;

/**
 * What fills a device. WebGPU does not tell how many processors there are, so one number stands for
 * all GPUs: integrated ones are full with less, and the largest have about as many as that. The cores
 * of a CPU are not counted either, since bits would follow from how many of them a run is given; and
 * on one, a lane of its own is full: scans in chunks gather what they read, and were often slower.
 */
export const breadthOf = ({ onCpu, breadth }: Pick<Target, "onCpu" | "breadth">): Breadth =>
  breadth ??
    // To start a kernel takes some 40 µs on a CPU of 100 Gflop/s, and 10 on a GPU of 13 Tflop/s.
    (onCpu
      ? { groups: fewCores, lanes: 1, perKernel: 2 ** 22, gain }
      : { groups: fewGroups, lanes: fewGroups * threads, perKernel: 2 ** 27, gain });

/** Results of an invocation along the rows and the columns: fewer where a GPU has too little to do. */
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

/** Up from this many rows there is enough to do with one invocation a row. */
export const manyRows = 1024;

/** How rows are reduced; `along` says that the lanes of a row would read neighbouring elements. */
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
