// A synthetic task: classes, and a function that makes a sound of each. It corresponds in kind to
// one of the ten downstream tasks; nothing in it is recorded.
import type { Dice } from "../random.ts";

/** A labelled task that a program makes. */
export interface SyntheticTask {
  /** The name of its folder, which begins with `synthetic_`. */
  readonly name: string;
  /** One sentence. */
  readonly description: string;
  /** Names of the classes in the order of their indices; at least 5. */
  readonly labels: readonly string[];
  readonly prediction: "multiclass" | "multilabel";
  readonly splitMode: "trainvaltest" | "new_split_kfold" | "presplit_kfold";
  /** Seconds of each clip; null where clips have their own lengths. */
  readonly seconds: number | null;
  /** Scores, the main one first. */
  readonly evaluation: readonly string[];
  /**
   * A sound of a class with its labels, mono at 16000 Hz from -1 to 1. A multiclass sound has the one
   * label that was asked for, a multilabel one that and perhaps others, in the order of `labels`.
   */
  readonly make: (label: string, dice: Dice) => {
    readonly samples: Float32Array;
    readonly labels: readonly string[];
  };
}

/** A task of one label, whose sounds are all of one length; `sound` makes as many samples. */
export const oneOf = (
  task: Omit<SyntheticTask, "prediction" | "make" | "seconds" | "labels"> & {
    readonly seconds: number;
  },
  sounds: Readonly<Record<string, (length: number, dice: Dice) => Float32Array>>,
  order: readonly string[] = Object.keys(sounds),
): SyntheticTask => ({
  ...task,
  labels: order,
  prediction: "multiclass",
  make: (label, dice) => ({
    samples: sounds[label](Math.round(task.seconds * 16000), dice),
    labels: [label],
  }),
});

/** Scores of tasks of one label. */
export const accuracies: readonly string[] = ["top1_acc", "mAP", "d_prime", "aucroc"];
