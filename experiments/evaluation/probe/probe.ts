// The published probe protocol: for every seed, probes are trained at all grid points on the first
// partition of the task's splits; the point with the best validation score is used for the other
// partitions too; the score of a seed is the mean of its test scores over partitions.
import { partitions, type ScoreName } from "../../data/hear/metadata.ts";
import { averagePrecisions, confusion, type Predictions, score as scoreOf } from "./metrics.ts";
import { kitOrder } from "./shuffle.ts";
import type { Task } from "../../data/hear/task.ts";
import {
  placesFor,
  runTrials,
  type Shared,
  type Trained,
  type Trainers,
  type Training,
  type Trial,
} from "./trials.ts";

/** A point of the grid. */
export interface GridPoint {
  /** Hidden layers. */
  readonly layers: number;
  readonly dropout: number;
  readonly rate: number;
}

/** The whole protocol. */
export interface Protocol extends Training {
  /** Units per hidden layer. */
  readonly hidden: number;
  readonly grid: readonly [GridPoint, ...GridPoint[]];
}

/**
 * As in the published comparison, where clips stay in the order in which the kit wrote them: its loader
 * shuffles only a split that is given as a string, and is always given a list.
 */
export const faithfulProtocol: Protocol = {
  hidden: 1024,
  grid: [{ layers: 1, dropout: 0.1, rate: 1e-4 }, { layers: 1, dropout: 0.25, rate: 1e-4 }],
  batch: 1024,
  epochs: 500,
  every: 3,
  patience: 20,
  shuffled: false,
};

/** The same, with a new order of clips in each epoch. */
export const correctedProtocol: Protocol = { ...faithfulProtocol, shuffled: true };

/** Embeddings of a task: for each split, in the order of its clips, `[clip, width]`. */
export interface TaskEmbeddings {
  readonly width: number;
  readonly splits: readonly Float32Array[];
}

/** The test of one seed's probe on one partition. */
export interface FoldScore {
  /** The test splits. */
  readonly test: readonly string[];
  /** The best main score on the validation splits, and its epoch. */
  readonly validation: number;
  readonly epoch: number;
  /** All scores of the task's metadata. */
  readonly scores: Readonly<Partial<Record<ScoreName, number>>>;
}

/** The result of a seed. */
export interface SeedScore {
  readonly seed: number;
  readonly point: GridPoint;
  readonly folds: readonly FoldScore[];
  /** Means over the partitions. */
  readonly scores: Readonly<Partial<Record<ScoreName, number>>>;
  /** The confusion matrix over all partitions (rows are true classes); multiclass tasks only. */
  readonly confusion?: readonly (readonly number[])[];
  /** The average precision of each class, averaged over partitions; multilabel tasks only. */
  readonly precisions?: readonly number[];
  /** Total epochs of all its probes. */
  readonly epochs: number;
}

/** How many of a task's probes are trained. */
export interface ProbeProgress {
  readonly ended: number;
  readonly trials: number;
}

/**
 * Scores a task's embeddings with the probes of some seeds. Whoever opened the trainers closes them.
 * Gives undefined when it was interrupted. The same embeddings and device give a seed the same scores,
 * whichever others are trained with it.
 */
