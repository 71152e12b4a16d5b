// A generator of random well-typed programs for fast-check. A recipe is a list of small numbers;
// each line of it makes one node from those made before, so that a recipe without some of its lines
// is a program too, and shrinking leaves the few nodes that matter. Every float has a bound that
// the generator tracks: products that would grow are passed through a sine, divisors stay away
// from zero, and comparisons see only exact numbers, so that float32 may be compared with float64.
import fc from "fast-check";
import { type Axes, known, volume } from "../dsl/axes.ts";
import { type Node, node, reachable, tensor } from "../dsl/node.ts";
import * as ops from "../dsl/ops.ts";
import { apply, constant, float, type ScalarName } from "../dsl/scalar.ts";
import { locals, part, scanNode } from "../dsl/scan.ts";
import * as structure from "../dsl/structure.ts";
import { type Case, numbers, words } from "./check.ts";

/** One line: which kind of node, made of which earlier nodes, and two free choices. */
interface Line {
  readonly kind: number;
  readonly picks: readonly number[];
  /** The lines of a scan's step. */
  readonly step: readonly Line[];
}

/** A program as data. */
export interface Recipe {
  /** Sizes of the axes a, b, c, d. */
  readonly sizes: readonly number[];
  readonly lines: readonly Line[];
}

const LARGEST = 4, MOST_ELEMENTS = 3000;

/** What has been made: nodes with the largest magnitude that floats reach; exact ones may be compared. */
interface Made {
  readonly of: Node;
  readonly bound: number;
  readonly exact: boolean;
}

const rank = (of: Node) => Object.keys(of.axes).length;
const at = <T>(list: readonly T[], pick: number): T => list[pick % list.length];

/** A float, made smaller if it is large; refused where it has too many elements. */
const keep = (of: Node, bound: number): Made | undefined =>
  volume(of.axes) > MOST_ELEMENTS
    ? undefined
    : bound <= LARGEST
    ? { of, bound, exact: false }
    : { of: apply("sin", of), bound: 1, exact: false };
const word = (of: Node): Made | undefined =>
  volume(of.axes) > MOST_ELEMENTS ? undefined : { of, bound: Infinity, exact: true };

const fitting = (a: Node, b: Node): boolean =>
  Object.keys(a.axes).every((axis) => !(axis in b.axes) || a.axes[axis] === b.axes[axis]);

/** The sum over axes that `axes` lacks, along those that the node lacks. */
const fitted = (of: Made, axes: Axes): Made => {
  const extra = Object.keys(of.of.axes).filter((axis) => !(axis in axes));
  const times = extra.reduce((product, axis) => product * known(of.of.axes, axis), 1);
  const sum = apply("mul", structure.reduce(of.of, "add", extra), float(1 / times));
  return { of: structure.expand(sum, axes), bound: of.bound, exact: false };
};

type Maker = (
  line: Line,
  floats: readonly Made[],
  ints: readonly Made[],
  truths: readonly Made[],
  fresh: string,
) => Made | undefined;

const unary = (op: ScalarName, bound: (b: number) => number): Maker => ({ picks: [i] }, floats) => {
  const x = at(floats, i);
  return keep(apply(op, x.of), bound(x.bound));
};

const binary = (op: ScalarName, bound: (a: number, b: number) => number): Maker =>
(
  { picks: [i, j] },
  floats,
) => {
  const x = at(floats, i), y = at(floats, j);
  return fitting(x.of, y.of) ? keep(apply(op, x.of, y.of), bound(x.bound, y.bound)) : undefined;
};

/** A function that is smooth away from zero, of something away from zero. */
const away = (op: ScalarName, bound: number): Maker => ({ picks: [i] }, floats) => {
  const x = at(floats, i);
  const far = apply("add", x.of, float(x.bound + 1));
  return keep(op === "div" ? apply(op, float(1), far) : apply(op, far), bound);
};

const axisOf = (of: Node, pick: number): string | undefined => at(Object.keys(of.axes), pick);

/** A movement along one axis of a float or of words. */
const movement =
  (move: (x: Node, axis: string, fresh: string, k: number) => Node): Maker =>
  ({ picks: [i, j, k] }, floats, ints, _, fresh) => {
    const x = at([...floats, ...ints], i);
    if (rank(x.of) === 0) return undefined;
    const made = move(x.of, axisOf(x.of, j)!, fresh, k);
    return volume(made.axes) > MOST_ELEMENTS ? undefined : { ...x, of: made };
  };

