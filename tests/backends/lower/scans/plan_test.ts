// How scans are run: which axes lanes lie along and which they hold, how wide workgroups are, which sums
// are finished across lanes, and how many steps lie between stored carries.
import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { planScans, type ScanPlan } from "../../../../backends/lower/scans/plan.ts";
import type { AnyTensor, Axes } from "../../../../dsl/axes.ts";
import { grad } from "../../../../dsl/grad.ts";
import { nodeOf, topologicalOrder } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";

type Named = Readonly<Record<string, AnyTensor>>;
type Step = (carry: Named, now: Named) => {
  readonly next: Named;
  readonly out: Named;
};

const zeros = (axes: Axes): AnyTensor => d.expand(d.constant(0), axes);
const input = (name: string, axes: Axes): AnyTensor => d.input(name, axes);
const sum = (of: AnyTensor, ...over: readonly string[]): AnyTensor => d.sum(of, over as never[]);

/** The plan of the only scan below a value. */
const plansOf = (...of: readonly AnyTensor[]): readonly ScanPlan[] => {
  const { roots, plans } = planScans(of.map(nodeOf));
  return topologicalOrder(roots).flatMap((one) => one.op === "scan" ? [plans.get(one)!] : []);
};
const planOf = (...of: readonly AnyTensor[]): ScanPlan => {
  const [plan, ...others] = plansOf(...of);
  assertStrictEquals(others.length, 0);
  return plan;
};
const shown = (
  {
    parallel,
    perLane,
    laneAxis,
    workgroupSize,
    cooperative,
    partial,
  }: ScanPlan,
) => {
  const list = (dims: ScanPlan["parallel"]) =>
    dims.map(({ axis, size }) => `${axis} ${size}`).join(", ");
  return [
    list(parallel),
    list(perLane),
    laneAxis?.axis,
    workgroupSize,
    cooperative ? "together" : "alone",
    Object.values(partial).map((of) => of.attributes.over!.join(" ")).join(", "),
  ];
};
/** A scan over t of x from zero, all outputs of it. */
const scanOf = (
  x: Named,
  from: Readonly<Record<string, Axes>>,
  step: Step,
): readonly AnyTensor[] => {
  const start = Object.fromEntries(Object.entries(from).map(([k, axes]) => [k, zeros(axes)]));
  const { out } = d.scan({ over: "t", from: start, each: x }, step as never) as unknown as {
    readonly out: Named;
  };
  return Object.values(out);
};
const running = (axes: Axes): AnyTensor =>
  d.recurrence("t", d.sigmoid(input("a", { t: 20, ...axes })), input("b", { t: 20, ...axes }));

Deno.test("lanes lie along the longest axis, in workgroups that it fills", () => {
  assertEquals(shown(planOf(running({ b: 3, c: 70 }))), ["b 3, c 70", "", "c", 64, "alone", ""]);
  assertEquals(shown(planOf(running({ c: 70, b: 3 }))), ["b 3, c 70", "", "c", 64, "alone", ""]);
  assertEquals(shown(planOf(running({}))), ["", "", undefined, 64, "alone", ""]);
  for (const [size, width] of [[1, 8], [8, 8], [9, 16], [16, 16], [17, 32], [33, 64], [500, 64]]) {
    assertStrictEquals(planOf(running({ c: size })).workgroupSize, width, `${size}`);
  }
});

Deno.test("along chunks, and where there are three positions or less, lanes do not lie if there is another axis", () => {
  const laneOf = (axes: Axes) => planOf(running(axes)).laneAxis?.axis;
  assertStrictEquals(laneOf({ "t.chunk": 300, c: 4 }), "c");
  assertStrictEquals(laneOf({ "t.chunk": 300, c: 3 }), "t.chunk");
  assertStrictEquals(laneOf({ c: 4, "t.chunk": 300, b: 5 }), "b");
  assertStrictEquals(laneOf({ c: 2, b: 3 }), "b");
});

