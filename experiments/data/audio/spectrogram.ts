// Log-mel spectrograms of recordings, computed on the device: clips are cut into pieces with the
// same number of frames, so that one program serves clips of every length.
import type { Backend } from "../../../backends/backend.ts";
import { input } from "../../../dsl/ops.ts";
import { type FrontEnd, logMelOfFrames } from "../../../models/frontend.ts";

/** A spectrogram: `values[frame * mels + band]`. */
export interface LogMel {
  readonly frames: number;
  readonly mels: number;
  readonly values: Float32Array;
}

/** Frames of a stretch, and stretches in a batch. */
const stretch = 64;
const batch: number = 16;

/** A clip with `margin` more samples on both sides, reflected at its ends. */
const reflected = (samples: Float32Array, margin: number): Float32Array => {
  const last = samples.length - 1;
  return Float32Array.from({ length: samples.length + 2 * margin }, (_, k) => {
    const at = Math.abs(k - margin);
    const folded = at <= last ? at : 2 * last - at;
    // Clips shorter than the margin hold no more to reflect; the rest is silence.
    return samples[folded] ?? 0;
  });
};

/** The spectrograms of clips, in order. `onProgress` hears how many stretches of how many are done. */
export const logMels = async (
  backend: Backend,
  front: FrontEnd,
  clips: readonly Float32Array[],
  onProgress: (done: number, total: number) => void = () => {},
): Promise<readonly LogMel[]> => {
  const { fft, hop, mels } = front;
  const length = (stretch - 1) * hop + fft;
  const x = input("samples", { batch, sample: length });
  const machine = await backend.open({
    main: { outputs: { logs: { of: logMelOfFrames(front)(x), order: ["batch", "time", "mel"] } } },
  });
  try {
    const results = clips.map((samples) => {
      const frames = 1 + Math.floor(samples.length / hop);
      return { frames, mels, values: new Float32Array(frames * mels) };
    });
    const jobs = results.flatMap(({ frames }, clip) =>
      Array.from({ length: Math.ceil(frames / stretch) }, (_, k) => ({ clip, first: k * stretch }))
    );
    const padded = new Map<number, Float32Array>();
    for (let start = 0; start < jobs.length; start += batch) {
      const now = jobs.slice(start, start + batch);
      const samples = new Float32Array(batch * length);
      now.forEach(({ clip, first }, k) => {
        if (!padded.has(clip)) {
          padded.clear();
          padded.set(clip, reflected(clips[clip], fft / 2));
        }
        samples.set(padded.get(clip)!.subarray(first * hop, first * hop + length), k * length);
      });
      const { logs } = await machine.run("main", { samples });
      now.forEach(({ clip, first }, k) => {
        const { frames, values } = results[clip];
        const count = Math.min(stretch, frames - first);
        const from = k * stretch * mels;
        values.set((logs as Float32Array).subarray(from, from + count * mels), first * mels);
      });
      onProgress(Math.min(start + batch, jobs.length), jobs.length);
    }
    return results;
  } finally {
    machine.close();
  }
};

/** A clip's spectrogram with mean 0 and population standard deviation 1, as published training does. */
export const standardised = ({ frames, mels, values }: LogMel): LogMel => {
  let total = 0;
  for (const value of values) total += value;
  const mean = total / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  const deviation = Math.sqrt(squares / values.length) + 1e-8;
  return { frames, mels, values: values.map((value) => (value - mean) / deviation) };
};

/** `length` frames from `start`; a clip that is too short is repeated along time. */
export const crop = (
  { frames, mels, values }: LogMel,
  start: number,
  length: number,
): Float32Array => {
  const result = new Float32Array(length * mels);
  for (let k = 0; k < length; k++) {
    const frame = (start + k) % frames;
    result.set(values.subarray(frame * mels, (frame + 1) * mels), k * mels);
  }
  return result;
};
