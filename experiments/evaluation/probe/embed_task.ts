// Clip embeddings of a whole task. Each result is appended at once to a file named by the hash of the
// embedding model, under the hash of its audio: a killed run resumes, and results of another checkpoint
// or of changed audio are never reused by mistake.
import { createHash } from "node:crypto";
import { basename, resolve } from "node:path";
import * as E from "fp-ts/Either.js";
import { setImmediate } from "node:timers/promises";
import { decodeRecording, recordingRate } from "../../data/audio/recording.ts";
import { recordingErrorText } from "../../data/audio/errors.ts";
import { killDecoder } from "../../data/audio/decoder_client.ts";
import type { Clip } from "../../encoders/embedder.ts";
import { ensureFolder, type FileError, fileErrorText } from "../../io/files.ts";
import { unlessEnded } from "../../io/interrupt.ts";
import { plain } from "../../../backends/runtime/text.ts";
import { irregular } from "../../io/regular_files.ts";
import type { TaskEmbeddings } from "./probe.ts";
import type { Scenes } from "./pooled.ts";
import type { Task } from "../../data/hear/task.ts";
import { pcm16 } from "../../formats/wav.ts";
import { reasonOf } from "../../io/reason.ts";

/** Why a task could not be embedded. */
export type EmbeddingsError =
  | { readonly _tag: "BadClip"; readonly path: string; readonly reason: string }
  | { readonly _tag: "NotFinite"; readonly path: string }
  | { readonly _tag: "Files"; readonly error: FileError }
  | { readonly _tag: "Interrupted" };

/** Why a task could not be embedded, in one sentence. */
export const embeddingsErrorText = (error: EmbeddingsError): string => {
  switch (error._tag) {
    case "BadClip":
      return `${plain(error.path)} cannot be embedded: ${error.reason}`;
    case "NotFinite":
      return `the embedding of ${
        plain(error.path)
      } is not finite; the checkpoint may have diverged`;
    case "Files":
      return fileErrorText(error.error);
    case "Interrupted":
      return "interrupted; embeddings so far are kept";
  }
};

/** Options of `embedTask`. */
export interface EmbedTaskOptions {
  /** The cache folder. */
  readonly cache: string;
  /** Called with the number of the task's clips that have an embedding. */
  readonly onProgress?: (done: number, clips: number) => void;
  readonly interrupted?: () => boolean;
  /** When aborted, stops waiting for recordings and for the rest of a long one. */
  readonly signal?: AbortSignal;
}

/** The embeddings of all clips of a task, and how many were computed rather than cached. */
export interface EmbeddedTask extends TaskEmbeddings {
  readonly computed: number;
}

/** Embeds the clips that are not cached. */
export const embedTask = async (
  scenes: Scenes,
  task: Task,
  { cache, onProgress = () => {}, interrupted = () => false, signal }: EmbedTaskOptions,
): Promise<E.Either<EmbeddingsError, EmbeddedTask>> => {
  const { width } = scenes;
  const folder = `${cache}/${scenes.key.slice(0, 32)}`;
  const made = await ensureFolder(folder)();
  if (E.isLeft(made)) return E.left({ _tag: "Files", error: made.left });
  const path = `${folder}/${basename(resolve(task.folder))}.scenes`;
  const opened = openStore(path, width);
  if (E.isLeft(opened)) return E.left({ _tag: "Files", error: opened.left });
  const store = opened.right;

  const splits = task.splits.map(({ clips }) => new Float32Array(clips.length * width));
  const clips = splits.reduce((sum, { length }) => sum + length / width, 0);
  let failure: EmbeddingsError | undefined, done = 0, computed = 0;
  const place = ({ split, clip }: Place, scene: Float32Array) => {
    splits[split].set(scene, clip * width);
    onProgress(++done, clips);
  };
  // Clips with the same audio as one that is being embedded.
  const pending = new Map<string, Place[]>();
  const unknown = async function* (): AsyncGenerator<Clip<Wanted>> {
    for (const [split, { clips }] of task.splits.entries()) {
      for (const [clip, { path }] of clips.entries()) {
        if (interrupted()) failure = { _tag: "Interrupted" };
        if (failure !== undefined) return;
        const bytes = await unlessEnded(bytesOf(path, signal), signal) ??
          E.left<EmbeddingsError>({ _tag: "Interrupted" });
        if (E.isLeft(bytes)) {
          failure = bytes.left;
          return;
        }
        const hash = createHash("sha256").update(bytes.right).digest("hex"), at = { split, clip };
        const kept = store.known.get(hash), waiting = pending.get(hash);
        if (kept !== undefined) place(at, kept);
        else if (waiting !== undefined) waiting.push(at);
        else {
          const samples = await unlessEnded(samplesOf(path, bytes.right, task.rate), signal) ??
            E.left<EmbeddingsError>({ _tag: "Interrupted" });
          if (E.isLeft(samples)) {
            failure = samples.left;
            return;
          }
          pending.set(hash, [at]);
          yield { of: { hash, path }, samples: samples.right };
        }
      }
    }
  };
  try {
    for await (const { of: { hash, path }, scene } of scenes.embed(unknown(), signal)) {
      if (!scene.every(Number.isFinite)) return E.left({ _tag: "NotFinite", path });
      const appended = store.append(hash, scene);
      if (E.isLeft(appended)) return E.left({ _tag: "Files", error: appended.left });
      pending.get(hash)!.forEach((at) => place(at, scene));
      pending.delete(hash);
      store.known.set(hash, scene);
      computed++;
      // Signals are only handled between tasks of the event loop.
      await setImmediate();
    }
    if (signal?.aborted) failure = { _tag: "Interrupted" };
  } finally {
    store.close();
    if (signal?.aborted) killDecoder();
  }
  return failure === undefined ? E.right({ width, splits, computed }) : E.left(failure);
};

