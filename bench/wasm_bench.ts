// WebAssembly on this machine's processor: products with their share of the peak of a plain loop of
// multiply-adds that is measured before and after them, row kernels, and recurrences. Times are the best
// of several runs. `deno run -A bench/wasm_bench.ts [threads]`.
import { wasmBackend } from "../backends/wasm/backend.ts";
import { type AnyTensor, volume } from "../dsl/axes.ts";
import { grad } from "../dsl/grad.ts";
import { nodeOf, tensorOf, topologicalOrder } from "../dsl/node.ts";
import * as d from "../dsl/ops.ts";

const threads = Number(Deno.args[0] ?? navigator.hardwareConcurrency);
const backend = wasmBackend({ threads });

const input = (name: string, axes: Record<string, number>): AnyTensor => d.input(name, axes);

const product = (i: number, k: number, j: number): AnyTensor =>
  d.contract(input("a", { i, k }), input("b", { k, j }), "k");

const layerNorm = (): AnyTensor => {
  const x = input("x", { batch: 8, token: 251, channel: 192 });
  const centred = d.sub(x, d.mean(x, "channel"));
  const deviation = d.sqrt(d.add(d.mean(d.square(centred), "channel"), 1e-6));
  const scaled = d.mul(d.div(centred, deviation), input("scale", { channel: 192 }));
  return d.add(scaled, input("shift", { channel: 192 }));
};

const selective = (): AnyTensor => {
  const [batch, time, channel, state] = [8, 251, 576, 24];
  const u = input("u", { batch, time, channel });
  const delta = d.softplus(input("dt", { batch, time, channel }));
  const decay = d.exp(d.mul(delta, d.neg(d.exp(input("A", { channel, state })))));
  const into = d.mul(d.mul(delta, input("B", { batch, time, state })), u);
  return d.contract(d.recurrence("time", decay, into), input("C", { batch, time, state }), "state");
};

const withGradients = (y: AnyTensor): Readonly<Record<string, AnyTensor>> => {
  const loss = d.sum(d.square(y), Object.keys(nodeOf(y).axes));
  const leaves = topologicalOrder([nodeOf(loss)]).filter((of) => of.op === "input");
  return grad(loss, Object.fromEntries(leaves.map((of) => [of.attributes.name!, tensorOf(of)])));
};

const workloads: Readonly<Record<string, () => Readonly<Record<string, AnyTensor>>>> = {
  "product 1024 x 1024 x 1024": () => ({ y: product(1024, 1024, 1024) }),
  "product 2008 x 192 x 768": () => ({ y: product(2008, 192, 768) }),
  "attention scores [8, 3, 251, 251]": () => ({
    y: d.contract(
      input("q", { batch: 8, token: 251, head: 3, feature: 64 }),
      input("k", { batch: 8, other: 251, head: 3, feature: 64 }),
      "feature",
    ),
  }),
  "softmax [8, 3, 251, 251]": () => ({
    y: d.softmax(input("x", { batch: 8, head: 3, token: 251, other: 251 }), "other"),
  }),
  "layer norm [8, 251, 192]": () => ({ y: layerNorm() }),
  "GELU [8, 251, 768]": () => ({ y: d.gelu(input("x", { batch: 8, token: 251, channel: 768 })) }),
  "selective scan [8, 251, 576, 24]": () => ({ y: selective() }),
  "selective scan and its gradients": () => withGradients(selective()),
};

console.log(`device: ${backend.device}`);
for (const [name, make] of Object.entries(workloads)) {
  const outputs = Object.fromEntries(
    Object.entries(make()).map(([key, of]) => [key, { of, order: Object.keys(nodeOf(of).axes) }]),
  );
  const machine = await backend.open({ main: { outputs } });
  const leaves = topologicalOrder(Object.values(outputs).map(({ of }) => nodeOf(of)))
    .filter((of) => of.op === "input");
  const inputs = Object.fromEntries(leaves.map((leaf) => [
    leaf.attributes.name!,
    Float32Array.from({ length: volume(leaf.axes) }, (_, k) => Math.sin(k) / 2),
  ]));
  const peak = async () => (await backend.peaks!()).flopsPerSecond;
  const before = await peak();
  let best = Infinity;
  for (const until = performance.now() + 3000; performance.now() < until;) {
    const times = await machine.time!("main", inputs);
    best = Math.min(best, times.reduce((total, ms) => total + ms, 0));
  }
  const top = Math.max(before, await peak());
  const { kernels } = machine.report("main");
  const flops = kernels.reduce((total, kernel) => total + kernel.flops, 0) / best * 1000;
  console.log(
    [
      name.padEnd(34),
      `${best.toFixed(2)} ms`.padStart(10),
      `${(flops / 1e9).toFixed(1)} Gflop/s`.padStart(14),
      ...(name.includes("product") || name.includes("scores")
        ? [`${Math.round(100 * flops / top)}% of the peak`]
        : []),
    ].join("  "),
  );
  machine.close();
}
backend.close();
