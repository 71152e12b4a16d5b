// The log of a run during training: metrics, timings, and both as one table.
import * as E from "fp-ts/Either.js";
import { type FileError, writeWhole } from "../io/files.ts";
import {
  type Metric,
  type MetricsError,
  metricsTable,
  openMetrics,
  openTimings,
  type Timing,
} from "./metrics.ts";

/** An open log. */
export interface RunLog {
  /** All recorded metrics, including those before a resume. */
  readonly metrics: readonly Metric[];
  readonly timings: readonly Timing[];
  /** Appends a line of each; they are on disk when this returns. */
  readonly record: (metric: Metric, timing: Timing) => E.Either<MetricsError, void>;
  /** Rewrites `metrics.csv`. */
  readonly table: () => Promise<E.Either<FileError, void>>;
  readonly close: () => void;
}

/** A log that keeps its entries in memory and writes no file. */
export const silentLog = (): RunLog => {
  const metrics: Metric[] = [], timings: Timing[] = [];
  return {
    metrics,
    timings,
    record: (metric, timing) => {
      metrics.push(metric);
      timings.push(timing);
      return E.right(undefined);
    },
    table: () => Promise.resolve(E.right(undefined)),
    close: () => {},
  };
};

/**
 * Opens the log of a run: empty or, when resuming from the step `through`, with what was recorded up to
 * it.
 */
export const openLog = (folder: string, through?: number): E.Either<MetricsError, RunLog> => {
  const metricsFile = openMetrics(`${folder}/metrics.jsonl`, through);
  if (E.isLeft(metricsFile)) return metricsFile;
  const timingsFile = openTimings(`${folder}/timing.jsonl`, through);
  if (E.isLeft(timingsFile)) {
    metricsFile.right.close();
    return timingsFile;
  }
  const metrics = [...metricsFile.right.kept], timings = [...timingsFile.right.kept];
  return E.right({
    metrics,
    timings,
    record: (metric, timing) => {
      metrics.push(metric);
      timings.push(timing);
      const first = metricsFile.right.append(metric);
      return E.isLeft(first) ? first : timingsFile.right.append(timing);
    },
    table: writeWholeTable,
    close: () => {
      metricsFile.right.close();
      timingsFile.right.close();
    },
  });

  function writeWholeTable(): Promise<E.Either<FileError, void>> {
    return writeWhole(`${folder}/metrics.csv`, metricsTable(metrics, timings))();
  }
};