const onWords = (op: ScalarName): Maker => ({ picks: [i, j] }, _, ints) => {
  const x = at(ints, i), y = at(ints, j);
  return fitting(x.of, y.of) ? word(apply(op, x.of, y.of)) : undefined;
};
const byConstant = (op: ScalarName): Maker => ({ picks: [i, j] }, _, ints) =>
  word(apply(op, at(ints, i).of, constant(1 + j, "u32")));

const reduction = (how: "add" | "max"): Maker => ({ picks: [i, j, k] }, floats) => {
  const x = at(floats, i);
  if (rank(x.of) === 0) return undefined;
  const over = [...new Set([axisOf(x.of, j)!, axisOf(x.of, k)!])];
  const times = over.reduce((product, axis) => product * known(x.of.axes, axis), 1);
  const made = structure.reduce(x.of, how, over);
  return how === "max"
    ? keep(made, x.bound)
    : keep(apply("mul", made, float(2 / times)), 2 * x.bound);
};

const compared = (op: "less" | "equal"): Maker => ({ picks: [i, j] }, floats, ints) => {
  const exact = [...floats.filter((one) => one.exact), ...ints];
  const x = at(exact, i);
  const alike = exact.filter((one) => one.of.dtype === x.of.dtype);
  const y = at(alike, j);
  return fitting(x.of, y.of) ? word(apply(op, x.of, y.of)) : undefined;
};

const chosen =
  (among: "floats" | "ints"): Maker => ({ picks: [i, j, k] }, floats, ints, truths) => {
    const from = among === "floats" ? floats : ints;
    if (truths.length === 0) return undefined;
    const c = at(truths, i), x = at(from, j), y = at(from, k);
    if (!fitting(c.of, x.of) || !fitting(c.of, y.of) || !fitting(x.of, y.of)) return undefined;
    const made = apply("select", c.of, x.of, y.of);
    return among === "ints" ? word(made) : keep(made, Math.max(x.bound, y.bound));
  };

const contraction: Maker = ({ picks: [i, j, k] }, floats) => {
  const x = at(floats, i);
  const shared = floats.filter((y) =>
    fitting(x.of, y.of) && Object.keys(x.of.axes).some((axis) => axis in y.of.axes)
  );
  if (shared.length === 0) return undefined;
  const y = at(shared, j);
  const both = Object.keys(x.of.axes).filter((axis) => axis in y.of.axes);
  const over = k % 3 === 0 ? both : [at(both, k)];
  const times = over.reduce((product, axis) => product * known(x.of.axes, axis), 1);
  if (volume({ ...x.of.axes, ...y.of.axes }) > 20 * MOST_ELEMENTS) return undefined;
  const made = structure.reduce(apply("mul", x.of, y.of), "add", over);
  return keep(apply("mul", made, float(1 / times)), x.bound * y.bound);
};

/**
 * A product over two axes of one size, whatever their names; large values rather than small ones. Axes
 * of the other operand that both have are a batch, or become columns.
 */
const product: Maker = ({ picks: [i, j, k] }, floats, _ints, _truths, fresh) => {
  const large = floats.filter((one) => volume(one.of.axes) >= 150);
  const x = at(large, i), over = axisOf(x.of, j)!, size = known(x.of.axes, over);
  const other = at(large.filter((one) => Object.values(one.of.axes).includes(size)), k);
  const alike = Object.keys(other.of.axes).find((axis) => known(other.of.axes, axis) === size)!;
  const names = Object.keys(other.of.axes).filter((axis) => axis !== alike);
  const apart = names.filter((axis) => axis in x.of.axes && (k % 2 === 0 || axis === over));
  const renamed = apart.reduce(
    (of, axis, n) => structure.rename(of, axis, `${fresh}.${n}`),
    structure.rename(other.of, alike, `${fresh}.over`),
  );
  const y = structure.rename(renamed, `${fresh}.over`, over);
  if (!fitting(x.of, y) || volume({ ...x.of.axes, ...y.axes }) > 20 * MOST_ELEMENTS) return;
  const made = structure.reduce(apply("mul", x.of, y), "add", [over]);
  return keep(apply("mul", made, float(1 / size)), x.bound * other.bound);
};

const softmax: Maker = ({ picks: [i, j] }, floats) => {
  const x = at(floats, i);
  if (rank(x.of) === 0) return undefined;
  return keep(node(ops.softmax(tensor(x.of), axisOf(x.of, j)! as never)), 1);
};

