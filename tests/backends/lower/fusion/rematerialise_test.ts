// What the backward pass needs late is computed again: peak memory falls, values do not change, and
// what is used soon is kept.
import { assert, assertGreater, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import { lower } from "../../../../backends/lower/pipeline.ts";
import type { Kernel } from "../../../../backends/lower/kernel_ir.ts";
import { compile, programReport } from "../../../../backends/webgpu/compile.ts";
import { NEEDED_LIMITS } from "../../../../backends/webgpu/discovery/adapter.ts";
import type { AnyTensor } from "../../../../dsl/axes.ts";
import { grad } from "../../../../dsl/grad.ts";
import { nodeOf } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { checkBackend, numbers } from "../../../support/check.ts";
import { webgpu, webgpuAsGpu } from "../../../support/device.ts";

const size = { time: 300, channel: 64 } as const;

/** Layers of W silu(x), each with its own weights, and the gradients of all of them. */
const stack = (depth: number, curve: (x: AnyTensor) => AnyTensor) => {
  const x: AnyTensor = d.input("x", size);
  const weights = Object.fromEntries(
    Array.from({ length: depth }, (_, k) => [`w${k}`, d.input(`w${k}`, { out: 64, channel: 64 })]),
  ) as Record<string, AnyTensor>;
  const y = Object.values(weights).reduce<AnyTensor>(
    (h, w) => d.rename(d.contract(curve(h), w, "channel"), "out", "channel") as AnyTensor,
    x,
  );
  return { y, weights };
};

const silu = (x: AnyTensor): AnyTensor => d.silu(x);

/** A gradient step through `depth` layers. */
const program = (depth: number, curve: (x: AnyTensor) => AnyTensor) => {
  const { y, weights } = stack(depth, curve);
  const gradients = grad(d.mean(d.square(y), ["time", "channel"] as never), weights);
  return {
    outputs: Object.fromEntries(
      Object.entries(gradients).map(([key, of]) => [
        key,
        { of, order: Object.keys(nodeOf(of).axes) },
      ]),
    ),
  };
};

const peak = (depth: number, curve: (x: AnyTensor) => AnyTensor): number => {
  const limits = {
    ...NEEDED_LIMITS,
    maxStorageBufferBindingSize: 1 << 27,
    minStorageBufferOffsetAlignment: 256,
  } as unknown as GPUSupportedLimits;
  const place = { name: "a device", limits, target: { onCpu: true } };
  return programReport(compile(program(depth, curve), place)).peakBytes;
};

const again = (kernels: readonly Kernel[]): number =>
  kernels.reduce((n, kernel) => n + kernel.again.size, 0);

Deno.test("one value of each layer is kept for the backward pass, not what is made of it", () => {
  const bytes = 4 * size.time * size.channel;
  const perLayer = (peak(40, silu) - peak(20, silu)) / 20;
  // Besides, each layer's gradient of 64 x 64 is an output, which stays.
  assertLessOrEqual(perLayer, 1.05 * bytes + 4 * 64 * 64, `${perLayer} bytes a layer of ${bytes}`);
  assertGreater(again(lower(program(40, silu)).kernels), 0);
});

Deno.test("a value that is used soon is not computed again", () => {
  const shallow = lower(program(2, silu)).kernels;
  assert(again(shallow) === 0, `${again(shallow)} values`);
});

Deno.test("a product of three needs only the product that is there already", () => {
  const [s, x, v] = ["s", "x", "v"].map((name) => d.input(name, size) as AnyTensor);
  const loss = d.sum(d.mul(d.mul(s, d.exp(x)), v) as AnyTensor, ["time", "channel"] as never);
  const { x: slope } = grad(loss as AnyTensor, { x });
  const order = ["time", "channel"];
  const { kernels, stored } = lower({
    outputs: { p: { of: d.mul(s, d.exp(x)) as AnyTensor, order }, slope: { of: slope, order } },
  });
  // The slope is v times the product: s and x are read once, in one kernel for both.
  assertStrictEquals(kernels.length, 1);
  assertStrictEquals(stored.size, 5);
});

Deno.test({
  name: "computed again or kept, values agree with the reference",
  ignore: webgpu === undefined,
  fn: async () => {
    const { y, weights } = stack(14, silu);
    const leaves = ["x", ...Object.keys(weights)];
    const values = Object.fromEntries(leaves.map((name, k) => [
      name,
      name === "x" ? numbers(k, size.time * size.channel) : numbers(k, 64 * 64, -0.4, 0.4),
    ]));
    for (const backend of [webgpu!, webgpuAsGpu!]) {
      await checkBackend(backend, { stack: { of: y, wrt: weights, values } }, 1e-4);
    }
  },
});
