// Environmental sounds of the texture task, which are not in the synthesised corpus.
import { band, burst, falling, period, rate, strike, swell, tone, wander } from "./voices.ts";
import type { Scene } from "./scenes.ts";

// Fire: a low roar and crackles of all sizes.
const fire: Scene = (length, dice) => {
  const out = new Float32Array(length), seconds = length / rate;
  const roar = wander(dice.between(2, 5), dice);
  band(out, dice.noise(), (part) => ({
    hertz: 220 * 2 ** (0.4 * roar(part)),
    sharpness: 0.7,
    level: 0.25 + 0.1 * roar(part),
  }));
  const crackles = dice.scaled(8, 40) * seconds;
  for (let i = 0; i < crackles; i++) {
    const hertz = dice.scaled(900, 6500), level = dice.scaled(0.05, 1);
    burst(out, dice.between(0, seconds), dice.scaled(0.002, 0.03), hertz, 0.8, level, dice.noise());
  }
  return out;
};

// Surf: waves that swell slowly, break and recede.
const surf: Scene = (length, dice) => {
  const out = new Float32Array(length), seconds = length / rate;
  const every = dice.between(1.2, 3), shift = dice.between(0, 1), deep = dice.scaled(200, 500);
  const wave = (part: number): number => {
    const phase = (part * seconds / every + shift) % 1;
    return phase < 0.4 ? (phase / 0.4) ** 2 : Math.exp(-5 * (phase - 0.4));
  };
  band(
    out,
    dice.noise(),
    (part) => ({ hertz: deep, sharpness: 0.5, level: 0.2 + 0.5 * wave(part) }),
  );
  band(out, dice.noise(), (part) => ({
    hertz: 1200 + 2500 * wave(part),
    sharpness: 0.5,
    level: 0.05 + 0.6 * wave(part) ** 1.5,
  }));
  return out;
};

// Crickets: chirps of a few pulses at one high pitch each, near and far.
const crickets: Scene = (length, dice) => {
  const out = new Float32Array(length), seconds = length / rate;
  for (let one = dice.whole(1, 4); one > 0; one--) {
    const hertz = dice.scaled(2500, 6500), level = dice.scaled(0.2, 1);
    const pulses = dice.whole(2, 6), pulse = dice.between(0.012, 0.03);
    const every = pulses * pulse * 1.4 + dice.between(0.05, 0.4);
    const colour = period([1, 0.15], hertz);
    for (let start = dice.between(0, every); start < seconds; start += every) {
      for (let k = 0; k < pulses; k++) {
        tone(
          out,
          start + k * pulse * 1.4,
          pulse,
          colour,
          () => hertz,
          (part) => level * swell(0.3)(part),
        );
      }
    }
  }
  return out;
};

// Bubbles: rising pitches over running water.
const bubbles: Scene = (length, dice) => {
  const out = new Float32Array(length), seconds = length / rate;
  const flow = wander(dice.between(3, 8), dice), hertz = dice.scaled(500, 1500);
  band(out, dice.noise(), (part) => ({
    hertz: hertz * 2 ** (0.5 * flow(part)),
    sharpness: 1,
    level: 0.08 + 0.05 * flow(part),
  }));
  const count = dice.scaled(6, 30) * seconds, colour = period(falling(2, 3), 4000);
  for (let i = 0; i < count; i++) {
    const start = dice.between(0, seconds), low = dice.scaled(350, 1600);
    const rise = dice.between(0.2, 1), level = dice.scaled(0.1, 1);
    tone(
      out,
      start,
      dice.between(0.03, 0.12),
      colour,
      (part) => low * 2 ** (rise * part),
      (part) => level * Math.min(1, 12 * part) * (1 - part) ** 2,
    );
    strike(out, start, 0.01, low * 3, [1], 0.1 * level);
  }
  return out;
};

/** Every kind by its name. */
export const textures: Readonly<Record<string, Scene>> = { fire, surf, crickets, bubbles };
