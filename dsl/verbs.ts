/**
 * Functions that people who come from NumPy, PyTorch or JAX look for, written in the language: none
 * needs a primitive, and each takes tensors of any axes.
 *
 * ```ts
 * import { input } from "@formant/formant";
 * import { argmax, logSoftmax } from "@formant/formant/verbs";
 * const logits = input("logits", { batch: 8, class: 10 });
 * const best = argmax(logits, "class"); // { batch: 8 }
 * const scores = logSoftmax(logits, "class"); // { batch: 8, class: 10 }
 * ```
 *
 * @module
 */
import {
  type AnyTensor,
  type Axes,
  AxisError,
  type Drop,
  type Fitting,
  type Free,
  type Join,
  type None,
  type Replace,
  type Tensor,
} from "./axes.ts";
import { type AnyKey, nodeOf, tensorOf } from "./node.ts";
import {
  add,
  type Binary,
  concat,
  contract,
  div,
  equal,
  exp,
  floor,
  iota,
  less,
  log,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  neg,
  on,
  pad,
  recip,
  select,
  sizeOf,
  slice,
  slidingWindows,
  softplus,
  sqrt,
  square,
  states,
  stopGradient,
  sub,
  sum,
  take,
  toFloat,
  toU32,
} from "./ops.ts";
import { uniform } from "./random.ts";
import type { WindowOptions } from "./structure.ts";

type Axis<A> = keyof A & string;
/** A tensor after a reduction over the axis `K`. */
export type Over<A, K> = Tensor<Drop<A, K>["axes"]>;

// ---- element by element -------------------------------------------------------------------------

/** |x|; its gradient at 0 is 0. */
export const abs = <A>(x: Tensor<A>): Tensor<A> => maximum(x, neg(x));
/** -1, 0 or 1; its gradient is zero, NaN gives 0. */
export const sign = <A>(x: Tensor<A>): Tensor<A> =>
  select(less(0, x), 1, select(less(x, 0), -1, on(x, 0)));
/** x between two numbers: min(max(x, low), high). Throws `AxisError` when they are the wrong way round. */
export const clamp = <A>(x: Tensor<A>, low: number, high: number): Tensor<A> => {
  if (low > high) throw new AxisError(`clamp from ${low} to ${high} leaves no number`);
  return minimum(maximum(x, low), high);
};
/** The smallest whole number not below x; its gradient is zero. */
export const ceil = <A>(x: Tensor<A>): Tensor<A> => neg(floor(neg(x)));
/** The nearest whole number, halves to the even one (IEEE 754); its gradient is zero. */
export const round = <A>(x: Tensor<A>): Tensor<A> => {
  const below = floor(x), rest = sub(x, below);
  const even = mul(floor(mul(add(below, 1), 0.5)), 2);
  return select(less(rest, 0.5), below, select(equal(rest, 0.5), even, add(below, 1)));
};
/**
 * x to a power: by products for whole powers up to 64, which have negative bases too; else
 * e^(power · log x), NaN below 0.
 */
export const power = <A>(x: Tensor<A>, exponent: number): Tensor<A> => {
  if (!Number.isInteger(exponent) || Math.abs(exponent) > 64) return exp(mul(log(x), exponent));
  let left = Math.abs(exponent), factor = x, result: Tensor<A> = on(x, 1);
  while (left > 0) {
    if (left % 2 === 1) result = mul(result, factor);
    left = Math.floor(left / 2);
    if (left > 0) factor = square(factor);
  }
  return exponent < 0 ? recip(result) : result;
};

type Operands = AnyTensor | number;
const straight = (of: Binary, a: unknown, b: unknown): AnyTensor =>
  (of as (a: Operands, b: Operands) => AnyTensor)(a as Operands, b as Operands);
const either = (a: AnyTensor, b: AnyTensor): AnyTensor => less(0.5, add(toFloat(a), toFloat(b)));
const compared = (of: (a: unknown, b: unknown) => AnyTensor): Binary => (a, b) =>
  tensorOf(nodeOf(of(a, b)));

