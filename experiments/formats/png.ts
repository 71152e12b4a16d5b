// PNG images with at most 256 colours: the smallest lossless encoding of a spectrogram in a page.
import { crc32, deflateSync } from "node:zlib";

/** An image of palette indices. */
export interface Picture {
  /** Pixels per row. */
  readonly width: number;
  /** Number of rows. */
  readonly height: number;
  /** One palette index per pixel, row by row from the top. */
  readonly pixels: Uint8Array;
  /** Red, green and blue of colour 0, of colour 1, ...; at most 256 colours. */
  readonly palette: Uint8Array;
  /** A palette index that is transparent. */
  readonly clear?: number;
}

/** The bytes of a PNG file. The same picture gives the same bytes. */
export function encodePng(picture: Picture): Uint8Array<ArrayBuffer> {
  const { width, height, pixels, palette, clear } = picture;
  if (pixels.length !== width * height) {
    throw new RangeError(`${pixels.length} pixels do not fill ${width} × ${height}`);
  }
  // A row is one byte for its filter (0: none), then its pixels.
  const rows = new Uint8Array(height * (width + 1));
  for (let y = 0; y < height; y++) {
    rows.set(pixels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, width);
  new DataView(head.buffer).setUint32(4, height);
  head.set([8, 3], 8); // eight bits for a pixel, which is a number of the palette

  const opacity = clear === undefined ? [] : [...new Uint8Array(clear).fill(255), 0];
  return joined([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", head),
    chunk("PLTE", palette),
    ...(opacity.length > 0 ? [chunk("tRNS", Uint8Array.from(opacity))] : []),
    chunk("IDAT", deflateSync(rows, { level: 9 })),
    chunk("IEND", new Uint8Array()),
  ]);
}

/** An image as a data URL. */
export function pngAddress(picture: Picture): string {
  return `data:image/png;base64,${encodePng(picture).toBase64()}`;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const named = joined([new TextEncoder().encode(type), data]);
  const frame = new Uint8Array(named.length + 8);
  const view = new DataView(frame.buffer);
  view.setUint32(0, data.length);
  frame.set(named, 4);
  view.setUint32(4 + named.length, crc32(named));
  return frame;
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
