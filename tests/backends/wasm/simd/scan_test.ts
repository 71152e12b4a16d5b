// Scans by lanes as WebAssembly: channels that fill the vectors beside each other or do not, steps that
// do not fill a segment, and what is computed once for several products, or before the steps.
import { assert, assertEquals, assertLess, assertStrictEquals } from "@std/assert";
import { sharedProducts } from "../../../../backends/lower/graph/factor_products.ts";
import type { Values } from "../../../../backends/backend.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import { wasmBackend } from "../../../../backends/wasm/backend.ts";
import { type AnyTensor, volume } from "../../../../dsl/axes.ts";
import { type Node, nodeOf, tensorOf, topologicalOrder } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { type Case, checkBackend, numbers, program } from "../../../support/check.ts";
import { wasm, wasmPlain, wasmWide } from "../../../support/device.ts";

/** A gated selective scan, as Mamba has it, and all that it can be differentiated for. */
const selective = (channel: number, token: number): Case => {
  const batch: number = 2, state: number = 3;
  const axes = {
    u: { batch, token, channel },
    dt: { batch, token, channel },
    z: { batch, token, channel },
    bias: { channel },
    A: { channel, state },
    B: { batch, token, state },
    C: { batch, token, state },
    D: { channel },
  };
  const wrt = Object.fromEntries(
    Object.entries(axes).map(([name, of]) => [name, d.input(name, of) as AnyTensor]),
  );
  const { u, dt, z, bias, A, B, C, D } = wrt;
  const delta = d.softplus(d.add(dt, bias));
  const decay = d.exp(d.mul(delta, d.neg(d.exp(A))));
  const h: AnyTensor = d.recurrence("token", decay, d.mul(d.mul(delta, B), u));
  const y: AnyTensor = d.add(d.contract(h, C, "state"), d.mul(u, D));
  const values = Object.fromEntries(
    Object.entries(axes).map(([name, of], k) => [name, numbers(k + 3, volume(of))]),
  );
  return { of: d.mul(y, d.silu(z)), wrt, values };
};

const cases: Readonly<Record<string, Case>> = Object.fromEntries(
  [[3, 45], [5, 1], [12, 7], [16, 1], [16, 45], [24, 40], [48, 23], [70, 45], [128, 12]].map((
    [channels, tokens],
  ) => [`${channels} channels, ${tokens} tokens`, selective(channels, tokens)]),
);

for (
  const [name, backend] of [["fused", wasm], ["plain", wasmPlain], ["in pairs", wasmWide]] as const
) {
  Deno.test(`selective scans of all kinds of sizes and their gradients, ${name}`, async () => {
    await checkBackend(backend, cases);
  });
}

Deno.test("a single step reads what was computed ahead of it", async () => {
  const w: AnyTensor = d.input("w", { time: 1, b: 3 }), h: AnyTensor = d.input("h", {});
  const x: AnyTensor = d.input("x", { time: 1, c: 3, e: 3 });
  const { out } = d.scan({ over: "time", from: { h }, each: { x, w } }, (carry, each) => ({
    next: { h: d.add(carry.h, d.mean(each.x, ["c", "e"])) as AnyTensor },
    out: { y: d.sin(d.add(h, each.w)) as AnyTensor },
  }));
  const values = { w: numbers(1, 3), h: numbers(2, 1), x: numbers(3, 9) };
  await checkBackend(wasm, { "one step": { of: out.y as AnyTensor, wrt: {}, values } });
});

Deno.test("vectors of lanes beside each other share what they read", async () => {
  const counts = async (channels: number) => {
    const backend = wasmBackend({ threads: 1 });
    const machine = await backend.open({ main: program(selective(channels, 40)).program });
    const scans = machine.report("main").kernels.filter(({ shapes }) => shapes.includes("scan"));
    const count = (part: string) => scans.map(({ code }) => code.split(part).length - 1);
    machine.close();
    backend.close();
    return { exponents: count("f32x4.pmin"), shared: count("v128.load32_splat") };
  };
  // 28 channels are seven vectors, which go one by one; 64 go four by four.
  const one = await counts(28), four = await counts(64);
  assertStrictEquals(one.exponents.length, 3);
  assertEquals(four.exponents, one.exponents.map((count) => 4 * count));
  assertEquals(four.shared, one.shared);
  // Step size, decay, and the gate where there is one: once in each kernel, also in one that goes back.
  assertEquals(one.exponents.toSorted(), [2, 3, 3]);
});