/**
 * Scores of all pairs along an axis, masked or not, their exponentials below the maximum, weighted or
 * not, and the quotient of two sums of them: what attention and the mLSTM are made of.
 */
const cascade: Maker = ({ picks: [i, j, k] }, floats, _ints, _truths, fresh) => {
  const x = at(floats, i);
  if (rank(x.of) === 0) return undefined;
  const axis = axisOf(x.of, j)!, size = known(x.of.axes, axis);
  const beside = floats.filter((one) => axis in one.of.axes && fitting(x.of, one.of));
  const key = (of: Node) => structure.rename(of, axis, fresh);
  const y = key(at(beside, k).of), v = key(at(beside, k + 1).of);
  if (volume({ ...x.of.axes, ...y.axes, ...v.axes }) > 20 * MOST_ELEMENTS) return undefined;
  const scores = apply("mul", x.of, y);
  const seen = apply(
    "less",
    structure.iota(fresh, size),
    apply("add", structure.iota(axis, size), constant(1, "u32")),
  );
  const masked = k % 2 === 0 ? scores : apply("select", seen, scores, float(-1e30));
  const top = node(ops.stop(tensor(structure.reduce(masked, "max", [fresh]))));
  const decay = apply("exp", apply("add", masked, apply("neg", top)));
  const terms = k % 3 === 0 ? decay : apply("mul", decay, apply("tanh", apply("add", x.of, y)));
  const read = structure.reduce(apply("mul", terms, v), "add", [fresh]);
  const total = structure.reduce(terms, "add", [fresh]);
  const size1 = apply("add", apply("max", total, apply("neg", total)), float(1));
  return keep(apply("tanh", apply("div", read, size1)), 1);
};

const lookUp: Maker = ({ picks: [i, j, k] }, floats, ints) => {
  const x = at(floats, i), positions = at(ints, j).of;
  if (rank(x.of) === 0) return undefined;
  const axis = axisOf(x.of, k)!;
  const rest = structure.pick(x.of, axis, 0);
  if (axis in positions.axes || !fitting(rest, positions)) return undefined;
  // Every other time beyond the end too, where the last element is read.
  const below = known(x.of.axes, axis) + (k % 2) * 3;
  const within = apply("remainder", positions, constant(below, "u32"));
  const made = structure.gather(x.of, axis, within);
  return volume(made.axes) > MOST_ELEMENTS ? undefined : { ...x, of: made };
};

/** Everything that may stand in a scan's step: all but movements and look-ups along axes. */
const inStep: readonly Maker[] = [
  binary("add", (a, b) => a + b),
  binary("mul", (a, b) => a * b),
  binary("max", Math.max),
  unary("sin", () => 1),
  unary("tanh", () => 1),
  unary("neg", (b) => b),
  reduction("add"),
  contraction,
  unary("exp", Math.exp),
  away("div", 1),
  onWords("add"),
  onWords("xor"),
  chosen("floats"),
];

/**
 * A scan over an axis of a float: one or two carries of which one may be words, and a small step. Half
 * of them are linear in their carry.
 */
