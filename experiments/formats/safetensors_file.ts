// A safetensors file on disk. Its header is checked before the rest is read: a truncated file, or one of
// another format, is reported with little memory, however large it is.
import * as E from "fp-ts/Either.js";
import { openRegular } from "../io/regular_files.ts";
import { fault, type SafetensorsError } from "../../backends/runtime/safetensors.ts";

/**
 * The bytes of a safetensors file with a valid header; on the left, what is wrong with it. Throws Deno's
 * error if the file cannot be read, and an error that says why if it is not a regular file.
 */
export const readTensors = (
  path: string,
): E.Either<SafetensorsError, Uint8Array<ArrayBuffer>> => {
  using file = openRegular(path);
  const read = (begin: number, end: number): Uint8Array<ArrayBuffer> => {
    const bytes = new Uint8Array(end - begin);
    file.seekSync(begin, Deno.SeekMode.Start);
    let done = 0;
    while (done < bytes.length) {
      const count = file.readSync(bytes.subarray(done));
      if (count === null) break;
      done += count;
    }
    return bytes.subarray(0, done);
  };
  const { size, isDirectory } = file.statSync();
  if (isDirectory) throw new Deno.errors.IsADirectory("it is a folder");
  const wrong = fault(read, size);
  return wrong === undefined ? E.right(read(0, size)) : E.left(wrong);
};
