// What random programs are made of: each maker turns one line of a recipe into terms, from those that
// were made before. Every float has a bound that makers keep: what grows is passed through a sine, sums
// are scaled by their length, divisors stay away from zero, and comparisons see only numbers that
// float32 holds exactly, so that float32 may be compared with float64.
import { type Axes, without } from "../support/eager.ts";
import * as t from "./terms.ts";
import { constant, type Dtype, map, scale, type Term, volume } from "./terms.ts";

/** One line of a recipe: which maker, which earlier terms, and free choices as bits. */
export interface Line {
  readonly kind: number;
  readonly picks: readonly number[];
  readonly flags: number;
  /** The lines of a scan's step. */
  readonly step: readonly Line[];
}

/** What has been made: a term, the largest magnitude its floats reach, and whether they are exact. */
export interface Made {
  readonly of: Term;
  readonly bound: number;
  readonly exact: boolean;
}

/** What makers may choose from, the newest first. */
export interface Pool {
  readonly floats: readonly Made[];
  readonly words: readonly Made[];
  readonly truths: readonly Made[];
  /** A name for an axis that no other line uses. */
  readonly fresh: string;
}

export type Maker = (line: Line, pool: Pool) => Made | readonly Made[] | undefined;

/** Bounds beyond this one are brought back. */
export const LARGEST = 4;
const MOST_ELEMENTS = 5000, MOST_PRODUCTS = 80_000;

const at = <T>(list: readonly T[], pick: number): T => list[pick % list.length];
const names = (of: Term): readonly string[] => Object.keys(of.axes);
const rank = (of: Term): number => names(of).length;
const axisOf = (of: Term, pick: number): string => at(names(of), pick);
const sizeOf = (axes: Axes): number => Object.values(axes).reduce((a, b) => a * b, 1);
const fits = (a: Axes, b: Axes): boolean => Object.keys(a).every((k) => !(k in b) || a[k] === b[k]);
const fitting = (a: Term, b: Term): boolean => fits(a.axes, b.axes);
/** Whether some terms can be put together, and how much that makes is bearable. */
const bearable = (...terms: readonly Term[]): boolean => {
  let all: Axes = {};
  for (const { axes } of terms) {
    if (!fits(all, axes)) return false;
    all = { ...all, ...axes };
  }
  return sizeOf(all) <= MOST_PRODUCTS;
};

/** A float, brought back if it is large; refused where it has too many elements. */
export const keep = (of: Term, bound: number): Made | undefined =>
  volume(of) > MOST_ELEMENTS
    ? undefined
    : bound <= LARGEST
    ? { of, bound, exact: false }
    : { of: map("sin", of), bound: 1, exact: false };
const word = (of: Term): Made | undefined =>
  volume(of) > MOST_ELEMENTS ? undefined : { of, bound: Infinity, exact: true };

/** A float with exactly some axes: the mean over those that differ, the same along those it lacks. */
export const fitted = (of: Term, axes: Axes): Term => {
  const extra = names(of).filter((axis) => of.axes[axis] !== axes[axis]);
  return t.expand(t.reduce("mean", of, extra), axes);
};

const unary = (op: string, bound: (b: number) => number): Maker => ({ picks: [i] }, { floats }) => {
  const x = at(floats, i);
  return keep(map(op, x.of), bound(x.bound));
};

const binary = (op: string, bound: (a: number, b: number) => number): Maker =>
(
  { picks: [i, j] },
  { floats },
) => {
  const x = at(floats, i), y = at(floats.filter((one) => fitting(x.of, one.of)), j);
  return keep(map(op, x.of, y.of), bound(x.bound, y.bound));
};

/** A function of something away from zero. */
const away = (op: string, bound: number): Maker => ({ picks: [i] }, { floats }) => {
  const x = at(floats, i);
  return keep(map(op, map("add", x.of, constant(x.bound + 1))), bound);
};

const quotient: Maker = ({ picks: [i, j] }, { floats }) => {
  const x = at(floats, i), y = at(floats.filter((one) => fitting(x.of, one.of)), j);
  return keep(map("div", x.of, map("add", y.of, constant(y.bound + 1))), x.bound);
};

