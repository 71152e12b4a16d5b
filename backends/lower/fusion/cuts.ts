// Bounds the size of a kernel: long expressions are cut at stored values. A kernel is compiled as
// one function, and compile time grows faster than the function, so an unrolled loop of 100,000
// operations becomes a hundred kernels. Cuts are chosen from the leaves up, which fills each
// kernel, and before fusion, whose searches end at them.
import { AxisError } from "../../../dsl/axes.ts";
import { type Node, showPath, topologicalOrder } from "../../../dsl/node.ts";
import { contractionOf, costOf, smallReduction, terms } from "../cost_model.ts";
import { isLeaf } from "../cost_model.ts";

/**
 * Longest chain of dependent operations in one expression. The longest in training is the gradient
 * norm of the largest transformer: a sum over 400 parameters in sequence.
 */
export const mostDepth = 1024;
/**
 * Most operations in one expression, where a function counts as its instructions: WebAssembly
 * allows 50,000 variables in a function. The gradient norm takes 1,800.
 */
export const mostOperations = 4096;
/**
 * Most movements in sequence whose addresses must be kept in bounds: each makes addresses longer.
 * Those that divide positions, as splitting and merging axes does, may double them.
 */
export const mostMoved = 16;
const ofDivision = 2;

/**
 * Longest chain of dependent operations in the step of a scan: one kernel runs a step, which cannot
 * be cut, and the planners recurse into it.
 */
export const mostInStep = 3000;

/** Rejects programs with steps that are too long to be planned. */
export const refuseLongSteps = (roots: readonly Node[]): void => {
  for (const node of topologicalOrder(roots)) {
    if (node.op !== "scan") continue;
    const { step, axis } = node.attributes;
    const ends = [...Object.values(step!.next), ...Object.values(step!.out)];
    refuseLongSteps(ends);
    const depths = new Map<Node, number>();
    let deepest = 0;
    for (const x of topologicalOrder(ends)) {
      const depth = x.args.reduce((most, arg) => Math.max(most, depths.get(arg)! + 1), 0);
      depths.set(x, depth);
      deepest = Math.max(deepest, depth);
    }
    if (deepest <= mostInStep) continue;
    throw new AxisError(
      `a step of the scan over '${axis}' has ${deepest} operations that wait for each other, but a` +
        ` kernel runs a whole step and takes at most ${mostInStep}; do less in a step, or part of it` +
        ` in a scan of its own\n  in ${showPath(node)}`,
    );
  }
};

/** The work that computes a value from stored values. */
interface Effort {
  readonly depth: number;
  readonly operations: number;
  readonly moved: number;
}
const none: Effort = { depth: 0, operations: 0, moved: 0 };

const movedBy = (node: Node): number => {
  if (node.op !== "index") return 0;
  const divides = Object.values(node.attributes.places!)
    .some(({ divisor, modulo }) => divisor > 1 || modulo > 0);
  return divides ? ofDivision : costOf(node) > 0 ? 1 : 0;
};

/**
 * Vector instructions of one function, about three quarters of its variables: a kernel computes up
 * to eight values in parallel.
 */
const functions: Partial<Record<Node["op"], number>> = {
  sin: 84,
  cos: 84,
  erf: 40,
  erfc: 40,
  log: 28,
  log1p: 30,
  tanh: 24,
};
const operationsOf = (node: Node): number =>
  functions[node.op] ?? Math.max(1, 2 * costOf(node) - 1);

/** True for values that are always stored: given ones, and results of scans and contractions. */
const isStored = (node: Node): boolean =>
  isLeaf(node) || ["part", "scan", "materialise"].includes(node.op) ||
  contractionOf(node) !== undefined;

/**
 * The values to store so that no expression exceeds the limits of a kernel, of nodes in topological
 * order with their numbers of users. The work of a shared value is divided among its users.
 */
export const cutsOf = (
  order: readonly Node[],
  users: ReadonlyMap<Node, number>,
): ReadonlySet<Node> => {
  const cuts = new Set<Node>();
  const efforts = new Map<Node, Effort>();
  const effortOf = (node: Node): Effort => cuts.has(node) ? none : efforts.get(node)!;
  const share = (node: Node): number => effortOf(node).operations / users.get(node)!;
  for (const node of order) {
    const args = [...new Set(node.op === "gather" ? node.args.slice(1) : node.args)];
    const own = movedBy(node);
    for (const arg of args) {
      const { depth, moved } = effortOf(arg);
      if (depth >= mostDepth || moved + own > mostMoved) cuts.add(arg);
    }
    const total = () => args.reduce((sum, arg) => sum + share(arg), operationsOf(node));
    while (total() > mostOperations) {
      cuts.add(args.reduce((most, arg) => share(arg) > share(most) ? arg : most));
    }
    const below = args.map(effortOf);
    const isLong = node.op === "reduce" && terms(node) > smallReduction;
    efforts.set(
      node,
      isStored(node) ? none : {
        depth: 1 + Math.max(0, ...below.map(({ depth }) => depth)),
        operations: isLong ? 1 : total(),
        moved: own + Math.max(0, ...below.map(({ moved }) => moved)),
      },
    );
  }
  return cuts;
};
