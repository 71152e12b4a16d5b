// The cost model: the work to compute a value, and the kind of loop that computes it.
import { sizeOf, volume } from "../../dsl/axes.ts";
import type { Node, ScalarName } from "../../dsl/node.ts";
import { isScalar } from "../../dsl/primitives.ts";
import { type Contraction, dims, size } from "./kernel_ir.ts";

/**
 * Cost of moving one element to or from memory, in additions. A value is recomputed in every kernel
 * that uses it where that is less work than writing and reading it.
 */
export const memoryCost = 16;
/** Reductions of at most this many terms are computed inline, as part of an element. */
export const smallReduction = 16;

/** True for a movement that reads beyond its argument: it reads within bounds and then selects. */
const isPadded = (node: Node): boolean =>
  Object.entries(node.attributes.places!).some(
    ([axis, { offset, terms, divisor, modulo }]) => {
      if (modulo > 0) return false;
      const reach = (sign: number) =>
        terms.reduce(
          (sum, term) => sum + Math.max(0, sign * term.times) * (sizeOf(node.axes, term.axis) - 1),
          0,
        );
      return offset - reach(-1) < 0 ||
        Math.floor((offset + reach(1)) / divisor) >= sizeOf(node.args[0].axes, axis);
    },
  );

const transcendental: ReadonlySet<string> = new Set<ScalarName>(
  ["exp", "log", "log1p", "sin", "cos", "tanh", "erf", "erfc"],
);

/** Cost of one transcendental function, in additions. */
const functionCost = 8;

/** Cost of a scalar function inside of a cooperative scan, in additions; 0 of another operation. */
export const scalarCost = ({ op }: Node): number =>
  !isScalar(op) ? 0 : transcendental.has(op) ? functionCost : 1;

/** Cost of one operation, in additions. */
export const costOf = (node: Node): number => {
  if (transcendental.has(node.op)) return functionCost;
  switch (node.op) {
    case "sqrt":
    case "div":
      return 3;
    case "index":
      return isPadded(node) ? 4 : 0;
    default:
      return !isScalar(node.op) && node.op !== "reduce" ? 0 : 1;
  }
};

/**
 * How often a contraction reads each element of an operand: once for every tile of the other one.
 */
export const operandReads = (extent: number): number => 4 * Math.ceil(extent / 64);
/**
 * Above this cost a value with several users is always materialised, which bounds the size of the
 * code.
 */
export const maxInlineWork = 32;

/** No cuts. */
const none: ReadonlySet<Node> = new Set();

/**
 * Work to compute one element of a value from likely stored values: leaves, scans, reductions and
 * `cuts` are read. Shared values count once.
 */
export const work = (node: Node, cuts: ReadonlySet<Node> = none): Work => {
  const seen = new Set<Node>();
  const leaves = new Set<Node>();
  let total = 0, reads = 0;
  const visit = (x: Node) => {
    if (seen.has(x) || total > maxInlineWork) return;
    seen.add(x);
    if (x.op === "const") return;
    if (isBound(x)) leaves.add(x);
    const isCut = x !== node && cuts.has(x);
    const isRead = isLeaf(x) || ["part", "scan", "reduce", "materialise"].includes(x.op);
    if (isCut || isRead) {
      if (x.op !== "iota") reads += Math.min(1, volume(x.axes) / volume(node.axes));
    } else {
      total += costOf(x);
      x.args.forEach(visit);
    }
  };
  if (node.op !== "reduce") {
    visit(node);
    return { flops: total, reads, leaves };
  }
  const count = volume(node.args[0].axes) / volume(node.axes);
  if (count > smallReduction || contractionOf(node) !== undefined) {
    return { flops: 0, reads: 1, leaves };
  }
  visit(node.args[0]);
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
export const contractionOf = (node: Node): Contraction | undefined => {
  if (node.attributes.how !== "add" || node.args[0].op !== "mul") return undefined;
  const [left, right] = node.args[0].args;
  const over = dims(node.args[0].axes, node.attributes.over!);
  if (over.some((dim) => !(dim.axis in left.axes) || !(dim.axis in right.axes))) return undefined;
  const result = dims(node.axes);
  const batch = result.filter(({ axis }) => axis in left.axes && axis in right.axes);
  const rows = result.filter(({ axis }) => !(axis in right.axes));
  const columns = result.filter(({ axis }) => !(axis in left.axes));
  return isWorthTiles(size(rows), size(columns), size(over))
    ? { node: node, left, right, batch, rows, columns, over }
    : undefined;
};

/** True for operations that compute nothing: movements and markers. */
export const isMovement = (node: Node): boolean => ["index", "stop", "recompute"].includes(node.op);
/** The value below any movements and markers. */
export const origin = (node: Node): Node => {
  let from = node;
  while (isMovement(from)) [from] = from.args;
  return from;
};

/** Terms of a reduction; 1 for other nodes. */
export const terms = (node: Node): number =>
  node.op === "reduce" ? volume(node.args[0].axes) / volume(node.axes) : 1;
/** True for a reduction that is computed inline. */
export const isSmall = (node: Node): boolean =>
  node.op === "reduce" && terms(node) <= smallReduction && contractionOf(node) === undefined;

/** True for a value that a program is given and does not compute. */
export const isLeaf = (node: Node): boolean =>
  ["const", "literal", "iota", "input", "param", "local"].includes(node.op);

/** True for leaves with bindings of their own; intermediate values can share one. */
export const isBound = (node: Node): boolean => ["input", "param", "literal"].includes(node.op);

/**
 * Most such leaves in a kernel that has taken in more than it must: devices bind ten buffers in
 * all.
 */
export const mostBound = 7;
