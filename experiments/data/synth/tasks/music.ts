// Synthetic tasks of drums and notes: which stroke, which tonic, which pitch, which instrument. Every
// clip has its own drum or instrument.
import type { Dice } from "../random.ts";
import { recorded } from "../room_effects.ts";
import { band, bell, burst, falling, period, pluck, rate, strike, swell, tone } from "../voices.ts";
import { accuracies, oneOf, type SyntheticTask } from "./task.ts";

// ---------------------------------------------------------------- drums

interface Stroke {
  /** Resonant modes, as multiples of the drum's pitch. */
  readonly modes: readonly number[];
  /** Seconds. */
  readonly ring: number;
  /** Noise of the hand: centre frequency in Hz, duration in seconds, level. */
  readonly hand: readonly [number, number, number];
}

const skin = [1, 1.59, 2.14, 2.65, 3.16];

const strokes: Readonly<Record<string, Stroke>> = {
  open: { modes: skin, ring: 0.6, hand: [1500, 0.02, 0.2] },
  closed: { modes: skin, ring: 0.09, hand: [900, 0.03, 0.5] },
  rim: { modes: [2.3, 4.1, 6.2, 8.4], ring: 0.2, hand: [4000, 0.02, 0.6] },
  harmonic: { modes: [2, 3, 4, 5], ring: 0.5, hand: [2000, 0.015, 0.3] },
  slap: { modes: [1, 1.59], ring: 0.12, hand: [2600, 0.12, 1.2] },
  both: { modes: [0.5, 1, 1.5, 2, 3], ring: 0.4, hand: [1200, 0.05, 0.4] },
};

const hit = (length: number, hertz: number, stroke: Stroke, dice: Dice): Float32Array => {
  const out = new Float32Array(length), start = dice.between(0.005, 0.12);
  const modes = stroke.modes.map((mode) => mode * dice.between(0.98, 1.02));
  strike(out, start, stroke.ring * dice.scaled(0.6, 1.6), hertz, modes, 1);
  const [pitch, seconds, level] = stroke.hand;
  burst(
    out,
    start,
    seconds * dice.scaled(0.6, 1.6),
    pitch * dice.scaled(0.7, 1.4),
    0.7,
    level * dice.scaled(0.5, 2),
    dice.noise(),
  );
  return recorded(out, { least: -40, most: -12 }, dice);
};

const stroke = oneOf(
  {
    name: "synthetic_stroke",
    description: "Which of six strokes on a drum; every clip has a drum of its own.",
    splitMode: "new_split_kfold",
    seconds: 0.81,
    evaluation: accuracies,
  },
  Object.fromEntries(
    Object.entries(strokes).map(([name, stroke]) => [
      name,
      (length, dice) => hit(length, dice.scaled(90, 320), stroke, dice),
    ]),
  ),
);

// Semitones from a low b to an e, a usual tuning range of such drums.
const tonics = ["b", "c", "c_sharp", "d", "d_sharp", "e"];

const tonic = oneOf(
  {
    name: "synthetic_tonic",
    description: "To which of six tones, half steps apart, a drum is tuned, whatever the stroke.",
    splitMode: "new_split_kfold",
    seconds: 0.81,
    evaluation: accuracies,
  },
  Object.fromEntries(
    tonics.map((name, k) => [name, (length, dice) => {
      const detuned = 2 ** (dice.between(-0.15, 0.15) / 12);
      const stroke = strokes[dice.pick(["open", "harmonic", "both", "closed"])];
      return hit(length, 246.94 * 2 ** (k / 12) * detuned, stroke, dice);
    }]),
  ),
  tonics,
);

// ---------------------------------------------------------------- notes

type Note = (out: Float32Array, start: number, seconds: number, hertz: number, dice: Dice) => void;

