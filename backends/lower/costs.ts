// What it takes to compute a value, and what kind of loop computes it.
import { known, volume } from "../../dsl/axes.ts";
import type { Node } from "../../dsl/node.ts";
import { scalarRow } from "../../dsl/scalar.ts";
import { pad, reduce, split } from "../../dsl/structure.ts";
import { isBound, isLeaf } from "./draft.ts";
import { type Contraction, dims, size } from "./program.ts";

/** Reductions of at most this many terms are done in place, as part of an element. */
export const smallReduction = 16;
/** From this size on a reduction with few results is done in two stages. */
const splitFrom = 1024;
/** The same along one axis, which has to be cut for that: so many terms, and not more results. */
const cutFrom = 2 ** 16, fewResults = 64;

/** True for a movement that reads beyond its argument: it reads somewhere within, and then chooses. */
const isPadded = (of: Node): boolean =>
  Object.entries(of.attributes.places!).some(([axis, { plus, terms, over, modulo }]) => {
    if (modulo > 0) return false;
    const reach = (sign: number) =>
      terms.reduce(
        (sum, term) => sum + Math.max(0, sign * term.times) * (known(of.axes, term.axis) - 1),
        0,
      );
    return plus - reach(-1) < 0 ||
      Math.floor((plus + reach(1)) / over) >= known(of.args[0].axes, axis);
  });

/** Additions that take as long as one operation. */
export const costOf = (of: Node): number => {
  switch (of.op) {
    case "exp":
    case "log":
    case "log1p":
    case "sin":
    case "cos":
    case "tanh":
    case "erf":
      return 8;
    case "sqrt":
    case "recip":
      return 3;
    case "index":
      return isPadded(of) ? 4 : 0;
    default:
      return scalarRow(of.op) === undefined && of.op !== "reduce" ? 0 : 1;
  }
};

/** How often a product reads each element of an operand: once for every tile of the other one. */
export const passes = (extent: number): number => 4 * Math.ceil(extent / 64);
/** Beyond this much work a value that several kernels use is stored in any case: code must end. */
export const tooMuch = 32;

/**
 * Work in one element of a value, from what may well be stored up: leaves, scans and reductions are
 * read. What is shared counts once.
 */
export const work = (of: Node): Work => {
  const seen = new Set<Node>();
  const leaves = new Set<Node>();
  let total = 0, reads = 0;
  const visit = (x: Node) => {
    if (seen.has(x) || total > tooMuch) return;
    seen.add(x);
    if (x.op === "const") return;
    if (isBound(x)) leaves.add(x);
    if (isLeaf(x) || x.op === "part" || x.op === "scan" || x.op === "reduce") {
      if (x.op !== "iota") reads += Math.min(1, volume(x.axes) / volume(of.axes));
    } else {
      total += costOf(x);
      x.args.forEach(visit);
    }
  };
  if (of.op !== "reduce") {
    visit(of);
    return { flops: total, reads, leaves };
  }
  const count = volume(of.args[0].axes) / volume(of.axes);
  if (count > smallReduction || contractionOf(of) !== undefined) {
    return { flops: 0, reads: 1, leaves };
  }
  visit(of.args[0]);
  return { flops: count * (total + 1), reads: count * reads, leaves };
};

/** What it takes to compute an element of a value. */
export interface Work {
  readonly flops: number;
  /** Elements that it reads, those of smaller values in part. */
  readonly reads: number;
  /** Leaves that it reads through bindings of their own. */
  readonly leaves: ReadonlySet<Node>;
}

/** The roles of the axes of a sum of products, when it is worth a tiled kernel. */
export const contractionOf = (of: Node): Contraction | undefined => {
  if (of.op !== "reduce" || of.attributes.how !== "add" || of.args[0].op !== "mul") {
    return undefined;
  }
  const [left, right] = of.args[0].args;
  const over = dims(of.args[0].axes, of.attributes.over!);
  if (over.some((dim) => !(dim.axis in left.axes) || !(dim.axis in right.axes))) return undefined;
  const result = dims(of.axes);
  const batch = result.filter(({ axis }) => axis in left.axes && axis in right.axes);
  const rows = result.filter(({ axis }) => axis in left.axes && !(axis in right.axes));
  const columns = result.filter(({ axis }) => !(axis in left.axes) && axis in right.axes);
  const worth = size(rows) >= 4 && size(columns) >= 4 && size(over) >= 8 &&
    size(rows) * size(columns) * size(over) >= 2048;
  return worth ? { node: of, left, right, batch, rows, columns, over } : undefined;
};

/** True for what only says where in its argument a value is read. */
export const isMovement = (of: Node): boolean => ["index", "stop", "recompute"].includes(of.op);
/** What a value is read from. */
export const origin = (of: Node): Node => isMovement(of) ? origin(of.args[0]) : of;

/** How many terms a reduction sums; 1 for all else. */
export const terms = (of: Node): number =>
  of.op === "reduce" ? volume(of.args[0].axes) / volume(of.axes) : 1;
/** A reduction that is done in place. */
export const isSmall = (of: Node): boolean =>
  of.op === "reduce" && terms(of) <= smallReduction && contractionOf(of) === undefined;

/** A reduction along one long axis becomes two: of its parts, and of what they give. */
const inParts = (of: Node): Node => {
  const { how, over } = of.attributes;
  const [axis] = over!, [x] = of.args, size = known(x.axes, axis);
  const length = 2 ** Math.round(Math.log2(size) / 2), count = Math.ceil(size / length);
  const part = `${axis}.part`, place = `${axis}.place`;
  const whole = pad(x, axis, 0, count * length - size, how === "add" ? 0 : -Infinity);
  const cut = split(whole, axis, { [part]: count, [place]: length });
  return reduce(reduce(cut, how!, [place]), how!, [part]);
};

/** A long reduction to few results becomes two, so that the first has parallel work. */
export const inStages = (of: Node): Node => {
  if (of.op !== "reduce" || contractionOf(of) !== undefined) return of;
  const { how, over } = of.attributes;
  const sizes = over!.map((axis) => known(of.args[0].axes, axis));
  const total = sizes.reduce((a, b) => a * b, 1);
  if (over!.length === 1 && total >= cutFrom && volume(of.axes) <= fewResults) return inParts(of);
  if (total < splitFrom || over!.length < 2 || volume(of.axes) > 4 * splitFrom) return of;
  // The outer stage is the axis whose size is nearest to the square root of the whole.
  const distance = (k: number) => Math.abs(Math.log(sizes[k]) - Math.log(total) / 2);
  const outer = over![sizes.map((_, k) => k).sort((a, b) => distance(a) - distance(b))[0]];
  const inner = reduce(of.args[0], how!, over!.filter((axis) => axis !== outer));
  return reduce(inner, how!, [outer]);
};
