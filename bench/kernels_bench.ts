// Kernels and blocks on the best WebGPU device of this machine: `deno task bench`. Each measurement
// is one run of a compiled program, its wait included, with a scalar read back.
import * as E from "fp-ts/Either.js";
import { type AnyTensor, volume } from "../dsl/axes.ts";
import { openDevice } from "../backends/webgpu/discovery/discover.ts";
import { webgpuBackend } from "../backends/webgpu/backend.ts";
import { valueAndGrad } from "../dsl/grad.ts";
import { contract, input, mul, neg, silu, softmax, softplus, square, sum } from "../dsl/ops.ts";
import { selectiveScan } from "../models/mamba.ts";
import { norm, type Sequence } from "../models/layers.ts";
import { nodeOf, topologicalOrder } from "../dsl/node.ts";
import { parameters } from "../dsl/parameters.ts";
import { initialValues } from "../experiments/encoders/initial_values.ts";

const opened = await openDevice("auto")();
if (E.isLeft(opened)) throw new Error("there is no WebGPU device to measure");
const backend = webgpuBackend(opened.right);
console.log(`device: ${backend.device}`);

/** Measures the scalar that a tensor is reduced to, so that nothing large is read back. */
const measure = async (group: string, name: string, of: AnyTensor): Promise<void> => {
  const axes = Object.keys(nodeOf(of).axes);
  const total = axes.length === 0 ? of : sum(of, axes as never[]) as AnyTensor;
  const machine = await backend.open({ main: { outputs: { total: { of: total, order: [] } } } });
  const leaves = topologicalOrder([nodeOf(total)]).filter((leaf) => leaf.op === "input");
  const inputs = Object.fromEntries(leaves.map((leaf) => [
    leaf.attributes.name!,
    Float32Array.from({ length: volume(leaf.axes) }, (_, k) => Math.sin(k) / 2),
  ]));
  machine.write(initialValues(parameters([total]), 0));
  await machine.run("main", inputs);
  Deno.bench({
    group,
    name,
    n: 10,
    warmup: 2,
    fn: async () => void await machine.run("main", inputs),
  });
};

const product = (m: number, k: number, n: number): AnyTensor =>
  square(contract(input("a", { m, k }), input("b", { k, n }), "k"));
await measure("contraction", "512 x 512 x 512", product(512, 512, 512));
await measure("contraction", "2008 x 192 x 768", product(2008, 192, 768));

const scores = input("x", { batch: 8, head: 3, token: 251, key: 251 });
await measure("row", "softmax [8, 3, 251, 251]", softmax(scores, "key"));
const sequence: Sequence = input("x", { batch: 8, token: 251, channel: 192 } as {
  batch: number;
  token: number;
  channel: number;
});
await measure("row", "layer norm [8, 251, 192]", norm((name) => name, 1e-6)(sequence));

const steps = { batch: 8, token: 251 } as { batch: number; token: number };
const wide = { ...steps, channel: 576 as number }, narrow = { ...steps, state: 24 as number };
const A = input("A", { channel: 576, state: 24 } as { channel: number; state: number });
const u = input("u", wide), B = input("B", narrow), C = input("C", narrow);
const delta = softplus(input("delta", wide));
const y = mul(selectiveScan({ u, delta, A: neg(square(A)), B, C }), silu(input("z", wide)));
await measure("selective scan [8, 251, 576, 24]", "forward", y);
const loss = sum(square(y), ["batch", "token", "channel"]);
const { gradients } = valueAndGrad(loss, { u, B, C, A });
const sums = Object.values(gradients).map((g: AnyTensor) =>
  sum(square(g), Object.keys(nodeOf(g).axes) as never[]) as AnyTensor
);
await measure(
  "selective scan [8, 251, 576, 24]",
  "forward and backward",
  sums.reduce((a, b) => mul(a, b) as AnyTensor),
);
