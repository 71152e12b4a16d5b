// Gradients whose value is known otherwise: of powers, of quadratic forms, of products along a scan;
// at zero, at ties, through markers; and derivatives of derivatives. Compositions in general are
// compared with central differences in tests/backends.
import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { interpret } from "../../backends/reference/interpret.ts";
import { type AnyTensor, type Axes, AxisError, volume } from "../../dsl/axes.ts";
import { grad, valueAndGrad } from "../../dsl/grad.ts";
import { nodeOf, topologicalOrder } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import { checkDerivatives, numbers } from "../support/check.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

Deno.test("a parameter with two initialisers has no gradient; one that is not asked for may have two", () => {
  const half = () => d.constant(0.5), quarter = () => d.constant(0.25);
  const of = (init: typeof half) => d.param("w", { channel: 3 }, init), w = of(half);
  const x = d.input("x", { channel: 3 });
  const product = d.sum(d.mul(d.mul(w, of(quarter)), x), "channel");
  assertMatch(
    assertThrows(() => grad(product, { w }), AxisError).message,
    /^the parameter 'w' is made in two places with different initialisers/,
  );
  assertStrictEquals(nodeOf(grad(product, { x }).x).axes.channel, 3);
});

const valueOf = (
  of: AnyTensor,
  values: Readonly<Record<string, ArrayLike<number>>>,
) => [...interpret([nodeOf(of)], (leaf) => values[leaf.attributes.name!])[0]];

const close = (found: readonly number[], expected: readonly number[]): void => {
  assertStrictEquals(found.length, expected.length);
  found.forEach((value, k) => {
    const allowed = 1e-12 * (1 + Math.abs(expected[k]));
    assertLessOrEqual(
      Math.abs(value - expected[k]),
      allowed,
      `[${k}] is ${value}, expected ${expected[k]}`,
    );
  });
};

const x: AnyTensor = d.input("x", { i: 4 });
const at = [-1.5, 0, 0.25, 2];
const total = (of: AnyTensor): AnyTensor => d.sum(of, Object.keys(nodeOf(of).axes));
/** The n-th derivative, element by element, of a function of `x`. */
const derivative = (n: number, f: (x: AnyTensor) => AnyTensor): AnyTensor =>
  n === 0 ? f(x) : grad(total(derivative(n - 1, f)), { x }).x;
const derivativeAt = (n: number, f: (x: AnyTensor) => AnyTensor): readonly number[] =>
  valueOf(derivative(n, f), { x: at });

Deno.test("a gradient can be differentiated again, and again", () => {
  const fourth = (x: AnyTensor) => d.square(d.square(x));
  close(derivativeAt(1, fourth), at.map((x) => 4 * x ** 3));
  close(derivativeAt(2, fourth), at.map((x) => 12 * x ** 2));
  close(derivativeAt(3, fourth), at.map((x) => 24 * x));
  close(derivativeAt(4, fourth), at.map(() => 24));
  close(derivativeAt(5, fourth), at.map(() => 0));
  close(derivativeAt(4, d.sin), at.map(Math.sin));
});

Deno.test("functions that choose a branch by sign are smooth at zero", () => {
  const s = (x: number) => 1 / (1 + Math.exp(-x));
  const slope = (x: number) => s(x) * (1 - s(x));
  const bend = (x: number) => slope(x) * (1 - 2 * s(x));
  close(derivativeAt(1, d.sigmoid), at.map(slope));
  close(derivativeAt(2, d.sigmoid), at.map(bend));
  close(derivativeAt(1, d.softplus), at.map(s));
  close(derivativeAt(2, d.softplus), at.map(slope));
  close(derivativeAt(3, d.softplus), at.map(bend));
  close(derivativeAt(2, d.silu), at.map((x) => 2 * slope(x) + x * bend(x)));
});

Deno.test("at a tie the gradient is shared", () => {
  const y: AnyTensor = d.input("y", { i: 4 });
  const of = grad(total(d.maximum(x, y)), { x, y });
  const values = { x: [1, 2, 3, 4], y: [1, 3, 3, 0] };
  assertSameNumbers(valueOf(of.x, values), [0.5, 0, 0.5, 1]);
  assertSameNumbers(valueOf(of.y, values), [0.5, 1, 0.5, 0]);
  const top = grad(d.max(x, "i"), { x }).x;
  assertSameNumbers(valueOf(top, { x: [3, 1, 3, 3] }), [1 / 3, 0, 1 / 3, 1 / 3]);
});

