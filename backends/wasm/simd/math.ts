// Functions of floats on vectors of four, built from additions, products and bit operations. The
// coefficients are our own minimax fits. Their errors over all floats are measured by `deno task
// accuracy`, listed in bench/results/accuracy.md and tested on a sample
// (tests/experiments/inspect/accuracy_test.ts). expOf is within 2.5e-7, plus 1.2e-7 |x| for
// rounding the product x = a * b; it is 0 where its value is not a normal number.
import { erfcFit, waveFit } from "../../codegen/approximations.ts";
import type { Builder, Value } from "../assembler/builder.ts";
import type { Engine } from "../engine.ts";

/** Functions of one argument. */
export type VectorFunction = "exp" | "log" | "log1p" | "tanh" | "erf" | "erfc" | "sin" | "cos";

/** The functions for one builder. */
export interface VectorMath extends Readonly<Record<VectorFunction, (x: Value) => Value>> {
  /** exp(a * b), where `a` is invariant: it is scaled to a power of two outside of the loop. */
  readonly expOf: (a: Value, b: Value) => Value;
  /** a * b + c */
  readonly madd: (a: Value, b: Value, c: Value) => Value;
  /** The maximum of a and b; NaN if either is NaN. */
  readonly max: (a: Value, b: Value) => Value;
  /** `yes` in lanes of a mask that are all ones, `no` in those that are all zeros. */
  readonly choose: (yes: Value, no: Value, mask: Value) => Value;
}

const expTerms = [
  1,
  1,
  0.5000003576278687,
  0.1666661649942398,
  0.04166119173169136,
  0.008335955440998077,
  0.0014105598675087094,
  0.00019632239127531648,
];
const exp2Terms = [
  1,
  0.6931469775987843,
  0.24022242084743917,
  0.05550733743522557,
  0.009671512681039246,
  0.0013264727241601923,
];
const logTerms = [
  0.3333333170969447,
  -0.2500082105624708,
  0.2000122666733527,
  -0.16623356478235926,
  0.14201762470527898,
  -0.13160195067879255,
  0.12761550337394365,
  -0.0763442983725842,
];
/** tanh(x) = x + x^3 P(x^2) up to 0.8. */
const tanhTerms = [
  -0.33333298563957214,
  0.13332241773605347,
  -0.0538535974919796,
  0.02130652591586113,
  -0.007414170075207949,
  0.0015870387433096766,
];
/** 2^x up to 1/2, more accurate than exponentials of products need. */
const power2Terms = [
  1,
  0.6931471824645996,
  0.24022647738456726,
  0.05550359562039375,
  0.009618503041565418,
  0.0013390998356044292,
  0.0001532784226583317,
];
/** erf(x) = x + x P(x^2) up to 0.8. */
const erfTerms = [
  0.12837916612625122,
  -0.37612608075141907,
  0.11283162236213684,
  -0.026822242885828018,
  0.005086865741759539,
  -0.000654224946629256,
];

/** ln 2 and pi / 2 in parts, the first of so few bits that small multiples of them are exact. */
const ln2 = [0.693359375, -0.00021219444005469058];
const halfPi = [1.5703125, 0.00048351287841796875, 3.1391391530632973e-07, 2.5633440682570896e-12];
/** Largest angle that is reduced by those parts. */
const near = 2048;
/** The bytes of 1 / (2 pi) after four zero bytes, which stand for whole turns. */
const turnBytes = [
  [0, 0, 0, 0, 0x28, 0xbe, 0x60, 0xdb, 0x93, 0x91, 0x05, 0x4a, 0x7f, 0x09, 0xd5, 0xf4],
  [0x7d, 0x4d, 0x37, 0x70, 0x36, 0xd8, 0xa5, 0x66, 0x4f, 0x10, 0xe4, 0x10, 0x7f, 0x94, 0x58, 0xea],
];
/** Adding this rounds a float to a whole number, which is then in its low bits. */
const rounder = 12582912;
/** The same with the bias of exponents: shifted to where those are, the number is a power of two. */
const powerRounder = rounder + 127;

