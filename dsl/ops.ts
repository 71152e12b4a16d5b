// The public operations of the language, with axes in the types: primitives, and functions composed
// of them. Axes that a function does not name are kept.
import type {
  AnyTensor,
  Axes,
  Both,
  Drop,
  Fitting,
  Following,
  Free,
  Join,
  None,
  Of,
  Operand,
  Plain,
  Replace,
  Tensor,
  Value,
  Within,
} from "./axes.ts";
import { AxisError, drop, mismatch, requireAxis, sizeOf as sizeIn } from "./axes.ts";
import {
  type Dtype,
  type Initialiser,
  intern,
  type Node,
  nodeOf,
  tensorOf,
  withScope,
} from "./node.ts";
import { apply, constantNode, float } from "./primitives.ts";
import type { ScalarName } from "./node.ts";
import * as structure from "./structure.ts";
import type { WindowOptions } from "./structure.ts";

export * from "./recurrences.ts";

// ---- leaves -------------------------------------------------------------------------------------

/** A value given at each run, by name; row-major in the order of `axes`. */
export const input = <const A extends Axes>(
  name: string,
  axes: A,
  dtype: Dtype = "f32",
): Tensor<Plain<A>["axes"]> => tensorOf(structure.input(name, axes, dtype));

/** A number without axes. */
export const constant = (value: number, dtype: Dtype = "f32"): Tensor<None> =>
  tensorOf(constantNode(value, dtype));

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

/** The size of an axis. Throws `AxisError` where it is symbolic, or there is no such axis. */
export const sizeOf = <A, const K extends keyof A & string>(x: Tensor<A>, axis: K): number =>
  sizeIn(nodeOf(x).axes, axis);

// ---- scalar functions ---------------------------------------------------------------------------

/** The node of an operand: a number has the dtype of the other one. */
const operand = (value: Value, other: Value): Node =>
  typeof value !== "number"
    ? nodeOf(value)
    : constantNode(value, typeof other === "number" ? "f32" : nodeOf(other).dtype);

const unary = (op: ScalarName) => <A>(x: Tensor<A>): Tensor<A> => tensorOf(apply(op, nodeOf(x)));
const inverse = (x: Node): Node => apply("div", float(1), x);
const binary = (op: (a: Node, b: Node) => Node): Binary => (a, b) =>
  tensorOf(op(operand(a, b as Value), operand(b as Value, a)));
const applied = (op: ScalarName): Binary => binary((a, b) => apply(op, a, b));

/** A function of one tensor, element by element. */
export type Unary = <A>(x: Tensor<A>) => Tensor<A>;
/**
 * A function of two operands: an outer join of their axes, in which sizes of shared axes must agree.
 * Either may be a number, which has the dtype of the other.
 *
 * The types of the operands are inferred themselves: with `Tensor<A>` and a number, TypeScript would
 * infer `A` from what the result is used for, in a scan's step as `any`.
 */
export type Binary = <X extends Value, Y extends Value>(
  a: X,
  b: Operand<Of<X>, Y>,
) => Tensor<Both<X, Y>["axes"]>;

/** A function that refuses an axis where its second operand belongs, as NumPy's `maximum` does. */
const elementwise =
  (name: string, over: string, op: (a: Node, b: Node) => Node): Binary => (a, b) => {
    if (typeof b !== "string" && !Array.isArray(b)) return binary(op)(a, b);
    throw new AxisError(
      `${name} is element by element and takes two tensors; over an axis it is ${over}`,
    );
  };

