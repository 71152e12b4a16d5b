// Reads one recording as a crop of its standardised spectrogram: reads, decodes, transforms, caches. Runs
// in the reader threads; independent of sampling and batches.
import * as E from "fp-ts/Either.js";
import type { FrontEnd } from "../../../models/frontend.ts";
import { decodeRecording } from "../audio/recording.ts";
import { recordingErrorText } from "../audio/errors.ts";
import { logMelOnHost } from "../audio/log_mel.ts";
import { type LogMel, standardised } from "../audio/spectrogram.ts";
import { irregular } from "../../io/regular_files.ts";
import { npyArray, npyValues } from "../../formats/npy_read.ts";
import { cropAt, startOf } from "./recordings.ts";
import { contentKey, type Store } from "./spectrogram_cache.ts";
import { reasonOf } from "../../io/reason.ts";

/** The location of a recording: a file, or a range of bytes of one. */
export interface Place {
  readonly path: string;
  readonly stretch?: { readonly offset: number; readonly size: number };
}

/** What the files hold: audio, or precomputed spectrograms. */
export type RecordingKind = "audio" | "log-mel";

/** The result of reading a recording. */
export type Read =
  | { readonly _tag: "Values"; readonly values: Float32Array<ArrayBuffer> }
  /** The recording is unusable. */
  | { readonly _tag: "Bad"; readonly reason: string }
  /** The file existed when it was listed and does not now; this says nothing about the recording. */
  | { readonly _tag: "Gone"; readonly path: string; readonly reason: string };

/** Maximum size of a recording in bytes: it is decoded whole, in memory. */
export const largest = 2 ** 29;

/** A reader of recordings. */
export type MemberReader = (
  place: Place,
  /** Start of the crop, as a fraction of the possible starts. */
  at: number,
) => Promise<Read>;

/** A reader of crops of `frames` frames; not reentrant. */
export const memberReader = (
  form: RecordingKind,
  frontEnd: FrontEnd,
  frames: number,
  store: Store | undefined,
): MemberReader => {
  const extract = logMelOnHost(frontEnd), rate = frontEnd.sampleRate;
  const spectrogram = async (bytes: Uint8Array): Promise<E.Either<string, LogMel>> => {
    if (form === "log-mel") return logMelArray(bytes, frontEnd.mels);
    const samples = await decodeRecording(bytes, { rate })();
    return E.isLeft(samples)
      ? E.left(recordingErrorText(samples.left))
      : E.right(extract(samples.right));
  };
  return async (place, at) => {
    const read = bytesOf(place);
    if ("_tag" in read) return read;
    const key = store === undefined ? "" : await contentKey(read.bytes);
    const kept = store?.read(key, (all) => startOf(all, at, frames), frames);
    if (kept !== undefined) {
      return { _tag: "Values", values: kept as Float32Array<ArrayBuffer> };
    }
    const made = await spectrogram(read.bytes);
    if (E.isLeft(made)) return { _tag: "Bad", reason: made.left };
    const whole = standardised(made.right);
    store?.write(key, whole);
    return { _tag: "Values", values: cropAt(whole, at, frames) as Float32Array<ArrayBuffer> };
  };
};

/** The spectrogram in a .npy file: time-major, `[frames, mels]`; leading axes of size 1 are ignored. */
export const logMelArray = (bytes: Uint8Array, mels: number): E.Either<string, LogMel> => {
  const parsed = npyArray(bytes);
  if (E.isLeft(parsed)) return parsed;
  const { shape } = parsed.right, [frames, bands] = shape.slice(-2);
  if (shape.length < 2 || shape.slice(0, -2).some((size) => size !== 1) || frames === 0) {
    return E.left(`its shape is (${shape.join(", ")}), where (frames, ${mels}) is expected`);
  }
  if (bands !== mels) {
    return E.left(
      `its shape is (${shape.join(", ")}), where frontEnd.mels asks for (frames, ${mels})`,
    );
  }
  const values = npyValues(bytes, parsed.right, frames * mels);
  if (E.isLeft(values)) return values;
  const wrong = values.right.findIndex((value) => !Number.isFinite(value));
  return wrong >= 0
    ? E.left(`the value of frame ${Math.floor(wrong / mels)}, band ${wrong % mels} is not finite`)
    : E.right({ frames, mels, values: values.right });
};

function bytesOf(
  { path, stretch }: Place,
): { readonly bytes: Uint8Array<ArrayBuffer> } | Exclude<Read, { readonly _tag: "Values" }> {
  const gone = (reason: string): Read & { readonly _tag: "Gone" } => ({
    _tag: "Gone",
    path,
    reason,
  });
  const why = irregular(path);
  if (why !== undefined) return stretch === undefined ? { _tag: "Bad", reason: why } : gone(why);
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) {
      return { _tag: "Bad", reason: "it cannot be read: permission denied" };
    }
    if (!(error instanceof Deno.errors.NotFound)) return gone(reasonOf(error));
    return isLink(path)
      ? { _tag: "Bad", reason: "it cannot be read: it is a link to nothing" }
      : gone("it is no longer there");
  }
  try {
    const there = file.statSync().size;
    const { offset, size } = stretch ?? { offset: 0, size: there };
    if (size > largest) {
      return { _tag: "Bad", reason: `it has ${size} bytes, where at most ${largest} are read` };
    }
    if (offset + size > there) return gone(`it is shorter than when the run began`);
    const bytes = new Uint8Array(size);
    file.seekSync(offset, Deno.SeekMode.Start);
    for (let done = 0; done < size;) {
      const count = file.readSync(bytes.subarray(done));
      if (count === null) return gone("it became shorter while it was read");
      done += count;
    }
    return { bytes };
  } catch (error) {
    return gone(reasonOf(error));
  } finally {
    file.close();
  }
}

const isLink = (path: string): boolean => {
  try {
    return Deno.lstatSync(path).isSymlink;
  } catch {
    return false;
  }
};
