// The metrics of a run, one JSON line per report. `metrics.jsonl` holds values that the spec and the device
// determine, so that two runs of one spec have bit-identical files, however often they were interrupted;
// `timing.jsonl` holds times. Lines are appended whole, so that a killed run leaves readable files; only a
// resumed run removes the lines after its checkpoint, as it will write them again. So it does not matter
// if a power failure damages the last of those.
import * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import { pipe } from "fp-ts/function.js";
import {
  type FieldError,
  fieldError,
  fieldErrorText,
  fields,
  from0,
  from0to1,
  schemaOf,
  wholeFrom,
} from "../io/schema.ts";
import { reasonText } from "../io/files.ts";

/** The metrics of a step. Step 0 is before the first update. */
export interface Metric {
  /** Updates made so far. */
  readonly step: number;
  /** Loss of the step's batch before its update; absent at step 0. */
  readonly loss?: number;
  /** Loss over the held-out clips with the parameters after this step, if measured. */
  readonly heldOutLoss?: number;
  /** The same with the moving averages of the parameters, if kept. */
  readonly averageHeldOutLoss?: number;
  /** Learning rate of the step's update; absent at step 0. */
  readonly learningRate?: number;
  /** Norm of the step's gradients before clipping; only with clipping. */
  readonly gradientNorm?: number;
  /** The loss scale, with loss scaling; halved after a step whose update was skipped. */
  readonly lossScale?: number;
}

/** The speed of a run up to a step; a line for each line of metrics. */
export interface Timing {
  readonly step: number;
  /** Seconds of training so far, including those before a resume. */
  readonly elapsed: number;
  /** Training clips per second since the previous line, excluding scoring; absent at step 0. */
  readonly clipsPerSecond?: number;
  /** Fraction of that time in which the device waited for clips; absent at step 0. */
  readonly dataWait?: number;
  /** Memory of the process in bytes, without GPU memory. */
  readonly memory: number;
}

/** Why metrics could not be written or read. */
export type MetricsError =
  | {
    readonly _tag: "MetricsFile";
    readonly doing: "opened" | "written" | "read";
    readonly path: string;
    readonly reason: string;
  }
  | {
    readonly _tag: "MetricsLine";
    readonly path: string;
    readonly line: number;
    readonly problem: string;
  };

/** An open file of JSON lines. */
export interface LinesFile<A> {
  /** The lines present when it was opened. */
  readonly kept: readonly A[];
  /** Appends one line. It is on disk when this returns, even if the process is killed then. */
  readonly append: (line: A) => E.Either<MetricsError, void>;
  readonly close: () => void;
}

// JSON writes numbers that are not finite as null: a diverged loss is stored as NaN.
const measured = new t.Type<number>(
  "a number or null",
  (u): u is number => typeof u === "number",
  (u, c) => u === null ? t.success(NaN) : typeof u === "number" ? t.success(u) : t.failure(u, c),
  t.identity,
);

const optional = (codec: t.Type<number>): t.Type<number | undefined> =>
  new t.Type<number | undefined>(
    codec.name,
    (u): u is number | undefined => u === undefined || codec.is(u),
    (u, c) => u === undefined ? t.success(u) : codec.validate(u, c),
    t.identity,
  );

const metricCodec = fields<Metric>({
  step: wholeFrom(0),
  loss: optional(measured),
  heldOutLoss: optional(measured),
  averageHeldOutLoss: optional(measured),
  learningRate: optional(from0),
  gradientNorm: optional(measured),
  lossScale: optional(measured),
});

const timingCodec = fields<Timing>({
  step: wholeFrom(0),
  elapsed: from0,
  clipsPerSecond: optional(from0),
  dataWait: optional(from0to1),
  memory: from0,
});

/**
 * Opens `metrics.jsonl` for appending, and creates it if there is none. With `through`, lines of later
 * steps are removed first: a run that resumes from the checkpoint of that step writes them again. Without
 * it, the file starts empty.
 */
export const openMetrics = (
  path: string,
  through?: number,
): E.Either<MetricsError, LinesFile<Metric>> => openLines(metricCodec, path, through);

/** Opens `timing.jsonl` as `openMetrics` does `metrics.jsonl`. */
export const openTimings = (
  path: string,
  through?: number,
): E.Either<MetricsError, LinesFile<Timing>> => openLines(timingCodec, path, through);

/** All lines of a `metrics.jsonl`; empty if there is no file. */
export const readMetrics = (path: string): E.Either<MetricsError, readonly Metric[]> =>
  readLines(metricCodec, path);

