// What the training steps of the published tiny encoders lower to: fusion must not quietly regress.
import assert from "assert";
import { reachable } from "../../dsl/node.ts";
import { lower } from "../../backends/lower/schedule.ts";
import { size } from "../../backends/lower/program.ts";
import { faithful } from "../../models/fidelity.ts";
import { type FamilyName, publishedEncoder } from "../../models/sizes.ts";
import { trainingStep } from "../../models/training.ts";

const lowered = (family: FamilyName, loss: "all" | "masked", depth: number) => {
  const step = trainingStep(
    {
      encoder: { ...publishedEncoder(family, "tiny"), depth },
      objective: { style: "ssast" },
      masking: { kind: "unstructured", ratio: 0.5 },
      fidelity: { ...faithful, loss },
      batch: 8,
      frames: 200,
      mels: 80,
      seed: 0,
    },
    { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 },
  );
  return lower({ outputs: { loss: { of: step.loss, order: [] } }, updates: step.updates });
};

/** Most kernels of twelve blocks with everything around them. */
const most: Readonly<Record<FamilyName, number>> = { transformer: 440, mamba: 410, xlstm: 770 };

for (const family of Object.keys(most) as FamilyName[]) {
  Deno.test(`${family}-tiny: kernels of a training step`, () => {
    const { kernels } = lowered(family, "all", 12);
    assert.ok(kernels.length <= most[family], `${kernels.length} kernels`);
    // A linear layer with its bias, or a layer norm, is one kernel forward and one back.
    const forward = kernels.filter((kernel) => kernel.path.includes("block 3 > layer norm"));
    assert.ok(forward.length <= 4, forward.map(({ path }) => path).join("\n"));
  });
}

Deno.test("a selective scan is one kernel forward and one backward, whatever the loss", () => {
  for (const loss of ["all", "masked"] as const) {
    const { kernels, stored } = lowered("mamba", loss, 2);
    assert.equal(kernels.filter((kernel) => kernel.shape === "scan").length, 4, loss);
    for (const storage of stored.values()) {
      const axes = storage.dims.map((dim) => dim.axis);
      const large = axes.includes("token") && axes.includes("state") && axes.includes("channel");
      assert.ok(!large, `${axes.join(" x ")} of ${size(storage.dims)} elements is stored`);
    }
  }
});

Deno.test("a reduction that is done in two stages does not split what is above another", () => {
  const { kernels } = lowered("mamba", "masked", 1);
  const scans = kernels.flatMap((kernel) => kernel.shape === "scan" ? [kernel.scan] : []);
  assert.equal(new Set(scans.map((of) => of.attributes.reverse)).size, 2);
  assert.equal(reachable(scans).filter((of) => of.op === "scan").length, 2);
});
