// Values that are compared for equality are rounded once. Kernels that recompute a value may round
// it differently: factors in another order, or a fused multiply-add in place of two operations.
// That is mostly one unit in the last place, but it would decide in each kernel anew whether x
// equals the maximum of x, and so which element takes its gradient. So the values that an `equal`
// of floats depends on through operations that do not round are stored (or kept in a scan's step)
// and read by all users: they become arguments of a `materialise` node, an optimisation barrier in
// XLA's terms.
import { intern, type Node, rewrite, topologicalOrder, withPathOf } from "../../../dsl/node.ts";
import { locals, roles } from "../../../dsl/scan.ts";

/** Leaves and results of scans: these have one value wherever they are read. */
const given = new Set(["const", "literal", "iota", "input", "param", "part", "materialise"]);
/** Operations that do not round: their result is an argument, or exact. */
const exact = new Set([
  "neg",
  "max",
  "select",
  "floor",
  "less",
  "equal",
  "toFloat",
  "toWord",
  "bits",
  "index",
  "gather",
  "stop",
  "recompute",
]);

const isExact = ({ op, dtype, args, attributes }: Node): boolean =>
  dtype !== "f32" || exact.has(op) || op === "reduce" && attributes.how === "max" ||
  // Times a power of two, unless the result is subnormal.
  op === "mul" &&
    args.some(({ op, attributes: { value } }) =>
      op === "const" && Number.isInteger(Math.log2(Math.abs(value!)))
    );

interface Found {
  /** The values to materialise. */
  readonly values: ReadonlySet<Node>;
  /** Compared leaves of the step, which stand for arguments of the scan. */
  readonly leaves: ReadonlySet<Node>;
}

/** The values that compared ones depend on through operations that do not round. */
const roundedBelow = (compared: readonly Node[]): Found => {
  const values = new Set<Node>(), leaves = new Set<Node>(), seen = new Set<Node>();
  const stack = [...compared];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.op === "local") leaves.add(node);
    else if (given.has(node.op)) continue;
    else if (isExact(node)) stack.push(...node.args);
    else values.add(node);
  }
  return { values, leaves };
};

const comparedIn = (nodes: readonly Node[]): readonly Node[] =>
  nodes.flatMap(({ op, args }) => op === "equal" && args[0].dtype === "f32" ? args : []);

const materialised = (node: Node): Node =>
  withPathOf(node, () => intern("materialise", node.dtype, node.axes, [node]));

/** A scan whose step materialises compared values, and the compared arguments. */
const withinStep = (scan: Node): { readonly scan: Node; readonly compared: readonly Node[] } => {
  const { step } = scan.attributes;
  const { next, out } = step!;
  const names = Object.keys(next), outNames = Object.keys(out);
  const ends = [...names.map((name) => next[name]), ...outNames.map((name) => out[name])];
  const inside = withMaterialised(ends);
  const { each, rest } = roles(scan), own = locals(scan);
  const arguments_ = new Map([
    ...Object.keys(each).map((name) => [own.each[name], each[name]] as const),
    ...own.rest.map((leaf, k) => [leaf, rest[k]] as const),
  ]);
  const compared = [...inside.leaves].flatMap((leaf) => arguments_.get(leaf) ?? []);
  if (inside.roots.every((root, k) => root === ends[k])) return { scan, compared };
  const part = (list: readonly string[], from: number) =>
    Object.fromEntries(list.map((name, k) => [name, inside.roots[from + k]]));
  const changed = { ...step!, next: part(names, 0), out: part(outNames, names.length) };
  const made = withPathOf(
    scan,
    () => intern(scan.op, scan.dtype, scan.axes, scan.args, { ...scan.attributes, step: changed }),
  );
  return { scan: made, compared };
};

const withMaterialised = (roots: readonly Node[]) => {
  const order = topologicalOrder(roots);
  const scans = order.filter(({ op }) => op === "scan").map((node) =>
    [node, withinStep(node)] as const
  );
  const compared = [...comparedIn(order), ...scans.flatMap(([, { compared }]) => compared)];
  const { values, leaves } = roundedBelow(compared);
  const steps = new Map(scans.map(([node, { scan }]) => [node, scan.attributes.step!]));
  if (values.size === 0 && scans.every(([node, { scan }]) => node === scan)) {
    return { roots, leaves };
  }
  const now = rewrite(roots, (node, was) => {
    const step = steps.get(was);
    const { op, dtype, axes, args, attributes } = node;
    const made = step === undefined || step === attributes.step
      ? node
      : intern(op, dtype, axes, args, { ...attributes, step });
    return values.has(was) ? materialised(made) : made;
  });
  return { roots: now, leaves };
};

/** The same values, with those compared for equality materialised. */
export const roundOnce = (roots: readonly Node[]): readonly Node[] =>
  // Outputs of the program are stored anyway.
  withMaterialised(roots).roots.map((node, k) =>
    node.op === "materialise" && roots[k].op !== "materialise" ? node.args[0] : node
  );
