// Writes NumPy's .npy format, version 1.0, for float32, as read by `numpy.load` and HEAR's tools. An array
// can be written at once or row by row, since its shape comes first.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { type FileError, writeWhole } from "../io/files.ts";
import { reasonOf } from "../io/reason.ts";

/** The bytes before the data: magic, version, the length of the rest, and a Python dict. */
export const npyHeader = (shape: readonly number[]): Uint8Array<ArrayBuffer> => {
  const sizes = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': ${sizes}, }`;
  // The data begin at a multiple of 64, right after a newline.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64;
  const bytes = new Uint8Array(length).fill(0x20);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]);
  new DataView(bytes.buffer).setUint16(8, length - 10, true);
  bytes.set(new TextEncoder().encode(text), 10);
  bytes[length - 1] = 0x0a;
  return bytes;
};

/** A whole file of row-major `values`. Throws if their number does not fit the shape. */
export const npy = (values: Float32Array, shape: readonly number[]): Uint8Array<ArrayBuffer> => {
  const size = shape.reduce((a, b) => a * b, 1);
  if (values.length !== size) {
    throw new RangeError(`${values.length} numbers do not fill the shape (${shape.join(", ")})`);
  }
  const header = npyHeader(shape);
  const bytes = new Uint8Array(header.length + values.byteLength);
  bytes.set(header);
  bytes.set(bytesOf(values), header.length);
  return bytes;
};

/** Writes an array to a file, atomically. */
export const writeNpy = (
  path: string,
  values: Float32Array,
  shape: readonly number[],
): TaskEither<FileError, void> => writeWhole(path, npy(values, shape));

/** A file that is written under another name until it is finished. */
export interface NpyFile {
  readonly append: (values: Float32Array) => E.Either<FileError, void>;
  /** Renames it to its final name. Throws if the number of values does not fit the shape. */
  readonly finish: () => E.Either<FileError, void>;
  /** Deletes it, unless it is finished. */
  readonly discard: () => void;
}

/** Creates a file for an array of `shape`; its folder must exist. Finishing replaces an existing file. */
export const openNpy = (path: string, shape: readonly number[]): E.Either<FileError, NpyFile> => {
  const partial = `${path}.partial`;
  const attempt = <A>(act: () => A): E.Either<FileError, A> =>
    E.tryCatch(act, (error): FileError => ({
      _tag: "FileError",
      doing: "write the file",
      path,
      reason: reasonOf(error),
    }));
  const opened = attempt(() =>
    Deno.openSync(partial, { write: true, create: true, truncate: true })
  );
  if (E.isLeft(opened)) return opened;
  const file = opened.right;
  const size = shape.reduce((a, b) => a * b, 1);
  let written = 0, state: "open" | "closed" | "finished" = "open";
  const write = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
  };
  const close = (): void => {
    if (state === "open") file.close();
    state = "closed";
  };
  const discard = (): void => {
    if (state === "finished") return;
    close();
    try {
      Deno.removeSync(partial);
    } catch {
      // It does not exist any more; the error that led here says more.
    }
  };
  const begun = attempt(() => write(npyHeader(shape)));
  if (E.isLeft(begun)) {
    discard();
    return begun;
  }
  return E.right({
    append: (values) =>
      attempt(() => {
        write(bytesOf(values));
        written += values.length;
      }),
    finish: () => {
      if (written !== size) {
        throw new RangeError(`${path}: ${written} numbers do not fill (${shape.join(", ")})`);
      }
      return attempt(() => {
        file.syncSync();
        close();
        Deno.renameSync(partial, path);
        state = "finished";
      });
    },
    discard,
  });
};

// All supported platforms are little-endian, as the header says.
const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
