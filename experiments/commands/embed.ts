// `deno task embed`: writes embeddings of recordings as .npy files. A recording is read when the device
// has room for it, and results are written at once, so that even hours of audio need memory only for
// their samples.
import { basename, dirname, relative, resolve, sep } from "node:path";
import * as E from "fp-ts/Either.js";
import { corrected, faithful } from "../../models/fidelity.ts";
import {
  audioErrorText,
  decodeRecording,
  listRecordings,
  recordingRate,
} from "../data/audio/recording.ts";
import { recordingErrorText } from "../data/audio/errors.ts";
import { killDecoder } from "../data/audio/decoder_client.ts";
import { openBackend } from "../machines/device.ts";
import { checkpointErrorText, readCheckpoint } from "../encoders/checkpoint.ts";
import { type Clip, type Embedder, openEmbedder, type Rows } from "../encoders/embedder.ts";
import { ensureFolder, type FileError, fileErrorText } from "../io/files.ts";
import { isEnded, listenForEnd, unlessEnded } from "../io/interrupt.ts";
import { type NpyFile, openNpy, writeNpy } from "../formats/npy_write.ts";
import { clock, progress, standardError } from "../io/progress.ts";
import { irregular } from "../io/regular_files.ts";
import { commandOf, neededText, whole } from "./command.ts";
import { device, fidelity } from "./options.ts";
import { reasonOf } from "../io/reason.ts";

/** Options of the command line. */
export interface EmbedOptions {
  /** Path of the checkpoint. */
  readonly checkpoint: string;
  /** The folder to write into. */
  readonly out: string;
  readonly device: string;
  /** Segments that the device computes at once. */
  readonly batch: number;
  /** Overrides the fidelity of the checkpoint. */
  readonly fidelity?: "faithful" | "corrected";
  /** Files, and folders, from which all recordings are taken. */
  readonly audio: readonly string[];
}

/** A recording to be embedded. */
export interface Source {
  /** Its file. */
  readonly path: string;
  /** Its name in the output folder: folders and name, without extension. */
  readonly name: string;
}

/** A recording that was not embedded, and why. */
interface Failure {
  readonly path: string;
  readonly reason: string;
}

/**
 * Embeds recordings into files of the output folder. Gives the exit status: 0, or 1 if any recording
 * failed, after all others are done.
 */
export const embed = async (options: EmbedOptions): Promise<number> => {
  const complain = (message: string): number => {
    console.error(message);
    return 1;
  };
  const checkpoint = await readCheckpoint(options.checkpoint)();
  if (E.isLeft(checkpoint)) return complain(checkpointErrorText(checkpoint.left));
  const { frontEnd: { sampleRate, hop }, frames } = checkpoint.right;
  if (sampleRate !== recordingRate) {
    return complain(
      `${options.checkpoint} is for audio at ${sampleRate} Hz, but recordings are read at ` +
        `${recordingRate} Hz`,
    );
  }
  const { sources, failures } = await sourcesOf(options.audio);
  const [first] = failures;
  if (sources.length === 0) return complain(`${first.path}: ${first.reason}`);
  const writable = await ensureFolder(options.out)();
  if (E.isLeft(writable)) return complain(fileErrorText(writable.left));
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) return complain(chosen.left);
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);

  const { fidelity: name } = options;
  const fidelity = name === undefined ? checkpoint.right.fidelity : { faithful, corrected }[name];
  const end = listenForEnd();
  try {
    const embedder = await openEmbedder(backend, { ...checkpoint.right, fidelity }, options.batch);
    const done = await embedInto(options.out, sources, embedder, end.signal);
    embedder.close();
    if (E.isLeft(done)) return complain(done.left);
    const { embedded, stretches, seconds, elapsed } = done.right;
    const clipSeconds = frames * hop / sampleRate;
    const all = [...failures, ...done.right.failures];
    if (embedded > 0) {
      console.log(
        `embedded ${plural(embedded, "recording")}, ${clock(seconds)} of audio, in ` +
          `${clock(elapsed)} into ${options.out}; ${(stretches / elapsed).toFixed(1)} clips/s ` +
          `of ${clipSeconds.toFixed(2)} s`,
      );
    }
    if (all.length > 0) {
      console.error(`${plural(all.length, "recording")} could not be embedded:`);
      all.forEach(({ path, reason }) => console.error(`  ${path}: ${reason}`));
    }
    if (end.signal.aborted) console.error("interrupted");
    return all.length > 0 || end.signal.aborted ? 1 : 0;
  } finally {
    if (end.signal.aborted) killDecoder();
    end.forget();
    backend.close();
  }
};

