// Every verb: its value against a formula in plain JavaScript on small rows, gradients against central
// differences, and every device against the reference.
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { interpret } from "../../backends/reference/interpret.ts";
import { type AnyTensor, type Axes, AxisError, volume } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import { nodeOf } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import { randomKey } from "../../dsl/random.ts";
import * as v from "../../dsl/verbs.ts";
import { type Case, checkBackend, checkDerivatives, numbers } from "../support/check.ts";
import { devices } from "../support/device.ts";

type Row = readonly number[];
const sum = (of: Row): number => of.reduce((a, b) => a + b, 0);
const mean = (of: Row): number => sum(of) / of.length;
const squares = (of: Row): number => sum(of.map((x) => (x - mean(of)) ** 2));
const logSum = (of: Row): number => Math.log(sum(of.map(Math.exp)));
const running = (of: Row, join: (a: number, b: number) => number): Row =>
  of.map((_, k) => of.slice(0, k + 1).reduce(join));
const toEven = (x: number): number => {
  const below = Math.floor(x), rest = x - below;
  return rest === 0.5 ? 2 * Math.round(below / 2 + 0.25) : Math.floor(x + 0.5);
};

/** Rows of `i` along `j`: a verb, and what it makes of a row. */
interface Verb {
  readonly of: (x: AnyTensor) => AnyTensor;
  readonly row: (x: Row) => number | Row;
  /** Whether it has a gradient that is not zero. */
  readonly smooth: boolean;
  /** The range of the numbers that are tested. */
  readonly range?: readonly [number, number];
}
const each = (f: (x: number) => number) => (row: Row): Row => row.map(f);
const bool = (f: (x: number) => boolean) => each((x) => Number(f(x)));

