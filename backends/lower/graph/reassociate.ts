// Reassociation: a product of three reuses a sub-product that exists already. The gradient of s ·
// exp(x) for x comes as (g · s) · exp(x); as g · (s · exp(x)) it needs only the product, so s is
// not kept. Where attention scores are multiplied by decays, that saves a tokens × tokens matrix.
import { intern, type Node, rewrite, topologicalOrder } from "../../../dsl/node.ts";
import { sameAxes } from "../../../dsl/axes.ts";

const key = (a: Node, b: Node): string => a.id < b.id ? `${a.id} ${b.id}` : `${b.id} ${a.id}`;

/** The same values, with (a · b) · c as a · (b · c) where b · c exists anyway. */
export const reassociate = (roots: readonly Node[]): readonly Node[] => {
  const users = new Map<Node, number>();
  for (const node of topologicalOrder(roots)) {
    for (const arg of node.args) users.set(arg, (users.get(arg) ?? 0) + 1);
  }
  const made = new Map<string, Node>();
  return rewrite(roots, (node, was) => {
    if (node.op !== "mul") return node;
    for (const [k, x] of node.args.entries()) {
      const c = node.args[1 - k];
      if (x.op !== "mul" || users.get(was.args[k]) !== 1) continue;
      for (const [n, a] of x.args.entries()) {
        const product = made.get(key(x.args[1 - n], c));
        if (product === undefined || !sameAxes(product.axes, node.axes)) continue;
        return intern("mul", node.dtype, node.axes, [a, product]);
      }
    }
    made.set(key(node.args[0], node.args[1]), node);
    return node;
  });
};
