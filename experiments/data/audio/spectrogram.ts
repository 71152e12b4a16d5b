// Log-mel spectrograms in memory: standardised over a clip, and cropped to a model's length.

/** A spectrogram: `values[frame * mels + band]`. */
export interface LogMel {
  readonly frames: number;
  readonly mels: number;
  readonly values: Float32Array;
}

/** Normalised to mean 0 and population standard deviation 1 over the clip, as in published training. */
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
