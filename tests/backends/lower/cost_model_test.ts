// The numbers by which the compiler decides what is stored, what is computed again and what is tiled:
// each case and each limit of them, since a wrong one makes programs slower and no value wrong.
import { assert, assertEquals, assertLess, assertStrictEquals } from "@std/assert";
import {
  contractionOf,
  costOf,
  isMovement,
  isSmall,
  isWorthTiles,
  maxInlineWork,
  memoryCost,
  operandReads,
  origin,
  smallReduction,
  terms,
  work,
} from "../../../backends/lower/cost_model.ts";
import type { AnyTensor, Axes } from "../../../dsl/axes.ts";
import { type Node, nodeOf } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { apply } from "../../../dsl/primitives.ts";
import type { ScalarName } from "../../../dsl/node.ts";
import { index } from "../../../dsl/structure.ts";

const x: AnyTensor = d.input("x", { i: 12, j: 5 });
const y: AnyTensor = d.input("y", { i: 12, j: 5 });
const numbersOf = (of: Node, cuts?: ReadonlySet<Node>) => {
  const { flops, reads, leaves } = work(of, cuts);
  return [flops, reads, leaves.size];
};

Deno.test("functions cost eight additions, roots and quotients three, what only moves nothing", () => {
  const costs = (names: readonly ScalarName[], ...args: readonly Node[]) =>
    names.map((name) => costOf(apply(name, ...args)));
  const functions = ["exp", "log", "log1p", "sin", "cos", "tanh", "erf", "erfc"] as const;
  assertEquals(costs(functions, nodeOf(x)), functions.map(() => 8));
  assertEquals([...costs(["sqrt"], nodeOf(x)), ...costs(["div"], nodeOf(x), nodeOf(y))], [3, 3]);
  assertEquals(costs(["add", "mul", "max", "less"], nodeOf(x), nodeOf(y)), [1, 1, 1, 1]);
  assertStrictEquals(costOf(nodeOf(d.sum(x, "i"))), 1);
  for (
    const  of of[x, d.stopGradient(x), d.rename(x, "i" as never, "k"), d.flip(x, "i" as never)]
  ) {
    assertStrictEquals(costOf(nodeOf(of)), 0);
  }
});

Deno.test("a movement costs something where it reads beyond its argument, at either end", () => {
  const read = (size: number, place: Partial<Record<string, number>>, times = 1) =>
    costOf(index(nodeOf(x), { k: size, j: 5 }, {
      i: {
        terms: [{ axis: "k", times }],
        offset: 0,
        divisor: 1,
        exact: false,
        modulo: 0,
        ...place,
      },
      j: { terms: [{ axis: "j", times: 1 }], offset: 0, divisor: 1, exact: false, modulo: 0 },
    }));
  // Along i there are places from 0 to 11.
  assertEquals([read(12, {}), read(13, {})], [0, 4]);
  assertEquals([read(11, { offset: 1 }), read(12, { offset: 1 })], [0, 4]);
  assertEquals([read(3, { offset: -1 }), read(1, { offset: -1 })], [4, 4]);
  assertEquals([read(6, {}, 2), read(7, {}, 2)], [0, 4]);
  assertEquals([read(12, { offset: 11 }, -1), read(12, { offset: 10 }, -1)], [0, 4]);
  assertEquals([read(12, { offset: 12 }, -1), read(4, { offset: 9 }, -3)], [4, 0]);
  assertEquals([read(24, { divisor: 2 }), read(25, { divisor: 2 })], [0, 4]);
  // What wraps around stays inside.
  assertEquals([12, 1].map((modulo) => read(40, { offset: -3, modulo })), [0, 0]);
});

Deno.test("work counts what is shared once, and reads what is stored or short in part", () => {
  const sine = d.sin(x);
  assertEquals(numbersOf(nodeOf(x)), [0, 1, 1]);
  assertEquals(numbersOf(nodeOf(d.add(sine, y))), [9, 2, 2]);
  assertEquals(numbersOf(nodeOf(d.add(d.mul(sine, sine), sine))), [10, 1, 1]);
  // Constants and positions are not read, and a row is read once for all of its elements.
  assertEquals(numbersOf(nodeOf(d.add(x, 2))), [1, 1, 1]);
  assertEquals(numbersOf(nodeOf(d.select(d.less(d.iota("i", 12), d.iota("j", 5)), x, y))), [
    ...[2, 2, 2],
  ]);
  const row: AnyTensor = d.input("row", { j: 5 });
  const [flops, reads, leaves] = numbersOf(nodeOf(d.mul(x, row)));
  assertEquals([flops, leaves], [1, 2]);
  assertLess(Math.abs(reads - (1 + 1 / 12)), 1e-9);
  // What has more elements than the value is read as often as the value.
  assertEquals(numbersOf(nodeOf(d.slice(x, "i" as never, 0, 2))), [0, 1, 1]);
  // Sums are read, whatever they are made of; so are scans and what is rounded once.
  const wide: AnyTensor = d.input("wide", { i: 12, k: 100 });
  assertEquals(numbersOf(nodeOf(d.exp(d.sum(d.sin(wide), "k")))), [8, 1, 0]);
  const h = d.recurrence("i", d.sigmoid(x), y);
  assertEquals(numbersOf(nodeOf(d.exp(h))), [8, 1, 0]);
  // A value that is stored for its length is read, but not where it is asked for itself.
  assertEquals(numbersOf(nodeOf(d.exp(sine)), new Set([nodeOf(sine)])), [8, 1, 0]);
  assertEquals(numbersOf(nodeOf(sine), new Set([nodeOf(sine)])), [8, 1, 1]);
});

