// The table of scalar primitives, one row per function of numbers: its dtypes, its meaning in
// float64, its derivative, and its spelling in WGSL (WebAssembly's is in
// backends/wasm/simd/scalar.ts). Broadcasting is by name: a result has the axes of all arguments.
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
  readonly words?: (a: number, b: number, c: number) => number;
  readonly vjp: (
    g: Node,
    args: readonly Node[],
    y: Node,
    wanted: readonly boolean[],
  ) => readonly (Node | undefined)[];
  /** In WGSL, from the arguments' texts and the dtype of the first. */
  readonly wgsl: (a: string, b: string, c: string, of: Dtype) => string;
  /** WGSL functions that the spelling calls. */
  readonly helpers?: readonly string[];
}

const floats = (arity: number) => (args: readonly Dtype[]): Dtype | undefined =>
  args.length === arity && args.every((dtype) => dtype === "f32") ? "f32" : undefined;
const words = (args: readonly Dtype[]): Dtype | undefined =>
  args.every((dtype) => dtype === "u32") ? "u32" : undefined;
const alike = (args: readonly Dtype[]): Dtype | undefined =>
  args[0] === args[1] && args[0] !== "bool" ? args[0] : undefined;

const unary = (
  meaning: (a: number) => number,
  wgsl: (a: string) => string,
  pull: (g: Node, x: Node, y: Node) => Node | undefined,
  ...helpers: readonly string[]
): ScalarRow => ({
  arity: 1,
  dtype: floats(1),
  expects: "a float",
  meaning,
  wgsl,
  vjp: (g, [x], y) => [pull(g, x, y)],
  helpers,
});

const onU32 = (
  meaning: (a: number, b: number) => number,
  wgsl: (a: string, b: string) => string,
): ScalarRow => ({
  arity: 2,
  dtype: words,
  expects: "two words",
  meaning,
  wgsl,
  vjp: () => [undefined, undefined],
});

/**
 * erf on floats up to 3.92, beyond which it is 1: x P(x²) / Q(x²), our own minimax fit. The
 * relative error is below 4e-7. One fit, since vectors compute both branches of a select.
 */
export const erfFit = {
  most: 3.92,
  over: [
    1.1283791461512773,
    0.19040659147357658,
    0.05274873213171836,
    0.0037656204347149428,
    0.000284882502035037,
    2.050082309704361e-6,
  ],
  under: [
    1,
    0.5020761890859665,
    0.11410915660821033,
    0.014969223521104845,
    0.0011625358047804783,
    3.809165186109519e-5,
  ],
} as const;

/** e^(a²) erfc(a) / t up to 10.1, where t = 1 / (1 + a / 2), by t - 1/2; within 3e-8. */
export const erfcFit = [
  0.5107913613319397,
  0.687160849571228,
  0.5589427947998047,
  0.14574722945690155,
  -0.1720186173915863,
  -0.103016197681427,
  0.09736117720603943,
  0.04676390066742897,
  -0.06779003888368607,
  0.011623593978583813,
] as const;

/** sin and cos up to pi / 4: x + x³ S(x²) and 1 - x² / 2 + x⁴ C(x²), our own minimax fits. */
export const waveFit = {
  sin: [-0.16666655242443085, 0.008332186378538609, -0.0001951769954757765],
  cos: [0.04166664555668831, -0.0013887309469282627, 2.4432321879430674e-5],
} as const;

const horner = (coefficients: readonly number[], x: string): string =>
  coefficients.reduceRight((sum, c) => sum === "" ? `${c}` : `(${sum} * ${x} + ${c})`, "");

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

// ---- WGSL ---------------------------------------------------------------------------------------
// WGSL lets compilers assume that no float is infinite or NaN, and some devices have no subnormal
// numbers. So special values are recognised by their bits, and made from u32 that no compiler knows.

/** The test for NaN in WGSL, by bits, as `x != x` may be optimised away. */
const isNan = (x: string): string => `((bitcast<u32>(${x}) & 0x7fffffffu) > 0x7f800000u)`;
/** The variable of a module that holds the bits of infinity, which its entry point sets. */
export const infinityBits = "infinity_";
/** Infinity, -Infinity or NaN in WGSL. */
export const special = (value: number): string =>
  value === Infinity
    ? `bitcast<f32>(${infinityBits})`
    : `bitcast<f32>(${infinityBits} | ${value === -Infinity ? "0x80000000u" : "0x400000u"})`;

/** The maximum of two floats; NaN if either is NaN. */
export const wgslMax = `fn max_(a: f32, b: f32) -> f32 {
  let most = max(bitcast<u32>(a) & 0x7fffffffu, bitcast<u32>(b) & 0x7fffffffu);
  return select(max(a, b), a + b, most > 0x7f800000u);
}`;

