// Embeds recordings on a device: samples to log-mel spectrograms to rows of embeddings, in batches that
// may combine segments of several clips. Clips are read one after another; only the samples and the
// spectrogram of each are held, and rows are passed on as they are computed.
import type { Backend, Values } from "../../backends/backend.ts";
import { input } from "../../dsl/ops.ts";
import {
  type Cut,
  cutOf,
  embedStretches,
  type Moments,
  momentsOf,
  timestamps,
} from "../../models/embedding.ts";
import type { Encoder } from "../../models/encoder.ts";
import type { Fidelity } from "../../models/fidelity.ts";
import { type FrontEnd, logMelOfFrames } from "../../models/frontend.ts";
import { isEnded } from "../io/interrupt.ts";
import { reflectedAt } from "../data/audio/spectrogram.ts";

/** The points of fidelity that affect embeddings. */
export type EmbeddingFidelity = Pick<Fidelity, "rows" | "deviation" | "padding">;

/** An encoder and everything that embedding needs. */
export interface EmbeddingModel {
  readonly encoder: Encoder;
  readonly frontEnd: FrontEnd;
  /** Frames of the encoder's input; a multiple of a patch's. */
  readonly frames: number;
  readonly fidelity: EmbeddingFidelity;
  /** All parameters of the encoder by name. */
  readonly values: Values;
}

/** A clip with the caller's tag. */
export interface Clip<T> {
  readonly of: T;
  /** At least one sample, from -1 to 1, at the front end's rate. */
  readonly samples: Float32Array;
}

/** Successive rows of a clip's embeddings, `[rows, width]`. */
export interface Rows<T> {
  readonly of: T;
  /** Number of rows of the whole clip, and the index of the first row here. */
  readonly total: number;
  readonly first: number;
  readonly values: Float32Array;
  /** With the last rows: the mean of all rows of the clip, and their timestamps in ms. */
  readonly end?: { readonly scene: Float32Array; readonly timestamps: Float32Array };
}

/** A model on a device. */
export interface Embedder {
  /** Size of a row: the channels of all patches of a time step. */
  readonly width: number;
  /**
   * The embeddings of clips, in order, each in parts. The next clip is requested when a batch has room for
   * it, so `clips` may read recordings lazily. Ends after a batch once `signal` is aborted.
   */
  readonly embed: <T>(clips: Stream<Clip<T>>, signal?: AbortSignal) => AsyncGenerator<Rows<T>>;
  readonly close: () => void;
}

type Stream<A> = AsyncIterable<A> | Iterable<A>;

/** Frames per log-mel segment. */
const stretch = 64;

/** Opens a model on a device, with batches of `batch` segments. */
export const openEmbedder = async (
  backend: Backend,
  model: EmbeddingModel,
  batch: number,
): Promise<Embedder> => {
  const { encoder, frontEnd, frames, fidelity } = model;
  const { fft, hop, mels } = frontEnd;
  const window = (stretch - 1) * hop + fft;
  const steps = frames / encoder.patch.time;
  const width = encoder.dim * mels / encoder.patch.frequency;
  const rows = embedStretches(encoder, fidelity.rows)({
    logs: input("logs", { batch, time: frames, mel: mels }),
    frames: input("frames", { batch }),
    mean: input("mean", { batch }),
    deviation: input("deviation", { batch }),
  });
  const logs = logMelOfFrames(frontEnd)(input("samples", { batch, sample: window }));
  const machine = await backend.open({
    spectrum: { outputs: { logs: { of: logs, order: ["batch", "time", "mel"] } } },
    encode: { outputs: { rows: { of: rows, order: ["batch", "step", "feature"] } } },
  });
  machine.write(model.values);

  const spectrum = async (jobs: readonly Window<unknown>[]): Promise<readonly Float32Array[]> => {
    const samples = new Float32Array(batch * window);
    jobs.forEach(({ clip, first }, k) => {
      const into = samples.subarray(k * window, (k + 1) * window);
      fill(into, clip.samples, first * hop - Math.floor(fft / 2));
    });
    const found = await machine.run("spectrum", { samples });
    return partsOf(found.logs, jobs.length, stretch * mels);
  };

  const encode = async (jobs: readonly Stretch<unknown>[]): Promise<readonly Float32Array[]> => {
    const logs = new Float32Array(batch * frames * mels);
    jobs.forEach((job, k) => logs.set(job.logs, k * frames * mels));
    const perClip = (value: (job: Stretch<unknown>) => number) =>
      Float32Array.from({ length: batch }, (_, k) => k < jobs.length ? value(jobs[k]) : 0);
    const found = await machine.run("encode", {
      logs,
      frames: perClip((job) => job.logs.length / mels),
      mean: perClip((job) => job.moments.mean),
      deviation: perClip((job) => job.moments.deviation),
    });
    return partsOf(found.rows, jobs.length, steps * width);
  };

  const embed = async function* <T>(
    clips: Stream<Clip<T>>,
    signal?: AbortSignal,
  ): AsyncGenerator<Rows<T>> {
    let sums = new Float64Array(width);
    const spectra = spectraOf(batched(windowsOf(clips, frontEnd), batch, spectrum, signal));
    const stretches = stretchesOf(spectra, model);
    for await (
      const [{ spectrum, cut, index }, result] of batched(stretches, batch, encode, signal)
    ) {
      const { clip: { of, samples } } = spectrum, { rows: total } = cut;
      const first = index * steps, count = Math.min(steps, total - first);
      if (count <= 0) continue;
      const values = result.subarray(0, count * width);
      if (first === 0) sums = new Float64Array(width);
      values.forEach((value, k) => sums[k % width] += value);
      if (first + count < total) yield { of, total, first, values };
      else {
        const scene = Float32Array.from(sums, (sum) => sum / total);
        const at = timestamps(total, samples.length, frontEnd.sampleRate);
        yield { of, total, first, values, end: { scene, timestamps: at } };
      }
    }
  };
  return { width, embed, close: machine.close };
};

