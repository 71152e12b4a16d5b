// Where long expressions are cut into kernels. What a kernel computes is compiled as one function, and
// compilers take more than twice as long for twice as much: an unrolled loop of 100,000 operations is
// a hundred kernels rather than one. The values to store are chosen from the leaves up, so that
// kernels are nearly as large as they may be, and before anything else is decided: everything that
// looks into an expression ends at them.
import { AxisError } from "../../../dsl/axes.ts";
import { type Node, reachable, showPath } from "../../../dsl/node.ts";
import { contractionOf, costOf, smallReduction, terms } from "../cost_model.ts";
import { isLeaf } from "../cost_model.ts";

/**
 * Most operations that wait for each other in one expression. The most in training is the gradient
 * norm of the largest transformer: a sum over 400 parameters, one after the other.
 */
export const mostDepth = 1024;
/**
 * Most operations of one expression, functions counted by what they are made of: WebAssembly has up to
 * 50,000 variables in a function. The gradient norm takes 1,800.
 */
export const mostOperations = 4096;
/**
 * Most movements in a row that have to be kept inside of what they read: addresses get longer with
 * each. Those that divide positions, as splitting and merging axes does, may double them.
 */
export const mostMoved = 16;
const ofDivision = 2;

/**
 * Most operations that wait for each other in a step of a scan: steps are run by one kernel and cannot
 * be cut, and what plans them goes into them by recursion.
 */
export const mostInStep = 3000;

/** Refuses programs with steps that are too long to be planned. */
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

/** What has to be done for a value from what is stored. */
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
 * Operations that vectors take for one function, about three quarters of its variables: kernels join
 * up to eight values beside each other.
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

/** True for what is stored in any case: given values, and what kernels of other shapes give. */
const isStored = (of: Node): boolean =>
  isLeaf(of) || ["part", "scan", "materialise"].includes(of.op) ||
  contractionOf(of) !== undefined;

/**
 * The values to store so that no expression takes more than a kernel should, of nodes in topological
 * order with the numbers of their users. What several values share counts for each in part.
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