const scanned: Maker = ({ picks: [i, j, k], step }, floats, ints) => {
  const x = at(floats, i);
  if (rank(x.of) === 0) return undefined;
  const over = axisOf(x.of, j)!;
  const beside = floats.filter((one) => over in one.of.axes && fitting(x.of, one.of));
  const outside = floats.filter((one) => !(over in one.of.axes) && fitting(x.of, one.of));
  const each: Record<string, Made> = { x, y: at(beside, k) };
  const slice = structure.pick(x.of, over, 0).axes;
  const start = outside.length === 0 ? fitted({ of: float(0.5), bound: 1, exact: false }, slice) : {
    of: structure.expand(at(outside, k).of, k % 2 === 0 ? slice : {}),
    bound: LARGEST,
    exact: false,
  };
  const isLinear = (i + j + k) % 2 === 0, counts = !isLinear && k % 3 === 0;
  const from: Record<string, Node> = { h: start.of };
  if (counts) from.n = structure.expand(constant(k, "u32"), {});
  const given = Object.fromEntries(Object.entries(each).map(([name, one]) => [name, one.of]));
  const made = scanNode(over, from, given, (carry, now) => {
    const inside: Made[] = [
      { of: carry.h, bound: LARGEST, exact: false },
      ...Object.keys(now).map((name) => ({ ...each[name], of: now[name] })),
      ...outside.slice(0, 2),
    ];
    const counted: Made[] = counts
      ? [{ of: carry.n, bound: Infinity, exact: true }]
      : ints.filter((one) => !(over in one.of.axes) && fitting(x.of, one.of)).slice(0, 1);
    const { floats, words, all } = grown(inside, counted, [], step, inStep);
    // The carry has to stay as it is in axes and bound; it always depends on itself and on x.
    const last = fitted(floats[floats.length - 1], carry.h.axes);
    const mixed = apply("mul", apply("add", carry.h, last.of), float(0.5));
    const input = fitted({ ...x, of: now.x }, carry.h.axes);
    const half = (of: Node) => apply("mul", of, float(0.5));
    const gate = half(apply("tanh", fitted({ ...each.y, of: now.y }, carry.h.axes).of));
    const h = isLinear
      ? apply("add", apply("mul", gate, carry.h), half(input.of))
      : apply("add", apply("tanh", mixed), input.of);
    const next: Record<string, Node> = { h };
    if (counts) next.n = apply("add", carry.n, constant(3, "u32"));
    const outs = all.filter((one) => one.of.dtype === "f32").slice(isLinear ? -1 : -2)
      .map((one) => one.of);
    const out: Record<string, Node> = { h: isLinear ? h : apply("sin", h) };
    outs.forEach((of, k) => out[`o${k}`] = apply("sin", of));
    if (words.length > 0 && counts) out.n = words[words.length - 1].of;
    return { next, out };
  }, j % 2 === 0);
  const { h, n } = locals(made).carry;
  if (n !== undefined && k % 5 === 0) return word(part(made, "out", "n"));
  const outs = Object.keys(made.attributes.step!.out).filter((name) => name !== "n");
  const read = k % 4 === 0 ? part(made, "final", "h") : part(made, "out", at(outs, k));
  return h === undefined ? undefined : keep(apply("sin", read), 1);
};

/** What kernels are made of; drawn more often than the rest. */
const large: readonly Maker[] = [
  contraction,
  product,
  product,
  scanned,
  scanned,
  softmax,
  cascade,
  reduction("add"),
  reduction("max"),
];

const everything: readonly Maker[] = [
  ...inStep,
  ...large,
  ...large,
  ...large,
  lookUp,
  away("log", Math.log(2 * LARGEST + 1)),
  away("sqrt", Math.sqrt(2 * LARGEST + 1)),
  away("log1p", Math.log(2 * LARGEST + 2)),
  unary("erf", () => 1),
  unary("cos", () => 1),
  ({ picks: [i] }, floats) => {
    const x = at(floats.filter((one) => one.exact), i);
    return { of: apply("floor", x.of), bound: x.bound + 1, exact: true };
  },
  compared("less"),
  compared("equal"),
  chosen("ints"),
  onWords("mul"),
  byConstant("quotient"),
  byConstant("remainder"),
  byConstant("shiftLeft"),
  byConstant("shiftRight"),
  ({ picks: [i] }, _, ints) => {
    const small = apply("remainder", at(ints, i).of, constant(9, "u32"));
    return { of: apply("mul", apply("toFloat", small), float(0.25)), bound: 2, exact: true };
  },
  ({ picks: [i] }, _f, _i, truths) =>
    truths.length === 0
      ? undefined
      : { of: apply("toFloat", at(truths, i).of), bound: 1, exact: true },
  ({ picks: [i] }, _f, _i, truths) =>
    truths.length === 0 ? undefined : word(apply("toWord", at(truths, i).of)),
  movement((x, axis, fresh) => structure.rename(x, axis, fresh)),
  movement((x, axis) => structure.flip(x, axis)),
  movement((x, axis, _, k) => structure.pick(x, axis, k % known(x.axes, axis))),
  movement((x, axis, fresh, k) =>
    structure.rename(structure.pad(x, axis, k % 3, k % 4), axis, fresh)
  ),
  movement((x, axis, fresh, k) => {
    const size = known(x.axes, axis), step = 1 + k % 3, start = k % size;
    const cut = structure.slice(x, axis, start, Math.floor((size - 1 - start) / step) + 1, step);
    return structure.rename(cut, axis, fresh);
  }),
  movement((x, axis, fresh, k) =>
    structure.windows(x, axis, { out: fresh, tap: `${fresh}.tap`, size: 1 + k % 3 }, {
      stride: 1 + k % 2,
      before: 2,
      after: k % 4,
    })
  ),
  movement((x, axis, fresh) => {
    const size = known(x.axes, axis);
    const first = [2, 3, 5, 7, 13].find((by) => size % by === 0) ?? 1;
    return structure.split(x, axis, { [fresh]: size / first, [`${fresh}.low`]: first });
  }),
  movement((x, axis, fresh, k) => {
    const other = axisOf(x, k)!;
    return other === axis ? x : structure.merge(x, [axis, other], fresh);
  }),
  ({ picks: [i, j] }, floats) => {
    const x = at(floats, i);
    return "e" in x.of.axes ? undefined : keep(structure.expand(x.of, { e: 1 + j % 3 }), x.bound);
  },
  ({ picks: [i] }, floats) => ({ ...at(floats, i), of: node(ops.stop(tensor(at(floats, i).of))) }),
  ({ picks: [i] }, floats) => ({
    ...at(floats, i),
    of: node(ops.recompute(tensor(at(floats, i).of))),
  }),
];

