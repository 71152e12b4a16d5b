// Effects on the sounds of synthetic tasks: the response of a room or microphone, background noise,
// level. Without them a task could be solved from exact sample values.
import type { Dice } from "./random.ts";

/** Background noise: its level relative to the sound in dB, from `least` to `most`. */
export interface Noise {
  readonly least: number;
  readonly most: number;
}

/** A sound as if recorded: filtered, with noise, and with a peak from 0.1 to 0.9. */
export function recorded(sound: Float32Array, noise: Noise, dice: Dice): Float32Array {
  const out = new Float32Array(sound.length);
  // A shelf filter: up to ±6 dB below or above about 1 kHz.
  const tilt = dice.between(-0.5, 0.5), smooth = dice.between(0.2, 0.45);
  let low = 0, power = 0, loudest = 0;
  for (let i = 0; i < out.length; i++) {
    low += smooth * (sound[i] - low);
    out[i] = sound[i] + tilt * (sound[i] - 2 * low);
    power += out[i] ** 2;
    loudest = Math.max(loudest, Math.abs(out[i]));
  }
  // Silence becomes noise alone.
  const root = Math.sqrt(power / out.length) || 0.05;
  const hiss = dice.noise(), colour = dice.between(0.05, 1);
  const gain = root * 10 ** (dice.between(noise.least, noise.most) / 20);
  // Standard deviation of uniform noise in -1 to 1 after smoothing by `colour`.
  const spread = Math.sqrt(colour / (2 - colour) / 3);
  let behind = 0;
  for (let i = 0; i < out.length; i++) {
    behind += colour * (hiss(i) - behind);
    out[i] += gain / spread * behind;
    loudest = Math.max(loudest, Math.abs(out[i]));
  }
  const level = dice.scaled(0.1, 0.9) / loudest;
  for (let i = 0; i < out.length; i++) out[i] *= level;
  return out;
}
