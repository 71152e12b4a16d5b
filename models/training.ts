// Pre-training as programs: a step (state, batch) -> (state, loss), and the evaluation of clips.
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import { known } from "../dsl/axes.ts";
import { valueAndGrad } from "../dsl/grad.ts";
import { type Key, node } from "../dsl/node.ts";
import { input, shift, toFloat } from "../dsl/ops.ts";
import { type Parameter, parameters } from "../dsl/parameters.ts";
import { foldKey, nameKey, randomKey } from "../dsl/random.ts";
import { decode, type DecoderSizes } from "./decoder.ts";
import { encode, type Encoder, encodeVisible, predict } from "./encoder.ts";
import type { Fidelity } from "./fidelity.ts";
import { scope } from "./layers.ts";
import { type Masking, type PerToken, randomMask, visible, visiblePlaces } from "./masking.ts";
import { lossOverAll, lossOverMasked, lossPerClip, type Scalar } from "./objective.ts";
import { type AdamW, adamW } from "./optimiser.ts";
import { gridOf, type Patches, patchify, type Spectrogram } from "./patches.ts";

/** How hidden patches are predicted: from mask tokens in the encoder, or by a decoder after it. */
export type Style =
  | { readonly style: "ssast" }
  | { readonly style: "mae"; readonly decoder: DecoderSizes };

/** What a pre-training model is made from. */
export interface Pretraining {
  readonly encoder: Encoder;
  readonly objective: Style;
  readonly masking: Masking;
  readonly fidelity: Fidelity;
  readonly batch: number;
  readonly frames: number;
  readonly mels: number;
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

/**
 * The model on a batch of spectrograms with a given mask. MAE style needs the same number of hidden
 * patches in every clip, as a mask of `masking.ratio` has. `key` turns stochastic depth on.
 */
export const forward = (
  { encoder, objective, masking, fidelity }: Pick<
    Pretraining,
    "encoder" | "objective" | "masking" | "fidelity"
  >,
  x: Spectrogram,
  mask: PerToken,
  key?: Key,
): Forward => {
  const target = patchify(x, encoder.patch);
  const predicted = (): Patches => {
    if (objective.style === "ssast") {
      const hidden = { mask, positions: fidelity.maskedPositions };
      return predict(encoder)(encode(encoder, { hidden, key })(x));
    }
    const count = visible(known(node(mask).axes, "token"), masking.ratio);
    const h = encodeVisible(encoder, visiblePlaces(mask, count), { key })(x);
    const { decoder } = objective;
    return decode(encoder, decoder, gridOf(x, encoder.patch), mask, scope("decoder"))(h);
  };
  const prediction = predicted();
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

const keyOf = (of: Pretraining, purpose: string, step: Scalar): Key =>
  foldKey(nameKey(randomKey(of.seed), purpose), step);

const maskOf = (of: Pretraining, purpose: string, step: Scalar): PerToken => {
  const { patch } = of.encoder;
  const grid = { time: of.frames / patch.time, frequency: of.mels / patch.frequency };
  return randomMask(keyOf(of, purpose, step), of.masking, grid, of.batch);
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
  const mask = maskOf(of, "training mask", step);
  const result = forward(of, batchOf(of), mask, keyOf(of, "stochastic depth", step));
  const loss = of.fidelity.loss === "all" ? result.lossAll : result.lossMasked;
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
  const mask = maskOf(of, "held-out mask", input("step", {}, "u32"));
  const result = forward(of, batchOf(of), mask);
  const { prediction, target } = result;
  const scored = of.fidelity.loss === "all" ? undefined : mask;
  return { ...result, perClip: lossPerClip(prediction, target, scored) };
};
