// What the printer of scans must know of a step before it prints it: where a carry is read, what no
// step changes, what two scans compute alike, sums without the factors that they need not have, and
// a second copy of a step to stand beside the first.
import { inPlaceOf, intern, type Node, reachable, rewrite } from "../../dsl/node.ts";
import { apply } from "../../dsl/scalar.ts";
import { locals, roles, substitute } from "../../dsl/scan.ts";
import { expand, reduce } from "../../dsl/structure.ts";
import { costOf } from "../lower/costs.ts";
import { dependents, movedAxes } from "../lower/together.ts";

/**
 * How a value reads a leaf: not at all, at its own position, or at others too. Sums are added up
 * before they are read, so they read nothing themselves.
 */
export const readsOf = (root: Node, leaf: Node): "no" | "own" | "others" => {
  const memo = new Map<Node, "no" | "own" | "others">();
  const look = (of: Node): "no" | "own" | "others" => {
    if (of === leaf) return "own";
    if (of.op === "reduce") return "no";
    const known = memo.get(of);
    if (known !== undefined) return known;
    const below = of.args.map(look);
    const found = below.includes("others") || (movedAxes(of).length > 0 && below.includes("own"))
      ? "others"
      : below.includes("own")
      ? "own"
      : "no";
    memo.set(of, found);
    return found;
  };
  return look(root);
};

/**
 * What the steps read but do not change, as large as can be: values that depend on `changing` leaves
 * in no way. None where steps move along axes, as such values would be read at other lanes too.
 */
export const steadyIn = (roots: readonly Node[], changing: readonly Node[]): readonly Node[] => {
  const nodes = reachable(roots);
  const moving = dependents(nodes, changing);
  if (nodes.some((of) => moving.has(of) && movedAxes(of).length > 0)) return [];
  const read = nodes.filter((of) => moving.has(of)).flatMap((of) => of.args);
  return [...new Set([...roots, ...read])].filter((of) => !moving.has(of) && of.op !== "const");
};

/** Whether a value is its argument, at all positions of further axes. */
const isExpanded = (of: Node): boolean =>
  of.op === "index" && movedAxes(of).length === 0 &&
  Object.entries(of.args[0].axes).every(([axis, size]) => of.axes[axis] === size);

const factorsOf = (of: Node): readonly Node[] =>
  (of.op === "mul" && of.dtype === "f32") || isExpanded(of) ? of.args.flatMap(factorsOf) : [of];

/**
 * The same values, sums having no factors that lack the summed axes: those are multiplied by once,
 * afterwards, and sums that differ in nothing else are then one.
 */
export const withoutFactors = (roots: readonly Node[]): readonly Node[] =>
  rewrite(roots, (of) => {
    if (of.op !== "reduce" || of.attributes.how !== "add") return of;
    const { over } = of.attributes;
    const factors = [...factorsOf(of.args[0])].sort((a, b) => a.id - b.id);
    const isInside = (one: Node) => over!.some((axis) => axis in one.axes);
    const inside = factors.filter(isInside);
    const axes = new Set(inside.flatMap((one) => Object.keys(one.axes)));
    if (inside.length === factors.length || !over!.every((axis) => axes.has(axis))) return of;
    const product = (list: readonly Node[]) => list.reduce((a, b) => apply("mul", a, b));
    return inPlaceOf(of, () => {
      const outside = factors.filter((one) => !isInside(one));
      return expand(product([reduce(product(inside), "add", over!), ...outside]), of.axes);
    });
  });

/** The most frequent pair among some lists, if it is in more than one. */
const commonPair = (lists: Iterable<readonly Node[]>): readonly [Node, Node] | undefined => {
  const counts = new Map<
    string,
    { readonly pair: readonly [Node, Node]; readonly count: number }
  >();
  for (const list of lists) {
    const seen = new Set<string>();
    list.forEach((a, k) =>
      list.slice(k + 1).forEach((b) => {
        const pair = a.id < b.id ? [a, b] as const : [b, a] as const;
        const key = `${pair[0].id} ${pair[1].id}`;
        if (seen.has(key)) return;
        seen.add(key);
        counts.set(key, { pair, count: (counts.get(key)?.count ?? 0) + 1 });
      })
    );
  }
  const best = [...counts.values()].reduce<{ pair: readonly [Node, Node]; count: number }>(
    (a, b) => b.count > a.count ? b : a,
    { pair: [] as never, count: 1 },
  );
  return best.count > 1 ? best.pair : undefined;
};

