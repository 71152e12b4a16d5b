// Which values may be stored as f16. What follows from given floats by arithmetic may be rounded; what
// follows from counters and random bits alone may not: positions beyond 2048 and ranks of noise would
// fall together.
import type { Node } from "../../dsl/node.ts";
import { volume } from "../../dsl/axes.ts";

/** Values of fewer elements are not worth rounding. */
export const worthHalving = 2 ** 12;

/**
 * The floats with at least `least` elements that follow from an input or a parameter with an axis, of
 * nodes in topological order.
 */
export const roundable = (order: readonly Node[], least: number): ReadonlySet<Node> => {
  const given = new Set<Node>();
  for (const of of order) {
    const isGiven = of.op === "input" || of.op === "param"
      ? of.dtype === "f32" && Object.keys(of.axes).length > 0
      : (of.dtype === "f32" || of.op === "scan") && of.args.some((arg) => given.has(arg));
    if (isGiven) given.add(of);
  }
  return new Set([...given].filter((of) => of.dtype === "f32" && volume(of.axes) >= least));
};
