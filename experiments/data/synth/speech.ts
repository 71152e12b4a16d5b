// Artificial speech for the synthetic tasks: a voiced source through moving formants, with fricatives
// and plosives. It is no real language or person, but has the features that distinguish words, voices
// and emotions in a spectrogram: formant trajectories, pitch, loudness, rhythm, breath.
import type { Dice } from "./random.ts";
import { band, burst, type Curve, falling, period, rate, tone } from "./voices.ts";

/** A synthetic speaker. */
export interface Speaker {
  /** Mean pitch in Hz. */
  readonly pitch: number;
  /** Scale of formants relative to a long vocal tract. */
  readonly tract: number;
  /** Spectral tilt: the exponent by which the levels of partials fall. */
  readonly tilt: number;
  /** Duration of a syllable in seconds. */
  readonly syllable: number;
}

/** A speaker with a voice of its own. */
export const speaker = (dice: Dice): Speaker => {
  const pitch = dice.scaled(85, 270);
  return {
    pitch,
    // High voices have shorter tracts, with some variation.
    tract: 0.85 + 0.3 * Math.log2(pitch / 85) / 1.7 + dice.between(-0.05, 0.05),
    tilt: dice.between(0.9, 1.4),
    syllable: dice.between(0.16, 0.26),
  };
};

/** How an utterance is spoken; curves span the whole utterance and multiply the speaker's values. */
export interface Manner {
  readonly pitch: Curve;
  readonly level: Curve;
  /** Added to the tilt of the voice. */
  readonly tilt: number;
  /** Breath noise, 0 to 1. */
  readonly breath: number;
  /** Modulation of pitch and level, 0 to 1. */
  readonly tremor: number;
}

/** Neutral, with slightly falling pitch. */
export const plainly: Manner = {
  pitch: (part) => 1.08 - 0.16 * part,
  level: () => 1,
  tilt: 0,
  breath: 0.03,
  tremor: 0,
};

type Formants = readonly [number, number, number];

interface Sound {
  readonly formants: Formants;
  /** Level of the voiced source; 0 in a rest. */
  readonly voiced: number;
  /** Duration as a fraction of a syllable. */
  readonly length: number;
  /** Noise around a centre frequency: throughout, or as a burst at the end. */
  readonly noise?: {
    readonly hertz: number;
    readonly level: number;
    readonly kind: "hiss" | "burst";
  };
}

const vowel = (...formants: Formants): Sound => ({ formants, voiced: 1, length: 0.6 });
const nasal = (...formants: Formants): Sound => ({ formants, voiced: 0.35, length: 0.3 });
const glide = (...formants: Formants): Sound => ({ formants, voiced: 0.6, length: 0.25 });
const hiss = (hertz: number, level: number, voiced = 0): Sound => ({
  formants: [350, 1600, 2500],
  voiced,
  length: 0.4,
  noise: { hertz, level, kind: "hiss" },
});
const stop = (hertz: number, second: number, voiced = 0): Sound => ({
  formants: [300, second, 2500],
  voiced,
  length: 0.3,
  noise: { hertz, level: voiced > 0 ? 0.4 : 0.8, kind: "burst" },
});

const sounds = {
  a: vowel(730, 1090, 2440),
  e: vowel(530, 1840, 2480),
  i: vowel(270, 2290, 3010),
  o: vowel(570, 840, 2410),
  u: vowel(300, 870, 2240),
  y: vowel(280, 1750, 2200),
  m: nasal(280, 1000, 2200),
  n: nasal(280, 1700, 2600),
  l: glide(360, 1300, 2900),
  r: glide(420, 1250, 1650),
  w: glide(300, 700, 2200),
  j: glide(280, 2200, 2900),
  s: hiss(6000, 0.35),
  S: hiss(3000, 0.4),
  f: hiss(4500, 0.12),
  h: hiss(1500, 0.12),
  z: hiss(5500, 0.2, 0.3),
  p: stop(900, 900),
  t: stop(4000, 1800),
  k: stop(2000, 2000),
  b: stop(700, 900, 0.15),
  d: stop(3200, 1800, 0.15),
  g: stop(1700, 2000, 0.15),
  " ": { formants: [500, 1500, 2500], voiced: 0, length: 0.8 },
} satisfies Readonly<Record<string, Sound>>;

