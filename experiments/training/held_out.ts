// Held-out losses of a model, and its predictions for held-out clips.
import type { Machine } from "../../backends/backend.ts";
import { isEnded } from "../io/interrupt.ts";
import type { Spec } from "../specs/spec.ts";

/** Predicted patches assembled to a spectrogram. */
export const assembled = (patches: Float32Array, spec: Spec): Float32Array => {
  const { time, frequency } = spec.patch;
  const { mels } = spec.frontEnd;
  const columns = mels / frequency;
  const values = new Float32Array(patches.length);
  for (let k = 0; k < patches.length; k++) {
    const pixel = k % (time * frequency), token = Math.floor(k / (time * frequency));
    const frame = Math.floor(token / columns) * time + Math.floor(pixel / frequency);
    values[frame * mels + (token % columns) * frequency + pixel % frequency] = patches[k];
  }
  return values;
};

/** The loss of predicting a clip's mean for its hidden patches. */
export const meanLoss = (clip: Float32Array, mask: ArrayLike<number>, spec: Spec): number => {
  let total = 0;
  for (const value of clip) total += value;
  const mean = total / clip.length;
  const { time, frequency } = spec.patch, { mels } = spec.frontEnd;
  let squares = 0, counted = 0;
  for (let k = 0; k < clip.length; k++) {
    const token = Math.floor(Math.floor(k / mels) / time) * (mels / frequency) +
      Math.floor((k % mels) / frequency);
    if (mask[token] === 0) continue;
    squares += (clip[k] - mean) ** 2;
    counted++;
  }
  return squares / counted;
};

/** Losses and predictions of all held-out clips. */
export interface Scores {
  readonly loss: number;
  readonly predictions: readonly Float32Array[];
  readonly masks: readonly Float32Array[];
}

/**
 * Scores held-out clips. A partial batch is padded, which does not affect results. Undefined if interrupted
 * between batches.
 */
export const score = async (
  machine: Machine,
  batch: number,
  held: readonly Float32Array[],
  signal?: AbortSignal,
): Promise<Scores | undefined> => {
  const losses: number[] = [], predictions: Float32Array[] = [], masks: Float32Array[] = [];
  const size = held[0].length;
  for (let start = 0; start < held.length; start += batch) {
    if (await isEnded(signal)) return undefined;
    const now = held.slice(start, start + batch);
    const spectrogram = new Float32Array(batch * size);
    // A partial last batch repeats its first clip; the repeats are not counted.
    for (let k = 0; k < batch; k++) spectrogram.set(now[k] ?? now[0], k * size);
    const part = Uint32Array.of(start / batch);
    const { loss, prediction, mask } = await machine.run("evaluate", { spectrogram, part });
    const cut = (x: Float32Array | Uint32Array, k: number) =>
      (x as Float32Array).slice(k * x.length / batch, (k + 1) * x.length / batch);
    now.forEach((_, k) => {
      losses.push(loss[k]);
      predictions.push(cut(prediction, k));
      masks.push(cut(mask, k));
    });
  }
  return { loss: losses.reduce((a, b) => a + b, 0) / losses.length, predictions, masks };
};
