// Recordings by number, readable in any order: the input of the sampler, wherever they are stored.
// The in-memory kind is here; reader.ts has the one for files and archives.
import * as E from "fp-ts/Either.js";
import type { FrontEnd } from "../../../models/frontend.ts";
import { logMelOnHost } from "../audio/log_mel.ts";
import { crop, type LogMel, standardised } from "../audio/spectrogram.ts";
import { isEnded } from "../../io/interrupt.ts";
import type { DataError, Skipped } from "./source.ts";
import { contentKey } from "./spectrogram_cache.ts";

/** Which part of which recording is wanted. */
export interface Crop {
  /** The number of the recording. */
  readonly recording: number;
  /** Where it begins: a part, from 0 to below 1, of the starts that there are. */
  readonly at: number;
}

/** Recordings, open for reading. */
export interface Recordings {
  /** Where they come from, to be read after "from". */
  readonly describe: string;
  /** A text that differs wherever there are others, or in another order. */
  readonly print: string;
  readonly count: number;
  readonly nameOf: (recording: number) => string;
  /** What was found not to be usable while they were listed. */
  readonly skipped: readonly Skipped[];
  /**
   * The crops that are wanted, in order: standardised log-mel values, `frames × mels`; on the left,
   * why a recording cannot be used. What comes is the same whatever was read before.
   */
  readonly read: (
    wanted: readonly Crop[],
  ) => Promise<E.Either<DataError, readonly E.Either<string, Float32Array>[]>>;
  readonly close: () => void;
}

/**
 * The frame at which a crop of `frames` begins, of a recording of `all`: `at` is a part of the starts
 * that there are. As published, the last possible start is never drawn.
 */
export const startOf = (all: number, at: number, frames: number): number =>
  Math.floor(at * Math.max(1, all - frames));

/** A crop of `frames` frames; a recording that is too short is repeated. */
export const cropAt = (of: LogMel, at: number, frames: number): Float32Array =>
  crop(of, startOf(of.frames, at, frames), frames);

/** What stands for a list of texts. */
export const printOf = async (texts: readonly string[]): Promise<string> =>
  (await contentKey(new TextEncoder().encode(texts.join("\n")))).slice(0, 12);

/** A sound in memory. */
export interface Clip {
  readonly name: string;
  /** Mono samples at the front end's rate. */
  readonly samples: Float32Array;
}

/**
 * Sounds in memory as recordings, of which crops of `frames` frames are read. Undefined where `signal` is
 * aborted before all are ready.
 */
export const inMemory = async (
  describe: string,
  clips: Iterable<Clip>,
  frontEnd: FrontEnd,
  frames: number,
  signal?: AbortSignal,
): Promise<Recordings | undefined> => {
  const extract = logMelOnHost(frontEnd);
  const spectrograms: LogMel[] = [], names: string[] = [], prints: string[] = [];
  for (const { name, samples } of clips) {
    if (await isEnded(signal)) return undefined;
    spectrograms.push(standardised(extract(samples)));
    names.push(name);
    prints.push(`${name} ${samples.length}`);
  }
  return {
    describe,
    print: await printOf(prints),
    count: names.length,
    nameOf: (recording) => names[recording],
    skipped: [],
    read: (wanted) =>
      Promise.resolve(
        E.right(
          wanted.map(({ recording, at }) => E.right(cropAt(spectrograms[recording], at, frames))),
        ),
      ),
    close: () => {},
  };
};
