// The synthetic suite: ten labelled tasks made by a program, so that everything that uses
// downstream tasks works without a download. They correspond to the ten tasks of the comparison in
// kind; their scores say nothing about recordings.
import { dice, shuffled, subkey } from "../random.ts";
import { musicTasks } from "./music.ts";
import { speechTasks } from "./speech_tasks.ts";
import { surroundingTasks } from "./environment.ts";
import type { SyntheticTask } from "./task.ts";

/** The ten tasks. */
export const syntheticTasks: readonly SyntheticTask[] = [
  ...musicTasks,
  ...speechTasks,
  ...surroundingTasks,
];

/** One labelled clip of a task. */
export interface LabelledClip {
  /** Its number as the name of a file: `00012.wav`. */
  readonly file: string;
  /** The split or fold it is in. */
  readonly split: string;
  /** One label in a multiclass task; in the order of the task's labels. */
  readonly labels: readonly string[];
  /** Mono at 16000 Hz, from -1 to 1. */
  readonly samples: Float32Array;
}

/** Changes with every change of the sounds, since a suite that is on disk is kept. */
export const suiteVersion = "v1.0";

/** What a suite is made from. */
export interface SuiteOptions {
  /** A whole number. */
  readonly seed: number;
  /** Clips of each task, at least `fewestClips`. */
  readonly clips: number;
}

/** With as many clips as this, every fold of every task has a clip of every class. */
export const fewestClips = 60;

const folds = ["fold00", "fold01", "fold02", "fold03", "fold04"];
const parts = ["train", "train", "train", "valid", "test"];

/** The splits of a task. */
export const splitsOf = ({ splitMode }: SyntheticTask): readonly string[] =>
  splitMode === "trainvaltest" ? ["train", "valid", "test"] : folds;

/**
 * The clips of a task, one at a time: the same for the same seed, and not dependent on how many there
 * are. Classes are equally frequent in every split; no two clips share a voice, a drum or a noise.
 */
export function* taskClips(
  task: SyntheticTask,
  { seed, clips }: SuiteOptions,
): Generator<LabelledClip> {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`the seed ${seed} is not a whole number`);
  const { labels, splitMode, name } = task;
  let key = subkey(subkey(seed, Math.floor(seed / 2 ** 32)), -1);
  for (const letter of name) key = subkey(key, letter.charCodeAt(0));
  for (let k = 0; k < clips; k++) {
    const round = Math.floor(k / labels.length), own = subkey(key, k);
    const label = shuffled(labels, dice(subkey(key, -1 - round)))[k % labels.length];
    // Five clips of a class that follow each other are in five folds.
    const fold = (round + labels.indexOf(label)) % 5;
    yield {
      file: `${String(k).padStart(5, "0")}.wav`,
      split: splitMode === "trainvaltest" ? parts[fold] : folds[fold],
      ...task.make(label, dice(own)),
    };
  }
}
