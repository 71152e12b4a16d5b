// Queries on graphs that several passes share.
import type { Node } from "../../../dsl/node.ts";
import { isIdentity } from "../../../dsl/structure.ts";

/** The nodes among `nodes`, in topological order, that depend on one of `sources`. */
export const dependents = (
  nodes: readonly Node[],
  sources: readonly Node[],
): ReadonlySet<Node> => {
  const found = new Set<Node>(sources);
  for (const node of nodes) if (node.args.some((arg) => found.has(arg))) found.add(node);
  return found;
};

/** The axes along which a movement node reads other positions than its own. */
export const movedAxes = (node: Node): readonly string[] => {
  if (node.op === "gather") return [node.attributes.axis!];
  if (node.op !== "index") return [];
  return Object.entries(node.attributes.places!).flatMap(([axis, place]) =>
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
  stops: (node: Node) => boolean,
): "no" | "own" | "others" => {
  const memo = new Map<Node, "no" | "own" | "others">();
  const look = (node: Node): "no" | "own" | "others" => {
    if (node === leaf) return "own";
    if (stops(node)) return "no";
    const known = memo.get(node);
    if (known !== undefined) return known;
    const below = node.args.map(look);
    const moves = movedAxes(node).length > 0 || node.op === "reduce";
    const found = below.includes("others") || (moves && below.includes("own"))
      ? "others"
      : below.includes("own")
      ? "own"
      : "no";
    memo.set(node, found);
    return found;
  };
  return look(root);
};
