// Log-mel spectrograms on the CPU, in float64 and rounded once, as defined in models/frontend.ts, for
// recordings that are read ahead of training. They do not depend on the training device, so a cached
// spectrogram serves every device.
import { type FrontEnd, hann, logEpsilon, melFilters } from "../../../models/frontend.ts";
import { type LogMel, reflectedAt } from "./spectrogram.ts";
import { fourier } from "./fft.ts";

/** The spectrogram of mono samples at the front end's rate: 1 + ⌊samples / hop⌋ frames. */
export type Extract = (samples: Float32Array) => LogMel;

/** The extractor of a front end; not reentrant. */
export const logMelOnHost = (front: FrontEnd): Extract => {
  const { fft, hop, mels } = front;
  const bins = Math.floor(fft / 2) + 1, margin = Math.floor(fft / 2);
  const window = hann(front), transform = fourier(fft);
  const re = new Float64Array(fft), im = new Float64Array(fft), power = new Float64Array(2 * bins);
  // The first bin of each band, and its weights.
  const filters = melFilters(front);
  const bands = Array.from({ length: mels }, (_, band) => {
    const weights = Float64Array.from({ length: bins }, (_, bin) => filters[bin * mels + band]);
    const first = Math.max(0, weights.findIndex((weight) => weight > 0));
    return { first, weights: weights.slice(first, weights.findLastIndex((w) => w > 0) + 1) };
  });

  const fill = (into: Float64Array, samples: Float32Array, start: number): void => {
    for (let k = 0; k < fft; k++) into[k] = window[k] * reflectedAt(samples, start + k);
  };
  const write = (values: Float32Array, frame: number, of: Float64Array): void => {
    for (let band = 0; band < mels; band++) {
      const { first, weights } = bands[band];
      let energy = 0;
      for (let k = 0; k < weights.length; k++) energy += weights[k] * of[first + k];
      values[frame * mels + band] = Math.log(energy + logEpsilon);
    }
  };

  return (samples) => {
    const frames = 1 + Math.floor(samples.length / hop);
    const values = new Float32Array(frames * mels);
    // Two real frames are transformed as one complex frame and separated by symmetry.
    for (let frame = 0; frame < frames; frame += 2) {
      fill(re, samples, frame * hop - margin);
      if (frame + 1 < frames) fill(im, samples, (frame + 1) * hop - margin);
      else im.fill(0);
      transform(re, im);
      for (let bin = 0; bin < bins; bin++) {
        const other = bin === 0 ? 0 : fft - bin;
        const a = re[bin], b = im[bin], c = re[other], d = im[other];
        power[bin] = ((a + c) ** 2 + (b - d) ** 2) / 4;
        power[bins + bin] = ((b + d) ** 2 + (a - c) ** 2) / 4;
      }
      write(values, frame, power.subarray(0, bins));
      if (frame + 1 < frames) write(values, frame + 1, power.subarray(bins));
    }
    return { frames, mels, values };
  };
};
