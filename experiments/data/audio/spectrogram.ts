// Log-mel spectrograms in memory: standardised over a clip, and cropped to a model's length.

/** A spectrogram: `values[frame * mels + band]`. */
export interface LogMel {
  readonly frames: number;
  readonly mels: number;
  readonly values: Float32Array;
}

/** Sample `k` of a clip whose ends are reflected; silence where a short clip has none to reflect. */
export const reflectedAt = (samples: Float32Array, k: number): number => {
  const at = Math.abs(k), last = samples.length - 1;
  return samples[at <= last ? at : 2 * last - at] ?? 0;
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

/** `length` frames from `start`; a shorter clip is repeated along time. */
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
