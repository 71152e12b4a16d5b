// Decimation: resamples audio from a multiple of a rate to that rate by a low-pass filter, of which only
// every n-th output is computed.

// Half the filter's length, in samples of the result.
const reach = 64;

// Cutoff and window relative to half the new rate: the filter passes frequencies below 0.9 of it and
// attenuates those above it by about 100 dB (Kaiser window).
const middle = 0.95, beta = 10;

/**
 * Every `factor`-th sample after a low-pass filter at half the new rate. The length is rounded; the
 * signal is taken as 0 outside.
 */
export const decimate = (samples: Float32Array, factor: number): Float32Array => {
  if (factor === 1) return samples;
  const half = reach * factor, taps = filter(factor);
  const length = Math.round(samples.length / factor);
  const padded = new Float32Array(samples.length + 2 * half + factor);
  padded.set(samples, half);
  const result = new Float32Array(length);
  for (let k = 0; k < length; k++) {
    const at = half + k * factor;
    let sum = taps[0] * padded[at];
    for (let j = 1; j < half; j++) sum += taps[j] * (padded[at - j] + padded[at + j]);
    result[k] = sum;
  }
  return result;
};

const filters = new Map<number, Float64Array>();

// One half of the symmetric filter, from its centre; normalised to unit gain at frequency 0.
function filter(factor: number): Float64Array {
  const made = filters.get(factor);
  if (made !== undefined) return made;
  const half = reach * factor;
  const taps = Float64Array.from({ length: half }, (_, j) => {
    const x = Math.PI * middle * j / factor;
    const window = bessel(beta * Math.sqrt(1 - (j / half) ** 2)) / bessel(beta);
    return (j === 0 ? 1 : Math.sin(x) / x) * window;
  });
  const sum = taps.reduce((sum, tap, j) => sum + (j === 0 ? tap : 2 * tap), 0);
  const scaled = taps.map((tap) => tap / sum);
  filters.set(factor, scaled);
  return scaled;
}

// The modified Bessel function of the first kind of order 0, by its series.
function bessel(x: number): number {
  let term = 1, sum = 1;
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
