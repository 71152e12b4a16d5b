// How kernels access memory: stores of their roots, and the axes along which they read
// contiguously.
import type { Node } from "../../../dsl/node.ts";
import type { Dim, ExpressionKernel, Storage } from "../../lower/kernel_ir.ts";
import type { Emitter, Env } from "./emit.ts";

/**
 * Emits the values of some roots, then their stores, since a store may overwrite what another root
 * reads.
 */
export const storeRoots = (
  emit: Emitter,
  kernel: ExpressionKernel,
  env: Env,
  which: (node: Node) => boolean,
): void => {
  const roots = kernel.roots.filter((root) => which(root.node));
  const values = roots.map((root) => emit.emit(root.node, env).text);
  roots.forEach((root, k) => emit.store(root.storage, env, values[k]));
};

/** True if the fastest axis of the storages that a node mostly reads is one of `over`. */
export const readsAlong = (
  node: Node,
  over: readonly Dim[],
  stored: ReadonlyMap<Node, Storage>,
): boolean => {
  let x = node;
  while (!stored.has(x) && x.args.length > 0) {
    if (x.op === "index") {
      // The summed axis may go by another name below a movement; follow the fastest one up.
      const inner = x.args[0];
      const fastest = fastestOf(inner, stored);
      const place = fastest === undefined ? undefined : x.attributes.places![fastest];
      const names = place?.terms.filter((term) => Math.abs(term.times) === 1).map((term) =>
        term.axis
      );
      return names?.some((name) => over.some((dim) => dim.axis === name)) ?? false;
    }
    x = [...x.args].sort((a, b) => Object.keys(b.axes).length - Object.keys(a.axes).length)[0];
  }
  const fastest = fastestOf(x, stored);
  return over.some((dim) => dim.axis === fastest);
};

const fastestOf = (node: Node, stored: ReadonlyMap<Node, Storage>): string | undefined =>
  stored.get(node)?.dims.at(-1)?.axis ?? Object.keys(node.axes).at(-1);
