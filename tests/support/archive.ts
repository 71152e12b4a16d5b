// Archives and pickles put together by hand, for tests of what reads them: any of their parts can be
// wrong.
import { crc32, deflateRawSync } from "node:zlib";

/** Bytes of a text whose letters are bytes. */
export const latin = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(text, (letter) => letter.charCodeAt(0));

/** Bytes after one another. */
export const joined = (parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> => {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** A number in `size` little-endian bytes. */
export const little = (n: number | bigint, size: number): Uint8Array<ArrayBuffer> =>
  Uint8Array.from({ length: size }, (_, k) => Number(BigInt(n) >> BigInt(8 * k) & 0xffn));

/** An entry of an archive; what is given beside its content replaces what would be true. */
export interface Entry {
  readonly name: string;
  readonly content: Uint8Array;
  readonly deflate?: boolean;
  readonly size?: number;
  readonly crc?: number;
  readonly flags?: number;
  readonly method?: number;
  /** Where it begins, as the list says. */
  readonly at?: number;
}

/** How an archive is written. */
export interface ZipOptions {
  /** All sizes and places with 64 bits. */
  readonly wide?: boolean;
  readonly comment?: string;
  /** What the end record says instead of the number of entries. */
  readonly count?: number;
}

/** A zip archive. */
export const zipOf = (entries: readonly Entry[], options: ZipOptions = {}): Uint8Array => {
  const { wide = false, comment = "" } = options;
  const parts: Uint8Array[] = [], list: Uint8Array[] = [];
  let at = 0;
  for (const entry of entries) {
    const name = new TextEncoder().encode(entry.name);
    const raw = entry.deflate ? new Uint8Array(deflateRawSync(entry.content)) : entry.content;
    const size = entry.size ?? entry.content.length;
    const stored = entry.deflate ? raw.length : size;
    const method = entry.method ?? (entry.deflate ? 8 : 0), ones = 0xffffffff;
    const common = [
      little(entry.flags ?? 0, 2),
      little(method, 2),
      little(0, 4),
      little(entry.crc ?? crc32(entry.content), 4),
    ];
    const extra = wide
      ? joined([
        little(1, 2),
        little(24, 2),
        little(size, 8),
        little(stored, 8),
        little(entry.at ?? at, 8),
      ])
      : new Uint8Array();
    const sizes = wide ? [ones, ones] : [stored, size];
    const head = joined([
      latin("PK\x03\x04\x14\0"),
      ...common,
      ...[stored, size].map((n) => little(n, 4)),
      little(name.length, 2),
      little(0, 2),
      name,
    ]);
    list.push(joined([
      latin("PK\x01\x02\x14\0\x14\0"),
      ...common,
      ...sizes.map((n) => little(n, 4)),
      little(name.length, 2),
      little(extra.length, 2),
      little(0, 10),
      little(wide ? ones : entry.at ?? at, 4),
      name,
      extra,
    ]));
    parts.push(head, raw);
    at += head.length + raw.length;
  }
  const directory = joined(list), count = options.count ?? entries.length;
  const end64 = joined([
    latin("PK\x06\x06"),
    little(44, 8),
    little(0, 12),
    little(count, 8),
    little(count, 8),
    little(directory.length, 8),
    little(at, 8),
    latin("PK\x06\x07"),
    little(0, 4),
    little(at + directory.length, 8),
    little(1, 4),
  ]);
  return joined([
    ...parts,
    directory,
    ...(wide ? [end64] : []),
    latin("PK\x05\x06\0\0\0\0"),
    ...[count, count].map((n) => little(wide ? 0xffff : n, 2)),
    little(wide ? 0xffffffff : directory.length, 4),
    little(wide ? 0xffffffff : at, 4),
    little(comment.length, 2),
    latin(comment),
  ]);
};

// ---------------------------------------------------------------- pickles

/** Instructions that push a text, a number, a name; that make a tuple of what some others push. */
export const text = (value: string): string => {
  const bytes = String.fromCharCode(...new TextEncoder().encode(value));
  return `X${String.fromCharCode(...little(bytes.length, 4))}${bytes}`;
};
export const number = (n: number | bigint): string =>
  typeof n === "number" && Math.abs(n) < 2 ** 31
    ? `J${String.fromCharCode(...little(n, 4))}`
    : `\x8a\x10${String.fromCharCode(...little(n, 16))}`;
export const name = (of: string): string => {
  const dot = of.lastIndexOf(".");
  return `c${of.slice(0, dot)}\n${of.slice(dot + 1)}\n`;
};
export const tuple = (...items: readonly string[]): string => `(${items.join("")}t`;

/** A storage, as torch.save refers to it. */
export const storage = (key: string, elements: number | bigint, type = "Float"): string =>
  `${
    tuple(text("storage"), name(`torch.${type}Storage`), text(key), text("cpu"), number(elements))
  }Q`;

/** A tensor that is a view of a storage. */
export const tensor = (
  of: string,
  shape: readonly (number | bigint)[],
  strides: readonly (number | bigint)[],
  offset: number | bigint = 0,
): string =>
  name("torch._utils._rebuild_tensor_v2") + tuple(
    of,
    number(offset),
    tuple(...shape.map(number)),
    tuple(...strides.map(number)),
    "\x89",
    `${name("collections.OrderedDict")})R`,
  ) + "R";

/** A dict. */
export const dict = (entries: Readonly<Record<string, string>>): string =>
  `}(${Object.entries(entries).map(([key, value]) => text(key) + value).join("")}u`;

/** The pickle of some instructions. */
export const pickleOf = (instructions: string): Uint8Array => latin(`\x80\x02${instructions}.`);

/** A file like those of torch.save. */
export const pthOf = (
  pickle: Uint8Array,
  storages: Readonly<Record<string, Uint8Array>> = {},
  options: ZipOptions & { readonly deflate?: boolean } = {},
): Uint8Array =>
  zipOf([
    { name: "x/data.pkl", content: pickle, deflate: options.deflate },
    ...Object.entries(storages).map(([key, content]) => ({
      name: `x/data/${key}`,
      content,
      deflate: options.deflate,
    })),
    { name: "x/version", content: latin("3\n") },
  ], options);
