// Synthetic tasks of artificial speech: which word, which emotion, how many simultaneous speakers, which
// invented language. Every clip has its own speakers.
import type { Dice } from "../random.ts";
import { recorded } from "../room_effects.ts";
import {
  type Manner,
  type Phoneme,
  phonemes,
  plainly,
  say,
  secondsOf,
  speaker,
} from "../speech.ts";
import { rate } from "../voices.ts";
import { accuracies, oneOf, type SyntheticTask } from "./task.ts";

// ---------------------------------------------------------------- languages

interface Language {
  readonly onsets: readonly string[];
  readonly vowels: readonly string[];
  readonly codas: readonly string[];
  /** Syllables per word: minimum and maximum. */
  readonly word: readonly [number, number];
  /** Pitch of a syllable relative to the speaker's, by its position in the word. */
  readonly tune: (place: number, of: number) => number;
  /** Duration of a syllable relative to the speaker's. */
  readonly pace: number;
}

const languages: Readonly<Record<string, Language>> = {
  // Open syllables and few sounds; level pitch.
  olani: {
    onsets: ["m", "n", "l", "w", "k", "p", "h", ""],
    vowels: ["a", "e", "i", "o", "u"],
    codas: [""],
    word: [2, 5],
    tune: () => 1,
    pace: 0.9,
  },
  // Consonant clusters; high pitch on the first syllable.
  strekt: {
    onsets: ["st", "sk", "tr", "kr", "pr", "t", "k", "s", "f", "str"],
    vowels: ["e", "i", "a", "o"],
    codas: ["t", "k", "st", "kt", "s", "ts", "n", ""],
    word: [1, 2],
    tune: (place) => place === 0 ? 1.1 : 0.95,
    pace: 1.15,
  },
  // Sibilants, rounded vowels; high pitch on the penultimate syllable.
  jozy: {
    onsets: ["S", "z", "j", "S", "d", "b", "r", "w"],
    vowels: ["o", "u", "y", "a"],
    codas: ["", "", "S", "m", "r"],
    word: [2, 4],
    tune: (place, of) => place === of - 2 ? 1.15 : 1,
    pace: 1,
  },
  // Voiced plosives and final nasals.
  mangbo: {
    onsets: ["b", "d", "g", "mb", "nd", "m", "n", "j"],
    vowels: ["a", "o", "e", "u"],
    codas: ["n", "m", "", "n"],
    word: [2, 3],
    tune: (place) => place % 2 === 0 ? 1.06 : 0.94,
    pace: 1,
  },
  // One-syllable words, each with its own tone.
  tauji: {
    onsets: ["t", "S", "s", "k", "h", "l", "m", "j", "w"],
    vowels: ["a", "i", "u", "aw", "aj", "y"],
    codas: ["", "n", ""],
    word: [1, 2],
    tune: (place, of) => [1.2, 0.85, 1.05][(place * 2 + of) % 3],
    pace: 1.1,
  },
  // Fast, with final fricatives; pitch falls over a word.
  pitesos: {
    onsets: ["p", "t", "k", "s", "l", "r", "b", "pl"],
    vowels: ["e", "a", "i", "o"],
    codas: ["s", "", "", "r", "n"],
    word: [2, 5],
    tune: (place, of) => 1.1 - 0.2 * place / of,
    pace: 0.8,
  },
};

const syllable = ({ onsets, vowels, codas }: Language, dice: Dice): string =>
  dice.pick(onsets) + dice.pick(vowels) + dice.pick(codas);

interface Phrase {
  readonly said: readonly Phoneme[];
  /** Pitch of each syllable, and their number. */
  readonly tunes: readonly number[];
}

const phrase = (language: Language, syllables: number, dice: Dice): Phrase => {
  const tunes: number[] = [];
  let text = "";
  while (tunes.length < syllables) {
    const of = dice.whole(...language.word);
    for (let place = 0; place < of; place++) {
      text += syllable(language, dice);
      tunes.push(language.tune(place, of));
    }
    if (dice.chance(0.15)) text += " ";
  }
  return { said: phonemes(text), tunes };
};

const language = oneOf(
  {
    name: "synthetic_language",
    description:
      "Which of six made-up languages is spoken: they differ in sounds, syllables and tune.",
    splitMode: "new_split_kfold",
    seconds: 3,
    evaluation: accuracies,
  },
  Object.fromEntries(
    Object.entries(languages).map(([name, language]) => [name, (length, dice) => {
      const out = new Float32Array(length);
      const usual = speaker(dice);
      const by = { ...usual, syllable: usual.syllable * language.pace };
      const { said, tunes } = phrase(language, Math.ceil(length / rate / by.syllable) + 2, dice);
      const pitch = (part: number) =>
        (1.05 - 0.1 * part) * tunes[Math.min(tunes.length - 1, Math.floor(part * tunes.length))];
      say(out, dice.between(0, 0.1), said, by, { ...plainly, pitch }, dice);
      return recorded(out, { least: -35, most: -12 }, dice);
    }]),
  ),
);

// ---------------------------------------------------------------- words

const words: Readonly<Record<string, string>> = {
  yes: "jes",
  no: "now",
  up: "ap",
  down: "dawn",
  left: "left",
  right: "rajt",
  stop: "stop",
  go: "gow",
};

const spokenWord = (length: number, text: string, dice: Dice): Float32Array => {
  const out = new Float32Array(length), by = speaker(dice), said = phonemes(text);
  const room = Math.max(0, length / rate - 1.15 * secondsOf(said, by));
  const [from, to] = [dice.between(0.95, 1.15), dice.between(0.8, 1.05)];
  say(out, dice.between(0, room), said, by, {
    ...plainly,
    pitch: (part) => from + (to - from) * part,
    breath: dice.between(0.01, 0.1),
  }, dice);
  return recorded(out, { least: -30, most: -5 }, dice);
};

