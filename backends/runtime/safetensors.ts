// The safetensors format, read strictly and written deterministically: our checkpoints and the
// published ones are interchangeable, and a damaged file is recognised before it is used.
import * as E from "fp-ts/Either.js";
import { isObject, parseJson } from "./json.ts";
import { plain, quoted } from "./text.ts";

/** The array that holds each dtype. Half precision stays in its bits; a BOOL is 0 or 1. */
export type DtypeArrays = {
  readonly F64: Float64Array;
  readonly I64: BigInt64Array;
  readonly U64: BigUint64Array;
  readonly F32: Float32Array;
  readonly I32: Int32Array;
  readonly U32: Uint32Array;
  readonly F16: Uint16Array;
  readonly BF16: Uint16Array;
  readonly I16: Int16Array;
  readonly U16: Uint16Array;
  readonly I8: Int8Array;
  readonly U8: Uint8Array;
  readonly BOOL: Uint8Array;
};

/** The name of an element type: `F32`, `I64`, ... */
export type Dtype = keyof DtypeArrays;

/**
 * One tensor, row-major. `data` has as many elements as the product of `shape`, which is 1 for
 * `[]`, in an array of the dtype.
 */
export type TensorData = {
  readonly [D in Dtype]: {
    readonly dtype: D;
    readonly shape: readonly number[];
    readonly data: DtypeArrays[D];
  };
}[Dtype];

interface ArrayOf<A> {
  new (buffer: ArrayBuffer): A;
  readonly BYTES_PER_ELEMENT: number;
}

