// What an evaluation finds, as data, and single results that are kept on disk, so that an evaluation
// which was interrupted does not begin anew.
import { createHash } from "node:crypto";
import * as E from "fp-ts/Either.js";
import { type FileError, writeWhole } from "../files.ts";
import {
  type Aggregate,
  aggregate,
  type AggregateError,
  aggregateErrorText,
  placed,
} from "../hear/aggregate.ts";
import type { ScoreName } from "../hear/metadata.ts";
import type { Protocol, TaskEmbeddings, TaskScore } from "../hear/probe.ts";
import type { Projection } from "../hear/projection.ts";
import { type Interval, interval } from "../hear/statistics.ts";
import type { Task } from "../hear/task.ts";
import { parseJson } from "../json.ts";

/** Something that gives embeddings. */
export interface EvaluatedModel {
  /** What tables call it; no two are called the same. */
  readonly name: string;
  readonly kind: "pre-trained" | "untrained" | "log-mel statistics";
  /** Numbers in its embeddings. */
  readonly width: number;
}

/** A task that was evaluated. */
export interface EvaluatedTask {
  /** What tables call it. */
  readonly name: string;
  readonly folder: string;
  readonly labels: readonly string[];
  readonly clips: number;
  /** The score that is reported. */
  readonly score: ScoreName;
}

/** Embeddings of some clips in the plane, and the first label of each, if it has one. */
export interface Picture extends Projection {
  readonly labels: readonly (number | undefined)[];
}

/** A model on a task. */
export interface Result {
  readonly model: string;
  readonly task: string;
  readonly score: TaskScore;
  readonly picture: Picture;
}

/** A whole evaluation. */
export interface Evaluation {
  readonly device: string;
  readonly fidelity: "faithful" | "corrected";
  readonly seeds: readonly number[];
  readonly protocol: Protocol;
  readonly models: readonly EvaluatedModel[];
  readonly tasks: readonly EvaluatedTask[];
  readonly results: readonly Result[];
}

/** A model's result on a task. Throws where there is none. */
export const resultOf = (of: Evaluation, model: string, task: string): Result => {
  const found = of.results.find((one) => one.model === model && one.task === task);
  if (found === undefined) throw new RangeError(`${model} was not evaluated on ${task}`);
  return found;
};

/** The reported score of a model on a task, over seeds. */
export const intervalOf = (
  of: Evaluation,
  model: string,
  { name, score }: EvaluatedTask,
): Interval => interval(resultOf(of, model, name).score.seeds.map(({ scores }) => scores[score]!));

/** s(m) of all models, with the interval of each over seeds; or why there is none, in a sentence. */
export interface Summary {
  readonly aggregate: Aggregate;
  readonly models: readonly { readonly model: string; readonly interval: Interval }[];
}

/** The aggregate of an evaluation. */
export const summaryOf = (of: Evaluation): E.Either<string, Summary> => {
  const byModel = (scores: (model: string, task: EvaluatedTask) => number) =>
    Object.fromEntries(of.models.map(({ name }) => [
      name,
      Object.fromEntries(of.tasks.map((task) => [task.name, scores(name, task)])),
    ]));
  const found = aggregate(byModel((model, task) => intervalOf(of, model, task).mean));
  if (E.isLeft(found)) return E.left<string>(aggregateErrorText(found.left as AggregateError));
  const perSeed = of.seeds.map((_, k) =>
    byModel((model, { name, score }) => resultOf(of, model, name).score.seeds[k].scores[score]!)
  );
  const models = of.models.map(({ name }) => ({
    model: name,
    interval: interval(perSeed.map((scores) => placed(found.right.tasks, scores[name]))),
  }));
  return E.right({ aggregate: found.right, models });
};

/** All but the pictures, with the means and s(m), as `--json` prints it. */
export const documentOf = (of: Evaluation): unknown => {
  const summary = summaryOf(of);
  return {
    ...of,
    results: of.results.map(({ model, task, score }) => ({
      model,
      task,
      ...intervalOf(of, model, of.tasks.find(({ name }) => name === task)!),
      ...score,
    })),
    summary: E.isRight(summary) ? summary.right : { problem: summary.left },
  };
};

// ---------------------------------------------------------------- what is kept

/** All that the scores of a task depend on, as a hash. */
export const scoreKey = (
  backend: string,
  task: Task,
  embeddings: TaskEmbeddings,
  seeds: readonly number[],
  protocol: Protocol,
): string => {
  const { metadata, labels, splits } = task;
  const clips = splits.map(({ name, clips }) => [name, clips.map(({ labels }) => labels)]);
  const hash = createHash("sha256");
  hash.update(JSON.stringify(["probe 1", backend, metadata, labels, clips, seeds, protocol]));
  for (const { buffer, byteOffset, byteLength } of embeddings.splits) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
};

/** The scores that are kept under a key, if they are. */
export const keptScore = (folder: string, key: string): TaskScore | undefined => {
  let text: string;
  try {
    text = Deno.readTextFileSync(`${folder}/${key}.json`);
  } catch {
    return undefined;
  }
  const parsed = parseJson(text);
  if (E.isLeft(parsed)) return undefined;
  const { key: found, score } = (parsed.right ?? {}) as { key?: unknown; score?: TaskScore };
  return found === key ? score : undefined;
};

/** Keeps scores that are numbers; others would not survive as JSON. */
export const keepScore = async (
  folder: string,
  key: string,
  score: TaskScore,
): Promise<E.Either<FileError, void>> => {
  const numbers = score.seeds.flatMap(({ folds, scores }) => [
    ...Object.values(scores),
    ...folds.flatMap(({ validation, scores }) => [validation, ...Object.values(scores)]),
  ]);
  if (!numbers.every(Number.isFinite)) return E.right(undefined);
  return await writeWhole(`${folder}/${key}.json`, JSON.stringify({ key, score }))();
};