/** Nodes that are to have the same values as others, within 1e-6. */
const haveValuesOf = async (
  roots: readonly Node[],
  better: readonly Node[],
  values: Values,
): Promise<void> => {
  const outputs = Object.fromEntries(
    [...roots, ...better].map((of, k) => [
      `${k}`,
      { of: tensorOf(of), order: ["channel", "state"] },
    ]),
  );
  const machine = await referenceBackend().open({ main: { outputs } });
  const found = await machine.run("main", values);
  roots.forEach((_, k) =>
    found[k].forEach((value, at) =>
      assertLess(Math.abs(value - found[k + roots.length][at]), 1e-6, `number ${k} at ${at}`)
    )
  );
};

Deno.test("a square that products share is taken only from those that have it twice", async () => {
  const [a, x, y] = ["a", "x", "y"].map((name) =>
    d.input(name, { channel: 3, state: 4 }) as AnyTensor
  );
  const roots = [
    d.mul(d.mul(a, a), d.mul(a, x)),
    d.mul(d.mul(a, a), y),
    d.mul(a, d.mul(x, y)),
  ].map((of) => nodeOf(of as AnyTensor));
  const values = Object.fromEntries(["a", "x", "y"].map((name, k) => [name, numbers(k, 12)]));
  await haveValuesOf(roots, sharedProducts(roots, () => true), values);
});

Deno.test("what several products have in common is one value", async () => {
  const inner = { channel: 3, state: 4 };
  const [a, b, x, y] = ["a", "b", "x", "y"].map((name) => d.input(name, inner) as AnyTensor);
  const outer: AnyTensor = d.input("outer", { channel: 3 });
  const roots = [
    d.mul(d.mul(x, a), b),
    d.mul(b, d.mul(y, d.mul(outer, a))),
    d.sin(d.mul(b, a)),
    d.mul(x, outer),
  ].map((of) => nodeOf(of as AnyTensor));
  const better = sharedProducts(roots, (of) => "state" in of.axes);
  const products = (of: readonly Node[]) =>
    topologicalOrder(of).filter(({ op }) => op === "mul").length;
  assertStrictEquals(products(roots), 7);
  // a b, x a b, y a b, outer y a b, and x outer.
  assertStrictEquals(products(better), 5);
  assertStrictEquals(better[2], roots[2]);
  assertStrictEquals(better[3], roots[3]);
  const values = Object.fromEntries(
    ["a", "b", "x", "y", "outer"].map((name, k) => [
      name,
      numbers(k + 1, name === "outer" ? 3 : 12),
    ]),
  );
  await haveValuesOf(roots, better, values);
});

Deno.test("what is put beside something else is read in whole vectors", async () => {
  const [left, right] = [{ row: 5, channel: 8 }, { row: 5, channel: 12 }];
  const padded = (x: AnyTensor, before: number, after: number) =>
    d.pad(x as never, "channel" as never, before, after) as AnyTensor;
  const of: AnyTensor = d.add(
    padded(d.input("left", left), 0, 12),
    padded(d.input("right", right), 8, 0),
  );
  const values = { left: numbers(1, 40), right: numbers(2, 60) };
  const joined = {
    of,
    wrt: { left: d.input("left", left), right: d.input("right", right) },
    values,
  };
  await checkBackend(wasm, { joined });
  const machine = await wasm.open({ main: { outputs: { of: { of, order: ["row", "channel"] } } } });
  const [{ code }] = machine.report("main").kernels;
  assert(code.includes("v128.load") && !code.includes("v128.load32_lane"), code);
  machine.close();
});
