// Recognises audio containers and checks that files are complete. Decoders do not report missing data,
// so the size stated in the container is compared with the actual number of bytes.

/** The containers that recordings are read from. */
export type Container = "wav" | "flac" | "ogg" | "mp3";

/** The container of a file by its content; file names are not trusted. */
export function containerOf(bytes: Uint8Array): Container | undefined {
  if (tag(bytes, 0) === "RIFF" && tag(bytes, 8) === "WAVE") return "wav";
  if (tag(bytes, 0) === "fLaC") return "flac";
  if (tag(bytes, 0) === "OggS") return "ogg";
  // An MPEG audio frame begins with eleven set bits; the next two are the layer, of which 0 is reserved.
  return bytes[0] === 0xff && bytes[1] >= 0xe0 && (bytes[1] & 0x06) !== 0 ? "mp3" : undefined;
}

/** The bytes without the ID3 tag that may precede mp3 and flac. */
export function withoutId3(bytes: Uint8Array): Uint8Array {
  if (bytes.length < 10 || String.fromCharCode(...bytes.subarray(0, 3)) !== "ID3") return bytes;
  const size = bytes.subarray(6, 10).reduce((sum, byte) => sum * 128 + (byte & 0x7f), 0);
  const footer = bytes[5] & 0x10 ? 10 : 0;
  return bytes.subarray(10 + size + footer);
}

/**
 * What is missing or wrong in a file, to follow "it is damaged: "; undefined for a sound file. Sizes are
 * in bytes.
 */
export function damage(container: Container, bytes: Uint8Array): string | undefined {
  switch (container) {
    case "wav":
      return wavDamage(bytes);
    case "flac":
      return bytes.length < 42 ? "it ends in its header" : undefined;
    case "ogg":
      return oggDamage(bytes);
    case "mp3":
      return mp3Damage(bytes);
  }
}

/**
 * Samples per channel according to the file's header, if it states them: decoding a flac gives fewer
 * when frames are truncated or fail their checksums.
 */
export function promisedSamples(container: Container, bytes: Uint8Array): number | undefined {
  if (container !== "flac") return undefined;
  const view = viewOf(bytes);
  return (view.getUint8(21) & 0x0f) * 2 ** 32 + view.getUint32(22) || undefined;
}

/**
 * A complete wav file reduced to format and audio: the decoder does not skip the padding byte of chunks of
 * odd size, and finds no audio after one.
 */
export function plainWav(bytes: Uint8Array): Uint8Array {
  const chunks = wavChunks(bytes);
  const format = chunks.find(({ name }) => name === "fmt ")!;
  const audio = chunks.at(-1)!;
  const size = unknownSize(audio.size) ? audio.there : audio.size;
  const start = format.size + 28;
  const plain = new Uint8Array(start + size);
  plain.set(bytes.subarray(0, 12));
  plain.set(bytes.subarray(format.at - 8, format.at + format.size), 12);
  plain.set(bytes.subarray(audio.at - 8, audio.at + size), start - 8);
  return plain;
}

const viewOf = (bytes: Uint8Array) =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const tag = (bytes: Uint8Array, at: number): string =>
  String.fromCharCode(...bytes.subarray(at, at + 4));

const cut = (what: string, promised: number, there: number): string =>
  `${what} should have ${promised} bytes, but ${there} are there`;

// ---------------------------------------------------------------- wav

interface Chunk {
  readonly name: string;
  /** Offset of its content, its stated size, and the number of bytes from there to the end of the file. */
  readonly at: number;
  readonly size: number;
  readonly there: number;
}

// The chunks up to the audio chunk; nothing after it is needed.
function wavChunks(bytes: Uint8Array): readonly Chunk[] {
  const chunks: Chunk[] = [];
  for (let at = 20; at <= bytes.length && chunks.at(-1)?.name !== "data";) {
    const size = viewOf(bytes).getUint32(at - 4, true);
    chunks.push({ name: tag(bytes, at - 8), at, size, there: bytes.length - at });
    at += size + size % 2 + 8;
  }
  return chunks;
}

// Sizes written by programs that stream to a pipe and do not know the size.
const unknownSize = (size: number) => size === 0 || size === 0xffffffff;

