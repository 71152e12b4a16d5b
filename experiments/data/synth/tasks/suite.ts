// The synthetic suite: ten labelled tasks, so that everything that uses downstream tasks works without a
// download. Each resembles one of the ten tasks of the comparison; their scores say nothing about
// recordings.
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
  /** Its index as a file name: `00012.wav`. */
  readonly file: string;
  /** The split or fold it belongs to. */
  readonly split: string;
  /** One label in a multiclass task; in the order of the task's labels. */
  readonly labels: readonly string[];
  /** Mono at 16000 Hz, from -1 to 1. */
  readonly samples: Float32Array;
}

/** To be changed whenever the sounds change, since a suite on disk is kept. */
export const suiteVersion = "v1.0";

/** What a suite depends on. */
export interface SuiteOptions {
  /** A whole number. */
  readonly seed: number;
  /** Clips of each task, at least `fewestClips`. */
  readonly clips: number;
}

/** From this number of clips on, every fold of every task has a clip of every class. */
export const fewestClips = 60;

const folds = ["fold00", "fold01", "fold02", "fold03", "fold04"];
const parts = ["train", "train", "train", "valid", "test"];

/** The splits of a task. */
export const splitsOf = ({ splitMode }: SyntheticTask): readonly string[] =>
  splitMode === "trainvaltest" ? ["train", "valid", "test"] : folds;

/**
 * The clips of a task, generated one at a time: a function of the seed, independent of their number.
 * Classes are equally frequent in every split; no two clips share a voice, a drum or a noise.
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
    // Five successive clips of a class are in five different folds.
    const fold = (round + labels.indexOf(label)) % 5;
    yield {
      file: `${String(k).padStart(5, "0")}.wav`,
      split: splitMode === "trainvaltest" ? parts[fold] : folds[fold],
      ...task.make(label, dice(own)),
    };
  }
}
