// The source of training clips: standardised log-mel spectrograms, cropped to the model's length, in an
// order that is a function of the seed alone. So a run can resume anywhere, and several processes each
// read their share of the same batches.
import type * as E from "fp-ts/Either.js";
import { type AudioError, audioErrorText } from "../audio/recording.ts";
import { type TaskError, taskErrorText } from "../hear/task.ts";

/** A recording that is skipped, and why. */
export interface Skipped {
  /** The file, or the member of an archive, as named by its source. */
  readonly path: string;
  /** Why, in words. */
  readonly reason: string;
}

/** A clip that is scored and never trained on. */
export interface HeldOut {
  readonly name: string;
  /** Standardised log-mel values, `frames × mels`, row-major. */
  readonly frames: Float32Array;
}

/** Why clips could not be read. */
export type DataError =
  | { readonly _tag: "AudioError"; readonly error: AudioError }
  | { readonly _tag: "BrokenTasks"; readonly errors: readonly TaskError[] }
  /** A path of the spec has nothing usable; the problem follows the path in the message. */
  | { readonly _tag: "BadPlace"; readonly path: string; readonly problem: string }
  /** More recordings were skipped than the spec allows. */
  | {
    readonly _tag: "TooManySkipped";
    readonly from: string;
    readonly skipped: readonly Skipped[];
    /** Recordings, the skipped ones included. */
    readonly of: number;
    /** Maximum share that may be skipped. */
    readonly most: number;
  }
  /** Too few usable recordings to train and hold out. */
  | {
    readonly _tag: "TooFewClips";
    readonly from: string;
    /** Usable recordings. */
    readonly clips: number;
    readonly skipped: readonly Skipped[];
  }
  /** The process was asked to end while recordings were read. */
  | { readonly _tag: "Interrupted" }
  /** Data that was listed at the start can no longer be read. */
  | { readonly _tag: "DataGone"; readonly path: string; readonly reason: string };

/** Training and held-out clips, open for reading. */
export interface Source {
  /** Where clips come from, to follow "from", such as `the recordings in sounds`. */
  readonly describe: string;
  /** A description that differs for other clips or another order. */
  readonly identity: string;
  /** Number of training clips; one pass uses each once. */
  readonly clips: number;
  /** The held-out clips, all of the same length, at least one. */
  readonly heldOut: readonly HeldOut[];
  /** Recordings skipped so far; a source that streams may find more later. */
  readonly skipped: () => readonly Skipped[];
  /**
   * The clips of uses `first`, …, `first + count - 1` of the training order, `[count, frames, mels]`
   * row-major and standardised. Use `step × batch + k` is clip `k` of a step; each pass has its own order
   * and each use its own crop. The same source, seed and indices give the same bits, independent of earlier
   * reads. Not reentrant.
   */
  readonly batch: (first: number, count: number) => Promise<E.Either<DataError, Float32Array>>;
  /** Stops its threads and closes its files. */
  readonly close: () => void;
}

/** Why clips could not be read, in one sentence. */
export function dataErrorText(error: DataError): string {
  switch (error._tag) {
    case "AudioError":
      return audioErrorText(error.error);
    case "BrokenTasks":
      return error.errors.map((one) => taskErrorText(one)).join("\n");
    case "BadPlace":
      return `${error.path} ${error.problem}`;
    case "TooManySkipped": {
      const [first] = error.skipped;
      return `${error.skipped.length} of ${error.of} recordings from ${error.from} were skipped, ` +
        `more than the share of ${error.most} that data.skippedFraction allows; the first is ` +
        `${first.path}: ${first.reason}`;
    }
    case "TooFewClips":
      return `there ${error.clips === 1 ? "is 1 clip" : `are ${error.clips} clips`} from ` +
        `${error.from}, but training and holding out need at least 2` +
        (error.skipped.length === 0
          ? ""
          : `; skipped: ${error.skipped[0].path}: ${error.skipped[0].reason}` +
            (error.skipped.length === 1 ? "" : `, and ${error.skipped.length - 1} more`));
    case "Interrupted":
      return "interrupted while recordings were read";
    case "DataGone":
      return `${error.path} can no longer be read: ${error.reason}; put it back and resume the run`;
  }
}