/** The symbol of a sound; a space is a rest. */
export type Phoneme = keyof typeof sounds;

/** A text of symbols as a list. Throws for an unknown symbol. */
export const phonemes = (text: string): readonly Phoneme[] =>
  [...text].map((sign) => {
    if (!(sign in sounds)) throw new RangeError(`no sound is written '${sign}'`);
    return sign as Phoneme;
  });

/** Duration of an utterance in seconds. */
export const secondsOf = (said: readonly Phoneme[], { syllable }: Speaker): number =>
  said.reduce((sum, one) => sum + sounds[one].length, 0) * syllable;

interface Spoken extends Sound {
  /** Start and end in seconds. */
  readonly from: number;
  readonly to: number;
}

/** Adds an utterance to a signal from a given second; what exceeds the signal is cut off. */
export function say(
  out: Float32Array,
  start: number,
  said: readonly Phoneme[],
  by: Speaker,
  manner: Manner,
  dice: Dice,
): void {
  const first = Math.round(start * rate);
  let at = 0;
  const spoken = said.map((one): Spoken => {
    const sound: Sound = sounds[one];
    const from = at;
    at += sound.length * by.syllable * dice.between(0.85, 1.15);
    return { ...sound, from, to: at };
  });
  const length = Math.max(0, Math.min(out.length - first, Math.round(at * rate)));
  if (length === 0) return;
  const total = length / rate;
  const shake = dice.between(5, 8), flutter = dice.between(0, 2 * Math.PI);
  const tremble = (part: number) =>
    manner.tremor * Math.sin(2 * Math.PI * shake * total * part + flutter);
  const now = (part: number): number => {
    const time = part * total;
    let k = Math.min(spoken.length - 1, Math.floor(part * spoken.length));
    while (k > 0 && spoken[k].from > time) k--;
    while (k < spoken.length - 1 && spoken[k].to <= time) k++;
    return k;
  };
  // Transition time of levels and formants between sounds, in seconds.
  const over = 0.03;
  const moved = (value: (sound: Sound) => number): Curve => (part) => {
    const k = now(part), time = part * total, { from } = spoken[k];
    const before = value(spoken[Math.max(0, k - 1)]), own = value(spoken[k]);
    return before + (own - before) * Math.min(1, (time - from) / over);
  };
  const voice = moved(({ voiced }) => voiced);
  const edge = (part: number) => Math.min(1, part * total / 0.02, (1 - part) * total / 0.04);

  const source = new Float32Array(length);
  const highest = by.pitch * 2;
  tone(
    source,
    0,
    total,
    period(falling(60, by.tilt + manner.tilt), highest),
    (part) => by.pitch * manner.pitch(part) * (1 + 0.06 * tremble(part)),
    (part) => voice(part) * manner.level(part) * (1 + 0.4 * tremble(part)) * edge(part),
  );
  const air = dice.noise();
  const heard = out.subarray(first, first + length);
  for (const [k, share] of [1, 0.6, 0.35].entries()) {
    const formant = moved(({ formants }) => formants[k]);
    band(
      heard,
      (n) => source[n] * (1 + 3 * manner.breath * air(n)),
      (part) => ({ hertz: by.tract * formant(part), sharpness: 5 + 3 * k, level: share }),
    );
  }
  for (const { noise, from, to } of spoken) {
    if (noise === undefined) continue;
    const level = noise.level * manner.level(Math.min(1, from / total));
    const hertz = noise.hertz * (0.7 + 0.3 * by.tract);
    if (noise.kind === "burst") {
      burst(heard, Math.max(0, to - 0.025), 0.035, hertz, 1, level, dice.noise());
      continue;
    }
    const [begin, end] = [from, to].map((time) => Math.min(length, Math.round(time * rate)));
    const rush = dice.noise();
    band(heard.subarray(begin, end), rush, (part) => ({
      hertz,
      sharpness: 1.5,
      level: level * Math.min(1, 6 * part, 6 * (1 - part)),
    }));
  }
}
