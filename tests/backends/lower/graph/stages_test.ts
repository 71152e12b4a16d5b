// Into which parts long sums and products of few tiles are divided: from which sizes on, how many parts,
// along which axis, and what fills up the last part.
import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import {
  type Parallelism,
  splitK,
  twoStages,
} from "../../../../backends/lower/graph/split_reductions.ts";
import type { AnyTensor, Axes } from "../../../../dsl/axes.ts";
import { type Node, nodeOf } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";

const sum = (axes: Axes, over: readonly string[]): Node =>
  nodeOf(d.sum(d.exp(d.input("x", axes)), over as never[]));
/** What is summed first and what then, with the sizes; undefined where all is summed at once. */
const stages = (of: Node) => {
  const made = twoStages(of);
  if (made === of) return undefined;
  const [inner] = made.args;
  assertStrictEquals(inner.op, "reduce");
  const shown = (x: Node) =>
    x.attributes.over!.map((axis) => `${axis} ${x.args[0].axes[axis]}`).join();
  return [shown(inner), shown(made)];
};

Deno.test("a sum along one axis has parts from 65,536 terms on, for up to 64 results", () => {
  const along = (terms: number, results: number) =>
    stages(sum({ i: terms, j: results }, ["i"]))?.map((of) => of.split(" ")[1]);
  assertStrictEquals(along(65_535, 1), undefined);
  assertEquals(along(65_536, 1), ["256", "256"]);
  assertEquals(along(65_536, 64), ["256", "256"]);
  assertStrictEquals(along(65_536, 65), undefined);
  // For one result no more than 512 parts; for more of them about as many parts as terms.
  assertEquals(along(1_000_003, 1), ["1954", "512"]);
  assertEquals(along(1_000_003, 2), ["1024", "977"]);
  assertEquals(along(200_000, 1), ["512", "391"]);
  assertEquals(along(200_000, 3), ["512", "391"]);
  assertEquals(stages(sum({ i: 65_536 }, ["i"])), ["i.place:256 256", "i.part:256 256"]);
});

Deno.test("the last part is filled up with what changes nothing", () => {
  const x: AnyTensor = d.input("x", { i: 65_537 });
  for (const [of, fill] of [[d.sum(x, "i"), 0], [d.max(x, "i"), -Infinity]] as const) {
    const made = twoStages(nodeOf(of)), [inner] = made.args, [parts] = inner.args;
    assertEquals([made, inner].map(({ attributes }) => attributes.how), [
      ...[nodeOf(of).attributes.how, nodeOf(of).attributes.how],
    ]);
    assertStrictEquals(parts.attributes.fill, fill);
    assertEquals({ ...parts.axes }, { "i.part:257": 257, "i.place:256": 256 });
    const { terms, offset, divisor, exact, modulo } = parts.attributes.places!.i;
    assertEquals({ terms, offset, divisor, exact, modulo }, {
      terms: [{ axis: "i.part:257", times: 256 }, { axis: "i.place:256", times: 1 }],
      ...{ offset: 0, divisor: 1, exact: false, modulo: 0 },
    });
  }
});

Deno.test("a sum over several axes is one over some first, from 1024 terms on", () => {
  assertStrictEquals(stages(sum({ i: 31, j: 33 }, ["i", "j"])), undefined);
  assertEquals(stages(sum({ i: 32, j: 32 }, ["i", "j"])), ["j 32", "i 32"]);
  assertStrictEquals(stages(sum({ i: 5000, j: 2 }, ["i"])), undefined);
  // The axis that is summed last is the nearest to the root of all terms.
  for (
    const [axes, last] of [[{ i: 2, j: 90, k: 45 }, "j"], [{ i: 700, j: 2, k: 30 }, "i"]] as const
  ) {
    const [first, then] = stages(sum(axes, ["i", "j", "k"]))!;
    assert(then.startsWith(last) && !first.includes(`${last} `), `${first}, ${then}`);
  }
  assertEquals(stages(sum({ i: 100, j: 4, k: 600 }, ["i", "j", "k"])), ["i 100,j 4", "k 600"]);
  assertEquals(stages(sum({ i: 200, j: 4, k: 60 }, ["i", "j", "k"])), ["j 4,k 60", "i 200"]);
  // Up to 4096 results.
  assertEquals(stages(sum({ i: 32, j: 32, r: 4096 }, ["i", "j"])), ["j 32", "i 32"]);
  assertStrictEquals(stages(sum({ i: 32, j: 32, r: 4097 }, ["i", "j"])), undefined);
  // A product has kernels of its own.
  const factors = [
    d.input("a", { m: 9, k: 32, l: 64 }),
    d.input("b", { k: 32, l: 64, n: 9 }),
  ] as const;
  assertStrictEquals(stages(nodeOf(d.contract(...factors, ["k", "l"]))), undefined);
  assertStrictEquals(stages(nodeOf(d.exp(d.input("x", { i: 1e6 })))), undefined);
});

