// Programs in f16: what is rounded, what never is, what it saves, and what devices without it do.
import { assert, assertGreater, assertLess, assertStrictEquals } from "@std/assert";
import type { Program } from "../../../../backends/backend.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import { compile, programReport } from "../../../../backends/webgpu/compile.ts";
import { type Node, topologicalOrder } from "../../../../dsl/node.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import * as d from "../../../../mod.ts";
import { randomMask } from "../../../../models/masking.ts";
import { numbers } from "../../../support/check.ts";
import { wasm, webgpuHalves } from "../../../support/device.ts";
import { gpuLimits, tinyStep } from "../../../support/tiny_steps.ts";

for (const family of ["transformer", "mamba", "xlstm"] as const) {
  Deno.test(`${family}: a training step in f16 moves and holds 0.6 of the bytes`, () => {
    const [full, half] = [undefined, 4096].map((halvesFrom) => {
      const target = { onCpu: false, halvesFrom };
      const place = { name: "a GPU", limits: gpuLimits, target, oneForParams: true };
      const { kernels, peakBytes } = programReport(compile(tinyStep(family, "masked", 2), place));
      const moved = kernels.reduce(
        (n, { bytesRead, bytesWritten }) => n + bytesRead + bytesWritten,
        0,
      );
      return { moved, peakBytes };
    });
    assertLess(half.moved, 0.6 * full.moved, `${half.moved} of ${full.moved} bytes moved`);
    assertLess(
      half.peakBytes,
      0.6 * full.peakBytes,
      `${half.peakBytes} of ${full.peakBytes} at once`,
    );
  });
}

Deno.test("in f16, the tiles of a product take half the memory of a workgroup", () => {
  const of = d.contract(d.input("x", { m: 64, k: 64 }), d.input("y", { k: 64, n: 64 }), "k");
  const program = { outputs: { of: { of, order: ["m", "n"] } } };
  const [full, half] = [undefined, 1].map((halvesFrom) => {
    const target = { onCpu: false, halvesFrom };
    const { steps } = compile(program, { name: "a GPU", limits: gpuLimits, target });
    const areas = [...steps[0].code.wgsl.matchAll(/var<workgroup> \w+: array<(f16|f32), (\d+)>/g)];
    assertStrictEquals(areas.length, 2);
    return areas.reduce((n, [, type, length]) => n + (type === "f16" ? 2 : 4) * Number(length), 0);
  });
  assertStrictEquals(2 * half, full);
});

Deno.test("statistics of rows, carries, parameters and outputs stay f32", () => {
  for (const family of ["transformer", "mamba", "xlstm"] as const) {
    const { kernels, params, outputs, copies } = lower(tinyStep(family, "masked", 2), undefined, 1);
    assert([...params, ...Object.values(outputs)].every((of) => !of.half));
    assert(copies.every(({ from }) => !from.half));
    let halves = 0;
    for (const kernel of kernels) {
      if (kernel.shape === "scan") {
        const kept = Object.values(kernel.checkpoints?.storage ?? {});
        const finals = kernel.roots.filter((root) => root.kind === "final");
        assert(
          [...kept, ...finals.map((root) => root.storage)].every((of) => !of.half),
          kernel.path,
        );
        continue;
      }
      for (const { node, storage } of kernel.roots) {
        const isStatistic = kernel.shape === "row" &&
          !kernel.over.every((dim) => dim.axis in node.axes);
        assert(!isStatistic || !storage.half, `${kernel.path} ${node.op}`);
        halves += storage.half ? 1 : 0;
      }
    }
    assertGreater(halves, 20, `${halves} values in f16`);
  }
});

Deno.test("clipped, scaled and averaged, the optimiser's numbers stay f32, and rows have reductions", () => {
  const all = { clipNorm: 1, emaDecay: 0.9, lossScaling: true };
  for (const family of ["transformer", "mamba", "xlstm"] as const) {
    const program = tinyStep(family, "masked", 1, all);
    const isMoment = (of: Node): boolean =>
      of.op === "param" && /^(adamw|ema)\./.test(of.attributes.name!);
    let kept = 0;
    for (const kernel of lower(program, undefined, 1).kernels) {
      if (kernel.shape === "scan") continue;
      assert(kernel.shape !== "row" || kernel.reductions.length > 0, `${family}: ${kernel.path}`);
      for (const { node, storage } of kernel.roots) {
        if (!topologicalOrder([node]).some(isMoment)) continue;
        assert(!storage.half, `${family}: ${kernel.path} ${node.op}`);
        kept++;
      }
    }
    assertGreater(kept, 20, `${kept} values of the optimiser`);
  }
});