Deno.test("work is not counted far beyond what is too much", () => {
  const chain = (n: number): AnyTensor =>
    n === 0 ? x : d.exp(d.mul(chain(n - 1), d.constant(1 + n / 8))) as AnyTensor;
  assertStrictEquals(maxInlineWork, 32);
  assertStrictEquals(work(nodeOf(chain(3))).flops, 27);
  // Four functions are not too much, and what is below them counts.
  const four = d.exp(d.exp(d.exp(d.exp(d.neg(d.neg(d.mul(x, x))))))) as AnyTensor;
  assertStrictEquals(work(nodeOf(four)).flops, 33);
  const { flops } = work(nodeOf(chain(50)));
  assert(flops > maxInlineWork && flops <= maxInlineWork + 8, `${flops}`);
});

Deno.test("sums of up to sixteen terms are done in place, of more are read", () => {
  const sum = (terms: number) => nodeOf(d.sum(d.exp(d.input("x", { a: 7, b: terms })), "b"));
  assertStrictEquals(smallReduction, 16);
  assertEquals(numbersOf(sum(16)), [16 * 9, 16, 1]);
  assertEquals(numbersOf(sum(17)), [0, 1, 0]);
  assertEquals([16, 17].map((n) => [isSmall(sum(n)), terms(sum(n))]), [[true, 16], [false, 17]]);
  assertEquals([isSmall(nodeOf(x)), terms(nodeOf(x))], [false, 1]);
  // A product of so few terms is a product all the same where it is worth tiles.
  const product = (rows: number) =>
    nodeOf(d.contract(d.input("a", { m: rows, k: 16 }), d.input("b", { k: 16, n: 64 }), "k"));
  assertEquals([isSmall(product(4)), isSmall(product(3))], [false, true]);
  assertEquals(numbersOf(product(4)), [0, 1, 0]);
  // Of 192 results each adds up sixteen terms, of which one factor has 48 elements in all.
  const { flops, reads } = work(product(3));
  assertStrictEquals(flops, 16 * 2);
  assertLess(Math.abs(reads - 16 * (48 / 192 + 1)), 1e-9);
});

Deno.test("a product is worth tiles from four rows and columns, eight terms and 2048 products on", () => {
  for (const [rows, columns, over] of [[4, 64, 8], [64, 4, 8], [4, 4, 128], [16, 16, 8]]) {
    assert(isWorthTiles(rows, columns, over), `${rows} x ${columns} over ${over}`);
  }
  for (
    const [rows, columns, over] of [
      ...[[3, 1000, 1000], [1000, 3, 1000], [1000, 1000, 7], [4, 4, 127], [15, 17, 8], [4, 63, 8]],
    ]
  ) assert(!isWorthTiles(rows, columns, over), `${rows} x ${columns} over ${over}`);
  assertEquals([1, 64, 65, 128, 129].map(operandReads), [4, 4, 8, 8, 12]);
  assertStrictEquals(memoryCost, 16);
});

Deno.test("a product is a sum of products over what both factors have", () => {
  const of = (a: Axes, b: Axes, over: readonly string[]) => {
    const found = contractionOf(nodeOf(d.sum(
      d.mul(d.input("a", a), d.input("b", b)) as AnyTensor,
      over as never[],
    )));
    return found &&
      [found.batch, found.rows, found.columns, found.over].map((dims) =>
        dims.map(({ axis }) => axis).join()
      );
  };
  const left = { b: 2, m: 20, k: 30 }, right = { b: 2, k: 30, n: 10 };
  assertEquals(of(left, right, ["k"]), ["b", "m", "n", "k"]);
  assertEquals(of(left, right, ["k", "b"]), ["", "m", "n", "b,k"]);
  // A sum over what one factor alone has is none, and so is a maximum or a sum of something else.
  assertStrictEquals(of(left, right, ["k", "m"]), undefined);
  assertStrictEquals(of({ m: 20, p: 2, k: 30 }, { k: 30, n: 10 }, ["k", "p"]), undefined);
  assertStrictEquals(of({ m: 20, k: 30 }, { k: 30, n: 10, p: 2 }, ["k", "p"]), undefined);
  assertEquals(of({ m: 4, k: 128 }, { k: 128, n: 4 }, ["k"]), ["", "m", "n", "k"]);
  assertStrictEquals(of({ m: 20, k: 30 }, { b: 9, n: 10 }, ["k"]), undefined);
  assertStrictEquals(of({ m: 20, n: 10 }, { k: 30, n: 10, m: 20 }, ["k"]), undefined);
  const [a, b]: readonly AnyTensor[] = [d.input("a", left), d.input("b", right)];
  for (const none of [d.max(d.mul(a, b), "k"), d.sum(d.add(a, b), "k"), d.mul(a, b)]) {
    assertStrictEquals(contractionOf(nodeOf(none)), undefined);
  }
});

Deno.test("a value is read from what is below all movements", () => {
  const moved = d.flip(d.stopGradient(d.slice(d.exp(x), "i" as never, 1, 3)), "j" as never);
  assertStrictEquals(origin(nodeOf(moved)), nodeOf(d.exp(x)));
  assertEquals([moved, d.exp(x), d.sum(x, "i")].map((of) => isMovement(nodeOf(of))), [
    ...[true, false, false],
  ]);
});
