// Training steps of the published tiny encoders at batch 8 and 251 tokens (with fewer blocks where a
// test asks for it), and the limits of a GPU: what tests of the compiler look at without a device.
import type { Program } from "../../backends/backend.ts";
import { NEEDED_LIMITS } from "../../backends/webgpu/discovery/adapter.ts";
import { faithful } from "../../models/fidelity.ts";
import type { Scaling } from "../../models/optimiser.ts";
import { type FamilyName, publishedEncoder } from "../../models/sizes.ts";
import { trainingStep } from "../../models/training.ts";

/** One step in SSAST style with AdamW and what else is asked for. */
export const tinyStep = (
  family: FamilyName,
  loss: "all" | "masked",
  depth: number,
  more: Partial<Scaling> = {},
): Program => {
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
    { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05, ...more },
  );
  return { outputs: { loss: { of: step.loss, order: [] } }, updates: step.updates };
};

/** Limits as GPUs have them. */
export const gpuLimits = {
  ...NEEDED_LIMITS,
  maxStorageBufferBindingSize: 1 << 30,
  maxBufferSize: 2 ** 31,
  minStorageBufferOffsetAlignment: 256,
} as unknown as GPUSupportedLimits;
