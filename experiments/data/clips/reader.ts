// Recordings in files and archives, read by threads: shared by folders, tasks and shards once their
// members are known.
import * as E from "fp-ts/Either.js";
import type { FrontEnd } from "../../../models/frontend.ts";
import { unlessEnded } from "../../io/interrupt.ts";
import type { Place, Read, RecordingKind } from "./read_clip.ts";
import { openPool, type Pool, usualThreads } from "./reader_pool.ts";
import { printOf, type Recordings } from "./recordings.ts";
import type { DataError, Skipped } from "./source.ts";
import { storedBytes } from "./spectrogram_cache.ts";
import { withoutSlash } from "../../io/files.ts";

/** Where spectrograms are kept, and how much. */
export interface StoreSpec {
  /** A folder; it need not be there, and may be removed at any time. */
  readonly path: string;
  /** No more is kept once there are so many bytes × 10⁹ in it. */
  readonly gigabytes: number;
}

/** How recordings are read. */
export interface ReadingOptions {
  readonly frontEnd: FrontEnd;
  /** Frames of a crop. */
  readonly frames: number;
  readonly store?: StoreSpec;
  /** Threads that read; what is read does not depend on it. */
  readonly threads?: number;
  /** Processes that fill the same store. */
  readonly sharing?: number;
}

/** What is known of recordings before any is read. */
export interface Members {
  /** Where they come from, to be read after "from". */
  readonly describe: string;
  /** A text that differs wherever there are others, or in another order. */
  readonly print: string;
  readonly form: RecordingKind;
  readonly count: number;
  readonly nameOf: (recording: number) => string;
  readonly placeOf: (recording: number) => Place;
  readonly skipped: readonly Skipped[];
}

/** The threads that read recordings of a form; they share what room is left in the store. */
export const readingPool = (form: RecordingKind, options: ReadingOptions): Pool => {
  const { frontEnd, frames, store, threads = usualThreads(), sharing = 1 } = options;
  const kept = store === undefined ? {} : {
    store: {
      path: store.path,
      room: Math.max(0, store.gigabytes * 1e9 - storedBytes(store.path)) / threads / sharing,
    },
  };
  return openPool({ form, frontEnd, frames, ...kept }, threads);
};

/** Members as recordings; `pool` is closed with them. What is read is not waited for after `signal`. */
export const inFiles = (members: Members, pool: Pool, signal?: AbortSignal): Recordings => ({
  ...members,
  read: async (wanted) => {
    const read = await unlessEnded(
      Promise.all(
        wanted.map(({ recording, at }) =>
          pool.ask<Read>({ kind: "crop", place: members.placeOf(recording), at })
        ),
      ),
      signal,
    );
    if (read === undefined) return E.left<DataError>({ _tag: "Interrupted" });
    const values: E.Either<string, Float32Array>[] = [];
    for (const one of read) {
      if (one._tag === "Gone") {
        return E.left<DataError>({ _tag: "DataGone", path: one.path, reason: one.reason });
      }
      values.push(one._tag === "Values" ? E.right(one.values) : E.left(one.reason));
    }
    return E.right(values);
  },
  close: pool.close,
});

/** Files of a folder, by their paths in it. */
export const folderMembers = async (
  describe: string,
  folder: string,
  paths: readonly string[],
): Promise<Members> => ({
  describe,
  print: await printOf(paths),
  form: "audio",
  count: paths.length,
  nameOf: (recording) => paths[recording],
  placeOf: (recording) => ({ path: `${withoutSlash(folder)}/${paths[recording]}` }),
  skipped: [],
});
