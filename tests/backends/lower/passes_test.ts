// Small passes of the compiler by themselves: what is rounded and what not, which products are shared,
// how far renamings sink, where values lie in memory, who waits for whom, and what is printed first.
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { isBound, isLeaf } from "../../../backends/lower/cost_model.ts";
import { domainOf, fills, type KernelDraft } from "../../../backends/lower/fusion/kernel_draft.ts";
import { canBeF16 } from "../../../backends/lower/storage/half_precision.ts";
import { roundOnce } from "../../../backends/lower/graph/materialise.ts";
import { byteLength, plan } from "../../../backends/lower/storage/plan_memory.ts";
import { nestings } from "../../../backends/codegen/nesting.ts";
import { reassociate } from "../../../backends/lower/graph/reassociate.ts";
import type { Storage } from "../../../backends/lower/kernel_ir.ts";
import { sinkRenames } from "../../../backends/lower/graph/sink_renames.ts";
import { reaches, waiting } from "../../../backends/lower/fusion/reachability.ts";
import type { AnyTensor, Axes } from "../../../dsl/axes.ts";
import { type Node, nodeOf, topologicalOrder } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { zeros } from "../../../models/initialisers.ts";

const input = (name: string, axes: Axes): AnyTensor => d.input(name, axes);
const rename = (of: AnyTensor, from: string, to: string): AnyTensor =>
  d.rename(of as never, from as never, to);

// ---- f16 ------------------------------------------------------------------------------------------

const large = { i: 64, j: 64 };
const rounds = (roots: readonly AnyTensor[], updated: readonly string[] = [], least = 4096) => {
  const order = topologicalOrder(roots.map(nodeOf));
  const found = canBeF16(order, least, new Set(updated));
  return (of: AnyTensor) => found.has(nodeOf(of));
};

Deno.test("floats that follow from given ones may be rounded, from a size on", () => {
  const x = input("x", large), y = d.exp(x) as AnyTensor;
  assert(rounds([y])(y) && rounds([y])(x) && !rounds([y], [], 4097)(y));
  // What follows from positions alone, or from a number without axes, or from words.
  const position: AnyTensor = d.toFloat(d.expand(d.iota("i", 64), { j: 64 }) as AnyTensor);
  const scaled: AnyTensor = d.expand(d.mul(input("s", {}), d.constant(2)) as AnyTensor, large);
  const less = d.less(x, y) as AnyTensor;
  for (const  of of[position, scaled, less]) assert(!rounds([of])(of));
  assert(rounds([d.mul(position, x) as AnyTensor])(d.mul(position, x) as AnyTensor));
  assert(rounds([d.exp(d.param("p", large, zeros) as AnyTensor)])(d.param("p", large, zeros)));
});

Deno.test("what an optimiser keeps, and what is made for that alone, is not rounded", () => {
  const kept = (axes: Axes, trainable: boolean): AnyTensor =>
    d.param("m", axes, zeros, { trainable } as never);
  const g = d.exp(input("x", large)) as AnyTensor, scaled = d.mul(g, 3) as AnyTensor;
  const of = (m: AnyTensor, more: readonly AnyTensor[], updated: readonly string[]) => {
    const next = d.add(d.mul(m, 0.9), scaled) as AnyTensor;
    const may = rounds([next, ...more], updated);
    return [may(next), may(scaled), may(g)];
  };
  const m = kept(large, false);
  assertEquals(of(m, [], ["m"]), [false, false, false]);
  // What something else is made of as well may be.
  assertEquals(of(m, [d.sin(g) as AnyTensor], ["m"]), [false, false, true]);
  assertEquals(of(m, [], []), [true, true, true]);
  assertEquals(of(kept(large, true), [], ["m"]), [true, true, true]);
  assertEquals(of(d.expand(kept({}, false), large) as AnyTensor, [], ["m"]), [true, true, true]);
});

Deno.test("parts of sums, and what tells where a maximum was, are not rounded", () => {
  const x = input("x", { ...large, k: 3 });
  const part = d.sum(x, "k" as never) as AnyTensor, sum = d.sum(part, "i" as never) as AnyTensor;
  assert(!rounds([sum])(part) && rounds([sum, d.exp(part) as AnyTensor])(part));
  assert(rounds([d.max(part, "i" as never) as AnyTensor])(part));
  const top = d.max(x, "k" as never) as AnyTensor;
  assert(rounds([d.sum(top, "i" as never) as AnyTensor])(top));
  const where = (of: AnyTensor) => d.equal(x, of) as AnyTensor;
  for (const  of of[top, d.flip(top, "i" as never) as AnyTensor]) {
    assert(!rounds([where(of)])(top) && !rounds([where(of)])(x));
  }
  assert(rounds([where(part)])(part));
});

