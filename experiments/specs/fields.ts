// The fields of a spec: the codec and the description of each. The JSON Schema for editors and
// docs/specs.md are generated from here.
import type * as t from "io-ts";
import type { DecoderSizes } from "../../models/decoder.ts";
import {
  above0,
  type Decoded,
  type Docs,
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
} from "../io/schema.ts";
import { encoderSpec, fidelitySpec, frontEnd, masking, patchSize } from "../encoders/config.ts";
import { deviceNames, type ObjectiveSpec, type OptimiserSpec, type Spec } from "./spec.ts";
import { dataSpec } from "../data/config.ts";
import { evaluationSpec } from "./evaluation.ts";

type Ssast = Extract<ObjectiveSpec, { readonly style: "ssast" }>;
type Mae = Decoded<Extract<ObjectiveSpec, { readonly style: "mae" }>>;
const style = "ssast: hidden patches are learnt tokens, which the encoder sees; mae: the encoder " +
  "sees only the other patches, and a decoder predicts the hidden ones.";

const decoder = fields<DecoderSizes>({ dim: multipleOf(4), depth: wholeFrom(1) }, {
  dim: "Channels of the decoder.",
  depth: "Its blocks, of the encoder's family.",
});

const objective = tagged("style", {
  ssast: fields<Ssast>({ style: oneOf("ssast") }, { style }),
  mae: fields<Mae>({ style: oneOf("mae"), decoder: optional(decoder) }, {
    style,
    decoder: "Without it the encoder's channels and 2 blocks.",
  }),
}) as t.Type<ObjectiveSpec>;

const optimiser = fields<Decoded<OptimiserSpec>>({
  peakLearningRate: optional(above0),
  baseLearningRate: optional(above0),
  beta1: from0below1,
  beta2: from0below1,
  epsilon: above0,
  weightDecay: from0,
  clipNorm: optional(above0),
  emaDecay: optional(from0below1),
}, {
  peakLearningRate: "Highest learning rate of the schedule. Either this or baseLearningRate.",
  baseLearningRate: "Highest learning rate for a batch of 256 clips; it grows in proportion to " +
    "the batch. Published: 0.00015.",
  beta1: "Decay of the mean of gradients.",
  beta2: "Decay of the mean of squared gradients.",
  epsilon: "Added to the root of the mean of squares.",
  weightDecay: "Decoupled weight decay, times the learning rate at each step; biases, norms and " +
    "other parameters with fewer than two axes are not decayed.",
  clipNorm: "The most that the norm of all gradients may be; larger ones are scaled down to it. " +
    "Without it nothing is clipped, as published.",
  emaDecay: "Share of the old in an exponential moving average of all parameters, which is " +
    "scored too and written to average.safetensors. Without it there is none, as published.",
}) as t.Type<OptimiserSpec>;

const docs: Docs<Spec> = {
  version: "The version of this format.",
  name: "The run is written to runs/NAME.",
  seed: "Everything random follows from it: synthetic data, first values, orders, crops, masks.",
  device: "What computes; --device overrides it. auto takes a GPU where there is one and else " +
    "WebAssembly.",
  precision: "f16: large values between kernels and operands of products are halves, where the " +
    "device has them; all else, and everything with f32, is f32.",
  frontEnd: "Audio to log-mel spectrogram.",
  clip: "What the model sees of a recording.",
  patch: "Size of a patch, one token of the sequence.",
  encoder: "The model.",
  masking: "What is hidden from the encoder.",
  objective: "How hidden patches are predicted.",
  fidelity: "Where the published code and sound practice part: all points by one name, or one " +
    "by one. docs/fidelity.md says what each changes.",
  optimiser: "AdamW, and what may stand around it.",
  schedule: "The learning rate: a line from 0 up to the peak, then half a cosine down to 0.",
  batch: "Clips in one step.",
  accumulate: "Equal parts of the batch that are computed one after the other, where the whole " +
    "does not fit the device; the numbers stay the same but for rounding.",
  data: "Training and held-out clips.",
  evaluation: "Downstream tasks on which the encoder is scored once it is trained, as with " +
    "'deno task evaluate'; results go to runs/NAME/evaluation. Without it there are none.",
  logEvery: "A line of metrics is written every so many steps.",
  evaluateEvery: "The held-out clips are scored every so many steps, and before the first and " +
    "after the last.",
  checkpointEvery: "A checkpoint is written every so many steps, and after the last.",
  keepCheckpoints: "How many of the latest checkpoints are kept, each with all that a run needs " +
    "to go on.",
  report: "The page that shows the run.",
};

/** The codec of a whole spec. */
export const specFields: t.Type<Spec> = fields<Decoded<Spec>>({
  version: numberThat("1", (n) => n === 1, { const: 1 }) as t.Type<1>,
  name: textThat(
    "a name of letters, digits, '-', '_' and '.' that starts with a letter or digit",
    /^[A-Za-z0-9][\w.-]*$/,
  ),
  seed: wholeFrom(0),
  device: oneOf(...deviceNames),
  precision: oneOf("f32", "f16"),
  frontEnd,
  clip: fields<Spec["clip"]>({ frames: wholeFrom(1) }, {
    frames: "Frames of a training crop; patch.time divides them.",
  }),
  patch: patchSize,
  encoder: encoderSpec,
  masking,
  objective,
  fidelity: fidelitySpec,
  optimiser,
  schedule: fields<Spec["schedule"]>({ warmupSteps: wholeFrom(0), steps: wholeFrom(1) }, {
    warmupSteps: "Steps of the rise.",
    steps: "Steps of the whole run.",
  }),
  batch: wholeFrom(1),
  accumulate: wholeFrom(1),
  data: dataSpec,
  evaluation: optional(evaluationSpec),
  logEvery: wholeFrom(1),
  evaluateEvery: wholeFrom(1),
  checkpointEvery: wholeFrom(1),
  keepCheckpoints: wholeFrom(1),
  report: fields<Spec["report"]>({ examples: wholeFrom(0) }, {
    examples: "Held-out clips whose spectrograms are shown.",
  }),
}, docs) as t.Type<Spec>;
