// Embedding models of whole clips: an encoder on a device, or statistics of a log-mel spectrogram, the
// baseline that an encoder has to beat. Each has a key that its content determines, so that its results
// can be cached.
import { createHash } from "node:crypto";
import type { Backend } from "../../../backends/backend.ts";
import type { FrontEnd } from "../../../models/frontend.ts";
import { logMelOnHost } from "../../data/audio/log_mel.ts";
import { type Clip, type EmbeddingModel, openEmbedder } from "../../encoders/embedder.ts";

/** The vector of a clip. */
export interface Scene<T> {
  readonly of: T;
  readonly scene: Float32Array;
}

/** A model with one vector per clip. */
export interface Scenes {
  /** Identifies the model: a hash of all that its vectors depend on, except the audio. */
  readonly key: string;
  readonly width: number;
  /**
   * Vectors of clips in order; the next clip is requested when there is room for it. Ends early once
   * `signal` is aborted.
   */
  readonly embed: <T>(
    clips: AsyncIterable<Clip<T>>,
    signal?: AbortSignal,
  ) => AsyncGenerator<Scene<T>>;
  readonly close: () => void;
}

/** Segments encoded at once: a GPU needs many to be busy. */
const batchOf = (backend: Backend): number => backend.name === "webgpu" ? 64 : 8;

/** Scene embeddings of an encoder: the mean of its rows over a clip. */
export const encoderScenes = async (backend: Backend, model: EmbeddingModel): Promise<Scenes> => {
  const { values, encoder, frontEnd, frames, fidelity: { rows, deviation, padding } } = model;
  const hash = createHash("sha256");
  hash.update(JSON.stringify([
    "encoder 1",
    // The last digits differ between backends.
    backend.name,
    encoder,
    frontEnd,
    frames,
    { rows, deviation, padding },
  ]));
  for (const name of Object.keys(values).sort()) {
    const { buffer, byteOffset, byteLength } = values[name];
    hash.update(`\n${name}\n`).update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  const embedder = await openEmbedder(backend, model, batchOf(backend));
  return {
    key: hash.digest("hex"),
    width: embedder.width,
    embed: async function* <T>(
      clips: AsyncIterable<Clip<T>>,
      signal?: AbortSignal,
    ): AsyncGenerator<Scene<T>> {
      for await (const { of, end } of embedder.embed(clips, signal)) {
        if (end !== undefined) yield { of, scene: end.scene };
      }
    },
    close: embedder.close,
  };
};

/** The front end of the baseline: 64 bands, windows of 25 ms every 10 ms. */
export const baselineFrontEnd: FrontEnd = {
  sampleRate: 16000,
  fft: 400,
  window: 400,
  hop: 160,
  mels: 64,
  fMin: 50,
  fMax: 8000,
};

/** Mean and standard deviation over time of each band of a log-mel spectrogram: 128 numbers. */
export const logMelScenes = (frontEnd: FrontEnd = baselineFrontEnd): Scenes => {
  const { mels } = frontEnd, extract = logMelOnHost(frontEnd);
  const statistics = (samples: Float32Array): Float32Array => {
    const { frames, values } = extract(samples);
    const scene = new Float32Array(2 * mels);
    for (let band = 0; band < mels; band++) {
      let sum = 0, squares = 0;
      for (let k = band; k < values.length; k += mels) sum += values[k];
      const mean = sum / frames;
      for (let k = band; k < values.length; k += mels) squares += (values[k] - mean) ** 2;
      scene[band] = mean;
      scene[mels + band] = Math.sqrt(squares / frames);
    }
    return scene;
  };
  const key = createHash("sha256").update(JSON.stringify(["log-mel statistics 1", frontEnd]));
  return {
    key: key.digest("hex"),
    width: 2 * mels,
    embed: async function* <T>(clips: AsyncIterable<Clip<T>>): AsyncGenerator<Scene<T>> {
      for await (const { of, samples } of clips) yield { of, scene: statistics(samples) };
    },
    close: () => {},
  };
};