/** a > b, as a bool. */
export const greater: Binary = compared((a, b) => straight(less, b, a));
/** a ≥ b, as a bool: false where either is NaN. */
export const greaterEqual: Binary = compared((a, b) =>
  either(straight(less, b, a), straight(equal, a, b))
);
/** a ≤ b, as a bool: false where either is NaN. */
export const lessEqual: Binary = compared((a, b) =>
  either(straight(less, a, b), straight(equal, a, b))
);
/** a ≠ b, as a bool: true where either is NaN. */
export const notEqual: Binary = compared((a, b) => not(straight(equal, a, b)));

/** Not, of bools. */
export const not = <A>(x: Tensor<A>): Tensor<A> => equal(toFloat(x), 0);
/** Both, of bools. */
export const and = <A, B>(a: Tensor<A>, b: Fitting<A, B>): Tensor<Join<A, B>["axes"]> =>
  tensorOf(nodeOf(less(1.5, straight(add, toFloat(a), toFloat(b as AnyTensor)))));
/** Either, of bools. */
export const or = <A, B>(a: Tensor<A>, b: Fitting<A, B>): Tensor<Join<A, B>["axes"]> =>
  tensorOf(nodeOf(either(a, b as AnyTensor)));

// ---- over an axis -------------------------------------------------------------------------------

/** Whether any bool along an axis is true. */
export const any = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Over<A, K> =>
  less(0.5, max(toFloat(x), over));
/** Whether all bools along an axis are true. */
export const all = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Over<A, K> =>
  less(0.5, min(toFloat(x), over));
/** The product along an axis. */
export const prod = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Over<A, K> =>
  take(cumprod(x, over), over, sizeOf(x, over) - 1);
/** The mean of squared distances from the mean; `ddof` 1 divides by one less, as in samples. */
export const variance = <A, const K extends Axis<A>>(
  x: Tensor<A>,
  over: K,
  ddof: 0 | 1 = 0,
): Over<A, K> => div(sum(square(on.sub(x, mean(x, over))), over), sizeOf(x, over) - ddof);
/** The standard deviation. */
export const std = <A, const K extends Axis<A>>(
  x: Tensor<A>,
  over: K,
  ddof: 0 | 1 = 0,
): Over<A, K> => sqrt(variance(x, over, ddof));
/** √(Σ x²) along an axis. */
export const norm = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Over<A, K> =>
  sqrt(sum(square(x), over));
/** log Σ e^x along an axis, without overflow. */
export const logSumExp = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Over<A, K> => {
  const top = stopGradient(max(x, over));
  return add(top, log(sum(exp(on.sub(x, top)), over)));
};
/** log softmax(x) along an axis. */
export const logSoftmax = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Tensor<A> =>
  on.sub(x, logSumExp(x, over));
/** The position of the first maximum along an axis, as u32. */
export const argmax = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Over<A, K> => {
  const isTop = equal(x, on(x, max(x, over))), length = sizeOf(x, over);
  const position = on(x, tensorOf<None>(nodeOf(toFloat(iota(over as string, length)))));
  return toU32(min(select(isTop, position, length), over));
};
/** The position of the first minimum along an axis, as u32. */
export const argmin = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Over<A, K> =>
  argmax(neg(x), over);

// ---- along an axis ------------------------------------------------------------------------------

/** The product of an element and of all before it along an axis. */
export const cumprod = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Tensor<A> => {
  const from = { p: take(on(x, 1), over, 0) };
  return states({ over, from, each: { x } }, ({ p }, now) => ({ p: mul(p, now.x) })).p;
};
/** The largest of an element and of all before it along an axis. */
export const cummax = <A, const K extends Axis<A>>(x: Tensor<A>, over: K): Tensor<A> => {
  const from = { m: take(on(x, -Infinity), over, 0) };
  return states({ over, from, each: { x } }, ({ m }, now) => ({ m: maximum(m, now.x) })).m;
};
/** Moved along an axis by `by` positions; what leaves at one end comes back at the other. */
export const roll = <A, const K extends Axis<A>>(x: Tensor<A>, axis: K, by: number): Tensor<A> => {
  const length = sizeOf(x, axis), first = ((-by % length) + length) % length;
  if (first === 0) return x;
  const cut = (from: number, count: number) => slice(x as AnyTensor, axis, from, count);
  return tensorOf(nodeOf(concat(cut(first, length - first), cut(0, first), axis)));
};

