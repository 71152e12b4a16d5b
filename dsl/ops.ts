// The public operations of the language, with axes in the types: primitives, and functions composed
// of them. Axes that a function does not name are kept.
import type {
  AnyTensor,
  Axes,
  AxesOf,
  Drop,
  Fitting,
  Free,
  Join,
  Plain,
  Replace,
  Tensor,
} from "./axes.ts";
import { AxisError, drop, join, requireAxis, sameAxes, showAxes, sizeOf } from "./axes.ts";
import {
  type Dtype,
  type Initialiser,
  intern,
  type Node,
  nodeOf,
  tensorOf,
  withScope,
} from "./node.ts";
import { apply, constant, float } from "./primitives.ts";
import type { ScalarName } from "./node.ts";
import { type Nodes, part, scanNode } from "./scan.ts";
import * as structure from "./structure.ts";
import type { WindowOptions } from "./structure.ts";

// ---- leaves -------------------------------------------------------------------------------------

/** A value given at each run, by name; row-major in the order of `axes`. */
export const input = <const A extends Axes>(
  name: string,
  axes: A,
  dtype: Dtype = "f32",
): Tensor<Plain<A>["axes"]> => tensorOf(structure.input(name, axes, dtype));

/** A number without axes. */
export const scalarOf = (value: number, dtype: Dtype = "f32"): Tensor<Record<never, never>> =>
  tensorOf(constant(value, dtype));

/** Fixed numbers, row-major in the order of `axes`: filter banks, position tables. */
export const literal = <const A extends Axes>(
  axes: A,
  data: Float32Array | Uint32Array,
): Tensor<Plain<A>["axes"]> => tensorOf(structure.literal(axes, data));

/**
 * A parameter: a leaf with a name, stored row-major in the order of `axes`, and an initialiser,
 * an expression of the random key made for that name. `trainable: false` keeps it out of training.
 */
export const param = <const A extends Axes>(
  name: string,
  axes: A,
  init: Initialiser,
  { trainable = true }: { readonly trainable?: boolean } = {},
): Tensor<Plain<A>["axes"]> => tensorOf(structure.param(name, axes, init, trainable));

/** The position along an axis, as u32: 0, 1, 2, ... */
export const iota = <const K extends string, const N extends number | string>(
  axis: K,
  size: N,
): Tensor<{ [P in K]: N }> => tensorOf(structure.iota(axis, size));

// ---- scalar functions ---------------------------------------------------------------------------

const unary = (op: ScalarName) => <A>(x: Tensor<A>): Tensor<A> => tensorOf(apply(op, nodeOf(x)));
const inverse = (x: Node): Node => apply("div", float(1), x);
const binary =
  (op: ScalarName) => <A, B>(a: Tensor<A>, b: Fitting<A, B>): Tensor<Join<A, B>["axes"]> =>
    tensorOf(apply(op, nodeOf(a), nodeOf(b as AnyTensor)));

/** A function of one tensor, element by element. */
export type Unary = <A>(x: Tensor<A>) => Tensor<A>;
/** A function of two tensors: an outer join of their axes, sizes of shared axes must agree. */
export type Binary = <A, B>(a: Tensor<A>, b: Fitting<A, B>) => Tensor<Join<A, B>["axes"]>;

/** a + b */
export const add: Binary = binary("add");
/** a * b */
export const mul: Binary = binary("mul");
/** The larger of a and b; at a tie each side gets half of the gradient. */
export const max: Binary = binary("max");
/** a < b, as a bool. */
export const less: Binary = binary("less");
/** a = b, as a bool. */
export const equal: Binary = binary("equal");
/** a xor b, on u32. */
export const xor: Binary = binary("xor");
/** a shifted left by b bits, on u32. */
export const shiftLeft: Binary = binary("shiftLeft");
/** a shifted right by b bits, on u32. */
export const shiftRight: Binary = binary("shiftRight");
/** The integer part of a / b, on u32. */
export const quotient: Binary = binary("quotient");
/** The remainder of a / b, on u32. */
export const remainder: Binary = binary("remainder");
/** a - b */
export const sub: Binary = <A, B>(a: Tensor<A>, b: Fitting<A, B>): Tensor<Join<A, B>["axes"]> =>
  tensorOf(apply("add", nodeOf(a), apply("neg", nodeOf(b as AnyTensor))));
/** a / b; exact if a, b and the quotient are integers. */
export const div: Binary = binary("div");
/** The smaller of a and b. */
export const min: Binary = <A, B>(a: Tensor<A>, b: Fitting<A, B>): Tensor<Join<A, B>["axes"]> =>
  tensorOf(
    apply("neg", apply("max", apply("neg", nodeOf(a)), apply("neg", nodeOf(b as AnyTensor)))),
  );

