// Loops instead of large products: the same values, and nothing large is stored.
import assert from "assert";
import { volume } from "../../dsl/axes.ts";
import type { AnyTensor } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import { node, reachable, tensor } from "../../dsl/node.ts";
import { substitute } from "../../dsl/scan.ts";
import { input, mul, sum } from "../../dsl/ops.ts";
import { parameters } from "../../dsl/parameters.ts";
import { interpret, ordered } from "../../backends/reference/interpret.ts";
import { withLoops } from "../../backends/lower/loops.ts";
import type { Sequence } from "../../models/layers.ts";
import { parallelMlstm } from "../../models/mlstm.ts";
import { attention } from "../../models/transformer.ts";
import { type Case, checkBackend, numbers } from "../check.ts";
import { wasmInLoops, webgpuInLoops } from "../device.ts";

/** An expression's value and gradients, by loops and without them. */
const check = (name: string, of: AnyTensor, leaves: Readonly<Record<string, AnyTensor>>) => {
  const weights: AnyTensor = input("weights", node(of).axes);
  const loss: AnyTensor = sum(mul(of, weights) as AnyTensor, Object.keys(node(of).axes));
  const gradients = grad(loss, leaves);
  const roots = [of, ...Object.values(gradients)].map(node);
  const plain = (x: { readonly name?: string; readonly axes: Record<string, number> }) =>
    numbers([...x.name!].reduce((n, c) => n + c.charCodeAt(0), 0), volume(x.axes));
  const leaf = (of: ReturnType<typeof node>) =>
    plain({ name: of.attributes.name, axes: of.axes as Record<string, number> });
  const looped = withLoops(roots, 4 * 2000);
  const scans = reachable(looped).filter((of) => of.op === "scan");
  assert.ok(scans.length > 0, `${name} has no loop`);
  const expected = interpret(roots, leaf), found = interpret(looped, leaf);
  roots.forEach((root, k) => {
    const order = Object.keys(root.axes);
    const a = ordered(expected[k], root, order), b = ordered(found[k], looped[k], order);
    const largest = a.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
    const worst = a.reduce((top, x, i) => Math.max(top, Math.abs(x - b[i])), 0);
    assert.ok(worst <= 1e-12 * largest, `${name}, value ${k}: ${worst} of ${largest}`);
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
    const large = reachable(looped).filter((of) => square(of) && of.dtype === "f32");
    assert.deepEqual(large.map(({ op }) => op), []);
    // Forward: the maximum, the normaliser, the result; backward: row sums, queries, keys and values.
    assert.ok(scans.length <= 6, `${scans.length} loops`);
  });
}

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
  const sums = reachable(looped).filter((of) => of.op === "reduce" && square(of));
  assert.deepEqual(sums, []);
});

Deno.test("what is asked for itself stays as it is", () => {
  const x: Sequence = input("x", { batch: 2 as number, token: 40 as number, channel: 4 as number });
  const y = attention((name) => name, { heads: 2 })(x);
  const scores = reachable([node(y)]).find((of) => square(of) && of.op === "reduce")!;
  const looped = withLoops([node(y), scores], 4 * 2000);
  assert.ok(looped.includes(scores));
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
          [node(of)],
          new Map(
            Object.keys(leaves).map((name) => [node(leaves[name].tensor), node(given[name])]),
          ),
        );
        const values = Object.fromEntries([
          ["x", numbers(token, 16 * token)] as const,
          ...Object.entries(leaves).map(([name, { axes }], k) =>
            [name, numbers(k, volume(axes), -0.5, 0.5)] as const
          ),
        ]);
        cases[`${token} tokens`] = { of: tensor(made), wrt: { x, ...given }, values };
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
      assert.ok(more < 4.5 * less && more < 4000 * 4000, `${less} bytes, then ${more}`);
    },
  });
}
