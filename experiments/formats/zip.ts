// Reads zip archives as written by PyTorch: entries are stored, or deflated if another program repacked
// them; archives and entries may use the 64-bit fields. Nothing in the file is trusted: each offset and
// size is checked before use, and no two entries may share bytes.
import { crc32, inflateRawSync } from "node:zlib";
import * as E from "fp-ts/Either.js";
import { quoted } from "../../backends/runtime/text.ts";

/** Random access to bytes: a file, or an array. */
export interface Source {
  /** Size in bytes. */
  readonly size: number;
  /** A copy of `length` bytes from `at`; fewer at the end of the source. */
  readonly read: (at: number, length: number) => Uint8Array<ArrayBuffer>;
}

/** An array as a source. */
export const bytesSource = (bytes: Uint8Array): Source => ({
  size: bytes.length,
  read: (at, length) => bytes.slice(at, at + length),
});

/** An open file as a source; the caller closes it. */
export const fileSource = (file: Deno.FsFile): Source => ({
  size: file.statSync().size,
  read: (at, length) => {
    const bytes = new Uint8Array(length);
    file.seekSync(at, Deno.SeekMode.Start);
    let filled = 0;
    while (filled < length) {
      const count = file.readSync(bytes.subarray(filled));
      if (count === null) break;
      filled += count;
    }
    return filled === length ? bytes : bytes.slice(0, filled);
  },
});

/** Why an archive or an entry cannot be read, to follow "it is damaged: ". */
export interface ZipError {
  readonly _tag: "NotZip" | "BadZip";
  readonly problem: string;
}

/** A file in an archive. */
export interface ZipEntry {
  readonly name: string;
  /** Uncompressed size in bytes. */
  readonly size: number;
  /** Size in the archive in bytes. */
  readonly stored: number;
}

/** An archive. */
export interface Zip {
  /** Its entries by name. */
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /** The content of an entry, checked against its checksum. */
  readonly read: (entry: ZipEntry) => E.Either<ZipError, Uint8Array<ArrayBuffer>>;
}

const most = {
  /** Bytes of the central directory: 100 000 entries with names of usual lengths. */
  directory: 16 * 2 ** 20,
  /** A comment has a 16-bit length; before it are the end record and the 64-bit locator. */
  tail: 22 + 20 + 0xffff,
};
const signature = { local: 0x04034b50, entry: 0x02014b50, end: 0x06054b50 };
const signature64 = { end: 0x06064b50, locator: 0x07064b50 };

const bad = (problem: string): E.Either<ZipError, never> => E.left({ _tag: "BadZip", problem });

/** Whether the first bytes are those of a zip archive. */
export const startsLikeZip = (head: Uint8Array): boolean =>
  head.length >= 4 && view(head).getUint32(0, true) === signature.local;

/** Opens an archive: reads and checks its central directory, but no content. */
export const openZip = (source: Source): E.Either<ZipError, Zip> => {
  const end = readEnd(source);
  if (E.isLeft(end)) return end;
  const { start, length, count, before } = end.right;
  if (length > most.directory) {
    return bad(
      `its list of entries takes ${length} bytes, where at most ${most.directory} are read`,
    );
  }
  if (start + length > before) {
    return bad(`its list of entries reaches byte ${start + length}, past its end record`);
  }
  const list = readList(source.read(start, length), length, count);
  if (E.isLeft(list)) return list;

  // The parts of the archive in order, which limit each entry's size.
  const parts = new Map<string, Part>();
  const ordered = [...list.right].sort((a, b) => a.at - b.at);
  for (const [k, part] of ordered.entries()) {
    const reach = k + 1 < ordered.length ? ordered[k + 1].at : start;
    const least = part.at + 30 + part.nameBytes + part.stored;
    if (least > reach || part.at > start) {
      return bad(`the entry ${quoted(part.name)} reaches into what comes after it`);
    }
    parts.set(part.name, { ...part, reach });
  }
  return E.right({
    entries: new Map(list.right.map(({ name, size, stored }) => [name, { name, size, stored }])),
    read: ({ name }) => readEntry(source, parts.get(name)!),
  });
};

interface End {
  /** Offset of the central directory, its size in bytes, its number of entries. */
  readonly start: number;
  readonly length: number;
  readonly count: number;
  /** Offset of the end records. */
  readonly before: number;
}

interface Listed extends ZipEntry {
  readonly at: number;
  readonly nameBytes: number;
  readonly deflated: boolean;
  readonly crc: number;
}

interface Part extends Listed {
  /** Offset of the next part of the archive. */
  readonly reach: number;
}

const view = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A 64-bit number; above 2^53 it is rounded, but stays larger than any file. */
const uint64 = (of: DataView, at: number): number => Number(of.getBigUint64(at, true));