/** -x */
export const neg: Unary = unary("neg");
/** 1 / x */
export const recip: Unary = <A>(x: Tensor<A>): Tensor<A> => tensorOf(inverse(nodeOf(x)));
/** e to the x */
export const exp: Unary = unary("exp");
/** The natural logarithm. */
export const log: Unary = unary("log");
/** log(1 + x), accurate near zero. */
export const log1p: Unary = unary("log1p");
/** The sine of x in radians. */
export const sin: Unary = unary("sin");
/** The cosine of x in radians. */
export const cos: Unary = unary("cos");
/** The square root. */
export const sqrt: Unary = unary("sqrt");
/** The hyperbolic tangent. */
export const tanh: Unary = unary("tanh");
/** The error function. */
export const erf: Unary = unary("erf");
/** 1 - erf(x), accurate also where that is small. */
export const erfc: Unary = unary("erfc");
/** The largest whole number not above x; its gradient is zero. */
export const floor: Unary = unary("floor");
/** u32 or bool as floats. */
export const toFloat: Unary = unary("toFloat");
/** Non-negative floats (truncated) or bool as u32. */
export const toWord: Unary = unary("toWord");
/** The IEEE 754 bits of floats, as u32; their gradient is zero. */
export const bits: Unary = unary("bits");

/** x * factor */
export const scale = <A>(x: Tensor<A>, factor: number): Tensor<A> =>
  tensorOf(apply("mul", nodeOf(x), constant(factor, nodeOf(x).dtype)));
/** True where floats are finite, decided by their bits, as devices may assume that all are. */
export const isFinite = <A>(x: Tensor<A>): Tensor<A> => {
  const exponent = apply("shiftLeft", apply("bits", nodeOf(x)), constant(1, "u32"));
  return tensorOf(apply("less", exponent, constant(0xff000000, "u32")));
};

/** x + amount */
export const shift = <A>(x: Tensor<A>, amount: number): Tensor<A> =>
  tensorOf(apply("add", nodeOf(x), constant(amount, nodeOf(x).dtype)));
/** `a` where `condition` is true, `b` elsewhere. */
export const select = <C, A, B>(
  condition: Tensor<C>,
  a: Fitting<C, A>,
  b: Fitting<Join<C, A>["axes"], B>,
): Tensor<Join<Join<C, A>["axes"], B>["axes"]> =>
  tensorOf(apply("select", nodeOf(condition), nodeOf(a as AnyTensor), nodeOf(b as AnyTensor)));

/** x² */
export const square = <A>(x: Tensor<A>): Tensor<A> => tensorOf(apply("mul", nodeOf(x), nodeOf(x)));
/**
 * e^-|x|. The magnitude is a `select` with smooth branches, so that all derivatives of functions
 * built on it are right at zero too, where those of a maximum are not.
 */
const decay = (n: Node, negative: Node): Node =>
  apply("exp", apply("select", negative, n, apply("neg", n)));

/** 1 / (1 + e^-x), without overflow. */
export const sigmoid = <A>(x: Tensor<A>): Tensor<A> => {
  const n = nodeOf(x);
  const negative = apply("less", n, float(0));
  const e = decay(n, negative);
  const r = inverse(apply("add", e, float(1)));
  return tensorOf(apply("select", negative, apply("mul", e, r), r));
};
/** log(1 + e^x), without overflow and accurate for very negative x. */
export const softplus = <A>(x: Tensor<A>): Tensor<A> => {
  const n = nodeOf(x);
  const negative = apply("less", n, float(0));
  const above = apply("select", negative, float(0), n);
  return tensorOf(apply("add", above, apply("log1p", decay(n, negative))));
};
/** log sigmoid(x) = -softplus(-x) */
export const logSigmoid = <A>(x: Tensor<A>): Tensor<A> => neg(softplus(neg(x)));
/** x · sigmoid(x) (SiLU, swish) */
export const silu = <A>(x: Tensor<A>): Tensor<A> =>
  tensorOf(apply("mul", nodeOf(x), nodeOf(sigmoid(x))));
/** x · Φ(x) with the exact normal distribution function (GELU, not its tanh approximation). */
export const gelu = <A>(x: Tensor<A>): Tensor<A> => {
  const n = nodeOf(x);
  const twiceCdf = apply("erfc", apply("mul", n, float(-Math.SQRT1_2)));
  return tensorOf(apply("mul", apply("mul", n, float(0.5)), twiceCdf));
};
/** max(x, 0) */
export const relu = <A>(x: Tensor<A>): Tensor<A> => tensorOf(apply("max", nodeOf(x), float(0)));