// ---- what is compared -----------------------------------------------------------------------------

/** What is rounded once below some values. */
const rounded = (...of: readonly AnyTensor[]) =>
  topologicalOrder(roundOnce(of.map(nodeOf))).flatMap(({ op, args }) =>
    op === "materialise" ? [args[0]] : []
  );

Deno.test("what is compared for equality is rounded once, below what rounds nothing", () => {
  const x = input("x", { i: 8 }), y = input("y", { i: 8 });
  const sine = d.sin(x) as AnyTensor;
  const same = (of: AnyTensor) => rounded(d.equal(of, y) as AnyTensor);
  assertEquals(same(sine), [nodeOf(sine)]);
  assertEquals(same(x), []);
  for (
    const exact of [
      ...[
        d.neg(sine),
        d.maximum(sine, y),
        d.floor(sine),
        d.flip(sine, "i" as never),
        d.stopGradient(sine),
      ],
      ...[d.checkpoint(sine), d.mul(sine, 0.25), d.mul(sine, -2), d.expand(sine, { k: 3 })],
      ...[d.select(d.less(x, y), sine, y), d.max(d.expand(sine, { k: 3 }), "i" as never)],
      ...[d.gather(sine, "i" as never, d.input("at", { t: 3 }, "u32"))],
    ] as AnyTensor[]
  ) assertEquals(rounded(d.equal(exact, d.constant(0.5)) as AnyTensor), [nodeOf(sine)]);
  for (
    const inexact of [
      ...[d.mul(sine, 3), d.add(sine, y), d.mul(sine, y), d.exp(sine)],
      d.sum(sine, "i" as never),
    ] as AnyTensor[]
  ) assertEquals(rounded(d.equal(inexact, d.constant(0.5)) as AnyTensor), [nodeOf(inexact)]);
  // Words are exact, and nothing is done for other comparisons.
  const word = d.toU32(sine) as AnyTensor;
  assertEquals(rounded(d.equal(word, d.iota("i", 8)) as AnyTensor), []);
  assertEquals(rounded(d.less(sine, y) as AnyTensor), []);
  // What is asked for itself is stored in any case: its own value is no other node.
  assertStrictEquals(
    roundOnce([nodeOf(sine), nodeOf(d.equal(sine, y) as AnyTensor)])[0],
    nodeOf(sine),
  );
});

Deno.test("within steps it is kept, and what a step is given is rounded before it", () => {
  const x = input("x", { t: 5, i: 8 }), sine = d.sin(x) as AnyTensor;
  const over = (step: (h: AnyTensor, x: AnyTensor) => AnyTensor) => {
    const from: AnyTensor = d.expand(d.constant(0), { i: 8 });
    const { out } = d.scan({ over: "t", from: { h: from }, each: { x: sine } }, ({ h }, { x }) => {
      const same = d.equal(step(h, x), h) as AnyTensor;
      return {
        next: { h: d.select(same, x, d.exp(h)) as AnyTensor },
        out: { y: d.select(same, h, x) as AnyTensor },
      };
    });
    const [root] = roundOnce([nodeOf(out.y as AnyTensor)]);
    const [scan] = topologicalOrder([root]).filter(({ op }) => op === "scan");
    const { next, out: outs } = scan.attributes.step!;
    const inStep = topologicalOrder([...Object.values(next), ...Object.values(outs)])
      .filter(({ op }) => op === "materialise").map(({ args }) => args[0].op);
    return [inStep, rounded(out.y as AnyTensor).map(({ op }) => op)];
  };
  assertEquals(over((_, x) => x), [[], ["sin"]]);
  assertEquals(over((_, x) => d.exp(x) as AnyTensor), [["exp"], []]);
  assertEquals(over((h) => d.neg(h) as AnyTensor), [[], []]);
});

// ---- products -------------------------------------------------------------------------------------

Deno.test("a product of three has the product that is there already, if that has all axes", () => {
  const [g, s, e] = ["g", "s", "e"].map((name) => input(name, { i: 4 }));
  const there = d.mul(s, e) as AnyTensor;
  const shown = (of: AnyTensor, ...others: readonly AnyTensor[]) =>
    reassociate([...others, of].map(nodeOf)).at(-1)!.args.map((arg) =>
      arg === nodeOf(there) ? "there" : arg.attributes.name ?? arg.op
    );
  for (const gs of [d.mul(g, s), d.mul(s, g)] as AnyTensor[]) {
    for (const all of [d.mul(gs, e), d.mul(e, gs)] as AnyTensor[]) {
      assertEquals(shown(all, there), ["g", "there"]);
      // Without the product beside it, and where (g s) is needed anyway, all stays.
      assert(!shown(all).includes("there"));
      assert(!shown(all, there, d.exp(gs) as AnyTensor).includes("there"));
    }
  }
  const wide = input("wide", { i: 4, k: 3 });
  assert(!shown(d.mul(d.mul(wide, s), e) as AnyTensor, there).includes("there"));
  assert(!shown(d.mul(d.add(g, s), e) as AnyTensor, there).includes("there"));
});