interface Wanted {
  readonly hash: string;
  readonly path: string;
}

/** A clip of a task: the indices of its split and of the clip in it. */
interface Place {
  readonly split: number;
  readonly clip: number;
}

const bytesOf = async (
  path: string,
  signal: AbortSignal | undefined,
): Promise<E.Either<EmbeddingsError, Uint8Array>> => {
  const bad = (reason: string) => E.left<EmbeddingsError>({ _tag: "BadClip", path, reason });
  const why = irregular(path);
  if (why !== undefined) return bad(why);
  try {
    return E.right(await Deno.readFile(path, { signal }));
  } catch (error) {
    return bad(reasonOf(error));
  }
};

const samplesOf = async (
  path: string,
  bytes: Uint8Array,
  rate: number,
): Promise<E.Either<EmbeddingsError, Float32Array>> => {
  const bad = (reason: string) => E.left<EmbeddingsError>({ _tag: "BadClip", path, reason });
  const plain = pcm16(bytes);
  if (plain !== undefined) return E.right(plain.samples);
  if (rate !== recordingRate) return bad(`at ${rate} Hz only wav files of 16 bit are read`);
  const decoded = await decodeRecording(bytes, { shortest: 0 })();
  return E.isLeft(decoded) ? bad(recordingErrorText(decoded.left)) : decoded;
};

// ---------------------------------------------------------------- cache

/** A file of embeddings, indexed by the hashes of their audio. */
interface Store {
  readonly known: Map<string, Float32Array>;
  readonly append: (hash: string, scene: Float32Array) => E.Either<FileError, void>;
  readonly close: () => void;
}

const mark = "formant scenes 1", hashBytes = 32;

/** Opens a file, or creates one if there is none of this width. Truncates a partial last record. */
const openStore = (path: string, width: number): E.Either<FileError, Store> => {
  const attempt = <A>(act: () => A): E.Either<FileError, A> =>
    E.tryCatch(act, (error): FileError => ({
      _tag: "FileError",
      doing: "write the file",
      path,
      reason: reasonOf(error),
    }));
  return attempt(() => {
    const file = Deno.openSync(path, { read: true, write: true, create: true });
    const head = new TextEncoder().encode(`${mark} ${width}\n`);
    const size = hashBytes + 4 * width;
    const bytes = new Uint8Array(Deno.readFileSync(path));
    const isOurs = head.every((byte, k) => bytes[k] === byte);
    const records = isOurs ? Math.floor((bytes.length - head.length) / size) : 0;
    const known = new Map<string, Float32Array>();
    for (let k = 0; k < records; k++) {
      const at = head.length + k * size;
      const hash = bytes.subarray(at, at + hashBytes).toHex();
      const scene = new Float32Array(bytes.slice(at + hashBytes, at + size).buffer);
      if (scene.every(Number.isFinite)) known.set(hash, scene);
    }
    const write = (part: Uint8Array) => {
      for (let done = 0; done < part.length;) done += file.writeSync(part.subarray(done));
    };
    file.truncateSync(isOurs ? head.length + records * size : 0);
    file.seekSync(0, Deno.SeekMode.End);
    if (!isOurs) write(head);
    return {
      known,
      append: (hash: string, scene: Float32Array) =>
        attempt(() => {
          const record = new Uint8Array(size);
          record.set(Uint8Array.fromHex(hash));
          record.set(new Uint8Array(scene.buffer, scene.byteOffset, scene.byteLength), hashBytes);
          write(record);
        }),
      close: () => file.close(),
    };
  });
};
