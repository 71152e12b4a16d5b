// The elements of synthesised sounds: each adds one note, hit or noise to a signal from a given sample
// on. Pitches are in Hz, lengths in seconds.
import type { Dice } from "./random.ts";

/** Sample rate in Hz. */
export const rate = 16000;

/** A curve over time: its value at a fraction, 0 to 1, of the whole length. */
export type Curve = (part: number) => number;

const samples = (seconds: number): number => Math.round(seconds * rate);

// The first sample of a segment, and how many of its samples lie in the signal.
function within(out: Float32Array, start: number, seconds: number): readonly [number, number] {
  const first = samples(start);
  return [first, Math.max(0, Math.min(samples(seconds), out.length - first))];
}

// The factor per sample by which a level falls to a thousandth in the given seconds.
const decay = (seconds: number): number => Math.exp(-6.9 / (seconds * rate));

/** A level that rises and falls over the fraction `edge` of the length at each end. */
export const swell = (edge: number): Curve => (part) =>
  Math.sin(Math.PI / 2 * Math.min(1, part / edge, (1 - part) / edge)) ** 2;

const periodSize = 1024;
const sine = Float32Array.from(
  { length: periodSize },
  (_, i) => Math.sin(2 * Math.PI * i / periodSize),
);

/**
 * One period of a sound from the weights of its partials, the fundamental first. Partials that would
 * alias at the highest pitch played are left out.
 */
export function period(weights: readonly number[], highest: number): Float32Array {
  const table = new Float32Array(periodSize + 1);
  for (const [k, weight] of weights.entries()) {
    if ((k + 1) * highest > 7600) break;
    // Different phases, so that the partials do not add up to a click.
    const shift = k * k * 37;
    for (let i = 0; i < periodSize; i++) {
      table[i] += weight * sine[((k + 1) * i + shift) & (periodSize - 1)];
    }
  }
  table[periodSize] = table[0];
  return table;
}

/** One period of a sine. */
export const pure: Float32Array = period([1], 0);

/** Weights of partials that fall by a power of their index. */
export const falling = (partials: number, power: number): readonly number[] =>
  Array.from({ length: partials }, (_, k) => (k + 1) ** -power);

/** A sustained tone with the timbre of one period, and pitch and level curves. */
export function tone(
  out: Float32Array,
  start: number,
  seconds: number,
  colour: Float32Array,
  pitch: Curve,
  level: Curve,
): void {
  const [first, length] = within(out, start, seconds);
  const block = 32;
  let phase = 0, loud = level(0);
  for (let b = 0; b < length; b += block) {
    const step = pitch(b / length) * periodSize / rate;
    const next = level(Math.min(1, (b + block) / length));
    const rise = (next - loud) / block;
    for (let i = b, end = Math.min(length, b + block); i < end; i++) {
      const whole = phase | 0;
      const low = colour[whole];
      out[first + i] += loud * (low + (colour[whole + 1] - low) * (phase - whole));
      loud += rise;
      phase += step;
      while (phase >= periodSize) phase -= periodSize;
    }
    loud = next;
  }
}

/** A plucked string (Karplus-Strong): noise in a delay line that is smoothed on every pass. */
export function pluck(
  out: Float32Array,
  start: number,
  seconds: number,
  hertz: number,
  brightness: number,
  level: number,
  noise: (n: number) => number,
): void {
  const [first, length] = within(out, start, seconds);
  // The smoothing [s, 1 - s] delays by 1 - s; the rest of the period is whole samples and a fraction.
  const s = 0.5 + 0.45 * brightness;
  const turn = rate / hertz - (1 - s);
  const whole = Math.floor(turn);
  const part = turn - whole;
  const [a, b, c] = [s * (1 - part), s * part + (1 - s) * (1 - part), (1 - s) * part];
  const keep = 0.001 ** (1 / (hertz * seconds)); // a thousandth after all turns
  const string = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const old = i - whole;
    const back = old < 2 ? 0 : keep * (a * string[old] + b * string[old - 1] + c * string[old - 2]);
    string[i] = back + (i < whole ? noise(i) : 0);
    // The last 5 ms fade.
    out[first + i] += level * string[i] * Math.min(1, (length - i) / 80);
  }
}

