// `deno task data hear`: downloads the tasks of HEAR 2021 from their public archive and checks them. The
// archive has audio at 48000 Hz only, which is resampled here; HEAR's files at 16000 Hz are in
// requester-pays storage, and can be given as a local file.
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

/** Options of the command line. */
export interface DataOptions {
  /** Names of task folders. */
  readonly folders: readonly string[];
  /** The folder to write task folders into. */
  readonly out: string;
  /** Overrides the record: the URL of another, or a URL or path that ends in .tar.gz. */
  readonly from?: string;
}

/**
 * Task folders from short names, folder names or `all`; on the left, the first name that is none of
 * these.
 */
export const taskFolders = (names: readonly string[]): E.Either<string, readonly string[]> => {
  const all = names.flatMap((name) =>
    name === "all" ? knownTasks.map(({ folder }) => folder) : [knownTask(name)?.folder ?? name]
  );
  // Folder names contain a version; a name without one is a misspelt short name.
  const strange = all.find((name) => !/^\w[\w.]*(-[\w.]+)+$/.test(name));
  return strange === undefined ? E.right([...new Set(all)]) : E.left(strange);
};

/** Downloads tasks, unpacks and checks them. Gives the exit status: 0 if all are complete. */
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
      // Without a checksum the file may be damaged, and is downloaded again the next time.
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

/** The archive of a task in a record, at the preferred rate if available. */
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

// ---------------------------------------------------------------- messages

/** The message for an unknown task, with the names of all tasks. */
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
  // A signal ends the process as usual, but first the decoder process and partial files are removed.
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
    // The signal is delivered asynchronously; block, so that nothing else (such as a decoder) starts.
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

// Progress in megabytes; the initial offset counts as done, as a download may be resumed.
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
