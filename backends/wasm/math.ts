// Functions of floats on vectors of four, built from additions, products and bit operations. The
// coefficients are our own least-maximum fits. The bounds are of |error| / |exact value| in f32 over
// normal numbers, and are tested (tests/wasm/math_test.ts):
//
//   exp    2.5e-7 up to 88.37, infinite beyond; 0 below -87.68
//   expOf  the same, and 1.2e-7 |x| for rounding the product x = a * b
//   log    2e-7 (of 1 near 1); denormal numbers count as 0
//   log1p  3e-7
//   tanh   4e-7
//   erf    4e-7
//   sin, cos  absolute 2e-7 up to |x| = 1000, growing with |x| beyond, 1e-3 at 100,000
import { erfFit, waveFit } from "../../dsl/scalar.ts";
import type { Builder, Value } from "./builder.ts";
import type { Engine } from "./engine.ts";

/** Functions of one argument. */
export type VectorFunction = "exp" | "log" | "log1p" | "tanh" | "erf" | "sin" | "cos";

/** The functions for one builder. */
export interface VectorMath extends Readonly<Record<VectorFunction, (x: Value) => Value>> {
  /** exp(a * b), where `a` is known farther out: multiplied there by what makes it a power of two. */
  readonly expOf: (a: Value, b: Value) => Value;
  /** a * b + c */
  readonly madd: (a: Value, b: Value, c: Value) => Value;
  /** `yes` in lanes of a mask that are all ones, `no` in those that are all zeros. */
  readonly choose: (yes: Value, no: Value, mask: Value) => Value;
}

const expTerms = [
  1,
  1,
  0.4999923119574788,
  0.16667114834953103,
  0.04189020096823824,
  0.00831251556953325,
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
const tanhOver = [
  0.9999999794725648,
  0.1338102799452481,
  0.003495590816877584,
  2.060912213359395e-5,
  1.335470804205702e-8,
];
const tanhUnder = [
  1,
  0.4671434359294472,
  0.025876992710164262,
  0.00032856390270070035,
  7.776579191006897e-7,
];

/** ln 2 and pi / 2 in parts, the first of so few bits that small multiples of them are exact. */
const ln2 = [0.693359375, -0.00021219444005469058];
const halfPi = [1.5703125, 0.00048351287841796875, 3.1385570764541626e-7, 6.077100506506192e-11];
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

  // pmin and pmax give their first argument where that is no number.
  const between = (x: Value, least: number, most: number) =>
    op("f32x4.pmax", op("f32x4.pmin", x, splat(most)), splat(least));
  const powerOf = (shifted: Value) => op("i32x4.shl", shifted, whole(23));

  const exp = (x: Value): Value => {
    const within = between(x, -88, 88.8);
    const shifted = madd(within, splat(Math.LOG2E), splat(powerRounder));
    const n = sub(shifted, splat(powerRounder));
    const rest = nmadd(n, splat(ln2[1]), nmadd(n, splat(ln2[0]), within));
    return mul(polynomial(expTerms, rest), powerOf(shifted));
  };

  const expOf = (a: Value, b: Value): Value => {
    // At both ends the rest is 0, and what the exponent becomes is exactly 0 or infinite.
    const within = between(mul(mul(a, splat(Math.LOG2E)), b), -127, 128);
    const shifted = add(within, splat(rounder));
    const rest = sub(within, sub(shifted, splat(rounder)));
    return op("i32x4.add", polynomial(exp2Terms, rest), powerOf(shifted));
  };

  const log = (x: Value): Value => {
    // x = m * 2^e with m between the roots of 1/2 and 2.
    const e = op("i32x4.shr_s", op("i32x4.sub", x, bits(0x3f3504f3)), whole(23));
    const m = op("i32x4.sub", x, op("i32x4.shl", e, whole(23)));
    const f = sub(m, splat(1));
    const times = op("f32x4.convert_i32x4_s", e);
    const square = mul(f, f);
    const tail = mul(mul(polynomial(logTerms, f), f), square);
    const small = madd(times, splat(ln2[1]), nmadd(square, splat(0.5), tail));
    const value = madd(times, splat(ln2[0]), add(f, small));
    const infinite = splat(Infinity);
    const normal = splat(1.1754943508222875e-38);
    const sound = op(
      "v128.and",
      op("f32x4.ge", x, normal),
      op("f32x4.lt", x, infinite),
    );
    const isSmall = op("f32x4.lt", op("f32x4.abs", x), normal);
    const edge = choose(x, splat(NaN), op("f32x4.ge", x, infinite));
    return choose(value, choose(splat(-Infinity), edge, isSmall), sound);
  };

  const log1p = (x: Value): Value => {
    // log of what 1 + x was rounded to, and what the rounding lost.
    const u = add(x, splat(1));
    const lost = op("f32x4.div", sub(x, sub(u, splat(1))), u);
    const counts = op("f32x4.lt", op("f32x4.abs", lost), splat(1));
    return add(log(u), op("v128.and", lost, counts));
  };

  /** An odd rational function up to `most`, and its value there beyond. */
  const odd = (over: readonly number[], under: readonly number[], most: number) => (x: Value) => {
    const within = op("f32x4.pmax", op("f32x4.pmin", x, splat(most)), splat(-most));
    const z = mul(within, within);
    return op("f32x4.div", mul(within, polynomial(over, z)), polynomial(under, z));
  };

  const wave = (x: Value, shift: number): Value => {
    const shifted = madd(x, splat(2 / Math.PI), splat(rounder));
    const n = sub(shifted, splat(rounder));
    const r = halfPi.reduce((rest, part) => nmadd(n, splat(part), rest), x);
    const z = mul(r, r);
    const sine = madd(mul(r, z), polynomial(waveFit.sin, z), r);
    const cosine = madd(mul(z, z), polynomial(waveFit.cos, z), nmadd(z, splat(0.5), splat(1)));
    const quadrant = op("i32x4.add", shifted, bits(shift));
    const odd = op("i32x4.shr_s", op("i32x4.shl", quadrant, whole(31)), whole(31));
    const sign = op("i32x4.shl", op("v128.and", quadrant, bits(2)), whole(30));
    return op("v128.xor", choose(cosine, sine, odd), sign);
  };

  return {
    exp,
    expOf,
    log,
    log1p,
    tanh: odd(tanhOver, tanhUnder, 9),
    erf: odd(erfFit.over, erfFit.under, erfFit.most),
    sin: (x) => wave(x, 0),
    cos: (x) => wave(x, 1),
    madd,
    choose,
  };
};
