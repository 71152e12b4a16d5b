// Bounds the size of a kernel: long expressions are cut at stored values. A kernel is compiled as
// one function, and compile time grows faster than the function, so an unrolled loop of 100,000
// operations becomes a hundred kernels. Cuts are chosen from the leaves up, which fills each
// kernel, and before fusion, whose searches end at them.
import { AxisError } from "../../../dsl/axes.ts";
import { type Node, reachable, showPath } from "../../../dsl/node.ts";
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
  for (const of of reachable(roots)) {
    if (of.op !== "scan") continue;
    const { step, axis } = of.attributes;
    const ends = [...Object.values(step!.next), ...Object.values(step!.out)];
    refuseLongSteps(ends);
    const depths = new Map<Node, number>();
    let deepest = 0;
    for (const x of reachable(ends)) {
      const depth = x.args.reduce((most, arg) => Math.max(most, depths.get(arg)! + 1), 0);
      depths.set(x, depth);
      deepest = Math.max(deepest, depth);
    }
    if (deepest <= mostInStep) continue;
    throw new AxisError(
      `a step of the scan over '${axis}' has ${deepest} operations that wait for each other, but a` +
        ` kernel runs a whole step and takes at most ${mostInStep}; do less in a step, or part of it` +
        ` in a scan of its own\n  in ${showPath(of)}`,
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

const movedBy = (of: Node): number => {
  if (of.op !== "index") return 0;
  const divides = Object.values(of.attributes.places!)
    .some(({ over, modulo }) => over > 1 || modulo > 0);
  return divides ? ofDivision : costOf(of) > 0 ? 1 : 0;
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
const operationsOf = (of: Node): number => functions[of.op] ?? Math.max(1, 2 * costOf(of) - 1);

/** True for values that are always stored: given ones, and results of scans and contractions. */
const isStored = (of: Node): boolean =>
  isLeaf(of) || ["part", "scan", "materialise"].includes(of.op) ||
  contractionOf(of) !== undefined;

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
  const effortOf = (of: Node): Effort => cuts.has(of) ? none : efforts.get(of)!;
  const share = (of: Node): number => effortOf(of).operations / users.get(of)!;
  for (const of of order) {
    const args = [...new Set(of.op === "gather" ? of.args.slice(1) : of.args)];
    const own = movedBy(of);
    for (const arg of args) {
      const { depth, moved } = effortOf(arg);
      if (depth >= mostDepth || moved + own > mostMoved) cuts.add(arg);
    }
    const total = () => args.reduce((sum, arg) => sum + share(arg), operationsOf(of));
    while (total() > mostOperations) {
      cuts.add(args.reduce((most, arg) => share(arg) > share(most) ? arg : most));
    }
    const below = args.map(effortOf);
    const isLong = of.op === "reduce" && terms(of) > smallReduction;
    efforts.set(
      of,
      isStored(of) ? none : {
        depth: 1 + Math.max(0, ...below.map(({ depth }) => depth)),
        operations: isLong ? 1 : total(),
        moved: own + Math.max(0, ...below.map(({ moved }) => moved)),
      },
    );
  }
  return cuts;
};
