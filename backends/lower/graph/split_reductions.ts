// Splits long reductions with too few results to fill a device: two-stage reductions, and split-K
// for contractions. The first stage reduces parts in parallel, the second their results. This needs
// no atomic addition, which WGSL lacks for floats, and gives the same bits in every run. The second
// stage is an ordinary reduction, so point-wise consumers fuse with it.
import { sizeOf, volume } from "../../../dsl/axes.ts";
import { type Node, withScope } from "../../../dsl/node.ts";
import { apply } from "../../../dsl/primitives.ts";
import { index, reduce } from "../../../dsl/structure.ts";
import { contractionOf, isWorthTiles, memoryCost } from "../cost_model.ts";
import { type Dim, size } from "../kernel_ir.ts";

/** How much work fills a device, and what launching a kernel costs there. */
export interface Parallelism {
  /** Workgroups of a contraction; fewer leave processors idle. */
  readonly groups: number;
  /** Lanes of a scan. */
  readonly lanes: number;
  /** Additions that the whole device does in the time of one launch. */
  readonly launchCost: number;
  /** Least estimated speed-up: less is not worth the kernels and the memory. */
  readonly gain: number;
}

/** Size from which a reduction with few results is done in two stages. */
const splitFrom = 1024;
/** The same for a single axis, which must be cut: least terms, and most results. */
const cutFrom = 2 ** 16, fewResults = 64;
/** Most parts of a full reduction: few enough for one workgroup each, enough to fill a device. */
const mostParts = 512;
/** Rows and columns of a full tile. */
const tile = 64;

// An axis may be cut in several ways in one program, and an axis name has one size.
const partOf = (axis: string, count: number): string => `${axis}.part:${count}`;
const placeOf = (axis: string, length: number): string => `${axis}.place:${length}`;

/** An axis cut into parts of one length, the last padded with `fill`. */
const cut = (x: Node, axis: string, length: number, fill = 0): Node => {
  const count = Math.ceil(sizeOf(x.axes, axis) / length);
  const part = partOf(axis, count), place = placeOf(axis, length);
  const axes = Object.entries(x.axes).flatMap(([name, size]) =>
    name === axis ? [[part, count], [place, length]] : [[name, size]]
  );
  const terms = [{ axis: part, times: length }, { axis: place, times: 1 }];
  return index(
    x,
    Object.fromEntries(axes),
    { [axis]: { terms, offset: 0, divisor: 1, exact: false, modulo: 0 } },
    fill,
  );
};

/** A reduction along one long axis in two stages: within parts, and over them. */
const inParts = (node: Node): Node => {
  const { how, over } = node.attributes;
  const [axis] = over!, [x] = node.args;
  const size = sizeOf(x.axes, axis), root = 2 ** Math.round(Math.log2(size) / 2);
  const length = volume(node.axes) === 1 ? Math.max(root, Math.ceil(size / mostParts)) : root;
  const parts = cut(x, axis, length, how === "add" ? 0 : -Infinity);
  const inner = reduce(parts, how!, [placeOf(axis, length)]);
  return reduce(inner, how!, [partOf(axis, Math.ceil(size / length))]);
};

/**
 * Two-stage reduction: a long reduction with few results becomes two, the first with parallel work.
 */
export const twoStages = (node: Node): Node => {
  if (node.op !== "reduce" || contractionOf(node) !== undefined) return node;
  const { how, over } = node.attributes;
  const sizes = over!.map((axis) => sizeOf(node.args[0].axes, axis));
  const total = sizes.reduce((a, b) => a * b, 1);
  if (over!.length === 1 && total >= cutFrom && volume(node.axes) <= fewResults) {
    return inParts(node);
  }
  if (total < splitFrom || volume(node.axes) > 4 * splitFrom) return node;
  // The outer stage is the axis whose size is nearest to the square root of the whole.
  const distance = (k: number) => Math.abs(Math.log(sizes[k]) - Math.log(total) / 2);
  const outer = over![sizes.map((_, k) => k).sort((a, b) => distance(a) - distance(b))[0]];
  const inner = reduce(node.args[0], how!, over!.filter((axis) => axis !== outer));
  return reduce(inner, how!, [outer]);
};

/**
 * Slowdown of a contraction on a device `idle` times larger than it fills. Smaller tiles fill up to
 * sixteen times more of the device, but read more for each result.
 */
const slowness = (idle: number): number => Math.max(1, Math.sqrt(idle), idle / 4);

/**
 * Split-K: a contraction with few tiles and many terms becomes a sum of several where that is
 * estimated to be faster.
 */
export const splitK = (node: Node, { groups, launchCost, gain }: Parallelism): Node => {
  const product = contractionOf(node);
  if (product === undefined) return node;
  const { left, right, batch, rows, columns, over } = product;
  const results = size(batch) * size(rows) * size(columns), terms = size(over);
  const tiles = size(batch) * Math.ceil(size(rows) / tile) * Math.ceil(size(columns) / tile);
  const time = (parts: number): number =>
    results * terms * slowness(groups / (tiles * parts)) +
    (parts === 1 ? 0 : 2 * memoryCost * results * parts + launchCost);
  const isTiled = (parts: number) =>
    isWorthTiles(size(rows), size(columns), Math.floor(terms / parts));
  const counts: number[] = [];
  for (let n = 2; isTiled(n); n *= 2) counts.push(n);
  const [best] = counts.sort((a, b) => time(a) - time(b));
  if (best === undefined || gain * time(best) > time(1)) return node;
  // The axis whose last part has the least padding.
  const lengthOf = (dim: Dim) => Math.ceil(dim.size / best);
  const filled = (dim: Dim) => dim.size / (best * lengthOf(dim));
  const [dim] = [...over].sort((a, b) => filled(b) - filled(a) || b.size - a.size);
  const { axis } = dim, length = lengthOf(dim), others = over.filter((other) => other !== dim);
  const count = Math.ceil(dim.size / length);
  return withScope(`${count} parts of ${axis}`, () => {
    const terms = apply("mul", cut(left, axis, length), cut(right, axis, length));
    const inner = reduce(terms, "add", [...others.map((dim) => dim.axis), placeOf(axis, length)]);
    return reduce(inner, "add", [partOf(axis, count)]);
  });
};
