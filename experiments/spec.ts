// A pre-training experiment is data: one JSON document, decoded here. Every field is required, so
// that the document says all that happens; a wrong one is reported by its path, with what was
// expected and what was found, and all mistakes are reported at once.
import type * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import type { DecoderSizes } from "../models/decoder.ts";
import type { FrontEnd } from "../models/frontend.ts";
import { type Masking, visible } from "../models/masking.ts";
import type { PatchSize } from "../models/patches.ts";
import type { Style } from "../models/training.ts";
import {
  above0,
  between0and1,
  type FieldError,
  fieldError,
  fieldErrorText,
  fields,
  from0,
  from0below1,
  multipleOf,
  numberThat,
  oneOf,
  optional,
  tagged,
  textThat,
  wholeFrom,
} from "./codec.ts";
import {
  type EncoderSpec,
  encoderSpec,
  type FidelitySpec,
  fidelitySpec,
  frontEnd,
  masking,
  patchSize,
} from "./model_codec.ts";
import { contradictions } from "./spec/rules.ts";

export type { EncoderSpec, FidelitySpec, FieldError };

/** One pre-training experiment: masked log-mel spectrograms, an encoder that fills them in. */
export interface Spec {
  /** The version of this format: 1. */
  readonly version: 1;
  /** The run is written to `runs/<name>`. Letters, digits, `-`, `_` and `.`. */
  readonly name: string;
  /** Everything random follows from it: synthetic data, initial values, crops, masks. */
  readonly seed: number;
  /** Audio to log-mel spectrogram; recordings of another sample rate are resampled. */
  readonly frontEnd: FrontEnd;
  /** What the model sees of a recording. */
  readonly clip: {
    /** Frames of a training crop; the model's input is frames × mels. */
    readonly frames: number;
  };
  /** Size of a patch, one token of the sequence: frames (divide `clip.frames`) × mel bands. */
  readonly patch: PatchSize;
  /** The model: a family with its sizes, and the options that all families share. */
  readonly encoder: EncoderSpec;
  /** What is hidden from the encoder: which patches hide together, and what share of them. */
  readonly masking: Masking;
  /** How hidden patches are predicted. */
  readonly objective: ObjectiveSpec;
  /** Where the published code and sound practice part: all points by one name, or one by one. */
  readonly fidelity: FidelitySpec;
  /** AdamW. Biases, norms and other parameters with fewer than two axes are not decayed. */
  readonly optimiser: OptimiserSpec;
  /** Learning rate over the steps: a line from 0 up to the peak, then half a cosine down to 0. */
  readonly schedule: {
    /** Steps of the rise. */
    readonly warmupSteps: number;
    /** Steps of the whole run. */
    readonly steps: number;
  };
  /** Clips in one step. */
  readonly batch: number;
  /** Where clips come from. A folder of recordings is given on the command line, not here. */
  readonly data: DataSpec;
  /** A line of metrics is written every so many steps. */
  readonly logEvery: number;
  /** The held-out clips are scored every so many steps, and before the first and after the last. */
  readonly evaluateEvery: number;
  /** A checkpoint is written every so many steps, and after the last. */
  readonly checkpointEvery: number;
  /** The page that shows the run. */
  readonly report: {
    /** Held-out clips whose spectrograms are shown. */
    readonly examples: number;
  };
}

/** SSAST style: mask tokens in the encoder. MAE style: the encoder sees the rest, a decoder predicts. */
export type ObjectiveSpec =
  | { readonly style: "ssast" }
  | {
    readonly style: "mae";
    /** Width and blocks; without it the encoder's width and 2 blocks. */
    readonly decoder?: DecoderSizes;
  };

/** AdamW's numbers. */
export interface OptimiserSpec {
  /** Highest learning rate of the schedule. Published: 0.00015 × batch / 256. */
  readonly peakLearningRate: number;
  /** Decay of the mean of gradients, in [0, 1). */
  readonly beta1: number;
  /** Decay of the mean of squared gradients, in [0, 1). */
  readonly beta2: number;
  /** Added to the root of the mean of squares. */
  readonly epsilon: number;
  /** Decoupled weight decay, times the learning rate at each step. */
  readonly weightDecay: number;
}

/** Training and held-out clips. */
export interface DataSpec {
  /** The corpus that is synthesised when no folder of recordings is given. */
  readonly synthetic: {
    /** Recordings to make. */
    readonly clips: number;
    /** Length of each in seconds. */
    readonly seconds: number;
  };
  /** Share of the recordings that is never trained on, between 0 and 1. */
  readonly heldOutFraction: number;
}

/** One mistake in a spec: in one field, or fields that contradict each other. */
export type SpecError =
  | FieldError
  | { readonly _tag: "Contradiction"; readonly path: string; readonly problem: string };

type Ssast = Extract<ObjectiveSpec, { readonly style: "ssast" }>;
type Mae = {
  readonly style: "mae";
  readonly decoder: DecoderSizes | undefined;
};

const decoder = fields<DecoderSizes>({ dim: multipleOf(4), depth: wholeFrom(1) });

const specCodec: t.Type<Spec> = fields<Spec>({
  version: numberThat("1", (n) => n === 1) as t.Type<1>,
  name: textThat(
    "a name of letters, digits, '-', '_' and '.' that starts with a letter or digit",
    /^[A-Za-z0-9][\w.-]*$/,
  ),
  seed: wholeFrom(0),
  frontEnd,
  clip: fields<Spec["clip"]>({ frames: wholeFrom(1) }),
  patch: patchSize,
  encoder: encoderSpec,
  masking,
  objective: tagged("style", {
    ssast: fields<Ssast>({ style: oneOf("ssast") }),
    mae: fields<Mae>({ style: oneOf("mae"), decoder: optional(decoder) }),
  }) as t.Type<ObjectiveSpec>,
  fidelity: fidelitySpec,
  optimiser: fields<OptimiserSpec>({
    peakLearningRate: above0,
    beta1: from0below1,
    beta2: from0below1,
    epsilon: above0,
    weightDecay: from0,
  }),
  schedule: fields<Spec["schedule"]>({ warmupSteps: wholeFrom(0), steps: wholeFrom(1) }),
  batch: wholeFrom(1),
  data: fields<DataSpec>({
    synthetic: fields<DataSpec["synthetic"]>({ clips: wholeFrom(2), seconds: above0 }),
    heldOutFraction: between0and1,
  }),
  logEvery: wholeFrom(1),
  evaluateEvery: wholeFrom(1),
  checkpointEvery: wholeFrom(1),
  report: fields<Spec["report"]>({ examples: wholeFrom(0) }),
});

/**
 * The experiment that a JSON value describes, or everything that is wrong with it.
 *
 * A value such as `{ ..., "encoder": { "depth": "twelve", ... } }` is answered by an error whose
 * `specErrorText` is `encoder.depth: expected a whole number of at least 1, found "twelve"`.
 */
export function decodeSpec(json: unknown): E.Either<readonly SpecError[], Spec> {
  const read = specCodec.decode(json);
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
