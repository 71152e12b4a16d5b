// The type of specs: an experiment as one JSON document. Every field is present, so that the document is
// a complete description; decode.ts decodes it.
import type { Precision } from "../../backends/backend.ts";
import type { DecoderSizes } from "../../models/decoder.ts";
import type { FrontEnd } from "../../models/frontend.ts";
import { type Masking, visible } from "../../models/masking.ts";
import type { Optimiser } from "../../models/optimiser.ts";
import type { PatchSize } from "../../models/patches.ts";
import type { Style } from "../../models/training.ts";
import type { FieldError } from "../io/schema.ts";
import type { EncoderSpec, FidelitySpec } from "../encoders/config.ts";
import type { DataSpec } from "../data/config.ts";
import type { EvaluationSpec } from "./evaluation.ts";

export type { DataSpec, EncoderSpec, EvaluationSpec, FidelitySpec, FieldError };

/**
 * One pre-training experiment: masked log-mel spectrograms, an encoder that fills them in. What each
 * field is for is next to its codec in fields.ts.
 */
export interface Spec {
  readonly version: 1;
  readonly name: string;
  readonly seed: number;
  readonly device: DeviceName;
  readonly precision: Precision;
  readonly frontEnd: FrontEnd;
  readonly clip: { readonly frames: number };
  readonly patch: PatchSize;
  readonly encoder: EncoderSpec;
  readonly masking: Masking;
  readonly objective: ObjectiveSpec;
  readonly fidelity: FidelitySpec;
  readonly optimiser: OptimiserSpec;
  readonly schedule: { readonly warmupSteps: number; readonly steps: number };
  readonly batch: number;
  readonly accumulate: number;
  readonly data: DataSpec;
  readonly evaluation?: EvaluationSpec;
  readonly logEvery: number;
  readonly evaluateEvery: number;
  readonly checkpointEvery: number;
  readonly keepCheckpoints: number;
  readonly report: { readonly examples: number };
}

/** SSAST style: mask tokens in the encoder. MAE style: the encoder sees visible patches, then a decoder. */
export type ObjectiveSpec =
  | { readonly style: "ssast" }
  | { readonly style: "mae"; readonly decoder?: DecoderSizes };

/** AdamW's hyperparameters and the options around it. Exactly one of the learning rates is given. */
export interface OptimiserSpec extends Optimiser {
  readonly peakLearningRate?: number;
  readonly baseLearningRate?: number;
}

/** Names of devices. */
export const deviceNames = [
  "auto",
  "gpu",
  "wasm",
  "software",
  "swiftshader",
  "navigator",
  "reference",
] as const;

/** The name of a device. */
export type DeviceName = typeof deviceNames[number];

/** One mistake in a spec: in one field, or a contradiction between fields. */
export type SpecError =
  | FieldError
  | { readonly _tag: "Contradiction"; readonly path: string; readonly problem: string };

/** The style of pre-training, with the encoder's family for the decoder. */
export const styleOf = ({ objective, encoder }: Pick<Spec, "objective" | "encoder">): Style =>
  objective.style === "ssast"
    ? objective
    : { style: "mae", decoder: objective.decoder ?? { dim: encoder.dim, depth: 2 } };

/** The peak learning rate: as given, or the base rate × batch / 256, as published. */
export const peakLearningRate = ({ optimiser, batch }: Pick<Spec, "optimiser" | "batch">): number =>
  optimiser.peakLearningRate ?? optimiser.baseLearningRate! * batch / 256;

/** The patches of one clip. */
export interface PatchGrid {
  /** Patches along time; the outer direction of the token sequence. */
  readonly time: number;
  /** Patches along frequency. */
  readonly frequency: number;
  /** time × frequency. */
  readonly patches: number;
  /** Patches that the encoder sees; the others are masked. */
  readonly visible: number;
}

/** How a clip is cut into patches, and how many of them stay visible. */
export function patchGrid(
  spec: Pick<Spec, "clip" | "patch" | "frontEnd" | "masking">,
): PatchGrid {
  const time = spec.clip.frames / spec.patch.time;
  const frequency = spec.frontEnd.mels / spec.patch.frequency;
  const patches = time * frequency;
  return { time, frequency, patches, visible: visible(patches, spec.masking.ratio) };
}