export const vectorMath = (make: Builder, { relaxed, wide }: Engine): VectorMath => {
  const { op, splat, vector, whole } = make;
  const bits = (word: number) => vector([word, word, word, word]);
  const add = (a: Value, b: Value) => op("f32x4.add", a, b);
  const sub = (a: Value, b: Value) => op("f32x4.sub", a, b);
  const mul = (a: Value, b: Value) => op("f32x4.mul", a, b);
  const madd = (a: Value, b: Value, c: Value) =>
    relaxed ? op("f32x4.relaxed_madd", a, b, c) : add(mul(a, b), c);
  /** c - a * b */
  const nmadd = (a: Value, b: Value, c: Value) =>
    relaxed ? op("f32x4.relaxed_nmadd", a, b, c) : sub(c, mul(a, b));
  const choose = (yes: Value, no: Value, mask: Value) =>
    op(relaxed && !wide ? "i32x4.relaxed_laneselect" : "v128.bitselect", yes, no, mask);
  const polynomial = (terms: readonly number[], x: Value): Value =>
    terms.slice(0, -1).reduceRight((sum, c) => madd(sum, x, splat(c)), splat(terms.at(-1)!));

  // pmin and pmax return their first argument if it is NaN.
  const between = (x: Value, least: number, most: number) =>
    op("f32x4.pmax", op("f32x4.pmin", x, splat(most)), splat(least));
  const powerOf = (shifted: Value) => op("i32x4.shl", shifted, whole(23));

  /**
   * e^rest scaled, for the power of two that `shifted` rounds half the exponent to: multiplied by it
   * twice, so that both factors are normal numbers where the product is not.
   */
  const scaled = (rest: Value, shifted: Value, by?: Value): Value => {
    const power = powerOf(shifted), terms = polynomial(expTerms.slice(1), rest);
    const value = by === undefined ? madd(terms, rest, splat(1)) : madd(mul(by, rest), terms, by);
    return mul(mul(value, power), power);
  };
  const exp = (x: Value): Value => {
    // At the lower end the power is 0 itself, as subnormal numbers are slow.
    const within = between(x, -176.1, 89);
    const shifted = madd(within, splat(Math.LOG2E / 2), splat(powerRounder));
    const n = sub(shifted, splat(powerRounder));
    const rest = nmadd(n, splat(2 * ln2[1]), nmadd(n, splat(2 * ln2[0]), within));
    return scaled(rest, shifted);
  };

  const expOf = (a: Value, b: Value): Value => {
    // At both ends the rest is 0, and what the exponent becomes is exactly 0 or infinite.
    const within = between(mul(mul(a, splat(Math.LOG2E)), b), -127, 128);
    const shifted = add(within, splat(rounder));
    const rest = sub(within, sub(shifted, splat(rounder)));
    return op("i32x4.add", polynomial(exp2Terms, rest), powerOf(shifted));
  };

  /** The logarithm of normal numbers; `times` the power of two is added that `e` counts. */
  const logOf = (x: Value, more?: Value): Value => {
    // x = m * 2^e with m between the roots of 1/2 and 2.
    const e = op("i32x4.shr_s", op("i32x4.sub", x, bits(0x3f3504f3)), whole(23));
    const m = op("i32x4.sub", x, op("i32x4.shl", e, whole(23)));
    const f = sub(m, splat(1));
    const counted = op("f32x4.convert_i32x4_s", e);
    const times = more === undefined ? counted : sub(counted, more);
    const square = mul(f, f);
    const tail = mul(mul(polynomial(logTerms, f), f), square);
    const small = madd(times, splat(ln2[1]), nmadd(square, splat(0.5), tail));
    return madd(times, splat(ln2[0]), add(f, small));
  };
  /** Logarithms of other than positive finite numbers: -Infinity, Infinity or NaN. */
  const withEnds = (value: Value, x: Value): Value => {
    const infinite = splat(Infinity), zero = splat(0);
    const sound = op("v128.and", op("f32x4.lt", zero, x), op("f32x4.lt", x, infinite));
    const edge = choose(x, splat(NaN), op("f32x4.ge", x, infinite));
    return choose(value, choose(splat(-Infinity), edge, op("f32x4.eq", x, zero)), sound);
  };
  const log = (x: Value): Value => {
    const tiny = op("f32x4.lt", x, splat(1.1754943508222875e-38));
    const normal = choose(mul(x, splat(2 ** 24)), x, tiny);
    return withEnds(logOf(normal, op("v128.and", tiny, splat(24))), x);
  };

  const log1p = (x: Value): Value => {
    // log of the rounded 1 + x, plus a correction for the rounding.
    const u = add(x, splat(1));
    const lost = op("f32x4.div", sub(x, sub(u, splat(1))), u);
    const counts = op("f32x4.lt", op("f32x4.abs", lost), splat(1));
    return add(withEnds(logOf(u), u), op("v128.and", lost, counts));
  };

  const negative = () => bits(0x80000000);
  const tanh = (x: Value): Value => {
    const z = mul(x, x);
    const near = madd(mul(x, z), polynomial(tanhTerms, z), x);
    // 1 - 2 / (e^2a + 1), which keeps the digits of what is taken off.
    const a = op("f32x4.pmin", op("f32x4.abs", x), splat(9.2));
    const shifted = madd(a, splat(2 * Math.LOG2E), splat(powerRounder));
    const n = sub(shifted, splat(powerRounder));
    const rest = relaxed
      ? madd(a, splat(2 * Math.LOG2E), op("f32x4.neg", n))
      : sub(mul(a, splat(2 * Math.LOG2E)), n);
    const power = mul(polynomial(power2Terms, rest), powerOf(shifted));
    const lost = op("f32x4.div", splat(2), add(power, splat(1)));
    const far = op("v128.or", sub(splat(1), lost), op("v128.and", x, negative()));
    return choose(near, far, op("f32x4.lt", op("f32x4.abs", x), splat(0.8)));
  };

  /** erfc(|x|) */
  const tail = (x: Value): Value => {
    const a = op("f32x4.pmin", op("f32x4.abs", x), splat(10.1));
    // a^2 in two parts, the first of them exact: its rounding would be a hundred units of e^-a^2.
    const high = op("v128.and", a, bits(0xfffff000));
    const square = mul(high, high), low = mul(sub(a, high), add(a, high));
    const shifted = nmadd(add(square, low), splat(Math.LOG2E / 2), splat(powerRounder));
    const n = sub(shifted, splat(powerRounder));
    const first = nmadd(n, splat(2 * ln2[0]), op("f32x4.neg", square));
    const rest = sub(first, madd(n, splat(2 * ln2[1]), low));
    const under = madd(a, splat(0.5), splat(1)), t = op("f32x4.div", splat(1), under);
    // Not times t, which was rounded.
    const by = op("f32x4.div", polynomial(erfcFit, sub(t, splat(0.5))), under);
    return scaled(rest, shifted, by);
  };
  const erfNear = (x: Value): Value => madd(x, polynomial(erfTerms, mul(x, x)), x);
  const erfc = (x: Value): Value => {
    const value = tail(x), near = sub(splat(1), erfNear(x));
    const far = choose(sub(splat(2), value), value, op("f32x4.lt", x, splat(0)));
    return choose(near, far, op("f32x4.lt", op("f32x4.abs", x), splat(0.8)));
  };
  const erf = (x: Value): Value => {
    const near = erfNear(x);
    const far = op("v128.or", sub(splat(1), tail(x)), op("v128.and", x, negative()));
    return choose(near, far, op("f32x4.lt", op("f32x4.abs", x), splat(0.8)));
  };

  /** An angle reduced by a multiple of pi / 2, and that multiple in the low bits of a u32. */
  interface Angle {
    readonly rest: Value;
    readonly quadrant: Value;
  }

  /**
   * The same for any float, in u32 arithmetic, where whole turns vanish by overflow: x is an
   * integer of 31 bits times a power of 256, which selects the bytes of 1 / (2 pi) to begin with.
   */
  const farAngle = (x: Value): Angle => {
    const exponent = op("i32x4.shr_u", op("i32x4.shl", x, whole(1)), whole(24));
    const place = op("i32x4.sub", exponent, bits(118));
    const shift = op("v128.and", place, bits(7));
    const field = op("i32x4.shl", op("i32x4.add", shift, bits(150)), whole(23));
    const float = op("v128.or", op("v128.and", x, bits(0x7fffff)), field);
    const number = op("i32x4.trunc_sat_f32x4_u", float);
    const from = op("i32x4.mul", op("i32x4.shr_s", place, whole(3)), bits(0x01010101));
    const [first, second] = turnBytes.map((of) =>
      vector([...new Uint32Array(Uint8Array.from(of).buffer)])
    );
    const wordAt = (k: number): Value => {
      const at = op("i32x4.add", from, bits(0x00010203 + 4 * k * 0x01010101));
      return op(
        "v128.or",
        op("i8x16.swizzle", first, at),
        op("i8x16.swizzle", second, op("v128.xor", at, bits(0x10101010))),
      );
    };
    const product = (word: Value) => {
      const low = op("i64x2.extmul_low_i32x4_u", number, word);
      const high = op("i64x2.extmul_high_i32x4_u", number, word);
      return [make.shuffle(low, high, [0, 2, 4, 6]), make.shuffle(low, high, [1, 3, 5, 7])];
    };
    const [low1, high1] = product(wordAt(1)), [, high2] = product(wordAt(2));
    const below = op("i32x4.add", low1, high2);
    const carried = op("i32x4.lt_u", below, low1);
    const whole1 = op("i32x4.add", op("i32x4.mul", number, wordAt(0)), high1);
    const turn = op("i32x4.sub", whole1, carried);
    const quarters = op("i32x4.shr_u", op("i32x4.add", turn, bits(0x20000000)), whole(30));
    const rest = op("i32x4.sub", turn, op("i32x4.shl", quarters, whole(30)));
    const minus = op("i32x4.shr_s", rest, whole(31));
    // Of 12 bits by 12 the product is exact; the others are too small for their rounding to matter.
    const [above, under] = [op("v128.xor", rest, minus), op("v128.xor", below, minus)];
    const [first12, next18, last32] = [
      op("v128.and", above, bits(0xfffc0000)),
      op("v128.and", above, bits(0x3ffff)),
      under,
    ].map((of) => op("f32x4.convert_i32x4_u", of));
    const part = 2 * Math.PI / 2 ** 32, few = Math.round(part * 2 ** 41) / 2 ** 41;
    const lost = madd(first12, splat(part - few), mul(last32, splat(part / 2 ** 32)));
    const size = add(mul(first12, splat(few)), madd(next18, splat(part), lost));
    const sign = op("v128.and", op("v128.xor", minus, x), negative());
    const side = op("i32x4.shr_s", x, whole(31));
    return {
      // Infinity has no angle.
      rest: add(op("v128.xor", size, sign), sub(x, x)),
      quadrant: op("i32x4.sub", op("v128.xor", quarters, side), side),
    };
  };

  const angleOf = (x: Value): Angle => {
    const shifted = madd(x, splat(2 / Math.PI), splat(rounder));
    const n = sub(shifted, splat(rounder));
    // The products and the first two differences are exact; the rounding of the third is corrected.
    const first = nmadd(n, splat(halfPi[1]), nmadd(n, splat(halfPi[0]), x));
    const third = mul(n, splat(halfPi[2])), second = sub(first, third);
    const lost = nmadd(n, splat(halfPi[3]), sub(sub(first, second), third));
    const rest = make.variable("v128", add(second, lost));
    const quadrant = make.variable("v128", shifted);
    const isFar = op("f32x4.ge", op("f32x4.abs", x), splat(near));
    const given = make.variable("v128", x);
    make.when(op("v128.any_true", isFar), () => {
      // Read here, so that its dependents are computed here.
      const far = farAngle(make.current(given));
      make.assign(rest, choose(far.rest, make.current(rest), isFar));
      make.assign(quadrant, choose(far.quadrant, make.current(quadrant), isFar));
    });
    return { rest: make.current(rest, x.varies), quadrant: make.current(quadrant, x.varies) };
  };

  const wave = (x: Value, shift: number): Value => {
    const { rest: r, quadrant: turned } = angleOf(x);
    const z = mul(r, r);
    const sine = madd(mul(r, z), polynomial(waveFit.sin, z), r);
    // 1 - z / 2, and its rounding error.
    const half = mul(z, splat(0.5)), most = sub(splat(1), half);
    const lost = sub(sub(splat(1), most), half);
    const cosine = add(most, madd(mul(z, z), polynomial(waveFit.cos, z), lost));
    const quadrant = op("i32x4.add", turned, bits(shift));
    const odd = op("i32x4.shr_s", op("i32x4.shl", quadrant, whole(31)), whole(31));
    const sign = op("i32x4.shl", op("v128.and", quadrant, bits(2)), whole(30));
    return op("v128.xor", choose(cosine, sine, odd), sign);
  };

  return {
    exp,
    expOf,
    log,
    log1p,
    tanh,
    erfc,
    erf,
    sin: (x) => wave(x, 0),
    cos: (x) => wave(x, 1),
    madd,
    // pmax returns `a` if one of them is NaN; if it is `b`, set all bits.
    max: (a, b) => op("v128.or", op("f32x4.pmax", a, b), op("f32x4.ne", b, b)),
    choose,
  };
};