/** One axis of a float or of words moved. */
const movement = (
  move: (x: Term, axis: string, k: number, fresh: string, flags: number) => Term | undefined,
): Maker =>
({ picks: [i, j, k], flags }, { floats, words, fresh }) => {
  const x = at([...floats, ...words].filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const made = move(x.of, axisOf(x.of, j), k, fresh, flags);
  return made === undefined || volume(made) > MOST_ELEMENTS ? undefined : { ...x, of: made };
};

/** A part of an axis that keeps its name: the same name in another size. */
const cut = (x: Term, axis: string, k: number, flags: number): Term => {
  const size = x.axes[axis], step = flags % 4 === 0 ? 2 : 1, start = k % Math.min(size, 4);
  const most = Math.floor((size - 1 - start) / step) + 1;
  return t.slice(x, axis, start, Math.max(1, most - (flags >> 2) % 4), step);
};
const sliced = movement((x, axis, k, _, flags) => cut(x, axis, k, flags));
const slicedApart = movement((x, axis, k, fresh, flags) =>
  t.rename(cut(x, axis, k, flags), axis, fresh)
);
const padded = movement((x, axis, k, _, flags) =>
  t.pad(x, axis, k % 3, flags % 4, x.dtype === "f32" ? at([0, 0, 0.5, -1], flags >> 2) : 0)
);
const paddedApart = movement((x, axis, k, fresh, flags) =>
  t.rename(t.pad(x, axis, k % 3, flags % 4), axis, fresh)
);
const renamed = movement((x, axis, _, fresh) => t.rename(x, axis, fresh));
const flipped = movement((x, axis) => t.flip(x, axis));
const picked = movement((x, axis, k) => t.pick(x, axis, k % x.axes[axis]));
const slid = movement((x, axis, k, fresh, flags) =>
  t.windows(
    x,
    axis,
    flags % 2 === 0 ? axis : fresh,
    `${fresh}.tap`,
    1 + k % 3,
    1 + (flags >> 1) % 2,
    1 + (flags >> 2) % 2,
    (flags >> 3) % 3,
    (flags >> 5) % 4,
  )
);
const divided = movement((x, axis, _, fresh) => {
  const size = x.axes[axis], first = [2, 3, 5, 7, 13].find((by) => size % by === 0) ?? 1;
  return t.split(x, axis, { [fresh]: size / first, [`${fresh}.low`]: first });
});
const merged = movement((x, axis, k, fresh, flags) => {
  const other = axisOf(x, k);
  return other === axis ? undefined : t.merge(x, [axis, other], flags % 2 === 0 ? fresh : axis);
});
const expanded: Maker = ({ picks: [i, j] }, { floats }) => {
  const x = at(floats, i);
  return "e" in x.of.axes ? undefined : keep(t.expand(x.of, { e: 1 + j % 3 }), x.bound);
};

/** Two floats behind each other; the second of another length where there is one. */
const joined: Maker = ({ picks: [i, j, k] }, { floats }) => {
  const x = at(floats, i);
  if (rank(x.of) === 0) return undefined;
  const axis = axisOf(x.of, j), rest = without(x.of.axes, [axis]);
  const others = floats.filter(({ of }) =>
    axis in of.axes && rank(of) === rank(x.of) && fits(without(of.axes, [axis]), rest) &&
    names(of).every((name) => name in x.of.axes)
  );
  const y = at(others, k);
  return keep(t.concat(x.of, y.of, axis), Math.max(x.bound, y.bound));
};

const onWords = (op: string): Maker => ({ picks: [i, j] }, { words }) => {
  if (words.length === 0) return undefined;
  const x = at(words, i), y = at(words.filter((one) => fitting(x.of, one.of)), j);
  return word(map(op, x.of, y.of));
};
const byConstant = (op: string): Maker => ({ picks: [i, j] }, { words }) =>
  words.length === 0 ? undefined : word(map(op, at(words, i).of, constant(1 + j, "u32")));

const over = (x: Term, j: number, k: number): readonly string[] => [
  ...new Set([axisOf(x, j), axisOf(x, k)]),
];
const reduction = (how: "sum" | "mean" | "maximum"): Maker =>
(
  { picks: [i, j, k], flags },
  { floats },
) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const along = flags % 3 === 0 ? names(x.of) : over(x.of, j, k);
  const made = t.reduce(how, x.of, along);
  if (how !== "sum") return keep(made, x.bound);
  return keep(scale(made, 2 * volume(made) / volume(x.of)), 2 * x.bound);
};

const compared = (op: "less" | "equal"): Maker => ({ picks: [i, j] }, { floats, words }) => {
  const exact = [...floats.filter((one) => one.exact), ...words];
  const x = at(exact, i);
  if (x === undefined) return undefined;
  const y = at(exact.filter(({ of }) => of.dtype === x.of.dtype && fitting(x.of, of)), j);
  return word(map(op, x.of, y.of));
};

const chosen = (among: "floats" | "words"): Maker => ({ picks: [i, j, k] }, pool) => {
  if (pool.truths.length === 0) return undefined;
  const from = pool[among], c = at(pool.truths, i);
  const x = at(from, j), y = at(from, k);
  if (x === undefined || !bearable(c.of, x.of, y.of)) return undefined;
  const made = map("select", c.of, x.of, y.of);
  return among === "words" ? word(made) : keep(made, Math.max(x.bound, y.bound));
};

