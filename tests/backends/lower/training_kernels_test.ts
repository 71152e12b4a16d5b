// What the training steps of the published tiny encoders lower to: fusion must not quietly regress.
import { assert, assertLessOrEqual, assertStrictEquals, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { topologicalOrder } from "../../../dsl/node.ts";
import { lower } from "../../../backends/lower/pipeline.ts";
import { compile, programReport, storagesOf } from "../../../backends/webgpu/compile.ts";
import { passProgram, planned, tinyEncoder } from "../../../experiments/inspect/scaling.ts";
import { size } from "../../../backends/lower/kernel_ir.ts";
import type { FamilyName } from "../../../models/sizes.ts";
import { gpuLimits, tinyStep } from "../../support/tiny_steps.ts";

const lowered = (family: FamilyName, loss: "all" | "masked", depth: number) =>
  lower(tinyStep(family, loss, depth));

/** Most of each in a training step of twelve blocks with everything around them. */
interface Most {
  /** Kernels, of which software drivers run each by itself. */
  readonly kernels: number;
  /** Dispatches on a GPU, where kernels start together. */
  readonly dispatches: number;
  readonly pipelines: number;
  /** Bytes of intermediate values, in millions. */
  readonly megabytes: number;
}

const most: Readonly<Record<FamilyName, Most>> = {
  transformer: { kernels: 379, dispatches: 245, pipelines: 51, megabytes: 352 },
  mamba: { kernels: 342, dispatches: 221, pipelines: 41, megabytes: 392 },
  xlstm: { kernels: 630, dispatches: 390, pipelines: 63, megabytes: 490 },
};

for (const family of Object.keys(most) as FamilyName[]) {
  Deno.test(`${family}-tiny: kernels and bytes of a training step`, () => {
    const place = {
      name: "a GPU",
      limits: gpuLimits,
      target: { onCpu: false },
      oneForParams: true,
    };
    const compiled = compile(tinyStep(family, "all", 12), place);
    const { kernels: dispatches, pipelines, peakBytes } = programReport(compiled);
    const { kernels } = compiled.lowered;
    assertLessOrEqual(kernels.length, most[family].kernels, `${kernels.length} kernels`);
    assertLessOrEqual(
      dispatches.length,
      most[family].dispatches,
      `${dispatches.length} dispatches`,
    );
    assertLessOrEqual(pipelines, most[family].pipelines, `${pipelines} pipelines`);
    assertLessOrEqual(peakBytes, most[family].megabytes * 1e6, `${peakBytes} bytes`);
    // No kernel goes along the residual stream to read what all blocks add to its gradient.
    const touched = Math.max(...compiled.steps.map(({ code }) => storagesOf(code).length));
    assertLessOrEqual(touched, 40, `${touched} values in a dispatch`);
    // A linear layer with its bias, or a layer norm, is one kernel forward and one back.
    const forward = kernels.filter((kernel) => kernel.path.includes("block 3 > layer norm"));
    assertLessOrEqual(forward.length, 4, forward.map(({ path }) => path).join("\n"));
  });
}

Deno.test("a selective scan is one kernel forward and one backward, whatever the loss", () => {
  for (const loss of ["all", "masked"] as const) {
    const { kernels, stored } = lowered("mamba", loss, 2);
    assertStrictEquals(kernels.filter((kernel) => kernel.shape === "scan").length, 4, loss);
    for (const storage of stored.values()) {
      const axes = storage.dims.map((dim) => dim.axis);
      const large = axes.includes("token") && axes.includes("state") && axes.includes("channel");
      assert(!large, `${axes.join(" x ")} of ${size(storage.dims)} elements is stored`);
    }
  }
});

Deno.test("a reduction that is done in two stages does not split what is above another", () => {
  const { kernels } = lowered("mamba", "masked", 1);
  const scans = kernels.flatMap((kernel) => kernel.shape === "scan" ? [kernel.scan] : []);
  assertStrictEquals(new Set(scans.map((of) => of.attributes.reverse)).size, 2);
  assertStrictEquals(topologicalOrder(scans).filter((of) => of.op === "scan").length, 2);
});

for (const family of ["transformer", "mamba", "xlstm"] as const) {
  Deno.test(`${family}-tiny: memory for a clip is linear in its tokens, forward and in training`, () => {
    for (const pass of ["forward", "training"] as const) {
      const [short, long] = [2000, 4000].map((tokens) => {
        const found = planned(passProgram(tinyEncoder(family, 1), pass, tokens));
        return E.isRight(found) ? found.right.peakBytes / tokens : fail(family);
      });
      assertLessOrEqual(
        long,
        1.3 * short,
        `${pass}: ${short} bytes a token at 2000, ${long} at 4000`,
      );
    }
  });
}

Deno.test("an encoder that is only run forward keeps no state over time", () => {
  const program = passProgram(tinyEncoder("mamba", 2), "forward", 250);
  const { kernels, stored } = lower(program);
  for (const storage of stored.values()) {
    const axes = storage.dims.map((dim) => dim.axis);
    assert(!axes.includes("token") || !axes.includes("state"), axes.join(" x "));
  }
  // Per block: norm, in, convolution, three products around the scan, the scan, out.
  assertLessOrEqual(kernels.length, 2 * 7 + 5, kernels.map(({ path }) => path).join("\n"));
});
