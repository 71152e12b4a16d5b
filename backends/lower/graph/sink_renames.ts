// Sinks pure renamings towards the leaves. A layer's result is renamed for its consumer (`out` to
// `channel`); in place, that hides from fusion that both have the same iteration space. Below a
// renaming, values without other users are rebuilt under the new names, so nothing is computed
// twice.
import { type Axes, sizeOf } from "../../../dsl/axes.ts";
import {
  type AffineIndex,
  intern,
  type Node,
  topologicalOrder,
  withPathOf,
} from "../../../dsl/node.ts";
import { scalarRow } from "../../../dsl/primitives.ts";
import { at, index, isIdentity, reduce } from "../../../dsl/structure.ts";
import { ascend, descend } from "../../../dsl/walk.ts";

/** New names by old ones; missing axes keep their names. */
type Names = Readonly<Record<string, string>>;

const none: Names = {};

/** The new names, if an index node only renames. */
const renaming = (node: Node): Names | undefined => {
  if (node.op !== "index") return undefined;
  const [x] = node.args;
  const names: Record<string, string> = {};
  for (const [axis, place] of Object.entries(node.attributes.places!)) {
    const to = place.terms[0]?.axis;
    if (to === undefined || !isIdentity(place, to) || sizeOf(x.axes, axis) !== node.axes[to]) {
      return undefined;
    }
    names[axis] = to;
  }
  const targets = new Set(Object.values(names));
  const bijective = targets.size === Object.keys(x.axes).length &&
    Object.keys(node.axes).length === targets.size;
  return bijective ? names : undefined;
};

const renamedAxes = (axes: Axes, names: Names): Axes =>
  Object.fromEntries(Object.entries(axes).map(([axis, size]) => [names[axis] ?? axis, size]));

const wrapped = (x: Node, names: Names): Node =>
  index(
    x,
    renamedAxes(x.axes, names),
    Object.fromEntries(Object.keys(x.axes).map((axis) => [axis, at(names[axis] ?? axis)])),
  );

const restricted = (names: Names, axes: Axes): Names =>
  Object.fromEntries(Object.entries(names).filter(([axis]) => axis in axes));

const renamedPlace = (place: AffineIndex, names: Names): AffineIndex => ({
  ...place,
  terms: place.terms.map((term) => ({ ...term, axis: names[term.axis] ?? term.axis })),
});

/** A value under new names; without new names, the value itself. */
interface Wanted {
  readonly of: Node;
  readonly names: Names;
}

/** How a value is made from others. */
interface Way {
  readonly from: readonly Wanted[];
  readonly make: (args: readonly Node[]) => Node;
}

const sameNames = (node: Node, names: Names): boolean =>
  Object.keys(node.axes).every((axis) => (names[axis] ?? axis) === axis);

/** How a value is made under its own names: a renaming from its argument under the new ones. */
const plainly = (node: Node): Way => {
  const names = renaming(node);
  if (names !== undefined) return { from: [{ of: node.args[0], names }], make: ([x]) => x };
  const { op, dtype, axes, attributes } = node;
  return {
    from: node.args.map((arg) => ({ of: arg, names: none })),
    make: (args) => {
      const same = args.every((arg, k) => arg === node.args[k]);
      return same ? node : withPathOf(node, () => intern(op, dtype, axes, args, attributes));
    },
  };
};

/** How a value is made under new names; only values with a single user (`isAlone`) are rebuilt. */
const renamed = (node: Node, names: Names, isAlone: (node: Node) => boolean): Way => {
  const own = Object.keys(node.axes).filter((axis) => (names[axis] ?? axis) !== axis);
  const mine: Names = Object.fromEntries(own.map((axis) => [axis, names[axis]]));
  const plain = (node: Node): Wanted => ({ of: node, names: none });
  const wrappedHere: Way = { from: [plain(node)], make: ([x]) => wrapped(x, mine) };
  if (!isAlone(node)) return wrappedHere;
  const inner = renaming(node);
  if (inner !== undefined) {
    const through = Object.entries(inner).map(([axis, to]) => [axis, mine[to] ?? to]);
    return { from: [{ of: node.args[0], names: Object.fromEntries(through) }], make: ([x]) => x };
  }
  if (scalarRow(node.op) !== undefined || node.op === "stop" || node.op === "recompute") {
    return {
      from: node.args.map((arg) => ({ of: arg, names: mine })),
      make: (args) =>
        intern(node.op, node.dtype, renamedAxes(node.axes, mine), args, node.attributes),
    };
  }
  if (node.op === "reduce") return renamedSum(node, mine, isAlone);
  if (node.op === "index") {
    const { places, fill } = node.attributes;
    const moved = Object.entries(places!).map(([axis, place]) =>
      [axis, renamedPlace(place, mine)] as const
    );
    const axes = renamedAxes(node.axes, mine);
    return {
      from: [plain(node.args[0])],
      make: ([x]) => index(x, axes, Object.fromEntries(moved), fill),
    };
  }
  return wrappedHere;
};