/** Scores of positions, of which those behind a moving edge do not count. */
const masked: Maker = ({ picks: [i, j, k] }, { floats }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const axis = axisOf(x.of, j), other = axisOf(x.of, k), size = x.of.axes[axis];
  const edge = axis === other
    ? constant(Math.ceil(size / 2), "u32")
    : map("add", t.iota(other, x.of.axes[other]), constant(1, "u32"));
  const seen = map("less", t.iota(axis, size), edge);
  return keep(map("select", seen, x.of, constant(-3)), Math.max(3, x.bound));
};

const contraction: Maker = ({ picks: [i, j, k] }, { floats }) => {
  const x = at(floats, i);
  const shared = floats.filter((y) =>
    bearable(x.of, y.of) && names(x.of).some((axis) => axis in y.of.axes)
  );
  if (shared.length === 0) return undefined;
  const y = at(shared, j);
  const both = names(x.of).filter((axis) => axis in y.of.axes);
  const along = k % 3 === 0 ? both : [at(both, k)];
  const times = along.reduce((product, axis) => product * x.of.axes[axis], 1);
  return keep(scale(t.contract(x.of, y.of, along), 1 / times), x.bound * y.bound);
};

/**
 * A product over two axes of one size, whatever their names, of large values, one of them maybe the
 * other way round. Axes of the other that both have are a batch, or become columns.
 */
const product: Maker = ({ picks: [i, j, k], flags }, { floats, fresh }) => {
  const large = floats.filter((one) => volume(one.of) >= 100 && rank(one.of) > 0);
  const first = at(large, i);
  if (first === undefined) return undefined;
  const along = axisOf(first.of, j), size = first.of.axes[along];
  const turn = flags % 3 === 0 ? axisOf(first.of, flags >> 2) : undefined;
  const x = { ...first, of: turn === undefined ? first.of : t.flip(first.of, turn) };
  const other = at(large.filter((one) => Object.values(one.of.axes).includes(size)), k);
  const alike = names(other.of).find((axis) => other.of.axes[axis] === size)!;
  let y = t.rename(other.of, alike, `${fresh}.over`);
  names(other.of).filter((axis) => axis !== alike).forEach((axis, n) => {
    const batch = axis !== along && axis in x.of.axes && k % 2 !== 0 &&
      x.of.axes[axis] === other.of.axes[axis];
    if (axis in x.of.axes && !batch) y = t.rename(y, axis, `${fresh}.${n}`);
  });
  y = t.rename(y, `${fresh}.over`, along);
  if (!bearable(x.of, y)) return undefined;
  return keep(scale(t.contract(x.of, y, [along]), 1 / size), x.bound * other.bound);
};

/** A product of long rows: of the oldest values, which lie at the ends of memory, maybe the other way round. */
const longProduct: Maker = ({ picks: [i, j], flags }, { floats, fresh }) => {
  const long = floats.filter(({ of }) =>
    rank(of) === 2 && Object.values(of.axes).some((size) => size >= 64)
  ).toReversed();
  const first = at(long, i);
  if (first === undefined) return undefined;
  const along = names(first.of).find((axis) => first.of.axes[axis] >= 64)!;
  const rows = names(first.of).find((axis) => axis !== along)!;
  const x = at(
    [first.of, t.flip(first.of, rows), t.flip(first.of, along), t.flip(first.of, rows)],
    flags,
  );
  const others = long.filter(({ of }) => of.axes[along] === x.axes[along]);
  const second = at(others, j);
  const columns = names(second.of).find((axis) => axis !== along)!;
  const y = t.rename(second.of, columns, fresh);
  if (!bearable(x, y)) return undefined;
  return keep(scale(t.contract(x, y, [along]), 1 / x.axes[along]), first.bound * second.bound);
};

/** A leaf with itself under another name, with the scores maybe weighing it. */
const withItself: Maker = ({ picks: [i, j, k], flags }, { floats, fresh }) => {
  const leaves = floats.filter(({ of }) =>
    rank(of) > 0 && (flags % 2 === 0 || of.args.length === 0)
  );
  const x = at(leaves, i);
  if (x === undefined) return undefined;
  const axis = axisOf(x.of, j), y = t.rename(x.of, axis, fresh);
  if (!bearable(x.of, y)) return undefined;
  const shared = names(x.of).filter((name) => name !== axis);
  const scores = shared.length === 0
    ? map("mul", x.of, y)
    : scale(t.contract(x.of, y, [at(shared, k)]), 1 / x.of.axes[at(shared, k)]);
  const kept = keep(scores, x.bound ** 2);
  if (kept === undefined || (flags >> 1) % 2 === 0 || !bearable(kept.of, y)) return kept;
  const weights = t.softmax(kept.of, fresh);
  return [kept, keep(t.contract(weights, y, [fresh]), x.bound)].filter((one) => one !== undefined);
};

const softmax: Maker = ({ picks: [i, j] }, { floats }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  return x === undefined ? undefined : keep(t.softmax(x.of, axisOf(x.of, j)), 1);
};