/**
 * The same values, products being built so that what several of them have in common is one value.
 * Only `isInner` factors count; the others are multiplied by each other, outside of loops.
 */
export const sharedProducts = (
  roots: readonly Node[],
  isInner: (of: Node) => boolean,
): readonly Node[] => {
  const nodes = reachable(roots);
  const isProduct = (of: Node) => of.op === "mul" && of.dtype === "f32";
  const whole = new Set([
    ...roots,
    ...nodes.filter((of) => !isProduct(of) && !isExpanded(of)).flatMap((of) => of.args),
  ].filter((of) => factorsOf(of).length > 1));
  const inner = new Map([...whole].map((of) => [of, factorsOf(of).filter(isInner)] as const));
  const keyOf = (list: readonly Node[]) => list.map(({ id }) => id).sort((a, b) => a - b).join();
  const there = new Map(nodes.filter(isProduct).map((of) => [keyOf(factorsOf(of)), of]));
  const pairs = new Set<Node>();
  const changed = new Set<Node>();
  for (;;) {
    const pair = commonPair(inner.values());
    if (pair === undefined) break;
    const both = there.get(keyOf(pair)) ?? apply("mul", ...pair);
    pairs.add(both);
    for (const [of, list] of inner) {
      if (!pair.every((one) => list.includes(one))) continue;
      const rest = [...list];
      pair.forEach((one) => rest.splice(rest.indexOf(one), 1));
      inner.set(of, [...rest, both]);
      changed.add(of);
    }
  }
  const made = new Map<Node, Node>();
  const product = (list: readonly Node[]) => list.map(make).reduce((a, b) => apply("mul", a, b));
  const build = (of: Node): Node => {
    if (changed.has(of) && !pairs.has(of)) {
      const outer = factorsOf(of).filter((one) => !isInner(one));
      const parts = [outer, inner.get(of)!].filter((list) => list.length > 0).map(product);
      return expand(parts.reduce((a, b) => apply("mul", a, b)), of.axes);
    }
    const args = of.args.map(make);
    if (args.every((arg, k) => arg === of.args[k])) return of;
    return intern(of.op, of.dtype, of.axes, args, of.attributes);
  };
  const make = (of: Node): Node => {
    const found = made.get(of) ?? inPlaceOf(of, () => build(of));
    made.set(of, found);
    return found;
  };
  return roots.map(make);
};

/** Values take so much to compute, in additions, that it pays to keep them in scratch memory. */
const worthKeeping = 8;

/** What the steps of a scan compute, and what their leaves stand for. */
export interface Steps {
  readonly scan: Node;
  readonly leaves: ReturnType<typeof locals>;
  readonly roots: readonly Node[];
}

/** How the values of steps may be computed. */
export interface Around {
  /** Whether a value is computed from its arguments, or is stored. */
  readonly isOpen: (of: Node) => boolean;
  readonly isStored: (of: Node) => boolean;
  /** The axes that lanes hold, which are looped over. */
  readonly held: ReadonlySet<string>;
}

/** What is known of a value of a step. */
interface Found {
  /** The node that it is with leaves replaced by what they stand for. */
  readonly as: Node;
  /** It does not change with carries; and whether it does with time. */
  readonly fixed: boolean;
  readonly timed: boolean;
  /** What it takes to compute it from what is stored, in additions. */
  readonly cost: number;
}

interface Looked {
  readonly seen: ReadonlyMap<Node, Found>;
  /** What is read at other places than where it is computed. */
  readonly elsewhere: ReadonlySet<Node>;
  readonly standsFor: ReadonlyMap<Node, Node>;
}

