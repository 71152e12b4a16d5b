// The numbers of a run, one JSON line for each report: `metrics.jsonl`. Lines are only ever added,
// whole and at once, so that a killed run leaves a readable file; only a resumed run takes back the
// lines that came after its checkpoint, because it will write them again.
import * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import { pipe } from "fp-ts/function.js";
import { type FieldError, fieldError, fieldErrorText, fields, from0, wholeFrom } from "./codec.ts";

/** What is known after a step. Step 0 is before the first update. */
export interface Metric {
  /** Updates made so far. */
  readonly step: number;
  /** Loss of the step's batch before its update; absent at step 0. */
  readonly loss?: number;
  /** Loss over the held-out clips with the parameters after this step, where it was measured. */
  readonly heldOutLoss?: number;
  /** Learning rate of the step's update; absent at step 0. */
  readonly learningRate?: number;
  /** Norm of the step's gradients before clipping, where they are clipped. */
  readonly gradientNorm?: number;
  /** Training clips per second since the line before; absent at step 0. */
  readonly clipsPerSecond?: number;
  /** Seconds since the run began, those before a resume included. */
  readonly elapsed: number;
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

/** An open `metrics.jsonl`. */
export interface MetricsFile {
  /** Adds one line. It is on the disk when this returns, even if the process is killed then. */
  readonly append: (metric: Metric) => E.Either<MetricsError, void>;
  /** Ends the writing. */
  readonly close: () => void;
}

// A number that JSON writes as null when it is not finite: a loss that blew up is kept as NaN.
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
  learningRate: optional(from0),
  gradientNorm: optional(measured),
  clipsPerSecond: optional(from0),
  elapsed: from0,
});

/**
 * Opens `metrics.jsonl` for adding lines, and makes it when there is none. With `through`, lines
 * of later steps are taken out first: a run that resumes from the checkpoint of that step writes
 * them again. Without it, the file starts empty.
 */
export function openMetrics(path: string, through?: number): E.Either<MetricsError, MetricsFile> {
  return pipe(
    through === undefined ? E.right([]) : readMetrics(path),
    E.chain((lines) =>
      attempt("opened", path, () => {
        const kept = lines.filter((metric) => metric.step <= (through ?? -1));
        const fresh = `${path}.new`;
        Deno.writeTextFileSync(fresh, kept.map(metricLine).join(""));
        Deno.renameSync(fresh, path);
        return Deno.openSync(path, { append: true });
      })
    ),
    E.map((file): MetricsFile => ({
      append: (metric) =>
        attempt("written", path, () => {
          const bytes = new TextEncoder().encode(metricLine(metric));
          for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
          file.syncDataSync();
        }),
      close: () => file.close(),
    })),
  );
}

/** All lines of a `metrics.jsonl`. No file is no lines. */
export function readMetrics(path: string): E.Either<MetricsError, readonly Metric[]> {
  return pipe(
    attempt("read", path, () => {
      try {
        return Deno.readTextFileSync(path);
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return "";
        throw error;
      }
    }),
    E.chain((text) => parseMetrics(text, path)),
  );
}

/**
 * The lines of a text in the form of `metrics.jsonl`; `path` is only what errors call it. A last
 * line without its end was cut by a kill and is left out.
 */
export function parseMetrics(
  text: string,
  path: string,
): E.Either<MetricsError, readonly Metric[]> {
  const metrics: Metric[] = [];
  for (const [index, line] of text.split("\n").slice(0, -1).entries()) {
    const read = parseLine(line);
    if (E.isLeft(read)) {
      return E.left({ _tag: "MetricsLine", path, line: index + 1, problem: read.left });
    }
    metrics.push(read.right);
  }
  return E.right(metrics);
}

/** One metric as its line, with the line's end. */
export function metricLine(metric: Metric): string {
  return JSON.stringify(metric) + "\n";
}

function parseLine(line: string): E.Either<string, Metric> {
  return pipe(
    E.tryCatch((): unknown => JSON.parse(line), () => "it is not JSON"),
    E.chain((json) =>
      pipe(
        metricCodec.decode(json),
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
    reason: error instanceof Error ? error.message : String(error),
  }));
}

/** Why metrics could not be written or read, in one sentence. */
export function metricsErrorText(error: MetricsError): string {
  return error._tag === "MetricsFile"
    ? `${error.path} could not be ${error.doing}: ${error.reason}`
    : `${error.path}, line ${error.line}: ${error.problem}`;
}