/** Lifts `y`, whose axes are among those of `x`, to the axes of `x`. */
export type Lift = <A, K extends keyof A>(x: Tensor<A>, y: Tensor<{ [P in K]: A[P] }>) => Tensor<A>;

const lifted = (op: (a: Node, b: Node) => Node): Lift => (x, y) => {
  const a = nodeOf(x), b = nodeOf(y);
  for (const axis of Object.keys(b.axes)) requireAxis(a.axes, axis);
  return tensorOf(structure.expand(op(a, b), a.axes));
};

/**
 * The everyday verb. `on(x, y)` is `y` with exactly the axes of `x`; `on.add(x, y)`, `on.mul(x, y)`
 * ... combine them, and the result has the type of `x`, also inside a function that knows only one
 * of the axes of `x`.
 *
 * ```ts
 * import { input, mean, on } from "@formant/formant";
 * const x = input("x", { batch: 8, channel: 192 });
 * const centred = on.sub(x, mean(x, "channel")); // { batch: 8, channel: 192 }
 * ```
 */
export const on: Lift & {
  readonly add: Lift;
  readonly sub: Lift;
  readonly mul: Lift;
  readonly div: Lift;
} = Object.assign(lifted((_, b) => b), {
  add: lifted((a, b) => apply("add", a, b)),
  sub: lifted((a, b) => apply("add", a, apply("neg", b))),
  mul: lifted((a, b) => apply("mul", a, b)),
  div: lifted((a, b) => apply("div", a, b)),
});

// ---- reductions and contractions ----------------------------------------------------------------

const names = <K extends string>(over: K | readonly K[]): readonly K[] =>
  typeof over === "string" ? [over] : over as readonly K[];

/** The sum over one or several axes. */
export const sum = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  over: K | readonly K[],
): Tensor<Drop<A, K>["axes"]> => tensorOf(structure.reduce(nodeOf(x), "add", names(over)));

/** The maximum over one or several axes; equal maxima share the gradient. */
export const maximum = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  over: K | readonly K[],
): Tensor<Drop<A, K>["axes"]> => tensorOf(structure.reduce(nodeOf(x), "max", names(over)));

/** The mean over one or several axes. */
export const mean = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  over: K | readonly K[],
): Tensor<Drop<A, K>["axes"]> => {
  const n = nodeOf(x);
  const count = names(over).reduce((product, axis) => product * sizeOf(n.axes, axis), 1);
  return tensorOf(apply("div", structure.reduce(n, "add", names(over)), float(count)));
};

/** The product of two tensors, summed over axes that both have: those disappear. */
export const contract = <A, B, const K extends keyof A & keyof B & string>(
  a: Tensor<A>,
  b: Fitting<A, B>,
  over: K | readonly K[],
): Tensor<Drop<Join<A, B>["axes"], K>["axes"]> => {
  const x = nodeOf(a), y = nodeOf(b as AnyTensor);
  for (const axis of names(over)) {
    requireAxis(x.axes, axis);
    requireAxis(y.axes, axis);
  }
  return tensorOf(
    withScope("contract", () => structure.reduce(apply("mul", x, y), "add", names(over))),
  );
};

/** e^x / Σ e^x along an axis. The maximum is subtracted first, so that nothing overflows. */
export const softmax = <A, const K extends keyof A & string>(x: Tensor<A>, over: K): Tensor<A> =>
  tensorOf(withScope("softmax", () => {
    const n = nodeOf(x);
    const top = nodeOf(stop(tensorOf(structure.reduce(n, "max", [over]))));
    const e = apply("exp", apply("add", n, apply("neg", top)));
    return apply("mul", e, inverse(structure.reduce(e, "add", [over])));
  }));

// ---- movement -----------------------------------------------------------------------------------

/** The same values with an axis under another name. */
export const rename = <A, const F extends keyof A & string, const T extends string>(
  x: Tensor<A>,
  from: F,
  to: Free<Drop<A, F>["axes"], T>,
): Tensor<Replace<A, F, { [P in T]: A[F] }>["axes"]> =>
  tensorOf(structure.rename(nodeOf(x), from, to as string));

/** One axis as several, the last of them fastest. The sizes must multiply to the axis' size. */
export const split = <A, const K extends keyof A & string, const B extends Axes>(
  x: Tensor<A>,
  axis: K,
  into: B,
): Tensor<Replace<A, K, Plain<B>["axes"]>["axes"]> =>
  tensorOf(structure.split(nodeOf(x), axis, into));

