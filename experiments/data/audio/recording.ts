// Recordings: which there are in a folder, and one as mono samples at one rate. A file that cannot be used
// is told with its reason; damaged ones are not taken for whole ones.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { decodeElsewhere, type Wanted } from "./decoder_client.ts";

/** Samples per second of what is read here, in Hz. */
export const recordingRate = 16000;

/** The rates that are read, in Hz. */
export const recordingRates = { least: 1000, most: 768_000 } as const;

/**
 * The largest sample that is read, where sounds go from -1 to 1. Beyond some 10¹⁷ the power of a frame is
 * more than float32 can hold, and what is as loud as that was never a sound.
 */
export const loudestSample = 1e15;

/** The shortest recording that is of use, in seconds: one window of a spectrogram. */
export const shortestRecording = 0.025;

/** Why one recording could not be used. */
export type RecordingError =
  | { readonly _tag: "Unreadable"; readonly reason: string }
  | { readonly _tag: "EmptyFile" }
  | { readonly _tag: "UnknownContainer" }
  | { readonly _tag: "Damaged"; readonly problem: string }
  | { readonly _tag: "Undecodable"; readonly reason: string }
  | { readonly _tag: "StrangeRate"; readonly rate: number }
  | { readonly _tag: "TooShort"; readonly seconds: number; readonly shortest: number }
  | { readonly _tag: "NotFinite"; readonly seconds: number }
  | { readonly _tag: "TooLoud"; readonly seconds: number; readonly sample: number };

/** Why a folder gives no recordings. */
export type AudioError =
  | { readonly _tag: "NoFolder"; readonly folder: string }
  | { readonly _tag: "NotAFolder"; readonly folder: string }
  | { readonly _tag: "UnreadableFolder"; readonly folder: string; readonly reason: string }
  | { readonly _tag: "NoRecordings"; readonly folder: string };

/**
 * The recordings in a folder and the folders in it, by their names (wav, flac, ogg, oga, mp3),
 * relative to the folder and sorted by code unit, so that the order is the same on every machine.
 * Links are followed, to each folder once.
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
 * The samples of one wav, flac, ogg or mp3 file of any rate and channel count: mono, the mean of
 * the channels, at `rate` Hz. Files shorter than `shortest` seconds are an error. It is decoded in a
 * process of its own; where none can be started, that is thrown.
 */
export const decodeRecording = (
  bytes: Uint8Array,
  { shortest = shortestRecording, rate = recordingRate }: Partial<Wanted> = {},
): TaskEither<RecordingError, Float32Array> =>
() => decodeElsewhere(bytes, { shortest, rate });

/** Why one recording could not be used, in words that follow its path. */
export function recordingErrorText(error: RecordingError): string {
  switch (error._tag) {
    case "Unreadable":
      return `it cannot be read: ${error.reason}`;
    case "EmptyFile":
      return "the file is empty";
    case "UnknownContainer":
      return "its content is not wav, flac, ogg or mp3";
    case "Damaged":
      return `it is damaged: ${error.problem}`;
    case "Undecodable":
      return `it cannot be decoded: ${error.reason}`;
    case "StrangeRate":
      return `its sample rate is ${error.rate} Hz, where ${recordingRates.least} to ${recordingRates.most} can be read`;
    case "TooShort":
      return error.seconds === 0
        ? "it holds no samples"
        : `it lasts ${milliseconds(error.seconds)}, less than ${milliseconds(error.shortest)}`;
    case "NotFinite":
      return `the sample at ${error.seconds.toFixed(3)} s is not a finite number`;
    case "TooLoud":
      return `the sample at ${error.seconds.toFixed(3)} s is ${
        error.sample.toPrecision(3)
      }, where ` +
        `samples go from -1 to 1 and up to ${loudestSample.toExponential()} are read`;
  }
}

/** Why a folder gives no recordings, in one sentence. */
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
    return false; // A link to nothing: if it is named like a recording, reading it says so.
  }
}

function folderError(folder: string, error: unknown): AudioError {
  if (error instanceof Deno.errors.NotFound) return { _tag: "NoFolder", folder };
  if (error instanceof Deno.errors.NotADirectory) return { _tag: "NotAFolder", folder };
  return { _tag: "UnreadableFolder", folder, reason: systemReason(error) };
}

function systemReason(error: unknown): string {
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  return error instanceof Error ? error.message : String(error);
}

const milliseconds = (seconds: number): string => `${+(seconds * 1000).toPrecision(3)} ms`;
