// The scores of an evaluation as tables: for the terminal, as CSV, and as LaTeX for papers.
import * as E from "fp-ts/Either.js";
import {
  columnWidths,
  csv,
  latexText,
  tabular,
  textTable as tableLines,
} from "../formats/tables.ts";
import type { Interval } from "./probe/statistics.ts";
import { type Evaluation, intervalOf, summaryOf } from "./results.ts";

/** Scores that are fractions, which are shown in per cent. */
const isShare = (score: string): boolean => score !== "d_prime";

/** A score with its interval: `64.5 ± 1.2`. */
export const scoreText = ({ mean, halfWidth }: Interval, factor: number): string => {
  // No "-0.0" for rounding errors below 0.
  const text = (of: number) => (factor * of).toFixed(1).replace(/^-(0\.0)$/, "$1");
  return Number.isNaN(mean)
    ? "no score"
    : text(mean) + (halfWidth === undefined ? "" : ` ± ${text(halfWidth)}`);
};

/** The factor by which a task's score is shown. */
export const factorOf = (score: string): number => isShare(score) ? 100 : 1;

/** Rows of a table with a header: a row for each task and one for s(m), a column for each model. */
export const rowsOf = (of: Evaluation): readonly (readonly string[])[] => {
  const summary = summaryOf(of);
  return [
    ["task", "score", ...of.models.map(({ name }) => name)],
    ...of.tasks.map((task) => [
      task.name,
      task.score,
      ...of.models.map(({ name }) => scoreText(intervalOf(of, name, task), factorOf(task.score))),
    ]),
    ...(E.isLeft(summary) ? [] : [[
      "all",
      "s(m)",
      ...summary.right.models.map(({ interval }) => scoreText(interval, 1)),
    ]]),
  ];
};

/** The table for a terminal. */
export const textTable = (of: Evaluation): string => {
  const rows = rowsOf(of);
  const [head, ...body] = tableLines(rows, 2);
  const summary = summaryOf(of);
  return [
    head,
    columnWidths(rows).map((width) => "-".repeat(width)).join("  "),
    ...body,
    ...(E.isLeft(summary) ? [summary.left] : []),
  ].join("\n");
};

/** Every score of every seed, as fractions: model, task, score, seed, value. */
export const scoresCsv = ({ models, tasks, results }: Evaluation): string => {
  const order = (model: string, task: string) =>
    tasks.findIndex(({ name }) => name === task) * models.length +
    models.findIndex(({ name }) => name === model);
  const lines = results.toSorted((a, b) => order(a.model, a.task) - order(b.model, b.task))
    .flatMap(({ model, task, seeds }) =>
      seeds.flatMap(({ seed, scores }) =>
        Object.entries(scores).map(([name, value]) => [model, task, name, seed, value])
      )
    );
  return csv(["model", "task", "score", "seed", "value"], lines);
};

/** The table in LaTeX: a row for each model, a column for each task; the best of each column is bold. */
export const latex = (of: Evaluation): string => {
  const summary = summaryOf(of);
  const columns = [
    ...of.tasks.map((task) => ({
      head: task.name,
      factor: factorOf(task.score),
      intervals: of.models.map(({ name }) => intervalOf(of, name, task)),
    })),
    ...(E.isLeft(summary) ? [] : [{
      head: "$s(m)$",
      factor: 1,
      intervals: summary.right.models.map(({ interval }) => interval),
    }]),
  ];
  const best = columns.map(({ intervals }) =>
    Math.max(...intervals.map(({ mean }) => Number.isNaN(mean) ? -Infinity : mean))
  );
  const heads = columns.map(({ head }) => head.startsWith("$") ? head : latexText(head));
  const rows = of.models.map(({ name }, k) => [
    latexText(name),
    ...columns.map(({ factor, intervals }, j) => {
      const text = latexText(scoreText(intervals[k], factor));
      return intervals[k].mean === best[j] ? `\\textbf{${text}}` : text;
    }),
  ]);
  return tabular(["", ...heads], rows);
};