function wavDamage(bytes: Uint8Array): string | undefined {
  const chunks = wavChunks(bytes);
  const short = chunks.find(({ name, size, there }) => name !== "data" && size > there);
  if (short !== undefined) return cut(`its chunk at byte ${short.at - 8}`, short.size, short.there);
  const audio = chunks.at(-1);
  if (audio?.name !== "data") return "it ends before its audio";
  const format = chunks.find(({ name }) => name === "fmt ");
  if (format === undefined) return "it does not say what its audio is made of";
  if (format.size < 16) return "its format has too few fields";
  const problem = formatDamage(viewOf(bytes), format.at);
  if (problem !== undefined) return problem;

  const promised = viewOf(bytes).getUint32(4, true);
  if (unknownSize(promised)) {
    if (unknownSize(audio.size)) return undefined;
  } else if (audio.size === 0) return "its header says that it holds no audio";
  if (audio.size > audio.there) return cut("its audio", audio.size, audio.there);
  // Anything after the audio is cut off; the padding byte after audio of odd size is often missing.
  return !unknownSize(promised) && promised + 8 > bytes.length + audio.size % 2
    ? cut("the file", promised + 8, bytes.length)
    : undefined;
}

// Inconsistent numbers would decode to noise, or to more channels than fit in memory.
function formatDamage(view: DataView, at: number): string | undefined {
  const kind = view.getUint16(at, true);
  const channels = view.getUint16(at + 2, true);
  const block = view.getUint16(at + 12, true);
  const bits = view.getUint16(at + 14, true);
  if (channels === 0) return "it has no channels";
  if (kind === 2 || kind === 0x11) { // ADPCM, whose blocks hold many samples
    return block < 4 * channels ? "its blocks are too small" : undefined;
  }
  return block !== channels * Math.ceil(bits / 8)
    ? `${channels} channels of ${bits} bits do not fill frames of ${block} bytes`
    : undefined;
}

// ---------------------------------------------------------------- ogg

function oggDamage(bytes: Uint8Array): string | undefined {
  const view = viewOf(bytes);
  let last = false;
  for (let at = 0, page = 1; at < bytes.length; page++) {
    if (tag(bytes, at) !== "OggS") return `page ${page} does not begin like one`;
    const lacing = bytes.subarray(at + 27, at + 27 + bytes[at + 26]);
    const size = 27 + lacing.length + lacing.reduce((sum, byte) => sum + byte, 0);
    if (at + 27 > bytes.length || at + size > bytes.length) {
      return `it is cut in page ${page}`;
    }
    if (view.getUint32(at + 22, true) !== oggChecksum(bytes.subarray(at, at + size))) {
      return `page ${page} does not match its checksum`;
    }
    last = (bytes[at + 5] & 0x04) !== 0;
    at += size;
  }
  return last ? undefined : "its last page is missing";
}

const oggTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte << 24;
  for (let bit = 0; bit < 8; bit++) sum = (sum << 1) ^ (sum < 0 ? 0x04c11db7 : 0);
  return sum >>> 0;
});

// The checksum of a page, computed with zeros in the checksum field.
function oggChecksum(page: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < page.length; at++) {
    const byte = at >= 22 && at < 26 ? 0 : page[at];
    sum = (sum << 8) ^ oggTable[(sum >>> 24) ^ byte];
  }
  return sum >>> 0;
}

// ---------------------------------------------------------------- mp3

// Most encoders write the stream's size into the first frame; without it nothing can be checked.
function mp3Damage(bytes: Uint8Array): string | undefined {
  const version1 = (bytes[1] & 0x08) !== 0;
  const mono = (bytes[3] & 0xc0) === 0xc0;
  const at = 4 + (version1 ? (mono ? 17 : 32) : (mono ? 9 : 17));
  if (!["Xing", "Info"].includes(tag(bytes, at)) || bytes.length < at + 16) return undefined;
  const flags = viewOf(bytes).getUint32(at + 4);
  if ((flags & 2) === 0) return undefined;
  const promised = viewOf(bytes).getUint32(at + (flags & 1 ? 12 : 8));
  return promised > bytes.length ? cut("its stream", promised, bytes.length) : undefined;
}
