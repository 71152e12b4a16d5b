// The phases of a scan's step. Some values of a step are kept: sums and maxima, which are complete
// only after a loop over their terms, and materialised values. A reader of a kept value is computed
// in a later phase than the loop that completes it. All printers of steps use this analysis, and
// the printed order is checked against it, since reading too early gives a plausible but wrong
// number.
import { type Node, showPath } from "../../../dsl/node.ts";

/** True for values that every step keeps in place of recomputing them for each reader. */
export const isKeptInStep = ({ op }: Node): boolean => op === "reduce" || op === "materialise";

/** The phases of a step's values. */
export interface Phases {
  /** The phase that computes a value, or the operand of a reduction. */
  readonly of: (node: Node) => number;
  /** The first phase that can read a value. */
  readonly reading: (node: Node) => number;
}

/**
 * The phases of values in topological order; those that `isKept` are complete at the end of theirs.
 */
export const phasesOf = (
  nodes: readonly Node[],
  isKept: (node: Node) => boolean = isKeptInStep,
): Phases => {
  const phases = new Map<Node, number>();
  const reading = (node: Node): number => phases.get(node)! + (isKept(node) ? 1 : 0);
  for (const node of nodes) {
    phases.set(
      node,
      node.args.reduce((n, a) => Math.max(n, reading(a)), 0),
    );
  }
  return { of: (node) => phases.get(node)!, reading };
};

/** A value that a phase computes. */
interface Computed {
  readonly of: Node;
  readonly phase: number;
}

/** Throws if a phase computes a value from a kept one that is not yet complete. */
export const verifyPhases = (
  items: readonly Computed[],
  { of, reading }: Phases,
  isKept: (node: Node) => boolean = isKeptInStep,
): void => {
  for (const item of items) {
    const seen = new Set<Node>([item.of]);
    const stack = [item.of];
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      // A kept value is read; its computation is an item of its own.
      if (isKept(node)) {
        if (reading(node) > item.phase) {
          throw new Error(
            `internal error of the compiler, in the step of a scan: phase ${item.phase} reads ` +
              `${node.op}, which is complete in phase ${of(node)}\n  in ${showPath(item.of)}`,
          );
        }
        continue;
      }
      for (const arg of node.args) {
        if (seen.has(arg)) continue;
        seen.add(arg);
        stack.push(arg);
      }
    }
  }
};