const plural = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

// ---------------------------------------------------------------- which recordings

/** The recordings that the given paths refer to, and the paths without recordings. */
const sourcesOf = async (
  paths: readonly string[],
): Promise<{ readonly sources: readonly Source[]; readonly failures: readonly Failure[] }> => {
  const found: Found[] = [], failures: Failure[] = [];
  for (const path of paths) {
    const isFolder = await Deno.stat(path).then((info) => info.isDirectory, () => false);
    if (!isFolder) {
      found.push({ path, inside: basename(path) });
      continue;
    }
    const listed = await listRecordings(path)();
    if (E.isLeft(listed)) failures.push({ path, reason: audioErrorText(listed.left) });
    else {
      found.push(...listed.right.map((inside) => ({ path: `${trimmed(path)}/${inside}`, inside })));
    }
  }
  return { sources: named(found), failures };
};

const trimmed = (folder: string): string => folder.replace(/(?<=.)\/+$/, "");

/** A recording: its path, and its path relative to the requested folder. */
export interface Found {
  readonly path: string;
  readonly inside: string;
}

/**
 * Distinct names for recordings: their path relative to the requested folder, without extension. Names
 * that would collide keep their extensions and, if they still collide, become the path from the folder
 * common to all recordings. A file found twice is one recording.
 */
export const named = (found: readonly Found[]): readonly Source[] => {
  const once = [...new Map(found.map((one) => [resolve(one.path), one]))];
  const folders = once.map(([path]) => dirname(path).split(sep));
  const [one = []] = folders;
  const depth = one.findIndex((part, k) => folders.some((parts) => parts[k] !== part));
  const shared = (depth < 0 ? one : one.slice(0, depth)).join(sep) + sep;
  // Candidate names of each recording, the shortest first.
  const names = once.map(([path, { inside }]) => [
    inside.replace(/\.[^./]+$/, ""),
    inside,
    relative(shared, path).replaceAll(sep, "/"),
  ]);
  const chosen = names.map(() => 0);
  for (;;) {
    const users = Map.groupBy(names.keys(), (k) => names[k][chosen[k]]);
    const same = [...users.values()].filter((of) => of.length > 1).flat()
      .filter((k) => chosen[k] < names[k].length - 1);
    if (same.length === 0) break;
    same.forEach((k) => chosen[k]++);
  }
  return once.map(([, { path }], k) => ({ path, name: names[k][chosen[k]] }));
};

// ---------------------------------------------------------------- the work

/** The result of the command. */
interface Done {
  readonly embedded: number;
  /** Segments that recordings were cut into, of the encoder's input length. */
  readonly stretches: number;
  /** Seconds of audio, and of work. */
  readonly seconds: number;
  readonly elapsed: number;
  readonly failures: readonly Failure[];
}

/** A recording being embedded, and its length in seconds. */
interface Sound {
  readonly source: Source;
  readonly seconds: number;
}

