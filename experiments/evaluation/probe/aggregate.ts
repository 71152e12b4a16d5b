// The aggregate score of a model over all tasks, s(m): its position between the worst and the best of the
// compared models, averaged over tasks. It depends on the set of models, so the minimum and maximum of
// each task are part of the result.
import * as E from "fp-ts/Either.js";

/** Scores of a model by task. */
export type ModelScores = Readonly<Record<string, number>>;

/** The range of a task's scores. */
export interface TaskRange {
  readonly task: string;
  readonly min: number;
  readonly max: number;
  /** The models with the minimum and maximum; the first if tied. */
  readonly worst: string;
  readonly best: string;
}

/** The aggregate of all models. */
export interface Aggregate {
  /** The formula in words. */
  readonly formula: string;
  /** The tasks that count, with their ranges. */
  readonly tasks: readonly TaskRange[];
  /** Tasks on which all models score the same: these carry no information and do not count. */
  readonly undecided: readonly string[];
  /** From 0, worst on every task, to 100, best on every task; in the order of the models. */
  readonly models: readonly { readonly model: string; readonly score: number }[];
}

/** Why there is no aggregate. */
export type AggregateError =
  | { readonly _tag: "TooFewModels"; readonly found: number }
  | { readonly _tag: "NoScore"; readonly model: string; readonly task: string }
  | { readonly _tag: "AllTheSame" };

/** s(m) of each model. All models need finite scores on the same tasks. */
export const aggregate = (
  scores: Readonly<Record<string, ModelScores>>,
): E.Either<AggregateError, Aggregate> => {
  const models = Object.keys(scores);
  if (models.length < 2) return E.left({ _tag: "TooFewModels", found: models.length });
  const tasks = [...new Set(models.flatMap((model) => Object.keys(scores[model])))];
  for (const model of models) {
    for (const task of tasks) {
      if (!Number.isFinite(scores[model][task])) return E.left({ _tag: "NoScore", model, task });
    }
  }
  const ranges = tasks.map((task): TaskRange => {
    const of = models.map((model) => scores[model][task]);
    const min = Math.min(...of), max = Math.max(...of);
    return { task, min, max, worst: models[of.indexOf(min)], best: models[of.indexOf(max)] };
  });
  const deciding = ranges.filter(({ min, max }) => max > min);
  if (deciding.length === 0) return E.left({ _tag: "AllTheSame" });
  return E.right({
    formula: "s(m) = 100 × mean over tasks t of (x_t(m) − min_t) / (max_t − min_t)",
    tasks: deciding,
    undecided: ranges.filter(({ min, max }) => max === min).map(({ task }) => task),
    models: models.map((model) => ({ model, score: placed(deciding, scores[model]) })),
  });
};

/**
 * s(m) of one model, or of one run of it, relative to given ranges; outside 0 to 100 if its scores are
 * outside the ranges. NaN if a score is missing.
 */
export const placed = (ranges: readonly TaskRange[], scores: ModelScores): number =>
  100 * ranges.reduce((sum, { task, min, max }) => sum + (scores[task] - min) / (max - min), 0) /
  ranges.length;

/** Why there is no aggregate, in one sentence. */
export const aggregateErrorText = (error: AggregateError): string => {
  switch (error._tag) {
    case "TooFewModels":
      return `s(m) compares models: at least 2 are needed, found ${error.found}`;
    case "NoScore":
      return `s(m) needs the scores of all models on all tasks; ${error.model} has none on ` +
        error.task;
    case "AllTheSame":
      return "s(m) has no meaning where all models score the same on every task";
  }
};