/** The embeddings of one clip, complete. */
export interface Embeddings {
  /** `[rows, width]` */
  readonly embeddings: Float32Array;
  readonly scene: Float32Array;
  readonly timestamps: Float32Array;
}

/** The complete embeddings of clips that fit in memory, in order. */
export const embedAll = async (
  { embed, width }: Embedder,
  clips: readonly Float32Array[],
): Promise<readonly Embeddings[]> => {
  const found: Embeddings[] = [];
  let embeddings = new Float32Array();
  for await (const part of embed(clips.map((samples, of) => ({ of, samples })))) {
    if (part.first === 0) embeddings = new Float32Array(part.total * width);
    embeddings.set(part.values, part.first * width);
    if (part.end !== undefined) found.push({ embeddings, ...part.end });
  }
  return found;
};

// ---------------------------------------------------------------- batches

/** Jobs with their results, in order; the last batch may be smaller. Ends once `signal` is aborted. */
async function* batched<J, R>(
  jobs: Stream<J>,
  size: number,
  run: (jobs: readonly J[]) => Promise<readonly R[]>,
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly [J, R]> {
  let waiting: J[] = [];
  const pairs = async () => {
    const now = waiting;
    waiting = [];
    const results = await run(now);
    return now.map((job, k) => [job, results[k]] as const);
  };
  for await (const job of jobs) {
    waiting.push(job);
    if (waiting.length < size) continue;
    if (await isEnded(signal)) return;
    yield* await pairs();
  }
  if (waiting.length > 0 && !await isEnded(signal)) yield* await pairs();
}

/** The first `count` of the equal parts of a batch. */
const partsOf = (
  values: Float32Array | Uint32Array,
  count: number,
  size: number,
): readonly Float32Array[] =>
  Array.from(
    { length: count },
    (_, k) => (values as Float32Array).subarray(k * size, (k + 1) * size),
  );

// ---------------------------------------------------------------- samples to spectrograms

/** A clip and its log-mel spectrogram, which is filled in: `logs[frame * mels + band]`. */
interface Spectrum<T> {
  readonly clip: Clip<T>;
  readonly logs: Float32Array;
}

/** A segment of a clip for the front end, from a frame on. */
interface Window<T> extends Spectrum<T> {
  readonly first: number;
  /** Offset of its values in the clip's spectrogram. */
  readonly at: number;
}

async function* windowsOf<T>(
  clips: Stream<Clip<T>>,
  { hop, mels }: FrontEnd,
): AsyncGenerator<Window<T>> {
  for await (const clip of clips) {
    const frames = 1 + Math.floor(clip.samples.length / hop);
    const logs = new Float32Array(frames * mels);
    for (let first = 0; first < frames; first += stretch) {
      yield { clip, logs, first, at: first * mels };
    }
  }
}

const fill = (into: Float32Array, samples: Float32Array, start: number): void => {
  for (let k = 0; k < into.length; k++) into[k] = reflectedAt(samples, start + k);
};

async function* spectraOf<T>(
  parts: AsyncIterable<readonly [Window<T>, Float32Array]>,
): AsyncGenerator<Spectrum<T>> {
  for await (const [{ clip, logs, at }, part] of parts) {
    const rest = logs.length - at;
    logs.set(part.subarray(0, rest), at);
    if (rest <= part.length) yield { clip, logs };
  }
}

// ---------------------------------------------------------------- spectrograms to rows

/** A segment of a spectrogram for the encoder. */
interface Stretch<T> {
  readonly spectrum: Spectrum<T>;
  readonly moments: Moments;
  readonly cut: Cut;
  readonly index: number;
  /** Its part of the spectrogram: fewer frames at the end of a clip, none where all is padding. */
  readonly logs: Float32Array;
}

async function* stretchesOf<T>(
  spectra: AsyncIterable<Spectrum<T>>,
  { encoder, frontEnd: { mels }, frames, fidelity }: EmbeddingModel,
): AsyncGenerator<Stretch<T>> {
  const size = frames * mels, steps = frames / encoder.patch.time;
  for await (const spectrum of spectra) {
    const moments = momentsOf(spectrum.logs, fidelity.deviation);
    const cut = cutOf(spectrum.logs.length / mels, frames, steps, fidelity.padding);
    for (let index = 0; index < cut.stretches; index++) {
      const logs = spectrum.logs.subarray(index * size, (index + 1) * size);
      yield { spectrum, moments, cut, index, logs };
    }
  }
}