const renamedSum = (node: Node, mine: Names, isAlone: (node: Node) => boolean): Way => {
  const [x] = node.args;
  const taken = new Set([...Object.keys(x.axes), ...Object.values(mine)]);
  const all: Record<string, string> = { ...mine };
  for (const axis of node.attributes.over!) {
    if (!Object.values(mine).includes(axis)) continue;
    let free = `${axis}'`;
    while (taken.has(free)) free += "'";
    taken.add(free);
    all[axis] = free;
  }
  const over = node.attributes.over!.map((axis) => all[axis] ?? axis);
  const fresh = over.filter((axis) => !(axis in x.axes));
  const sum = (inner: Node) => reduce(inner, node.attributes.how!, over);
  if (fresh.length === 0 || scalarRow(x.op) === undefined || !isAlone(x)) {
    return { from: [{ of: x, names: all }], make: ([x]) => sum(x) };
  }
  // A name that only avoids a clash is kept local: further down it would separate what is one
  // kernel.
  const staysHere = (arg: Node) => Object.keys(arg.axes).some((axis) => fresh.includes(all[axis]));
  return {
    from: x.args.map((arg) => ({ of: arg, names: staysHere(arg) ? none : all })),
    make: (args) => {
      const inner = args.map((made, k) => {
        const arg = x.args[k];
        return staysHere(arg) ? wrapped(made, restricted(all, arg.axes)) : made;
      });
      return sum(intern(x.op, x.dtype, renamedAxes(x.axes, all), inner, x.attributes));
    },
  };
};

/** The same values with renamings as deep as possible without recomputing anything. */
export const sinkRenames = (roots: readonly Node[]): readonly Node[] => {
  const order = topologicalOrder(roots);
  const users = new Map<Node, number>();
  const count = (node: Node) => users.set(node, (users.get(node) ?? 0) + 1);
  for (const node of order) new Set(node.args).forEach(count);
  roots.forEach(count);
  const isAlone = (node: Node) => users.get(node)! <= 1;

  const plain = new Map<Node, Node>();
  const isPlain = ({ of: node, names }: Wanted) => sameNames(node, names);
  const wayOf = ({ of: node, names }: Wanted): Way =>
    withPathOf(node, () => renamed(node, names, isAlone));

  // A value whose only user wants it under other names is not made under its own.
  const wanted = new Set<Node>();
  descend<Wanted>(roots.map((node) => ({ of: node, names: none })), (one) => {
    if (!isPlain(one)) return wayOf(one).from;
    if (wanted.has(one.of)) return [];
    wanted.add(one.of);
    return plainly(one.of).from;
  });

  for (const node of order) {
    if (!wanted.has(node)) continue;
    const made = new Map<Wanted, Node>();
    const ways = new Map<Wanted, Way>();
    const below = (one: Wanted): readonly Wanted[] => {
      if (one.of !== node && isPlain(one)) return [];
      const way = one.of === node ? plainly(node) : wayOf(one);
      ways.set(one, way);
      return way.from;
    };
    const value = ascend<Wanted, Node>({ of: node, names: none }, made, below, (one) => {
      const way = ways.get(one);
      if (way === undefined) return plain.get(one.of)!;
      const args = way.from.map((arg) => made.get(arg)!);
      return one.of === node ? way.make(args) : withPathOf(one.of, () => way.make(args));
    });
    plain.set(node, value);
  }
  return roots.map((root) => plain.get(root)!);
};