/** a + b */
export const add: Binary = applied("add");
/** a * b */
export const mul: Binary = applied("mul");
/** The larger of a and b; at a tie each side gets half of the gradient. */
export const maximum: Binary = elementwise("maximum", "max", (a, b) => apply("max", a, b));
/** a < b, as a bool. */
export const less: Binary = applied("less");
/** a = b, as a bool. */
export const equal: Binary = applied("equal");
/** a xor b, on u32. */
export const xor: Binary = applied("xor");
/** a shifted left by b bits, on u32. */
export const shiftLeft: Binary = applied("shiftLeft");
/** a shifted right by b bits, on u32. */
export const shiftRight: Binary = applied("shiftRight");
/** The integer part of a / b, on u32. */
export const floorDivide: Binary = applied("quotient");
/** The remainder of a / b, on u32. */
export const modulo: Binary = applied("remainder");
/** a - b */
export const sub: Binary = binary((a, b) => apply("add", a, apply("neg", b)));
/** a / b; exact if a, b and the quotient are integers. */
export const div: Binary = applied("div");
/** The smaller of a and b. */
export const minimum: Binary = elementwise(
  "minimum",
  "min",
  (a, b) => apply("neg", apply("max", apply("neg", a), apply("neg", b))),
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
export const toU32: Unary = unary("toWord");
/** The IEEE 754 bits of floats, as u32; their gradient is zero. */
export const bitcastU32: Unary = unary("bits");

/** True where floats are finite, decided by their bits, as devices may assume that all are. */
export const isFinite = <A>(x: Tensor<A>): Tensor<A> => {
  const exponent = apply("shiftLeft", apply("bits", nodeOf(x)), constantNode(1, "u32"));
  return tensorOf(apply("less", exponent, constantNode(0xff000000, "u32")));
};

/** `a` where `condition` is true, `b` elsewhere. */
export const select = <C, X extends Value, Y extends Value>(
  condition: Tensor<C>,
  a: Operand<C, X>,
  b: Operand<Both<Tensor<C>, X>["axes"], Y>,
): Tensor<Both<Tensor<Both<Tensor<C>, X>["axes"]>, Y>["axes"]> => {
  const [x, y] = [a as Value, b as Value];
  return tensorOf(apply("select", nodeOf(condition), operand(x, y), operand(y, x)));
};

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
export type Lift = <A, K extends keyof A, B = None>(x: Tensor<A>, y: Within<A, K, B>) => Tensor<A>;

const lifted = (op: (a: Node, b: Node) => Node): Lift => (x, y) => {
  const a = nodeOf(x), b = operand(y as Value, x);
  for (const axis of Object.keys(b.axes)) {
    if (!(axis in a.axes)) {
      throw new AxisError(`axis '${axis}' is on the right but not on the left`);
    }
  }
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

/** The sum over all axes. */
export const total = <A>(x: Tensor<A>): Tensor<None> =>
  tensorOf(structure.reduce(nodeOf(x), "add", Object.keys(nodeOf(x).axes)));

/** The maximum over one or several axes; equal maxima share the gradient. */
export const max = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  over: K | readonly K[],
): Tensor<Drop<A, K>["axes"]> =>
  tensorOf(structure.reduce(nodeOf(x), "max", axesOver("max", "maximum", over)));

/** The minimum over one or several axes; equal minima share the gradient. */
export const min = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  over: K | readonly K[],
): Tensor<Drop<A, K>["axes"]> => {
  const negative = apply("neg", nodeOf(x));
  return tensorOf(
    apply("neg", structure.reduce(negative, "max", axesOver("min", "minimum", over))),
  );
};

const axesOver = <K extends string>(
  name: string,
  other: string,
  over: K | readonly K[],
): readonly K[] => {
  if (typeof over === "string" || Array.isArray(over)) return names(over);
  throw new AxisError(
    `${name} is over axes, given by name; of two tensors, element by element, it is ${other}`,
  );
};

/** The mean over one or several axes. */
export const mean = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  over: K | readonly K[],
): Tensor<Drop<A, K>["axes"]> => {
  const n = nodeOf(x);
  const count = names(over).reduce((product, axis) => product * sizeIn(n.axes, axis), 1);
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
    const top = nodeOf(stopGradient(tensorOf(structure.reduce(n, "max", [over]))));
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

/** The parameter type of what is renamed: a tensor with the axis `F` and none called `T`. */
export type Renamable<A, F extends string, T extends string> = F extends keyof A
  ? T extends Exclude<keyof A, F> ? `axis '${T}' already exists` : Tensor<A>
  : `axis '${F}' does not exist here`;
/** A function that gives the axis `F` of any tensor the name `T`. */
export type Renaming<F extends string, T extends string> = <A>(
  x: Renamable<A, F, T>,
) => Tensor<Replace<A, F, { [P in T]: F extends keyof A ? A[F] : never }>["axes"]>;

/**
 * `rename` as a function of the tensor, for what is renamed in several places.
 *
 * ```ts
 * import { input, renaming } from "@formant/formant";
 * const toKey = renaming("token", "key");
 * const k = toKey(input("k", { token: 9, feature: 4 })); // { key: 9, feature: 4 }
 * ```
 */
export const renaming = <const F extends string, const T extends string>(
  from: F,
  to: T,
): Renaming<F, T> =>
(x) => tensorOf(structure.rename(nodeOf(x as AnyTensor), from, to));

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
export const take = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  axis: K,
  position: number,
): Tensor<Drop<A, K>["axes"]> => tensorOf(structure.pick(nodeOf(x), axis, position));

