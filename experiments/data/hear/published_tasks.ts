// The ten downstream tasks of the comparison as published by HEAR 2021, with the sizes of a complete
// copy of each, so that an incomplete one is detected.
import type { ScoreName, SplitMode } from "./metadata.ts";

/** One of the ten tasks. */
export interface KnownTask {
  /** Its name in tables, e.g. `Mri-S`. */
  readonly short: string;
  /** A short description. */
  readonly title: string;
  /** Its folder: name, version and mode, joined as in HEAR. */
  readonly folder: string;
  readonly prediction: "multiclass" | "multilabel";
  readonly classes: number;
  /** Seconds of each clip; null if clips differ in length. */
  readonly sampleDuration: number | null;
  /** Number of clips in all splits. */
  readonly clips: number;
  readonly splitMode: SplitMode;
  readonly splits: readonly string[];
  /** The reported score. */
  readonly score: ScoreName;
}

const folds = ["fold00", "fold01", "fold02", "fold03", "fold04"];
const threeSplits = ["train", "valid", "test"];

const fiveFold = { prediction: "multiclass", splits: folds, score: "top1_acc" } as const;

/** The ten tasks, in the order of the paper's tables. */
export const knownTasks: readonly KnownTask[] = [
  {
    ...fiveFold,
    short: "BO",
    title: "Beijing Opera percussion",
    folder: "beijing_opera-v1.0-hear2021-full",
    classes: 4,
    sampleDuration: 4.77,
    clips: 236,
    splitMode: "new_split_kfold",
  },
  {
    ...fiveFold,
    short: "CD",
    title: "CREMA-D speech emotion",
    folder: "tfds_crema_d-1.0.0-full",
    classes: 6,
    sampleDuration: 5,
    clips: 7438,
    splitMode: "new_split_kfold",
  },
  {
    ...fiveFold,
    short: "E50",
    title: "ESC-50 environmental sounds",
    folder: "esc50-v2.0.0-full",
    classes: 50,
    sampleDuration: 5,
    clips: 2000,
    splitMode: "presplit_kfold",
  },
  {
    ...fiveFold,
    short: "LC",
    title: "LibriCount number of speakers",
    folder: "libricount-v1.0.0-hear2021-full",
    classes: 11,
    sampleDuration: 5,
    clips: 5720,
    splitMode: "new_split_kfold",
  },
  {
    ...fiveFold,
    short: "Mri-S",
    title: "Mridangam stroke",
    folder: "mridangam_stroke-v1.5-full",
    classes: 10,
    sampleDuration: 0.81,
    clips: 6977,
    splitMode: "new_split_kfold",
  },
  {
    ...fiveFold,
    short: "Mri-T",
    title: "Mridangam tonic",
    folder: "mridangam_tonic-v1.5-full",
    classes: 6,
    sampleDuration: 0.81,
    clips: 6977,
    splitMode: "new_split_kfold",
  },
  {
    short: "NS-5h",
    title: "NSynth pitch, 5 hours",
    folder: "nsynth_pitch-v2.2.3-5h",
    prediction: "multiclass",
    classes: 88,
    sampleDuration: 4,
    clips: 5000,
    splitMode: "trainvaltest",
    splits: threeSplits,
    score: "pitch_acc",
  },
  {
    short: "SC-5h",
    title: "Speech Commands, 5 hours",
    folder: "speech_commands-v0.0.2-5h",
    prediction: "multiclass",
    classes: 12,
    sampleDuration: 1,
    clips: 22890,
    splitMode: "trainvaltest",
    splits: threeSplits,
    score: "top1_acc",
  },
  {
    short: "F50K",
    title: "FSD50K sound events",
    folder: "fsd50k-v1.0-full",
    prediction: "multilabel",
    classes: 200,
    sampleDuration: null,
    clips: 51185,
    splitMode: "trainvaltest",
    splits: threeSplits,
    score: "mAP",
  },
  {
    ...fiveFold,
    short: "VL",
    title: "VoxLingua107 top ten languages",
    folder: "vox_lingua_top10-hear2021-full",
    classes: 10,
    sampleDuration: 18.64,
    clips: 972,
    splitMode: "new_split_kfold",
  },
];

/** The task with this short name, folder, or folder without version. */
export const knownTask = (name: string): KnownTask | undefined => {
  const wanted = name.toLowerCase();
  return knownTasks.find(({ short, folder }) =>
    [short, folder, folder.replace(/-.*$/, "")].some((one) => one.toLowerCase() === wanted)
  );
};