/** A bell by frequency modulation with a decaying index. */
export function bell(
  out: Float32Array,
  start: number,
  seconds: number,
  hertz: number,
  ratio: number,
  index: number,
  level: number,
): void {
  const [first, length] = within(out, start, seconds);
  const [fade, dull] = [decay(seconds), decay(seconds * 0.6)];
  const [step, moving] = [2 * Math.PI * hertz / rate, 2 * Math.PI * hertz * ratio / rate];
  let loud = level, deep = index;
  for (let i = 0; i < length; i++, loud *= fade, deep *= dull) {
    const attack = Math.min(1, i / 40);
    out[first + i] += attack * loud * Math.sin(step * i + deep * Math.sin(moving * i));
  }
}

/** A struck body: damped sines at multiples of a pitch, the higher ones shorter. */
export function strike(
  out: Float32Array,
  start: number,
  seconds: number,
  hertz: number,
  modes: readonly number[],
  level: number,
): void {
  for (const [k, mode] of modes.entries()) {
    if (hertz * mode > 7600) continue;
    const [first, length] = within(out, start, seconds / (1 + k / 2));
    const fade = decay(seconds / (1 + k / 2));
    // A damped sine is a two-term recurrence, which avoids a call per sample.
    const turn = 2 * Math.PI * hertz * mode / rate;
    const [c1, c2] = [2 * fade * Math.cos(turn), -fade * fade];
    let before = 0, now = Math.sin(turn) * level / (1 + k / 2);
    for (let i = 0; i < length; i++) {
      out[first + i] += now;
      [before, now] = [now, c1 * now + c2 * before];
    }
  }
}

/** Decaying noise around a pitch: a snare, a hi-hat, a drop. */
export function burst(
  out: Float32Array,
  start: number,
  seconds: number,
  hertz: number,
  sharpness: number,
  level: number,
  noise: (n: number) => number,
): void {
  const [first, length] = within(out, start, seconds);
  const { tune, pass } = resonator();
  tune(hertz, sharpness);
  const fade = decay(seconds);
  let loud = level;
  for (let i = 0; i < length; i++, loud *= fade) out[first + i] += loud * pass(noise(i));
}

// A band-pass filter.
interface Resonator {
  readonly tune: (hertz: number, sharpness: number) => void;
  readonly pass: (sample: number) => number;
}

function resonator(): Resonator {
  let gain = 0, b1 = 0, b2 = 0, x1 = 0, x2 = 0, y1 = 0, y2 = 0;
  return {
    tune: (hertz, sharpness) => {
      const turn = 2 * Math.PI * Math.min(hertz, 7600) / rate;
      const alpha = Math.sin(turn) / (2 * sharpness);
      gain = alpha / (1 + alpha);
      b1 = 2 * Math.cos(turn) / (1 + alpha);
      b2 = (1 - alpha) / (1 + alpha);
    },
    pass: (x) => {
      const y = gain * (x - x2) + b1 * y1 - b2 * y2;
      x2 = x1;
      x1 = x;
      y2 = y1;
      y1 = y;
      return y;
    },
  };
}

/** Parameters of a moving filter at one moment. */
export interface Band {
  /** Centre frequency. */
  readonly hertz: number;
  /** Sharpness of the resonance, from about 0.5 to 30. */
  readonly sharpness: number;
  /** Gain. */
  readonly level: number;
}

/** A source through one band-pass filter whose frequency, sharpness and level follow curves. */
export function band(
  out: Float32Array,
  source: (n: number) => number,
  course: (part: number) => Band,
): void {
  const block = 64;
  const { tune, pass } = resonator();
  let loud = course(0).level;
  for (let start = 0; start < out.length; start += block) {
    const { hertz, sharpness, level } = course(start / out.length);
    tune(hertz, sharpness);
    const rise = (level - loud) / block;
    for (let i = start, end = Math.min(out.length, start + block); i < end; i++) {
      loud += rise;
      out[i] += loud * pass(source(i));
    }
    loud = level;
  }
}

/** A smooth random curve from -1 to 1 with about `turns` turns. */
export function wander(turns: number, dice: Dice): Curve {
  const waves = [1, 1.7, 2.9].map((speed) => ({
    speed: turns * speed * Math.PI,
    shift: dice.between(0, 2 * Math.PI),
  }));
  return (part) =>
    waves.reduce((sum, { speed, shift }) => sum + Math.sin(speed * part + shift), 0) / 3;
}