const embedInto = async (
  out: string,
  sources: readonly Source[],
  embedder: Embedder,
  signal: AbortSignal,
): Promise<E.Either<string, Done>> => {
  const began = performance.now(), bar = progress(standardError());
  const failures: Failure[] = [];
  let embedded = 0, stretches = 0, seconds = 0, file: NpyFile | undefined;
  const elapsed = () => (performance.now() - began) / 1000;
  const show = (share = 0) => {
    // Rows of a long recording count as fractions of it.
    const step = Math.round((embedded + failures.length + share) * 100) / 100;
    const speed = stretches === 0 ? {} : { clipsPerSecond: stretches / elapsed() };
    bar.update({
      unit: "recording",
      step,
      steps: sources.length,
      from: 0,
      elapsed: elapsed(),
      ...speed,
    });
  };
  const recordings = async function* (): AsyncGenerator<Clip<Sound>> {
    for (const source of sources) {
      const read = await unlessEnded(samplesOf(source.path, signal), signal);
      if (read === undefined) return;
      if (E.isRight(read)) {
        yield { of: { source, seconds: read.right.length / recordingRate }, samples: read.right };
      } else {
        failures.push({ path: source.path, reason: read.left });
        show();
      }
    }
  };
  /** The recording whose embeddings were not all finite. */
  let broken: Source | undefined;
  const write = async (part: Rows<Sound>): Promise<E.Either<FileError, void>> => {
    const { of: { source }, total, first, values, end } = part;
    if (source === broken) return E.right(undefined);
    if (!values.every(Number.isFinite) || !(end?.scene.every(Number.isFinite) ?? true)) {
      broken = source;
      failures.push({ path: source.path, reason: notFiniteText });
      if (first > 0) file!.discard();
      return E.right(undefined);
    }
    const path = (kind: string) => `${out}/${source.name}.${kind}.npy`;
    if (first === 0) {
      const folder = await ensureFolder(dirname(path("embeddings")))();
      if (E.isLeft(folder)) return folder;
      const opened = openNpy(path("embeddings"), [total, embedder.width]);
      if (E.isLeft(opened)) return opened;
      file = opened.right;
    }
    const appended = file!.append(values);
    if (E.isLeft(appended) || end === undefined) return appended;
    const { scene, timestamps } = end;
    const written = await writeNpy(path("timestamps"), timestamps, [total])();
    if (E.isLeft(written)) return written;
    const second = await writeNpy(path("scene"), scene, [scene.length])();
    return E.isLeft(second) ? second : file!.finish();
  };
  show();
  try {
    for await (const part of embedder.embed(recordings(), signal)) {
      const written = await write(part);
      if (E.isLeft(written)) return E.left(fileErrorText(written.left));
      stretches++;
      if (part.of.source === broken) show();
      else if (part.end !== undefined) {
        embedded++;
        seconds += part.of.seconds;
        show();
      } else show((part.first + part.values.length / embedder.width) / part.total);
      if (await isEnded(signal)) break;
    }
    return E.right({ embedded, stretches, seconds, elapsed: elapsed(), failures });
  } finally {
    file?.discard();
    bar.finish();
  }
};

const notFiniteText = "its embedding is not finite; the checkpoint may have diverged";

/** The samples of a recording; on the left, why it could not be read, in words. */
const samplesOf = async (
  path: string,
  signal: AbortSignal,
): Promise<E.Either<string, Float32Array>> => {
  const why = irregular(path);
  if (why !== undefined) return E.left(why);
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path, { signal });
  } catch (error) {
    return E.left(recordingErrorText({ _tag: "Unreadable", reason: reasonOf(error) }));
  }
  return E.mapLeft(recordingErrorText)(await decodeRecording(bytes, { shortest: 0 })());
};

export const command = commandOf({
  summary: "writes embeddings of recordings of any length as .npy files",
  notes: `\
Writes embeddings of recordings as .npy files (float32): NAME.embeddings.npy [rows, width], a row per
time step; NAME.timestamps.npy [rows], in milliseconds; NAME.scene.npy [width], the mean of the rows.
Recordings may have any length. Status 1 when any of them could not be embedded.`,
  words: {
    usage: "AUDIO...",
    help: { AUDIO: "recordings (wav, flac, ogg, mp3), and folders, whose sub-folders are kept" },
    suggests: { paths: "files" },
    wrong: (audio) =>
      audio.length === 0
        ? "there is nothing to embed; give recordings, or folders of them"
        : undefined,
  },
  options: {
    checkpoint: neededText(
      "F",
      "what 'deno task experiment' wrote, or a safetensors file in the same layout",
      "the encoder to embed with",
      { paths: "files" },
    ),
    out: neededText("DIR", "where to write", "where to write", { paths: "folders" }),
    device,
    batch: whole("N", "segments of audio that are computed at once", {
      from: 1,
      to: 1024,
      otherwise: 8,
    }),
    fidelity: fidelity("as the published code does it", "the checkpoint says"),
  },
  run: async ({ words: audio, options: { device = "auto", ...options } }) =>
    E.right(await embed({ ...options, device, audio })),
});
