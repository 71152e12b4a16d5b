// Which large products become loops, and what loops carry, read and compute themselves: their limits one
// by one, without running anything.
import { assertEquals, assertStrictEquals } from "@std/assert";
import { streamProducts } from "../../../../backends/lower/graph/stream_products.ts";
import type { AnyTensor, Axes } from "../../../../dsl/axes.ts";
import { nodeOf, topologicalOrder } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { roles } from "../../../../dsl/scan.ts";

const input = (name: string, axes: Axes): AnyTensor => d.input(name, axes);
const [q, k] = [input("q", { t: 50, f: 2 }), input("k", { s: 60, f: 2 })];
/** 3000 products of 220 numbers: 12,000 bytes. */
const scores = d.contract(q as never, k as never, "f" as never) as AnyTensor;
const over = (of: AnyTensor, axis = "s"): AnyTensor => d.sum(of, axis as never);

/** What each loop walks over and carries, and what it reads at each step and for all of them. */
const loops = (of: readonly AnyTensor[], limit = 11_999) =>
  topologicalOrder(streamProducts(of.map(nodeOf), limit)).filter(({ op }) => op === "scan").map(
    (scan) => {
      const { each, rest } = roles(scan);
      const names = (list: Iterable<ReturnType<typeof nodeOf>>) =>
        [...list].map((one) => one.attributes.name ?? one.op).sort().join(" ");
      return [
        `${scan.attributes.axis} ${scan.attributes.carries!.length}`,
        names(Object.values(each)),
        names(rest),
      ];
    },
  );

Deno.test("a product is not stored beyond a limit, where it is more than eight times its factors", () => {
  const square = over(d.square(scores));
  assertEquals(loops([square]), [["s 1", "k", "q"]]);
  assertEquals(loops([square], 12_000), []);
  // 8 · (50 + 60) · f is less than 50 · 60 for f of 3, and not for 4.
  const of = (f: number) => {
    const product = d.contract(
      input("q", { t: 50, f }) as never,
      input("k", { s: 60, f }) as never,
      "f" as never,
    ) as AnyTensor;
    return loops([over(d.exp(product))]).length;
  };
  assertEquals([2, 3, 4].map(of), [1, 1, 0]);
  // 8 · (48 + 12) is 480, which is not more than eight times as much.
  const edge = (t: number) =>
    loops([
      over(d.exp(d.contract(
        input("q", { t, f: 1 }) as never,
        input("k", { s: 12, f: 1 }) as never,
        "f" as never,
      ) as AnyTensor)),
    ], 0).length;
  assertEquals([24, 25].map(edge), [0, 1]);
  // Sums of other things, and maxima of products, are no products.
  const added = d.sum(d.add(q, k), "f" as never) as AnyTensor;
  assertEquals(loops([over(d.square(added))]), []);
  const largest = d.max(d.mul(q, k), "f" as never) as AnyTensor;
  assertEquals(loops([over(d.square(largest))]), []);
});

Deno.test("what something else reads is stored", () => {
  const both = over(d.exp(scores));
  assertStrictEquals(loops([both]).length, 1);
  assertStrictEquals(loops([both, scores]).length, 0);
  assertStrictEquals(loops([both, d.exp(scores) as AnyTensor]).length, 0);
  assertStrictEquals(loops([both, d.flip(scores, "s" as never) as AnyTensor]).length, 0);
  // A sum over two axes is no loop; two sums over one are.
  assertStrictEquals(loops([d.sum(d.exp(scores), ["s", "t"] as never[]) as AnyTensor]).length, 0);
  assertEquals(loops([both, over(d.exp(scores), "t")]).map(([one]) => one).sort(), [
    ...["s 1", "t 1"],
  ]);
  // What is compared for equality is rounded once, and stored.
  const equal = over(
    d.select(d.equal(scores, d.constant(0.5)), scores, d.constant(0)) as AnyTensor,
  );
  assertStrictEquals(loops([equal]).length, 0);
  const less = over(d.select(d.less(scores, d.constant(0.5)), scores, d.constant(0)) as AnyTensor);
  assertStrictEquals(loops([less]).length, 1);
});

Deno.test("a loop computes what is large, and reads what is not", () => {
  const row = input("row", { s: 60 }), column = input("column", { t: 50 });
  const masked = (mask: AnyTensor) => loops([over(d.mul(d.exp(scores), mask) as AnyTensor)]);
  // Of 3000 elements: made in the loop, of what is given.
  assertEquals(masked(d.exp(d.add(row, column)) as AnyTensor), [["s 1", "k row", "column q"]]);
  assertEquals(masked(input("mask", { t: 50, s: 60 })), [["s 1", "k mask", "q"]]);
  // What has one axis alone is computed before.
  assertEquals(masked(d.exp(row) as AnyTensor), [["s 1", "exp k", "q"]]);
  const positions = d.less(d.iota("s", 60), d.iota("t", 50)) as AnyTensor;
  assertEquals(masked(d.toFloat(positions) as AnyTensor)[0].slice(0, 2), ["s 1", "iota k"]);
});

Deno.test("sums over one axis are one loop, with maxima before them", () => {
  const value = input("value", { s: 60, e: 3 });
  const read = over(d.mul(d.softmax(scores, "s" as never), value) as AnyTensor);
  assertEquals(loops([read]), [["s 3", "k value", "q"]]);
  const top = d.max(scores, "s" as never) as AnyTensor;
  assertEquals(loops([top]), [["s 1", "k", "q"]]);
  const power = d.exp(d.sub(scores, top)) as AnyTensor;
  assertEquals(loops([over(power)]), [["s 2", "k", "q"]]);
  // Below another maximum, or of something else than an exponential, there are two loops.
  const other = d.max(d.sin(scores), "s" as never) as AnyTensor;
  assertEquals(loops([over(d.exp(d.sub(scores, other)) as AnyTensor)]).map(([one]) => one), [
    ...["s 1", "s 1"],
  ]);
  assertEquals(loops([over(d.square(d.sub(scores, top)) as AnyTensor)]).length, 2);
  assertEquals(loops([over(d.mul(power, power) as AnyTensor)]).length, 2);
  // What does not wait goes along.
  assertEquals(loops([over(power), over(d.sin(scores) as AnyTensor)]), [["s 3", "k", "q"]]);
  // Two that wait for each other otherwise are two.
  const first = over(d.sin(scores) as AnyTensor);
  assertEquals(loops([over(d.sin(d.mul(scores, first)) as AnyTensor)]).map(([one]) => one), [
    ...["s 1", "s 1"],
  ]);
});

Deno.test("factors that lack the axis of a sum stand before it", () => {
  const gate = input("gate", { t: 50 });
  const inner = d.mul(d.mul(d.sin(scores), gate), d.exp(gate)) as AnyTensor;
  const [root] = streamProducts([nodeOf(over(inner))], 11_999);
  assertStrictEquals(root.op, "mul");
  const [scan] = topologicalOrder([root]).filter(({ op }) => op === "scan");
  assertEquals(roles(scan).rest.map(({ attributes }) => attributes.name), ["q"]);
  // Nothing is left where no factor has the axis, and a maximum has no factors.
  const top = d.max(d.mul(d.sin(scores), gate), "s" as never) as AnyTensor;
  assertEquals(loops([top]), [["s 1", "k", "gate q"]]);
});