Deno.test("a lane holds an axis that an output sums while there are 64 positions or less of it", () => {
  const plan = (c: number, e: number) =>
    shown(planOf(...scanOf(
      { x: input("x", { t: 20, c }), y: input("y", { t: 20, c, e }) },
      { h: { c, e } },
      ({ h }, { x, y }) => {
        const next: AnyTensor = d.add(d.mul(h, d.sigmoid(x)), y);
        return { next: { h: next }, out: { y: sum(d.mul(next, y), "e") } };
      },
    )));
  for (const e of [5, 64]) assertEquals(plan(130, e), ["c 130", `e ${e}`, "c", 64, "alone", ""]);
  for (const e of [65, 200]) {
    assertEquals(plan(130, e), [`c 130, e ${e}`, "", "e", 64, "alone", "e"]);
  }
  // Lanes lie along what is summed across them, however short that is.
  assertEquals(plan(500, 65), ["c 500, e 65", "", "e", 64, "alone", "e"]);
});

Deno.test("of several axes that outputs sum, a lane holds the short ones, 64 positions in all", () => {
  const plan = (c: number, e: number, times = 1) =>
    shown(planOf(...scanOf(
      { x: input("x", { t: 20, c, e }) },
      { h: { c, e } },
      ({ h }, { x }) => {
        const next: AnyTensor = d.add(d.mul(h, d.sigmoid(x)), x);
        const sums = Array.from({ length: times }, (_, k) =>
          [`y${k}`, sum(d.mul(next, d.mul(x, k + 2)), "c")] as const);
        return {
          next: { h: next },
          out: { ...Object.fromEntries(sums), z: sum(d.mul(next, x), "e") },
        };
      },
    )));
  assertEquals(plan(16, 4), ["", "e 4, c 16", undefined, 64, "alone", ""]);
  assertEquals(plan(16, 5), ["c 16", "e 5", "c", 16, "alone", "c"]);
  assertEquals(plan(130, 17), ["c 130", "e 17", "c", 64, "alone", "c"]);
  assertEquals(plan(40, 90), ["e 90", "c 40", "e", 64, "alone", "e"]);
  // The sums of a workgroup's lanes fit into 16 KiB.
  assertEquals(plan(300, 64), ["c 300", "e 64", "c", 64, "alone", "c"]);
  assertEquals(plan(300, 64, 2), ["c 300", "e 64", "c", 32, "alone", "c, c"]);
  assertEquals(plan(300, 33, 2), ["c 300", "e 33", "c", 32, "alone", "c, c"]);
  assertEquals(plan(300, 32, 2), ["c 300", "e 32", "c", 64, "alone", "c, c"]);
});

Deno.test("a sum across lanes stands at the top of an output, with what may go into it", () => {
  const plan = (c: number, build: (s: AnyTensor, other: AnyTensor, v: AnyTensor) => AnyTensor) =>
    shown(planOf(...scanOf(
      { x: input("x", { t: 20, c }), v: input("v", { t: 20 }) },
      { h: { c } },
      ({ h }, { x, v }) => {
        const next: AnyTensor = d.add(d.mul(h, d.sigmoid(x)), x);
        const [s, other] = [sum(d.mul(next, x), "c"), sum(d.mul(next, d.sin(x)), "c")];
        return { next: { h: next }, out: { y: build(s, other, v) } };
      },
    )));
  const held = (c: number) => ["", `c ${c}`, undefined, 64, "alone", ""];
  const across = (c: number, partial: string) => [`c ${c}`, "", "c", 64, "alone", partial];
  const forms: readonly ((s: AnyTensor, other: AnyTensor, v: AnyTensor) => AnyTensor)[] = [
    (s) => s,
    (s) => d.neg(s),
    (s) => d.mul(s, 2),
    (s, _, v) => d.mul(s, v),
    (s, _, v) => d.mul(v, s),
    (s, other) => d.add(s, other),
    (s, other) => d.add(d.neg(s), d.mul(other, 3)),
  ];
  forms.forEach((form, k) => assertEquals(plan(130, form), across(130, "c"), `${k}`));
  const others: typeof forms = [
    (s) => d.tanh(s),
    (s, _, v) => d.add(d.sin(s), v),
    (s, other) => d.mul(s, other),
    (s, _, v) => d.div(s, v),
  ];
  for (const c of [65, 128]) {
    others.forEach((form, k) => assertEquals(plan(c, form), held(c), `${c}, ${k}`));
  }
  // Where a lane would hold more, products of sums leave the step, with what is summed.
  assertEquals(others.map((form) => plan(129, form)), [
    ...[held(129), held(129), across(129, ""), across(129, "")],
  ]);
  assertEquals(plan(64, (s) => s), held(64));
});

