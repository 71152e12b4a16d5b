// What the printer of scans must know of a step before it prints it: where a carry is read, what no
// step changes, and a second copy of a step to stand beside the first.
import { intern, type Node, reachable } from "../../dsl/node.ts";
import { locals, substitute } from "../../dsl/scan.ts";
import { dependents, movedAxes } from "../lower/together.ts";

/**
 * How a value reads a leaf: not at all, at its own position, or at others too. Sums are added up
 * before they are read, so they read nothing themselves.
 */
export const readsOf = (root: Node, leaf: Node): "no" | "own" | "others" => {
  const memo = new Map<Node, "no" | "own" | "others">();
  const look = (of: Node): "no" | "own" | "others" => {
    if (of === leaf) return "own";
    if (of.op === "reduce") return "no";
    const known = memo.get(of);
    if (known !== undefined) return known;
    const below = of.args.map(look);
    const found = below.includes("others") || (movedAxes(of).length > 0 && below.includes("own"))
      ? "others"
      : below.includes("own")
      ? "own"
      : "no";
    memo.set(of, found);
    return found;
  };
  return look(root);
};

/**
 * What the steps read but do not change, as large as can be: values that depend on `changing` leaves
 * in no way. None where steps move along axes, as such values would be read at other lanes too.
 */
export const steadyIn = (roots: readonly Node[], changing: readonly Node[]): readonly Node[] => {
  const nodes = reachable(roots);
  const moving = dependents(nodes, changing);
  if (nodes.some((of) => moving.has(of) && movedAxes(of).length > 0)) return [];
  const read = nodes.filter((of) => moving.has(of)).flatMap((of) => of.args);
  return [...new Set([...roots, ...read])].filter((of) => !moving.has(of) && of.op !== "const");
};

/** Axes without some. */
export const without = (axes: Node["axes"], names: readonly string[]): Node["axes"] =>
  Object.fromEntries(Object.entries(axes).filter(([axis]) => !names.includes(axis)));

/** The step of a scan on locals of its own, so that it can stand beside another's. */
export const renewed = (scan: Node) => {
  const leaves = locals(scan);
  const by = new Map<Node, Node>();
  const renew = (of: Node): Node => {
    const made = intern("local", of.dtype, of.axes, [], { level: -1, name: of.attributes.name });
    by.set(of, made);
    return made;
  };
  const record = (of: Readonly<Record<string, Node>>) =>
    Object.fromEntries(Object.entries(of).map(([name, leaf]) => [name, renew(leaf)]));
  const made = {
    carry: record(leaves.carry),
    each: record(leaves.each),
    rest: leaves.rest.map(renew),
  };
  const names = Object.keys(scan.attributes.step!.next);
  const next = substitute(names.map((name) => scan.attributes.step!.next[name]), by);
  return { leaves: made, next: Object.fromEntries(names.map((name, k) => [name, next[k]])) };
};
