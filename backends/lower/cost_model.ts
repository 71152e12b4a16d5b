// What it takes to compute a value, and what kind of loop computes it.
import { known, volume } from "../../dsl/axes.ts";
import type { Node } from "../../dsl/node.ts";
import { scalarRow } from "../../dsl/primitives.ts";
import { type Contraction, dims, size } from "./kernel_ir.ts";

/**
 * Additions that take as long as moving one element to or from memory. A value is computed again in
 * every kernel that uses it where that is less work than writing it once and reading it there.
 */
export const perElement = 16;
/** Reductions of at most this many terms are done in place, as part of an element. */
export const smallReduction = 16;

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
    case "erfc":
      return 8;
    case "sqrt":
    case "div":
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

/** Values of which nothing is stored for its length. */
const none: ReadonlySet<Node> = new Set();

/**
 * Work in one element of a value, from what may well be stored up: leaves, scans, reductions and
 * `cuts` are read. What is shared counts once.
 */
export const work = (of: Node, cuts: ReadonlySet<Node> = none): Work => {
  const seen = new Set<Node>();
  const leaves = new Set<Node>();
  let total = 0, reads = 0;
  const visit = (x: Node) => {
    if (seen.has(x) || total > tooMuch) return;
    seen.add(x);
    if (x.op === "const") return;
    if (isBound(x)) leaves.add(x);
    const isCut = x !== of && cuts.has(x);
    const isRead = isLeaf(x) || ["part", "scan", "reduce", "materialise"].includes(x.op);
    if (isCut || isRead) {
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

/** Rows, columns and summed positions from which on a product is worth a tiled kernel. */
const leastRows = 4, leastTerms = 8, leastWork = 2048;
export const isWorthTiles = (rows: number, columns: number, terms: number): boolean =>
  Math.min(rows, columns) >= leastRows && terms >= leastTerms &&
  rows * columns * terms >= leastWork;

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
  return isWorthTiles(size(rows), size(columns), size(over))
    ? { node: of, left, right, batch, rows, columns, over }
    : undefined;
};

/** True for what only says where in its argument a value is read. */
export const isMovement = (of: Node): boolean => ["index", "stop", "recompute"].includes(of.op);
/** What a value is read from. */
export const origin = (of: Node): Node => {
  let from = of;
  while (isMovement(from)) [from] = from.args;
  return from;
};

/** How many terms a reduction sums; 1 for all else. */
export const terms = (of: Node): number =>
  of.op === "reduce" ? volume(of.args[0].axes) / volume(of.axes) : 1;
/** A reduction that is done in place. */
export const isSmall = (of: Node): boolean =>
  of.op === "reduce" && terms(of) <= smallReduction && contractionOf(of) === undefined;

/** What is given to a program rather than computed by it. */
export const isLeaf = (of: Node): boolean =>
  ["const", "literal", "iota", "input", "param", "local"].includes(of.op);

/** Intermediate values can share one binding; inputs, parameters and literals can not. */
export const isBound = (of: Node): boolean => ["input", "param", "literal"].includes(of.op);

/** Most of them in a kernel that does more than it must: devices bind ten buffers in all. */
export const mostBound = 7;