/** Looks at all that steps compute, through their leaves to what those stand for. */
const lookAt = (
  { scan, leaves, roots }: Steps,
  { isOpen, isStored, held }: Around,
): Looked => {
  const { each, rest } = roles(scan);
  const time = scan.attributes.axis!;
  const standsFor = new Map<Node, Node>([
    ...Object.entries(leaves.each).map(([name, leaf]) => [leaf, each[name]] as const),
    ...leaves.rest.map((leaf, k) => [leaf, rest[k]] as const),
  ]);
  const seen = new Map<Node, Found>();
  const elsewhere = new Set<Node>();
  const look = (of: Node): Found => {
    const found = seen.get(of);
    if (found !== undefined) return found;
    const other = standsFor.get(of);
    const below = other !== undefined ? [look(other)] : isOpen(of) ? of.args.map(look) : [];
    const as = other !== undefined ? below[0].as : intern(
      of.op,
      of.dtype,
      of.axes,
      of.args.map((arg, k) => below[k]?.as ?? arg),
      of.attributes,
    );
    const made: Found = {
      as,
      fixed: (other !== undefined || isOpen(of) || isStored(of)) &&
        below.every(({ fixed }) => fixed),
      timed: time in of.axes || below.some(({ timed }) => timed),
      cost: below.reduce((sum, { cost }) => sum + cost, isOpen(of) ? costOf(of) : 0),
    };
    seen.set(of, made);
    return made;
  };
  roots.forEach(look);
  const leave = (of: Node): void => {
    if (elsewhere.has(of)) return;
    elsewhere.add(of);
    const other = standsFor.get(of);
    (other !== undefined ? [other] : isOpen(of) ? of.args : []).forEach(leave);
  };
  for (const of of seen.keys()) {
    const other = of.op === "reduce"
      ? of.attributes.over!.filter((axis) => !held.has(axis))
      : movedAxes(of);
    if (isOpen(of) && other.length > 0) of.args.forEach(leave);
  }
  return { seen, elsewhere, standsFor };
};

/**
 * Values of steps that are worth keeping, each by the node that it is with leaves replaced by what
 * they stand for: those that change with time but not with carries, and are read where they are
 * computed.
 */
const worthwhile = (steps: Steps, around: Around): ReadonlyMap<Node, Node> => {
  const { seen, elsewhere } = lookAt(steps, around);
  return new Map(
    [...seen].flatMap(([of, { as, fixed, timed }]) =>
      fixed && timed && costOf(of) >= worthKeeping && around.isOpen(of) && !elsewhere.has(of)
        ? [[as, of] as const]
        : []
    ),
  );
};

/**
 * What is worth computing before steps run, as large as can be: values that change with time but not
 * with carries, and have none of the axes that are held.
 */
export const aheadIn = (steps: Steps, around: Around): readonly Node[] => {
  const { seen, elsewhere, standsFor } = lookAt(steps, around);
  const found = new Set<Node>(), visited = new Set<Node>();
  const visit = (of: Node): void => {
    if (visited.has(of) || elsewhere.has(of)) return;
    visited.add(of);
    const { fixed, timed, cost } = seen.get(of)!;
    const other = standsFor.get(of);
    if (other !== undefined) return visit(other);
    const isLoose = !Object.keys(of.axes).some((axis) => around.held.has(axis));
    if (fixed && timed && isLoose) {
      if (cost >= worthKeeping) found.add(of);
    } else if (around.isOpen(of)) of.args.forEach(visit);
  };
  steps.roots.forEach(visit);
  return [...found];
};

/** What is worth keeping of the first steps for the second ones: a value of those, and of these. */
export const alike = (
  first: Steps,
  second: Steps,
  around: Around,
): readonly (readonly [Node, Node])[] => {
  const there = worthwhile(second, around);
  return [...worthwhile(first, around)].flatMap(([as, of]) => {
    const found = there.get(as);
    return found === undefined ? [] : [[of, found] as const];
  });
};

/** Axes without some. */
export const without = (axes: Node["axes"], names: readonly string[]): Node["axes"] =>
  Object.fromEntries(Object.entries(axes).filter(([axis]) => !names.includes(axis)));

/** The step of a scan on locals of its own, so that it can stand beside another's. */
export const renewed = (scan: Node) => {
  const leaves = locals(scan);
  const by = new Map<Node, Node>();
  const renew = (of: Node): Node => {
    const made = intern("local", of.dtype, of.axes, [], { level: -1, name: of.attributes.name });
    by.set(of, made);
    return made;
  };
  const record = (of: Readonly<Record<string, Node>>) =>
    Object.fromEntries(Object.entries(of).map(([name, leaf]) => [name, renew(leaf)]));
  const made = {
    carry: record(leaves.carry),
    each: record(leaves.each),
    rest: leaves.rest.map(renew),
  };
  const names = Object.keys(scan.attributes.step!.next);
  const next = substitute(names.map((name) => scan.attributes.step!.next[name]), by);
  return { leaves: made, next: Object.fromEntries(names.map((name, k) => [name, next[k]])) };
};
