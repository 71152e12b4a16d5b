// Loops instead of large products: the same values, and nothing large is stored.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import type { Machine, Program } from "../../../../backends/backend.ts";
import { volume } from "../../../../dsl/axes.ts";
import type { AnyTensor } from "../../../../dsl/axes.ts";
import { grad } from "../../../../dsl/grad.ts";
import { nodeOf, tensorOf, topologicalOrder } from "../../../../dsl/node.ts";
import { substitute } from "../../../../dsl/scan.ts";
import { constant, contract, input, less, mul, select, softmax, sum } from "../../../../dsl/ops.ts";
import { rename } from "../../../../dsl/structure.ts";
import { parameters } from "../../../../dsl/parameters.ts";
import { interpret, ordered } from "../../../../backends/reference/interpret.ts";
import { streamProducts } from "../../../../backends/lower/graph/stream_products.ts";
import type { Sequence } from "../../../../models/layers.ts";
import { chunkwiseMlstm, parallelMlstm } from "../../../../models/mlstm.ts";
import { attention } from "../../../../models/transformer.ts";
import { type Case, checkBackend, disagreement, numbers } from "../../../support/check.ts";
import { wasm, wasmInLoops, webgpu, webgpuInLoops } from "../../../support/device.ts";

/** An expression's value and gradients, by loops and without them. */
const check = (name: string, of: AnyTensor, leaves: Readonly<Record<string, AnyTensor>>) => {
  const weights: AnyTensor = input("weights", nodeOf(of).axes);
  const loss: AnyTensor = sum(mul(of, weights) as AnyTensor, Object.keys(nodeOf(of).axes));
  const gradients = grad(loss, leaves);
  const roots = [of, ...Object.values(gradients)].map(nodeOf);
  const plain = (x: { readonly name?: string; readonly axes: Record<string, number> }) =>
    numbers([...x.name!].reduce((n, c) => n + c.charCodeAt(0), 0), volume(x.axes));
  const leaf = (of: ReturnType<typeof nodeOf>) =>
    plain({ name: of.attributes.name, axes: of.axes as Record<string, number> });
  const looped = streamProducts(roots, 4 * 2000);
  const scans = topologicalOrder(looped).filter((of) => of.op === "scan");
  assertGreater(scans.length, 0, `${name} has no loop`);
  const expected = interpret(roots, leaf), found = interpret(looped, leaf);
  roots.forEach((root, k) => {
    const order = Object.keys(root.axes);
    const a = ordered(expected[k], root, order), b = ordered(found[k], looped[k], order);
    const largest = a.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
    const worst = a.reduce((top, x, i) => Math.max(top, Math.abs(x - b[i])), 0);
    assertLessOrEqual(worst, 1e-12 * largest, `${name}, value ${k}: ${worst} of ${largest}`);
  });
  return { looped, scans };
};

/** The axes that a value may not have together. */
const square = (of: { readonly axes: object }) => "token" in of.axes && "key" in of.axes;

for (const causal of [false, true]) {
  Deno.test(`attention${causal ? ", causal" : ""}, in loops`, () => {
    const x: Sequence = input("x", {
      batch: 2 as number,
      token: 40 as number,
      channel: 4 as number,
    });
    const y = attention((name) => name, { heads: 2, causal })(x);
    const weights = Object.fromEntries(parameters([y]).map(({ name, tensor }) => [name, tensor]));
    const { looped, scans } = check("attention", y, { x, ...weights });
    // Masks aside, which are computed from positions, nothing has tokens × tokens elements.
    const large = topologicalOrder(looped).filter((of) => square(of) && of.dtype === "f32");
    assertEquals(large.map(({ op }) => op), []);
    // The maximum with all sums under it, which are the normaliser, the result and the gradient's row
    // sums; queries; keys and values.
    const carried = scans.map((of) => of.attributes.carries!.length);
    assertEquals(carried.sort(), [1, 2, 4]);
  });
}