Deno.test("stop hides a dependence, recompute does not", () => {
  close(derivativeAt(1, (x) => d.mul(x, d.stopGradient(d.square(x)))), at.map((x) => x * x));
  close(derivativeAt(1, (x) => d.mul(x, d.checkpoint(d.square(x)))), at.map((x) => 3 * x * x));
  close(derivativeAt(1, d.stopGradient), [0, 0, 0, 0]);
});

Deno.test("what is not reached has the gradient zero, with its axes", () => {
  const w: AnyTensor = d.input("w", { a: 2, b: 3 });
  const { w: zero } = grad(total(x), { w });
  assertEquals({ ...nodeOf(zero).axes }, { a: 2, b: 3 });
  assertSameNumbers(valueOf(zero, {}), [0, 0, 0, 0, 0, 0]);
});

Deno.test("the gradient for a value within the graph, and the value beside it", () => {
  const inner = d.exp(x);
  const { value, gradients } = valueAndGrad(total(d.square(inner)), { inner, x });
  close(valueOf(value, { x: at }), [at.map((x) => Math.exp(2 * x)).reduce((a, b) => a + b)]);
  close(valueOf(gradients.inner, { x: at }), at.map((x) => 2 * Math.exp(x)));
  // The walk ends at what is differentiated for: x is reached through `inner` alone.
  close(valueOf(gradients.x, { x: at }), [0, 0, 0, 0]);
});

Deno.test("a value that lacks an axis is counted along it", () => {
  const b: AnyTensor = d.input("b", { j: 2 });
  const { b: slope } = grad(total(d.add(d.expand(x, { k: 5 }), b)), { b });
  assertSameNumbers(valueOf(slope, { x: at, b: [1, 2] }), [20, 20]);
});

/** H v for a scalar function: the gradient of the gradient along v. */
const hessianTimes = (f: AnyTensor, x: AnyTensor, v: AnyTensor): AnyTensor =>
  grad(total(d.mul(grad(f, { x }).x, v)), { x }).x;

Deno.test("the Hessian of a quadratic form is the sum of its matrix and the transpose", () => {
  const A = d.input("A", { i: 4, k: 4 }), v: AnyTensor = d.input("v", { i: 4 });
  const y: AnyTensor = d.rename(x as ReturnType<typeof d.input<{ i: 4 }>>, "i", "k");
  const form = d.contract(d.contract(A as AnyTensor, x, "i"), y, "k");
  const values = { A: numbers(1, 16), v: numbers(2, 4), x: at };
  const expected = [0, 1, 2, 3].map((i) =>
    [0, 1, 2, 3].reduce(
      (sum, k) => sum + (values.A[4 * i + k] + values.A[4 * k + i]) * values.v[k],
      0,
    )
  );
  close(valueOf(hessianTimes(form, x, v), values), expected);
});