/** Follows the lines: what each adds to the floats, the words or the truth values made so far. */
const grown = (
  floats: readonly Made[],
  ints: readonly Made[],
  truths: readonly Made[],
  lines: readonly Line[],
  makers: readonly Maker[],
) => {
  const by = { f32: [...floats], u32: [...ints], bool: [...truths] };
  const all: Made[] = [];
  lines.forEach((line, k) => {
    const maker = at(makers, line.kind);
    if (
      by.u32.length === 0 && makers === inStep && (maker === inStep[10] || maker === inStep[11])
    ) {
      return;
    }
    // The newest come first, so that small picks build deep programs.
    const newest = (list: readonly Made[]) => [...list].reverse();
    const made = maker(line, newest(by.f32), newest(by.u32), newest(by.bool), `n${k}`);
    if (made === undefined) return;
    by[made.of.dtype].push(made);
    all.push(made);
  });
  return { floats: by.f32, words: by.u32, all };
};

/** Mostly one of the newest values, so that one thing is done after the other. */
const pick: fc.Arbitrary<number> = fc.oneof(
  { weight: 2, arbitrary: fc.nat(2) },
  { weight: 1, arbitrary: fc.nat(11) },
);

const line = (depth: number): fc.Arbitrary<Line> =>
  fc.record({
    kind: fc.nat(everything.length * inStep.length - 1),
    picks: fc.tuple(pick, pick, pick),
    step: depth === 0 ? fc.constant([]) : fc.array(line(depth - 1), { maxLength: 4 }),
  });

/** Recipes of random programs. */
export const recipes: fc.Arbitrary<Recipe> = fc.record({
  sizes: fc.tuple(
    ...Array(4).fill(fc.constantFrom(3, 1, 2, 5, 7, 8, 13, 17)) as [
      fc.Arbitrary<number>,
      fc.Arbitrary<number>,
      fc.Arbitrary<number>,
      fc.Arbitrary<number>,
    ],
  ),
  lines: fc.array(line(1), { minLength: 1, maxLength: 12 }),
});

/** The programs of a recipe: its last float with the inputs to differentiate for, and its last words. */
export const programs = ({ sizes: [a, b, c, d], lines }: Recipe): readonly Case[] => {
  const values: Record<string, Float32Array | Uint32Array> = {};
  const given = (name: string, axes: Axes, dtype: "f32" | "u32"): Made => {
    const count = volume(axes), seed = name.charCodeAt(0) + count;
    values[name] = dtype === "f32" ? numbers(seed, count) : words(seed, count, 60);
    return { of: structure.input(name, axes, dtype), bound: 1, exact: true };
  };
  const floats = [
    given("u", {}, "f32"),
    given("v", { a }, "f32"),
    given("w", { a, b }, "f32"),
    given("x", { b, c }, "f32"),
    given("y", { c, d, a }, "f32"),
    given("z", { d, b }, "f32"),
    given("l", { m: 9, k: 20 }, "f32"),
    given("r", { n: 12, k: 20 }, "f32"),
  ];
  const ints = [
    given("p", { a }, "u32"),
    given("q", { b, d }, "u32"),
    { of: structure.iota("c", c), bound: Infinity, exact: true },
  ];
  const { all } = grown(floats, ints, [], lines, everything);
  const last = (dtype: string) => all.filter((one) => one.of.dtype === dtype).slice(-1);
  return [...last("f32"), ...last("u32"), ...last("bool")].map(({ of }) => {
    const leaves = new Set(reachable([of]));
    const wrt = floats.map((one) => one.of).filter((leaf) => leaves.has(leaf));
    return {
      of: tensor(of),
      wrt: Object.fromEntries(wrt.map((leaf) => [leaf.attributes.name!, tensor(leaf)])),
      values,
    };
  });
};
