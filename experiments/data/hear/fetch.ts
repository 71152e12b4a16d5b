// `deno task data hear`: the tasks of HEAR 2021 from their public archive, checked and ready for
// use. The archive has audio at 48000 Hz only, so it is resampled here; HEAR's own files at 16000
// Hz are in storage whose reader pays, and can be given as a file.
import * as E from "fp-ts/Either.js";
import { recordingRate } from "../audio/recording.ts";
import { killDecoder } from "../audio/decoder_client.ts";
import { ensureFolder, fileErrorText } from "../../io/files.ts";
import { listenForEnd, unlessEnded } from "../../io/interrupt.ts";
import { clock, type Progress, progress, standardError } from "../../io/progress.ts";
import { download, downloadErrorText, megabytes, recordFiles, type Remote } from "./download.ts";
import { knownTask, knownTasks } from "./published_tasks.ts";
import { readTask, type Task, taskErrorText } from "./task.ts";
import { discardUnpacking, unpackErrorText, unpackTask } from "./unpack.ts";

/** The JSON of the record on Zenodo that holds all tasks (version 2021.3). */
export const hearRecord = "https://zenodo.org/api/records/6332517";

/** What the command line says. */
export interface DataOptions {
  /** Folders of tasks. */
  readonly folders: readonly string[];
  /** The folder that folders of tasks are put into. */
  readonly out: string;
  /** Instead of the record: the address of another, or an address or path that ends in .tar.gz. */
  readonly from?: string;
}

/**
 * The folders that are meant by short names or folders of the ten tasks, folders of others, or `all`;
 * or the first name that can be none of these.
 */
export const taskFolders = (names: readonly string[]): E.Either<string, readonly string[]> => {
  const all = names.flatMap((name) =>
    name === "all" ? knownTasks.map(({ folder }) => folder) : [knownTask(name)?.folder ?? name]
  );
  // Folders of tasks have a version; a name without one is a misspelt short name.
  const strange = all.find((name) => !/^\w[\w.]*(-[\w.]+)+$/.test(name));
  return strange === undefined ? E.right([...new Set(all)]) : E.left(strange);
};