/** A row without its mean over its deviation. */
const normal: Maker = ({ picks: [i, j] }, { floats }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const along = [axisOf(x.of, j)];
  const centred = map("sub", x.of, t.reduce("mean", x.of, along));
  const deviation = map(
    "sqrt",
    map("add", t.reduce("mean", map("square", centred), along), constant(0.1)),
  );
  return keep(map("div", centred, deviation), 4);
};

/** A function of a reduction back on what was reduced. */
const afterReduction: Maker = ({ picks: [i, j, k], flags }, { floats }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const how = at(["mean", "sum", "maximum"] as const, flags);
  const made = t.reduce(how, x.of, over(x.of, j, k));
  const total = how === "sum" ? scale(made, volume(made) / volume(x.of)) : made;
  const op = at(["tanh", "exp", "sigmoid", "softplus", "gelu", "sin", "log1p", "sqrt"], flags >> 2);
  const shifted = op === "log1p" || op === "sqrt"
    ? map("add", total, constant(x.bound + 0.5))
    : total;
  const inside = op === "exp" ? scale(shifted, 0.3) : shifted;
  const of = map(op, (flags >> 8) % 2 === 0 ? inside : t.expand(inside, x.of.axes));
  const combined = at(["mul", "add", "on"], flags >> 5);
  return combined === "on"
    ? keep(t.expand(of, x.of.axes), LARGEST)
    : keep(map(combined, x.of, of), combined === "mul" ? x.bound * LARGEST : x.bound + LARGEST);
};

/** The largest of products of three factors with axes of their own. */
const topOfProducts: Maker = ({ picks: [i, j, k], flags }, { floats, fresh }) => {
  const a = at(floats.filter((one) => rank(one.of) > 1), i);
  if (a === undefined) return undefined;
  const axis = axisOf(a.of, j);
  const small = floats.filter(({ of }) => of !== a.of && axis in of.axes && fitting(a.of, of));
  const found = at(small, k);
  // A vector along the axis that is summed up of something, as a gate or a norm is.
  const b = found === undefined
    ? t.reduce("mean", a.of, names(a.of).filter((name) => name !== axis))
    : flags % 2 === 0
    ? t.reduce("sum", found.of, names(found.of).filter((name) => name !== axis))
    : found.of;
  const c = (flags >> 1) % 2 === 0
    ? constant(0.047)
    : t.rename(t.pick(a.of, axisOf(a.of, j + 1), 0), axis, fresh);
  if ((flags >> 1) % 2 !== 0 && (axisOf(a.of, j + 1) === axis || !bearable(a.of, b, c))) return;
  const whole = map("mul", a.of, map("mul", b, c));
  // Every eighth is left as it is, for scans and products to take it in.
  return flags % 16 < 4
    ? keep(whole, LARGEST)
    : keep(t.reduce("maximum", whole, [axis]), LARGEST + 1);
};

/** The same reduction of two values with axes of the same names in other sizes. */
const twoSizes: Maker = ({ picks: [i, j, k], flags }, { floats }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const alike = floats.filter(({ of }) =>
    rank(of) === rank(x.of) && names(of).every((axis) => axis in x.of.axes) && !fitting(of, x.of)
  );
  const other = at(alike, k);
  const y = other === undefined || flags % 2 === 0
    ? { ...x, of: cut(x.of, axisOf(x.of, j), 1 + k, flags >> 3) }
    : other;
  const how = at(["sum", "mean", "maximum"] as const, flags >> 1);
  const of = (one: Made) => {
    const inner = at(["square", "tanh", "relu", ""], flags >> 5);
    const each = inner === "" ? one.of : map(inner, one.of);
    const along = (flags >> 2) % 2 === 0
      ? names(one.of)
      : names(one.of).filter((axis) => x.of.axes[axis] !== y.of.axes[axis]);
    const made = t.reduce(how, each, along.length === 0 ? names(one.of) : along);
    return how === "sum" ? scale(made, volume(made) / volume(x.of)) : made;
  };
  const [p, q] = [of(x), of(y)];
  const both = keep(map((flags >> 7) % 2 === 0 ? "add" : "mul", p, q), LARGEST ** 4);
  const apart = [keep(p, LARGEST ** 2), keep(q, LARGEST ** 2)];
  return ((flags >> 8) % 2 === 0 ? [both] : apart).filter((one) => one !== undefined);
};

/**
 * Scores of all pairs along an axis, masked or not, their exponentials below the maximum, weighted or
 * not, and the quotient of two sums of them: what attention and the mLSTM are made of.
 */
