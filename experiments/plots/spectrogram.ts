// Spectrograms as images with axes, and the errors of predicted patches. All images of a page share one
// colour scale; masked patches are transparent and show the page's neutral colour.
import type { FrontEnd } from "../../models/frontend.ts";
import { colourMap } from "./colour_map.ts";
import { escape, lossText, percent } from "./html.ts";
import { type Picture, pngAddress } from "../formats/png.ts";
import { marksBelow, melTicks, type Range, roundStep, type Tick, ticks } from "./scale.ts";

/** A log-mel spectrogram. */
export interface Spectrogram {
  /** Frames, along time. */
  readonly frames: number;
  /** Mel bands. */
  readonly mels: number;
  /** `values[frame * mels + band]`, bands from low to high. */
  readonly values: Float32Array;
}

/** A held-out clip and the model's prediction. */
export interface Example {
  /** The clip's name, e.g. its file. */
  readonly name: string;
  /** The original clip. */
  readonly original: Spectrogram;
  /** The model's prediction of every patch, visible ones included. */
  readonly reconstructed: Spectrogram;
  /** For each patch, time outer and frequency inner: nonzero if it was masked. */
  readonly mask: ArrayLike<number>;
}

/** The front end and patch size of a spectrogram. */
export interface Geometry {
  /** How the spectrogram was made. */
  readonly frontEnd: Pick<FrontEnd, "sampleRate" | "hop" | "mels" | "fMin" | "fMax">;
  /** Frames and mel bands of a patch. */
  readonly patch: { readonly time: number; readonly frequency: number };
}

/** Palette indices go from 0, the lowest value, to this one; the next is transparent. */
const highest = 254;
const clear = highest + 1;
const palette = colourMap(highest + 1);

/** Makes a test for whether an element of a clip is in a masked patch. */
export function maskedAt(
  example: Example,
  patch: Geometry["patch"],
): (frame: number, band: number) => boolean {
  const { frames, mels, values } = example.original;
  const across = mels / patch.frequency;
  const patches = frames / patch.time * across;
  const other = example.reconstructed;
  if (
    example.mask.length !== patches || values.length !== frames * mels ||
    other.values.length !== values.length || other.mels !== mels
  ) {
    throw new RangeError(
      `${example.name}: ${frames} × ${mels} in patches of ${patch.time} × ${patch.frequency} ` +
        `does not go with ${example.mask.length} patches, ${values.length} values ` +
        `and ${other.values.length} reconstructed ones`,
    );
  }
  return (frame, band) =>
    example.mask[Math.floor(frame / patch.time) * across + Math.floor(band / patch.frequency)] !==
      0;
}

/** Mean squared errors over the masked patches of a clip. */
export interface Score {
  /** Of the model's reconstruction. */
  readonly model: number;
  /** Of predicting the clip's mean everywhere. */
  readonly mean: number;
  /** Number of masked patches. */
  readonly masked: number;
  /** Number of patches of the clip. */
  readonly patches: number;
}

/** Errors of a model on the masked patches of a clip. */
export function score(example: Example, patch: Geometry["patch"]): Score {
  const hidden = maskedAt(example, patch);
  const { mels, values } = example.original;
  const average = values.reduce((sum, value) => sum + value, 0) / values.length;
  let [model, mean, n] = [0, 0, 0];
  values.forEach((value, i) => {
    if (!hidden(Math.floor(i / mels), i % mels)) return;
    model += (example.reconstructed.values[i] - value) ** 2;
    mean += (average - value) ** 2;
    n++;
  });
  const masked = Array.from(example.mask).filter((flag) => flag !== 0).length;
  return { model: model / n, mean: mean / n, masked, patches: example.mask.length };
}

/**
 * The range of the colour scale over the originals of all clips. It excludes the lowest 0.5 % and the
 * highest 0.2 % of values, so that outliers do not reduce the contrast of everything else.
 */
export function colourRange(examples: readonly Example[]): Range {
  const sorted = Float32Array.from(examples.flatMap((example) => [...example.original.values]))
    .filter(Number.isFinite).sort();
  if (sorted.length === 0) return { low: 0, high: 1 };
  const quantile = (share: number): number => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high] = [quantile(0.005), quantile(0.998)];
  return high > low ? { low, high } : { low: low - 0.5, high: low + 0.5 };
}

/** The image of a spectrogram, low frequencies at the bottom. Elements for which `hidden` are transparent. */
export function picture(
  { frames, mels, values }: Spectrogram,
  range: Range,
  hidden: (frame: number, band: number) => boolean = () => false,
): Picture {
  const pixels = new Uint8Array(frames * mels);
  for (let row = 0; row < mels; row++) {
    const band = mels - 1 - row;
    for (let frame = 0; frame < frames; frame++) {
      const share = (values[frame * mels + band] - range.low) / (range.high - range.low);
      pixels[row * frames + frame] = hidden(frame, band)
        ? clear
        : Math.round(highest * Math.min(1, Math.max(0, share || 0)));
    }
  }
  return {
    width: frames,
    height: mels,
    pixels,
    palette: Uint8Array.of(...palette, 0, 0, 0),
    clear,
  };
}