const keyword = oneOf(
  {
    name: "synthetic_keyword",
    description: "Which of eight words, another word, or none, is said.",
    splitMode: "trainvaltest",
    seconds: 1,
    evaluation: accuracies,
  },
  {
    ...Object.fromEntries(
      Object.entries(words).map((
        [word, text],
      ) => [word, (length: number, dice: Dice) => spokenWord(length, text, dice)]),
    ),
    unknown: (length, dice) => {
      const of = languages[dice.pick(Object.keys(languages))];
      return spokenWord(
        length,
        Array.from({ length: dice.whole(1, 2) }, () => syllable(of, dice)).join(""),
        dice,
      );
    },
    silence: (length, dice) => recorded(new Float32Array(length), { least: -20, most: 0 }, dice),
  },
);

// ---------------------------------------------------------------- emotions

interface Temper extends Omit<Manner, "pitch" | "level"> {
  /** Pitch and pace relative to the speaker's. */
  readonly high: number;
  readonly pace: number;
  /** Pitch range of accents, and the rise of pitch at the end. */
  readonly range: number;
  readonly rise: number;
  /** Additional level of accents. */
  readonly stress: number;
}

const tempers: Readonly<Record<string, Temper>> = {
  plain: {
    high: 1,
    pace: 1,
    range: 0.06,
    rise: -0.1,
    stress: 0.2,
    tilt: 0,
    breath: 0.03,
    tremor: 0,
  },
  lively: {
    high: 1.2,
    pace: 0.85,
    range: 0.25,
    rise: 0,
    stress: 0.4,
    tilt: -0.1,
    breath: 0.03,
    tremor: 0,
  },
  sad: {
    high: 0.88,
    pace: 1.25,
    range: 0.03,
    rise: -0.2,
    stress: 0.1,
    tilt: 0.4,
    breath: 0.12,
    tremor: 0.05,
  },
  pressed: {
    high: 1.1,
    pace: 0.9,
    range: 0.15,
    rise: -0.1,
    stress: 0.8,
    tilt: -0.4,
    breath: 0.01,
    tremor: 0,
  },
  trembling: {
    high: 1.2,
    pace: 0.95,
    range: 0.08,
    rise: 0.05,
    stress: 0.2,
    tilt: 0.2,
    breath: 0.2,
    tremor: 0.6,
  },
  asking: {
    high: 1.05,
    pace: 1,
    range: 0.08,
    rise: 0.5,
    stress: 0.2,
    tilt: 0,
    breath: 0.05,
    tremor: 0,
  },
};

const prosody = oneOf(
  {
    name: "synthetic_prosody",
    description: "In which of six tempers something is said: pitch, pace, stress, breath, tremor.",
    splitMode: "new_split_kfold",
    seconds: 2,
    evaluation: accuracies,
  },
  Object.fromEntries(
    Object.entries(tempers).map(([name, temper]) => [name, (length, dice) => {
      const out = new Float32Array(length);
      const usual = speaker(dice), of = languages[dice.pick(Object.keys(languages))];
      const about = (value: number, by: number) => value + dice.between(-by, by);
      const by = {
        ...usual,
        pitch: usual.pitch * about(temper.high, 0.1),
        syllable: usual.syllable * about(temper.pace, 0.1),
      };
      const { said, tunes } = phrase(of, Math.round(1.5 / by.syllable), dice);
      const [range, rise, stress] = [
        about(temper.range, 0.05),
        about(temper.rise, 0.08),
        about(temper.stress, 0.15),
      ];
      const accent = (part: number) => Math.sin(Math.PI * tunes.length * part) ** 2;
      say(out, dice.between(0.02, 0.2), said, by, {
        pitch: (part) => (1 + range * (accent(part) - 0.5)) * (1 + rise * part ** 3),
        level: (part) => 1 + stress * (accent(part) - 0.5),
        tilt: about(temper.tilt, 0.15),
        breath: temper.breath * dice.scaled(0.6, 1.6),
        tremor: Math.max(0, about(temper.tremor, 0.08)),
      }, dice);
      return recorded(out, { least: -35, most: -12 }, dice);
    }]),
  ),
);

// ---------------------------------------------------------------- speaker counts

const counts = ["0", "1", "2", "3", "4", "5"];

const speakers = oneOf(
  {
    name: "synthetic_speakers",
    description: "How many speak at once, none to five; the clip as a whole is not louder for it.",
    splitMode: "new_split_kfold",
    seconds: 2,
    evaluation: accuracies,
  },
  Object.fromEntries(
    counts.map((count) => [count, (length, dice) => {
      const out = new Float32Array(length);
      for (let k = 0; k < Number(count); k++) {
        const one = new Float32Array(length), by = speaker(dice), begin = dice.between(0, 0.3);
        const of = languages[dice.pick(Object.keys(languages))];
        const syllables = Math.ceil((length / rate - begin) / by.syllable);
        say(one, begin, phrase(of, syllables, dice).said, by, plainly, dice);
        let power = 0;
        for (const sample of one) power += sample ** 2;
        const gain = dice.between(0.6, 1) / Math.sqrt(power / length + 1e-12);
        for (let i = 0; i < length; i++) out[i] += gain * one[i];
      }
      return recorded(out, { least: -35, most: -15 }, dice);
    }]),
  ),
  counts,
);

/** The four tasks. */
export const speechTasks: readonly SyntheticTask[] = [keyword, prosody, speakers, language];