Deno.test("sums under a running maximum, where scores rise by hundreds and some are hidden", () => {
  const position = input("position", { place: 400 as number });
  const a = input("a", { row: 40 as number, k: 1 as number });
  const b = input("b", { place: 400 as number, k: 1 as number });
  const value = input("value", { place: 400 as number, feature: 5 as number });
  const product: AnyTensor = contract(a as AnyTensor, b as AnyTensor, "k");
  const hidden = less(constant(0.9), position as AnyTensor);
  const scores: AnyTensor = select(hidden, constant(-1e30), product) as AnyTensor;
  const read: AnyTensor = contract(softmax(scores, "place"), value as AnyTensor, "place");
  const looped = streamProducts([nodeOf(read)], 4 * 1000);
  assertStrictEquals(topologicalOrder(looped).filter((of) => of.op === "scan").length, 1);
  // Rising and falling, from -300 to 300.
  const rise = Float64Array.from({ length: 400 }, (_, k) => 300 * Math.sin(k / 40));
  const values: Record<string, Float64Array> = {
    a: Float64Array.from({ length: 40 }, (_, k) => k / 20 - 1),
    b: rise,
    position: Float64Array.from({ length: 400 }, (_, k) => (k * 7 % 10) / 10 + 0.05),
    value: Float64Array.from(numbers(4, 2000)),
  };
  const leaf = (of: ReturnType<typeof nodeOf>) => values[of.attributes.name!] as never;
  const [want] = interpret([nodeOf(read)], leaf), [got] = interpret(looped, leaf);
  const order = ["row", "feature"];
  const p = ordered(want, nodeOf(read), order), q = ordered(got, looped[0], order);
  p.forEach((x, k) => assertLessOrEqual(Math.abs(x - q[k]), 1e-12, `${k}: ${x}, ${q[k]}`));
});

Deno.test("the parallel mLSTM cell, in loops", () => {
  const vector = { batch: 2, head: 2, token: 40, feature: 2 },
    gate = { batch: 2, head: 2, token: 40 };
  const leaves: Record<string, AnyTensor> = {
    q: input("q", vector),
    k: input("k", vector),
    v: input("v", vector),
    inputGate: input("inputGate", gate),
    forgetGate: input("forgetGate", gate),
  };
  const y = parallelMlstm(leaves as unknown as Parameters<typeof parallelMlstm>[0]);
  const { looped } = check("mLSTM", y, leaves);
  const sums = topologicalOrder(looped).filter((of) => of.op === "reduce" && square(of));
  assertEquals(sums, []);
});

Deno.test("what is asked for itself stays as it is", () => {
  const x: Sequence = input("x", { batch: 2 as number, token: 40 as number, channel: 4 as number });
  const y = attention((name) => name, { heads: 2 })(x);
  const scores = topologicalOrder([nodeOf(y)]).find((of) => square(of) && of.op === "reduce")!;
  const looped = streamProducts([nodeOf(y), scores], 4 * 2000);
  assert(looped.includes(scores));
});

for (
  const [device, backend] of [["WebGPU", webgpuInLoops], ["WebAssembly", wasmInLoops]] as const
) {
  Deno.test({
    name: `loops on ${device} agree with the reference, and memory grows with the tokens only`,
    ignore: backend === undefined,
    fn: async () => {
      const cases: Record<string, Case> = {};
      for (const [token, causal] of [[70, false], [131, true]] as const) {
        const x: Sequence = input("x", {
          batch: 2 as number,
          token: token as number,
          channel: 8 as number,
        });
        const of = attention((name) => `w.${name}`, { heads: 2, causal })(x);
        // Parameters as inputs, so that the case holds all that it reads.
        const leaves = Object.fromEntries(
          parameters([of]).map(({ name, axes, tensor }) => [name, { axes, tensor }]),
        );
        const given = Object.fromEntries(
          Object.entries(leaves).map(([name, { axes }]) => [name, input(name, axes)]),
        );
        const [made] = substitute(
          [nodeOf(of)],
          new Map(
            Object.keys(leaves).map((name) => [nodeOf(leaves[name].tensor), nodeOf(given[name])]),
          ),
        );
        const values = Object.fromEntries([
          ["x", numbers(token, 16 * token)] as const,
          ...Object.entries(leaves).map(([name, { axes }], k) =>
            [name, numbers(k, volume(axes), -0.5, 0.5)] as const
          ),
        ]);
        cases[`${token} tokens`] = { of: tensorOf(made), wrt: { x, ...given }, values };
      }
      await checkBackend(backend!, cases, 1e-4);
      const peak = async (token: number) => {
        const x: Sequence = input("x", {
          batch: 1 as number,
          token: token as number,
          channel: 8 as number,
        });
        const of = attention((name) => name, { heads: 2 })(x);
        const loss: AnyTensor = sum(mul(of, of) as AnyTensor, ["batch", "token", "channel"]);
        const dx = { of: grad(loss, { x }).x, order: ["batch", "token", "channel"] };
        const machine = await backend!.open({ main: { outputs: { dx } } });
        const { peakBytes } = machine.report("main");
        machine.close();
        return peakBytes;
      };
      const [less, more] = [await peak(1000), await peak(4000)];
      assert(more < 4.5 * less && more < 4000 * 4000, `${less} bytes, then ${more}`);
    },
  });
}