/** All lines of a `timing.jsonl`; empty if there is no file. */
export const readTimings = (path: string): E.Either<MetricsError, readonly Timing[]> =>
  readLines(timingCodec, path);

/**
 * Parses the lines of a `metrics.jsonl`; `path` is only its name in errors. A last line without a newline
 * was truncated by a kill and is dropped.
 */
export const parseMetrics = (
  text: string,
  path: string,
): E.Either<MetricsError, readonly Metric[]> => parseLines(metricCodec, text, path);

/** Metrics with their timings as CSV with a header. */
export function metricsTable(metrics: readonly Metric[], timings: readonly Timing[]): string {
  const of = (codec: t.Any) => Object.keys(schemaOf(codec).properties!);
  const names = [...new Set([...of(metricCodec), ...of(timingCodec)])];
  const timingOf = new Map(timings.map((timing) => [timing.step, timing]));
  const rows = metrics.map((metric) => {
    const row: Readonly<Record<string, number | undefined>> = {
      ...timingOf.get(metric.step),
      ...metric,
    };
    return names.map((name) => row[name] ?? "").join(",");
  });
  return [names.join(","), ...rows].map((line) => `${line}\n`).join("");
}

function openLines<A extends { readonly step: number }>(
  codec: t.Type<A>,
  path: string,
  through: number | undefined,
): E.Either<MetricsError, LinesFile<A>> {
  return pipe(
    through === undefined ? E.right([]) : readLines(codec, path, true),
    E.chain((lines) => {
      const kept = lines.filter((line) => line.step <= (through ?? -1));
      return attempt("opened", path, () => {
        const fresh = `${path}.new`;
        Deno.writeTextFileSync(fresh, kept.map(lineOf).join(""));
        if (kept.length > 0) {
          using file = Deno.openSync(fresh, { write: true });
          file.syncSync();
        }
        Deno.renameSync(fresh, path);
        return { kept, file: Deno.openSync(path, { append: true }) };
      });
    }),
    E.map(({ kept, file }): LinesFile<A> => ({
      kept,
      append: (line) =>
        attempt("written", path, () => {
          const bytes = new TextEncoder().encode(lineOf(line));
          for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
          file.syncDataSync();
        }),
      close: () => file.close(),
    })),
  );
}

function readLines<A>(
  codec: t.Type<A>,
  path: string,
  spoiltEnd = false,
): E.Either<MetricsError, readonly A[]> {
  return pipe(
    attempt("read", path, () => {
      try {
        return Deno.readTextFileSync(path);
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return "";
        throw error;
      }
    }),
    E.chain((text) => parseLines(codec, text, path, spoiltEnd)),
  );
}

// With `spoiltEnd`, invalid lines at the end are dropped.
function parseLines<A>(
  codec: t.Type<A>,
  text: string,
  path: string,
  spoiltEnd = false,
): E.Either<MetricsError, readonly A[]> {
  const lines: A[] = [];
  const reads = text.split("\n").slice(0, -1).map((line) => parseLine(codec, line));
  const end = spoiltEnd ? reads.findLastIndex(E.isRight) + 1 : reads.length;
  for (const [index, read] of reads.slice(0, end).entries()) {
    if (E.isLeft(read)) {
      return E.left({ _tag: "MetricsLine", path, line: index + 1, problem: read.left });
    }
    lines.push(read.right);
  }
  return E.right(lines);
}

const lineOf = (line: unknown): string => JSON.stringify(line) + "\n";

function parseLine<A>(codec: t.Type<A>, line: string): E.Either<string, A> {
  return pipe(
    E.tryCatch((): unknown => JSON.parse(line), () => "it is not JSON"),
    E.chain((json) =>
      pipe(
        codec.decode(json),
        E.mapLeft((errors) =>
          errors.map((error: t.ValidationError): FieldError => fieldError(error))
            .map(fieldErrorText).join("; ")
        ),
      )
    ),
  );
}

function attempt<A>(
  doing: "opened" | "written" | "read",
  path: string,
  act: () => A,
): E.Either<MetricsError, A> {
  return E.tryCatch(act, (error): MetricsError => ({
    _tag: "MetricsFile",
    doing,
    path,
    reason: reasonText(error),
  }));
}

/** Why metrics could not be written or read, in one sentence. */
export function metricsErrorText(error: MetricsError): string {
  return error._tag === "MetricsFile"
    ? `${error.path} could not be ${error.doing}: ${error.reason}`
    : `${error.path}, line ${error.line}: ${error.problem}; remove the line to do without it`;
}
