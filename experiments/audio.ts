// Recordings: which there are in a folder, and one as mono samples at one rate. A file that cannot be used
// is told with its reason; damaged ones are not taken for whole ones.
import decodeAudio from "audio-decode";
import libsamplerate from "libsamplerate";
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { containerOf, damage, plainWav, promisedSamples, withoutId3 } from "./audio/whole.ts";

/** Samples per second of what is read here, in Hz. */
export const recordingRate = 16000;

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
  | { readonly _tag: "NotFinite"; readonly seconds: number };

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
 * the channels, at `recordingRate`. Files shorter than `shortest` seconds are an error.
 */
export const decodeRecording =
  (bytes: Uint8Array, shortest = shortestRecording): TaskEither<RecordingError, Float32Array> =>
  () => decodeWith(resampler(recordingRate), bytes, shortest);

/** What decodes one recording after the other, to samples at a rate in Hz; quicker than one by one. */
export const recordingDecoder = (
  rate: number = recordingRate,
): (bytes: Uint8Array) => Promise<E.Either<RecordingError, Float32Array>> => {
  const resample = resampler(rate);
  return (bytes) => decodeWith(resample, bytes, shortestRecording);
};

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
      return `its sample rate is ${error.rate} Hz, where ${rates.least} to ${rates.most} can be read`;
    case "TooShort":
      return error.seconds === 0
        ? "it holds no samples"
        : `it lasts ${milliseconds(error.seconds)}, less than ${milliseconds(error.shortest)}`;
    case "NotFinite":
      return `the sample at ${error.seconds.toFixed(3)} s is not a finite number`;
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

// ---------------------------------------------------------------- one file

const rates = { least: 1000, most: 768_000 };

const milliseconds = (seconds: number): string => `${+(seconds * 1000).toPrecision(3)} ms`;

type Resample = (samples: Float32Array, rate: number) => Promise<Float32Array>;

async function decodeWith(
  resample: Resample,
  file: Uint8Array,
  shortest: number,
): Promise<E.Either<RecordingError, Float32Array>> {
  if (file.length === 0) return E.left({ _tag: "EmptyFile" });
  const bytes = withoutId3(file);
  const container = containerOf(bytes);
  if (container === undefined) return E.left({ _tag: "UnknownContainer" });
  const problem = damage(container, bytes);
  if (problem !== undefined) return E.left({ _tag: "Damaged", problem });

  let channels: readonly Float32Array[], rate: number;
  try {
    ({ channelData: channels, sampleRate: rate } = await decodeAudio(
      container === "wav" ? plainWav(bytes) : bytes,
    ));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return E.left({ _tag: "Undecodable", reason });
  }
  const length = channels[0]?.length ?? 0;
  const promised = promisedSamples(container, bytes);
  if (promised !== undefined && length < promised) {
    const problem = `it should hold ${promised} samples, but ${length} can be decoded`;
    return E.left({ _tag: "Damaged", problem });
  }
  if (length === 0) return E.left({ _tag: "TooShort", seconds: 0, shortest });
  if (!(rate >= rates.least && rate <= rates.most)) return E.left({ _tag: "StrangeRate", rate });
  if (length < shortest * rate) {
    return E.left({ _tag: "TooShort", seconds: length / rate, shortest });
  }
  const mono = meanOf(channels);
  const bad = mono.findIndex((sample) => !Number.isFinite(sample));
  if (bad >= 0) return E.left({ _tag: "NotFinite", seconds: bad / rate });
  return E.right(await resample(mono, rate));
}

function meanOf(channels: readonly Float32Array[]): Float32Array {
  const [first, ...others] = channels;
  if (others.length === 0) return first;
  return first.map((sample, i) =>
    others.reduce((sum, channel) => sum + channel[i], sample) / channels.length
  );
}

// A converter costs as much to make as a second of audio to convert, so each rate keeps its own;
// it forgets one recording before the next as long as it is given them whole.
function resampler(to: number): Resample {
  const { create, ConverterType } = libsamplerate;
  const options = { converterType: ConverterType.SRC_SINC_MEDIUM_QUALITY };
  const converters = new Map<number, ReturnType<typeof create>>();
  return async (samples, rate) => {
    if (rate === to) return samples;
    const length = Math.round(samples.length * to / rate);
    // The filter's tail falls on silence, so that the end comes out whole.
    const padded = new Float32Array(samples.length + Math.ceil(rate / 20));
    padded.set(samples);
    if (Math.max(padded.length, length + to) > wholeLimit) {
      const converter = await create(1, rate, to, options);
      try {
        return converter.simple(padded).slice(0, length);
      } finally {
        converter.destroy();
      }
    }
    const converter = converters.get(rate) ?? create(1, rate, to, options);
    converters.set(rate, converter);
    return (await converter).simple(padded).slice(0, length);
  };
}

// Longer recordings are passed through in pieces, which leaves something of them in a converter.
const wholeLimit = 1_000_000;
