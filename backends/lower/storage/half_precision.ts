// Which values may be stored as f16. What follows from given floats by arithmetic may be rounded; what
// follows from counters and random bits alone may not: positions beyond 2048 and ranks of noise would
// fall together. Nor may what an optimiser keeps and makes its steps of: squares of small gradients
// would be nothing. Nor may a sum that is only part of a sum, nor that among which a maximum is looked
// for again, by its bits.
import { volume } from "../../../dsl/axes.ts";
import { type Node, reachable } from "../../../dsl/node.ts";
import { scalarRow } from "../../../dsl/primitives.ts";

/** Values of fewer elements are not worth rounding. */
export const worthHalving = 2 ** 12;

/**
 * What follows from the state that a program updates without training it, such as moments, and what
 * arithmetic makes for nothing else, such as a gradient without its scale.
 */
const stateOf = (order: readonly Node[], updated: ReadonlySet<string>): ReadonlySet<Node> => {
  const state = new Set<Node>(), users = new Map<Node, Node[]>();
  for (const of of order) {
    const isKept = of.op === "param" && of.attributes.trainable === false &&
      updated.has(of.attributes.name!) && Object.keys(of.axes).length > 0;
    if (isKept || of.args.some((arg) => state.has(arg))) state.add(of);
    for (const arg of of.args) {
      if (!users.has(arg)) users.set(arg, []);
      users.get(arg)!.push(of);
    }
  }
  for (const of of [...order].reverse()) {
    const by = users.get(of) ?? [];
    const isPart = scalarRow(of.op) !== undefined && by.length > 0;
    if (isPart && by.every((user) => state.has(user))) state.add(of);
  }
  return state;
};

/** Sums of which nothing but a sum is made. */
const partsOf = (order: readonly Node[]): ReadonlySet<Node> => {
  const isSum = (of: Node) => of.op === "reduce" && of.attributes.how === "add";
  const parts = new Set(order.filter(isSum).map((of) => of.args[0]).filter(isSum));
  for (const of of order) if (!isSum(of)) of.args.forEach((arg) => parts.delete(arg));
  return parts;
};

const isMaximum = (of: Node): boolean => {
  let from = of;
  while (from.op === "index") [from] = from.args;
  return from.op === "reduce" && from.attributes.how === "max";
};

/** What decides where a maximum was attained. */
const sought = (order: readonly Node[]): ReadonlySet<Node> =>
  new Set(reachable(order.filter((of) => of.op === "equal" && of.args.some(isMaximum))));

/**
 * The floats with at least `least` elements that follow from an input or a parameter with an axis, of
 * nodes in topological order; `updated` are the names of the parameters that the program updates.
 */
export const roundable = (
  order: readonly Node[],
  least: number,
  updated: ReadonlySet<string>,
): ReadonlySet<Node> => {
  const given = new Set<Node>();
  for (const of of order) {
    const isGiven = of.op === "input" || of.op === "param"
      ? of.dtype === "f32" && Object.keys(of.axes).length > 0
      : (of.dtype === "f32" || of.op === "scan") && of.args.some((arg) => given.has(arg));
    if (isGiven) given.add(of);
  }
  const state = stateOf(order, updated), parts = partsOf(order), exact = sought(order);
  const mayRound = (of: Node) =>
    of.dtype === "f32" && volume(of.axes) >= least &&
    ![state, parts, exact].some((set) => set.has(of));
  return new Set([...given].filter(mayRound));
};
