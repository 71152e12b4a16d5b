// Queries on graphs that several passes share.
import type { Node } from "../../../dsl/node.ts";
import { isIdentity } from "../../../dsl/structure.ts";

/** The nodes among `nodes`, in topological order, that depend on one of `sources`. */
export const dependents = (
  nodes: readonly Node[],
  sources: readonly Node[],
): ReadonlySet<Node> => {
  const found = new Set<Node>(sources);
  for (const of of nodes) if (of.args.some((arg) => found.has(arg))) found.add(of);
  return found;
};

/** The axes along which a movement node reads other positions than its own. */
export const movedAxes = (of: Node): readonly string[] => {
  if (of.op === "gather") return [of.attributes.axis!];
  if (of.op !== "index") return [];
  return Object.entries(of.attributes.places!).flatMap(([axis, place]) =>
    isIdentity(place, axis) ? [] : [axis, ...place.terms.map((term) => term.axis)]
  );
};
