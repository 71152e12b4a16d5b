// VJP rules of the structural primitives: from the cotangent of a result to those of the arguments.
// Those of scalar primitives are in primitives.ts; that of a scan is in grad.ts, since it is a
// walk.
import { type Axes, sameAxes, sizeOf } from "./axes.ts";
import { type AffineIndex, intern, type Node } from "./node.ts";
import { apply, float } from "./primitives.ts";
import { at, expand, iota, isIdentity, reduce } from "./structure.ts";

/** A cotangent for an argument, with the axes that it stands for (those it lacks are constant). */
export interface Vjp {
  readonly arg: Node;
  readonly cotangent: Node;
  readonly over: Axes;
}

const pullReduce = (g: Node, node: Node): readonly Vjp[] => {
  const [x] = node.args;
  if (node.attributes.how === "add") return [{ arg: x, cotangent: g, over: x.axes }];
  // All positions that attain the maximum share the cotangent.
  const attains = apply("select", apply("equal", x, node), float(1), float(0));
  const count = reduce(attains, "add", node.attributes.over!);
  const cotangent = apply("mul", apply("div", g, count), attains);
  return [{ arg: x, cotangent, over: x.axes }];
};

/**
 * The transpose of an index node. Each input axis is a sum of digits over output axes; digits that
 * do not overlap are recovered by division, else all but one are summed over.
 */
const pullIndex = (given: Node, node: Node): readonly Vjp[] => {
  const [x] = node.args;
  const { places } = node.attributes;
  // A cotangent that lacks axes is constant along them; it is expanded before it is moved.
  const g = expand(given, node.axes);
  const back: Record<string, AffineIndex> = {};
  const used = new Set<string>();
  const summed: Record<string, number> = {};
  let axes: Axes = x.axes;
  const conditions: Node[] = [];
  const merged = new Map<
    string,
    { readonly axis: string; readonly over: number; readonly plus: number }[]
  >();
  // Input axes that read a single output axis determine it first: where several output axes are
  // added, those that are determined already are no longer free.
  const ordered = Object.entries(places!).sort(([, a], [, b]) => a.terms.length - b.terms.length);
  const digitsOf = (of: string) =>
    ordered.filter(([, { terms }]) => terms.length === 1 && terms[0].axis === of).length;
  for (const [axis, place] of ordered) {
    const { terms, offset, divisor, exact, modulo } = place;
    terms.forEach((term) => used.add(term.axis));
    if (terms.length === 0) {
      conditions.push(apply("equal", iota(axis, x.axes[axis]), constantU32(offset)));
    } else if (terms.length === 1 && exact) {
      // position = (o * times + plus) / over where it divides, so o = (position * over - plus) / times.
      const [{ axis: o, times }] = terms;
      back[o] = { ...at(axis, divisor / times, -offset / times) };
    } else if (
      terms.length === 1 && (modulo > 0 || divisor > 1 || digitsOf(terms[0].axis) > 1)
    ) {
      const parts = merged.get(terms[0].axis) ?? [];
      merged.set(terms[0].axis, [...parts, { axis, over: divisor, plus: offset }]);
    } else if (terms.length === 1 && Math.abs(terms[0].times) === 1) {
      const [{ axis: o, times }] = terms;
      back[o] = at(axis, times, -offset * times);
    } else {
      const digits = [...terms].sort((a, b) =>
        Math.abs(a.times) - Math.abs(b.times) ||
        sizeOf(node.axes, a.axis) - sizeOf(node.axes, b.axis)
      );
      const positive = digits.every((digit) => digit.times > 0);
      let span = 0;
      const settled = (term: { readonly axis: string }) => term.axis in back;
      const separate = !exact && positive && !terms.some(settled) && digits.every((digit) => {
        const clear = digit.times > span;
        span += digit.times * (sizeOf(node.axes, digit.axis) - 1);
        return clear;
      });
      const dense = separate && digits[0].times === 1 &&
        digits.every((digit, k) =>
          k === 0 || digit.times === digits[k - 1].times * sizeOf(node.axes, digits[k - 1].axis)
        );
      if (dense) {
        digits.forEach((digit, k) => {
          const last = k === digits.length - 1;
          back[digit.axis] = {
            terms: [{ axis, times: 1 }],
            offset: -offset,
            divisor: digit.times,
            exact: false,
            modulo: last ? 0 : sizeOf(node.axes, digit.axis),
          };
        });
      } else {
        // sum(terms) + plus = position * over, solved for the pivot; the others are summed over.
        const open = digits.filter((term) => !settled(term));
        const pivot = exact ? terms.find((term) => !settled(term))! : open[open.length - 1];
        const others = terms.filter((term) => term !== pivot);
        // The summed axes get new names, as an output axis may have the name of an input axis.
        for (const other of others.filter((term) => !settled(term))) {
          const free = `${other.axis} of ${axis}`;
          back[other.axis] = at(free);
          summed[free] = sizeOf(node.axes, other.axis);
        }
        const inner = others.map((other) => ({ times: other.times, place: back[other.axis] }));
        const sign = Math.sign(pivot.times);
        back[pivot.axis] = {
          terms: [
            { axis, times: divisor * sign },
            ...inner.flatMap(({ times, place }) =>
              place.terms.map((term) => ({ axis: term.axis, times: -times * sign * term.times }))
            ),
          ],
          offset: -sign *
            inner.reduce((sum, { times, place }) => sum + times * place.offset, offset),
          divisor: Math.abs(pivot.times),
          exact: Math.abs(pivot.times) > 1,
          modulo: 0,
        };
        axes = { ...axes, ...summed };
      }
    }
  }
  for (const [axis, parts] of merged) {
    back[axis] = {
      terms: parts.map((part) => ({ axis: part.axis, times: part.over })),
      offset: -parts[0].plus,
      divisor: 1,
      exact: false,
      modulo: 0,
    };
  }
  // Output axes that no input axis reads were broadcast; their cotangents add up.
  const broadcast = Object.keys(node.axes).filter((axis) => !used.has(axis));
  const summand = reduce(g, "add", broadcast);
  const moved = intern("index", "f32", axes, [summand], { places: back, fill: 0 });
  let cotangent = reduce(stillIdentity(moved) ? summand : moved, "add", Object.keys(summed));
  for (const condition of conditions) {
    cotangent = apply("select", condition, cotangent, float(0));
  }
  return [{ arg: x, cotangent, over: { ...x.axes } }];
};

