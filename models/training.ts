// Pre-training as programs: a step (state, batch) -> (state, loss), and the evaluation of clips.
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { valueAndGrad } from "../dsl/grad.ts";
import { type Key, nodeOf } from "../dsl/node.ts";
import { add, constant, equal, input, mul, on, param, select, toFloat } from "../dsl/ops.ts";
import { type Parameter, parameters } from "../dsl/parameters.ts";
import { foldIn, keyForName, randomKey, splitKey } from "../dsl/random.ts";
import { decode, type DecoderSizes } from "./decoder.ts";
import { encode, type Encoder, encodeVisible, predict } from "./encoder.ts";
import type { Fidelity } from "./fidelity.ts";
import { zeros } from "./initialisers.ts";
import { scope } from "./layers.ts";
import { type Masking, type PerToken, randomMask, visible, visiblePlaces } from "./masking.ts";
import { lossOverAll, lossOverMasked, lossPerClip, type Scalar } from "./objective.ts";
import { lossScale } from "./loss_scale.ts";
import { average, optimise, type Scaling, type Step } from "./optimiser.ts";
import { gridOf, type Patches, patchify, type Spectrogram } from "./patches.ts";

/** How hidden patches are predicted: from mask tokens in the encoder, or by a separate decoder. */
export type Style =
  | { readonly style: "ssast" }
  | { readonly style: "mae"; readonly decoder: DecoderSizes };

/** Everything that determines a pre-training model. */
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
 * patches in every clip, as masks of `masking.ratio` have. `key` turns stochastic depth on.
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
    const count = visible(sizeOf(nodeOf(mask).axes, "token"), masking.ratio);
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

/** The input `spectrogram`: a batch, standardised log-mel. */
const batchOf = ({ batch, frames, mels }: Pretraining): Spectrogram =>
  input("spectrogram", { batch, time: frames, mel: mels });

const keyOf = (of: Pretraining, purpose: string, step: Scalar): Key =>
  foldIn(keyForName(randomKey(of.seed), purpose), step);

const maskOf = (of: Pretraining, key: Key): PerToken => {
  const { patch } = of.encoder;
  const grid = { time: of.frames / patch.time, frequency: of.mels / patch.frequency };
  return randomMask(key, of.masking, grid, of.batch);
};

/** The loss of a batch, or of one part of it, as masks and depths of the step hide and skip. */
const lossOf = (of: Pretraining, part?: Scalar): Scalar => {
  const step = input("step", {}, "u32");
  const key = (purpose: string): Key => {
    const whole = keyOf(of, purpose, step);
    return part === undefined ? whole : splitKey(whole, part);
  };
  const mask = maskOf(of, key("training mask"));
  const result = forward(of, batchOf(of), mask, key("stochastic depth"));
  return of.fidelity.loss === "all" ? result.lossAll : result.lossMasked;
};

/** The loss, and its gradients or those of the scaled loss. */
const gradientsOf = (loss: Scalar, scaling: boolean) => {
  const trained = parameters([loss]).filter((parameter) => parameter.trainable);
  const wrt = Object.fromEntries(trained.map((parameter) => [parameter.name, parameter.tensor]));
  if (!scaling) return { trained, ...valueAndGrad(loss, wrt) };
  const { value, gradients } = valueAndGrad(on.mul(loss, lossScale()), wrt);
  return { trained, value: on.div(value, lossScale()), gradients };
};

const optimised = (
  optimiser: Scaling,
  trained: readonly Parameter[],
  gradients: Readonly<Record<string, AnyTensor>>,
): Step => {
  const step = input("step", {}, "u32"), rate = input("rate", {});
  return optimise(optimiser, trained, gradients, { rate, step: add(toFloat(step), 1) });
};

/** One optimiser step as outputs and updates: inputs `spectrogram`, `step` (from 0) and `rate`. */
export const trainingStep = (
  of: Pretraining,
  optimiser: Scaling,
): Step & { readonly loss: Scalar; readonly trained: readonly Parameter[] } => {
  const { value, gradients, trained } = gradientsOf(lossOf(of), optimiser.lossScaling === true);
  return { loss: value, trained, ...optimised(optimiser, trained, gradients) };
};

/** The name of the parameter that accumulates the gradients of the parameter `name`. */
export const gradientSum = (name: string): string => `gradient.${name}`;

/**
 * The first half of a step whose batch is computed in `parts` equal parts, one after the other or on
 * several machines: accumulates the part's share of the gradients. Inputs: `spectrogram`, a part of
 * `of.batch` clips; `step` (from 0); `part`, its index, a u32; `first`, 1 for the first part that this
 * machine computes in the step, else 0. The loss is that of the part. The sums over all parts are the
 * gradients of the whole batch, with the masks and skipped blocks that it has in one part; with
 * `scaling`, those of the scaled loss.
 */
export const gradientStep = (
  of: Pretraining,
  parts: number,
  scaling = false,
): Step & { readonly loss: Scalar; readonly trained: readonly Parameter[] } => {
  const { value, gradients, trained } = gradientsOf(
    lossOf(of, input("part", {}, "u32")),
    scaling,
  );
  const first = equal(input("first", {}), constant(1));
  const updates = trained.map(({ name, axes }) => {
    const share = mul(gradients[name], 1 / parts);
    const sum = param(gradientSum(name), axes, zeros, { trainable: false });
    return [gradientSum(name), select(first, share, add(sum, share))] as const;
  });
  return { loss: value, trained, updates: Object.fromEntries(updates) };
};

/** The second half: the optimiser's step from the sums. Inputs: `step` (from 0) and `rate`. */
export const updateStep = (trained: readonly Parameter[], optimiser: Scaling): Step =>
  optimised(
    optimiser,
    trained,
    Object.fromEntries(trained.map(({ name, axes }) => [
      name,
      param(gradientSum(name), axes, zeros, { trainable: false }),
    ])),
  );

/** Swaps parameters and their averages; running it twice restores both. */
export const swapAverages = (trained: readonly Parameter[]): Readonly<Record<string, AnyTensor>> =>
  Object.fromEntries(trained.flatMap(({ name, axes, tensor }) => [
    [name, param(average(name), axes, zeros, { trainable: false })],
    [average(name), tensor],
  ]));

/**
 * Scores a batch without changing anything: inputs `spectrogram` and `part`, the index of the batch
 * among all that are scored. Every clip has its own fixed mask, independent of the batch size. Gives the
 * loss of each clip over its hidden patches, whatever the training loss is over: reproducing a visible
 * patch shows nothing.
 */
export const evaluation = (
  of: Pretraining,
): Forward & { readonly perClip: Tensor<{ batch: number }> } => {
  const key = keyForName(randomKey(of.seed), "held-out mask");
  const mask = maskOf(of, splitKey(key, input("part", {}, "u32")));
  const result = forward(of, batchOf(of), mask);
  return { ...result, perClip: lossPerClip(result.prediction, result.target, mask) };
};
