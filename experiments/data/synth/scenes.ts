// The kinds of sound in the synthesised corpus. Each follows a rule (a key, a beat, a repeated phrase, a
// voice), so that a hidden part can be predicted from the rest.
import type { Dice } from "./random.ts";
import {
  band,
  bell,
  burst,
  type Curve,
  falling,
  period,
  pluck,
  pure,
  rate,
  strike,
  swell,
  tone,
  wander,
} from "./voices.ts";

/** Makes a sound of `length` samples, at any level. */
export type Scene = (length: number, dice: Dice) => Float32Array;

const scales = [
  [0, 2, 4, 7, 9], // pentatonic
  [0, 2, 4, 5, 7, 9, 11], // major
  [0, 2, 3, 5, 7, 8, 10], // minor
];

// The pitch of a degree of a scale, continued through the octaves.
const step = (root: number, scale: readonly number[], degree: number): number => {
  const octave = Math.floor(degree / scale.length);
  return root * 2 ** (octave + scale[degree - octave * scale.length] / 12);
};

// A melody that walks up and down a scale.
function walk(notes: number, { whole, pick }: Dice): readonly number[] {
  const degrees = [whole(0, 7)];
  while (degrees.length < notes) {
    const next = degrees[degrees.length - 1] + pick([-3, -2, -1, -1, 0, 1, 1, 2, 4]);
    degrees.push(Math.max(-2, Math.min(12, next)));
  }
  return degrees;
}

// Beat positions to the end of a sound, after a short rest.
function beats(length: number, every: number, { between }: Dice): readonly number[] {
  const first = between(0, 0.25);
  return Array.from(
    { length: Math.max(1, Math.ceil((length / rate - first) / every)) },
    (_, i) => first + i * every,
  );
}

const flat = (level: number): Curve => () => level;

// A repeated figure on a plucked string, single notes or chords.
const plucks: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const every = dice.between(0.12, 0.4);
  const root = dice.scaled(90, 330);
  const scale = dice.pick(scales);
  const figure = walk(dice.whole(3, 6), dice);
  const chords = dice.chance(0.4);
  const brightness = dice.between(0, 1);
  const ring = dice.between(0.5, 2);
  for (const [i, start] of beats(length, every, dice).entries()) {
    const degree = figure[i % figure.length];
    const notes = chords && i % figure.length === 0 ? [degree, degree + 2, degree + 4] : [degree];
    for (const note of notes) {
      const level = dice.between(0.6, 1) / notes.length;
      pluck(out, start, ring, step(root, scale, note), brightness, level, dice.noise());
    }
  }
  return out;
};

// Sustained chords in sequence.
const chords: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const seconds = dice.between(0.5, 1.6);
  const root = dice.scaled(80, 260);
  const scale = dice.pick(scales.slice(1));
  const weights = falling(dice.whole(4, 16), dice.between(0.7, 2));
  const trembling = dice.chance(0.4) ? dice.between(3, 9) : 0;
  const edge = dice.between(0.03, 0.4);
  for (const start of beats(length, seconds, dice)) {
    const degree = dice.whole(0, 6);
    for (const note of [degree - scale.length, degree, degree + 2, degree + 4]) {
      const hertz = step(root, scale, note);
      const level: Curve = (part) =>
        swell(edge)(part) * (trembling ? 0.7 + 0.3 * Math.cos(2 * Math.PI * trembling * part) : 1);
      tone(out, start, seconds * 1.05, period(weights, hertz), flat(hertz), level);
    }
  }
  return out;
};

// A melody of one voice with vibrato and glides between notes.
const melody: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const root = dice.scaled(160, 600);
  const scale = dice.pick(scales);
  const weights = falling(dice.whole(2, 14), dice.between(0.5, 2)).map((weight, k) =>
    weight * (k % 2 ? dice.between(0.1, 1) : 1)
  );
  const colour = period(weights, step(root, scale, 12));
  const every = dice.between(0.2, 0.5);
  const vibrato = dice.between(4.5, 7);
  const depth = dice.between(0.003, 0.02);
  const starts = beats(length, every, dice);
  const tune = walk(starts.length, dice);
  let before = step(root, scale, tune[0]);
  for (const [i, start] of starts.entries()) {
    if (i > 0 && dice.chance(0.12)) continue; // a rest
    const [from, to] = [before, step(root, scale, tune[i])];
    const pitch: Curve = (part) =>
      to * (from / to) ** Math.exp(-12 * part) *
      (1 + depth * Math.min(1, 3 * part) * Math.sin(2 * Math.PI * vibrato * every * part));
    tone(out, start, every * 0.97, colour, pitch, swell(0.12));
    before = to;
  }
  return out;
};

