// Which values may be stored as f16. Values computed from given floats may be rounded. Values
// computed only from counters and random bits may not: positions above 2048 and ranks of noise
// would coincide. Optimiser state also stays f32, as squares of small gradients would become zero;
// so do partial sums, and operands compared with their maximum to find the argmax.
import { volume } from "../../../dsl/axes.ts";
import { type Node, reachable } from "../../../dsl/node.ts";
import { scalarRow } from "../../../dsl/primitives.ts";

/** Smaller values are not worth rounding. */
export const worthHalving = 2 ** 12;

/**
 * Optimiser state and values for it alone: values that depend on parameters that are updated
 * without being trained, such as moments, and arithmetic that only they use, such as a gradient
 * divided by its loss scale.
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

/** Sums whose only users are sums. */
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

/** Values that decide where a maximum is attained (the argmax). */
const sought = (order: readonly Node[]): ReadonlySet<Node> =>
  new Set(reachable(order.filter((of) => of.op === "equal" && of.args.some(isMaximum))));

/**
 * The floats with at least `least` elements that depend on an input or a parameter with axes, of
 * nodes in topological order; `updated` are the names of the updated parameters.
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
