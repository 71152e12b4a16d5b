// Factors of products: moves factors out of sums that do not depend on the summed axes, and shares
// common sub-products. The WebAssembly backend applies it to the steps of scans.
import { intern, type Node, rewrite, topologicalOrder, withPathOf } from "../../../dsl/node.ts";
import { apply } from "../../../dsl/primitives.ts";
import { expand, reduce } from "../../../dsl/structure.ts";
import { ascend } from "../../../dsl/walk.ts";
import { movedAxes } from "./queries.ts";

/** Whether a value is its argument broadcast to further axes. */
const isExpanded = (node: Node): boolean =>
  node.op === "index" && movedAxes(node).length === 0 &&
  Object.entries(node.args[0].axes).every(([axis, size]) => node.axes[axis] === size);

/** The value below any broadcasts. */
export const unexpanded = (node: Node): Node => {
  let from = node;
  while (isExpanded(from)) [from] = from.args;
  return from;
};

const factorsOf = (node: Node): readonly Node[] =>
  (node.op === "mul" && node.dtype === "f32") || isExpanded(node)
    ? node.args.flatMap(factorsOf)
    : [node];

/**
 * The same values with factors that lack the summed axes moved out of sums. Sums that differ in
 * nothing else are then one.
 */
export const withoutFactors = (roots: readonly Node[]): readonly Node[] =>
  rewrite(roots, (node) => {
    if (node.op !== "reduce" || node.attributes.how !== "add") return node;
    const { over } = node.attributes;
    const factors = [...factorsOf(node.args[0])].sort((a, b) => a.id - b.id);
    const isInside = (one: Node) => over!.some((axis) => axis in one.axes);
    const inside = factors.filter(isInside);
    const axes = new Set(inside.flatMap((one) => Object.keys(one.axes)));
    if (inside.length === factors.length || !over!.every((axis) => axes.has(axis))) return node;
    const product = (list: readonly Node[]) => list.reduce((a, b) => apply("mul", a, b));
    return withPathOf(node, () => {
      const outside = factors.filter((one) => !isInside(one));
      return expand(product([reduce(product(inside), "add", over!), ...outside]), node.axes);
    });
  });

/** The most frequent pair of factors, if more than one list has it. */
const commonPair = (lists: Iterable<readonly Node[]>): readonly [Node, Node] | undefined => {
  const counts = new Map<string, number>();
  let most = 1, best: readonly [Node, Node] | undefined;
  for (const list of lists) {
    const sorted = [...list].sort((a, b) => a.id - b.id);
    const pairs = sorted.flatMap((a, k) => sorted.slice(k + 1).map((b) => [a, b] as const));
    for (const pair of new Map(pairs.map((one) => [`${one[0].id} ${one[1].id}`, one])).values()) {
      const key = `${pair[0].id} ${pair[1].id}`, count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      if (count > most) [most, best] = [count, pair];
    }
  }
  return best;
};

/** A list without a pair, which may be one node twice; undefined if the list lacks the pair. */
const withoutPair = (
  list: readonly Node[],
  [a, b]: readonly [Node, Node],
): readonly Node[] | undefined => {
  const first = list.indexOf(a), second = list.indexOf(b, a === b ? first + 1 : 0);
  return first < 0 || second < 0 ? undefined : list.filter((_, k) => k !== first && k !== second);
};

/**
 * The same values with products regrouped so that common sub-products are one value. Only `isInner`
 * factors are grouped; the others are multiplied separately, outside of loops.
 */
export const sharedProducts = (
  roots: readonly Node[],
  isInner: (node: Node) => boolean,
): readonly Node[] => {
  const nodes = topologicalOrder(roots);
  const isProduct = (node: Node) => node.op === "mul" && node.dtype === "f32";
  const whole = new Set([
    ...roots,
    ...nodes.filter((node) => !isProduct(node) && !isExpanded(node)).flatMap((node) => node.args),
  ].filter((node) => factorsOf(node).length > 1));
  const inner = new Map([...whole].map((node) => [node, factorsOf(node).filter(isInner)] as const));
  const keyOf = (list: readonly Node[]) => list.map(({ id }) => id).sort((a, b) => a - b).join();
  const there = new Map(nodes.filter(isProduct).map((node) => [keyOf(factorsOf(node)), node]));
  const pairs = new Set<Node>();
  const changed = new Set<Node>();
  for (;;) {
    const pair = commonPair(inner.values());
    if (pair === undefined) break;
    const both = there.get(keyOf(pair)) ?? apply("mul", ...pair);
    pairs.add(both);
    for (const [node, list] of inner) {
      const rest = withoutPair(list, pair);
      if (rest === undefined) continue;
      inner.set(node, [...rest, both]);
      changed.add(node);
    }
  }
  const made = new Map<Node, Node>();
  const isChanged = (node: Node) => changed.has(node) && !pairs.has(node);
  /** The factors of a regrouped product, those to be multiplied first in front. */
  const listsOf = (node: Node): readonly (readonly Node[])[] =>
    [factorsOf(node).filter((one) => !isInner(one)), inner.get(node)!]
      .filter((list) => list.length > 0);
  const product = (list: readonly Node[]) => list.reduce((a, b) => apply("mul", a, b));
  const build = (node: Node): Node => {
    const now = (one: Node) => made.get(one)!;
    if (isChanged(node)) {
      return expand(product(listsOf(node).map((l) => product(l.map(now)))), node.axes);
    }
    const args = node.args.map(now);
    if (args.every((arg, k) => arg === node.args[k])) return node;
    return intern(node.op, node.dtype, node.axes, args, node.attributes);
  };
  const below = (node: Node) => isChanged(node) ? listsOf(node).flat() : node.args;
  return roots.map((root) =>
    ascend(root, made, below, (node) => withPathOf(node, () => build(node)))
  );
};