/** Several axes as one, the last of them fastest. */
export const merge = <A, const K extends keyof A & string, const T extends string>(
  x: Tensor<A>,
  axes: readonly K[],
  to: T,
): Tensor<
  { [P in Exclude<keyof A, K> | T]: P extends T ? number : P extends keyof A ? A[P] : never }
> => tensorOf(structure.merge(nodeOf(x), axes, to));

/** `length` positions of an axis, from `start` by `step`. */
export const slice = <A, const K extends keyof A & string, const N extends number>(
  x: Tensor<A>,
  axis: K,
  start: number,
  length: N,
  step = 1,
): Tensor<Replace<A, K, { [P in K]: N }>["axes"]> =>
  tensorOf(structure.slice(nodeOf(x), axis, start, length, step));

/** An axis made longer on both sides, with `fill` (zero) in the new places. */
export const pad = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  axis: K,
  before: number,
  after: number,
  fill = 0,
): Tensor<Replace<A, K, { [P in K]: number }>["axes"]> =>
  tensorOf(structure.pad(nodeOf(x), axis, before, after, fill));

/** An axis in the opposite order. */
export const flip = <A, const K extends keyof A & string>(x: Tensor<A>, axis: K): Tensor<A> =>
  tensorOf(structure.flip(nodeOf(x), axis));

/** One position of an axis; the axis disappears. */
export const pick = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  axis: K,
  position: number,
): Tensor<Drop<A, K>["axes"]> => tensorOf(structure.pick(nodeOf(x), axis, position));

/** The same values along further axes. */
export const expand = <A, const B extends Axes>(
  x: Tensor<A>,
  axes: B,
): Tensor<Join<A, Plain<B>["axes"]>["axes"]> => tensorOf(structure.expand(nodeOf(x), axes));

/** Sliding windows: an axis becomes one of window positions and one of taps within a window. */
export const windows = <
  A,
  const K extends keyof A & string,
  const O extends string,
  const T extends string,
  const N extends number,
>(
  x: Tensor<A>,
  axis: K,
  into: { readonly out: O; readonly tap: T; readonly size: N },
  options: WindowOptions = {},
): Tensor<Replace<A, K, { [P in O | T]: P extends T ? N : number }>["axes"]> =>
  tensorOf(structure.windows(nodeOf(x), axis, into, options));

/** Two tensors one after the other along an axis that both have. */
export const concat = <A, B, const K extends keyof A & keyof B & string>(
  a: Tensor<A>,
  b: Tensor<B>,
  axis: K,
): Tensor<Replace<A, K, { [P in K]: number }>["axes"]> => {
  const x = nodeOf(a), y = nodeOf(b);
  const first = sizeOf(x.axes, axis), second = sizeOf(y.axes, axis);
  const others = drop(x.axes, [axis]);
  if (!sameAxes(others, drop(y.axes, [axis]))) {
    throw new AxisError(
      `concat along '${axis}' takes two tensors whose other axes agree, but got ${
        showAxes(x.axes)
      } and ${showAxes(y.axes)}`,
    );
  }
  const sum = apply("add", structure.pad(x, axis, 0, second), structure.pad(y, axis, first, 0));
  return tensorOf(structure.expand(sum, { ...x.axes, [axis]: first + second }));
};

/** Several tensors cut out of one along an axis, in the order and with the sizes of `sizes`. */
export const parts = <
  A,
  const K extends keyof A & string,
  const S extends Readonly<Record<string, number>>,
>(
  x: Tensor<A>,
  axis: K,
  sizes: S,
): { readonly [P in keyof S]: Tensor<Replace<A, K, { [Q in K]: S[P] }>["axes"]> } => {
  const n = nodeOf(x);
  const total = Object.values(sizes).reduce((a, b) => a + b, 0);
  if (total !== sizeOf(n.axes, axis)) {
    throw new AxisError(`the parts of '${axis}' add up to ${total}, but it has ${n.axes[axis]}`);
  }
  let start = 0;
  const cut = Object.entries(sizes).map(([name, size]) => {
    const node = structure.slice(n, axis, start, size);
    start += size;
    return [name, tensorOf(node)];
  });
  return Object.fromEntries(cut);
};

/**
 * The elements of `x` at `positions` (u32) along an axis, which is replaced by the axes of
 * `positions`.
 */
