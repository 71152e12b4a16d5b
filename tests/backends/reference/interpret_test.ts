// The interpreter as a backend: what goes in and comes out, in which order, how parameters are
// replaced, and what is said when something is missing or has another size.
import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import type { Machine, Program, Values } from "../../../backends/backend.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import { interpret, ordered } from "../../../backends/reference/interpret.ts";
import { grad } from "../../../dsl/grad.ts";
import { intern, nodeOf } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const zero = () => d.constant(0);
const p: AnyTensor = d.param("p", { a: 2, b: 3 }, zero),
  q: AnyTensor = d.param("q", { b: 3, a: 2 }, zero);
const x: AnyTensor = d.input("x", { a: 2, b: 3 });
const count: AnyTensor = d.input("count", { b: 3 }, "u32");

const programs: Readonly<Record<string, Program>> = {
  sum: { outputs: { y: { of: d.add(x, p), order: ["b", "a"] } } },
  swap: {
    outputs: { before: { of: d.sum(p, ["a", "b"]), order: [] } },
    updates: { p: d.mul(q, 2), q: p },
  },
  words: {
    outputs: {
      twice: { of: d.add(count, count), order: ["b"] },
      large: { of: d.less(d.constant(1, "u32"), count), order: ["b"] },
    },
  },
  slope: {
    outputs: { g: { of: grad(d.sum(d.mul(p, x), ["a", "b"]), { p }).p, order: ["a", "b"] } },
  },
};

const open = (): Promise<Machine> => referenceBackend().open(programs);
const start: Values = {
  p: Float32Array.of(1, 2, 3, 4, 5, 6),
  q: Float32Array.of(10, 20, 30, 40, 50, 60),
};
const six = Float32Array.of(0.5, 0, 0, 0, 0, 0.25);

Deno.test("outputs come in the order that was asked for", async () => {
  const machine = await open();
  machine.write(start);
  assertSameNumbers(await machine.run("sum", { x: six }), {
    y: Float32Array.of(1.5, 4, 2, 5, 3, 6.25),
  });
  assertSameNumbers(await machine.run("slope", { x: six }), { g: six });
});

Deno.test("updates read the parameters as they were, and are kept in the parameters' order", async () => {
  const machine = await open();
  machine.write(start);
  assertSameNumbers(await machine.run("swap", {}), { before: Float32Array.of(21) });
  assertSameNumbers(await machine.read(["p", "q"]), {
    p: Float32Array.of(20, 60, 100, 40, 80, 120),
    q: Float32Array.of(1, 4, 2, 5, 3, 6),
  });
});

Deno.test("what was written or read is a copy", async () => {
  const machine = await open();
  const mine = Float32Array.from(start.p);
  machine.write({ ...start, p: mine });
  mine.fill(0);
  const { p } = await machine.read(["p"]);
  p.fill(7);
  assertSameNumbers(await machine.read(["p"]), { p: start.p });
});

Deno.test("words stay words; booleans come as the words 0 and 1", async () => {
  const machine = await open();
  assertEquals(await machine.run("words", { count: Uint32Array.of(1, 2, 0x80000001) }), {
    twice: Uint32Array.of(2, 4, 2),
    large: Uint32Array.of(0, 1, 1),
  });
});

Deno.test("what is missing or has another size is said by its name", async () => {
  const machine = await open();
  assertStrictEquals(
    (await assertRejects(() => machine.run("sum", { x: six }), Error)).message,
    "the parameter 'p' has not been set",
  );
  machine.write(start);
  assertStrictEquals(
    (await assertRejects(() => machine.run("sum", {}), Error)).message,
    "the input 'x' is missing; it has { a: 2, b: 3 } = 6 elements of f32",
  );
  assertStrictEquals(
    (await assertRejects(() => machine.run("sum", { x: Float32Array.of(1, 2) }), Error)).message,
    "the input 'x' has { a: 2, b: 3 } = 6 elements, but got 2",
  );
  assertStrictEquals(
    assertThrows(() => machine.write({ p: Float32Array.of(1) }), Error).message,
    "the parameter 'p' has { a: 2, b: 3 } = 6 elements, but got 1",
  );
  assertStrictEquals(
    (await assertRejects(() => machine.run("sums", { x: six }), Error)).message,
    "there is no program 'sums'; there is sum, swap, words, slope",
  );
  assertStrictEquals(
    (await assertRejects(() => machine.read(["r"]), Error)).message,
    "there is no parameter 'r'",
  );
});

Deno.test("floats are rounded once, at the end", async () => {
  const large: AnyTensor = d.input("large", {});
  const difference = d.sub(d.add(large, d.constant(1)), large);
  const machine = await referenceBackend().open({
    it: { outputs: { y: { of: difference, order: [] } } },
  });
  const { y } = await machine.run("it", { large: Float32Array.of(2 ** 30) });
  assertStrictEquals(y[0], 1);
});

Deno.test("what stands for another value may have its axes in another order", () => {
  const given = nodeOf(x), turned = intern("stop", "f32", { b: 3, a: 2 }, [given]);
  const data = Float64Array.of(0, 1, 2, 3, 4, 5);
  const [found] = interpret([turned], () => data);
  assertSameNumbers([...ordered(found, turned, ["a", "b"])], [...data]);
});