// ---- renamings ------------------------------------------------------------------------------------

/** The renamings below a value, by what they rename. */
const renamings = (...of: readonly AnyTensor[]): readonly string[] =>
  topologicalOrder(sinkRenames(of.map(nodeOf))).filter(({ op }) => op === "index")
    .map(({ args }) => args[0].attributes.name ?? args[0].op).sort();

Deno.test("a renaming goes down to what is given, unless others use what is between", () => {
  const x = input("x", { i: 4, j: 6 }), y = input("y", { j: 6 });
  const made = d.exp(d.mul(x, y)) as AnyTensor;
  assertEquals(renamings(rename(made, "j", "k")), ["x", "y"]);
  assertEquals(renamings(rename(made, "i", "k")), ["x"]);
  assertEquals(renamings(rename(rename(made, "j", "k"), "k", "l")), ["x", "y"]);
  assertEquals(renamings(rename(rename(made, "j", "k"), "k", "j")), []);
  // What is used twice, or asked for, is computed once, and renamed then.
  assertEquals(renamings(rename(made, "j", "k"), d.sin(made) as AnyTensor), ["exp"]);
  assertEquals(renamings(rename(made, "j", "k"), made), ["exp"]);
  assertEquals(renamings(rename(d.stopGradient(made) as AnyTensor, "j", "k")), ["x", "y"]);
  // A sum is renamed as what it sums, also where the new name is one that it sums over.
  const sum = d.sum(made, "j" as never) as AnyTensor;
  assertEquals(renamings(rename(sum, "i", "k")), ["x"]);
  const [root] = sinkRenames([nodeOf(rename(sum, "i", "j"))]);
  assertEquals([root.op, { ...root.axes }], ["reduce", { j: 4 }]);
  assertEquals(root.attributes.over, ["j'"]);
  // A movement has its own axes renamed, and is no renaming itself.
  const flipped = rename(d.flip(made, "j" as never) as AnyTensor, "j", "k");
  assertEquals(renamings(flipped), ["exp"]);
  assertEquals(renamings(d.slice(made, "j" as never, 0, 3) as AnyTensor), ["exp"]);
  // A scan has axes of its own.
  const h = d.recurrence("i", d.sigmoid(x), x) as AnyTensor;
  assertEquals(renamings(rename(h, "j", "k")).filter((of) => of !== "const"), ["out.h"]);
});

// ---- memory ---------------------------------------------------------------------------------------

const storage = (id: number, elements: number, more: Partial<Storage> = {}): Storage => ({
  ...{ id, dtype: "f32", dims: [{ axis: "n", size: elements }], role: "temporary" },
  ...more,
});

Deno.test("values lie where others are that do not live then, the largest first", () => {
  const [a, b, c, e] = [[0, 100], [1, 60], [2, 40], [3, 10]].map(([id, size]) => storage(id, size));
  const places = (uses: readonly (readonly Storage[])[], kept: readonly Storage[] = [], by = 4) => {
    const { offsets, bytes } = plan(uses, kept, by);
    return [...[a, b, c, e].flatMap(({ id }) => offsets.get(id) ?? []), bytes];
  };
  // a lives with b, b with c: c is where a was.
  assertEquals(places([[a], [a, b], [b, c], [c]]), [0, 400, 0, 640]);
  assertEquals(places([[a], [a, b], [b, c], [c, e], [e]]), [0, 400, 0, 160, 640]);
  // What is kept is needed after the last kernel.
  assertEquals(places([[a], [a, b], [b, c], [c]], [a]), [0, 400, 640, 800]);
  // What is read again later lives all the time between.
  assertEquals(places([[a], [b], [c], [a]]), [0, 400, 400, 640]);
  // Places begin at multiples.
  assertEquals(places([[a, e], [a, b], [b, c]], [], 256), [0, 512, 0, 512, 768]);
  // The lowest place that is free: a gap between two that live.
  assertEquals(places([[a, b, c], [a, c], [a, c, e]]), [0, 400, 640, 400, 800]);
  // Of the same size, the first.
  const [f, g] = [storage(4, 100), storage(5, 100)];
  assertEquals([...plan([[g, f]], [], 4).offsets], [[4, 0], [5, 400]]);
  // Given values have places of their own.
  const given = storage(6, 10, { role: "input" }), output = storage(7, 10, { role: "output" });
  assertEquals([...plan([[given, output]], [given], 4).offsets], [[7, 0]]);
});

