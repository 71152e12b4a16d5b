// Scan: the only recurrence. A step maps carries and one slice of each input to next carries and
// one slice of each output. It is traced once to a closed graph over `local` leaves; other values
// that it uses become `rest` arguments, so a scan is an ordinary node whose arguments are all its
// inputs.
import { type Axes, AxisError, drop } from "./axes.ts";
import { type Dtype, intern, type Node, type Step, topologicalOrder, withPathOf } from "./node.ts";

let depth = 0;

const local = (level: number, name: string, axes: Axes, dtype: Dtype): Node =>
  intern("local", dtype, axes, [], { level, name });

/** Nodes by name, as a step returns them. */
export type Nodes = Readonly<Record<string, Node>>;

/** Rebuilds `roots` with some nodes replaced; unaffected parts stay the same objects. */
export const substitute = (
  roots: readonly Node[],
  by: ReadonlyMap<Node, Node>,
): readonly Node[] => {
  const done = new Map<Node, Node>(by);
  for (const node of topologicalOrder(roots)) {
    if (done.has(node)) continue;
    const args = node.args.map((arg) => done.get(arg)!);
    const same = args.every((arg, k) => arg === node.args[k]);
    const { op, dtype, axes, attributes } = node;
    done.set(node, same ? node : withPathOf(node, () => intern(op, dtype, axes, args, attributes)));
  }
  return roots.map((root) => done.get(root)!);
};

/** Nodes of `roots` that depend on a local of this level. */
const dependent = (nodes: readonly Node[], level: number): ReadonlySet<Node> => {
  const set = new Set<Node>();
  for (const node of nodes) {
    const own = node.op === "local" && node.attributes.level === level;
    if (own || node.args.some((arg) => set.has(arg))) set.add(node);
  }
  return set;
};

const isFree = (node: Node): boolean => node.op === "const" || node.op === "iota";

/** A result of a scan: `final.h`, `prev.h` (the carry that came into each step) or `out.y`. */
export const part = (node: Node, kind: "final" | "prev" | "out", name: string): Node => {
  const { carries, step, axis } = node.attributes;
  const length = node.args[carries!.length].axes[axis!];
  if (kind === "out") {
    const y = step!.out[name];
    return intern("part", y.dtype, { [axis!]: length, ...y.axes }, [node], { name: `out.${name}` });
  }
  const from = node.args[carries!.indexOf(name)];
  const axes = kind === "prev" ? { [axis!]: length, ...from.axes } : from.axes;
  return intern("part", from.dtype, axes, [node], { name: `${kind}.${name}` });
};

/** The parts of a scan's arguments by role. */
export const roles = (node: Node): { from: Nodes; each: Nodes; rest: readonly Node[] } => {
  const { carries, eachs } = node.attributes;
  const named = (names: readonly string[], offset: number) =>
    Object.fromEntries(names.map((name, k) => [name, node.args[offset + k]]));
  return {
    from: named(carries!, 0),
    each: named(eachs!, carries!.length),
    rest: node.args.slice(carries!.length + eachs!.length),
  };
};

const read = new WeakMap<Step, ReadonlyMap<string, Node>>();

/**
 * The leaves that a step reads, by name. They are looked up in its graph: an equal leaf from
 * another intern table (see `withFreshTable`) is another object.
 */
const leavesOf = (step: Step): ReadonlyMap<string, Node> => {
  const known = read.get(step);
  if (known !== undefined) return known;
  const found = new Map(
    topologicalOrder([...Object.values(step.next), ...Object.values(step.out)])
      .filter((node) => node.op === "local" && node.attributes.level === step.level)
      .map((node) => [node.attributes.name!, node]),
  );
  read.set(step, found);
  return found;
};

/** The `local` leaves of a scan's step by role; those that the step does not read are created. */
export const locals = (node: Node): { carry: Nodes; each: Nodes; rest: readonly Node[] } => {
  const { from, each, rest } = roles(node);
  const { axis, step } = node.attributes;
  const { level } = step!;
  const leaves = leavesOf(step!);
  const leaf = (name: string, axes: Axes, dtype: Dtype): Node =>
    leaves.get(name) ?? local(level, name, axes, dtype);
  const all = (prefix: string, nodes: Nodes, axes: (node: Node) => Axes) =>
    Object.fromEntries(
      Object.keys(nodes).map((key) => [
        key,
        leaf(`${prefix}.${key}`, axes(nodes[key]), nodes[key].dtype),
      ]),
    );
  return {
    carry: all("carry", from, (node) => node.axes),
    each: all("each", each, (node) => drop(node.axes, [axis!])),
    rest: rest.map((node, k) => leaf(`rest.${k}`, node.axes, node.dtype)),
  };
};

