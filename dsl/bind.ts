// Binds symbolic sizes: rebuilds the same expressions with numbers for sizes, also inside the steps
// of scans. Movement along an axis and averages over it need its size when they are written;
// everything else can be written once and bound to several sizes.
import {
  type AnyTensor,
  type Axes,
  type AxesOf,
  AxisError,
  type Size,
  type Tensor,
} from "./axes.ts";
import {
  intern,
  type Node,
  nodeOf,
  showPath,
  tensorOf,
  topologicalOrder,
  withPathOf,
} from "./node.ts";

/** Numbers for symbolic sizes, by name. */
export type Sizes = Readonly<Record<string, number>>;

/** The axes `A` with the numbers of `S` in place of the names of sizes. */
export type BoundAxes<A, S> = {
  [K in keyof A]: A[K] extends keyof S ? S[A[K]] : A[K];
};

const boundSize = (axis: string, size: Size, sizes: Sizes, node: Node): number => {
  if (typeof size === "number") return size;
  if (Object.hasOwn(sizes, size)) return sizes[size];
  const given = Object.keys(sizes).map((name) => `'${name}'`).join(", ") || "none";
  throw new AxisError(
    `axis '${axis}' has the symbolic size ${size}, which is not bound; given: ${given}` +
      `\n  in ${showPath(node)}`,
  );
};

const rebuilt = (roots: readonly Node[], sizes: Sizes): readonly Node[] => {
  const done = new Map<Node, Node>();
  const record = (nodes: Readonly<Record<string, Node>>): Readonly<Record<string, Node>> => {
    const names = Object.keys(nodes);
    const bound = rebuilt(names.map((name) => nodes[name]), sizes);
    return Object.fromEntries(names.map((name, k) => [name, bound[k]]));
  };
  for (const node of topologicalOrder(roots)) {
    const axes: Axes = Object.fromEntries(
      Object.entries(node.axes).map(([axis, size]) => [axis, boundSize(axis, size, sizes, node)]),
    );
    const { step } = node.attributes;
    const attributes = step === undefined ? node.attributes : {
      ...node.attributes,
      step: { level: step.level, next: record(step.next), out: record(step.out) },
    };
    const args = node.args.map((arg) => done.get(arg)!);
    done.set(node, withPathOf(node, () => intern(node.op, node.dtype, axes, args, attributes)));
  }
  return roots.map((root) => done.get(root)!);
};

/**
 * The same tensors with numbers for their symbolic sizes.
 *
 * ```ts
 * import { bind, input, mul } from "@formant/formant";
 * const x = input("x", { batch: 8, time: "T" });
 * const { y } = bind({ y: mul(x, x) }, { T: 250 }); // { batch: 8, time: 250 }
 * ```
 *
 * Throws `AxisError` for a size that is not bound, with the axis that has it.
 */
export const bind = <
  const T extends Readonly<Record<string, AnyTensor>>,
  const S extends Sizes,
>(
  tensors: T,
  sizes: S,
): { readonly [K in keyof T]: Tensor<BoundAxes<AxesOf<T[K]>, S>> } => {
  const names = Object.keys(tensors);
  const bound = rebuilt(names.map((name) => nodeOf(tensors[name])), sizes);
  const record = Object.fromEntries(names.map((name, k) => [name, tensorOf(bound[k])]));
  return record as { readonly [K in keyof T]: Tensor<BoundAxes<AxesOf<T[K]>, S>> };
};
