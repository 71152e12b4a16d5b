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

/**
 * How a value reads a leaf: not at all, only at its own position, or at others too. A value where it
 * `stops` is complete before it is read, so it reads nothing itself.
 */
export const readsOf = (
  root: Node,
  leaf: Node,
  stops: (of: Node) => boolean,
): "no" | "own" | "others" => {
  const memo = new Map<Node, "no" | "own" | "others">();
  const look = (of: Node): "no" | "own" | "others" => {
    if (of === leaf) return "own";
    if (stops(of)) return "no";
    const known = memo.get(of);
    if (known !== undefined) return known;
    const below = of.args.map(look);
    const moves = movedAxes(of).length > 0 || of.op === "reduce";
    const found = below.includes("others") || (moves && below.includes("own"))
      ? "others"
      : below.includes("own")
      ? "own"
      : "no";
    memo.set(of, found);
    return found;
  };
  return look(root);
};
