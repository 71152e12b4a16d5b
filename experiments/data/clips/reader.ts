// Recordings in files and archives, read by threads: shared by folders, tasks and shards once their
// members are listed.
import * as E from "fp-ts/Either.js";
import type { FrontEnd } from "../../../models/frontend.ts";
import { unlessEnded } from "../../io/interrupt.ts";
import type { Place, Read, RecordingKind } from "./read_clip.ts";
import { openPool, type Pool, usualThreads } from "./reader_pool.ts";
import { printOf, type Recordings } from "./recordings.ts";
import type { DataError, Skipped } from "./source.ts";
import { storedBytes } from "./spectrogram_cache.ts";
import { withoutSlash } from "../../io/files.ts";

/** Where spectrograms are cached, and how many. */
export interface StoreSpec {
  /** A folder; it need not exist, and may be deleted at any time. */
  readonly path: string;
  /** Size limit of the cache, in 10⁹ bytes. */
  readonly gigabytes: number;
}

/** How recordings are read. */
export interface ReadingOptions {
  readonly frontEnd: FrontEnd;
  /** Frames of a crop. */
  readonly frames: number;
  readonly store?: StoreSpec;
  /** Number of reader threads; does not affect what is read. */
  readonly threads?: number;
  /** Number of processes that fill the same cache. */
  readonly sharing?: number;
}

/** Recordings as listed, before any is read. */
export interface Members {
  /** Where they come from, to follow "from". */
  readonly describe: string;
  /** A fingerprint: differs for other recordings or another order. */
  readonly print: string;
  readonly form: RecordingKind;
  readonly count: number;
  readonly nameOf: (recording: number) => string;
  readonly placeOf: (recording: number) => Place;
  readonly skipped: readonly Skipped[];
}

/** The reader threads for one form of recordings; they share the remaining room in the cache. */
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

/** Members as recordings; closing them closes `pool`. After `signal`, reads in progress are abandoned. */
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

/** Files of a folder, by their paths relative to it. */
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