for (const reverse of [false, true]) {
  const way = reverse ? " in reverse" : "";

  Deno.test(`the Hessian of a product taken by a scan${way}`, () => {
    const v: AnyTensor = d.input("v", { i: 4 });
    const one: AnyTensor = d.constant(1);
    const { final } = d.scan(
      { over: "i", from: { h: one }, each: { x }, reverse },
      ({ h }, { x }) => ({
        next: { h: d.mul(h, x as AnyTensor) },
        out: {},
      }),
    );
    const values = { x: [1.5, -2, 0.5, 3], v: [1, 2, -1, 0.5] };
    const product = values.x.reduce((a, b) => a * b);
    close(valueOf(grad(final.h, { x }).x, values), values.x.map((x) => product / x));
    const expected = values.x.map((a, i) =>
      values.x.reduce((sum, b, k) => sum + (k === i ? 0 : product / (a * b) * values.v[k]), 0)
    );
    close(valueOf(hessianTimes(final.h, x, v), values), expected);
  });

  Deno.test(`the gradient of a linear recurrence is the recurrence the other way${way}`, () => {
    const a: AnyTensor = d.input("a", { t: 5 }), b: AnyTensor = d.input("b", { t: 5 });
    const g: AnyTensor = d.input("g", { t: 5 });
    const h = d.recurrence("t", a, b, { reverse });
    const { b: slope } = grad(total(d.mul(h, g)), { b });
    // λ_t = g_t + a_(t+1) λ_(t+1): the coefficients are those of the step that comes after.
    const shifted = reverse
      ? d.slice(d.pad(a, "t", 1, 0), "t", 0, 5)
      : d.slice(d.pad(a, "t", 0, 1), "t", 1, 5);
    const adjoint = d.recurrence("t", shifted, g, { reverse: !reverse });
    const values = { a: numbers(1, 5), b: numbers(2, 5), g: numbers(3, 5) };
    close(valueOf(slope, values), valueOf(adjoint, values));
  });

  Deno.test(`a scan within a scan: first and second derivatives${way}`, () => {
    const u: AnyTensor = d.input("u", { s: 3, t: 5, c: 2 }), w: AnyTensor = d.input("w", { c: 2 });
    const start: AnyTensor = d.expand(d.constant(0.3), { c: 2 });
    const { out, final } = d.scan(
      { over: "s", from: { h: start }, each: { u }, reverse },
      ({ h }, { u }) => {
        const inner = d.scan(
          { over: "t", from: { g: h }, each: { u: u as AnyTensor } },
          ({ g }, { u }) => {
            const next: AnyTensor = d.tanh(d.add(d.mul(g, w), d.mul(u as AnyTensor, h)));
            return { next: { g: next }, out: { y: d.sin(next) } };
          },
        );
        return { next: { h: inner.final.g }, out: { y: d.mul(d.mean(inner.out.y, "t"), h) } };
      },
    );
    checkDerivatives("nested scan", {
      of: d.add(out.y, final.h),
      wrt: { u, w },
      values: { u: numbers(4, 30), w: numbers(5, 2) },
    });
  });
}

Deno.test("a carry of words beside one of floats", () => {
  const u: AnyTensor = d.input("u", { t: 6 });
  const from = { h: d.constant(0) as AnyTensor, n: d.constant(1, "u32") as AnyTensor };
  const { out } = d.scan({ over: "t", from, each: { u } }, ({ h, n }, { u }) => {
    const next: AnyTensor = d.add(
      d.mul(h, u as AnyTensor),
      d.mul(d.toFloat(n), d.sin(u as AnyTensor)),
    );
    return { next: { h: next, n: d.add(n, n) }, out: { y: next } };
  });
  checkDerivatives("words carried", { of: out.y, wrt: { u }, values: { u: numbers(6, 6) } });
});

Deno.test("what several steps share and what is used outside as well gets both gradients", () => {
  const u: AnyTensor = d.input("u", { t: 5 }), w: AnyTensor = d.input("w", {});
  const scaled = d.sin(w);
  const { out, final } = d.scan(
    { over: "t", from: { h: scaled }, each: { u: d.mul(u, scaled) } },
    ({ h }, { u }) => {
      const next: AnyTensor = d.add(d.mul(h, scaled), d.mul(u as AnyTensor, w));
      return { next: { h: next }, out: { y: d.mul(next, scaled) } };
    },
  );
  const of = d.add(d.mul(out.y, w), d.mul(final.h, scaled));
  checkDerivatives("shared", {
    of,
    wrt: { u, w },
    values: { u: numbers(7, 5), w: Float32Array.of(0.7) },
  });
});

Deno.test("only a scalar has a gradient", () => {
  assertStrictEquals(
    assertThrows(() => grad(x, { x }), AxisError).message,
    "only a scalar has a gradient; this has { i: 4 }: reduce it first",
  );
});

Deno.test("a mistake names the functions around it", () => {
  const wrong = () =>
    d.named("encoder", () =>
      d.named("block 3", () => {
        d.add(x, d.input("x", { i: 5 }) as AnyTensor);
      }));
  assertStrictEquals(
    assertThrows(wrong, AxisError).message,
    "axis 'i' is 4 on the left but 5 on the right\n  in encoder > block 3",
  );
});

Deno.test("a derivative has the path of what it is the derivative of", () => {
  const u: AnyTensor = d.input("u", { t: 5, c: 3 } as Axes);
  const y = d.named("block", () => d.named("mixer", () => d.recurrence("t", d.exp(u), d.sin(u))));
  const { u: slope } = grad(total(d.square(y)), { u });
  const scans = topologicalOrder([nodeOf(slope)]).filter((of) => of.op === "scan");
  assertStrictEquals(scans.length, 2);
  for (const scan of scans) assertMatch(scan.path.join(" > "), /^block > mixer/);
  assertStrictEquals(volume(nodeOf(slope).axes), 15);
});

