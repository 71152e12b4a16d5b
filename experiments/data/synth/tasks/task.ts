// A synthetic task: classes, and a function that synthesises a sound of each. It resembles one of the ten
// downstream tasks.
import type { Dice } from "../random.ts";

/** A labelled synthetic task. */
export interface SyntheticTask {
  /** The name of its folder; begins with `synthetic_`. */
  readonly name: string;
  /** One sentence. */
  readonly description: string;
  /** Names of the classes by index; at least 5. */
  readonly labels: readonly string[];
  readonly prediction: "multiclass" | "multilabel";
  readonly splitMode: "trainvaltest" | "new_split_kfold" | "presplit_kfold";
  /** Seconds of each clip; null if clips differ in length. */
  readonly seconds: number | null;
  /** Scores, the main one first. */
  readonly evaluation: readonly string[];
  /**
   * A sound of a class with its labels, mono at 16000 Hz from -1 to 1. A multiclass sound has only the
   * requested label; a multilabel one may have others too, in the order of `labels`.
   */
  readonly make: (label: string, dice: Dice) => {
    readonly samples: Float32Array;
    readonly labels: readonly string[];
  };
}

/** A multiclass task with sounds of one length; `sound` makes the samples. */
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

/** Scores of multiclass tasks. */
export const accuracies: readonly string[] = ["top1_acc", "mAP", "d_prime", "aucroc"];