// Bells, each struck at random times.
const bells: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const root = dice.scaled(200, 900);
  const scale = dice.pick(scales);
  const ratio = dice.pick([0.5, 1.41, 2, 2.76, 3.5]);
  const index = dice.between(1, 6);
  const ring = dice.between(0.6, 2.5);
  for (const start of beats(length, dice.between(0.25, 0.9), dice)) {
    const late = start + dice.between(0, 0.03);
    const hertz = step(root, scale, dice.whole(0, 8));
    bell(out, late, ring, hertz, ratio, index, dice.between(0.4, 1));
  }
  return out;
};

// A drum pattern repeated every bar.
const drums: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const every = 60 / dice.between(85, 160) / 4;
  const bar = dice.pick([8, 12, 16]);
  const [deep, ring] = [dice.between(42, 70), dice.between(0.15, 0.5)];
  const [body, rattle] = [dice.between(150, 260), dice.between(1500, 3500)];
  const [hiss, short] = [dice.between(5000, 7500), dice.between(0.03, 0.12)];
  const kicks = Array.from({ length: bar }, (_, i) => i === 0 || dice.chance(i % 2 ? 0.12 : 0.25));
  const snares = Array.from({ length: bar }, (_, i) => i % 8 === 4 || dice.chance(0.07));
  const hats = dice.pick([1, 2, 2, 4]);
  for (const [i, start] of beats(length, every, dice).entries()) {
    const place = i % bar;
    if (kicks[place]) {
      const fall: Curve = (part) => deep * (1 + 4 * Math.exp(-25 * part));
      tone(out, start, ring, pure, fall, (part) => (1 - part) ** 2);
      burst(out, start, 0.02, 2500, 0.7, 0.5, dice.noise());
    }
    if (snares[place]) {
      burst(out, start, 0.22, rattle, 0.5, 1.2, dice.noise());
      strike(out, start, 0.15, body, [1, 1.6], 0.4);
    }
    if (i % hats === 0) {
      const open = place === bar - 2;
      const level = place % 4 === 0 ? 0.7 : 0.45;
      burst(out, start, open ? 4 * short : short, hiss, 0.8, level, dice.noise());
    }
  }
  return out;
};

// Repeated pitch sweeps.
const sweeps: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const seconds = dice.scaled(0.15, 1.5);
  const [low, high] = [dice.scaled(80, 700), dice.scaled(1200, 7000)];
  const shape = dice.pick<Curve>([
    (part) => part,
    (part) => 1 - part,
    (part) => 1 - Math.abs(2 * part - 1),
    (part) => (1 - Math.cos(4 * Math.PI * part)) / 2,
  ]);
  const even = dice.chance(0.3); // in Hz; else in octaves
  const pitch: Curve = (part) =>
    even ? low + (high - low) * shape(part) : low * (high / low) ** shape(part);
  const colour = dice.chance(0.5) ? pure : period(falling(4, 1), high);
  const edge = dice.between(0.02, 0.3);
  for (const start of beats(length, seconds + dice.between(0, 0.4), dice)) {
    tone(out, start, seconds, colour, pitch, swell(edge));
  }
  return out;
};

// A bird's phrase of a few short calls, repeated after a pause.
const birds: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const home = dice.scaled(1800, 4800);
  const colour = period([1, dice.between(0, 0.3)], home * 1.6);
  const calls = Array.from({ length: dice.whole(1, 5) }, () => {
    const [rise, bow] = [dice.between(-0.6, 0.6), dice.between(-0.5, 0.5)];
    const trill = dice.chance(0.35) ? dice.between(15, 45) : 0;
    const base = home * dice.scaled(0.75, 1.3);
    const seconds = dice.between(0.05, 0.28);
    const pitch: Curve = (part) =>
      base * 2 ** (rise * (part - 0.5) + bow * Math.sin(Math.PI * part) +
          (trill ? 0.12 * Math.sin(2 * Math.PI * trill * seconds * part) : 0));
    return { seconds, pitch, gap: dice.between(0.02, 0.12), times: dice.pick([1, 1, 2, 3]) };
  });
  const pause = dice.between(0.2, 0.8);
  for (let start = dice.between(0, 0.4); start * rate < length; start += pause) {
    for (const { seconds, pitch, gap, times } of calls) {
      for (let i = 0; i < times; i++, start += seconds + gap) {
        tone(out, start, seconds, colour, pitch, swell(0.3));
      }
    }
  }
  return out;
};

