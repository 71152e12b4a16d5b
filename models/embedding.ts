// Embeddings of clips of any length, as the published runtime (RuntimeSSAST) computes them: the
// spectrogram is standardised over the whole clip and filled up with zeros, its mean; stretches of
// the model's length are encoded each by itself, and the rows that stand for filling are cut off.
import type { Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import { add, constant, iota, less, named, on, select, toFloat } from "../dsl/ops.ts";
import { type Encoder, features } from "./encoder.ts";
import type { Fidelity } from "./fidelity.ts";
import type { Frames } from "./frontend.ts";

/** How many stretches a clip is cut into, and how many rows of embeddings it has. */
export interface Cut {
  readonly stretches: number;
  readonly rows: number;
}

/**
 * The cut of a clip of `frames` frames into stretches of `stretch` frames, each of which gives `steps`
 * rows. The share of the last stretches that is filling is cut off from the rows, rounded down.
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
 * Where the rows of a clip stand, in milliseconds from its start: its duration in equal parts, as
 * published, although filling has a share in the last row.
 */
export const timestamps = (rows: number, samples: number, sampleRate: number): Float32Array =>
  Float32Array.from({ length: rows }, (_, row) => row * (1000 * samples / sampleRate) / rows);

/** Mean and standard deviation. */
export interface Moments {
  readonly mean: number;
  readonly deviation: number;
}

/** The moments that a spectrogram is standardised with. A sample of one value deviates by 0. */
export const momentsOf = (values: Float32Array, of: Fidelity["deviation"]): Moments => {
  let total = 0;
  for (const value of values) total += value;
  const mean = total / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  const freedom = of === "sample" ? Math.max(1, values.length - 1) : values.length;
  return { mean, deviation: Math.sqrt(squares / freedom) };
};

/** Numbers of clips. */
export type PerClip = Tensor<{ batch: number }>;

/** Stretches of log-mel spectrograms, with the moments of the clips that they are from. */
export interface Stretches {
  readonly logs: Frames<"mel">;
  /** Frames that are of the clip; those after them are filling. */
  readonly frames: PerClip;
  readonly mean: PerClip;
  readonly deviation: PerClip;
}

/** Stretches standardised as in `standardise` of the front end, with zeros for filling. */
export const standardisedStretches = (
  { logs, frames, mean, deviation }: Stretches,
): Frames<"mel"> =>
  named("standardise", () => {
    const standard = on.div(on.sub(logs, mean), add(deviation, 1e-8));
    const time = toFloat(iota("time", sizeOf(nodeOf(logs).axes, "time")));
    return select(less(time, frames), standard, constant(0));
  });

/** Rows of embeddings of stretches. */
export const embedStretches =
  (encoder: Encoder, rows: Fidelity["rows"]) =>
  (x: Stretches): Tensor<{ batch: number; step: number; feature: number }> =>
    features(encoder, rows)(standardisedStretches(x));
