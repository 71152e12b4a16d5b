// Opens the data of a spec as a source of clips.
import * as E from "fp-ts/Either.js";
import { listRecordings } from "./audio/recording.ts";
import { readTasks } from "./hear/task.ts";
import { unlessEnded } from "../io/interrupt.ts";
import type { FrontEnd } from "../../models/frontend.ts";
import type { DataSpec, HearData } from "./config.ts";
import { synthesisedClips } from "./synth/corpus.ts";
import { folderMembers, inFiles, type Members, readingPool } from "./clips/reader.ts";
import type { Pool } from "./clips/reader_pool.ts";
import { orderedSource } from "./clips/sampler.ts";
import { inMemory, printOf, type Recordings } from "./clips/recordings.ts";
import { shardMembers } from "./clips/shards.ts";
import type { DataError, Source } from "./clips/source.ts";

/** Options of opening; they do not affect what is read. */
export interface OpenOptions {
  /** Number of reader threads; by default one per processor except one. */
  readonly threads?: number;
  /** Number of processes that open the same data and share the remaining room in its cache; default 1. */
  readonly sharing?: number;
  /** Aborts waiting for reads. */
  readonly signal?: AbortSignal;
  /** Called with the number of recordings read so far, and how many there are to read. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** The fields of a spec that data depends on. */
export interface DataFields {
  readonly seed: number;
  readonly frontEnd: FrontEnd;
  readonly clip: { readonly frames: number };
  readonly data: DataSpec;
}

/** The source of a spec's data. */
export const openSource = async (
  { seed, frontEnd, clip: { frames }, data }: DataFields,
  { threads, sharing, signal, onProgress }: OpenOptions = {},
): Promise<E.Either<DataError, Source>> => {
  const order = {
    seed,
    size: frames * frontEnd.mels,
    heldOutFraction: data.heldOutFraction,
    ...(onProgress === undefined ? {} : { onProgress }),
  };
  if (data.kind === "synthetic") {
    const clips = synthesisedClips(seed, data.clips, data.seconds);
    const recordings = await inMemory("the synthesised corpus", clips, frontEnd, frames, signal);
    return recordings === undefined
      ? E.left({ _tag: "Interrupted" })
      : await orderedSource(recordings, { ...order, skippedFraction: 0 });
  }
  const { store, skippedFraction } = data;
  const form = data.kind === "shards" ? data.members : "audio";
  const pool = readingPool(form, {
    frontEnd,
    frames,
    ...(store === undefined ? {} : { store }),
    ...(threads === undefined ? {} : { threads }),
    ...(sharing === undefined ? {} : { sharing }),
  });
  const members = await unlessEnded(membersOf(data, pool), signal) ??
    E.left<DataError>({ _tag: "Interrupted" });
  if (E.isLeft(members)) {
    pool.close();
    return members;
  }
  const recordings: Recordings = inFiles(members.right, pool, signal);
  return await orderedSource(recordings, { ...order, skippedFraction });
};

async function membersOf(
  data: Exclude<DataSpec, { readonly kind: "synthetic" }>,
  pool: Pool,
): Promise<E.Either<DataError, Members>> {
  switch (data.kind) {
    case "folder": {
      const listed = await listRecordings(data.path)();
      return E.isLeft(listed)
        ? E.left({ _tag: "AudioError", error: listed.left })
        : E.right(await folderMembers(`the recordings in ${data.path}`, data.path, listed.right));
    }
    case "hear":
      return await taskMembers(data);
    case "shards":
      return await shardMembers(data.paths, data.members, pool, data.store);
  }
}

async function taskMembers(data: HearData): Promise<E.Either<DataError, Members>> {
  const read = await readTasks(data.tasks)();
  if (E.isLeft(read)) return E.left({ _tag: "BrokenTasks", errors: read.left });
  const wanted = data.splits ?? ["train"];
  const paths: string[] = [];
  for (const { folder, splits } of read.right) {
    const used = splits.filter(({ name }) => wanted.includes(name));
    if (used.length === 0) {
      const problem = `has the splits ${splits.map(({ name }) => name).join(", ")}; name in ` +
        "data.splits those that may be trained on";
      return E.left({ _tag: "BadPlace", path: folder, problem });
    }
    for (const { clips } of used) paths.push(...clips.map(({ path }) => path));
  }
  const tasks = read.right.map(({ metadata }) => metadata.name).join(", ");
  return E.right({
    describe: `the ${wanted.join(", ")} ${wanted.length === 1 ? "split" : "splits"} of ${tasks}`,
    print: await printOf(paths),
    form: "audio",
    count: paths.length,
    nameOf: (recording) => paths[recording],
    placeOf: (recording) => ({ path: paths[recording] }),
    skipped: [],
  });
}