const cascade: Maker = ({ picks: [i, j, k], flags }, { floats, fresh }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const axis = axisOf(x.of, j), size = x.of.axes[axis];
  const beside = floats.filter((one) => axis in one.of.axes && fitting(x.of, one.of));
  const y = t.rename(at(beside, k).of, axis, fresh),
    v = t.rename(at(beside, k + 1).of, axis, fresh);
  if (!bearable(x.of, y, v)) return undefined;
  const scores = map("mul", x.of, y);
  const seen = map(
    "less",
    t.iota(fresh, size),
    map("add", t.iota(axis, size), constant(1, "u32")),
  );
  const mask = k % 2 === 0 ? scores : map("select", seen, scores, constant(-1e30));
  const most = t.reduce("maximum", mask, [fresh]);
  const top = flags % 4 === 0 ? map("stop", most) : most;
  const decay = map("exp", map("sub", mask, top));
  const terms = k % 3 === 0 ? decay : map("mul", decay, map("tanh", map("add", x.of, y)));
  const read = t.reduce("sum", map("mul", terms, v), [fresh]);
  const total = t.reduce("sum", terms, [fresh]);
  const size1 = map("add", map("max", total, map("neg", total)), constant(1));
  return keep(map("tanh", map("div", read, size1)), 1);
};

const lookUp: Maker = ({ picks: [i, j, k] }, { floats, words }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const axis = axisOf(x.of, k), rest = without(x.of.axes, [axis]);
  const some = words.filter(({ of }) => !(axis in of.axes) && fits(rest, of.axes));
  if (some.length === 0) return undefined;
  // Every other time beyond the end too, where the last element is read.
  const below = x.of.axes[axis] + (k % 2) * 3;
  const made = t.gather(x.of, axis, map("remainder", at(some, j).of, constant(below, "u32")));
  return volume(made) > MOST_ELEMENTS ? undefined : { ...x, of: made };
};