/** The hidden patches of a clip as reconstructed, the others as in the original. */
const filledIn = (example: Example, patch: Geometry["patch"]): Spectrogram => {
  const { original, reconstructed } = example;
  const hidden = maskedAt(example, patch);
  return {
    ...original,
    values: original.values.map((value, i) =>
      hidden(Math.floor(i / original.mels), i % original.mels) ? reconstructed.values[i] : value
    ),
  };
};

/** The image of a clip under a title, which is HTML; `what` is its description for screen readers. */
const panel = (
  title: string,
  what: string,
  image: Picture,
  { original }: Example,
  geometry: Geometry,
): string =>
  `<figure class="panel"><figcaption>${title}</figcaption>` +
  `<div class="axes"><img src="${pngAddress(image)}" width="${image.width}" ` +
  `height="${image.height}" alt="${escape(what)}">${axes(original, geometry)}</div></figure>`;

/** A clip, original and masked. */
const given = (example: Example, geometry: Geometry, range: Range): readonly string[] => {
  const { name, original } = example;
  const { masked, patches } = score(example, geometry.patch);
  return [
    panel(
      "Original",
      `Log-mel spectrogram of ${name}`,
      picture(original, range),
      example,
      geometry,
    ),
    panel(
      `Masked <span>what the model saw, ${Math.round(100 * masked / patches)} % hidden</span>`,
      `The same spectrogram with ${masked} of ${patches} patches hidden`,
      picture(original, range, maskedAt(example, geometry.patch)),
      example,
      geometry,
    ),
  ];
};

/** The four images of one clip: original, masked, all patches reconstructed, only hidden ones reconstructed. */
export function panels(example: Example, geometry: Geometry, range: Range): string {
  const { name, reconstructed } = example;
  return [
    ...given(example, geometry, range),
    panel(
      "Reconstructed <span>all patches as predicted</span>",
      `The model's reconstruction of all patches of ${name}`,
      picture(reconstructed, range),
      example,
      geometry,
    ),
    panel(
      "Filled in <span>visible patches kept</span>",
      `The visible patches of ${name} with the hidden ones as reconstructed`,
      picture(filledIn(example, geometry.patch), range),
      example,
      geometry,
    ),
  ].join("\n");
}

/** One clip, original and masked, and as several models fill it in, each with its error. */
export function panelsOf(
  models: readonly { readonly label: string; readonly example: Example }[],
  geometry: Geometry,
  range: Range,
): string {
  return [
    ...given(models[0].example, geometry, range),
    ...models.map(({ label, example }) => {
      const error = lossText(score(example, geometry.patch).model);
      return panel(
        `${escape(label)} <span>squared error in masked patches ${error}</span>`,
        `${example.name} with the hidden patches as ${label} reconstructs them`,
        picture(filledIn(example, geometry.patch), range),
        example,
        geometry,
      );
    }),
  ].join("\n");
}

// Tick labels lie outside the image; the page keeps a margin for them.
function axes(spectrogram: Spectrogram, { frontEnd }: Geometry): string {
  const seconds = spectrogram.frames * frontEnd.hop / frontEnd.sampleRate;
  const frequency = melTicks(frontEnd).map(({ at, label }) => {
    const y = percent(1 - at);
    return `<line x1="0" x2="-4" y1="${y}" y2="${y}"/>` +
      `<text x="-7" y="${y}" dy="4" text-anchor="end">${label}</text>`;
  });
  return `<svg aria-hidden="true">${marksBelow(timeTicks(seconds))}${frequency.join("")}` +
    `<text x="-7" y="0" dy="-9" text-anchor="end" class="unit">Hz</text></svg>`;
}

function timeTicks(seconds: number): readonly Tick[] {
  const range = { low: 0, high: seconds };
  const marks = ticks(range, 4);
  const step = roundStep(seconds, 4);
  return marks.map((mark, i) =>
    i === marks.length - 1 && i * step > 0 ? { ...mark, label: `${mark.label} s` } : mark
  );
}

/** The shared colour scale as a bar with ticks, in `units`, and the colour of masked patches. */
export function colourBar(range: Range, units: string): string {
  const image: Picture = {
    width: highest + 1,
    height: 1,
    pixels: Uint8Array.from({ length: highest + 1 }, (_, i) => i),
    palette,
  };
  return `<figure class="scale"><div class="axes bar"><img src="${pngAddress(image)}" ` +
    `width="${image.width}" height="1" alt="Colours from the lowest value to the highest">` +
    `<svg aria-hidden="true">${marksBelow(ticks(range, 6))}</svg></div>` +
    `<figcaption>${escape(units)}<span class="hidden-tone">masked</span></figcaption></figure>`;
}
