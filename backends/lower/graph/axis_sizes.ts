// One size for one axis name, in a whole program. The language gives one name several sizes: a slice,
// a pad or another input has its own `time`. From here on two values lie in the same iteration space
// where their axes have the same names, so an axis name that comes with several sizes gets a name
// of its own for each of them but the most frequent one: `time` of 80 and `time` of 48 become `time`
// and `time:48`. Movements along an axis are where sizes change, so it is a renaming and no more.
import { type Axes, known } from "../../../dsl/axes.ts";
import { type Attributes, inPlaceOf, intern, type Node, reachable } from "../../../dsl/node.ts";

type Nodes = Readonly<Record<string, Node>>;

/** All nodes below some roots, those of the steps of scans too. */
export const withSteps = (roots: readonly Node[]): readonly Node[] => {
  const seen = new Set<Node>();
  const enter = (some: readonly Node[]) => {
    for (const node of reachable(some)) {
      if (seen.has(node)) continue;
      seen.add(node);
      const { step } = node.attributes;
      if (step !== undefined) enter([...Object.values(step.next), ...Object.values(step.out)]);
    }
  };
  enter(roots);
  return [...seen];
};

/** What an axis is called, by its name and size. */
type Naming = (axis: string, size: number) => string;

/** A naming under which each name has one size; undefined where that is so already. */
const namingOf = (roots: readonly Node[]): Naming | undefined => {
  const sizes = new Map<string, Map<number, number>>();
  for (const { axes } of withSteps(roots)) {
    for (const axis of Object.keys(axes)) {
      const counts = sizes.get(axis) ?? new Map<number, number>();
      const size = known(axes, axis);
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

/** Values in which each axis name has one size, and what the axes of the given ones are called now. */
export interface OneSize {
  readonly roots: readonly Node[];
  /** The names of the axes of the root number `k`, in the order of `axes`. */
  readonly order: (k: number, axes: readonly string[]) => readonly string[];
}

/** The same values with one size for one axis name. */
export const withOneSize = (roots: readonly Node[]): OneSize => {
  const naming = namingOf(roots);
  if (naming === undefined) return { roots, order: (_, axes) => axes };
  const nameIn = (axes: Axes, axis: string) => naming(axis, known(axes, axis));
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
    // A look-up names an axis of what it looks up, positions one of their own.
    return { ...attributes, axis: nameIn(x === undefined ? axes : x.axes, axis) };
  };
  const rename = (some: readonly Node[]): void => {
    for (const node of reachable(some)) {
      if (done.has(node)) continue;
      const args = node.args.map((arg) => done.get(arg)!);
      done.set(
        node,
        inPlaceOf(
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
