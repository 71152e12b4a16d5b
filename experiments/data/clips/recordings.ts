// Recordings by index, readable in any order: the input of the sampler, wherever they are stored. The
// in-memory implementation is here; reader.ts has the one for files and archives.
import * as E from "fp-ts/Either.js";
import type { FrontEnd } from "../../../models/frontend.ts";
import { logMelOnHost } from "../audio/log_mel.ts";
import { crop, type LogMel, standardised } from "../audio/spectrogram.ts";
import { isEnded } from "../../io/interrupt.ts";
import type { DataError, Skipped } from "./source.ts";
import { contentKey } from "./spectrogram_cache.ts";

/** A crop of a recording. */
export interface Crop {
  /** The index of the recording. */
  readonly recording: number;
  /** Its start, from 0 to below 1, as a fraction of the possible starts. */
  readonly at: number;
}

/** Recordings, open for reading. */
export interface Recordings {
  /** Where they come from, to follow "from". */
  readonly describe: string;
  /** A fingerprint: differs for other recordings or another order. */
  readonly print: string;
  readonly count: number;
  readonly nameOf: (recording: number) => string;
  /** Recordings found unusable while listing. */
  readonly skipped: readonly Skipped[];
  /**
   * The requested crops, in order: standardised log-mel values, `frames × mels`; on the left, why a
   * recording is unusable. Results do not depend on earlier reads.
   */
  readonly read: (
    wanted: readonly Crop[],
  ) => Promise<E.Either<DataError, readonly E.Either<string, Float32Array>[]>>;
  readonly close: () => void;
}

/**
 * The first frame of a crop of `frames` frames in a recording of `all`; `at` is a fraction of the possible
 * starts. As published, the last possible start is never drawn.
 */
export const startOf = (all: number, at: number, frames: number): number =>
  Math.floor(at * Math.max(1, all - frames));

/** A crop of `frames` frames; a shorter recording is repeated. */
export const cropAt = (of: LogMel, at: number, frames: number): Float32Array =>
  crop(of, startOf(of.frames, at, frames), frames);

/** A fingerprint of a list of texts. */
export const printOf = async (texts: readonly string[]): Promise<string> =>
  (await contentKey(new TextEncoder().encode(texts.join("\n")))).slice(0, 12);

/** A sound in memory. */
export interface Clip {
  readonly name: string;
  /** Mono samples at the front end's rate. */
  readonly samples: Float32Array;
}

/**
 * Sounds in memory as recordings, read as crops of `frames` frames. Undefined if `signal` is aborted before
 * all spectrograms are computed.
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