Deno.test("a sum that carries need is computed once for what a lane can hold", () => {
  const plan = (c: number, e: number) =>
    shown(planOf(...scanOf(
      { x: input("x", { t: 5, c }), y: input("y", { t: 5, c, e }) },
      { h: { c, e }, s: {} },
      ({ h, s }, { x, y }) => {
        const next: AnyTensor = d.add(d.mul(h, d.sum(d.mul(x, s), "c" as never)), y);
        return { next: { h: next, s: d.add(s, d.constant(1)) as AnyTensor }, out: { y: next } };
      },
    )));
  const both = (c: number, e: number) => ["", `c ${c}, e ${e}`, undefined, 64, "alone", ""];
  for (const [c, e] of [[5, 7], [60, 17], [64, 16]]) assertEquals(plan(c, e), both(c, e));
  assertEquals(plan(60, 18), ["e 18", "c 60", "e", 32, "alone", ""]);
  assertEquals(plan(64, 17), ["e 17", "c 64", "e", 32, "alone", ""]);
});

Deno.test("so many steps lie between stored carries as a lane can keep, and not many more than their root", () => {
  const plans = (t: number, c: number, e: number) => {
    const axes = { t, c, e };
    const x = { a: input("a", axes), b: input("b", axes), k: input("k", { t, e }) };
    const h: AnyTensor = d.recurrence("t", d.sigmoid(x.a), x.b);
    const loss = sum(d.square(sum(d.mul(h, x.k), "e")), "t", "c");
    return plansOf(...Object.values(grad(loss as never, x)) as AnyTensor[]);
  };
  const every = (t: number, e: number) => plans(t, 64, e).map((plan) => plan.checkpointEvery);
  assertEquals(every(400, 8), [30, 1]);
  assertEquals(every(401, 8), [31, 1]);
  assertEquals(every(400, 32), [16, 1]);
  assertEquals(every(400, 64), [8, 1]);
  assertEquals(every(400, 1), [8, 1]);
  assertEquals(every(20, 8), [7, 1]);
  assertEquals(every(1, 8), [2, 1]);
  const [forth, back] = plans(400, 64, 8);
  assertStrictEquals(forth.recomputes, undefined);
  assert(back.recomputes !== undefined);
  assertEquals(shown(back), ["c 64", "e 8", "c", 64, "alone", "c"]);
});

/** The axes of what a step gives at each step, once what can has left it. */
const given = (build: (h: AnyTensor, x: AnyTensor, w: AnyTensor, v: AnyTensor) => AnyTensor) => {
  const x = { x: input("x", { t: 6, c: 70 }), v: input("v", { t: 6, e: 90 }) };
  const mix = input("mix", { c: 70, o: 70 }), w = input("w", { e: 90 });
  const outs = scanOf(x, { h: { c: 70 } }, ({ h }, { x, v }) => {
    const mixed = d.rename(d.contract(h, mix, "c" as never) as never, "o" as never, "c");
    const next: AnyTensor = d.tanh(d.add(mixed as AnyTensor, x));
    return { next: { h: next }, out: { y: build(next, x, w, v) } };
  });
  const { roots } = planScans(outs.map(nodeOf));
  const [scan] = topologicalOrder(roots).filter(({ op }) => op === "scan");
  return Object.values(scan.attributes.step!.out).map(({ axes }) => Object.keys(axes).join())
    .sort();
};

Deno.test("an outer product leaves a step as its factors, and what is made of it outside too", () => {
  // The carry is given as the step gives it, the rest is computed from that.
  for (
    const build of [
      (h, _, w) => d.mul(h, w),
      (h, _, __, v) => d.mul(v, h),
      (h, _, w) => d.neg(d.mul(h, w)),
      (h, x, w) => d.add(d.mul(h, w), x),
      (h, _, w, v) => d.div(d.mul(h, w), v),
    ] as Parameters<typeof given>[0][]
  ) assertEquals(given(build), ["c"], build.toString());
  // What is no product stays, as it grows no more than it is read for, and so do other functions of one.
  assertEquals(given((h, _, w) => d.add(h, w)), ["c,e"]);
  assertEquals(given((h, _, w) => d.exp(d.mul(h, w))), ["c,e"]);
  assertEquals(given((h) => d.sin(h)), ["c"]);
  // A sum of a carry along what it is mixed along stays.
  assertEquals(given((h, x) => sum(d.mul(h, x), "c")), [""]);
});
