// The printer: what a person would have written, as literal text.
import { assertStrictEquals } from "@std/assert";
import type { AnyTensor } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import * as d from "../../dsl/ops.ts";
import { print } from "../../dsl/print.ts";

const x = d.input("x", { batch: 8, time: 250 });
const w = d.input("w", { time: 250, out: 3 });
const X = `let x = input("x", { batch: 8, time: 250 })\n`;
const W = `let w = input("w", { time: 250, out: 3 })\n`;
const exponential = d.exp(x);

const texts: Readonly<Record<string, readonly [AnyTensor, string]>> = {
  "infix operators bind as in arithmetic": [
    d.mul(d.add(x, d.constant(1)), d.sub(x, d.sub(x, d.exp(x)))),
    `${X}(x + 1) * (x - (x - exp(x))) // { batch: 8, time: 250 }`,
  ],
  "a negated term is subtracted": [
    d.add(d.mul(x, d.constant(2)), d.neg(x)),
    `${X}x * 2 - x // { batch: 8, time: 250 }`,
  ],
  "what is shared has a name and its axes": [
    d.div(exponential, d.sum(exponential, "time")),
    `${X}let a = exp(x) // { batch: 8, time: 250 }\na / sum(a, "time") // { batch: 8, time: 250 }`,
  ],
  "a sum of products is a contraction": [
    d.contract(x, w, "time"),
    `${X}${W}contract(x, w, "time") // { batch: 8, out: 3 }`,
  ],
  "derived functions have their names": [
    d.add(d.softmax(x, "time"), d.gelu(x)),
    `${X}softmax(x, "time") + gelu(x) // { batch: 8, time: 250 }`,
  ],
  "choices and comparisons": [
    d.select(d.less(x, d.constant(0)), d.square(x), d.sqrt(x)),
    `${X}select(x < 0, square(x), sqrt(x)) // { batch: 8, time: 250 }`,
  ],
  "movements": [
    d.flip(d.slice(d.pad(x, "time", 2, 3), "time", 1, 9, 2), "batch"),
    `${X}flip(slice(pad(x, "time", 2, 3), "time", 1, 9, 2), "batch") // { batch: 8, time: 9 }`,
  ],
  "split and merge": [
    d.merge(d.split(x, "time", { a: 50, b: 5 }), ["batch", "b"], "c"),
    `${X}merge(split(x, "time", { a: 50, b: 5 }), ["batch", "b"], "c") // { c: 40, a: 50 }`,
  ],
  "windows": [
    d.slidingWindows(x, "time", { out: "t", tap: "k", size: 5 }, { stride: 2, before: 2 }),
    `${X}slidingWindows(x, "time", { out: "t", tap: "k", size: 5 }, { stride: 2, before: 2 })` +
    ` // { batch: 8, t: 124, k: 5 }`,
  ],
  "look-ups": [
    d.gather(x, "batch", d.input("at", { n: 4 }, "u32")),
    `${X}let at = input("at", { n: 4 }, "u32")\ngather(x, "batch", at) // { time: 250, n: 4 }`,
  ],
  "gradients": [
    grad(d.sum(d.sin(d.contract(x, w, "time")), ["batch", "out"]), { w }).w,
    `${X}${W}contract(cos(contract(x, w, "time")), x, "batch") // { out: 3, time: 250 }`,
  ],
  "parameters": [
    d.param("blocks.0.weight", { out: 3 }, () => d.constant(0)),
    `let blocks_0_weight = param("blocks.0.weight", { out: 3 })\nblocks_0_weight // { out: 3 }`,
  ],
};

for (const [name, [of, text]] of Object.entries(texts)) {
  Deno.test(`printed: ${name}`, () => assertStrictEquals(print(of), text));
}

Deno.test("printed: a scan shows its step as a block, and what the step reads from outside above", () => {
  const from = { h: d.expand(d.constant(0), { batch: 8 }) };
  const made = d.scan({ over: "time", from, each: { x }, reverse: true }, ({ h }, { x }) => {
    const next = d.on(h, d.tanh(d.add(h, d.mul(x, d.take(d.take(w, "time", 0), "out", 1)))));
    return { next: { h: next }, out: { y: d.mul(next, x) } };
  });
  assertStrictEquals(
    print(d.add(made.out.y, made.final.h)),
    `${X}${W}let a = take(take(w, "time", 0), "out", 1) // {}
let c = scan({ over: "time", from: { h: expand(0, { batch: 8 }) }, each: { x }, reverse: true }, (carry, each) => {
  let b = tanh(carry.h + each.x * a) // { batch: 8 }
  return { next: { h: b }, out: { y: b * each.x } }
})
c.out.y + c.final.h // { time: 250, batch: 8 }`,
  );
});