const verbs: Readonly<Record<string, Verb>> = {
  abs: { of: v.abs, row: each(Math.abs), smooth: true },
  sign: { of: v.sign, row: each(Math.sign), smooth: false },
  clamp: {
    of: (x) => v.clamp(x, -0.5, 1),
    row: each((x) => Math.min(Math.max(x, -0.5), 1)),
    smooth: true,
  },
  ceil: { of: v.ceil, row: each((x) => Math.ceil(x) + 0), smooth: false },
  round: { of: v.round, row: each(toEven), smooth: false },
  "power 3": { of: (x) => v.power(x, 3), row: each((x) => x ** 3), smooth: true },
  "power -2": {
    of: (x) => v.power(x, -2),
    row: each((x) => x ** -2),
    smooth: true,
    range: [0.4, 2],
  },
  "power 1.7": {
    of: (x) => v.power(x, 1.7),
    row: each((x) => x ** 1.7),
    smooth: true,
    range: [0.4, 2],
  },
  greater: { of: (x) => v.greater(x, 0.5), row: bool((x) => x > 0.5), smooth: false },
  greaterEqual: { of: (x) => v.greaterEqual(x, 0.5), row: bool((x) => x >= 0.5), smooth: false },
  lessEqual: { of: (x) => v.lessEqual(x, 0.5), row: bool((x) => x <= 0.5), smooth: false },
  notEqual: { of: (x) => v.notEqual(x, 0.5), row: bool((x) => x !== 0.5), smooth: false },
  not: { of: (x) => v.not(d.less(x, 0)), row: bool((x) => !(x < 0)), smooth: false },
  and: {
    of: (x) => v.and(d.less(x, 1), d.less(-1, x)),
    row: bool((x) => x < 1 && -1 < x),
    smooth: false,
  },
  or: {
    of: (x) => v.or(d.less(x, -1), d.less(1, x)),
    row: bool((x) => x < -1 || 1 < x),
    smooth: false,
  },
  min: { of: (x) => d.min(x, "j"), row: (x) => Math.min(...x), smooth: true },
  any: {
    of: (x) => v.any(d.less(x, -1), "j"),
    row: (x) => Number(x.some((y) => y < -1)),
    smooth: false,
  },
  all: {
    of: (x) => v.all(d.less(x, 1), "j"),
    row: (x) => Number(x.every((y) => y < 1)),
    smooth: false,
  },
  prod: { of: (x) => v.prod(x, "j"), row: (x) => x.reduce((a, b) => a * b), smooth: true },
  variance: { of: (x) => v.variance(x, "j"), row: (x) => squares(x) / x.length, smooth: true },
  "variance of a sample": {
    of: (x) => v.variance(x, "j", 1),
    row: (x) => squares(x) / (x.length - 1),
    smooth: true,
  },
  std: { of: (x) => v.std(x, "j"), row: (x) => Math.sqrt(squares(x) / x.length), smooth: true },
  norm: { of: (x) => v.norm(x, "j"), row: (x) => Math.hypot(...x), smooth: true },
  logSumExp: { of: (x) => v.logSumExp(x, "j"), row: logSum, smooth: true },
  logSoftmax: {
    of: (x) => v.logSoftmax(x, "j"),
    row: (x) => x.map((y) => y - logSum(x)),
    smooth: true,
  },
  argmax: { of: (x) => v.argmax(x, "j"), row: (x) => x.indexOf(Math.max(...x)), smooth: false },
  argmin: { of: (x) => v.argmin(x, "j"), row: (x) => x.indexOf(Math.min(...x)), smooth: false },
  cumprod: { of: (x) => v.cumprod(x, "j"), row: (x) => running(x, (a, b) => a * b), smooth: true },
  cummax: {
    of: (x) => v.cummax(x, "j"),
    row: (x) => running(x, (a, b) => Math.max(a, b)),
    smooth: true,
  },
  roll: {
    of: (x) => v.roll(x, "j", 2),
    row: (x) => [...x.slice(-2), ...x.slice(0, -2)],
    smooth: true,
  },
  "roll back": {
    of: (x) => v.roll(x, "j", -1),
    row: (x) => [...x.slice(1), x[0]],
    smooth: true,
  },
  standardise: {
    of: (x) => v.standardise(x, "j"),
    row: (x) => x.map((y) => (y - mean(x)) / Math.sqrt(squares(x) / x.length + 1e-5)),
    smooth: true,
  },
  crossEntropy: {
    of: (x) => v.crossEntropy(x, d.softmax(d.mul(x, 2), "j"), "j"),
    row: (x) => -sum(x.map((y) => Math.exp(2 * y - logSum(x.map((z) => 2 * z))) * (y - logSum(x)))),
    smooth: true,
  },
  binaryCrossEntropy: {
    of: (x) => v.binaryCrossEntropy(x, d.sigmoid(d.mul(x, 3))),
    row: each((x) => Math.log1p(Math.exp(x)) - x / (1 + Math.exp(-3 * x))),
    smooth: true,
  },
  maxPool: {
    of: (x) => v.maxPool(x, "j", 3, { stride: 2, before: 1, after: 1 }),
    row: (x) =>
      Array.from(
        { length: Math.floor((x.length - 1) / 2) + 1 },
        (_, k) => Math.max(...x.slice(Math.max(0, 2 * k - 1), 2 * k + 2)),
      ),
    smooth: true,
  },
  meanPool: {
    of: (x) => v.meanPool(x, "j", 2),
    row: (x) =>
      Array.from({ length: Math.floor(x.length / 2) }, (_, k) => (x[2 * k] + x[2 * k + 1]) / 2),
    smooth: true,
  },
};

const valuesOf = (of: AnyTensor, values: Readonly<Record<string, ArrayLike<number>>>): Row => [
  ...interpret([nodeOf(of)], (leaf) => values[leaf.attributes.name!])[0],
];
const closeTo = (found: Row, wanted: Row, what: string): void => {
  assertEquals(found.length, wanted.length, what);
  found.forEach((x, k) => assertAlmostEquals(x, wanted[k], 1e-6, `${what}, ${k}`));
};

const cases: Record<string, Case> = {};
for (const [name, { of, range: [low, high] = [-2, 2] }] of Object.entries(verbs)) {
  for (const axes of [{ i: 4, j: 7 }, { i: 1, j: 5 }, { i: 33, j: 6 }]) {
    const x: AnyTensor = d.input("x", axes);
    const values = numbers(name.length + axes.i, volume(axes), low, high);
    // Ties and halves, where a rule must decide; quarters have no rounding on the way.
    const ties = values.map((y) => Math.round(4 * y) / 4 || 0.25);
    cases[`${name} of ${axes.i} x ${axes.j}`] = { of: of(x), wrt: { x }, values: { x: values } };
    cases[`${name} of ${axes.i} x ${axes.j}, with ties`] = {
      of: of(x),
      wrt: {},
      values: { x: ties },
    };
  }
}

