// The scalar functions of the language in WGSL, a row each, and the WGSL functions that rows call.
//
// WGSL lets compilers assume that no float is infinite or NaN, and some devices have no subnormal
// numbers. So special values are recognised by their bits, and made from u32 that no compiler knows.
import type { Dtype, ScalarName } from "../../../dsl/node.ts";
import { erfcFit, erfFit, waveFit } from "../../codegen/approximations.ts";

/** A scalar function in WGSL. */
interface Spelling {
  /** The expression, from those of the arguments and the dtype of the first. */
  readonly text: (a: string, b: string, c: string, of: Dtype) => string;
  /** The WGSL functions that it calls. */
  readonly helpers?: readonly string[];
}

const horner = (coefficients: readonly number[], x: string): string =>
  coefficients.reduceRight((sum, c) => sum === "" ? `${c}` : `(${sum} * ${x} + ${c})`, "");

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

/** The table: a missing function does not compile. */
export const wgslScalar: Readonly<Record<ScalarName, Spelling>> = {
  add: { text: (a, b) => `(${a} + ${b})` },
  mul: { text: (a, b) => `(${a} * ${b})` },
  max: {
    text: (a, b, _, of) => of === "u32" ? `max(${a}, ${b})` : `max_(${a}, ${b})`,
    helpers: [wgslMax],
  },
  neg: { text: (a) => `(-${a})` },
  div: { text: (a, b) => a === "1.0f" ? `(1.0 / ${b})` : `div_(${a}, ${b})`, helpers: [wgslDiv] },
  exp: { text: (a) => `exp_(${a})`, helpers: [wgslExp] },
  log: { text: (a) => `log_(${a})`, helpers: [wgslLog] },
  log1p: { text: (a) => `log1p_(${a})`, helpers: [wgslLog, wgslLog1p] },
  sin: { text: (a) => `wave_(${a}, 0u)`, helpers: [wgslWave] },
  cos: { text: (a) => `wave_(${a}, 1u)`, helpers: [wgslWave] },
  sqrt: { text: (a) => `sqrt(${a})` },
  tanh: { text: (a) => `tanh_(${a})`, helpers: [wgslTanh] },
  erf: { text: (a) => `erf_(${a})`, helpers: [wgslErf] },
  erfc: { text: (a) => `erfc_(${a})`, helpers: [wgslErfc] },
  floor: { text: (a) => `floor(${a})` },
  less: { text: (a, b) => `(${a} < ${b})` },
  equal: { text: (a, b) => `(${a} == ${b})` },
  select: { text: (c, a, b) => `select(${b}, ${a}, ${c})` },
  toFloat: { text: (a, _b, _c, of) => of === "bool" ? `select(0.0, 1.0, ${a})` : `f32(${a})` },
  toWord: {
    text: (a, _b, _c, of) => of === "bool" ? `u32(${a})` : `word_(${a})`,
    helpers: [wgslWord],
  },
  bits: { text: (a) => `bitcast<u32>(${a})` },
  xor: { text: (a, b) => `(${a} ^ ${b})` },
  shiftLeft: { text: (a, b) => `(${a} << (${b} & 31u))` },
  shiftRight: { text: (a, b) => `(${a} >> (${b} & 31u))` },
  quotient: { text: (a, b) => `(${a} / max(${b}, 1u))` },
  remainder: { text: (a, b) => `(${a} % max(${b}, 1u))` },
};