const parts = (
  of: Node,
  parallelism: Parallelism,
): readonly [axis: string, count: number, length: number] | undefined => {
  const made = splitK(of, parallelism);
  if (made === of) return undefined;
  const [inner] = made.args, all = inner.args[0].axes;
  const [part] = made.attributes.over!;
  const [axis, count] = part.split(".part:");
  const place = Object.keys(all).find((name) => name.startsWith(`${axis}.place:`))!;
  // Both factors have the parts, and the rest is summed with the places.
  for (const factor of inner.args[0].args) {
    assert(part in factor.axes && place in factor.axes);
    assertStrictEquals(factor.attributes.fill, 0);
  }
  assertEquals([made.attributes.how, inner.attributes.how], ["add", "add"]);
  assert(inner.attributes.over!.includes(place) && !(part in made.axes));
  return [axis, Number(count), Number(all[place])];
};
const product = (m: number, n: number, k: number, batch = 1): Node =>
  nodeOf(d.contract(d.input("x", { b: batch, m, k }), d.input("y", { b: batch, k, n }), "k"));
const free: Parallelism = { groups: 128, lanes: 1, launchCost: 0, gain: 1 };
const dear: Parallelism = { groups: 128, lanes: 1, launchCost: 2 ** 22, gain: 1.25 };
/** Of what is not divided there is no number of parts. */
const whole = undefined;
const counts = (parallelism: Parallelism, m: number, n: number, batch = 1) =>
  [64, 500, 2000, 8000, 32_000].map((k) => parts(product(m, n, k, batch), parallelism)?.[1]);

Deno.test("a product is divided into powers of two, as far as a device is not full by then", () => {
  // One tile, or a part of one; two tiles and more.
  assertEquals(counts(free, 64, 64), [8, 16, 63, 127, 128]);
  assertEquals(counts(free, 16, 16), [8, 16, 63, 127, 128]);
  assertEquals(counts(free, 65, 64), [4, 16, 32, 64, 64]);
  assertEquals(counts(free, 64, 65), [4, 16, 32, 64, 64]);
  assertEquals(counts(free, 128, 128), [4, 16, 32, 32, 32]);
  assertEquals(counts(free, 64, 64, 3), [4, 16, 32, 64, 64]);
  assertEquals(counts(free, 512, 512), [whole, 2, 2, 2, 2]);
  assertEquals(counts(free, 1024, 1024), [whole, whole, whole, whole, whole]);
});

Deno.test("a kernel more is worth it where that is enough faster", () => {
  assertEquals(counts(dear, 64, 64), [8, 16, 63, 127, 128]);
  assertEquals(counts(dear, 16, 16), [whole, whole, 63, 127, 128]);
  assertEquals(counts(dear, 512, 512), [whole, whole, 2, 2, 2]);
  assertEquals(counts({ ...dear, gain: 2 }, 512, 512), [whole, whole, whole, whole, whole]);
  assertStrictEquals(splitK(nodeOf(d.exp(d.input("x", { i: 9 }))), free).op, "exp");
  // Each part is worth a tiled kernel by itself.
  assertEquals([15, 16, 31, 32].map((k) => parts(product(64, 64, k), free)?.[1]), [
    ...[whole, 2, 2, 4],
  ]);
});

Deno.test("parts are along the axis that fills the last of them best, the longest of those", () => {
  const over = (k: number, l: number) =>
    parts(
      nodeOf(d.contract(d.input("x", { m: 64, k, l }), d.input("y", { k, l, n: 64 }), ["k", "l"])),
      free,
    );
  // 32 parts of 33 would be 2 each, and a half of them empty.
  assertEquals([over(64, 33), over(33, 64)].map((of) => of?.[0]), ["k", "l"]);
  assertEquals([over(64, 128), over(128, 64)].map((of) => of?.[0]), ["l", "k"]);
  // 32 parts of 50 would be 2 each, and seven of them empty.
  assertEquals([over(32, 50), over(50, 32)], [["k", 32, 1], ["l", 32, 1]]);
  assertEquals([over(256, 512), over(512, 256)], [["l", 128, 4], ["k", 128, 4]]);
  const [axis, count, length] = over(7, 300)!;
  assertEquals([axis, count * length >= 300, (count - 1) * length < 300], ["l", true, true]);
});
