// Reads NumPy's .npy format, in which shards can hold precomputed spectrograms: floating point of 16, 32
// or 64 bits, row-major. Everything stated in a header is checked against the bytes before use.
import * as E from "fp-ts/Either.js";
import { half } from "./float16.ts";

/** A parsed header. */
export interface NpyArray {
  readonly shape: readonly number[];
  readonly dtype: "f2" | "f4" | "f8";
  /** Offset of the data in bytes. */
  readonly at: number;
}

/** The header of a file's bytes, or why there is none, to follow the file's name. */
export const npyArray = (bytes: Uint8Array): E.Either<string, NpyArray> => {
  if (bytes.length === 0) return E.left("the file is empty");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  if (bytes.length < 12 || magic.some((byte, k) => bytes[k] !== byte)) {
    return E.left("it is not a .npy file");
  }
  const version = bytes[6], begin = version === 1 ? 10 : 12;
  const length = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (begin + length > bytes.length) {
    return E.left(`its header should have ${length} bytes, but ${bytes.length - begin} are there`);
  }
  const text = new TextDecoder().decode(bytes.subarray(begin, begin + length));
  const dtype = /'descr':\s*'([^']*)'/.exec(text)?.[1];
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(text)?.[1];
  if (dtype === undefined || shape === undefined) return E.left("its header makes no sense");
  if (/'fortran_order':\s*True/.test(text)) {
    return E.left("its array is column-major; save it row-major (numpy.ascontiguousarray)");
  }
  if (dtype !== "<f2" && dtype !== "<f4" && dtype !== "<f8") {
    return E.left(`its numbers are ${dtype}, where <f2, <f4 and <f8 can be read`);
  }
  return E.right({
    shape: shape.split(",").map((size) => size.trim()).filter((size) => size !== "").map(Number),
    dtype: dtype.slice(1) as NpyArray["dtype"],
    at: begin + length,
  });
};

/** The values of an array of `count` elements, or why they cannot be read. */
export const npyValues = (
  bytes: Uint8Array,
  { dtype, at }: NpyArray,
  count: number,
): E.Either<string, Float32Array> => {
  const size = count * Number(dtype[1]);
  if (bytes.length - at < size) {
    return E.left(`its numbers should have ${size} bytes, but ${bytes.length - at} are there`);
  }
  // A copy, aligned for any element size.
  const own = bytes.slice(at, at + size).buffer;
  switch (dtype) {
    case "f2":
      return E.right(Float32Array.from(new Uint16Array(own), half));
    case "f4":
      return E.right(new Float32Array(own));
    case "f8":
      return E.right(Float32Array.from(new Float64Array(own)));
  }
};
