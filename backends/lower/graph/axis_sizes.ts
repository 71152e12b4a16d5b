// One size per axis name in a whole program. The language gives one name several sizes: a slice, a
// pad or another input has its own `time`. In the compiler, equal axis names mean the same
// iteration space, so a name with several sizes keeps the most frequent one and gets a new name for
// each of the others: `time` of 80 and of 48 become `time` and `time:48`. Sizes change only at
// movements along an axis, so this only renames.
import { type Axes, sizeOf } from "../../../dsl/axes.ts";
import {
  type Attributes,
  intern,
  type Node,
  topologicalOrder,
  withPathOf,
} from "../../../dsl/node.ts";

type Nodes = Readonly<Record<string, Node>>;

/** All nodes below some roots, those of the steps of scans too. */
export const withSteps = (roots: readonly Node[]): readonly Node[] => {
  const seen = new Set<Node>();
  const enter = (some: readonly Node[]) => {
    for (const node of topologicalOrder(some)) {
      if (seen.has(node)) continue;
      seen.add(node);
      const { step } = node.attributes;
      if (step !== undefined) enter([...Object.values(step.next), ...Object.values(step.out)]);
    }
  };
  enter(roots);
  return [...seen];
};

/** The new name of an axis, by its name and size. */
type Naming = (axis: string, size: number) => string;

/** A naming that gives each name one size; undefined if every name has one already. */
const namingOf = (roots: readonly Node[]): Naming | undefined => {
  const sizes = new Map<string, Map<number, number>>();
  for (const { axes } of withSteps(roots)) {
    for (const axis of Object.keys(axes)) {
      const counts = sizes.get(axis) ?? new Map<number, number>();
      const size = sizeOf(axes, axis);
      sizes.set(axis, counts.set(size, (counts.get(size) ?? 0) + 1));
    }
  }
  const names = new Map<string, string>();
  const taken = new Set(sizes.keys());
  for (const [axis, counts] of sizes) {
    if (counts.size < 2) continue;
    const most = Math.max(...counts.values());
    const plain = [...counts].find(([, count]) => count === most)![0];
    for (const size of counts.keys()) {
      if (size === plain) continue;
      let name = `${axis}:${size}`;
      while (taken.has(name)) name += "'";
      taken.add(name);
      names.set(`${axis} ${size}`, name);
    }
  }
  return names.size === 0 ? undefined : (axis, size) => names.get(`${axis} ${size}`) ?? axis;
};

/** Roots in which each axis name has one size, and the new names of their axes. */
export interface UnifiedSizes {
  readonly roots: readonly Node[];
  /** New names of the axes of root `k`, in the order of `axes`. */
  readonly order: (k: number, axes: readonly string[]) => readonly string[];
}

/** The same values with one size for one axis name. */
export const unifyAxisSizes = (roots: readonly Node[]): UnifiedSizes => {
  const naming = namingOf(roots);
  if (naming === undefined) return { roots, order: (_, axes) => axes };
  const nameIn = (axes: Axes, axis: string) => naming(axis, sizeOf(axes, axis));
  const renamed = (axes: Axes): Axes =>
    Object.fromEntries(Object.entries(axes).map(([axis, size]) => [nameIn(axes, axis), size]));
  const done = new Map<Node, Node>();
  const attributesOf = ({ attributes, args, axes }: Node): Attributes => {
    const { over, axis, places, carries, step } = attributes;
    const [x] = args;
    if (over !== undefined) {
      return { ...attributes, over: over.map((one) => nameIn(x.axes, one)).sort() };
    }
    if (places !== undefined) {
      const moved = Object.entries(places).map(([from, place]) => {
        const terms = place.terms.map((term) => ({ ...term, axis: nameIn(axes, term.axis) }));
        return [nameIn(x.axes, from), { ...place, terms }];
      });
      return { ...attributes, places: Object.fromEntries(moved) };
    }
    if (step !== undefined) {
      const all = (nodes: Nodes): Nodes =>
        Object.fromEntries(
          Object.keys(nodes).map((name) => [name, done.get(nodes[name])!]),
        );
      rename([...Object.values(step.next), ...Object.values(step.out)]);
      return {
        ...attributes,
        axis: nameIn(args[carries!.length].axes, axis!),
        step: { ...step, next: all(step.next), out: all(step.out) },
      };
    }
    if (axis === undefined) return attributes;
    // A gather's axis is one of its first argument; an iota's axis is its own.
    return { ...attributes, axis: nameIn(x === undefined ? axes : x.axes, axis) };
  };
  const rename = (some: readonly Node[]): void => {
    for (const node of topologicalOrder(some)) {
      if (done.has(node)) continue;
      const args = node.args.map((arg) => done.get(arg)!);
      done.set(
        node,
        withPathOf(
          node,
          () => intern(node.op, node.dtype, renamed(node.axes), args, attributesOf(node)),
        ),
      );
    }
  };
  rename(roots);
  return {
    roots: roots.map((root) => done.get(root)!),
    order: (k, axes) => axes.map((axis) => nameIn(roots[k].axes, axis)),
  };
};
