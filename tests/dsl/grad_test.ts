// Gradients whose value is known otherwise: of powers, of quadratic forms, of products along a scan;
// at zero, at ties, through markers; and derivatives of derivatives. Compositions in general are
// compared with central differences in tests/backends.
import {
  assertEquals,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { interpret } from "../../backends/reference/interpret.ts";
import { type AnyTensor, type Axes, AxisError, volume } from "../../dsl/axes.ts";
import { grad, valueAndGrad } from "../../dsl/grad.ts";
import { node, reachable } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import { checkDerivatives, numbers } from "../support/check.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

const valueOf = (
  of: AnyTensor,
  values: Readonly<Record<string, ArrayLike<number>>>,
) => [...interpret([node(of)], (leaf) => values[leaf.attributes.name!])[0]];

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
const total = (of: AnyTensor): AnyTensor => d.sum(of, Object.keys(node(of).axes));
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
  const of = grad(total(d.max(x, y)), { x, y });
  const values = { x: [1, 2, 3, 4], y: [1, 3, 3, 0] };
  assertSameNumbers(valueOf(of.x, values), [0.5, 0, 0.5, 1]);
  assertSameNumbers(valueOf(of.y, values), [0.5, 1, 0.5, 0]);
  const top = grad(d.maximum(x, "i"), { x }).x;
  assertSameNumbers(valueOf(top, { x: [3, 1, 3, 3] }), [1 / 3, 0, 1 / 3, 1 / 3]);
});

Deno.test("stop hides a dependence, recompute does not", () => {
  close(derivativeAt(1, (x) => d.mul(x, d.stop(d.square(x)))), at.map((x) => x * x));
  close(derivativeAt(1, (x) => d.mul(x, d.recompute(d.square(x)))), at.map((x) => 3 * x * x));
  close(derivativeAt(1, d.stop), [0, 0, 0, 0]);
});

Deno.test("what is not reached has the gradient zero, with its axes", () => {
  const w: AnyTensor = d.input("w", { a: 2, b: 3 });
  const { w: zero } = grad(total(x), { w });
  assertEquals({ ...node(zero).axes }, { a: 2, b: 3 });
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
    const one: AnyTensor = d.scalarOf(1);
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
    const start: AnyTensor = d.expand(d.scalarOf(0.3), { c: 2 });
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
  const from = { h: d.scalarOf(0) as AnyTensor, n: d.scalarOf(1, "u32") as AnyTensor };
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
  const scans = reachable([node(slope)]).filter((of) => of.op === "scan");
  assertStrictEquals(scans.length, 2);
  for (const scan of scans) assertMatch(scan.path.join(" > "), /^block > mixer/);
  assertStrictEquals(volume(node(slope).axes), 15);
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
