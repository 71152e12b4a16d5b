// The results of a study's runs, read from their folders: training, cost and scores of each; and rows over
// runs that differ only in their seeds, with intervals.
import * as E from "fp-ts/Either.js";
import { aggregate, placed, type TaskRange } from "../evaluation/probe/aggregate.ts";
import { type Interval, interval } from "../evaluation/probe/statistics.ts";
import { parseJson } from "../../backends/runtime/json.ts";
import { type Metric, readMetrics, readTimings } from "../training/metrics.ts";
import type { Example } from "../plots/spectrogram.ts";
import type { Spec } from "../specs/spec.ts";
import type { Study } from "../specs/sweep.ts";
import { readExamples } from "../training/examples.ts";
import { readRecord, type RunRecord } from "../training/run_folder.ts";

/** Scores of one model on one task, one for each seed of the probe. */
export interface Scored {
  readonly model: string;
  readonly kind: "pre-trained" | "untrained" | "log-mel statistics";
  readonly task: string;
  readonly score: string;
  readonly values: readonly number[];
}

/** The result of one run. */
export interface RunResult {
  readonly spec: Spec;
  readonly record: RunRecord;
  readonly metrics: readonly Metric[];
  /** Seconds of training. */
  readonly seconds: number;
  /** The median over the run. */
  readonly clipsPerSecond?: number;
  readonly scores: readonly Scored[];
  readonly examples: readonly Example[];
}

/** Runs that differ only in their seeds; costs are those of the first. */
export interface Row {
  readonly label: string;
  readonly runs: readonly RunResult[];
  /** Runs of the row that are not finished. */
  readonly missing: readonly string[];
}

/** A part of the study with its results so far. */
export interface PartResult {
  readonly title: string;
  readonly rows: readonly Row[];
}

/** The results of a study so far. */
export interface StudyResult {
  readonly study: Study;
  readonly parts: readonly PartResult[];
  /** All finished runs. */
  readonly runs: readonly RunResult[];
  /** Names of unfinished runs, with why they stopped. */
  readonly missing: readonly { readonly name: string; readonly reason?: string }[];
  /** The ranges that s(m) is relative to; absent without tasks that all finished runs are scored on. */
  readonly ranges?: readonly TaskRange[];
}

const readText = (path: string): string | undefined => {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
};

/** The scores in a run's `evaluation/evaluation.json`. */
const scoresIn = (folder: string): readonly Scored[] => {
  const json = parseJson(readText(`${folder}/evaluation/evaluation.json`) ?? "");
  if (E.isLeft(json)) return [];
  const { models, tasks, results } = json.right as {
    readonly models: readonly { readonly name: string; readonly kind: Scored["kind"] }[];
    readonly tasks: readonly { readonly name: string; readonly score: string }[];
    readonly results: readonly {
      readonly model: string;
      readonly task: string;
      readonly seeds: readonly { readonly scores: Readonly<Record<string, number>> }[];
    }[];
  };
  return results.flatMap(({ model, task, seeds }) => {
    const kind = models.find(({ name }) => name === model)?.kind;
    const score = tasks.find(({ name }) => name === task)?.score;
    return kind === undefined || score === undefined
      ? []
      : [{ model, kind, task, score, values: seeds.map(({ scores }) => scores[score]) }];
  });
};

const lines = <A>(read: E.Either<unknown, readonly A[]>): readonly A[] =>
  E.isRight(read) ? read.right : [];

const resultIn = (folder: string, spec: Spec): RunResult | undefined => {
  const record = readRecord(folder);
  if (record?.state !== "finished") return undefined;
  const timings = lines(readTimings(`${folder}/timing.jsonl`));
  const speeds = timings.flatMap(({ clipsPerSecond }) => clipsPerSecond ?? [])
    .sort((a, b) => a - b);
  const clipsPerSecond = speeds[speeds.length >> 1];
  return {
    spec,
    record,
    metrics: lines(readMetrics(`${folder}/metrics.jsonl`)),
    seconds: timings.at(-1)?.elapsed ?? 0,
    ...(clipsPerSecond === undefined ? {} : { clipsPerSecond }),
    scores: scoresIn(folder),
    examples: readExamples(folder),
  };
};