export const probeTask = async (
  trainers: Trainers,
  task: Task,
  embeddings: TaskEmbeddings,
  { seeds, protocol, onProgress = () => {}, interrupted = () => false }: {
    readonly seeds: readonly number[];
    readonly protocol: Protocol;
    readonly onProgress?: (at: ProbeProgress) => void;
    readonly interrupted?: () => boolean;
  },
): Promise<readonly SeedScore[] | undefined> => {
  const rows = inKitOrder(task, embeddings);
  const { grid } = protocol;
  const parts = partitions(task.metadata).map(({ train, valid, test }) => ({
    train: rows.clipsOf(train),
    valid: rows.clipsOf(valid),
    test: rows.clipsOf(test),
    names: test,
  }));
  const most = {
    train: Math.max(...parts.map(({ train }) => train.length)),
    valid: Math.max(...parts.map(({ valid }) => valid.length)),
  };
  const searched = seeds.length * grid.length;
  const total = searched + seeds.length * (parts.length - 1);
  let ended = 0;

  /** Trains some points on some partitions, networks of one shape at a time. */
  const trained = async (wanted: readonly Wanted[]): Promise<readonly Trained[] | undefined> => {
    const found: Trained[] = [];
    for (const [layers, of] of Map.groupBy(wanted, ({ point }) => grid[point].layers)) {
      const shared: Shared = {
        ...rows.shared,
        sizes: {
          features: embeddings.width,
          layers,
          hidden: protocol.hidden,
          classes: task.labels.length,
          prediction: task.metadata.prediction,
          clips: embeddings.splits.reduce((sum, { length }) => sum + length, 0) / embeddings.width,
        },
        training: protocol,
        most,
        places: Math.min(
          placesFor(trainers.backend, protocol, Math.min(most.train, protocol.batch)),
          seeds.length * Math.max(grid.length, parts.length - 1),
        ),
      };
      const trials = of.map(({ seed, point, part }): Trial => ({
        seed,
        stream: part * grid.length + point,
        ...grid[point],
        ...parts[part],
      }));
      const results = await runTrials(trainers, shared, trials, {
        interrupted,
        onProgress: (at) => onProgress({ ended: ended + at.ended, trials: total }),
      });
      if (results === undefined) return undefined;
      ended += results.length;
      of.forEach((one, k) => found[wanted.indexOf(one)] = results[k]);
    }
    return found;
  };

  const first = await trained(
    seeds.flatMap((seed) => grid.map((_, point) => ({ seed, point, part: 0 }))),
  );
  if (first === undefined) return undefined;
  const chosen = seeds.map((_, k) => {
    const of = first.slice(k * grid.length, (k + 1) * grid.length);
    return of.reduce(
      (best, { validation }, point) =>
        validation > of[best].validation || Number.isNaN(of[best].validation) ? point : best,
      0,
    );
  });
  const others = await trained(
    seeds.flatMap((seed, k) =>
      parts.slice(1).map((_, part) => ({ seed, point: chosen[k], part: part + 1 }))
    ),
  );
  if (others === undefined) return undefined;

  const { evaluation } = task.metadata, classes = task.labels.length;
  return seeds.map((seed, k): SeedScore => {
    const searched = first.slice(k * grid.length, (k + 1) * grid.length);
    const rest = others.slice(k * (parts.length - 1), (k + 1) * (parts.length - 1));
    const best = [searched[chosen[k]], ...rest];
    const predictions = best.map(({ test }, part): Predictions => ({
      classes,
      scores: test,
      labels: rows.labelsOf(parts[part].test),
    }));
    const folds = parts.map(({ names }, part): FoldScore => {
      const { validation, epoch } = best[part], said = predictions[part];
      const scores = Object.fromEntries(evaluation.map((name) => [name, scoreOf(name, said)]));
      return { test: names, validation, epoch, scores };
    });
    const scores = Object.fromEntries(
      evaluation.map((name) => [name, meanOf(folds.map((fold) => fold.scores[name]!))]),
    );
    const epochs = [...searched, ...rest].reduce((sum, { epochs }) => sum + epochs, 0);
    return { seed, point: grid[chosen[k]], folds, scores, ...perClass(task, predictions), epochs };
  });
};

interface Wanted {
  readonly seed: number;
  readonly point: number;
  readonly part: number;
}

/** All clips of a task as in the kit's files: split after split, each in the kit's order. */
const inKitOrder = (task: Task, { width, splits }: TaskEmbeddings) => {
  const orders = kitOrder(task), classes = task.labels.length;
  const starts = new Map<string, number>();
  const labels: (readonly number[])[] = [];
  task.splits.forEach(({ name, clips }, split) => {
    starts.set(name, labels.length);
    orders[split].forEach((clip) => labels.push(clips[clip].labels));
  });
  const embeddings = new Float32Array(labels.length * width);
  const targets = new Float32Array(labels.length * classes);
  let row = 0;
  orders.forEach((order, split) =>
    order.forEach((clip) => {
      embeddings.set(splits[split].subarray(clip * width, (clip + 1) * width), row++ * width);
    })
  );
  labels.forEach((of, at) => of.forEach((label) => targets[at * classes + label] = 1));
  const labelsOf = (clips: Uint32Array) => Array.from(clips, (at) => labels[at]);
  const [main] = task.metadata.evaluation;
  const score: Shared["score"] = (clips, scores) =>
    scoreOf(main, { classes, scores, labels: labelsOf(clips) });
  return {
    shared: { embeddings, targets, score, highest: main === "d_prime" ? Infinity : 1 },
    labelsOf,
    clipsOf: (names: readonly string[]): Uint32Array =>
      Uint32Array.from(names.flatMap((name) => {
        const { clips } = task.splits.find((split) => split.name === name)!;
        return clips.map((_, k) => starts.get(name)! + k);
      })),
  };
};

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

const perClass = (
  { labels, metadata }: Task,
  all: readonly Predictions[],
): Pick<SeedScore, "confusion" | "precisions"> => {
  if (metadata.prediction === "multilabel") {
    const each = all.map(averagePrecisions);
    return { precisions: labels.map((_, k) => meanOf(each.map((of) => of[k]))) };
  }
  const each = all.map(confusion);
  return {
    confusion: labels.map((_, row) =>
      labels.map((_, column) => each.reduce((sum, of) => sum + of[row][column], 0))
    ),
  };
};
