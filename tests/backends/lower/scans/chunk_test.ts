// Which steps of scans are linear in what they carry, so that time may be cut into chunks; that chunks
// have the same values, by the reference; and how many steps to a chunk.
import { assert, assertEquals, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import { chunkScans } from "../../../../backends/lower/scans/chunk.ts";
import type { Parallelism } from "../../../../backends/lower/graph/split_reductions.ts";
import { interpret, ordered } from "../../../../backends/reference/interpret.ts";
import { type AnyTensor, type Axes, volume } from "../../../../dsl/axes.ts";
import { nodeOf, topologicalOrder } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { numbers } from "../../../support/check.ts";

type Step = (h: AnyTensor, x: AnyTensor, g: AnyTensor) => AnyTensor;
type Named = Readonly<Record<string, AnyTensor>>;

const input = (name: string, axes: Axes): AnyTensor => d.input(name, axes);
const widest: Parallelism = { groups: 2 ** 20, lanes: 2 ** 30, launchCost: 0, gain: 0 };
const [t, c] = [13, 3];
const [x, g, start] = [input("x", { t, c }), input("g", { t, c }), input("start", { c })];

const scan = (from: Named, step: (carry: Named, now: Named) => unknown, reverse = false) =>
  d.scan({ over: "t", from, each: { x, g }, reverse }, step as never) as unknown as {
    readonly out: Named;
    readonly final: Named;
  };
const isChunked = (of: readonly AnyTensor[]) =>
  topologicalOrder(chunkScans(of.map(nodeOf), widest))
    .some(({ op, attributes }) => op === "scan" && attributes.axis === "t.step");
/** Whether the values in chunks are those of all steps in a row. */
const agree = (of: readonly AnyTensor[], what: string) => {
  const roots = of.map(nodeOf), made = chunkScans(roots, widest);
  const leaf = (leaf: ReturnType<typeof nodeOf>) =>
    numbers(leaf.attributes.name!.charCodeAt(0), volume(leaf.axes), 0.5, 1.5);
  const [wanted, found] = [interpret(roots, leaf), interpret(made, leaf)];
  roots.forEach((root, k) => {
    const order = Object.keys(root.axes);
    const a = ordered(wanted[k], root, order), b = ordered(found[k], made[k], order);
    const most = a.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
    a.forEach((x, n) =>
      assertLessOrEqual(Math.abs(x - b[n]), 1e-10 * most, `${what}: ${x}, ${b[n]}`)
    );
  });
};

const linear: Readonly<Record<string, Step>> = {
  "a product and a sum": (h, x, g) => d.add(d.mul(h, g), x),
  "the other way round": (h, x, g) => d.add(x, d.mul(g, h)),
  "a difference": (h, x, g) => d.sub(x, d.mul(h, g)),
  "a quotient": (h, x, g) => d.add(d.div(h, g), x),
  "a choice of two": (h, x, g) => d.select(d.less(x, g), d.mul(h, g), d.add(h, x)) as AnyTensor,
  "a choice of one": (h, x, g) => d.select(d.less(x, g), x, h) as AnyTensor,
  "two products": (h, x, g) => d.add(d.mul(h, g), d.mul(d.add(h, x), x)),
  "through markers": (h, x, g) => d.add(d.stopGradient(d.checkpoint(d.mul(h, g))), x),
  "nothing of what came": (_, x, g) => d.mul(x, g),
  "twice itself": (h, x) => d.add(d.add(h, h), x),
  "a number": (h, x) => d.add(d.mul(h, -0.5), x),
};
const others: Readonly<Record<string, Step>> = {
  "a function": (h, x) => d.tanh(d.add(h, x)),
  "a square": (h, x) => d.add(d.mul(h, h), x),
  "a product of two that follow from it": (h, x, g) => d.mul(d.mul(h, g), d.add(h, x)),
  "a quotient by it": (h, x) => d.div(x, d.add(h, d.constant(3))),
  "a choice by it": (h, x, g) => d.select(d.less(h, x), x, g) as AnyTensor,
  "the larger": (h, x) => d.maximum(h, x),
  "its neighbour": (h, x) => d.add(d.flip(h, "c" as never), x),
  "a sum of it": (h, x) => d.add(x, d.sum(h, "c" as never)),
};

Deno.test("a step that is linear in its carry is done in chunks, with the same values", () => {
  for (const [name, step] of Object.entries(linear)) {
    for (const reverse of [false, true]) {
      const { out, final } = scan({ h: start }, ({ h }, { x, g }) => {
        const next = step(h, x, g);
        return { next: { h: next }, out: { y: d.mul(next, x), z: d.sin(h) } };
      }, reverse);
      const of = [...Object.values(out), final.h];
      assert(isChunked(of), name);
      agree(of, `${name}${reverse ? ", back" : ""}`);
    }
  }
});

Deno.test("a step that is not is done in a row", () => {
  for (const [name, step] of Object.entries(others)) {
    const { out } = scan({ h: start }, ({ h }, { x, g }) => {
      const next = step(h, x, g);
      return { next: { h: next }, out: { y: next } };
    });
    assert(!isChunked([out.y]), name);
  }
});

Deno.test("carries that only add up are sums of chunks; what stays is what it was", () => {
  const total = input("total", {}), kept = input("kept", { c });
  for (const begin of [total, d.constant(0) as AnyTensor]) {
    const { out, final } = scan(
      { h: start, total: begin, kept },
      ({ h, total, kept }, { x, g }) => {
        const next = d.add(d.mul(d.mul(h, g), kept), x);
        const more = d.add(total, d.sum(d.sin(next), "c" as never));
        return { next: { h: next, total: more, kept }, out: { y: next } };
      },
    );
    const of = [out.y, ...Object.values(final)];
    assert(isChunked(of));
    agree(of, "sums");
  }
  // A sum that an output reads is a carry like others; one that another carry reads is none.
  const read = scan({ h: start, total }, ({ h, total }, { x, g }) => {
    const more = d.add(total, d.sum(x, "c" as never));
    return { next: { h: d.add(d.mul(h, g), x), total: more }, out: { y: d.mul(h, total) } };
  });
  assert(isChunked([read.out.y]));
  agree([read.out.y, read.final.total], "a sum that is read");
  const mixed = scan({ h: start, total }, ({ h, total }, { x, g }) => ({
    next: { h: d.add(d.mul(h, g), total), total: d.add(total, d.sum(x, "c" as never)) },
    out: { y: h },
  }));
  assertStrictEquals(isChunked([mixed.out.y]), false);
  // A carry of words is none.
  const words = scan({ h: start, n: d.toU32(total) as AnyTensor }, ({ h, n }, { x, g }) => ({
    next: { h: d.add(d.mul(h, g), x), n: d.add(n, n) },
    out: { y: d.add(h, d.toFloat(n)) },
  }));
  assertStrictEquals(isChunked([words.out.y]), false);
  // Sums alone.
  const alone = scan({ total }, ({ total }, { x, g }) => ({
    next: { total: d.add(total, d.sum(d.mul(x, g), "c" as never)) },
    out: {},
  }));
  assert(isChunked([alone.final.total]));
  agree([alone.final.total], "sums alone");
});

/** Steps to a chunk of a recurrence; undefined where all are done in a row. */
const length = (
  steps: number,
  lanes: number,
  parallelism: Partial<Parallelism>,
): number | undefined => {
  const axes = { t: steps, c: lanes };
  const h = d.recurrence("t", d.sigmoid(input("a", axes)), input("b", axes)) as AnyTensor;
  const [found] = topologicalOrder(chunkScans([nodeOf(h)], { ...widest, gain: 1, ...parallelism }))
    .filter(({ op, attributes }) => op === "scan" && attributes.axis === "t.step")
    .map(({ args, attributes }) => args[attributes.carries!.length].axes["t.step"] as number);
  return found;
};

Deno.test("chunks are as long as is fastest by estimate, a power of two", () => {
  const lanes = 8192;
  const steps = [16, 250, 1000, 4000, 16_000, 100_000];
  const lengths = (c: number, parallelism: Partial<Parallelism>) =>
    steps.map((n) => length(n, c, parallelism));
  // About as many chunks as steps to each, while lanes are not enough.
  for (const c of [1, 8, 64, 512, 4096]) {
    assertEquals(lengths(c, {}), [4, 16, 32, 64, 128, 256], `${c}`);
  }
  assertEquals(lengths(8, { lanes }), [4, 16, 32, 64, 128, 256]);
  assertEquals(lengths(64, { lanes }), [4, 16, 32, 64, 128, 512]);
  assertEquals(lengths(512, { lanes }), [4, 16, 64, 256, 1024, 2048]);
  assertEquals(lengths(4096, { lanes }), steps.map(() => undefined));
  // Two kernels more are worth it for long ones.
  const dear = { lanes, launchCost: 2 ** 27, gain: 1.75 };
  assertEquals(lengths(1, dear), [undefined, undefined, undefined, 64, 128, 256]);
  assertEquals(lengths(512, dear), [undefined, undefined, undefined, 256, 1024, 2048]);
  assertEquals([3, 4].map((n) => length(n, 1, { gain: 0 })), [undefined, 2]);
});
