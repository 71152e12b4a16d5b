// The phases of a scan's step. A step keeps some of its values: sums and maxima, which are complete
// only after a loop over what they reduce, and what is rounded once. What reads a kept value is
// computed in a later phase than the loop that completes it. One analysis for all that prints steps;
// what is printed is checked against it, as a value that is read too early is a plausible number.
import { type Node, showPath } from "../../../dsl/node.ts";

/** What every step keeps rather than computing it where it is read. */
export const isKeptInStep = ({ op }: Node): boolean => op === "reduce" || op === "materialise";

/** When the values of a step are computed. */
export interface Phases {
  /** The phase in which a value can be computed, or what a reduction reduces. */
  readonly of: (node: Node) => number;
  /** The phase in which a value can be read where it is kept, or computed otherwise. */
  readonly reading: (node: Node) => number;
}

/** The phases of values in topological order, of which those that `isKept` are complete at the end of theirs. */
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

/** Something that a phase computes. */
interface Computed {
  readonly of: Node;
  readonly phase: number;
}

/** Throws where something is computed in a phase in which a kept value that it reads is not complete. */
export const verifyPhases = (
  items: readonly Computed[],
  { of, reading }: Phases,
  isKept: (node: Node) => boolean = isKeptInStep,
): void => {
  for (const item of items) {
    const seen = new Set<Node>([item.of]);
    const stack = [item.of];
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      // What is kept is read; what computes it is an item of its own.
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
