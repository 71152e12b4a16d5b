// The table of scalar primitives, one row per function of numbers: its dtypes, its meaning in
// float64 and its derivative. How targets compute it is in backends/wasm/simd/scalar.ts and
// backends/webgpu/wgsl/scalar.ts. Broadcasting is by name: a result has the axes of all arguments.
import { AxisError, join } from "./axes.ts";
import { type Dtype, intern, type Node, type ScalarName } from "./node.ts";

/**
 * One scalar primitive. `vjp` returns a cotangent per argument over the result's axes, or
 * undefined; `wanted` says which arguments need one.
 */
export interface ScalarRow {
  readonly arity: 1 | 2 | 3;
  /** The dtype of the result from those of the arguments; undefined when they do not fit. */
  readonly dtype: (args: readonly Dtype[]) => Dtype | undefined;
  readonly expects: string;
  readonly meaning: (a: number, b: number, c: number) => number;
  /** The meaning on u32 where it differs from the one on floats. */
  readonly u32?: (a: number, b: number, c: number) => number;
  readonly vjp: (
    g: Node,
    args: readonly Node[],
    y: Node,
    wanted: readonly boolean[],
  ) => readonly (Node | undefined)[];
}

const floats = (arity: number) => (args: readonly Dtype[]): Dtype | undefined =>
  args.length === arity && args.every((dtype) => dtype === "f32") ? "f32" : undefined;
const sameU32 = (args: readonly Dtype[]): Dtype | undefined =>
  args.every((dtype) => dtype === "u32") ? "u32" : undefined;
const alike = (args: readonly Dtype[]): Dtype | undefined =>
  args[0] === args[1] && args[0] !== "bool" ? args[0] : undefined;

const unary = (
  meaning: (a: number) => number,
  pull: (g: Node, x: Node, y: Node) => Node | undefined,
): ScalarRow => ({
  arity: 1,
  dtype: floats(1),
  expects: "an f32",
  meaning,
  vjp: (g, [x], y) => [pull(g, x, y)],
});

const onU32 = (
  meaning: (a: number, b: number) => number,
): ScalarRow => ({
  arity: 2,
  dtype: sameU32,
  expects: "two u32",
  meaning,
  vjp: () => [undefined, undefined],
});

/** e^-a² in float64, a² in two parts of which the first is exact. */
const bell = (a: number): number => {
  const high = Math.fround(a);
  return Math.exp(-high * high) * Math.exp(-(a - high) * (a + high));
};
/** erf in float64 below 2.5: a series of positive terms. */
const erfSeries = (a: number): number => {
  let term = a, sum = a;
  for (let n = 1; n < 80 && term > 1e-18 * sum; n++) {
    term *= 2 * a * a / (2 * n + 1);
    sum += term;
  }
  return bell(a) * sum * 2 / Math.sqrt(Math.PI);
};
/** erfc in float64 from 1 on: a continued fraction, the longer the smaller `a`. */
const erfcFraction = (a: number): number => {
  let fraction = 0;
  for (let n = a < 2.5 ? 400 : 60; n >= 1; n--) fraction = (n / 2) / (a + fraction);
  return bell(a) / (Math.sqrt(Math.PI) * (a + fraction));
};
const erf = (x: number): number => {
  const a = Math.abs(x);
  return a === Infinity || a === 0
    ? Math.sign(x) || x
    : Math.sign(x) * (a < 2.5 ? erfSeries(a) : 1 - erfcFraction(a));
};
const erfc = (x: number): number => {
  if (x === Infinity || x === -Infinity) return x < 0 ? 2 : 0;
  if (x < 1) return 1 - erf(x);
  return erfcFraction(x);
};

const view = new DataView(new ArrayBuffer(4));
const bitsOf = (x: number): number => {
  view.setFloat32(0, x);
  return view.getUint32(0);
};

const half = 0.5;

