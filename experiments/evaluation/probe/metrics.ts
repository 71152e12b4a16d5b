// The scores of HEAR's tasks with one prediction per clip, as defined by hear-eval-kit and scikit-learn,
// including ties.
import type { ScoreName } from "../../data/hear/metadata.ts";
import { normalQuantile } from "./statistics.ts";

/** Predictions of a probe for some clips, with the true labels. */
export interface Predictions {
  readonly classes: number;
  /** `[clip, class]`, row-major: higher is likelier. Logits or probabilities. */
  readonly scores: Float32Array;
  /** Label indices of each clip; exactly one in multiclass tasks. */
  readonly labels: readonly (readonly number[])[];
}

/**
 * A score by its name in a task's metadata; higher is always better. NaN if a prediction is NaN;
 * `aucroc` and `d_prime` also if a class has no clip or all clips, as in hear-eval-kit.
 */
export const score = (name: ScoreName, of: Predictions): number => {
  if (of.scores.length !== of.labels.length * of.classes || of.labels.length === 0) {
    throw new RangeError(
      `${of.scores.length} scores are not those of ${of.labels.length} clips and ` +
        `${of.classes} classes`,
    );
  }
  if (of.scores.some(Number.isNaN)) return NaN;
  return byName[name](of);
};

const byName: Readonly<Record<ScoreName, (of: Predictions) => number>> = {
  top1_acc: (of) => shareOf(of, (predicted, label) => predicted === label),
  pitch_acc: (of) => shareOf(of, (predicted, label) => predicted === label),
  // Labels are pitches in semitones, so classes an octave are 12 indices apart.
  chroma_acc: (of) => shareOf(of, (predicted, label) => predicted % 12 === label % 12),
  mAP: (of) => mean(averagePrecisions(of)),
  d_prime: (of) => mean(areasUnderRoc(of).map((area) => Math.SQRT2 * normalQuantile(area))),
  aucroc: (of) => mean(areasUnderRoc(of)),
};

/** The class with the highest score for each clip; the first if tied. */
export const predicted = ({ classes, scores, labels }: Predictions): Uint32Array =>
  Uint32Array.from(labels, (_, clip) => {
    let best = 0;
    for (let k = 1; k < classes; k++) {
      if (scores[clip * classes + k] > scores[clip * classes + best]) best = k;
    }
    return best;
  });

/**
 * The confusion matrix: rows are true classes, columns predicted ones. Of clips with several labels, the
 * first in the vocabulary counts.
 */
export const confusion = (of: Predictions): readonly (readonly number[])[] => {
  const counts = Array.from({ length: of.classes }, () => new Array<number>(of.classes).fill(0));
  predicted(of).forEach((guess, clip) => counts[truth(of.labels[clip])][guess]++);
  return counts;
};

// The kit takes the argmax of a row of zeros and ones: the first label, or class 0 if there is none.
const truth = (labels: readonly number[]): number => labels.length === 0 ? 0 : Math.min(...labels);

const shareOf = (
  of: Predictions,
  holds: (predicted: number, label: number) => boolean,
): number => {
  const guesses = predicted(of);
  return of.labels.filter((labels, k) => holds(guesses[k], truth(labels))).length /
    of.labels.length;
};

const mean = (values: Float64Array): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * The average precision of each class: the sum over distinct scores, from the highest down, of the
 * increase in recall times the precision there. 0 for a class without clips.
 */
export const averagePrecisions = (of: Predictions): Float64Array =>
  perClass(of, (groups, positives) => {
    let hits = 0, taken = 0, sum = 0;
    for (const { with: gained, without } of groups) {
      hits += gained;
      taken += gained + without;
      sum += gained / positives * (hits / taken);
    }
    return positives === 0 ? 0 : sum;
  });

/**
 * The area under the ROC curve of each class: how often a clip with the class scores higher than one
 * without, ties counting half. NaN for a class with no clips or all clips.
 */
export const areasUnderRoc = (of: Predictions): Float64Array =>
  perClass(of, (groups, positives) => {
    let hits = 0, area = 0;
    for (const { with: gained, without } of groups) {
      area += without * (hits + gained / 2);
      hits += gained;
    }
    return area / (positives * (of.labels.length - positives));
  });

/** Clips with equal scores: how many have the class, and how many do not. */
interface Group {
  readonly with: number;
  readonly without: number;
}

function perClass(
  { classes, scores, labels }: Predictions,
  measure: (groups: readonly Group[], positives: number) => number,
): Float64Array {
  const clips = labels.length;
  const has = new Uint8Array(clips * classes);
  labels.forEach((of, clip) => of.forEach((label) => has[clip * classes + label] = 1));
  const bits = new Uint32Array(Float32Array.from(scores, (value) => value + 0).buffer);
  const keys = new Float64Array(clips);
  return Float64Array.from({ length: classes }, (_, label) => {
    // Sorting numbers is much faster without a comparison function: each key is the score's bits, mapped to
    // preserve order, with a last bit that says whether the clip has the class.
    for (let clip = 0; clip < clips; clip++) {
      const at = clip * classes + label;
      const rising = bits[at] >>> 31 ? ~bits[at] >>> 0 : bits[at] + 2 ** 31;
      keys[clip] = 2 * rising + has[at];
    }
    keys.sort();
    const groups: Group[] = [];
    let positives = 0;
    for (let k = clips - 1; k >= 0;) {
      const value = Math.floor(keys[k] / 2);
      let gained = 0, all = 0;
      for (; k >= 0 && Math.floor(keys[k] / 2) === value; k--, all++) gained += keys[k] % 2;
      groups.push({ with: gained, without: all - gained });
      positives += gained;
    }
    return measure(groups, positives);
  });
}