/** The sentence for a carry that a step gives other axes or another dtype, as the types have it. */
const drift = (name: string, { axes, dtype }: Node, next: Node): string | undefined => {
  const come = Object.keys(next.axes).find((axis) => !(axis in axes));
  if (come !== undefined) {
    return `the step gives the carry '${name}' the axis '${come}', which it does not start with`;
  }
  const gone = Object.keys(axes).find((axis) => !(axis in next.axes));
  if (gone !== undefined) return `the step loses the axis '${gone}' of the carry '${name}'`;
  const other = Object.keys(axes).find((axis) => axes[axis] !== next.axes[axis]);
  if (other !== undefined) {
    return `axis '${other}' of the carry '${name}' is ${axes[other]} at the start but ` +
      `${next.axes[other]} after the step`;
  }
  return dtype === next.dtype
    ? undefined
    : `the carry '${name}' is ${dtype} at the start but ${next.dtype} after the step`;
};

/** The untyped scan: returns the scan node, whose results {@link part} reads. */
export const scanNode = (
  over: string,
  from: Nodes,
  each: Nodes,
  step: (carry: Nodes, each: Nodes) => { readonly next: Nodes; readonly out: Nodes },
  reverse: boolean,
): Node => {
  const carries = Object.keys(from), eachs = Object.keys(each);
  if (eachs.length === 0) {
    throw new AxisError(`a scan over '${over}' needs at least one input with that axis`);
  }
  const size = each[eachs[0]].axes[over];
  for (const name of eachs) {
    const { axes } = each[name];
    if (!(over in axes)) throw new AxisError(`'${name}' has no axis '${over}' to scan over`);
    if (axes[over] !== size) {
      throw new AxisError(`axis '${over}' is ${size} on the left but ${axes[over]} on the right`);
    }
  }
  const level = depth;
  const carry = Object.fromEntries(
    carries.map((k) => [k, local(level, `carry.${k}`, from[k].axes, from[k].dtype)]),
  );
  const slices = Object.fromEntries(
    eachs.map((k) => [k, local(level, `each.${k}`, drop(each[k].axes, [over]), each[k].dtype)]),
  );
  depth++;
  let traced: { readonly next: Nodes; readonly out: Nodes };
  try {
    traced = step(carry, slices);
  } finally {
    depth--;
  }
  for (const name of carries) {
    const next = traced.next[name];
    if (next === undefined) {
      throw new AxisError(`the step gives no next value for the carry '${name}'`);
    }
    const drifted = drift(name, from[name], next);
    if (drifted !== undefined) throw new AxisError(drifted);
  }
  for (const name of Object.keys(traced.out)) {
    if (over in traced.out[name].axes) {
      throw new AxisError(
        `axis '${over}' already exists in the output '${name}' of a step over it`,
      );
    }
  }
  return close(over, carries, eachs, from, each, level, traced, reverse);
};

/** Closes the step: outside values that it uses become `rest` arguments. */
const close = (
  over: string,
  carries: readonly string[],
  eachs: readonly string[],
  from: Nodes,
  each: Nodes,
  level: number,
  traced: { readonly next: Nodes; readonly out: Nodes },
  reverse: boolean,
): Node => {
  const nextNames = carries, outNames = Object.keys(traced.out);
  const roots = [...nextNames.map((k) => traced.next[k]), ...outNames.map((k) => traced.out[k])];
  const inside = topologicalOrder(roots);
  const own = dependent(inside, level);
  const rest: Node[] = [];
  const capture = (node: Node) => {
    if (!own.has(node) && !isFree(node) && !rest.includes(node)) rest.push(node);
  };
  for (const node of inside) if (own.has(node)) node.args.forEach(capture);
  roots.forEach(capture);
  const by = new Map(
    rest.map((node, k) => [node, local(level, `rest.${k}`, node.axes, node.dtype)]),
  );
  const closed = substitute(roots, by);
  const step: Step = {
    level,
    next: Object.fromEntries(nextNames.map((k, i) => [k, closed[i]])),
    out: Object.fromEntries(outNames.map((k, i) => [k, closed[nextNames.length + i]])),
  };
  const args = [...carries.map((k) => from[k]), ...eachs.map((k) => each[k]), ...rest];
  return intern("scan", "f32", {}, args, { axis: over, reverse, carries, eachs, step });
};