Deno.test("bytes of values: none is empty, and halves end at a word", () => {
  const bytes = (elements: number, half = false) => byteLength(storage(0, elements, { half }));
  assertEquals([bytes(0), bytes(1), bytes(7)], [4, 4, 28]);
  assertEquals([bytes(1, true), bytes(2, true), bytes(7, true)], [4, 4, 16]);
});

// ---- kernels in the making ------------------------------------------------------------------------

const draft = (id: number): KernelDraft => ({
  ...{ id, roots: [], domain: new Map(), reductions: [], rematerialised: new Set(), path: `${id}` },
});

Deno.test("a kernel waits for what stores its values, through whatever others", () => {
  const [a, b, c, e] = [0, 1, 2, 3].map(draft);
  const [x, y, z] = ["x", "y", "z"].map((name) => nodeOf(input(name, { i: 3 })));
  const home = new Map<Node, KernelDraft>([[x, a], [y, b], [z, c]]);
  const waits = waiting(home);
  assert(!waits.isBehindUser(a, y) && !waits.isUser(b, x));
  assertEquals(waits.readBy(b), []);
  waits.reads(b, x);
  waits.reads(c, y);
  waits.reads(c, x);
  assertEquals([waits.readBy(c), waits.isUser(b, x), waits.isUser(b, y)], [[y, x], true, false]);
  // c waits for b, which uses x; a uses nothing, and nobody waits for e.
  assertEquals([a, b, c, e].map((of) => waits.isBehindUser(of, x)), [false, false, true, false]);
  // A kernel is not behind itself.
  assertEquals([a, b, c].map((of) => waits.isBehindUser(of, y)), [false, false, false]);
  waits.reads(e, z);
  assertEquals([b, c, e].map((of) => waits.isBehindUser(of, y)), [false, false, true]);
  const next = new Map([[a, [b]], [b, [c, a]], [c, [a]], [e, [e]]]);
  const reach = (from: KernelDraft, to: KernelDraft) =>
    reaches(from, (of) => of === to, (of) => next.get(of)!);
  assertEquals([reach(a, c), reach(c, b), reach(a, e), reach(e, e)], [true, true, false, false]);
});

Deno.test("a value fills a space that has its axes and sizes, and no others", () => {
  const of = nodeOf(input("x", { i: 3, j: 4 }));
  assert(fills(of, domainOf(of)) && fills(of, new Map([["j", 4], ["i", 3]])));
  for (const [more, sizes] of [[["k", 5], 4], [["j", 5], 5]] as const) {
    assert(!fills(of, new Map([["i", 3], ["j", sizes], more as [string, number]])));
  }
  assert(!fills(of, new Map([["i", 3]])) && !fills(of, new Map([["i", 3], ["k", 4]])));
  const leaves = [input("x", {}), d.param("p", {}, zeros), d.constant(1), d.iota("i", 3)].map(
    nodeOf,
  );
  assertEquals(leaves.map(isLeaf), [true, true, true, true]);
  assertEquals(leaves.map(isBound), [true, true, false, false]);
  assert(!isLeaf(nodeOf(d.exp(input("x", {})))));
});

Deno.test("what is nested too deep is done before what is around it", () => {
  const run = (depth: number) => {
    const { nested, apart } = nestings();
    const done = new Map<number, number>();
    const order: number[] = [];
    let blocks = 0;
    const value = (k: number): number => {
      const before = done.get(k);
      if (before !== undefined) return before;
      const found = nested(() => k === 0 ? 0 : 1 + value(k - 1), () => {
        value(k);
      });
      done.set(k, found);
      order.push(k);
      if (k === 1) apart(() => blocks++);
      return found;
    };
    return { value: value(depth), order, blocks };
  };
  for (const depth of [0, 1, 511, 512, 513, 2000]) {
    const { value, order, blocks } = run(depth);
    assertStrictEquals(value, depth);
    // Each once, from the innermost on.
    assertEquals(order, Array.from({ length: depth + 1 }, (_, k) => k));
    assertStrictEquals(blocks, Math.min(depth, 1));
  }
  const { nested } = nestings();
  assertThrows(
    () =>
      nested(() => {
        throw new RangeError("no number");
      }, () => {}),
    Error,
    "no number",
  );
  assertStrictEquals(nested(() => 7, () => {}), 7);
});