// ---- made of numbers ----------------------------------------------------------------------------

/** 1 at the position that a u32 says along a new axis, else 0. */
export const oneHot = <A, const K extends string, const N extends number>(
  positions: Tensor<A>,
  axis: Free<A, K>,
  size: N,
): Tensor<Join<A, { [P in K]: N }>["axes"]> =>
  tensorOf(nodeOf(toFloat(straight(equal, positions, iota(axis as string, size)))));
/** True where a position along `earlier` is not after the one along `later`: a causal mask. */
export const causalMask = <const E extends string, const L extends string, const N extends number>(
  earlier: E,
  later: L,
  size: N,
): Tensor<{ [P in E | L]: N }> =>
  tensorOf(nodeOf(straight(less, iota(earlier, size), add(iota(later, size), 1))));
/** `size` numbers from `first` to `last`, evenly spaced. */
export const linspace = <const K extends string, const N extends number>(
  axis: K,
  size: N,
  first: number,
  last: number,
): Tensor<{ [P in K]: N }> =>
  add(mul(toFloat(iota(axis, size)), (last - first) / Math.max(1, size - 1)), first);
/** 1 where two positions are equal, else 0: the identity matrix. */
export const eye = <const R extends string, const C extends string, const N extends number>(
  row: R,
  column: C,
  size: N,
): Tensor<{ [P in R | C]: N }> =>
  tensorOf(nodeOf(toFloat(straight(equal, iota(row, size), iota(column, size)))));

// ---- what models are made of --------------------------------------------------------------------

/** (x - mean) / √(variance + epsilon) along an axis: layer norm without parameters. */
export const standardise = <A, const K extends Axis<A>>(
  x: Tensor<A>,
  over: K,
  epsilon = 1e-5,
): Tensor<A> => {
  const centred = on.sub(x, mean(x, over));
  return on.mul(centred, recip(sqrt(add(mean(square(centred), over), epsilon))));
};
/** Cross-entropy of logits with targets that sum to 1 along an axis. */
export const crossEntropy = <A, const K extends Axis<A>>(
  logits: Tensor<A>,
  targets: Tensor<A>,
  over: K,
): Over<A, K> => neg(sum(mul(logSoftmax(logits, over), targets), over));
/** Binary cross-entropy of logits, element by element. */
export const binaryCrossEntropy = <A>(logits: Tensor<A>, targets: Tensor<A>): Tensor<A> =>
  sub(softplus(logits), mul(logits, targets));
/** x with a share `rate` of its elements 0 and the others divided by 1 - rate (Srivastava et al. 2014). */
export const dropout = <A>(key: AnyKey, x: Tensor<A>, rate: number): Tensor<A> => {
  if (!(rate >= 0 && rate < 1)) throw new AxisError(`dropout of ${rate}; expected from 0 below 1`);
  const chance: Tensor<A> = tensorOf(nodeOf(uniform(key, nodeOf(x).axes)));
  return select(less(chance, rate), 0, div(x, 1 - rate));
};

/** Windows along each axis, times the taps, summed over these and the channels. */
const convolved = (
  x: AnyTensor,
  weight: AnyTensor,
  along: readonly (readonly [axis: string, tap: string, options: WindowOptions])[],
  channels: string,
): AnyTensor => {
  const windows = along.reduce(
    (now, [axis, tap, options]) =>
      slidingWindows(now, axis, { out: axis, tap, size: sizeOf(weight, tap) }, options),
    x,
  );
  return contract(windows, weight, [...along.map(([, tap]) => tap), channels]);
};

/**
 * A convolution along one axis: windows of `x` along `axis` with the taps of `weight` along `tap`, summed
 * over `tap` and over `channels`, which both have.
 */
