// The vector functions against float64, with fused multiply-add and without, within their bounds.
import { assert, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import { assemble, hasRelaxed, memoryOf } from "../../../../backends/wasm/assembler/encode.ts";
import { type Builder, builder, type Value } from "../../../../backends/wasm/assembler/builder.ts";
import {
  type VectorFunction,
  type VectorMath,
  vectorMath,
} from "../../../../backends/wasm/simd/math.ts";
import { scalar } from "../../../../dsl/primitives.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

/** Applies what is printed to many floats. */
const printed = (
  relaxed: boolean,
  xs: Float32Array,
  print: (make: Builder, math: VectorMath) => (x: Value) => Value,
): Float32Array => {
  const make = builder(2);
  const of = print(make, vectorMath(make, { relaxed, wide: false }));
  make.loop("at", make.parameter(0), make.parameter(1), 16, 1, (at) => {
    make.store("v128.store", at, 0, of(make.load("v128.load", at, 0)));
  });
  const memory = memoryOf(64, false);
  const module = new WebAssembly.Module(assemble([make.func()], 64, false));
  const { f0 } = new WebAssembly.Instance(module, { env: { memory } }).exports;
  const held = new Float32Array(memory.buffer, 0, xs.length);
  held.set(xs);
  (f0 as (from: number, to: number) => void)(0, 4 * xs.length);
  return held.slice();
};

const applied = (name: VectorFunction, relaxed: boolean, xs: Float32Array): Float32Array =>
  printed(relaxed, xs, (_, math) => math[name]);

/** exp of products, one side of which is known before the other. */
const expOf = (a: number, relaxed: boolean, bs: Float32Array): Float32Array =>
  printed(relaxed, bs, (make, math) => {
    const first = make.splat(a);
    return (b) => math.expOf(first, b);
  });

const count = 2 ** 19;
/** Floats evenly spread, and others spread over all magnitudes in the range. */
const spread = (low: number, high: number): Float32Array =>
  Float32Array.from({ length: count }, (_, k) => {
    const part = (k + 0.5) / count;
    if (k % 2 === 0) return low + (high - low) * part;
    const size = 2 ** (-120 + (120 + Math.log2(Math.max(-low, high))) * part);
    return k % 4 === 1 && low < 0 ? Math.max(low, -size) : Math.min(high, Math.max(low, size));
  });

const bounds: readonly {
  readonly name: VectorFunction;
  readonly low: number;
  readonly high: number;
  readonly error: number;
  /** Values smaller than this count as this large. */
  readonly least?: number;
}[] = [
  { name: "exp", low: -87.3, high: 88.37, error: 2.5e-7 },
  { name: "log", low: 1.2e-38, high: 3e38, error: 2e-7, least: 0.5 },
  { name: "log1p", low: -0.999, high: 1e30, error: 3e-7 },
  { name: "tanh", low: -20, high: 20, error: 4e-7 },
  { name: "erf", low: -6, high: 6, error: 4e-7 },
  { name: "sin", low: -1000, high: 1000, error: 2e-7, least: 1 },
  { name: "cos", low: -1000, high: 1000, error: 2e-7, least: 1 },
  { name: "erfc", low: -6, high: 9, error: 5e-7 },
  // Up to the largest float, where whole turns are taken off in words.
  { name: "sin", low: -3.4e38, high: 3.4e38, error: 2e-7 },
  { name: "cos", low: -3.4e38, high: 3.4e38, error: 2e-7 },
  { name: "sin", low: 2000, high: 3e6, error: 2e-7 },
  { name: "sin", low: -100000, high: 100000, error: 1e-3, least: 1 },
];

Deno.test("this runtime has fused multiply-add", () => assert(hasRelaxed()));

for (const relaxed of hasRelaxed() ? [false, true] : [false]) {
  const way = relaxed ? "with fused multiply-add" : "with plain SIMD";
  for (const { name, low, high, error, least = 0 } of bounds) {
    Deno.test(`${name} from ${low} to ${high} ${way} is within ${error}`, () => {
      const xs = spread(low, high);
      const found = applied(name, relaxed, xs);
      let worst = 0, at = 0;
      xs.forEach((x, k) => {
        const exact = scalar[name].meaning(x, 0, 0);
        const off = Math.abs(found[k] - exact) / Math.max(Math.abs(exact), least);
        if (Math.abs(exact) > 1e-37 && !(off <= worst)) [worst, at] = [off, x];
      });
      assertLessOrEqual(worst, error, `${name}(${at}) is off by ${worst}`);
    });
  }
  Deno.test(`exp of products ${way} is within 2.5e-7, and 1.2e-7 of the exponent`, () => {
    for (const a of [1, -0.37, 5.3]) {
      const bs = spread(-87.3 / Math.abs(a), 88 / Math.abs(a));
      const found = expOf(a, relaxed, bs);
      let worst = 0, at = 0;
      bs.forEach((b, k) => {
        const x = Math.fround(a) * b, exact = Math.exp(x);
        const off = Math.abs(found[k] / exact - 1) / (2.5e-7 + 1.2e-7 * Math.abs(x));
        if (x > -87.3 && x < 88.3 && !(off <= worst)) [worst, at] = [off, b];
      });
      assertLessOrEqual(worst, 1, `exp(${a} * ${at}) is off by ${worst} times as much`);
    }
    const ends = Float32Array.of(0, -0, 87.9, 300, -300, 1e30, -Infinity, Infinity);
    const [one, same, below, small, large, none, all, nothing] = expOf(-1, relaxed, ends);
    assertSameNumbers([one, same, small, none, all, nothing], [1, 1, 0, 0, Infinity, 0]);
    assert(below >= 0 && below < 1.2e-38);
    assertStrictEquals(large, Infinity);
    assert(Number.isNaN(expOf(2, relaxed, Float32Array.of(NaN, 0, 0, 0))[0]));
  });
  Deno.test(`infinite and missing numbers ${way}`, () => {
    const xs = Float32Array.of(Infinity, -Infinity, NaN, 0, -1, 1e-45, -0, 1e30);
    const of = (name: VectorFunction) => [...applied(name, relaxed, xs)];
    assertSameNumbers(of("exp").slice(0, 4), [Infinity, 0, NaN, 1]);
    assertSameNumbers(of("log").slice(0, 6), [
      Infinity,
      NaN,
      NaN,
      -Infinity,
      NaN,
      Math.fround(-103.27892990343185),
    ]);
    assertSameNumbers(of("log1p").slice(0, 5), [Infinity, NaN, NaN, 0, -Infinity]);
    assertSameNumbers(of("erfc").slice(0, 4), [0, 2, NaN, 1]);
    for (const name of ["sin", "cos"] as const) {
      const [a, b, c, d, , tiny, zero, far] = of(name);
      assertSameNumbers([a, b, c], [NaN, NaN, NaN]);
      assertSameNumbers(
        [d, tiny, Math.abs(zero)],
        name === "sin" ? [0, Math.fround(1e-45), 0] : [1, 1, 1],
      );
      assert(Math.abs(far - Math[name](Math.fround(1e30))) < 2e-7);
    }
    for (const name of ["tanh", "erf"] as const) {
      const [a, b, c, d] = of(name);
      assert(Math.abs(a - 1) < 4e-7 && Math.abs(b + 1) < 4e-7);
      assertSameNumbers([c, d], [NaN, 0]);
    }
  });
}