/** Elements of a value put together with others of the same value, as a layer of a network does. */
const mixed: Maker = (line, pool) => {
  const { picks: [i, j], flags } = line;
  const x = at(pool.floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  if (flags % 3 === 0) return keep(t.softmax(x.of, axisOf(x.of, j)), 1);
  return at([contraction, withItself], flags)(line, pool) ?? withItself(line, pool);
};

const plain: readonly Maker[] = [
  binary("add", (a, b) => a + b),
  binary("sub", (a, b) => a + b),
  binary("mul", (a, b) => a * b),
  binary("max", Math.max),
  binary("min", Math.max),
  quotient,
  unary("sin", () => 1),
  unary("tanh", () => 1),
  unary("neg", (b) => b),
  unary("exp", Math.exp),
  unary("sigmoid", () => 1),
  unary("relu", (b) => b),
  unary("gelu", (b) => b),
  unary("silu", (b) => b),
  unary("softplus", (b) => b + 1),
  unary("logSigmoid", (b) => b + 1),
  unary("square", (b) => b * b),
  away("recip", 1),
  chosen("floats"),
];

/** Everything that stands in a scan's step. */
const inStep: readonly Maker[] = [
  ...plain,
  ...Array(2).fill([
    ...Array(7).fill(sliced),
    ...Array(6).fill(padded),
    ...Array(12).fill(mixed),
    reduction("sum"),
    reduction("mean"),
    reduction("maximum"),
    reduction("maximum"),
    contraction,
    product,
    afterReduction,
    afterReduction,
    twoSizes,
    joined,
    masked,
  ]).flat(),
  flipped,
  renamed,
  slicedApart,
  picked,
  slid,
  withItself,
  topOfProducts,
  normal,
  lookUp,
  onWords("add"),
  onWords("xor"),
  compared("less"),
];

/**
 * A scan over an axis of a float, forwards or backwards, maybe of length 1: carries of floats with
 * axes of their own, maybe words, and a step of several lines that may or may not read what it goes
 * along.
 */
const scanned: Maker = ({ picks: [i, j, k], flags, step }, { floats, words, fresh }) => {
  const bit = (n: number) => (flags >> n) % 2 === 1;
  const whole = at(floats.filter((one) => rank(one.of) > 0), i);
  if (whole === undefined) return undefined;
  const over = axisOf(whole.of, j);
  // Length 1, as the last bits say.
  const short = (of: Term) => (flags >> 9) % 4 === 0 ? t.slice(of, over, k % of.axes[over], 1) : of;
  const beside = floats.filter((one) => over in one.of.axes && fitting(whole.of, one.of));
  const x = { ...whole, of: short(whole.of) };
  const second = at(beside, k), y = { ...second, of: short(second.of) };
  const slice = without(x.of.axes, [over]);
  const outside = floats.filter((one) => !(over in one.of.axes));
  const lent = at(outside, k);
  const axes = lent === undefined ? slice : at([slice, slice, lent.of.axes, {}], flags >> 11);
  const start = lent === undefined ? constant(0.5) : lent.of;
  const blind = (flags >> 13) % 4 === 0, counts = bit(0), two = bit(1) && bit(2);
  const from: Record<string, Term> = { h: fitted(start, axes) };
  if (two) from.g = fitted(at(outside, k + 1)?.of ?? constant(-0.3), slice);
  const count = at(words.filter((one) => !(over in one.of.axes)), k + j);
  if (counts) from.n = count === undefined || bit(3) ? constant(k, "u32") : count.of;
  const each = { x: x.of, y: y.of };
  const made = t.scan(over, from, each, (carry, now) => {
    const carried = { bound: LARGEST, exact: false };
    const inputs = blind ? [] : [{ ...y, of: now.y }, { ...x, of: now.x }];
    const inside: Made[] = [
      ...outside.slice(0, 3),
      ...inputs,
      ...(two ? [{ ...carried, of: carry.g }] : []),
      { ...carried, of: carry.h },
    ];
    const numbers = counts
      ? [{ of: carry.n, bound: Infinity, exact: true }]
      : words.filter((one) => !(over in one.of.axes)).slice(0, 1);
    const grownInside = grow({ floats: inside, words: numbers, truths: [] }, step, inStep, fresh);
    // Everything that has the scanned axis again would have it twice as an output.
    const all = grownInside.all.filter(({ of }) => !(over in of.axes));
    const ofStep = grownInside.all.filter(({ of }) => of.dtype === "f32");
    const last = fitted((ofStep.at(-1) ?? inside.at(-1)!).of, axes);
    const half = (of: Term) => scale(of, 0.5);
    const read = blind ? last : fitted(now.x, axes);
    const gate = blind ? constant(0.7) : half(map("tanh", fitted(now.y, axes)));
    // A function of the mean over axes that the carry has too.
    const inner = blind ? carry.h : now.x;
    const total = t.reduce("mean", inner, names(inner).slice(0, 1 + (flags >> 14) % 2));
    const op = at(["tanh", "sigmoid", "softplus", "gelu", "sin"], flags >> 9);
    const gated = map(op, fitted(total, axes));
    const h = at([
      () => map("add", scale(carry.h, 0.7), scale(gated, 0.3)),
      () => map("mul", map("sigmoid", fitted(total, axes)), map("add", half(carry.h), half(last))),
      () => map("add", map("mul", gate, carry.h), scale(read, 0.3)),
      () => map("add", half(carry.h), half(map("tanh", last))),
      () => map("tanh", half(map("add", carry.h, last))),
      () => map("max", scale(carry.h, 0.9), half(last)),
      () =>
        map(
          "add",
          map("mul", scale(map("sigmoid", last), 0.8), carry.h),
          scale(map("sin", read), 0.3),
        ),
    ], flags >> 4)();
    const next: Record<string, Term> = { h: (keep(h, LARGEST) ?? { of: carry.h }).of };
    if (two) next.g = map("sin", map("add", carry.g, fitted(last, slice)));
    if (counts) {
      const fit = grownInside.words.findLast(({ of }) =>
        names(of).every((axis) => axis in from.n.axes)
      );
      next.n = map(bit(8) ? "xor" : "add", carry.n, constant(3, "u32"));
      if (fit !== undefined && bit(7) && fitting(fit.of, from.n)) {
        next.n = map("add", next.n, fit.of);
      }
    }
    const out: Record<string, Term> = { h: bit(5) ? carry.h : next.h };
    all.filter(({ of }) => of.dtype === "f32").slice(-3).forEach(({ of }, k) => out[`o${k}`] = of);
    if (counts) out.n = carry.n;
    return { next, out };
  }, bit(15));
  const outs = Object.keys(made.step!.out).filter((name) => name !== "n");
  const parts = [t.final(made, "h"), t.out(made, at(outs, k)), t.out(made, outs.at(-1)!)];
  const some = [at(parts, k), at(parts, k + j + 1)].map((of) => keep(of, LARGEST));
  const counted = counts && bit(6) ? [word(t.out(made, "n"))] : [];
  return [...some, ...counted].filter((one) => one !== undefined);
};

const recurrence: Maker = ({ picks: [i, j, k], flags }, { floats }) => {
  const x = at(floats.filter((one) => rank(one.of) > 0), i);
  if (x === undefined) return undefined;
  const over = axisOf(x.of, j);
  const y = at(floats.filter(({ of }) => over in of.axes && fitting(of, x.of)), k);
  const gate = map("sigmoid", x.of);
  const made = t.recurrence(over, scale(gate, 0.7), scale(y.of, 0.3), flags % 2 === 0);
  return keep(made, Math.max(1, y.bound));
};

/**
 * A scan that applies a function to what each step sums up of its inputs, as gates over all channels do.
 * One input may be a product, which the step can take in; the sum may be a contraction.
 */
const gatedBySums: Maker = ({ picks: [i, j, k], flags }, { floats, fresh }) => {
  const bit = (n: number) => (flags >> n) % 2 === 1;
  const least = bit(10) ? 2 : 3;
  const first = at(floats.filter(({ of }) => rank(of) >= least && volume(of) <= 4000), i);
  if (first === undefined) return undefined;
  const over = axisOf(first.of, j);
  const slice = without(first.of.axes, [over]), axes = Object.keys(slice);
  const axis = at(axes, flags >> 1), other = at(axes, (flags >> 1) + 1);
  const beside = at(floats.filter(({ of }) => fitting(first.of, of)), k);
  const outer = map(
    "mul",
    fitted(first.of, without(first.of.axes, [axis])),
    fitted(beside.of, slice),
  );
  const x = at([first.of, outer, outer], flags);
  const y = fitted(at(floats, k + 1).of, first.of.axes);
  const start = at(floats.filter(({ of }) => !(over in of.axes)), j)?.of ?? constant(0.5);
  const made = t.scan(over, { h: fitted(start, slice) }, { x, y }, ({ h }, now) => {
    const turned = at([now.y, now.y, h, now.x], flags >> 2);
    const pairs = axis !== other
      ? scale(t.contract(t.rename(turned, other, fresh), now.x, [axis]), 0.9 / slice[axis])
      : map("mul", now.x, fitted(now.y, slice));
    const read = flags % 5 < 3 ? pairs : now.x;
    const along = names(read).filter((name) => name !== other || bit(5) || name === axis);
    const how = at(["mean", "mean", "maximum"] as const, flags >> 6);
    const total = t.reduce(how, read, along.length === 0 ? names(read) : along);
    const op = at(["tanh", "sigmoid", "softplus", "gelu", "sin"], flags >> 8);
    // Its other axes, which the slice lacks, are gone on average.
    const gate = map(op, fitted(total, slice));
    const decay = bit(11) ? map("sigmoid", turned) : constant(0.7);
    const next = bit(12)
      ? map("mul", map("tanh", h), map("sigmoid", gate))
      : map("add", map("mul", scale(decay, 0.9), h), scale(map("tanh", gate), 0.3));
    return { next: { h: next }, out: { h: bit(13) ? h : next } };
  }, bit(14));
  return keep(bit(15) ? t.final(made, "h") : t.out(made, "h"), LARGEST);
};

/**
 * A scan of which an output reads the carry at other positions, while the next carry reads only its own,
 * so that lanes run along the axis that the output moves.
 */
const movedOutput: Maker = ({ picks: [i, j, k], flags }, { floats }) => {
  const bit = (n: number) => (flags >> n) % 2 === 1;
  const x = at(floats.filter(({ of }) => rank(of) >= 2 && volume(of) <= 2000), i)?.of;
  if (x === undefined) return undefined;
  const over = axisOf(x, j), slice = without(x.axes, [over]);
  const axis = at(Object.keys(slice), k), size = slice[axis];
  const y = fitted(at(floats, k + 1).of, x.axes);
  const start = at(floats.filter(({ of }) => !(over in of.axes)), j)?.of ?? constant(0.5);
  const made = t.scan(over, { h: fitted(start, slice) }, { x, y }, ({ h }, now) => {
    const decay = bit(0) ? scale(map("sigmoid", now.y), 0.9) : constant(0.7);
    const next = map("add", map("mul", decay, h), scale(bit(1) ? map("tanh", now.x) : now.x, 0.3));
    const moved = at([
      () => t.flip(h, axis),
      () => t.slice(t.pad(h, axis, 1, 0), axis, 0, size),
      () => t.slice(t.pad(h, axis, 0, 2), axis, 2, size),
    ], flags >> 2)();
    const read = bit(4) ? map("sin", now.x) : now.x;
    return { next: { h: next }, out: { y: scale(map(bit(5) ? "mul" : "add", moved, read), 0.3) } };
  }, bit(6));
  return keep(t.out(made, "y"), LARGEST);
};

const exactFloor: Maker = ({ picks: [i, j] }, { floats }) => {
  const x = at(floats.filter((one) => one.exact), i);
  if (x === undefined) return undefined;
  // Powers of two, so that the product is exact.
  const of = map("floor", scale(x.of, at([1, 2, 4, 8], j)));
  return { of, bound: x.bound * 8 + 1, exact: true };
};

export const everything: readonly Maker[] = [
  ...plain,
  ...Array(3).fill([
    contraction,
    product,
    product,
    ...Array(14).fill(scanned),
    ...Array(7).fill(gatedBySums),
    ...Array(3).fill(movedOutput),
    ...Array(4).fill(longProduct),
    softmax,
    cascade,
    ...Array(8).fill(topOfProducts),
    twoSizes,
    twoSizes,
    withItself,
    afterReduction,
    reduction("sum"),
    reduction("maximum"),
  ]).flat(),
  reduction("mean"),
  normal,
  masked,
  recurrence,
  lookUp,
  away("log", Math.log(2 * LARGEST + 1)),
  away("sqrt", Math.sqrt(2 * LARGEST + 1)),
  away("log1p", Math.log(2 * LARGEST + 2)),
  unary("erf", () => 1),
  unary("cos", () => 1),
  exactFloor,
  compared("less"),
  compared("equal"),
  chosen("words"),
  onWords("add"),
  onWords("xor"),
  onWords("mul"),
  onWords("max"),
  byConstant("quotient"),
  byConstant("remainder"),
  byConstant("shiftLeft"),
  byConstant("shiftRight"),
  ({ picks: [i] }, { words }) => {
    const small = map("remainder", at(words, i).of, constant(9, "u32"));
    return { of: scale(map("toFloat", small), 0.25), bound: 2, exact: true };
  },
  ({ picks: [i] }, { truths }) =>
    truths.length === 0
      ? undefined
      : { of: map("toFloat", at(truths, i).of), bound: 1, exact: true },
  ({ picks: [i] }, { truths }) =>
    truths.length === 0 ? undefined : word(map("toWord", at(truths, i).of)),
  renamed,
  flipped,
  flipped,
  picked,
  sliced,
  slicedApart,
  padded,
  paddedApart,
  slid,
  divided,
  merged,
  joined,
  joined,
  expanded,
  ({ picks: [i] }, { floats }) => {
    const x = at(floats, i);
    return { ...x, of: map("recompute", x.of) };
  },
];

/**
 * What may be done with infinities, NaN, signed zeros, subnormal and very large numbers whose results
 * no order of sums and no rounding decides.
 */
export const special: readonly Maker[] = [
  ...["max", "min"].map((op) => binary(op, Math.max)),
  unary("neg", (b) => b),
  unary("relu", (b) => b),
  ({ picks: [i, j] }, { floats }) => {
    const x = at(floats, i);
    return { ...x, of: map("mul", x.of, constant(at([2, -1, 0.5, -0.25], j))) };
  },
  reduction("maximum"),
  reduction("maximum"),
  ({ picks: [i, j] }, { floats }) => {
    const x = at(floats, i), y = at(floats.filter((one) => fitting(x.of, one.of)), j);
    return word(map("less", x.of, y.of));
  },
  ({ picks: [i] }, { floats }) => word(map("isFinite", at(floats, i).of)),
  chosen("floats"),
  sliced,
  flipped,
  picked,
  joined,
  renamed,
  divided,
  ({ picks: [i, j] }, { floats, words }) => {
    const x = at(floats.filter((one) => rank(one.of) > 0), i);
    const some = words.filter(({ of }) => x !== undefined && rank(of) === 0);
    const axis = x === undefined ? "" : axisOf(x.of, j);
    return some.length === 0 || x === undefined ? undefined : {
      ...x,
      of: t.gather(
        x.of,
        axis,
        map("remainder", at(some, j).of, constant(x.of.axes[axis], "u32")),
      ),
    };
  },
];

/** A long chain of small operations on one value, the values of which stay where they are. */
export const chained = (of: Term, beside: Term, length: number, flags: number): Term => {
  let y = of;
  const turn = rank(of) > 0 ? axisOf(of, flags) : undefined;
  for (let k = 0; k < length; k += 2) {
    const mixed = (by: number) => map("add", scale(y, by), scale(beside, 1 - by));
    const steps = [
      () => mixed(0.999),
      () => map("tanh", mixed(0.9)),
      () => turn === undefined ? mixed(0.99) : t.flip(mixed(0.99), turn),
      () => map("max", map("neg", y), scale(beside, 0.5)),
      () => map("sin", mixed(0.8)),
    ];
    // Mostly one and the same, sometimes another.
    y = at(steps, k % 46 === 0 ? (flags >> 3) + k / 46 : k % 8 === 0 ? 1 : 0)();
  }
  return y;
};

/** Follows the lines: what each adds to the floats, the words or the booleans made so far. */
export const grow = (
  given: Pick<Pool, "floats" | "words" | "truths">,
  lines: readonly Line[],
  makers: readonly Maker[],
  prefix = "n",
): {
  readonly floats: readonly Made[];
  readonly words: readonly Made[];
  readonly all: readonly Made[];
} => {
  const by: Record<Dtype, Made[]> = {
    f32: [...given.floats],
    u32: [...given.words],
    bool: [...given.truths],
  };
  const all: Made[] = [];
  lines.forEach((line, k) => {
    // The newest come first, so that small picks build deep programs.
    const made = at(makers, line.kind)(line, {
      floats: by.f32.toReversed(),
      words: by.u32.toReversed(),
      truths: by.bool.toReversed(),
      fresh: `${prefix}${k}`,
    });
    for (const one of made === undefined ? [] : [made].flat() as readonly Made[]) {
      by[one.of.dtype].push(one);
      all.push(one);
    }
  });
  return { floats: by.f32, words: by.u32, all };
};
