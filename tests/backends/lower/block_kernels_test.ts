// How many kernels the parts of a model become, forward and with their gradients, and that nothing of
// tokens × tokens elements or of time × state elements is among them that need not be.
import { assert, assertEquals, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import { lower } from "../../../backends/lower/pipeline.ts";
import type { Kernel } from "../../../backends/lower/kernel_ir.ts";
import { compile, programReport } from "../../../backends/webgpu/compile.ts";
import { type AnyTensor, volume } from "../../../dsl/axes.ts";
import { grad } from "../../../dsl/grad.ts";
import { nodeOf } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { parameters } from "../../../dsl/parameters.ts";
import { norm, type Sequence } from "../../../models/layers.ts";
import { chunkwiseMlstm, type MlstmInputs, parallelMlstm } from "../../../models/mlstm.ts";
import { attention } from "../../../models/transformer.ts";
import { gpuLimits } from "../../support/tiny_steps.ts";

type Named = Readonly<Record<string, AnyTensor>>;

const lowered = (outputs: Named): readonly Kernel[] =>
  lower({
    outputs: Object.fromEntries(
      Object.entries(outputs).map(([name, of]) => [
        name,
        { of, order: Object.keys(nodeOf(of).axes) },
      ]),
    ),
  }).kernels;

/** The gradients of a value for its inputs and parameters. */
const gradients = (of: AnyTensor, inputs: Named): Named => {
  const slope: AnyTensor = d.input("slope", nodeOf(of).axes);
  const loss: AnyTensor = d.sum(d.mul(of, slope) as AnyTensor, Object.keys(nodeOf(of).axes));
  const own = parameters([of]).map(({ name, tensor }) => [name, tensor] as const);
  return grad(loss, { ...inputs, ...Object.fromEntries(own) });
};

const x = d.input("x", {
  batch: 8 as number,
  token: 251 as number,
  channel: 192 as number,
}) as Sequence;
const vector = { batch: 8, head: 4, token: 251, feature: 96 };
const gate = { batch: 8, head: 4, token: 251 };
const cell = {
  q: d.input("q", vector),
  k: d.input("k", vector),
  v: d.input("v", vector),
  inputGate: d.input("inputGate", gate),
  forgetGate: d.input("forgetGate", gate),
};
const scores = d.input("scores", { batch: 8, head: 3, row: 251, column: 251 });
const scan = (() => {
  const u = d.input("u", { batch: 8, token: 251, channel: 576 });
  const a = d.input("a", { channel: 576, state: 24 });
  const delta = d.input("delta", { batch: 8, token: 251, channel: 576 });
  const B = d.input("B", { batch: 8, token: 251, state: 24 });
  const C = d.input("C", { batch: 8, token: 251, state: 24 });
  const z = d.input("z", { batch: 8, token: 251, channel: 576 });
  const skip = d.input("skip", { channel: 576 });
  const step = d.softplus(delta);
  const h = d.recurrence("token", d.exp(d.mul(step, a)), d.mul(d.mul(step, B), u));
  const y = d.add(d.contract(h, C, "state"), d.mul(skip, u));
  return { of: d.mul(y, d.silu(z)) as AnyTensor, inputs: { u, a, delta, B, C, z, skip } };
})();

/** A part of a model, its inputs, and most kernels forward and of its gradients. */
const parts: Readonly<Record<string, readonly [AnyTensor, Named, number, number]>> = {
  "softmax": [d.softmax(scores, "column"), { scores }, 1, 1],
  // One for the rows and the slope of x, one for the sums over all rows.
  "layer norm": [norm((name) => name, 1e-5)(x), { x }, 1, 2],
  // Queries, keys and values; scores; softmax; what is read; the projection out.
  "attention": [attention((name) => name, { heads: 3 })(x), { x }, 5, 16],
  "mLSTM cell, parallel": [parallelMlstm(cell as unknown as MlstmInputs), cell, 5, 16],
  "mLSTM cell, by chunks": [chunkwiseMlstm(cell as unknown as MlstmInputs), cell, 15, 39],
  // Backwards: the scan, and the sums of what several workgroups found.
  "selective scan": [scan.of, scan.inputs, 1, 5],
};

for (const [name, [of, inputs, forward, backward]] of Object.entries(parts)) {
  Deno.test(`${name}: ${forward} kernels forward, ${backward} for its gradients`, () => {
    const shown = (kernels: readonly Kernel[]) =>
      kernels.map(({ shape, path }) => `${shape} ${path}`).join("\n");
    const there = lowered({ of }), back = lowered(gradients(of, inputs));
    assertLessOrEqual(there.length, forward, `${there.length} kernels\n${shown(there)}`);
    assertLessOrEqual(back.length, backward, `${back.length} kernels\n${shown(back)}`);
  });
}

Deno.test("a selective scan reads its inputs once and writes its result, and little else", () => {
  const y = { of: scan.of, order: Object.keys(nodeOf(scan.of).axes) };
  const target = { onCpu: false };
  const { kernels } = programReport(
    compile({ outputs: { y } }, { name: "a GPU", limits: gpuLimits, target }),
  );
  const [{ shapes, bytesRead, bytesWritten }, ...others] = kernels;
  assertStrictEquals(others.length, 0);
  assertEquals(shapes, ["scan"]);
  const floor = [scan.of, ...Object.values(scan.inputs)].reduce(
    (bytes, of) => bytes + 4 * volume(nodeOf(of).axes),
    0,
  );
  assertLessOrEqual(
    bytesRead + bytesWritten,
    1.2 * floor,
    `${bytesRead + bytesWritten} of ${floor} bytes`,
  );
  const back = lowered(gradients(scan.of, scan.inputs));
  assertStrictEquals(
    back.filter(({ shape }) => shape === "scan").length,
    2,
    "forward again, and back",
  );
  const stored = back.flatMap((kernel) => kernel.roots.map(({ storage }) => storage));
  for (const { dims } of stored) {
    const axes = dims.map(({ axis }) => axis);
    assert(
      !(axes.includes("token") && axes.includes("channel") && axes.includes("state")),
      axes.join(),
    );
  }
});