export const conv1d = <
  A,
  W extends Axes,
  const K extends Axis<A>,
  const T extends Axis<W>,
  const C extends Axis<A> & Axis<W>,
>(
  x: Tensor<A>,
  weight: Tensor<W>,
  { axis, tap, channels }: { readonly axis: K; readonly tap: T; readonly channels: C },
  options: WindowOptions = {},
): Tensor<
  Join<Replace<Drop<A, C>["axes"], K, { [P in K]: number }>["axes"], Drop<W, T | C>["axes"]>["axes"]
> => {
  return tensorOf(nodeOf(convolved(x, weight, [[axis, tap, options]], channels)));
};

/** A convolution along two axes; as `conv1d`, with an axis and its taps for rows and for columns. */
export const conv2d = <
  A,
  W extends Axes,
  const K extends Axis<A>,
  const T extends Axis<W>,
  const C extends Axis<A> & Axis<W>,
>(
  x: Tensor<A>,
  weight: Tensor<W>,
  { axes, taps, channels }: {
    readonly axes: readonly [K, K];
    readonly taps: readonly [T, T];
    readonly channels: C;
  },
  options: readonly [WindowOptions, WindowOptions] = [{}, {}],
): Tensor<
  Join<
    Replace<Drop<A, C>["axes"], K, { [P in K]: number }>["axes"],
    Drop<W, T | C>["axes"]
  >["axes"]
> => {
  const along = axes.map((axis, k) => [axis, taps[k], options[k]] as const);
  return tensorOf(nodeOf(convolved(x, weight, along, channels)));
};

/** How windows of a pool lie: the stride (by default their size), and padding before and after. */
export interface PoolOptions {
  /** Distance between the starts of windows. */
  readonly stride?: number;
  /** Positions of padding before the first. */
  readonly before?: number;
  /** Positions of padding after the last. */
  readonly after?: number;
}

const pooled = <A, K extends Axis<A>>(
  x: Tensor<A>,
  axis: K,
  size: number,
  { stride = size, before = 0, after = 0 }: PoolOptions,
  fill: number,
): AnyTensor => {
  const padded = pad(x as AnyTensor, axis, before, after, fill);
  return slidingWindows(padded, axis, { out: axis as string, tap, size }, { stride });
};
const tap = "position in a window";

/** The maximum of each window along an axis; padding never is one. */
export const maxPool = <A, const K extends Axis<A>>(
  x: Tensor<A>,
  axis: K,
  size: number,
  options: PoolOptions = {},
): Tensor<Replace<A, K, { [P in K]: number }>["axes"]> =>
  tensorOf(nodeOf(max(pooled(x, axis, size, options, -Infinity), tap)));
/** The mean of each window along an axis; padding counts as zero. */
export const meanPool = <A, const K extends Axis<A>>(
  x: Tensor<A>,
  axis: K,
  size: number,
  options: PoolOptions = {},
): Tensor<Replace<A, K, { [P in K]: number }>["axes"]> =>
  tensorOf(nodeOf(mean(pooled(x, axis, size, options, 0), tap)));

/** The sum of products of several tensors over axes, named once: `einsum([a, b, c], ["i", "j"])`. */
export const einsum = (tensors: readonly AnyTensor[], over: readonly string[]): AnyTensor => {
  if (tensors.length === 0) throw new AxisError("einsum takes at least one tensor");
  let product = tensors[0], left = over;
  for (const [k, factor] of tensors.slice(1).entries()) {
    // An axis is summed as soon as no later factor has it.
    const later = new Set(tensors.slice(k + 2).flatMap((one) => Object.keys(nodeOf(one).axes)));
    const both = left.filter((axis) => axis in nodeOf(product).axes && axis in nodeOf(factor).axes);
    const now = both.filter((axis) => !later.has(axis));
    product = now.length === 0 ? mul(product, factor) : contract(product, factor, now);
    left = left.filter((axis) => !now.includes(axis));
  }
  return left.length === 0 ? product : sum(product, left);
};
