// The tables of a study: for the terminal, the page and LaTeX, and as CSV with all numbers of all runs.
import { factorOf, scoreText } from "../evaluation/table.ts";
import type { Interval } from "../evaluation/probe/statistics.ts";
import { csv, latexText, tabular, textTable as tableLines } from "../formats/tables.ts";
import { durationText, lossText, wholeText } from "../plots/html.ts";
import type { LengthPoint } from "./lengths.ts";
import {
  aggregateOf,
  flopsPerClip,
  lossesOf,
  type PartResult,
  scoreOf,
  type StudyResult,
  tasksOf,
} from "./results.ts";

/** A table of text cells; the first column labels the rows. */
export interface Table {
  readonly caption: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** For each column the row with the best value, if there is one. */
  readonly best: readonly (number | undefined)[];
}

const lossInterval = (of: Interval | undefined): string =>
  of === undefined ? "-" : lossText(of.mean) +
    (of.halfWidth === undefined ? "" : ` ± ${lossText(of.halfWidth)}`);

const bestOf = (
  values: readonly (number | undefined)[],
  better: "lower" | "higher",
): number | undefined => {
  const sign = better === "lower" ? -1 : 1;
  const of = values.map((value) =>
    value === undefined || Number.isNaN(value) ? -Infinity : sign * value
  );
  const most = Math.max(...of);
  return Number.isFinite(most) && of.filter((value) => value === most).length === 1
    ? of.indexOf(most)
    : undefined;
};

/** Training results and cost of the rows of a part. */
export const trainingTable = ({ title, rows }: PartResult): Table => {
  const losses = rows.map(lossesOf);
  const cells = rows.map((row, k) => {
    const [run] = row.runs;
    const flops = run === undefined ? undefined : flopsPerClip(run);
    const parameters = run?.record.parameters;
    return [
      row.label + (row.runs.length > 1 ? ` (${row.runs.length} seeds)` : "") +
      (run === undefined ? " (not finished)" : ""),
      parameters === undefined ? "-" : wholeText(parameters),
      flops === undefined ? "-" : (flops / 1e6).toFixed(flops < 1e7 ? 1 : 0),
      lossInterval(losses[k].first),
      lossInterval(losses[k].last),
      lossInterval(losses[k].baseline),
      run?.clipsPerSecond === undefined ? "-" : run.clipsPerSecond.toFixed(1),
      run === undefined ? "-" : durationText(run.seconds),
    ];
  });
  return {
    caption: title,
    head: [
      "",
      "parameters",
      "Mflop a clip",
      "held-out loss, untrained",
      "trained",
      "clip's mean",
      "clips/s",
      "time",
    ],
    rows: cells,
    best: [
      undefined,
      undefined,
      undefined,
      undefined,
      bestOf(losses.map(({ last }) => last?.mean), "lower"),
    ],
  };
};

/** Downstream scores of the rows of a part; undefined if they are not scored. */
export const scoresTable = (part: PartResult, result: StudyResult): Table | undefined => {
  const tasks = tasksOf(result.runs);
  if (tasks.length === 0) return undefined;
  const models = part.rows.filter(({ runs }) => runs.length > 0).flatMap((row) => [
    { label: row.label, row, kind: "pre-trained" as const },
    { label: `${row.label}, untrained`, row, kind: "untrained" as const },
  ]);
  const [first] = models;
  if (first === undefined) return undefined;
  const all = [
    ...models,
    { label: "log-mel statistics", row: first.row, kind: "log-mel statistics" as const },
  ];
  const columns = [
    ...tasks.map(({ task, score }) => ({
      head: task,
      factor: factorOf(score),
      intervals: all.map(({ row, kind }) => scoreOf(row, task, kind)),
    })),
    ...(result.ranges === undefined ? [] : [{
      head: "s(m)",
      factor: 1,
      intervals: all.map(({ row, kind }) => aggregateOf(row, result.ranges, kind)),
    }]),
  ];
  return {
    caption: `${part.title}: downstream`,
    head: ["", ...columns.map(({ head }) => head)],
    rows: all.map(({ label }, k) => [
      label,
      ...columns.map(({ intervals, factor }) => {
        const of = intervals[k];
        return of === undefined ? "-" : scoreText(of, factor);
      }),
    ]),
    best: [
      undefined,
      ...columns.map(({ intervals }) => bestOf(intervals.map((of) => of?.mean), "higher")),
    ],
  };
};

/** All tables of a study, part by part. */
export const tablesOf = (result: StudyResult): readonly Table[] =>
  result.parts.flatMap((part) => {
    const scores = scoresTable(part, result);
    return [trainingTable(part), ...(scores === undefined ? [] : [scores])];
  });

/** A table for a terminal, under its caption. */
export const textTable = ({ caption, head, rows }: Table): string =>
  [caption, ...tableLines([head, ...rows], 1)].join("\n");

/** All tables as LaTeX, each a `tabular` after a comment with its caption. */
export const latexTables = (tables: readonly Table[]): string =>
  tables.map(({ caption, head, rows, best }) => {
    const cells = rows.map((row, n) =>
      row.map((cell, k) => best[k] === n ? `\\textbf{${latexText(cell)}}` : latexText(cell))
    );
    return `% ${caption}\n${tabular(head.map(latexText), cells)}`;
  }).join("\n");

/** Every run in every part: its settings, cost and training results. */
export const runsCsv = (result: StudyResult): string => {
  const rows = result.parts.flatMap(({ title, rows }) =>
    rows.flatMap((row) =>
      row.runs.map((run) => {
        const { spec, record, seconds, clipsPerSecond } = run;
        const { first, last } = lossesOf({ ...row, runs: [run] });
        return [
          title,
          row.label,
          spec.name,
          spec.seed,
          spec.encoder.family,
          record.parameters,
          flopsPerClip(run),
          record.step?.peakBytes,
          spec.schedule.steps,
          spec.batch,
          first?.mean,
          last?.mean,
          record.baseline,
          clipsPerSecond,
          seconds,
          record.device,
        ];
      })
    )
  );
  return csv(runColumns, rows);
};
const runColumns: readonly string[] = [
  ...["part", "row", "run", "seed", "family", "parameters", "flopsPerClip", "peakBytes", "steps"],
  ...["batch", "heldOutLossUntrained", "heldOutLoss", "baseline", "clipsPerSecond", "seconds"],
  "device",
];

/** Every score of every run: the trained model, the untrained one, and log-mel statistics. */
export const scoresCsv = ({ runs }: StudyResult): string =>
  csv(
    ["run", "model", "task", "score", "seed", "value"],
    runs.flatMap(({ spec, scores }) =>
      scores.flatMap(({ kind, task, score, values }) =>
        values.map((value, seed) => [spec.name, kind, task, score, seed, value])
      )
    ),
  );

/** Time and memory by length. */
export const lengthsCsv = (points: readonly LengthPoint[]): string =>
  csv(
    ["encoder", "pass", "tokens", "ms", "peakBytes", "device", "trouble"],
    points.map((
      { label, pass, tokens, ms, peakBytes, device, trouble },
    ) => [label, pass, tokens, ms, peakBytes, device, trouble]),
  );