const arrays: { readonly [D in Dtype]: ArrayOf<DtypeArrays[D]> } = {
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  F32: Float32Array,
  I32: Int32Array,
  U32: Uint32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/** What a safetensors file holds. Iterating `tensors` gives the order of the file's header. */
export interface Safetensors {
  /** The texts under `__metadata__`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The tensors by name. */
  readonly tensors: ReadonlyMap<string, TensorData>;
}

/** Why bytes are not a safetensors file. */
export type SafetensorsError =
  | {
    /** The file ends early; sizes are in bytes from its start. */
    readonly _tag: "Truncated";
    readonly part: "the header's length" | "the header" | "the tensors";
    readonly found: number;
    readonly expected: number;
  }
  | { readonly _tag: "HeaderTooLarge"; readonly bytes: bigint; readonly most: number }
  | { readonly _tag: "BadHeader"; readonly problem: string }
  | { readonly _tag: "BadTensor"; readonly tensor: string; readonly problem: string };

const most = {
  /** Bytes of a header: some 100 000 tensors. As a value it takes several times as much memory. */
  header: 16 * 2 ** 20,
  /** Objects and lists inside one another; a valid header has 3. */
  depth: 8,
  /** Axes of a tensor. */
  axes: 64,
};
/** The first four bytes of a zip archive, where a header's length should be. */
const zipSignature = 0x04034b50n;
const metadataKey = "__metadata__";

interface Entry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * The tensors and metadata of a file. The data are copies: they do not keep `bytes` alive.
 *
 * A left says what is wrong: the file is cut, its header is not the format's, a tensor's dtype,
 * shape and place do not go together, or tensors overlap or leave bytes that belong to none.
 */
export function decode(bytes: Uint8Array): E.Either<SafetensorsError, Safetensors> {
  const length = headerLength(bytes);
  if (E.isLeft(length)) return length;
  const header = checkedHeader(bytes.subarray(8, 8 + length.right), length.right, bytes.length);
  if (E.isLeft(header)) return header;
  const { metadata, entries } = header.right, start = 8 + length.right;
  return E.right({
    metadata,
    tensors: new Map(entries.map(({ name, dtype, shape, begin, end }) => {
      const copy = bytes.slice(start + begin, start + end);
      return [name, { dtype, shape, data: new arrays[dtype](copy.buffer) } as TensorData];
    })),
  });
}

/**
 * What is wrong with a file of `size` bytes, by its header alone; `read` gives the bytes from one
 * place up to another, or fewer where the file ends. Nothing for a file that `decode` takes.
 */
export function fault(
  read: (begin: number, end: number) => Uint8Array,
  size: number,
): SafetensorsError | undefined {
  const length = headerLength(read(0, 8));
  if (E.isLeft(length)) return length.left;
  const header = checkedHeader(read(8, 8 + length.right), length.right, size);
  return E.isLeft(header) ? header.left : undefined;
}

/** The length of the header that the first bytes of a file announce. */
function headerLength(bytes: Uint8Array): E.Either<SafetensorsError, number> {
  if (bytes.length < 8) return truncated("the header's length", bytes.length, 8);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  return length > most.header
    ? E.left({ _tag: "HeaderTooLarge", bytes: length, most: most.header })
    : E.right(Number(length));
}

/** A header whose tensors fill the rest of a file of `size` bytes, each once. */
function checkedHeader(
  bytes: Uint8Array,
  length: number,
  size: number,
): E.Either<SafetensorsError, Header> {
  const start = 8 + length;
  if (bytes.length < length) return truncated("the header", size, start);
  const header = readHeader(bytes);
  if (E.isLeft(header)) return header;
  // In the order of the file, each tensor must begin where the one before ended.
  let at = 0;
  for (
    const { name, begin, end } of [...header.right.entries]
      .sort((a, b) => a.begin - b.begin || a.end - b.end)
  ) {
    if (begin !== at) {
      return badTensor(
        name,
        begin < at
          ? `it begins at byte ${begin} of the data, inside the tensor before it, which ends at ${at}`
          : `it begins at byte ${begin} of the data, but the one before it ends at ${at}`,
      );
    }
    at = end;
  }
  if (size < start + at) return truncated("the tensors", size, start + at);
  return size > start + at
    ? badHeader(`${size - start - at} bytes at the end belong to no tensor`)
    : header;
}

/**
 * The bytes of a file: tensors of 8-byte types first, so that each is aligned, else in the order
 * given. The same content in the same order gives the same bytes.
 *
 * A tensor whose data do not fill its shape is a mistake in code and throws.
 */
export function encode(
  tensors: ReadonlyMap<string, TensorData>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const width = ([, tensor]: readonly [string, TensorData]) => tensor.data.BYTES_PER_ELEMENT;
  const ordered = [...tensors].sort((a, b) => width(b) - width(a));
  // Written field by field: in an object, names like "0" would lose their place.
  const fields = Object.keys(metadata).length === 0
    ? []
    : [`"${metadataKey}":${JSON.stringify(metadata)}`];
  let size = 0;
  for (const [name, { dtype, shape, data }] of ordered) {
    if (elements(shape) !== data.length || !(data instanceof arrays[dtype])) {
      throw new RangeError(
        `tensor '${name}': ${data.length} elements of ${data.constructor.name} are not ` +
          `${dtype} of shape [${shape}]`,
      );
    }
    if (name === metadataKey) throw new RangeError(`no tensor can be called '${metadataKey}'`);
    const data_offsets = [size, size += data.byteLength];
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets })}`);
  }
  const text = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(text.length / 8) * 8;

  const bytes = new Uint8Array(8 + length + size);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.fill(0x20, 8, 8 + length);
  bytes.set(text, 8);
  let at = 8 + length;
  for (const [, { data }] of ordered) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}

/** Why a file is not safetensors, in one sentence; `file` is what it is called. */
export function safetensorsErrorText(error: SafetensorsError, file: string): string {
  switch (error._tag) {
    case "Truncated":
      return `${file} is cut: it ends at byte ${error.found}, but ${error.part} should ` +
        `reach byte ${error.expected}; copy or write it again`;
    case "HeaderTooLarge":
      if (BigInt.asUintN(32, error.bytes) === zipSignature) {
        return `${file} is not a safetensors file but a zip archive, as checkpoints of PyTorch are; ` +
          `'deno task import' makes safetensors of one`;
      }
      return `${file} is not a safetensors file: its first 8 bytes announce a header of ` +
        `${error.bytes} bytes, where at most ${error.most} are accepted`;
    case "BadHeader":
      return `${file} is not a valid safetensors file: ${error.problem}`;
    case "BadTensor":
      return `${file} is not a valid safetensors file: tensor ${quoted(error.tensor)}: ` +
        error.problem;
  }
}

// ---------------------------------------------------------------- header

interface Header {
  readonly metadata: Readonly<Record<string, string>>;
  readonly entries: readonly Entry[];
}

function readHeader(bytes: Uint8Array): E.Either<SafetensorsError, Header> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return badHeader("its header is not UTF-8 text");
  }
  const fault = faultOf(text);
  if (fault !== undefined) return badHeader(fault);
  const json = parseJson(text);
  if (E.isLeft(json)) {
    const { line, column, problem } = json.left;
    return badHeader(`its header is not JSON (line ${line}, column ${column}: ${plain(problem)})`);
  }
  if (!isObject(json.right)) return badHeader("its header is not a JSON object");

  const { [metadataKey]: metadata = {}, ...tensors } = json.right;
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    return badHeader(`'${metadataKey}' in its header is not an object of texts`);
  }
  const entries: Entry[] = [];
  for (const [name, value] of Object.entries(tensors)) {
    const entry = readEntry(name, value);
    if (E.isLeft(entry)) return entry;
    entries.push(entry.right);
  }
  return E.right({ metadata: metadata as Readonly<Record<string, string>>, entries });
}

// What a JSON parser lets pass: depth, which costs memory, and names that stand twice in an object,
// of which it would keep the last. Text that is no JSON is left to the parser.
function faultOf(text: string): string | undefined {
  // The names in each object that is open; undefined for a list.
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (sign === "{" || sign === "[") {
      open.push(sign === "{" ? new Set() : undefined);
      if (open.length > most.depth) return `its header is nested more than ${most.depth} deep`;
    } else if (sign === "}" || sign === "]") {
      open.pop();
    } else if (sign === '"') {
      const from = at++;
      while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
      let next = at + 1;
      while (" \t\n\r".includes(text[next] ?? "end")) next++;
      const names = open.at(-1), name = text[next] === ":" ? nameIn(text.slice(from, at + 1)) : "";
      if (names === undefined || text[next] !== ":" || name === undefined) continue;
      if (names.has(name)) return `its header has the name ${quoted(name)} twice`;
      names.add(name);
    }
  }
}

const nameIn = (json: string): string | undefined => {
  const read = parseJson(json);
  return E.isRight(read) && typeof read.right === "string" ? read.right : undefined;
};

function readEntry(name: string, value: unknown): E.Either<SafetensorsError, Entry> {
  if (!isObject(value)) return badTensor(name, "its entry in the header is not an object");
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(arrays, dtype)) {
    const known = Object.keys(arrays).join(", ");
    return badTensor(name, `its dtype is ${shown(dtype)}, where one of ${known} was expected`);
  }
  if (!isSizes(shape)) {
    return badTensor(name, `its shape is ${shown(shape)}, where a list of sizes was expected`);
  }
  if (shape.length > most.axes) {
    return badTensor(name, `it has ${shape.length} axes, where at most ${most.axes} are accepted`);
  }
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    return badTensor(
      name,
      `its data_offsets are ${shown(offsets)}, where [begin, end] was expected`,
    );
  }
  const [begin, end] = offsets;
  const count = elements(shape);
  // Also where a later 0 would hide it.
  if (!Number.isSafeInteger(elements(shape.filter((n) => n > 0)))) {
    return badTensor(name, `its shape ${shown(shape)} is beyond any file`);
  }
  const needed = count * arrays[dtype as Dtype].BYTES_PER_ELEMENT;
  if (needed !== end - begin) {
    return badTensor(
      name,
      `${dtype} of shape ${shown(shape)} takes ${needed} bytes, but its data_offsets hold ${
        end - begin
      }`,
    );
  }
  return E.right({ name, dtype: dtype as Dtype, shape, begin, end });
}

const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

const isSizes = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);

// A value as JSON, cut where it would fill the line.
function shown(value: unknown): string {
  const text = plain(JSON.stringify(value) ?? "missing");
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

const truncated = (
  part: "the header's length" | "the header" | "the tensors",
  found: number,
  expected: number,
): E.Either<SafetensorsError, never> => E.left({ _tag: "Truncated", part, found, expected });

const badHeader = (problem: string): E.Either<SafetensorsError, never> =>
  E.left({ _tag: "BadHeader", problem });

const badTensor = (tensor: string, problem: string): E.Either<SafetensorsError, never> =>
  E.left({ _tag: "BadTensor", tensor, problem });
