// Tar archives put together by hand, whole ones and hostile ones.

/** An entry: a file unless `kind` says something else. */
export interface TarEntry {
  readonly path: string;
  readonly content?: Uint8Array;
  readonly kind?: string;
  readonly link?: string;
}

const text = (of: string) => new TextEncoder().encode(of);

const header = (path: Uint8Array, size: number, kind: string, link: string): Uint8Array => {
  const block = new Uint8Array(512);
  const octal = (value: number, digits: number) => text(value.toString(8).padStart(digits, "0"));
  block.set(path.subarray(0, 100));
  block.set(octal(0o644, 7), 100);
  block.set(octal(size, 11), 124);
  block.set(octal(0, 11), 136);
  block.set(text("        "), 148);
  block.set(text(kind), 156);
  block.set(text(link), 157);
  block.set(text("ustar\x0000"), 257);
  block.set(octal(block.reduce((sum, byte) => sum + byte, 0), 6), 148);
  block[154] = 0;
  return block;
};

const padded = (content: Uint8Array): Uint8Array => {
  const block = new Uint8Array(Math.ceil(content.length / 512) * 512);
  block.set(content);
  return block;
};

// A name that no header holds goes before it in a record that counts its own length.
const longName = (path: string): Uint8Array => {
  const rest = text(` path=${path}\n`).length;
  let length = rest;
  while (rest + `${length}`.length !== length) length = rest + `${length}`.length;
  return text(`${length} path=${path}\n`);
};

/** An uncompressed archive. Names that are long or not ASCII take a header of their own. */
export const tar = (entries: readonly TarEntry[]): Uint8Array<ArrayBuffer> => {
  const parts: Uint8Array[] = [];
  for (const { path, content = new Uint8Array(), kind = "0", link = "" } of entries) {
    const name = text(path);
    // deno-lint-ignore no-control-regex
    if (name.length > 100 || !/^[\x00-\x7f]*$/.test(path)) {
      const record = longName(path);
      parts.push(header(text("pax"), record.length, "x", ""), padded(record));
    }
    parts.push(header(name, content.length, kind, link), padded(content));
  }
  parts.push(new Uint8Array(1024));
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** Bytes as gzip makes them. */
export const gzip = async (bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> => {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

/** The archive of a task as HEAR publishes them, uncompressed. */
export const taskTar = (
  folder: string,
  files: ReadonlyMap<string, Uint8Array>,
): Uint8Array<ArrayBuffer> =>
  tar([
    { path: "hear-2021.0.6/LICENSE", content: text("as it is") },
    { path: `hear-2021.0.6/tasks/${folder}/`, kind: "5" },
    ...[...files].map(([path, content]) => ({
      path: `hear-2021.0.6/tasks/${folder}/${path}`,
      content,
    })),
  ]);