const sustained = (
  weights: (dice: Dice) => readonly number[],
  rise: readonly [number, number],
  vibrato: readonly [number, number],
  breath: number,
): Note =>
(out, start, seconds, hertz, dice) => {
  const edge = dice.scaled(...rise), depth = dice.between(...vibrato), speed = dice.between(4.5, 7);
  const colour = period(weights(dice), hertz * 1.05);
  tone(
    out,
    start,
    seconds,
    colour,
    (part) => hertz * (1 + depth * Math.sin(2 * Math.PI * speed * seconds * part)),
    swell(Math.min(0.5, edge / seconds)),
  );
  if (breath === 0) return;
  const first = Math.round(start * rate), end = Math.round((start + seconds) * rate);
  band(
    out.subarray(first, end),
    dice.noise(),
    (part) => ({ hertz: 2 * hertz, sharpness: 2, level: breath * swell(0.15)(part) }),
  );
};

const instruments: Readonly<Record<string, Note>> = {
  string: (out, start, seconds, hertz, dice) =>
    pluck(out, start, seconds * dice.between(0.8, 1.6), hertz, dice.between(0, 1), 1, dice.noise()),
  bell: (out, start, seconds, hertz, dice) =>
    bell(out, start, seconds * 1.5, hertz, dice.pick([1.41, 2.76, 3.5]), dice.between(1, 4), 0.6),
  bar: (out, start, seconds, hertz, dice) => {
    strike(out, start, seconds * dice.between(0.5, 1.2), hertz, [1, 2.76, 5.4], 0.8);
    burst(out, start, 0.015, 3000, 0.7, dice.between(0.1, 0.5), dice.noise());
  },
  flute: sustained((dice) => [1, dice.between(0.1, 0.5), 0.1], [0.05, 0.15], [0, 0.012], 0.12),
  bow: sustained(
    (dice) => falling(24, dice.between(0.8, 1.4)),
    [0.06, 0.2],
    [0.004, 0.015],
    0.02,
  ),
  reed: sustained(
    (dice) => falling(15, dice.between(0.5, 1.1)).map((w, k) => k % 2 ? 0.15 * w : w),
    [0.01, 0.05],
    [0, 0.004],
    0.01,
  ),
};

// Twelve notes from A3 (MIDI 57) upwards, by their MIDI numbers.
const pitches = Array.from({ length: 12 }, (_, k) => `${57 + k}`);

const pitch = oneOf(
  {
    name: "synthetic_pitch",
    description: "MIDI pitch (57 to 68) of a note of some instrument.",
    splitMode: "trainvaltest",
    seconds: 1,
    evaluation: ["pitch_acc", "chroma_acc"],
  },
  Object.fromEntries(
    pitches.map((midi) => [midi, (length, dice) => {
      const out = new Float32Array(length);
      const hertz = 440 * 2 ** ((Number(midi) - 69 + dice.between(-0.2, 0.2)) / 12);
      const seconds = dice.between(0.5, 0.85);
      const note = instruments[dice.pick(Object.keys(instruments))];
      note(out, dice.between(0, 0.1), seconds, hertz, dice);
      return recorded(out, { least: -40, most: -12 }, dice);
    }]),
  ),
  pitches,
);

const instrument = oneOf(
  {
    name: "synthetic_instrument",
    description: "Which of six instruments plays some notes.",
    splitMode: "new_split_kfold",
    seconds: 1.5,
    evaluation: accuracies,
  },
  Object.fromEntries(
    Object.entries(instruments).map(([name, note]) => [name, (length, dice) => {
      const out = new Float32Array(length);
      const notes = dice.whole(1, 4), seconds = 1.4 / notes, root = dice.scaled(150, 700);
      for (let k = 0; k < notes; k++) {
        const hertz = root * 2 ** (dice.pick([0, 0, 2, 4, 5, 7, -3]) / 12);
        note(out, 0.03 + k * seconds, seconds, hertz, dice);
      }
      return recorded(out, { least: -30, most: -3 }, dice);
    }]),
  ),
);

/** The four tasks. */
export const musicTasks: readonly SyntheticTask[] = [stroke, tonic, pitch, instrument];
