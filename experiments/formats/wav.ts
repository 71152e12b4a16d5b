// WAV files: headers alone, which checks a task of 50,000 clips in seconds, and 16-bit mono samples.
import * as E from "fp-ts/Either.js";
import { irregular } from "../io/regular_files.ts";
import { reasonOf } from "../io/reason.ts";

/** A parsed header. */
export interface WavHeader {
  /** Sample rate in Hz. */
  readonly rate: number;
  readonly channels: number;
  /** Samples per channel; absent for compressed audio. */
  readonly samples?: number;
}

/**
 * The header of a wav file, or why it cannot be read, to follow its path. A file shorter than its header
 * states is an error too.
 */
export const readWavHeader = (path: string): E.Either<string, WavHeader> => {
  const why = irregular(path);
  if (why !== undefined) return E.left(why);
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    return E.left(`it cannot be read: ${reasonOf(error)}`);
  }
  try {
    const { size, isDirectory } = file.statSync();
    if (isDirectory) return E.left("it is a folder");
    const read = (at: number, length: number) => readAt(file, at, length);
    return E.map(({ header }: Found) => header)(headerOf(read, size));
  } catch (error) {
    return E.left(`it cannot be read: ${reasonOf(error)}`);
  } finally {
    file.close();
  }
};

const kinds = { pcm: 1, float: 3, extensible: 0xfffe };

/**
 * The samples of a 16-bit mono wav file, from -1 to 1, and their rate in Hz; undefined if the file is of
 * another kind or damaged.
 */
export const pcm16 = (
  bytes: Uint8Array,
): { readonly rate: number; readonly samples: Float32Array } | undefined => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = (at: number, length: number) =>
    at + length <= bytes.length
      ? new DataView(view.buffer, view.byteOffset + at, length)
      : undefined;
  const found = headerOf(read, bytes.length);
  if (E.isLeft(found)) return undefined;
  const { header: { rate, channels, samples: count }, kind, bits, at } = found.right;
  if (kind !== kinds.pcm || bits !== 16 || channels !== 1 || count === undefined) return undefined;
  const samples = Float32Array.from(
    { length: count },
    (_, k) => view.getInt16(at + 2 * k, true) / 32768,
  );
  return { rate, samples };
};

/** A 16-bit mono wav file; samples beyond -1 to 1 are clipped. */
export const wav16 = (samples: Float32Array, rate: number): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(44 + 2 * samples.length), view = new DataView(bytes.buffer);
  const words = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
  words(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  words(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  words(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, k) => {
    const value = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
    view.setInt16(44 + 2 * k, value, true);
  });
  return bytes;
};

interface Found {
  readonly header: WavHeader;
  /** The format code of the samples, and their size in bits. */
  readonly kind: number;
  readonly bits: number;
  /** Offset of the audio. */
  readonly at: number;
}

type ReadAt = (at: number, length: number) => DataView | undefined;

function headerOf(read: ReadAt, size: number): E.Either<string, Found> {
  if (size === 0) return E.left("the file is empty");
  const start = read(0, 12);
  if (start === undefined || tag(start, 0) !== "RIFF" || tag(start, 8) !== "WAVE") {
    return E.left("it is not a wav file");
  }
  let format: DataView | undefined;
  for (let at = 12;;) {
    const head = read(at, 8);
    if (head === undefined) {
      return E.left(format === undefined ? "it does not say what it holds" : "it holds no audio");
    }
    const length = head.getUint32(4, true), inside = at + 8;
    if (tag(head, 0) === "fmt ") format = length < 16 ? undefined : read(inside, 16);
    if (tag(head, 0) === "data") {
      if (format === undefined) return E.left("it does not say what it holds before its audio");
      // Programs that stream to a pipe do not know the size in advance.
      const unknown = length === 0xffffffff || (length === 0 && start.getUint32(4, true) === 0);
      const bytes = unknown ? size - inside : length;
      if (inside + bytes > size) {
        return E.left(
          `it is cut: ${bytes} bytes of audio are promised, ${size - inside} are there`,
        );
      }
      return described(format, bytes, inside);
    }
    at = inside + length + length % 2;
  }
}

function described(format: DataView, bytes: number, at: number): E.Either<string, Found> {
  const kind = format.getUint16(0, true), channels = format.getUint16(2, true);
  const rate = format.getUint32(4, true), block = format.getUint16(12, true);
  if (channels === 0 || rate === 0 || block === 0) return E.left("its header makes no sense");
  if (bytes === 0) return E.left("it holds no samples");
  const plain = kind === kinds.pcm || kind === kinds.float || kind === kinds.extensible;
  const samples = plain ? { samples: Math.floor(bytes / block) } : {};
  const bits = format.getUint16(14, true);
  return E.right({ header: { rate, channels, ...samples }, kind, bits, at });
}

function readAt(file: Deno.FsFile, at: number, length: number): DataView | undefined {
  const bytes = new Uint8Array(length);
  file.seekSync(at, Deno.SeekMode.Start);
  for (let done = 0; done < length;) {
    const count = file.readSync(bytes.subarray(done));
    if (count === null) return undefined;
    done += count;
  }
  return new DataView(bytes.buffer);
}

const tag = (view: DataView, at: number): string =>
  String.fromCharCode(...[0, 1, 2, 3].map((k) => view.getUint8(at + k)));