// Divides mantissas, so that intermediate results stay in range, with one correction step, so that
// exact quotients are exact where a device multiplies by a reciprocal. The exponent is restored by
// two factors, as the difference of two exponents may exceed the range.
const wgslDiv = `fn mantissa_(n: u32) -> f32 {
  let whole = bitcast<f32>((n & 0x7fffffu) | 0x3f800000u);
  return select(whole, f32(n) * ${2 ** -23}, n < 0x800000u);
}
fn power_(n: i32) -> f32 {
  return bitcast<f32>(u32(n + 127) << 23u);
}
fn div_(a: f32, b: f32) -> f32 {
  let m = bitcast<u32>(a) & 0x7fffffffu;
  let n = bitcast<u32>(b) & 0x7fffffffu;
  let x = mantissa_(m);
  let y = mantissa_(n);
  let near = x / y;
  let close = near + fma(-near, y, x) / y;
  let power = i32(max(m >> 23u, 1u)) - i32(max(n >> 23u, 1u));
  let first = clamp(power, -126, 127);
  let size = close * power_(first) * power_(clamp(power - first, -126, 127));
  let sign = (bitcast<u32>(a) ^ bitcast<u32>(b)) & 0x80000000u;
  let usual = select(bitcast<u32>(size) | sign, bitcast<u32>(a / b), max(m, n) >= 0x7f800000u);
  let isNone = (m == 0u) | (m > 0x7f800000u);
  let byZero = select(${infinityBits} | sign, ${infinityBits} | 0x400000u, isNone);
  return bitcast<f32>(select(usual, byZero, n == 0u));
}`;

const wgslExp = `fn exp_(x: f32) -> f32 {
  return select(exp(x), x, ${isNan("x")});
}`;

// WGSL does not define the logarithm of zero and below: SwiftShader returns that of |x|.
const wgslLog = `fn log_(x: f32) -> f32 {
  let n = bitcast<u32>(x);
  let isTiny = n < 0x800000u;
  let value = log(select(x, f32(n), isTiny)) - select(0.0, ${149 * Math.LN2}, isTiny);
  let end = select(${special(NaN)}, x, n == 0x7f800000u);
  return select(select(end, ${special(-Infinity)}, (n << 1u) == 0u), value, n - 1u < 0x7f7fffffu);
}`;

const wgslErf = `fn erf_(x: f32) -> f32 {
  let a = clamp(x, -${erfFit.most}, ${erfFit.most});
  let z = a * a;
  return select(a * ${horner(erfFit.over, "z")} / ${horner(erfFit.under, "z")}, x, ${isNan("x")});
}`;

// e^-a² with a² in two parts, the first exact: rounding a² would be many units of the result.
const wgslErfc = `fn erfc_(x: f32) -> f32 {
  let a = min(abs(x), 10.1);
  let high = bitcast<f32>(bitcast<u32>(a) & 0xfffff000u);
  let low = (a - high) * (a + high);
  let bell = exp(-high * high) * (1.0 - low * (1.0 - 0.5 * low * (1.0 - 0.33333334 * low)));
  let t = 1.0 / (1.0 + 0.5 * a);
  let v = t - 0.5;
  let value = bell * t * ${horner(erfcFit, "v")};
  return select(select(value, 2.0 - value, x < 0.0), x, ${isNan("x")});
}`;

// log(1 + x) = 2 artanh(d / 2), d = x / (1 + x / 2): a short odd series near zero, where log itself loses digits.
const wgslLog1p = `fn log1p_(x: f32) -> f32 {
  let d = x / (1.0 + 0.5 * x);
  let z = 0.25 * d * d;
  let near = d * (1.0 + z * (0.33333334 + z * (0.2 + z * (0.14285715 + z * (0.11111111 + z * 0.09090909)))));
  return select(near, log_(1.0 + x), abs(x) > 0.35);
}`;

const wgslTanh = `fn tanh_(x: f32) -> f32 {
  let a = abs(x);
  let z = x * x;
  let near = x * (1.0 + z * (-0.33333334 + z * (0.13333334 + z * (-0.053968254 + z * (0.021869488 + z * (-0.008863236 + z * 0.003592128))))));
  return select(near, sign(x) * (1.0 - 2.0 / (exp(2.0 * min(a, 20.0)) + 1.0)), a > 0.5);
}`;