for (const [name, { of, row, range: [low, high] = [-2, 2] }] of Object.entries(verbs)) {
  Deno.test(`${name} is what its formula says`, () => {
    const axes = { i: 4, j: 7 }, x: AnyTensor = d.input("x", axes);
    for (const grid of [0, 4]) {
      const values = Array.from(
        numbers(name.length, 28, low, high),
        (y) => grid === 0 ? y : Math.round(grid * y) / grid || 0.25,
      );
      const result = of(x), order = Object.keys(nodeOf(result).axes);
      const wanted = Array.from(
        { length: 4 },
        (_, i) => [row(values.slice(7 * i, 7 * i + 7))].flat(),
      );
      const found = valuesOf(result, { x: values });
      const length = wanted[0].length, rowsFirst = order[0] === "i";
      const rows = Array.from(
        { length: 4 },
        (_, i) => Array.from({ length }, (_, j) => found[rowsFirst ? i * length + j : j * 4 + i]),
      );
      closeTo(rows.flat(), wanted.flat(), name);
    }
  });
}

Deno.test("gradients of verbs agree with central differences", () => {
  for (const [name, { smooth }] of Object.entries(verbs)) {
    if (smooth) checkDerivatives(name, cases[`${name} of 4 x 7`]);
  }
});

Deno.test("gradients of steps are zero, and of |x| at 0 too", () => {
  const x = d.input("x", { i: 4, j: 7 });
  for (const  of of[v.sign(x), v.ceil(x), v.round(x)]) {
    const slope = d.total(of) as AnyTensor;
    assert(valuesOf(slopeOf(slope, x), { x: numbers(3, 28) }).every((y) => y === 0));
  }
  assertEquals(valuesOf(slopeOf(d.total(v.abs(x)), x), { x: new Float32Array(28) })[0], 0);
});
const slopeOf = (loss: AnyTensor, x: AnyTensor): AnyTensor => grad(loss, { x }).x;

// What takes more than one tensor, or makes one of numbers.
const x: AnyTensor = d.input("a", { t: 9, c: 3 }),
  w: AnyTensor = d.input("w", { k: 3, c: 3, o: 2 });
const image: AnyTensor = d.input("image", { h: 5, w: 6, c: 2 });
const filters: AnyTensor = d.input("filters", { p: 2, q: 3, c: 2, o: 2 });
const m: AnyTensor = d.input("m", { i: 3, j: 4 }), n: AnyTensor = d.input("n", { j: 4, k: 5 });
const p: AnyTensor = d.input("p", { k: 5, i: 3 });
const at = { axis: "t", tap: "k", channels: "c" } as never;
const plane = { axes: ["h", "w"], taps: ["p", "q"], channels: "c" } as never;
const filled = (seed: number, axes: Axes) => numbers(seed, volume(axes));
const given: Case["values"] = {
  a: filled(1, { t: 9, c: 3 }),
  w: filled(2, { k: 3, c: 3, o: 2 }),
  image: filled(3, { h: 5, w: 6, c: 2 }),
  filters: filled(4, { p: 2, q: 3, c: 2, o: 2 }),
  m: filled(5, { i: 3, j: 4 }),
  n: filled(6, { j: 4, k: 5 }),
  p: filled(7, { k: 5, i: 3 }),
};
const conv = v.conv1d(x, w as never, at, { stride: 2, before: 1, after: 1 }) as AnyTensor;
const conv2 = v.conv2d(image, filters as never, plane) as AnyTensor;
Object.assign(cases, {
  conv1d: { of: conv, wrt: { x, w }, values: given },
  conv2d: { of: conv2, wrt: { image, filters }, values: given },
  einsum: { of: v.einsum([m, n, p], ["j", "k"]), wrt: { m, n, p }, values: given },
});