// Formants of vowels in Hz for a long vocal tract.
const vowels = [
  [730, 1090, 2440], // a
  [530, 1840, 2480], // e
  [270, 2290, 3010], // i
  [570, 840, 2410], // o
  [300, 870, 2240], // u
  [490, 1350, 1690], // er
];

// A voice with syllables: vowels through moving formants, fricatives and plosives.
const voice: Scene = (length, dice) => {
  const home = dice.scaled(90, 260);
  const tract = 0.8 + 0.35 * Math.min(1, home / 220) + dice.between(-0.05, 0.05);
  const syllable = dice.between(0.14, 0.3);
  const starts = beats(length, syllable, dice);
  const phrase = dice.whole(3, 8); // then a breath
  const source = new Float32Array(length);
  const out = new Float32Array(length);
  const spoken = starts.map(() => dice.pick(vowels));
  const accents = starts.map(() => dice.between(-0.1, 0.18));
  const colour = period(falling(60, 1), home * 1.6);
  for (const [i, start] of starts.entries()) {
    const place = i % (phrase + 1);
    if (place === phrase) continue;
    const consonant = dice.pick(["none", "hiss", "hiss", "strike"]);
    const onset = consonant === "none" ? 0 : 0.06;
    // The pitch falls over a phrase and rises on accented syllables.
    const fall = 1.15 - 0.3 * place / phrase;
    const pitch: Curve = (part) =>
      home * (fall + accents[i] * Math.sin(Math.PI * part)) *
      (1 + 0.01 * Math.sin(2 * Math.PI * 30 * syllable * part));
    tone(source, start + onset, syllable - onset, colour, pitch, swell(0.25));
    if (consonant === "hiss") {
      const [hertz, level] = [dice.pick([2500, 4500, 6500]), dice.between(0.1, 0.3)];
      burst(out, start, 0.12, hertz, 1.5, level, dice.noise());
    } else if (consonant === "strike") {
      burst(out, start + 0.04, 0.03, dice.pick([900, 1800, 3500]), 1, 0.4, dice.noise());
    }
  }
  // The formants glide continuously from one vowel to the next.
  const formant = (index: number): Curve => (part) => {
    const time = (part * length / rate - starts[0]) / syllable;
    const i = Math.max(0, Math.min(spoken.length - 1, Math.floor(time)));
    const next = spoken[Math.min(spoken.length - 1, i + 1)];
    const moved = Math.max(0, Math.min(1, 2 * (time - i) - 1)) ** 2;
    return tract * (spoken[i][index] + (next[index] - spoken[i][index]) * moved);
  };
  for (const [index, level] of [1, 0.6, 0.35].entries()) {
    const hertz = formant(index);
    band(
      out,
      (n) => source[n],
      (part) => ({ hertz: hertz(part), sharpness: 5 + 3 * index, level }),
    );
  }
  return out;
};

// An engine with varying speed: firings, their resonances, and noise in step with them.
const engine: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const idle = dice.scaled(22, 75);
  const turning = wander(dice.between(0.5, 2), dice);
  const range = dice.between(0.1, 0.8);
  const speed: Curve = (part) => idle * (1 + range * (0.5 + 0.5 * turning(part)));
  const weights = falling(60, dice.between(0.5, 1.1)).map((weight, k) =>
    weight * (k % 4 === 3 ? 2 : dice.between(0.2, 1))
  );
  const firing = new Float32Array(length);
  tone(firing, 0, length / rate, period(weights, idle * (1 + range)), speed, flat(1));
  const noise = dice.noise();
  const rough = dice.between(0.1, 0.5);
  const source = (n: number) => firing[n] + rough * Math.max(0, firing[n]) * noise(n);
  for (const [low, high, level] of [[60, 300, 1], [400, 1200, 0.7], [1500, 4500, 0.4]]) {
    const hertz = dice.scaled(low, high);
    band(out, source, (part) => ({
      hertz: hertz * (1 + 0.2 * turning(part)),
      sharpness: 1,
      level: level * (0.6 + 0.4 * speed(part) / idle),
    }));
  }
  return out;
};

// Wind: bands of noise whose levels follow the gusts.
const wind: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const gust = wander(dice.between(1, 4), dice);
  const flutter = wander(dice.between(6, 14), dice);
  const [hertz, sharpness] = [dice.scaled(250, 900), dice.between(1, 6)];
  const whistle = dice.chance(0.5) ? dice.between(0.3, 1) : 0;
  const force: Curve = (part) => (0.5 + 0.5 * gust(part)) ** 2 * (1 + 0.3 * flutter(part)) + 0.03;
  band(out, dice.noise(), (part) => ({
    hertz: hertz * 2 ** (0.8 * gust(part)),
    sharpness,
    level: force(part),
  }));
  band(out, dice.noise(), (part) => ({ hertz: 120, sharpness: 0.7, level: 0.5 * force(part) }));
  band(out, dice.noise(), (part) => ({
    hertz: 3.1 * hertz * 2 ** (0.5 * gust(part)),
    sharpness: 25,
    level: 2 * whistle * force(part) ** 2,
  }));
  return out;
};