export const gather = <A, const K extends keyof A & string, B>(
  x: Tensor<A>,
  axis: K,
  positions: Fitting<Drop<A, K>["axes"], B>,
): Tensor<Join<Drop<A, K>["axes"], B>["axes"]> =>
  tensorOf(structure.gather(nodeOf(x), axis, nodeOf(positions as AnyTensor)));

// ---- markers ------------------------------------------------------------------------------------

/** The same value, through which no gradient passes. */
export const stop: Unary = <A>(x: Tensor<A>): Tensor<A> =>
  tensorOf(intern("stop", nodeOf(x).dtype, nodeOf(x).axes, [nodeOf(x)]));

/** The same value, which the compiler recomputes where it is needed and does not store. */
export const recompute: Unary = <A>(x: Tensor<A>): Tensor<A> =>
  tensorOf(intern("recompute", nodeOf(x).dtype, nodeOf(x).axes, [nodeOf(x)]));

/** Runs `build` with `name` on the path that errors, `explain` and the printer show. */
export const named = <R>(name: string, build: () => R): R => withScope(name, build);

// ---- scan ---------------------------------------------------------------------------------------

/** Tensors by name. */
export type TensorRecord = { readonly [name: string]: AnyTensor };
type Slices<E, K> = { readonly [N in keyof E]: Tensor<Drop<AxesOf<E[N]>, K>["axes"]> };
type Length<E, K> = E[keyof E] extends infer T
  ? AxesOf<T> extends infer A ? K extends keyof A ? A[K] : never : never
  : never;
type Stacked<Y, K extends string, N> = {
  readonly [M in keyof Y]: Tensor<
    {
      [P in keyof AxesOf<Y[M]> | K]: P extends K ? N
        : P extends keyof AxesOf<Y[M]> ? AxesOf<Y[M]>[P]
        : never;
    }
  >;
};

/**
 * A recurrence along an axis. `from` are the carries at the start; `each` the inputs that have the
 * axis; `step` maps the carries and one slice of each input to the next carries and one slice of
 * each output. Gives the last carries and the outputs stacked along the axis again.
 *
 * ```ts
 * import { add, input, mul, scan, scalarOf } from "@formant/formant";
 * const x = input("x", { time: 5 });
 * const { out } = scan({ over: "time", from: { h: scalarOf(0) }, each: { x } }, ({ h }, { x }) => {
 *   const next = add(mul(h, scalarOf(0.9)), x);
 *   return { next: { h: next }, out: { y: next } };
 * });
 * ```
 *
 * Throws `AxisError` when the step changes a carry's axes.
 */
export const scan = <
  const K extends string,
  H extends TensorRecord,
  E extends TensorRecord,
  Y extends TensorRecord,
>(
  { over, from, each, reverse = false }: {
    readonly over: K;
    readonly from: H;
    readonly each: E;
    readonly reverse?: boolean;
  },
  step: (carry: H, each: Slices<E, K>) => { readonly next: H; readonly out: Y },
): { readonly final: H; readonly out: Stacked<Y, K, Length<E, K>> } => {
  const as = (record: TensorRecord) => record as unknown as Nodes;
  const made = scanNode(over, as(from), as(each), (carry, slices) => {
    const { next, out } = step(carry as unknown as H, slices as unknown as Slices<E, K>);
    return { next: as(next), out: as(out) };
  }, reverse);
  const { step: traced } = made.attributes;
  const collect = (kind: "final" | "out", keys: readonly string[]) =>
    Object.fromEntries(keys.map((key) => [key, tensorOf(part(made, kind, key))]));
  return {
    final: collect("final", Object.keys(from)) as unknown as H,
    out: collect("out", Object.keys(traced!.out)) as unknown as Stacked<Y, K, Length<E, K>>,
  };
};

/**
 * The first-order linear recurrence h' = a · h + b from h = 0, at every step along `over`.
 * Both sides are joined; the result has `over` too.
 */
export const recurrence = <A, B, const K extends keyof A & keyof B & string>(
  over: K,
  a: Tensor<A>,
  b: Fitting<A, B>,
  { reverse = false }: { readonly reverse?: boolean } = {},
): Tensor<Join<A, B>["axes"]> => {
  const x = nodeOf(a), y = nodeOf(b as AnyTensor);
  const start = structure.expand(float(0), drop(join(x.axes, y.axes), [over]));
  const made = scanNode(over, { h: start }, { a: x, b: y }, ({ h }, { a, b }) => {
    const next = apply("add", apply("mul", a, h), b);
    return { next: { h: next }, out: { h: next } };
  }, reverse);
  return tensorOf(part(made, "out", "h"));
};
