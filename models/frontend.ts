// Log-mel spectrograms as in torchaudio: centred frames with reflected edges, periodic Hann window,
// power spectrum, HTK mel filters without area normalisation, natural logarithm.
import type { Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import {
  add,
  contract,
  gather,
  literal,
  log,
  mean,
  mul,
  named,
  on,
  rename,
  slidingWindows,
  sqrt,
  square,
  sum,
} from "../dsl/ops.ts";

/** Sample rate in Hz, FFT, window and hop in samples, mel bands between two frequencies in Hz. */
export interface FrontEnd {
  readonly sampleRate: number;
  readonly fft: number;
  readonly window: number;
  readonly hop: number;
  readonly mels: number;
  readonly fMin: number;
  readonly fMax: number;
}

/** The published front end. */
export const publishedFrontEnd: FrontEnd = {
  sampleRate: 16000,
  fft: 400,
  window: 400,
  hop: 160,
  mels: 80,
  fMin: 50,
  fMax: 8000,
};

/** Added before the logarithm: the distance from 1 to the next float32. */
export const logEpsilon = 2 ** -23;

/** Samples of clips, from -1 to 1. */
export type Waveform = Tensor<{ batch: number; sample: number }>;
/** Frames of clips, with an axis of bins or bands. */
export type Frames<K extends string> = Tensor<
  { batch: number; time: number } & { [P in K]: number }
>;

/** The periodic Hann window, centred in the FFT frame. */
export const hann = ({ fft, window }: FrontEnd): Float32Array => {
  const start = Math.floor((fft - window) / 2);
  return Float32Array.from({ length: fft }, (_, n) => {
    const k = n - start;
    return k < 0 || k >= window ? 0 : 0.5 - 0.5 * Math.cos(2 * Math.PI * k / window);
  });
};

/** Mel value of a frequency in Hz (HTK scale). */
export const toMel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
/** Frequency in Hz of a mel value (HTK scale). */
export const toHertz = (mel: number): number => 700 * (10 ** (mel / 2595) - 1);

/** Triangular filters, a row per frequency bin and a column per band. */
export const melFilters = ({ sampleRate, fft, mels, fMin, fMax }: FrontEnd): Float32Array => {
  const bins = Math.floor(fft / 2) + 1;
  const low = toMel(fMin), high = toMel(fMax);
  const edges = Array.from(
    { length: mels + 2 },
    (_, k) => toHertz(low + (high - low) * k / (mels + 1)),
  );
  const filters = new Float32Array(bins * mels);
  for (let bin = 0; bin < bins; bin++) {
    const hertz = (sampleRate / 2) * bin / (bins - 1);
    for (let band = 0; band < mels; band++) {
      const rise = (hertz - edges[band]) / (edges[band + 1] - edges[band]);
      const fall = (edges[band + 2] - hertz) / (edges[band + 2] - edges[band + 1]);
      filters[bin * mels + band] = Math.max(0, Math.min(rise, fall));
    }
  }
  return filters;
};

/** Samples with `margin` more at both ends, reflected. */
const reflected = (x: Waveform, margin: number): Waveform => {
  const samples = sizeOf(nodeOf(x).axes, "sample");
  const positions = Uint32Array.from({ length: samples + 2 * margin }, (_, k) => {
    const at = Math.abs(k - margin);
    return at < samples ? at : 2 * (samples - 1) - at;
  });
  const where = literal({ padded: positions.length }, positions);
  return rename(gather(x, "sample", where), "padded", "sample");
};

/** Power spectra of frames that begin every `hop` samples; padding is the caller's. */
export const powerSpectrum = (front: FrontEnd) => (x: Waveform): Frames<"bin"> =>
  named("power spectrum", () => {
    const { fft, hop } = front;
    const bins = Math.floor(fft / 2) + 1;
    const frames = slidingWindows(x, "sample", { out: "time", tap: "tap", size: fft }, {
      stride: hop,
    });
    const shape = hann(front);
    const table = (wave: (angle: number) => number) =>
      literal(
        { tap: fft, bin: bins },
        Float32Array.from({ length: fft * bins }, (_, k) => {
          const tap = Math.floor(k / bins), bin = k % bins;
          return shape[tap] * wave(2 * Math.PI * ((tap * bin) % fft) / fft);
        }),
      );
    const real = contract(frames, table(Math.cos), "tap");
    const imaginary = contract(frames, table(Math.sin), "tap");
    return add(square(real), square(imaginary));
  });

/** Energies of mel bands. */
export const melEnergies = (front: FrontEnd) => (power: Frames<"bin">): Frames<"mel"> => {
  const bins = Math.floor(front.fft / 2) + 1;
  const filters = literal({ bin: bins, mel: front.mels }, melFilters(front));
  return contract(power, filters, "bin");
};

/** Log-mel spectrograms of samples that the caller has padded. */
export const logMelOfFrames = (front: FrontEnd) => (x: Waveform): Frames<"mel"> =>
  named("log-mel", () => log(add(melEnergies(front)(powerSpectrum(front)(x)), logEpsilon)));

/** Power spectra of whole clips: centred frames, edges reflected. */
export const power = (front: FrontEnd) => (x: Waveform): Frames<"bin"> =>
  powerSpectrum(front)(reflected(x, Math.floor(front.fft / 2)));

/** Energies of the mel bands of whole clips. */
export const melPower = (front: FrontEnd) => (x: Waveform): Frames<"mel"> =>
  melEnergies(front)(power(front)(x));

/** Log-mel spectrograms of whole clips: 1 + ⌊samples / hop⌋ frames, centred, edges reflected. */
export const logMel = (front: FrontEnd) => (x: Waveform): Frames<"mel"> =>
  logMelOfFrames(front)(reflected(x, Math.floor(front.fft / 2)));

/**
 * (x - mean) / (standard deviation + 1e-8) over a whole clip. `ddof` 0 divides the squares by their
 * number (published training), 1 by one less (published inference).
 */
export const standardise = (x: Frames<"mel">, ddof: 0 | 1): Frames<"mel"> => {
  const { axes } = nodeOf(x);
  const n = sizeOf(axes, "time") * sizeOf(axes, "mel");
  const centred = on.sub(x, mean(x, ["time", "mel"]));
  const variance = mul(sum(square(centred), ["time", "mel"]), 1 / (n - ddof));
  return on.div(centred, add(sqrt(variance), 1e-8));
};