/** The positions of an axis as tensors with names, in order; the axis disappears. */
export const unstack = <A, const K extends keyof A & string, const N extends string>(
  x: Tensor<A>,
  axis: K,
  positions: readonly N[],
): { readonly [P in N]: Tensor<Drop<A, K>["axes"]> } => {
  const n = nodeOf(x), size = sizeIn(n.axes, axis);
  if (positions.length !== size) {
    throw new AxisError(`axis '${axis}' has ${size} positions, but ${positions.length} names`);
  }
  return Object.fromEntries(
    positions.map((name, k) => [name, tensorOf(structure.pick(n, axis, k))]),
  ) as { readonly [P in N]: Tensor<Drop<A, K>["axes"]> };
};

/** The same values along further axes. */
export const expand = <A, const B extends Axes>(
  x: Tensor<A>,
  axes: B,
): Tensor<Join<A, Plain<B>["axes"]>["axes"]> => tensorOf(structure.expand(nodeOf(x), axes));

/** Sliding windows: an axis becomes one of window positions and one of taps within a window. */
export const slidingWindows = <
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

/** Two tensors one after the other along an axis that both have; their other axes are the same. */
export const concat = <A, B, const K extends keyof A & keyof B & string>(
  a: Tensor<A>,
  b: Following<A, B, K>,
  axis: K,
): Tensor<Replace<A, K, { [P in K]: number }>["axes"]> =>
  tensorOf(joined(nodeOf(a), nodeOf(b as AnyTensor), axis));

const joined = (x: Node, y: Node, axis: string): Node => {
  const first = sizeIn(x.axes, axis), second = sizeIn(y.axes, axis);
  const [left, right] = [drop(x.axes, [axis]), drop(y.axes, [axis])];
  const gone = Object.keys(left).find((name) => !(name in right));
  const come = Object.keys(right).find((name) => !(name in left));
  const sentence = gone !== undefined
    ? `axis '${gone}' is on the left but not on the right`
    : come !== undefined
    ? `axis '${come}' is on the right but not on the left`
    : mismatch(left, right);
  if (sentence !== undefined) throw new AxisError(sentence);
  const sum = apply("add", structure.pad(x, axis, 0, second), structure.pad(y, axis, first, 0));
  return structure.expand(sum, { ...x.axes, [axis]: first + second });
};

/** Tensors of the same axes as the positions of a new axis. */
export const stack = <A, const K extends string>(
  tensors: readonly Tensor<A>[],
  axis: Free<A, K>,
): Tensor<{ [P in keyof A | K]: P extends K ? number : P extends keyof A ? A[P] : never }> => {
  if (tensors.length === 0) throw new AxisError(`nothing to stack along '${axis as string}'`);
  const name = axis as string;
  const single = tensors.map((x) => structure.expand(nodeOf(x), { [name]: 1 }));
  return tensorOf(single.reduce((x, y) => joined(x, y, name)));
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
  if (total !== sizeIn(n.axes, axis)) {
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
export const stopGradient: Unary = <A>(x: Tensor<A>): Tensor<A> =>
  tensorOf(intern("stop", nodeOf(x).dtype, nodeOf(x).axes, [nodeOf(x)]));

/** The same value, which the compiler recomputes where it is needed and does not store. */
export const checkpoint: Unary = <A>(x: Tensor<A>): Tensor<A> =>
  tensorOf(intern("recompute", nodeOf(x).dtype, nodeOf(x).axes, [nodeOf(x)]));

/** Runs `build` with `name` on the path that errors, `explain` and the printer show. */
export const named = <R>(name: string, build: () => R): R => withScope(name, build);