/** The bits of 1 / (2 pi) as u32, after a zero, which stands for whole turns. */
const turnWords = [0, 0x28be60db, 0x9391054a, 0x7f09d5f4, 0x7d4d3770, 0x36d8a566, 0x4f10e410];
// WGSL guarantees for its sin and cos only an absolute error of 2^-11, within pi of zero, and some
// devices are that inaccurate. Ours are within 2e-7 (tests/backends/webgpu/wgsl/wave_test.ts). The
// angle is reduced in u32 arithmetic, where whole turns vanish by overflow: |x| is an integer times
// a power of two, which selects the bits of 1 / (2 pi) that matter. Values near zero stay
// unreduced, to keep their digits, and infinities become NaN. There is no &&: it is a branch, and
// SwiftShader does not finish compiling a kernel with 42 of them.
const wgslWave = `fn turns_(k: u32) -> u32 {
  let low = select(select(${turnWords[0]}u, ${turnWords[1]}u, k == 1u), select(${turnWords[2]}u, ${
  turnWords[3]
}u, k == 3u), k > 1u);
  let high = select(select(${turnWords[4]}u, ${turnWords[5]}u, k == 5u), ${turnWords[6]}u, k > 5u);
  return select(low, high, k > 3u);
}
fn wave_(x: f32, shift: u32) -> f32 {
  let bits = bitcast<u32>(x);
  let exponent = (bits >> 23u) & 255u;
  let n = (bits & 0x7fffffu) | 0x800000u;
  let place = max(exponent, 118u) - 118u;
  let word = place >> 5u;
  let by = place & 31u;
  let w1 = turns_(word + 1u);
  let above = (turns_(word) << by) | ((w1 >> 1u) >> (31u - by));
  let below = (w1 << by) | ((turns_(word + 2u) >> 1u) >> (31u - by));
  let high = n >> 16u;
  let low = n & 65535u;
  let middle = low * (below >> 16u) + ((low * (below & 65535u)) >> 16u);
  let upper = high * (below & 65535u) + (middle & 65535u);
  let turn = n * above + high * (below >> 16u) + (middle >> 16u) + (upper >> 16u);
  let angle = select(turn, 0u - turn, x < 0.0);
  let quadrant = (angle + 536870912u) >> 30u;
  let rest = f32(bitcast<i32>(angle - (quadrant << 30u))) * ${2 * Math.PI / 2 ** 32};
  let isFar = (abs(x) > 0.75) & (exponent < 255u);
  let r = select(x, rest, isFar);
  let q = select(0u, quadrant, isFar) + shift;
  let z = r * r;
  let sine = r + r * z * ${horner(waveFit.sin, "z")};
  let cosine = 1.0 - 0.5 * z + z * z * ${horner(waveFit.cos, "z")};
  let value = select(sine, cosine, (q & 1u) == 1u);
  return select(value, -value, (q & 2u) == 2u);
}`;

const wgslWord = `fn word_(x: f32) -> u32 {
  let n = select(u32(clamp(x, 0.0, 4294967040.0)), 0xffffffffu, x >= 4294967296.0);
  return select(n, 0u, ${isNan("x")});
}`;

const half = 0.5;

