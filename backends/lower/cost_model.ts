// The cost model: the work to compute a value, and the kind of loop that computes it.
import { known, volume } from "../../dsl/axes.ts";
import type { Node } from "../../dsl/node.ts";
import { scalarRow } from "../../dsl/primitives.ts";
import { type Contraction, dims, size } from "./kernel_ir.ts";

/**
 * Cost of moving one element to or from memory, in additions. A value is recomputed in every kernel
 * that uses it where that is less work than writing and reading it.
 */
export const perElement = 16;
/** Reductions of at most this many terms are computed inline, as part of an element. */
export const smallReduction = 16;

/** True for a movement that reads beyond its argument: it reads within bounds and then selects. */
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

/** Cost of one operation, in additions. */
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

/**
 * How often a contraction reads each element of an operand: once for every tile of the other one.
 */
export const passes = (extent: number): number => 4 * Math.ceil(extent / 64);
/**
 * Above this cost a value with several users is always materialised, which bounds the size of the
 * code.
 */
export const tooMuch = 32;

/** No cuts. */
const none: ReadonlySet<Node> = new Set();

/**
 * Work to compute one element of a value from likely stored values: leaves, scans, reductions and
 * `cuts` are read. Shared values count once.
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

/** The work to compute one element of a value. */
export interface Work {
  readonly flops: number;
  /** Elements read; an element of a smaller value counts for its share. */
  readonly reads: number;
  /** Leaves read through bindings of their own. */
  readonly leaves: ReadonlySet<Node>;
}

/** Least rows, columns and terms of a contraction that is worth a tiled kernel. */
const leastRows = 4, leastTerms = 8, leastWork = 2048;
export const isWorthTiles = (rows: number, columns: number, terms: number): boolean =>
  Math.min(rows, columns) >= leastRows && terms >= leastTerms &&
  rows * columns * terms >= leastWork;

/** A sum of products as a contraction, if it is worth a tiled kernel. */
export const contractionOf = (of: Node): Contraction | undefined => {
  if (of.attributes.how !== "add" || of.args[0].op !== "mul") return undefined;
  const [left, right] = of.args[0].args;
  const over = dims(of.args[0].axes, of.attributes.over!);
  if (over.some((dim) => !(dim.axis in left.axes) || !(dim.axis in right.axes))) return undefined;
  const result = dims(of.axes);
  const batch = result.filter(({ axis }) => axis in left.axes && axis in right.axes);
  const rows = result.filter(({ axis }) => !(axis in right.axes));
  const columns = result.filter(({ axis }) => !(axis in left.axes));
  return isWorthTiles(size(rows), size(columns), size(over))
    ? { node: of, left, right, batch, rows, columns, over }
    : undefined;
};

/** True for operations that compute nothing: movements and markers. */
export const isMovement = (of: Node): boolean => ["index", "stop", "recompute"].includes(of.op);
/** The value below any movements and markers. */
export const origin = (of: Node): Node => {
  let from = of;
  while (isMovement(from)) [from] = from.args;
  return from;
};

/** Terms of a reduction; 1 for other nodes. */
export const terms = (of: Node): number =>
  of.op === "reduce" ? volume(of.args[0].axes) / volume(of.axes) : 1;
/** True for a reduction that is computed inline. */
export const isSmall = (of: Node): boolean =>
  of.op === "reduce" && terms(of) <= smallReduction && contractionOf(of) === undefined;

/** True for a value that a program is given and does not compute. */
export const isLeaf = (of: Node): boolean =>
  ["const", "literal", "iota", "input", "param", "local"].includes(of.op);

/** True for leaves with bindings of their own; intermediate values can share one. */
export const isBound = (of: Node): boolean => ["input", "param", "literal"].includes(of.op);

/**
 * Most such leaves in a kernel that has taken in more than it must: devices bind ten buffers in
 * all.
 */
export const mostBound = 7;
