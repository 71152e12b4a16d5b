// Results of an evaluation as data, and a cache of single results on disk, so that an interrupted
// evaluation resumes.
import { createHash } from "node:crypto";
import * as E from "fp-ts/Either.js";
import { type FileError, writeWhole } from "../io/files.ts";
import {
  type Aggregate,
  aggregate,
  type AggregateError,
  aggregateErrorText,
  placed,
} from "./probe/aggregate.ts";
import type { ScoreName } from "../data/hear/metadata.ts";
import type { Protocol, SeedScore, TaskEmbeddings } from "./probe/probe.ts";
import type { Projection } from "./probe/projection.ts";
import { type Interval, interval } from "./probe/statistics.ts";
import type { Task } from "../data/hear/task.ts";

/** A model that gives embeddings. */
export interface EvaluatedModel {
  /** Its name in tables, unique. */
  readonly name: string;
  readonly kind: "pre-trained" | "untrained" | "log-mel statistics";
  /** Size of its embeddings. */
  readonly width: number;
}

/** A task that was evaluated. */
export interface EvaluatedTask {
  /** Its name in tables. */
  readonly name: string;
  readonly folder: string;
  readonly labels: readonly string[];
  readonly clips: number;
  /** The reported score. */
  readonly score: ScoreName;
}

/** Projected embeddings of some clips, and the first label of each, if it has one. */
export interface Picture extends Projection {
  readonly labels: readonly (number | undefined)[];
}

/** A model on a task. */
export interface Result {
  readonly model: string;
  readonly task: string;
  /** In the order of the evaluation's seeds. */
  readonly seeds: readonly SeedScore[];
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

/** A model's result on a task. Throws if there is none. */
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
): Interval => interval(resultOf(of, model, name).seeds.map(({ scores }) => scores[score]!));

const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Per-class results, averaged over seeds. */
export const perClass = ({ seeds }: Result): Pick<SeedScore, "confusion" | "precisions"> => {
  const [{ confusion, precisions }] = seeds;
  return {
    ...(confusion === undefined ? {} : {
      confusion: confusion.map((row, truth) =>
        row.map((_, guess) => meanOf(seeds.map((of) => of.confusion![truth][guess])))
      ),
    }),
    ...(precisions === undefined ? {} : {
      precisions: precisions.map((_, label) => meanOf(seeds.map((of) => of.precisions![label]))),
    }),
  };
};

/** s(m) of all models, each with its interval over seeds. */
export interface Summary {
  readonly aggregate: Aggregate;
  readonly models: readonly { readonly model: string; readonly interval: Interval }[];
}

/** The aggregate of an evaluation; on the left, why there is none, in one sentence. */
export const summaryOf = (of: Evaluation): E.Either<string, Summary> => {
  const byModel = (scores: (model: string, task: EvaluatedTask) => number) =>
    Object.fromEntries(of.models.map(({ name }) => [
      name,
      Object.fromEntries(of.tasks.map((task) => [task.name, scores(name, task)])),
    ]));
  const found = aggregate(byModel((model, task) => intervalOf(of, model, task).mean));
  if (E.isLeft(found)) return E.left<string>(aggregateErrorText(found.left as AggregateError));
  const perSeed = of.seeds.map((_, k) =>
    byModel((model, { name, score }) => resultOf(of, model, name).seeds[k].scores[score]!)
  );
  const models = of.models.map(({ name }) => ({
    model: name,
    interval: interval(perSeed.map((scores) => placed(found.right.tasks, scores[name]))),
  }));
  return E.right({ aggregate: found.right, models });
};

/** Everything but the pictures, with means and s(m), as printed by `--json`. */
export const documentOf = (of: Evaluation): unknown => {
  const summary = summaryOf(of);
  return {
    ...of,
    results: of.results.map((result) => ({
      model: result.model,
      task: result.task,
      ...intervalOf(of, result.model, of.tasks.find(({ name }) => name === result.task)!),
      ...perClass(result),
      seeds: result.seeds.map(({ confusion: _, precisions: __, ...seed }) => seed),
    })),
    summary: E.isRight(summary) ? summary.right : { problem: summary.left },
  };
};

// ---------------------------------------------------------------- cache

/** A hash of all that the scores of a task depend on, except the seed. */
export const scoreKey = (
  backend: string,
  task: Task,
  embeddings: TaskEmbeddings,
  protocol: Protocol,
): string => {
  const { metadata, labels, splits } = task;
  const clips = splits.map(({ name, clips }) => [name, clips.map(({ labels }) => labels)]);
  const hash = createHash("sha256");
  hash.update(JSON.stringify(["probe 2", backend, metadata, labels, clips, protocol]));
  for (const { buffer, byteOffset, byteLength } of embeddings.splits) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
};

/** Cached scores of seeds. */
export const keptScores = (folder: string, key: string): readonly SeedScore[] => {
  let text: string;
  try {
    text = Deno.readTextFileSync(`${folder}/${key}.json`);
  } catch {
    return [];
  }
  const parsed = E.tryCatch((): unknown => JSON.parse(text, restored), () => "it is not JSON");
  if (E.isLeft(parsed)) return [];
  const { key: found, seeds } = (parsed.right ?? {}) as { key?: unknown; seeds?: SeedScore[] };
  return found === key ? seeds ?? [] : [];
};

// JSON cannot represent numbers that are not finite, such as d' of a perfect ranking; they are stored as
// strings. Elements of lists, such as names of splits, have numeric keys and are left unchanged.
const spelt = (_: string, value: unknown): unknown =>
  typeof value === "number" && !Number.isFinite(value) ? `${value}` : value;
const restored = (key: string, value: unknown): unknown =>
  /\D/.test(key) && typeof value === "string" && /^(NaN|-?Infinity)$/.test(value)
    ? Number(value)
    : value;

/** Caches scores of seeds. */
export const keepScores = (
  folder: string,
  key: string,
  seeds: readonly SeedScore[],
): Promise<E.Either<FileError, void>> =>
  writeWhole(`${folder}/${key}.json`, JSON.stringify({ key, seeds }, spelt))();
