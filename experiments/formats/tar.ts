// Reads a tar archive as a stream: POSIX and GNU headers, long and non-ASCII names. An entry that could
// leave the output folder, by its name or as a link, is an error.
import * as E from "fp-ts/Either.js";
import { quoted } from "../../backends/runtime/text.ts";
import { reasonOf } from "../io/reason.ts";

/** A file in an archive. */
export interface TarFile {
  /** Its path in the archive; components are joined by `/`, and none is empty, `.` or `..`. */
  readonly path: string;
  readonly content: Uint8Array<ArrayBuffer>;
}

/** Why reading an archive stopped. */
export type TarError =
  | { readonly _tag: "CutArchive" }
  | { readonly _tag: "BadArchive"; readonly problem: string }
  | { readonly _tag: "UnsafeEntry"; readonly path: string; readonly problem: string };

/** Maximum size of a file in bytes. */
const largest = 2 ** 30;

/**
 * The files of an uncompressed tar stream, in order; folders are skipped. A left, if any, is the last
 * item.
 */
export const tarFiles = async function* (
  stream: AsyncIterable<Uint8Array>,
): AsyncGenerator<E.Either<TarError, TarFile>> {
  const reader = exactReader(stream);
  const seen = new Set<string>();
  let longName: string | undefined;
  try {
    for (;;) {
      const header = await reader.read(512);
      if (header === undefined) return yield E.left({ _tag: "CutArchive" });
      if (header.every((byte) => byte === 0)) {
        // The rest is padding; it is read so that the decompressor checks its checksum.
        await reader.drain();
        return;
      }
      const parsed = parseHeader(header);
      if (E.isLeft(parsed)) return yield parsed;
      const { size, kind } = parsed.right, path = longName ?? parsed.right.path;
      if (size > largest) {
        const problem = `${quoted(path)} has ${size} bytes, where at most ${largest} are read`;
        return yield E.left({ _tag: "BadArchive", problem });
      }
      const padded = await reader.read(Math.ceil(size / 512) * 512);
      if (padded === undefined) return yield E.left({ _tag: "CutArchive" });
      const content = padded.subarray(0, size);
      if (kind === "g") continue; // Global headers have nothing that is needed of the files that follow.
      if (kind === "x" || kind === "L") {
        const name = kind === "L" ? text(content) : paxPath(content);
        if (name !== undefined) longName = name;
        continue;
      }
      longName = undefined;
      const problem = unsafe(path, kind);
      if (problem !== undefined) return yield E.left({ _tag: "UnsafeEntry", path, problem });
      if (kind === "5") continue;
      const plain = path.split("/").filter((part) => part !== "" && part !== ".").join("/");
      if (seen.has(plain)) {
        const problem = `it holds ${quoted(plain)} twice`;
        return yield E.left({ _tag: "BadArchive", problem });
      }
      seen.add(plain);
      yield E.right({ path: plain, content });
    }
  } catch (error) {
    // A decompressor throws for invalid data and wrong checksums.
    const reason = reasonOf(error);
    yield E.left({ _tag: "BadArchive", problem: `it cannot be decompressed: ${reason}` });
  } finally {
    await reader.close();
  }
};

/** Why reading an archive stopped, to follow its name. */
export const tarErrorText = (error: TarError): string => {
  switch (error._tag) {
    case "CutArchive":
      return "it ends in the middle";
    case "BadArchive":
      return error.problem;
    case "UnsafeEntry":
      return `its entry ${quoted(error.path)} ${error.problem}, so nothing of it is kept`;
  }
};

function unsafe(path: string, kind: string): string | undefined {
  if (kind === "1" || kind === "2") return "is a link";
  if (kind !== "0" && kind !== "\0" && kind !== "7" && kind !== "5") {
    return "is neither a file nor a folder";
  }
  if (path.startsWith("/") || /^[A-Za-z]:/.test(path)) return "has an absolute path";
  if (path.split("/").includes("..")) return "leads out of the folder";
  return /[\\\0]/.test(path) ? "has a sign in its name that is not legal everywhere" : undefined;
}

/** A parsed header block of 512 bytes. */
export interface Header {
  readonly path: string;
  readonly size: number;
  /** The type flag: `0` a file, `5` a folder, `x` and `L` the name of the next entry. */
  readonly kind: string;
}

/** Parses a header block, which is not all zeros. */
export function parseHeader(block: Uint8Array): E.Either<TarError, Header> {
  const bad = (problem: string) => E.left<TarError>({ _tag: "BadArchive", problem });
  // The checksum counts its own field as spaces.
  const sum = block.reduce((sum, byte, k) => sum + (k >= 148 && k < 156 ? 32 : byte), 0);
  if (number(block.subarray(148, 156)) !== sum) return bad("it is no tar archive, or is damaged");
  const size = number(block.subarray(124, 136));
  if (size === undefined) return bad("it does not say how long one of its files is");
  const magic = text(block.subarray(257, 262));
  const prefix = magic === "ustar" ? text(block.subarray(345, 500)) : "";
  const isGnu = block[262] === 0x20;
  const name = text(block.subarray(0, 100));
  return E.right({
    path: prefix === "" || isGnu ? name : `${prefix}/${name}`,
    size,
    kind: String.fromCharCode(block[156]),
  });
}

// Octal digits or, if the highest bit is set, binary for larger numbers.
function number(field: Uint8Array): number | undefined {
  if (field[0] & 0x80) {
    const value = field.reduce((sum, byte, k) => sum * 256 + (k === 0 ? byte & 0x7f : byte), 0);
    return Number.isSafeInteger(value) ? value : undefined;
  }
  const digits = text(field).trim();
  return /^[0-7]+$/.test(digits) ? parseInt(digits, 8) : undefined;
}

/** The text before the first zero. */
export const text = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
};

/**
 * The path in a pax header (kind `x`), if there is one. Records are `LENGTH KEY=VALUE\n`, where the length
 * is that of the whole record.
 */
export function paxPath(content: Uint8Array): string | undefined {
  let path: string | undefined;
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(0x20, at);
    const length = Number(text(content.subarray(at, Math.max(at, space))));
    if (space < 0 || !(length > space - at)) return path;
    const record = new TextDecoder().decode(content.subarray(space + 1, at + length - 1));
    if (record.startsWith("path=")) path = record.slice(5);
    at += length;
  }
  return path;
}

interface ExactReader {
  /** Exactly `count` bytes; undefined if there are fewer. */
  readonly read: (count: number) => Promise<Uint8Array<ArrayBuffer> | undefined>;
  readonly drain: () => Promise<void>;
  readonly close: () => Promise<void>;
}

function exactReader(stream: AsyncIterable<Uint8Array>): ExactReader {
  const chunks = stream[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array();
  return {
    read: async (count) => {
      const bytes = new Uint8Array(count);
      for (let filled = 0; filled < count;) {
        if (rest.length === 0) {
          const next = await chunks.next();
          if (next.done === true) return undefined;
          rest = next.value;
        }
        const taken = rest.subarray(0, count - filled);
        bytes.set(taken, filled);
        filled += taken.length;
        rest = rest.subarray(taken.length);
      }
      return bytes;
    },
    drain: async () => {
      while ((await chunks.next()).done !== true);
    },
    close: async () => {
      await chunks.return?.();
    },
  };
}
