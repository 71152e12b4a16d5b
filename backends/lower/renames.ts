// Pure renamings move down to what is stored. A layer's result is renamed for its consumer (`out` to
// `channel`); left in place, that hides from the scheduler that producer and consumer walk over the
// same axes and could be one kernel. Below a renaming everything that only it uses is rebuilt with
// the new names, so nothing is computed twice.
import { type Axes, known } from "../../dsl/axes.ts";
import { inPlaceOf, intern, type Node, type Place, reachable } from "../../dsl/node.ts";
import { scalarRow } from "../../dsl/scalar.ts";
import { at, index, isIdentity, reduce } from "../../dsl/structure.ts";

/** New names by old ones; axes that it lacks keep theirs. */
type Names = Readonly<Record<string, string>>;

const none: Names = {};

/** The new names, when an index node does nothing but rename. */
const renaming = (of: Node): Names | undefined => {
  if (of.op !== "index") return undefined;
  const [x] = of.args;
  const names: Record<string, string> = {};
  for (const [axis, place] of Object.entries(of.attributes.places!)) {
    const to = place.terms[0]?.axis;
    if (to === undefined || !isIdentity(place, to) || known(x.axes, axis) !== of.axes[to]) {
      return undefined;
    }
    names[axis] = to;
  }
  const targets = new Set(Object.values(names));
  const bijective = targets.size === Object.keys(x.axes).length &&
    Object.keys(of.axes).length === targets.size;
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

const renamedPlace = (place: Place, names: Names): Place => ({
  ...place,
  terms: place.terms.map((term) => ({ ...term, axis: names[term.axis] ?? term.axis })),
});

/** The same values with renamings as deep as they go without repeating work. */
export const sinkRenames = (roots: readonly Node[]): readonly Node[] => {
  const order = reachable(roots);
  const users = new Map<Node, number>();
  const count = (of: Node) => users.set(of, (users.get(of) ?? 0) + 1);
  for (const of of order) new Set(of.args).forEach(count);
  roots.forEach(count);

  const plain = new Map<Node, Node>();
  /** `of` under new names; only what has this one user is rebuilt. */
  const under = (of: Node, names: Names): Node => {
    const own = Object.keys(of.axes).filter((axis) => (names[axis] ?? axis) !== axis);
    if (own.length === 0) return plain.get(of)!;
    const mine: Names = Object.fromEntries(own.map((axis) => [axis, names[axis]]));
    if (users.get(of)! > 1) return wrapped(plain.get(of)!, mine);
    return inPlaceOf(of, () => {
      const inner = renaming(of);
      if (inner !== undefined) {
        const through = Object.entries(inner).map(([axis, to]) => [axis, mine[to] ?? to]);
        return under(of.args[0], Object.fromEntries(through));
      }
      if (scalarRow(of.op) !== undefined || of.op === "stop" || of.op === "recompute") {
        const args = of.args.map((arg) => under(arg, mine));
        return intern(of.op, of.dtype, renamedAxes(of.axes, mine), args, of.attributes);
      }
      if (of.op === "reduce") {
        const [x] = of.args;
        const taken = new Set([...Object.keys(x.axes), ...Object.values(mine)]);
        const all: Record<string, string> = { ...mine };
        for (const axis of of.attributes.over!) {
          if (!Object.values(mine).includes(axis)) continue;
          let free = `${axis}'`;
          while (taken.has(free)) free += "'";
          taken.add(free);
          all[axis] = free;
        }
        const over = of.attributes.over!.map((axis) => all[axis] ?? axis);
        const fresh = over.filter((axis) => !(axis in x.axes));
        // A name that only makes room here stays here: below, it would part what is one kernel.
        const beneath = (arg: Node): Node =>
          Object.keys(arg.axes).some((axis) => fresh.includes(all[axis]))
            ? wrapped(plain.get(arg)!, restricted(all, arg.axes))
            : under(arg, all);
        const inner = fresh.length > 0 && scalarRow(x.op) !== undefined && users.get(x) === 1
          ? intern(x.op, x.dtype, renamedAxes(x.axes, all), x.args.map(beneath), x.attributes)
          : under(x, all);
        return reduce(inner, of.attributes.how!, over);
      }
      if (of.op === "index") {
        const { places, fill } = of.attributes;
        const moved = Object.entries(places!).map(([axis, place]) =>
          [axis, renamedPlace(place, mine)] as const
        );
        const axes = renamedAxes(of.axes, mine);
        return index(plain.get(of.args[0])!, axes, Object.fromEntries(moved), fill);
      }
      return wrapped(plain.get(of)!, mine);
    });
  };

  for (const of of order) {
    const names = renaming(of);
    if (names !== undefined) {
      plain.set(of, under(of.args[0], names));
      continue;
    }
    const args = of.args.map((arg) => plain.get(arg)!);
    const same = args.every((arg, k) => arg === of.args[k]);
    const { op, dtype, axes, attributes } = of;
    plain.set(of, same ? of : inPlaceOf(of, () => intern(op, dtype, axes, args, attributes)));
  }
  return roots.map((root) => plain.get(root) ?? under(root, none));
};