Deno.test("what all steps share counts once, however it is used in them", () => {
  // z is used at every position of c, and at none: contributions of both kinds are not one sum.
  const [x, z] = [d.input("x", { b: 3, c: 2 } as Axes), d.input("z", { b: 3 } as Axes)];
  const y: AnyTensor = d.input("y", { t: 4, b: 3 } as Axes);
  const { final } = d.scan(
    { over: "t", from: { h: x as AnyTensor }, each: { y } },
    ({ h }, now) => {
      const wide: AnyTensor = d.mul(h, z as AnyTensor);
      const narrow: AnyTensor = d.sin(d.add(z as AnyTensor, now.y));
      const next: AnyTensor = d.add(d.tanh(d.add(wide, narrow)) as AnyTensor, narrow);
      return { next: { h: next }, out: {} };
    },
  );
  const values = { x: numbers(1, 6), y: numbers(2, 12), z: numbers(3, 3) };
  checkDerivatives("shared", { of: d.sin(final.h as AnyTensor), wrt: { x, y, z }, values });
});

/** A scan with an input, a start and a matrix that all steps share, and values to put in. */
const shared = () => {
  const wrt: Readonly<Record<string, AnyTensor>> = {
    u: d.input("u", { t: 5, c: 3 }),
    start: d.input("start", { c: 3 }),
    w: d.input("w", { c: 3 }),
    count: d.input("count", {}),
  };
  const { u, start, w, count } = wrt;
  const { out, final } = d.scan(
    { over: "t", from: { h: start, n: count }, each: { u, twice: d.mul(u, 2) } },
    ({ h, n }, { u, twice }) => {
      const next = d.tanh(d.add(d.mul(h, w), d.mul(u, n))) as AnyTensor;
      return {
        next: { h: next, n: d.mul(n, 0.5) as AnyTensor },
        out: { y: d.mul(next, twice), z: d.sin(next) },
      };
    },
  );
  return { wrt, outs: { ...out, h: final.h } as Readonly<Record<string, AnyTensor>> };
};
/** What the scan back carries, reads and puts out, by the names of what is asked for. */
const backOf = (loss: AnyTensor, wrt: Readonly<Record<string, AnyTensor>>) => {
  const all = topologicalOrder(Object.values(grad(loss, wrt)).map(nodeOf)).filter(({ op }) =>
    op === "scan"
  );
  const backs = all.filter(({ args }) => args.some(({ op }) => op === "part"));
  assertStrictEquals(backs.length, 1);
  const [{ attributes }] = backs;
  return {
    carries: attributes.carries!,
    reads: attributes.eachs!,
    outs: Object.keys(attributes.step!.out),
  };
};

Deno.test("a scan back carries and puts out what is asked for, and nothing else", () => {
  const { wrt, outs } = shared();
  const { u, start, w, count } = wrt;
  // Several uses of one input are several outputs; carries all have cotangents.
  const own = ["g.h", "g.n"];
  for (
    const [asked, carries, some] of [
      [{ u }, own, true],
      [{ start }, own, false],
      [{ count }, own, false],
      [{ w }, [...own, "rest.0.0"], false],
      [{ u, w }, [...own, "rest.0.0"], true],
    ] as const
  ) {
    const back = backOf(total(d.square(outs.y)), asked as Readonly<Record<string, AnyTensor>>);
    assertEquals(back.carries, carries);
    assertStrictEquals(back.outs.length > 0, some, Object.keys(asked).join());
    assert(back.reads.includes("prev.h") && back.reads.includes("prev.n"), back.reads.join());
    assertEquals(back.reads.filter((name) => name.startsWith("g.")).length, 1);
  }
  // The cotangents of last carries are what it begins with, those of outputs what it reads.
  assertEquals(backOf(total(outs.h), { w }).reads.filter((one) => one.startsWith("g.")), []);
  const sum = d.add(total(outs.y), total(d.square(outs.z))) as AnyTensor;
  assertEquals(backOf(sum, { w }).reads.filter((one) => one.startsWith("g.")).length, 2);
});