/** The table. Tests iterate it; a missing column does not compile. */
export const scalar: Readonly<Record<ScalarName, ScalarRow>> = {
  add: {
    arity: 2,
    dtype: alike,
    expects: "two f32 or two u32",
    meaning: (a, b) => a + b,
    u32: (a, b) => (a + b) >>> 0,
    vjp: (g) => [g, g],
  },
  mul: {
    arity: 2,
    dtype: alike,
    expects: "two f32 or two u32",
    meaning: (a, b) => a * b,
    u32: (a, b) => Math.imul(a, b) >>> 0,
    vjp: (g, [a, b]) => [apply("mul", g, b), apply("mul", g, a)],
  },
  max: {
    arity: 2,
    dtype: alike,
    expects: "two f32 or two u32",
    meaning: (a, b) => Math.max(a, b),
    vjp: (g, [a, b], _, wanted) => {
      // A tie shares the cotangent, so that max(x, x) pulls back exactly g. `equal` makes the
      // compiler round both sides once, so that shares add up to 1 wherever they are computed.
      const isOneSided = !wanted.every((is) => is);
      const share = (x: Node, y: Node) => {
        const above = (rest: Node) => apply("select", apply("less", y, x), float(1), rest);
        return isOneSided
          ? above(apply("select", apply("less", x, y), float(0), float(half)))
          : apply("select", apply("equal", x, y), float(half), above(float(0)));
      };
      return [apply("mul", g, share(a, b)), apply("mul", g, share(b, a))];
    },
  },
  neg: unary((a) => -a, (g) => apply("neg", g)),
  div: {
    arity: 2,
    dtype: floats(2),
    expects: "two f32",
    meaning: (a, b) => a / b,
    vjp: (g, [a, b], y) => [
      // Division by a constant becomes a product, which can be factored out of sums.
      isConst(b) ? apply("mul", g, float(1 / b.attributes.value!)) : apply("div", g, b),
      // Of a reciprocal, y / b is y * y.
      apply(
        "neg",
        isConst(a, 1) ? apply("mul", g, apply("mul", y, y)) : apply("div", apply("mul", g, y), b),
      ),
    ],
  },
  exp: unary(Math.exp, (g, _x, y) => apply("mul", g, y)),
  log: unary(Math.log, (g, x) => apply("div", g, x)),
  log1p: unary(
    Math.log1p,
    (g, x) => apply("div", g, apply("add", x, float(1))),
  ),
  sin: unary(
    Math.sin,
    (g, x) => apply("mul", g, apply("cos", x)),
  ),
  cos: unary(
    Math.cos,
    (g, x) => apply("neg", apply("mul", g, apply("sin", x))),
  ),
  sqrt: unary(
    Math.sqrt,
    // Norms have that reciprocal already.
    (g, _x, y) => apply("mul", g, apply("mul", float(half), apply("div", float(1), y))),
  ),
  tanh: unary(
    Math.tanh,
    (g, _x, y) => apply("mul", g, apply("add", float(1), apply("neg", apply("mul", y, y)))),
  ),
  erf: unary(
    erf,
    (g, x) =>
      apply(
        "mul",
        g,
        apply("mul", float(2 / Math.sqrt(Math.PI)), apply("exp", apply("neg", apply("mul", x, x)))),
      ),
  ),
  erfc: unary(
    erfc,
    (g, x) =>
      apply(
        "mul",
        g,
        apply(
          "mul",
          float(-2 / Math.sqrt(Math.PI)),
          apply("exp", apply("neg", apply("mul", x, x))),
        ),
      ),
  ),
  floor: unary(Math.floor, () => undefined),
  less: {
    arity: 2,
    dtype: (args) => alike(args) && "bool",
    expects: "two f32 or two u32",
    meaning: (a, b) => a < b ? 1 : 0,
    vjp: () => [undefined, undefined],
  },
  equal: {
    arity: 2,
    dtype: (args) => alike(args) && "bool",
    expects: "two f32 or two u32",
    meaning: (a, b) => a === b ? 1 : 0,
    vjp: () => [undefined, undefined],
  },
  select: {
    arity: 3,
    dtype: ([c, a, b]) => c === "bool" && a === b ? a : undefined,
    expects: "a bool and two values of one dtype",
    meaning: (c, a, b) => c !== 0 ? a : b,
    vjp: (g, [c]) => [undefined, apply("select", c, g, float(0)), apply("select", c, float(0), g)],
  },
  toFloat: {
    arity: 1,
    dtype: ([a]) => a === "f32" ? undefined : "f32",
    expects: "a u32 or a bool",
    meaning: (a) => a,
    vjp: () => [undefined],
  },
  toWord: {
    arity: 1,
    dtype: ([a]) => a === "u32" ? undefined : "u32",
    expects: "an f32 or a bool",
    meaning: (a) => Math.min(Math.max(Math.trunc(a) || 0, 0), 0xffffffff),
    vjp: () => [undefined],
  },
  bits: {
    arity: 1,
    dtype: ([a]) => a === "f32" ? "u32" : undefined,
    expects: "an f32",
    meaning: bitsOf,
    vjp: () => [undefined],
  },
  xor: onU32((a, b) => (a ^ b) >>> 0),
  shiftLeft: onU32((a, b) => (a << (b & 31)) >>> 0),
  shiftRight: onU32((a, b) => a >>> (b & 31)),
  // A divisor of 0 counts as 1.
  quotient: onU32(
    (a, b) => Math.floor(a / Math.max(b, 1)),
  ),
  remainder: onU32((a, b) => a % Math.max(b, 1)),
};

/** Whether an operation is a scalar primitive. */
export const isScalar = (op: string): op is ScalarName => Object.hasOwn(scalar, op);

/** The row of a scalar primitive, or undefined for another operation. */
export const scalarRow = (op: string): ScalarRow | undefined =>
  isScalar(op) ? scalar[op] : undefined;

/** A constant without axes. */
export const constantNode = (value: number, dtype: Dtype): Node =>
  intern("const", dtype, {}, [], { value });

/** A float constant without axes. */
export const float = (value: number): Node => constantNode(value, "f32");

const isConst = (node: Node, value?: number): boolean =>
  node.op === "const" && (value === undefined || Object.is(node.attributes.value, value));

/** A scalar function of nodes; folds constants and drops the identities x + 0, x * 1, x / 1, -(-x). */
export const apply = (op: ScalarName, ...args: readonly Node[]): Node => {
  const row = scalar[op];
  const axes = args.reduce((all, arg) => join(all, arg.axes), {});
  const dtype = row.dtype(args.map((arg) => arg.dtype));
  if (dtype === undefined || args.length !== row.arity) {
    throw new AxisError(
      `${op} takes ${row.expects}, but got ${args.map((arg) => arg.dtype).join(", ")}`,
    );
  }
  const [a, b] = args;
  if (args.every((arg) => isConst(arg))) {
    const [x, y, z] = args.map((arg) => arg.attributes.value!);
    return constantNode((args[0].dtype === "u32" && row.u32 || row.meaning)(x, y, z), dtype);
  }
  const full = (node: Node) => Object.keys(node.axes).length === Object.keys(axes).length;
  if (op === "add" && isConst(a, 0)) return b;
  if (op === "add" && isConst(b, 0)) return a;
  if (op === "mul" && isConst(a, 1)) return b;
  if (op === "mul" && isConst(b, 1)) return a;
  if (op === "div" && isConst(b, 1)) return a;
  if (op === "neg" && a.op === "neg") return a.args[0];
  if (op === "select" && args[1] === args[2] && full(args[1])) return args[1];
  return intern(op, dtype, axes, args);
};
