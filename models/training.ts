// Pre-training as programs: a step (state, batch) -> (state, loss), and the evaluation of clips.
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import { valueAndGrad } from "../dsl/grad.ts";
import { input, shift, toFloat } from "../dsl/ops.ts";
import { type Parameter, parameters } from "../dsl/parameters.ts";
import { foldKey, nameKey, randomKey, uniform } from "../dsl/random.ts";
import { encode, type EncoderSizes, predict } from "./encoder.ts";
import { maskByRank, type PerToken } from "./masking.ts";
import { lossOverAll, lossOverMasked, lossPerClip, type Scalar } from "./objective.ts";
import { type AdamW, adamW } from "./optimiser.ts";
import { type Patches, patchify, type Spectrogram } from "./patches.ts";

/** What a pre-training model is made from. */
export interface Pretraining {
  readonly encoder: EncoderSizes;
  readonly batch: number;
  readonly frames: number;
  readonly mels: number;
  readonly maskRatio: number;
  readonly loss: "all" | "masked";
  readonly seed: number;
}

/** Predictions and losses of a batch. */
export interface Forward {
  readonly prediction: Patches;
  readonly target: Patches;
  readonly mask: PerToken;
  readonly lossAll: Scalar;
  readonly lossMasked: Scalar;
}

/** The model on a batch of spectrograms with a given mask. */
export const forward = (encoder: EncoderSizes, x: Spectrogram, mask: PerToken): Forward => {
  const target = patchify(x, encoder.patch);
  const pixels = encoder.patch.time * encoder.patch.frequency;
  const prediction = predict(pixels)(encode(encoder, mask)(x));
  return {
    prediction,
    target,
    mask,
    lossAll: lossOverAll(prediction, target),
    lossMasked: lossOverMasked(prediction, target, mask),
  };
};

/** The batch that a program reads: input `spectrogram`, standardised log-mel. */
const batchOf = ({ batch, frames, mels }: Pretraining): Spectrogram =>
  input("spectrogram", { batch, time: frames, mel: mels });

const maskOf = (of: Pretraining, purpose: string, step: Scalar): PerToken => {
  const { patch } = of.encoder;
  const tokens = (of.frames / patch.time) * (of.mels / patch.frequency);
  const key = foldKey(nameKey(randomKey(of.seed), purpose), step);
  return maskByRank(uniform(key, { batch: of.batch, token: tokens }), of.maskRatio);
};

/** One optimiser step as a program's parts: inputs `spectrogram`, `step` (from 0) and `rate`. */
export const trainingStep = (
  of: Pretraining,
  optimiser: AdamW,
): {
  readonly loss: AnyTensor;
  readonly updates: Readonly<Record<string, AnyTensor>>;
  readonly trained: readonly Parameter[];
} => {
  const step = input("step", {}, "u32");
  const rate = input("rate", {});
  const result = forward(of.encoder, batchOf(of), maskOf(of, "training mask", step));
  const loss = of.loss === "all" ? result.lossAll : result.lossMasked;
  const trained = parameters([loss]).filter((parameter) => parameter.trainable);
  const wrt = Object.fromEntries(trained.map((parameter) => [parameter.name, parameter.tensor]));
  const { value, gradients } = valueAndGrad(loss, wrt);
  const updates = adamW(optimiser, trained, gradients, { rate, step: shift(toFloat(step), 1) });
  return { loss: value, updates, trained };
};

/**
 * A batch scored without changing anything: inputs `spectrogram` and `step`, which numbers the batch,
 * so that its masks stay the same. The loss is that of every clip by itself.
 */
export const evaluation = (
  of: Pretraining,
): Forward & { readonly perClip: Tensor<{ batch: number }> } => {
  const result = forward(
    of.encoder,
    batchOf(of),
    maskOf(of, "held-out mask", input("step", {}, "u32")),
  );
  const { prediction, target, mask } = result;
  return {
    ...result,
    perClip: lossPerClip(prediction, target, of.loss === "all" ? undefined : mask),
  };
};