/** Values between kernels: a product of a product, of which each is a kernel. */
const chain = (): Program => {
  const x = d.input("x", { row: 40, inner: 72 }), y = d.input("y", { inner: 72, column: 56 });
  const z = d.input("z", { column: 56, last: 24 });
  const of = d.contract(d.tanh(d.contract(x, y, "inner")), z, "column");
  return { outputs: { of: { of, order: ["row", "last"] } }, precision: "f16" };
};
const values = {
  x: numbers(1, 40 * 72, -0.2, 0.2),
  y: numbers(2, 72 * 56),
  z: numbers(3, 56 * 24),
};

const result = async (backend: typeof wasm): Promise<{ of: Float32Array; precision: string }> => {
  const machine = await backend.open({ chain: chain() });
  const { of } = await machine.run("chain", values);
  const { precision } = machine.report("chain");
  machine.close();
  return { of: of as Float32Array, precision };
};

Deno.test({
  name: "what is rounded is off by its rounding and no more",
  ignore: webgpuHalves === undefined,
  fn: async () => {
    const [want, got] = [await result(referenceBackend()), await result(webgpuHalves!)];
    assertStrictEquals(got.precision, "f16");
    const errors = want.of.map((x, k) => Math.abs(x - got.of[k]));
    const worst = Math.max(...errors), largest = Math.max(...want.of.map(Math.abs));
    assert(worst > 0 && worst < 2 ** -10 * largest, `off by ${worst} of ${largest}`);
  },
});

Deno.test("a device without f16 computes in f32 and says so", async () => {
  const want = await result(referenceBackend());
  assertStrictEquals(want.precision, "f32");
  const got = await result(wasm);
  assertStrictEquals(got.precision, "f32");
  const worst = Math.max(...want.of.map((x, k) => Math.abs(x - got.of[k])));
  assertLess(worst, 1e-5, `off by ${worst}`);
});

Deno.test({
  name: "ranks of noise and large positions are not rounded",
  ignore: webgpuHalves === undefined,
  fn: async () => {
    const key = d.randomKey(3);
    const mask = randomMask(
      key,
      { kind: "unstructured", ratio: 0.5 },
      { time: 50, frequency: 20 },
      4,
    );
    const x = d.input("x", { token: 6000, channel: 4 });
    const place = d.toFloat(d.iota("token", 6000));
    const sums = d.sum(d.mul(x, place), ["channel"]);
    const open: Program = {
      outputs: {
        mask: { of: mask, order: ["batch", "token"] },
        place: { of: d.sum(d.mul(sums, place), ["token"]), order: [] },
      },
    };
    const given = { x: new Float32Array(24000).fill(1) };
    const [want, got] = await Promise.all([referenceBackend(), webgpuHalves!].map(async (on) => {
      const machine = await on.open({ open });
      const found = await machine.run("open", given);
      machine.close();
      return found;
    }));
    assertStrictEquals(want.mask.filter((one) => one === 1).length, 4 * 500);
    assert(want.mask.every((one, k) => one === got.mask[k]), "other patches are hidden");
    assertLess(Math.abs(want.place[0] - got.place[0]), 1e-3 * want.place[0]);
  },
});

Deno.test({
  name: "a maximum is found again among what it was taken of",
  ignore: webgpuHalves === undefined,
  fn: async () => {
    const x = d.input("x", { row: 12, column: 20 }), y = d.input("y", { column: 20 });
    const largest = d.max(x, "row");
    const loss = d.sum(d.mul(largest, y), "column");
    const { g } = d.grad(loss, { g: x });
    const open: Program = {
      outputs: { loss: { of: loss, order: [] }, g: { of: g, order: ["row", "column"] } },
    };
    const given = { x: numbers(4, 240), y: numbers(5, 20) };
    const [want, got] = await Promise.all([referenceBackend(), webgpuHalves!].map(async (on) => {
      const machine = await on.open({ open });
      const found = await machine.run("open", given);
      machine.close();
      return found;
    }));
    want.g.forEach((one, k) =>
      assertLess(Math.abs(one - got.g[k]), 1e-2, `${got.g[k]}, not ${one}`)
    );
  },
});