const stillIdentity = (node: Node): boolean =>
  sameAxes(node.axes, node.args[0].axes) &&
  Object.entries(node.attributes.places!).every(([axis, place]) => isIdentity(place, axis));

const constantU32 = (value: number): Node => intern("const", "u32", {}, [], { value });

const pullGather = (g: Node, node: Node): readonly Vjp[] => {
  const [x, positions] = node.args;
  const { axis } = node.attributes;
  // The transpose of a gather, as a sum over the positions that read each element: no atomics
  // needed. Positions beyond the end read the last element, so they count for it.
  const last = constantU32(sizeOf(x.axes, axis!) - 1);
  const inside = apply("select", apply("less", positions, last), positions, last);
  const hit = apply("equal", inside, iota(axis!, x.axes[axis!]));
  const cotangent = apply("select", hit, g, float(0));
  return [{ arg: x, cotangent, over: { ...node.axes, ...x.axes } }];
};

const pass = (g: Node, node: Node): readonly Vjp[] => [
  { arg: node.args[0], cotangent: g, over: node.axes },
];
const none = (): readonly Vjp[] => [];

/** The table of structural rules; leaves and `stop` have none. */
export const vjpRules = {
  const: none,
  literal: none,
  iota: none,
  input: none,
  param: none,
  local: none,
  reduce: pullReduce,
  index: pullIndex,
  gather: pullGather,
  stop: none,
  recompute: pass,
} satisfies Record<string, (g: Node, node: Node) => readonly Vjp[]>;
