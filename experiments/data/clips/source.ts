// The source of training clips: standardised log-mel spectrograms, cropped to the model's length,
// in an order that is a function of the seed alone. So a run can resume anywhere, and several
// processes each read their share of the same batches.
import type * as E from "fp-ts/Either.js";
import { type AudioError, audioErrorText } from "../audio/recording.ts";
import { type TaskError, taskErrorText } from "../hear/task.ts";

/** A recording that is not used, and why. */
export interface Skipped {
  /** The file, or the member of an archive, as its source names it. */
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

/** Why there are no clips, or no more of them. */
export type DataError =
  | { readonly _tag: "AudioError"; readonly error: AudioError }
  | { readonly _tag: "BrokenTasks"; readonly errors: readonly TaskError[] }
  /** A path of the spec names nothing that can be used; the problem follows it. */
  | { readonly _tag: "BadPlace"; readonly path: string; readonly problem: string }
  /** More was skipped than the spec allows. */
  | {
    readonly _tag: "TooManySkipped";
    readonly from: string;
    readonly skipped: readonly Skipped[];
    /** Recordings, the skipped ones included. */
    readonly of: number;
    /** The most that may be skipped, as a share. */
    readonly most: number;
  }
  /** Too few recordings could be used to train and hold out. */
  | {
    readonly _tag: "TooFewClips";
    readonly from: string;
    /** Those that can be used. */
    readonly clips: number;
    readonly skipped: readonly Skipped[];
  }
  /** An end was asked for while recordings were read. */
  | { readonly _tag: "Interrupted" }
  /** What was there when the run began can no longer be read. */
  | { readonly _tag: "DataGone"; readonly path: string; readonly reason: string };

/** Training and held-out clips, open for reading. */
export interface Source {
  /** Where clips come from, to be read after "from", such as `the recordings in sounds`. */
  readonly describe: string;
  /** What there is, in words; it differs wherever other clips, or in another order, are there. */
  readonly identity: string;
  /** Clips that are trained on; one pass uses each once. */
  readonly clips: number;
  /** The clips that are held out, all of the same length, at least one. */
  readonly heldOut: readonly HeldOut[];
  /** What could not be used so far; a source that streams may find more later. */
  readonly skipped: () => readonly Skipped[];
  /**
   * The clips of uses `first`, …, `first + count - 1` of the training order, `[count, frames, mels]`
   * row-major and standardised. The use `step × batch + k` is clip `k` of a step; each pass has its own
   * order and each use its own crop. The same source, seed and numbers give the same bits, whatever was
   * read before. One reading at a time.
   */
  readonly batch: (first: number, count: number) => Promise<E.Either<DataError, Float32Array>>;
  /** Ends its workers and closes its files. */
  readonly close: () => void;
}

/** Why there are no clips, in one sentence. */
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
