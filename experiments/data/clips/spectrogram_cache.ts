// A cache of spectrograms on disk, so that a recording is decoded once and not in every epoch and run.
// Files are named by the hash of the recording's content, in a folder per front end; so the cache is
// never stale, serves every corpus with the same recordings, and may be deleted at any time. It only
// saves time: cached values have the same bits as computed ones.
import * as E from "fp-ts/Either.js";
import type { FrontEnd } from "../../../models/frontend.ts";
import type { LogMel } from "../audio/spectrogram.ts";
import { npy } from "../../formats/npy_write.ts";
import { npyArray } from "../../formats/npy_read.ts";

/** Cached standardised spectrograms, by the content of recordings. */
export interface Store {
  /** Frames from `start`, a function of the total number of frames; undefined if not cached. */
  readonly read: (
    key: string,
    start: (frames: number) => number,
    frames: number,
  ) => Float32Array | undefined;
  /** Caches a spectrogram if there is room. */
  readonly write: (key: string, of: LogMel) => void;
}

const hex = async (bytes: Uint8Array<ArrayBuffer>): Promise<string> =>
  [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The key of a recording: the hash of its content. */
export const contentKey = hex;

// To be changed when the same content and front end would give other values.
const version = 1;

/** The cache in a folder, for one front end; at most `room` bytes are added to it. */
export const openStore = async (
  folder: string,
  room: number,
  frontEnd: FrontEnd,
): Promise<Store> => {
  let left = room;
  const { sampleRate, fft, window, hop, mels, fMin, fMax } = frontEnd;
  const settings = [version, sampleRate, fft, window, hop, mels, fMin, fMax].join(" ");
  const print = await hex(new TextEncoder().encode(settings));
  const own = `${folder.replace(/(?<=.)\/+$/, "")}/log-mel-${print.slice(0, 12)}`;
  const pathOf = (key: string) => `${own}/${key.slice(0, 2)}/${key}.npy`;

  // Applies `act` to a complete file with this layout; any other file is ignored.
  const whole = <A>(
    path: string,
    act: (file: Deno.FsFile, at: number, frames: number) => A,
  ): A | undefined => {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path);
    } catch {
      return undefined;
    }
    try {
      const head = new Uint8Array(headSize), length = file.readSync(head) ?? 0;
      const parsed = npyArray(head.subarray(0, length));
      if (E.isLeft(parsed)) return undefined;
      const { shape: [frames, bands], at } = parsed.right;
      const fits = bands === mels && file.statSync().size === at + 4 * frames * mels;
      return fits ? act(file, at, frames) : undefined;
    } catch {
      return undefined;
    } finally {
      file.close();
    }
  };

  return {
    read: (key, start, frames) =>
      whole(pathOf(key), (file, at, all) => {
        const values = new Float32Array(frames * mels);
        const first = start(all), count = Math.min(frames, all - first);
        file.seekSync(at + 4 * first * mels, Deno.SeekMode.Start);
        readAll(file, new Uint8Array(values.buffer, 0, 4 * count * mels));
        if (count === frames) return values;
        // A shorter clip is repeated from its beginning.
        const rest = new Float32Array(Math.min(all, frames) * mels);
        file.seekSync(at, Deno.SeekMode.Start);
        readAll(file, new Uint8Array(rest.buffer));
        for (let frame = count; frame < frames; frame++) {
          const from = (first + frame) % all * mels;
          values.set(rest.subarray(from, from + mels), frame * mels);
        }
        return values;
      }),
    write: (key, { frames, values }) => {
      const size = headSize + values.byteLength;
      if (size > left) return;
      const path = pathOf(key), partial = `${path}.${crypto.randomUUID()}.partial`;
      try {
        Deno.mkdirSync(`${own}/${key.slice(0, 2)}`, { recursive: true });
        const bytes = npy(values, [frames, mels]);
        try {
          using file = Deno.openSync(partial, { write: true, createNew: true });
          for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
          file.syncDataSync();
        } catch (error) {
          Deno.removeSync(partial);
          throw error;
        }
        Deno.renameSync(partial, path);
        left -= size;
      } catch {
        // A full disk or a read-only folder costs time, not a run.
      }
    },
  };
};

/** Bytes of all files in a cache folder, over all front ends. */
export const storedBytes = (folder: string): number => {
  let total = 0;
  try {
    for (const entry of Deno.readDirSync(folder)) {
      const path = `${folder}/${entry.name}`;
      total += entry.isDirectory ? storedBytes(path) : Deno.statSync(path).size;
    }
  } catch {
    // It does not exist yet, or another run is writing it.
  }
  return total;
};

// Size of the header of a two-axis array.
const headSize = 128;

const readAll = (file: Deno.FsFile, into: Uint8Array): void => {
  for (let done = 0; done < into.length;) {
    const count = file.readSync(into.subarray(done));
    if (count === null) throw new Error("it ends");
    done += count;
  }
};
