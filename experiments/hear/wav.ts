// What the header of a wav file says of it, without reading its audio: a task of 50 000 clips is checked
// before any work, in seconds.
import * as E from "fp-ts/Either.js";

/** What a header says. */
export interface WavHeader {
  /** Samples per second, in Hz. */
  readonly rate: number;
  readonly channels: number;
  /** Samples of each channel; absent where they are compressed. */
  readonly samples?: number;
}

/**
 * The header of a wav file, or why there is none to be had, in words to be read after its path. A
 * file that is shorter than its header promises is an error too.
 */
export const readWavHeader = (path: string): E.Either<string, WavHeader> => {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    return E.left(`it cannot be read: ${reasonOf(error)}`);
  }
  try {
    return headerOf(file);
  } catch (error) {
    return E.left(`it cannot be read: ${reasonOf(error)}`);
  } finally {
    file.close();
  }
};

const reasonOf = (error: unknown): string => {
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  return error instanceof Error ? error.message : String(error);
};

const kinds = { pcm: 1, float: 3, extensible: 0xfffe };

function headerOf(file: Deno.FsFile): E.Either<string, WavHeader> {
  const { size, isDirectory } = file.statSync();
  if (isDirectory) return E.left("it is a folder");
  if (size === 0) return E.left("the file is empty");
  const start = read(file, 0, 12);
  if (start === undefined || tag(start, 0) !== "RIFF" || tag(start, 8) !== "WAVE") {
    return E.left("it is not a wav file");
  }
  let format: DataView | undefined;
  for (let at = 12;;) {
    const head = read(file, at, 8);
    if (head === undefined) {
      return E.left(format === undefined ? "it does not say what it holds" : "it holds no audio");
    }
    const length = head.getUint32(4, true), inside = at + 8;
    if (tag(head, 0) === "fmt ") format = length < 16 ? undefined : read(file, inside, 16);
    if (tag(head, 0) === "data") {
      if (format === undefined) return E.left("it does not say what it holds before its audio");
      // A program that writes to a pipe does not know the size that it will come to.
      const unknown = length === 0xffffffff || (length === 0 && start.getUint32(4, true) === 0);
      const bytes = unknown ? size - inside : length;
      if (inside + bytes > size) {
        return E.left(
          `it is cut: ${bytes} bytes of audio are promised, ${size - inside} are there`,
        );
      }
      return described(format, bytes);
    }
    at = inside + length + length % 2;
  }
}

function described(format: DataView, bytes: number): E.Either<string, WavHeader> {
  const kind = format.getUint16(0, true), channels = format.getUint16(2, true);
  const rate = format.getUint32(4, true), block = format.getUint16(12, true);
  if (channels === 0 || rate === 0 || block === 0) return E.left("its header makes no sense");
  if (bytes === 0) return E.left("it holds no samples");
  const plain = kind === kinds.pcm || kind === kinds.float || kind === kinds.extensible;
  return E.right({ rate, channels, ...(plain ? { samples: Math.floor(bytes / block) } : {}) });
}

function read(file: Deno.FsFile, at: number, length: number): DataView | undefined {
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