/** Reads the results of a study's runs so far. */
export const readStudy = (study: Study, folder: string): StudyResult => {
  const found = new Map(study.runs.flatMap((spec) => {
    const result = resultIn(`${folder}/${spec.name}`, spec);
    return result === undefined ? [] : [[spec.name, result] as const];
  }));
  const runs = [...found.values()];
  const missing = study.runs.filter(({ name }) => !found.has(name)).map(({ name }) => {
    const reason = readRecord(`${folder}/${name}`)?.reason;
    return { name, ...(reason === undefined ? {} : { reason }) };
  });
  const parts = study.parts.map(({ title, rows }): PartResult => ({
    title,
    rows: rows.map(({ label, runs }) => ({
      label,
      runs: runs.flatMap((name) => found.get(name) ?? []),
      missing: runs.filter((name) => !found.has(name)),
    })),
  }));
  const ranges = rangesOf(runs);
  return { study, parts, runs, missing, ...(ranges === undefined ? {} : { ranges }) };
};

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Tasks that every finished run with scores is scored on. */
export const tasksOf = (runs: readonly RunResult[]): readonly Pick<Scored, "task" | "score">[] => {
  const scored = runs.filter(({ scores }) => scores.length > 0);
  const first = scored[0]?.scores.filter(({ kind }) => kind === "pre-trained") ?? [];
  return first.filter(({ task, score }) =>
    scored.every(({ scores }) => scores.some((one) => one.task === task && one.score === score))
  );
};

/** The minimum and maximum score of each task over all models: trained, untrained and statistics. */
const rangesOf = (runs: readonly RunResult[]): readonly TaskRange[] | undefined => {
  const tasks = tasksOf(runs);
  const models = runs.flatMap(({ spec, scores }) =>
    [...new Set(scores.map(({ model }) => model))].map((
      model,
    ): [string, Record<string, number>] => [
      // Models of different runs may have the same name; the statistics are the same in all runs.
      `${spec.name}: ${model}`,
      Object.fromEntries(
        tasks.map(({ task }) => [
          task,
          mean(scores.find((one) => one.model === model && one.task === task)?.values ?? [NaN]),
        ]),
      ),
    ])
  );
  const found = aggregate(Object.fromEntries(models));
  return E.isRight(found) ? found.right.tasks : undefined;
};

// ---------------------------------------------------------------- rows

/**
 * Over several runs: the mean and interval of the runs' means, the spread over seeds of pre-training. For
 * one run: those over the seeds of its probe.
 */
const overRuns = (values: readonly (readonly number[])[]): Interval | undefined =>
  values.length === 0 || values.some((of) => of.length === 0)
    ? undefined
    : interval(values.length === 1 ? values[0] : values.map(mean));

/** The score of a row's models of a kind on a task. */
export const scoreOf = (
  { runs }: Row,
  task: string,
  kind: Scored["kind"] = "pre-trained",
): Interval | undefined =>
  overRuns(
    runs.map(({ scores }) =>
      scores.find((one) => one.task === task && one.kind === kind)?.values ?? []
    ),
  );

/** s(m) of a row's models of a kind, among all models of the study. */
export const aggregateOf = (
  { runs }: Row,
  ranges: readonly TaskRange[] | undefined,
  kind: Scored["kind"] = "pre-trained",
): Interval | undefined => {
  if (ranges === undefined) return undefined;
  return overRuns(runs.map(({ scores }) => {
    const own = scores.filter((one) => one.kind === kind);
    if (own.length === 0) return [];
    return own[0].values.map((_, k) =>
      placed(ranges, Object.fromEntries(own.map(({ task, values }) => [task, values[k]])))
    );
  }));
};

const heldOut = ({ metrics }: RunResult): readonly number[] =>
  metrics.flatMap(({ heldOutLoss }) => heldOutLoss ?? []);

/** Held-out losses of a row: before and after training, and of predicting each clip's mean. */
export const lossesOf = (
  { runs }: Row,
): { readonly first?: Interval; readonly last?: Interval; readonly baseline?: Interval } => {
  const of = (value: (run: RunResult) => number | undefined): Interval | undefined => {
    const values = runs.flatMap((run) => value(run) ?? []);
    return values.length === 0 ? undefined : interval(values);
  };
  const first = of((run) => heldOut(run)[0]), last = of((run) => heldOut(run).at(-1));
  const baseline = of(({ record }) => record.baseline);
  return {
    ...(first === undefined ? {} : { first }),
    ...(last === undefined ? {} : { last }),
    ...(baseline === undefined ? {} : { baseline }),
  };
};

/** Whether training lowered a row's held-out loss. */
export const learned = (row: Row): boolean | undefined => {
  const { first, last } = lossesOf(row);
  return first === undefined || last === undefined ? undefined : last.mean < first.mean;
};

/** Held-out loss by step, averaged over a row's runs. */
export const curveOf = ({ runs }: Row): readonly { readonly x: number; readonly y: number }[] => {
  const steps = new Map<number, number[]>();
  for (const { metrics } of runs) {
    for (const { step, heldOutLoss } of metrics) {
      if (heldOutLoss === undefined || !Number.isFinite(heldOutLoss)) continue;
      steps.set(step, [...steps.get(step) ?? [], heldOutLoss]);
    }
  }
  return [...steps].map(([x, losses]) => ({ x, y: mean(losses) }));
};

/** Floating-point operations of training, for each clip; undefined where the device did not report them. */
export const flopsPerClip = ({ record, spec }: RunResult): number | undefined =>
  record.step === undefined ? undefined : record.step.flops / spec.batch;