const readEnd = (source: Source): E.Either<ZipError, End> => {
  const from = Math.max(0, source.size - most.tail);
  const tail = view(source.read(from, source.size - from));
  let at = tail.byteLength - 22;
  const isEnd = (k: number): boolean =>
    tail.getUint32(k, true) === signature.end &&
    k + 22 + tail.getUint16(k + 20, true) === tail.byteLength;
  while (at >= 0 && !isEnd(at)) at--;
  if (at < 0) {
    return E.left({ _tag: "NotZip", problem: "the record that ends a zip archive is missing" });
  }
  const short = {
    disks: tail.getUint32(at + 4, true),
    count: tail.getUint16(at + 10, true),
    length: tail.getUint32(at + 12, true),
    start: tail.getUint32(at + 16, true),
    before: from + at,
  };
  if (at >= 20 && tail.getUint32(at - 20, true) === signature64.locator) {
    const place = uint64(tail, at - 12);
    if (place + 56 > from + at - 20) return bad("its 64-bit end record is not where it should be");
    const record = view(source.read(place, 56));
    if (record.byteLength < 56 || record.getUint32(0, true) !== signature64.end) {
      return bad("its 64-bit end record is not where it should be");
    }
    return E.right({
      count: uint64(record, 32),
      length: uint64(record, 40),
      start: uint64(record, 48),
      before: place,
    });
  }
  return short.disks === 0 ? E.right(short) : bad("it is one of several parts of an archive");
};

const readList = (
  bytes: Uint8Array,
  length: number,
  count: number,
): E.Either<ZipError, readonly Listed[]> => {
  if (bytes.length < length) return bad("its list of entries is cut");
  if (count * 46 > length) return bad(`it announces ${count} entries in a list of ${length} bytes`);
  const of = view(bytes);
  const names = new Set<string>();
  const list: Listed[] = [];
  let at = 0;
  for (let k = 0; k < count; k++) {
    if (at + 46 > length || of.getUint32(at, true) !== signature.entry) {
      return bad(`entry ${k} of its list is not one`);
    }
    const nameBytes = of.getUint16(at + 28, true);
    const extra = of.getUint16(at + 30, true), comment = of.getUint16(at + 32, true);
    const next = at + 46 + nameBytes + extra + comment;
    if (next > length) return bad(`entry ${k} of its list is cut`);
    const name = utf8(bytes.subarray(at + 46, at + 46 + nameBytes));
    if (name === undefined) return bad(`the name of entry ${k} is not UTF-8 text`);
    if (names.has(name)) return bad(`it has two entries called ${quoted(name)}`);
    names.add(name);
    const flags = of.getUint16(at + 8, true), method = of.getUint16(at + 10, true);
    if (flags & 1) return bad(`the entry ${quoted(name)} is encrypted`);
    if (method !== 0 && method !== 8) {
      return bad(
        `the entry ${quoted(name)} is compressed by method ${method}, which is not deflate`,
      );
    }
    const long = wide(view(bytes.subarray(at + 46 + nameBytes, next - comment)), [
      of.getUint32(at + 24, true),
      of.getUint32(at + 20, true),
      of.getUint32(at + 42, true),
    ]);
    if (long === undefined) return bad(`the 64-bit sizes of the entry ${quoted(name)} are missing`);
    const [size, stored, place] = long;
    if (method === 0 && size !== stored) {
      return bad(`the entry ${quoted(name)} is ${size} bytes but stored in ${stored}`);
    }
    list.push({
      name,
      size,
      stored,
      at: place,
      nameBytes,
      deflated: method === 8,
      crc: of.getUint32(at + 16, true),
    });
    at = next;
  }
  return at === length ? E.right(list) : bad("its list of entries has more bytes than entries");
};

/** 64-bit values from the extra field of kind 1, in order, for the fields that are all ones. */
const wide = (extra: DataView, short: readonly number[]): readonly number[] | undefined => {
  if (!short.includes(0xffffffff)) return short;
  let at = 0;
  while (at + 4 <= extra.byteLength) {
    const kind = extra.getUint16(at, true), size = extra.getUint16(at + 2, true);
    const end = at + 4 + size;
    if (end > extra.byteLength) return undefined;
    if (kind === 1) {
      let from = at + 4;
      const long = short.map((n) => {
        if (n !== 0xffffffff) return n;
        from += 8;
        return from <= end ? uint64(extra, from - 8) : NaN;
      });
      return long.some(Number.isNaN) ? undefined : long;
    }
    at = end;
  }
  return undefined;
};

const readEntry = (
  source: Source,
  { name, size, stored, at, nameBytes, deflated, crc, reach }: Part,
): E.Either<ZipError, Uint8Array<ArrayBuffer>> => {
  const called = `the entry ${quoted(name)}`;
  const head = source.read(at, 30 + nameBytes);
  if (head.length < 30 + nameBytes) return bad(`${called} is cut`);
  const of = view(head);
  if (
    of.getUint32(0, true) !== signature.local || of.getUint16(26, true) !== nameBytes ||
    of.getUint16(8, true) !== (deflated ? 8 : 0) || utf8(head.subarray(30)) !== name
  ) return bad(`${called} does not begin where the list says`);
  const from = at + 30 + nameBytes + of.getUint16(28, true);
  if (from + stored > reach) return bad(`${called} reaches into what comes after it`);
  const raw = source.read(from, stored);
  if (raw.length < stored) return bad(`${called} is cut`);
  const content = deflated ? inflated(raw, size) : raw;
  if (content === undefined) {
    return bad(`${called} does not unpack to the ${size} bytes that the list says`);
  }
  return crc32(content) === crc
    ? E.right(content)
    : bad(`${called} does not agree with its checksum; copy or save the file again`);
};

const inflated = (raw: Uint8Array, size: number): Uint8Array<ArrayBuffer> | undefined => {
  try {
    // At least 1: zlib does not accept a limit of 0.
    const bytes = inflateRawSync(raw, { maxOutputLength: Math.max(1, size) });
    return bytes.length === size ? new Uint8Array(bytes) : undefined;
  } catch {
    return undefined;
  }
};

const utf8 = (bytes: Uint8Array): string | undefined => {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
};