// Rain: a steady hiss and drops that ring on impact.
const rain: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const thick = wander(dice.between(0.5, 2), dice);
  const hertz = dice.scaled(2000, 5500);
  const hiss = dice.between(0.05, 0.35);
  band(
    out,
    dice.noise(),
    (part) => ({ hertz, sharpness: 0.5, level: hiss * (1 + 0.5 * thick(part)) }),
  );
  const [low, high] = [dice.scaled(400, 1200), dice.scaled(2500, 6000)];
  const drops = dice.scaled(6, 60) * length / rate;
  for (let i = 0; i < drops; i++) {
    const start = dice.between(0, length / rate);
    strike(out, start, dice.between(0.02, 0.09), dice.scaled(low, high), [1], dice.scaled(0.1, 1));
  }
  return out;
};

// An alarm: beeps, a ring of two pitches, or a siren.
const alarms: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const hertz = dice.scaled(350, 2200);
  const other = hertz * dice.pick([1.122, 1.26, 1.335, 1.5]);
  const colour = period(falling(dice.pick([1, 3, 9]), 1), 2 * other);
  const every = dice.between(0.12, 0.6);
  const kind = dice.pick(["beeps", "two tones", "ringing", "siren"]);
  const group = dice.whole(2, 5);
  const speed = dice.between(0.6, 4);
  if (kind === "siren") {
    const seconds = length / rate;
    const pitch: Curve = (part) =>
      hertz * (other / hertz) ** (1 - 2 * Math.abs((part * seconds * speed) % 1 - 0.5)) ** 2;
    tone(out, 0, seconds, colour, pitch, flat(1));
    return out;
  }
  for (const [i, start] of beats(length, every, dice).entries()) {
    if (kind === "two tones") {
      tone(out, start, every, colour, flat(i % 2 ? other : hertz), swell(0.03));
    } else if (i % (group + 1) < group) {
      tone(out, start, every * 0.6, colour, flat(hertz), swell(0.05));
      if (kind === "ringing") tone(out, start, every * 0.6, colour, flat(other), swell(0.05));
    }
  }
  return out;
};

// A struck object: wood, metal or glass, in a rhythm or bouncing to rest.
const knocks: Scene = (length, dice) => {
  const out = new Float32Array(length);
  const { modes, ring } = dice.pick([
    { modes: [1, 2.6, 5.1], ring: dice.between(0.05, 0.15) }, // wood
    { modes: [1, 2.76, 5.4, 8.9], ring: dice.between(0.4, 1.6) }, // a bar of metal
    { modes: [1, 1.59, 2.14, 2.65, 3.16], ring: dice.between(0.1, 0.4) }, // a skin
    { modes: [1, 2.32, 4.25, 6.63], ring: dice.between(0.15, 0.6) }, // glass
  ]);
  const hertz = dice.scaled(150, 1600);
  const hit = (start: number, level: number) => {
    strike(out, start, ring, hertz * dice.between(0.97, 1.03), modes, level);
    burst(out, start, 0.015, dice.between(1500, 5000), 0.7, 0.7 * level, dice.noise());
  };
  if (dice.chance(0.35)) {
    // Each bounce is shorter and softer than the one before.
    const loss = dice.between(0.72, 0.9);
    let gap = dice.between(0.25, 0.6), level = 1;
    for (let start = dice.between(0, 0.3); start * rate < length;) {
      hit(start, level);
      start += gap;
      [gap, level] = [gap * loss, level * loss];
      if (gap < 0.03) [gap, level] = [dice.between(0.25, 0.6), 1];
    }
    return out;
  }
  const pattern = Array.from({ length: dice.whole(2, 6) }, () => dice.pick([0, 0.5, 1]));
  const every = dice.between(0.1, 0.35);
  for (const [i, start] of beats(length, every, dice).entries()) {
    const level = i === 0 ? 1 : pattern[i % pattern.length];
    if (level > 0) hit(start, level);
  }
  return out;
};

/** Every kind by its name. */
export const scenes: Readonly<Record<string, Scene>> = {
  plucks,
  chords,
  melody,
  bells,
  drums,
  sweeps,
  birds,
  voice,
  engine,
  wind,
  rain,
  alarms,
  knocks,
};
