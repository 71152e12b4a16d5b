// Recordings: lists those in a folder, and reads one as mono samples at one rate. An unusable file is
// reported with its reason; a damaged one is never used in part.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import type { RecordingError } from "./errors.ts";
import { decodeElsewhere } from "./decoder_client.ts";
import type { Wanted } from "./decoder_protocol.ts";
import { reasonOf } from "../../io/reason.ts";

/** Default sample rate in Hz. */
export const recordingRate = 16000;

/** Minimum length of a recording in seconds: one window of a spectrogram. */
export const shortestRecording = 0.025;

/** Why a folder has no usable recordings. */
export type AudioError =
  | { readonly _tag: "NoFolder"; readonly folder: string }
  | { readonly _tag: "NotAFolder"; readonly folder: string }
  | { readonly _tag: "UnreadableFolder"; readonly folder: string; readonly reason: string }
  | { readonly _tag: "NoRecordings"; readonly folder: string };

/**
 * The recordings in a folder and its subfolders, by file extension (wav, flac, ogg, oga, mp3), as paths
 * relative to the folder, sorted by code unit, so that the order is the same on every machine. Links are
 * followed; each folder is visited once.
 */
export const listRecordings =
  (folder: string): TaskEither<AudioError, readonly string[]> => async () => {
    const seen = new Set<string>();
    const found: string[] = [];
    const walk = async (at: string): Promise<E.Either<AudioError, void>> => {
      const path = joined(folder, at);
      let names: readonly string[];
      try {
        const real = await Deno.realPath(path);
        if (seen.has(real)) return E.right(undefined);
        seen.add(real);
        names = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).sort();
      } catch (error) {
        return E.left(folderError(path, error));
      }
      for (const name of names) {
        const inside = at === "" ? name : `${at}/${name}`;
        if (await isFolder(joined(folder, inside))) {
          const walked = await walk(inside);
          if (E.isLeft(walked)) return walked;
        } else if (/\.(wav|flac|ogg|oga|mp3)$/i.test(name)) found.push(inside);
      }
      return E.right(undefined);
    };
    const walked = await walk("");
    if (E.isLeft(walked)) return walked;
    return found.length === 0 ? E.left({ _tag: "NoRecordings", folder }) : E.right(found.sort());
  };

/**
 * The samples of one wav, flac, ogg or mp3 file of any rate and channel count: mono (the mean of the
 * channels) at `rate` Hz. A file shorter than `shortest` seconds is an error. It is decoded in a separate
 * process; throws if that cannot be started.
 */
export const decodeRecording = (
  bytes: Uint8Array,
  { shortest = shortestRecording, rate = recordingRate }: Partial<Wanted> = {},
): TaskEither<RecordingError, Float32Array> =>
() => decodeElsewhere(bytes, { shortest, rate });

/** Why a folder has no usable recordings, in one sentence. */
export function audioErrorText(error: AudioError): string {
  switch (error._tag) {
    case "NoFolder":
      return `there is no folder ${error.folder}; give the path of a folder of recordings`;
    case "NotAFolder":
      return `${error.folder} is not a folder; give the path of a folder of recordings`;
    case "UnreadableFolder":
      return `the folder ${error.folder} cannot be read: ${error.reason}`;
    case "NoRecordings":
      return `no recordings (wav, flac, ogg, mp3) are in ${error.folder} or the folders in it`;
  }
}

// ---------------------------------------------------------------- folders

const joined = (folder: string, inside: string): string => {
  if (inside === "") return folder;
  return folder.endsWith("/") ? folder + inside : `${folder}/${inside}`;
};

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch {
    return false; // A dangling link: if it has a recording's extension, reading it reports the error.
  }
}

function folderError(folder: string, error: unknown): AudioError {
  if (error instanceof Deno.errors.NotFound) return { _tag: "NoFolder", folder };
  if (error instanceof Deno.errors.NotADirectory) return { _tag: "NotAFolder", folder };
  return { _tag: "UnreadableFolder", folder, reason: reasonOf(error) };
}