/** Fetches tasks, unpacks and checks them. Gives the exit status: 0 when all are whole. */
export const data = async ({ folders, out, from = hearRecord }: DataOptions): Promise<number> => {
  const complain = (message: string): number => {
    console.error(message);
    return 1;
  };
  const into = out.replace(/(?<=.)\/+$/, "");
  const writable = await ensureFolder(into)();
  if (E.isLeft(writable)) return complain(fileErrorText(writable.left));

  let files: readonly Remote[] | undefined, status = 0;
  for (const folder of folders) {
    const target = `${into}/${folder}`;
    if (!isThere(target)) {
      let archive: string, fetched: Remote | undefined;
      if (isArchive(from) && !isAddress(from)) archive = from;
      else {
        if (files === undefined) {
          const listed = isArchive(from)
            ? E.right([{ url: from, name: from.replace(/^.*\//, "") }])
            : await recordFiles(from)();
          if (E.isLeft(listed)) {
            return complain(`${downloadErrorText(listed.left)}; ${elsewhere(folder)}`);
          }
          files = listed.right;
        }
        const file = isArchive(from) ? files[0] : archiveOf(folder, files);
        if (file === undefined) {
          status = complain(notListed(folder, from, files));
          continue;
        }
        archive = `${into}/${file.name}`;
        const done = isThere(archive) ? E.right(undefined) : await fetchShown(file, archive);
        if (E.isLeft(done)) {
          status = complain(done.left);
          continue;
        }
        fetched = file;
      }
      const unpacked = await unpackShown(archive, folder, into);
      // What has no checksum may have come damaged, and is fetched anew the next time.
      const isSpent = E.isRight(unpacked) || fetched?.checksum === undefined;
      if (fetched !== undefined && isSpent) Deno.removeSync(archive);
      if (E.isLeft(unpacked)) {
        status = complain(unpacked.left);
        continue;
      }
    }
    const read = await readTask(target)();
    if (E.isLeft(read)) status = complain(taskErrorText(read.left));
    else console.log(wholeText(read.right));
  }
  return status;
};

/** The archive of a task among the files of a record, at the rate that is used if it is there. */
export const archiveOf = (folder: string, files: readonly Remote[]): Remote | undefined => {
  const rates = files.flatMap((file) => {
    const rate = /^(.*)-(\d+)\.tar\.gz$/.exec(file.name);
    return rate !== null && `-${rate[1]}`.endsWith(`-${folder}`)
      ? [{ file, rate: Number(rate[2]) }]
      : [];
  });
  const best = rates.find(({ rate }) => rate === recordingRate) ??
    rates.toSorted((a, b) => b.rate - a.rate)[0];
  return best?.file;
};

const isAddress = (from: string): boolean => /^https?:/.test(from);
const isArchive = (from: string): boolean => from.endsWith(".tar.gz");

const isThere = (path: string): boolean => {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
};

// ---------------------------------------------------------------- what is said

/** That a name is no task's, and which there are. */
export const unknownText = (name: string): string =>
  `there is no task '${name}'; the ten are ` +
  knownTasks.map(({ short, folder }) => `${short} (${folder})`).join(", ");

const elsewhere = (folder: string): string =>
  `fetch the archive of ${folder} from ${hearRecord.replace("/api", "")} where there is a ` +
  "connection, and give it with --from FILE.tar.gz";

const notListed = (folder: string, from: string, files: readonly Remote[]): string => {
  const archives = files.map(({ name }) => name).filter(isArchive);
  return `${from} has no archive of ${folder}; ` +
    (archives.length === 0 ? "it has none at all" : `it has ${archives.join(", ")}`);
};

const wholeText = ({ folder, labels, splits }: Task): string => {
  const clips = splits.reduce((sum, { clips }) => sum + clips.length, 0);
  return `${folder}: whole, ${clips} clips in ${splits.length} splits, ${labels.length} classes`;
};

async function fetchShown(file: Remote, archive: string): Promise<E.Either<string, void>> {
  const size = file.size === undefined ? "" : `, ${megabytes(file.size)}`;
  console.error(`fetching ${file.name}${size}`);
  const shown = byteProgress();
  const fetched = await download(file, archive, { onProgress: shown.at })();
  shown.bar.finish();
  return E.mapLeft(downloadErrorText)(fetched);
}

async function unpackShown(
  archive: string,
  folder: string,
  into: string,
): Promise<E.Either<string, void>> {
  console.error(`unpacking ${archive}`);
  const began = performance.now(), shown = byteProgress();
  const size = isThere(archive) ? Deno.statSync(archive).size : undefined;
  // A signal ends the process as it does elsewhere, but neither a decoder nor half a task is to stay.
  const end = listenForEnd();
  const unpacked = await unlessEnded(
    unpackTask(archive, folder, into, (done) => shown.at(done, size))(),
    end.signal,
  );
  shown.bar.finish();
  end.forget();
  if (unpacked === undefined) {
    killDecoder();
    discardUnpacking(folder, into);
    Deno.kill(Deno.pid, end.asked()!);
    // It takes a moment to arrive, in which nothing else is to go on, such as another decoder.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
    return E.left("interrupted");
  }
  if (E.isLeft(unpacked)) return E.left(unpackErrorText(unpacked.left));
  const { clips, resampled, rate } = unpacked.right;
  console.error(
    `unpacked ${clips} clips in ${clock((performance.now() - began) / 1000)}` +
      (resampled === 0 ? "" : `, of which ${resampled} were resampled from ${rate} Hz`),
  );
  return E.right(undefined);
}

// Progress in megabytes; where it began counts as done before, as a download may be gone on with.
function byteProgress(): {
  readonly bar: Progress;
  readonly at: (done: number, size: number | undefined) => void;
} {
  const bar = progress(standardError()), began = performance.now();
  const mega = (bytes: number): number => Math.round(bytes / 1e5) / 10;
  let from: number | undefined;
  return {
    bar,
    at: (done, size) => {
      if (size === undefined) return;
      from ??= mega(done);
      const elapsed = (performance.now() - began) / 1000;
      bar.update({ unit: "MB", step: mega(done), steps: mega(size), from, elapsed });
    },
  };
}