/** The table. Tests iterate it; a missing column does not compile. */
export const scalar: Readonly<Record<ScalarName, ScalarRow>> = {
  add: {
    arity: 2,
    dtype: alike,
    expects: "two floats or two words",
    meaning: (a, b) => a + b,
    words: (a, b) => (a + b) >>> 0,
    vjp: (g) => [g, g],
    wgsl: (a, b) => `(${a} + ${b})`,
  },
  mul: {
    arity: 2,
    dtype: alike,
    expects: "two floats or two words",
    meaning: (a, b) => a * b,
    words: (a, b) => Math.imul(a, b) >>> 0,
    vjp: (g, [a, b]) => [apply("mul", g, b), apply("mul", g, a)],
    wgsl: (a, b) => `(${a} * ${b})`,
  },
  max: {
    arity: 2,
    dtype: alike,
    expects: "two floats or two words",
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
    wgsl: (a, b, _, of) => of === "u32" ? `max(${a}, ${b})` : `max_(${a}, ${b})`,
    helpers: [wgslMax],
  },
  neg: unary((a) => -a, (a) => `(-${a})`, (g) => apply("neg", g)),
  div: {
    arity: 2,
    dtype: floats(2),
    expects: "two floats",
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
    wgsl: (a, b) => a === "1.0f" ? `(1.0 / ${b})` : `div_(${a}, ${b})`,
    helpers: [wgslDiv],
  },
  exp: unary(Math.exp, (a) => `exp_(${a})`, (g, _x, y) => apply("mul", g, y), wgslExp),
  log: unary(Math.log, (a) => `log_(${a})`, (g, x) => apply("div", g, x), wgslLog),
  log1p: unary(
    Math.log1p,
    (a) => `log1p_(${a})`,
    (g, x) => apply("div", g, apply("add", x, float(1))),
    wgslLog,
    wgslLog1p,
  ),
  sin: unary(
    Math.sin,
    (a) => `wave_(${a}, 0u)`,
    (g, x) => apply("mul", g, apply("cos", x)),
    wgslWave,
  ),
  cos: unary(
    Math.cos,
    (a) => `wave_(${a}, 1u)`,
    (g, x) => apply("neg", apply("mul", g, apply("sin", x))),
    wgslWave,
  ),
  sqrt: unary(
    Math.sqrt,
    (a) => `sqrt(${a})`,
    // Norms have that reciprocal already.
    (g, _x, y) => apply("mul", g, apply("mul", float(half), apply("div", float(1), y))),
  ),
  tanh: unary(
    Math.tanh,
    (a) => `tanh_(${a})`,
    (g, _x, y) => apply("mul", g, apply("add", float(1), apply("neg", apply("mul", y, y)))),
    wgslTanh,
  ),
  erf: unary(
    erf,
    (a) => `erf_(${a})`,
    (g, x) =>
      apply(
        "mul",
        g,
        apply("mul", float(2 / Math.sqrt(Math.PI)), apply("exp", apply("neg", apply("mul", x, x)))),
      ),
    wgslErf,
  ),
  erfc: unary(
    erfc,
    (a) => `erfc_(${a})`,
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
    wgslErfc,
  ),
  floor: unary(Math.floor, (a) => `floor(${a})`, () => undefined),
  less: {
    arity: 2,
    dtype: (args) => alike(args) && "bool",
    expects: "two floats or two words",
    meaning: (a, b) => a < b ? 1 : 0,
    vjp: () => [undefined, undefined],
    wgsl: (a, b) => `(${a} < ${b})`,
  },
  equal: {
    arity: 2,
    dtype: (args) => alike(args) && "bool",
    expects: "two floats or two words",
    meaning: (a, b) => a === b ? 1 : 0,
    vjp: () => [undefined, undefined],
    wgsl: (a, b) => `(${a} == ${b})`,
  },
  select: {
    arity: 3,
    dtype: ([c, a, b]) => c === "bool" && a === b ? a : undefined,
    expects: "a truth value and two values of one dtype",
    meaning: (c, a, b) => c !== 0 ? a : b,
    vjp: (g, [c]) => [undefined, apply("select", c, g, float(0)), apply("select", c, float(0), g)],
    wgsl: (c, a, b) => `select(${b}, ${a}, ${c})`,
  },
  toFloat: {
    arity: 1,
    dtype: ([a]) => a === "f32" ? undefined : "f32",
    expects: "a word or a truth value",
    meaning: (a) => a,
    vjp: () => [undefined],
    wgsl: (a, _b, _c, of) => of === "bool" ? `select(0.0, 1.0, ${a})` : `f32(${a})`,
  },
  toWord: {
    arity: 1,
    dtype: ([a]) => a === "u32" ? undefined : "u32",
    expects: "a float or a truth value",
    meaning: (a) => Math.min(Math.max(Math.trunc(a) || 0, 0), 0xffffffff),
    vjp: () => [undefined],
    wgsl: (a, _b, _c, of) => of === "bool" ? `u32(${a})` : `word_(${a})`,
    helpers: [wgslWord],
  },
  bits: {
    arity: 1,
    dtype: ([a]) => a === "f32" ? "u32" : undefined,
    expects: "a float",
    meaning: bitsOf,
    vjp: () => [undefined],
    wgsl: (a) => `bitcast<u32>(${a})`,
  },
  xor: onU32((a, b) => (a ^ b) >>> 0, (a, b) => `(${a} ^ ${b})`),
  shiftLeft: onU32((a, b) => (a << (b & 31)) >>> 0, (a, b) => `(${a} << (${b} & 31u))`),
  shiftRight: onU32((a, b) => a >>> (b & 31), (a, b) => `(${a} >> (${b} & 31u))`),
  // A divisor of 0 counts as 1.
  quotient: onU32(
    (a, b) => Math.floor(a / Math.max(b, 1)),
    (a, b) => `(${a} / max(${b}, 1u))`,
  ),
  remainder: onU32((a, b) => a % Math.max(b, 1), (a, b) => `(${a} % max(${b}, 1u))`),
};

/** The row of a scalar primitive, or undefined for another operation. */
export const scalarRow = (op: string): ScalarRow | undefined =>
  Object.hasOwn(scalar, op) ? scalar[op as ScalarName] : undefined;

/** A constant without axes. */
export const constant = (value: number, dtype: Dtype): Node =>
  intern("const", dtype, {}, [], { value });

/** A float constant without axes. */
export const float = (value: number): Node => constant(value, "f32");

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
    return constant((args[0].dtype === "u32" && row.words || row.meaning)(x, y, z), dtype);
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
