// A pre-training experiment is data: one JSON document, decoded here. Every field is required, so
// that the document says all that happens; a wrong one is reported by its path, with what was
// expected and what was found, and all mistakes are reported at once.
import * as E from "fp-ts/Either.js";
import type { Precision } from "../../backends/backend.ts";
import type { DecoderSizes } from "../../models/decoder.ts";
import type { FrontEnd } from "../../models/frontend.ts";
import { type Masking, visible } from "../../models/masking.ts";
import type { Optimiser } from "../../models/optimiser.ts";
import type { PatchSize } from "../../models/patches.ts";
import type { Style } from "../../models/training.ts";
import { type FieldError, fieldError, fieldErrorText } from "../io/schema.ts";
import type { EncoderSpec, FidelitySpec } from "../encoders/config.ts";
import type { DataSpec } from "../data/config.ts";
import type { EvaluationSpec } from "./evaluation.ts";
import { specFields } from "./fields.ts";
import { contradictions } from "./rules.ts";

export type { DataSpec, EncoderSpec, EvaluationSpec, FidelitySpec, FieldError };

/**
 * One pre-training experiment: masked log-mel spectrograms, an encoder that fills them in. What each
 * field is for stands beside its codec in spec/fields.ts.
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

/** SSAST style: mask tokens in the encoder. MAE style: the encoder sees the rest, a decoder predicts. */
export type ObjectiveSpec =
  | { readonly style: "ssast" }
  | { readonly style: "mae"; readonly decoder?: DecoderSizes };

/** AdamW's numbers and what may stand around it. One of the two learning rates is given. */
export interface OptimiserSpec extends Optimiser {
  readonly peakLearningRate?: number;
  readonly baseLearningRate?: number;
}

/** Names of devices. */
export type DeviceName =
  | "auto"
  | "gpu"
  | "wasm"
  | "software"
  | "swiftshader"
  | "navigator"
  | "reference";

/** One mistake in a spec: in one field, or fields that contradict each other. */
export type SpecError =
  | FieldError
  | { readonly _tag: "Contradiction"; readonly path: string; readonly problem: string };

/**
 * The experiment that a JSON value describes, or everything that is wrong with it.
 *
 * A value such as `{ ..., "encoder": { "depth": "twelve", ... } }` is answered by an error whose
 * `specErrorText` is `encoder.depth: expected a whole number of at least 1, found "twelve"`.
 */
export function decodeSpec(json: unknown): E.Either<readonly SpecError[], Spec> {
  const read = specFields.decode(json);
  const wrong = E.isLeft(read) ? read.left.map(fieldError) : [];
  // A misspelt field stands for the one it is taken for, and that one is missing.
  const places = wrong.map((error) =>
    error._tag === "UnknownField" ? beside(error.path, error.nearest) : error.path
  );
  const sound = (path: string): boolean =>
    !places.some((place) =>
      place === "" || place === path || path.startsWith(`${place}.`) || place.startsWith(`${path}.`)
    );
  const errors = [...wrong, ...contradictions(json as Spec, sound)];
  return errors.length > 0 ? E.left(errors) : read as E.Either<never, Spec>;
}

const beside = (path: string, name: string | undefined): string =>
  [...path.split(".").slice(0, -1), name ?? ""].join(".");

/** One mistake as one line: `masking.ratio: expected a number between 0 and 1, found 1.5`. */
export function specErrorText(error: SpecError): string {
  return error._tag === "Contradiction" ? `${error.path}: ${error.problem}` : fieldErrorText(error);
}

/** The style of pre-training with a decoder wherever one is needed. */
export const styleOf = ({ objective, encoder }: Pick<Spec, "objective" | "encoder">): Style =>
  objective.style === "ssast"
    ? objective
    : { style: "mae", decoder: objective.decoder ?? { dim: encoder.dim, depth: 2 } };

/** The highest learning rate: as given, or as published in proportion to the batch, 256 clips. */
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