Deno.test("convolutions are sums over taps and channels", () => {
  const { a, w: taps, image: pixels, filters: weights } = given;
  const wanted = Array.from({ length: 5 }, (_, t) =>
    Array.from({ length: 2 }, (_, o) => {
      let total = 0;
      for (let k = 0; k < 3; k++) {
        const s = 2 * t + k - 1;
        if (s < 0 || s >= 9) continue;
        for (let c = 0; c < 3; c++) total += a[s * 3 + c] * taps[(k * 3 + c) * 2 + o];
      }
      return total;
    }));
  const byName = (of: AnyTensor, ...order: string[]): Row => {
    const axes = nodeOf(of).axes, own = Object.keys(axes), flat = valuesOf(of, given);
    const strides = (names: readonly string[]) =>
      Object.fromEntries(
        names.map((name, k) =>
          [name, names.slice(k + 1).reduce((s, one) => s * (axes[one] as number), 1)] as const
        ),
      );
    const [from, to] = [strides(own), strides(order)];
    return Array.from(
      flat,
      (_, k) =>
        flat[
          order.reduce(
            (s, name) => s + from[name] * (Math.floor(k / to[name]) % (axes[name] as number)),
            0,
          )
        ],
    );
  };
  closeTo(byName(conv, "t", "o"), wanted.flat(), "conv1d");
  const rows = Array.from(
    { length: 4 },
    (_, h) =>
      Array.from({ length: 4 }, (_, c0) =>
        Array.from({ length: 2 }, (_, o) => {
          let total = 0;
          for (let r = 0; r < 2; r++) {
            for (let s = 0; s < 3; s++) {
              for (let c = 0; c < 2; c++) {
                total += pixels[((h + r) * 6 + c0 + s) * 2 + c] *
                  weights[((r * 3 + s) * 2 + c) * 2 + o];
              }
            }
          }
          return total;
        })),
  );
  closeTo(byName(conv2, "h", "w", "o"), rows.flat(2), "conv2d");
  const trace = Array.from({ length: 3 }, (_, i) => {
    let total = 0;
    for (let j = 0; j < 4; j++) {
      for (let k = 0; k < 5; k++) {
        total += given.m[i * 4 + j] * given.n[j * 5 + k] * given.p[k * 3 + i];
      }
    }
    return total;
  });
  closeTo(byName(v.einsum([m, n, p], ["j", "k"]), "i"), trace, "einsum");
});

Deno.test("what is made of numbers", () => {
  closeTo(valuesOf(v.linspace("n", 5, -1, 1), {}), [-1, -0.5, 0, 0.5, 1], "linspace");
  assertEquals(valuesOf(v.eye("r", "c", 3), {}), [1, 0, 0, 0, 1, 0, 0, 0, 1]);
  const mask = v.causalMask("key", "token", 3);
  assertEquals(Object.keys(nodeOf(mask).axes), ["key", "token"]);
  assertEquals(valuesOf(d.toFloat(mask), {}), [1, 1, 1, 0, 1, 1, 0, 0, 1]);
  const hot = v.oneHot(d.input("at", { n: 3 }, "u32"), "class", 4);
  assertEquals(valuesOf(hot, { at: [2, 0, 3] }), [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
});

Deno.test("dropout keeps its share and its mean, and the same of the same key", () => {
  const ones: AnyTensor = d.expand(d.constant(1), { n: 20_000 });
  const kept = valuesOf(v.dropout(randomKey(7), ones, 0.25), {});
  assertEquals([...new Set(kept)].sort(), [0, 1 / 0.75]);
  assertAlmostEquals(mean(kept), 1, 0.02);
  assertEquals(valuesOf(v.dropout(randomKey(7), ones, 0.25), {}), kept);
  assertEquals(valuesOf(v.dropout(randomKey(7), ones, 0), {}).every((y) => y === 1), true);
  assertThrows(() => v.dropout(randomKey(7), ones, 1), AxisError, "dropout of 1");
  assertThrows(() => v.clamp(ones, 2, 1), AxisError, "leaves no number");
});

for (const [device, backend] of devices) {
  Deno.test({
    name: `verbs on ${device} agree with the reference`,
    ignore: backend === undefined,
    fn: () => checkBackend(backend!, cases, 5e-5),
  });
}
