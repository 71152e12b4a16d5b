// Embeddings of clips of any length, as the published runtime (RuntimeSSAST) computes them: the
// spectrogram is standardised over the whole clip and padded with zeros (its mean); segments of the
// model's length are encoded independently, and the rows that are padding are dropped.
import type { Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import { add, constant, iota, less, named, on, select, toFloat } from "../dsl/ops.ts";
import { type Encoder, features } from "./encoder.ts";
import type { Fidelity } from "./fidelity.ts";
import type { Frames } from "./frontend.ts";

/** How many segments a clip is cut into, and how many rows of embeddings it has. */
export interface Cut {
  readonly stretches: number;
  readonly rows: number;
}

/**
 * Cuts a clip of `frames` frames into segments of `stretch` frames with `steps` rows each. Of the last
 * segment, rows are dropped in proportion to its padding, rounded down.
 */
export const cutOf = (
  frames: number,
  stretch: number,
  steps: number,
  padding: Fidelity["padding"],
): Cut => {
  const rest = frames % stretch;
  const filling = padding === "always" || rest > 0 ? stretch - rest : 0;
  const stretches = (frames + filling) / stretch;
  return { stretches, rows: stretches * steps - Math.floor(steps * filling / stretch) };
};

/**
 * Times of a clip's rows in ms from its start: its duration in equal parts, as published, although the
 * last row may be partly padding.
 */
export const timestamps = (rows: number, samples: number, sampleRate: number): Float32Array =>
  Float32Array.from({ length: rows }, (_, row) => row * (1000 * samples / sampleRate) / rows);

/** Mean and standard deviation. */
export interface Moments {
  readonly mean: number;
  readonly deviation: number;
}

/** Mean and deviation for standardising a spectrogram. A single value has deviation 0. */
export const momentsOf = (values: Float32Array, of: Fidelity["deviation"]): Moments => {
  let total = 0;
  for (const value of values) total += value;
  const mean = total / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  const freedom = of === "sample" ? Math.max(1, values.length - 1) : values.length;
  return { mean, deviation: Math.sqrt(squares / freedom) };
};

/** One number per clip. */
export type PerClip = Tensor<{ batch: number }>;

/** Segments of log-mel spectrograms, with mean and deviation of the clips they were cut from. */
export interface Stretches {
  readonly logs: Frames<"mel">;
  /** Frames that belong to the clip; the rest is padding. */
  readonly frames: PerClip;
  readonly mean: PerClip;
  readonly deviation: PerClip;
}

/** Segments standardised as by the front end's `standardise`, with zeros as padding. */
export const standardisedStretches = (
  { logs, frames, mean, deviation }: Stretches,
): Frames<"mel"> =>
  named("standardise", () => {
    const standard = on.div(on.sub(logs, mean), add(deviation, 1e-8));
    const time = toFloat(iota("time", sizeOf(nodeOf(logs).axes, "time")));
    return select(less(time, frames), standard, constant(0));
  });

/** The rows of embeddings of segments. */
export const embedStretches =
  (encoder: Encoder, rows: Fidelity["rows"]) =>
  (x: Stretches): Tensor<{ batch: number; step: number; feature: number }> =>
    features(encoder, rows)(standardisedStretches(x));