/** A value and its gradients for all inputs and parameters, as a program. */
const whole = (of: AnyTensor, inputs: Readonly<Record<string, AnyTensor>>): Program => {
  const slope: AnyTensor = input("slope", nodeOf(of).axes);
  const loss: AnyTensor = sum(mul(of, slope) as AnyTensor, Object.keys(nodeOf(of).axes));
  const values = { value: of, ...grad(loss, inputs) };
  return {
    outputs: Object.fromEntries(
      Object.entries(values).map((
        [name, of],
      ) => [name, { of, order: Object.keys(nodeOf(of).axes).sort() }]),
    ),
  };
};

for (
  const [device, stored, inLoops, names] of [
    // The mLSTM's kernels take a software driver half a minute to compile.
    ["WebGPU", webgpu, webgpuInLoops, ["attention"]],
    ["WebAssembly", wasm, wasmInLoops, ["attention", "parallel", "chunks"]],
  ] as const
) {
  Deno.test({
    name: `600 tokens on ${device}: ${names.join(", ")} give the same with and without loops`,
    ignore: stored === undefined,
    fn: async () => {
      const token: number = 600;
      const qkv = Object.fromEntries(
        ["query", "key", "value"].map((
          name,
        ) => [name, input(name, { head: 2, token, feature: 8 })]),
      );
      const other = (x: AnyTensor): AnyTensor => tensorOf(rename(nodeOf(x), "token", "other"));
      const scores: AnyTensor = contract(qkv.query, other(qkv.key), "feature");
      const read: AnyTensor = contract(softmax(scores, "other"), other(qkv.value), "other");
      const vector = { batch: 1, head: 2, token, feature: 8 }, gate = { batch: 1, head: 2, token };
      const cell = {
        q: input("q", vector),
        k: input("k", vector),
        v: input("v", vector),
        inputGate: input("inputGate", gate),
        forgetGate: input("forgetGate", gate),
      };
      const inputs = cell as unknown as Parameters<typeof parallelMlstm>[0];
      const programs = {
        attention: whole(read, qkv),
        parallel: whole(parallelMlstm(inputs), cell),
        chunks: whole(chunkwiseMlstm(inputs), cell),
      };
      const valuesOf = (of: Program) =>
        Object.fromEntries(
          topologicalOrder(Object.values(of.outputs).map(({ of }) => nodeOf(of)))
            .filter(({ op }) => op === "input")
            .map(({ attributes: { name }, axes }) => [name!, numbers(name!.length, volume(axes))]),
        );
      const some = Object.fromEntries(names.map((name) => [name, programs[name]]));
      const full = await stored!.open(some), loops = await inLoops!.open(some);
      const run = (machine: Machine, name: keyof typeof programs) =>
        machine.run(name, valuesOf(programs[name]));
      const square = 4 * 2 * token * token;
      for (const name of names) {
        const isStored = full.report(name).peakBytes > square;
        assertStrictEquals(isStored, name !== "chunks");
        assertLess(loops.report(name).peakBytes, square);
        const want = await run(full, name === "chunks" ? "parallel" : name);
        for (const machine of [full, loops]) {
          assertStrictEquals(disagreement(want, await run(machine, name), 1e-4), undefined, name);
        }
      }
      full.close();
      loops.close();
    },
  });
}