for (const name of ["y", "z", "h"]) {
  Deno.test(`derivatives for all that a scan has, of its ${name}`, () => {
    const { wrt, outs } = shared();
    const values = {
      ...{ u: numbers(1, 15), start: numbers(2, 3), w: numbers(3, 3) },
      count: Float32Array.of(0.8),
    };
    checkDerivatives(name, { of: d.sin(outs[name]), wrt, values });
  });
}

/** Movements of what has axes `a` and `b`, by numbers that are drawn: each gives a value with both. */
const movements: readonly ((
  of: AnyTensor,
  drawn: (low: number, high: number) => number,
) => AnyTensor)[] = [
  (of) => d.flip(of, "a" as never),
  (of) => d.flip(of, "b" as never),
  (of, drawn) => d.pad(of, "a" as never, drawn(0, 3), drawn(0, 2)),
  (of) => {
    const turned = d.rename(d.rename(of, "a" as never, "c") as AnyTensor, "b" as never, "a");
    return d.rename(turned as never, "c" as never, "b");
  },
  (of, drawn) => {
    const size = nodeOf(of).axes.a as number, step = drawn(1, 3), from = drawn(0, size - 1);
    return d.slice(of, "a" as never, from, Math.ceil((size - from) / step), step);
  },
  (of, drawn) => {
    const { a, b } = nodeOf(of).axes as Readonly<Record<string, number>>;
    const flat = d.merge(of, (drawn(0, 1) === 1 ? ["a", "b"] : ["b", "a"]) as never[], "n");
    const divisors = Array.from({ length: a * b }, (_, k) => k + 1).filter((k) => a * b % k === 0);
    const first = divisors[drawn(0, divisors.length - 1)];
    return d.split(flat, "n" as never, { a: first, b: a * b / first });
  },
  (of, drawn) => {
    const size = drawn(1, 3), dilation = drawn(1, 2), before = drawn(0, 2), after = drawn(0, 2);
    const span = (size - 1) * dilation + 1;
    const padded = d.pad(of, "a" as never, 0, Math.max(0, span - (nodeOf(of).axes.a as number)));
    const taps = d.slidingWindows(padded, "a" as never, { out: "at", tap: "tap", size }, {
      ...{ stride: drawn(1, 3), dilation, before, after },
    });
    return d.rename(d.merge(taps, ["tap", "b"] as never[], "n"), "at" as never, "a") as AnyTensor;
  },
  (of) => d.concat(of, d.flip(of, "a" as never), "a" as never),
  (of, drawn) => {
    const one = d.take(of, "a" as never, drawn(0, (nodeOf(of).axes.a as number) - 1));
    return d.expand(one as AnyTensor, { a: drawn(1, 3) });
  },
];

Deno.test("the gradient of movements in a row is the transpose of what they do", () => {
  for (let k = 0; k < 200; k++) {
    let next = 0;
    const random = numbers(1000 + k, 60, 0, 1);
    const drawn = (low: number, high: number) =>
      low + Math.min(high - low, Math.floor(random[next++] * (high - low + 1)));
    const v: AnyTensor = d.input("v", { a: drawn(1, 6), b: drawn(1, 4) });
    let of = v, what = "";
    for (let n = drawn(1, 4); n > 0; n--) {
      const which = drawn(0, movements.length - 1);
      const axes = nodeOf(of).axes as Readonly<Record<string, number>>;
      if (axes.a * (axes.b ?? axes.n) > 400) break;
      of = movements[which](of, drawn);
      if ("n" in nodeOf(of).axes) of = d.rename(of, "n" as never, "b");
      what += `${which} `;
    }
    const w: AnyTensor = d.input("w", nodeOf(of).axes);
    const g = grad(total(d.mul(of, w)), { v }).v;
    const whole = (seed: number, of: AnyTensor) =>
      Array.from(numbers(seed, volume(nodeOf(of).axes), -8, 9), Math.floor);
    const values = { v: whole(k, v), w: whole(k + 200, w) };
    // On whole numbers the sums are exact.
    const [a] = valueOf(total(d.mul(of, w)), values), [b] = valueOf(total(d.mul(g, v)), values);
    assertStrictEquals(a, b, `movements ${what}of ${JSON.stringify(nodeOf(v).axes)}`);
  }
});
