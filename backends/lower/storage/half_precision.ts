// Which values may be stored as f16. Values computed from given floats may be rounded. Values
// computed only from counters and random bits may not: positions above 2048 and ranks of noise
// would coincide. Optimiser state also stays f32, as squares of small gradients would become zero;
// so do partial sums, and operands compared with their maximum to find the argmax.
import { volume } from "../../../dsl/axes.ts";
import { type Node, topologicalOrder } from "../../../dsl/node.ts";
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
  for (const node of order) {
    const isKept = node.op === "param" && node.attributes.trainable === false &&
      updated.has(node.attributes.name!) && Object.keys(node.axes).length > 0;
    if (isKept || node.args.some((arg) => state.has(arg))) state.add(node);
    for (const arg of node.args) {
      if (!users.has(arg)) users.set(arg, []);
      users.get(arg)!.push(node);
    }
  }
  for (const node of [...order].reverse()) {
    const by = users.get(node) ?? [];
    const isPart = scalarRow(node.op) !== undefined && by.length > 0;
    if (isPart && by.every((user) => state.has(user))) state.add(node);
  }
  return state;
};

/** Sums whose only users are sums. */
const partsOf = (order: readonly Node[]): ReadonlySet<Node> => {
  const isSum = (node: Node) => node.op === "reduce" && node.attributes.how === "add";
  const parts = new Set(order.filter(isSum).map((node) => node.args[0]).filter(isSum));
  for (const node of order) if (!isSum(node)) node.args.forEach((arg) => parts.delete(arg));
  return parts;
};

const isMaximum = (node: Node): boolean => {
  let from = node;
  while (from.op === "index") [from] = from.args;
  return from.op === "reduce" && from.attributes.how === "max";
};

/** Values that decide where a maximum is attained (the argmax). */
const argmaxOperands = (order: readonly Node[]): ReadonlySet<Node> =>
  new Set(
    topologicalOrder(order.filter((node) => node.op === "equal" && node.args.some(isMaximum))),
  );

/**
 * The floats with at least `least` elements that depend on an input or a parameter with axes, of
 * nodes in topological order; `updated` are the names of the updated parameters.
 */
export const canBeF16 = (
  order: readonly Node[],
  least: number,
  updated: ReadonlySet<string>,
): ReadonlySet<Node> => {
  const given = new Set<Node>();
  for (const node of order) {
    const isGiven = node.op === "input" || node.op === "param"
      ? node.dtype === "f32" && Object.keys(node.axes).length > 0
      : (node.dtype === "f32" || node.op === "scan") && node.args.some((arg) => given.has(arg));
    if (isGiven) given.add(node);
  }
  const state = stateOf(order, updated), parts = partsOf(order), exact = argmaxOperands(order);
  const mayRound = (node: Node) =>
    node.dtype === "f32" && volume(node.axes) >= least &&
    ![state, parts, exact].some((set) => set.has(node));
  return new Set([...given].filter(mayRound));
};
