// Scales of axes: the positions and labels of ticks; and the mel scale of spectrograms.

import { percent, thousands } from "./html.ts";

/** A tick of an axis. */
export interface Tick {
  /** Its position as a fraction of the axis: 0 at the low end, 1 at the high end. */
  readonly at: number;
  readonly label: string;
}

/** A range of values along a linear or logarithmic axis. */
export interface Range {
  /** The value at the low end; positive if `log`. */
  readonly low: number;
  /** The value at the high end. */
  readonly high: number;
  /** Logarithmic. */
  readonly log?: boolean;
  /** Ticks only at whole numbers, e.g. for steps. */
  readonly whole?: boolean;
}

/** The position of a value as a fraction of the axis; values out of range give less than 0 or more than 1. */
export function place(range: Range, value: number): number {
  return range.log
    ? Math.log(value / range.low) / Math.log(range.high / range.low)
    : (value - range.low) / (range.high - range.low);
}

/** About `wanted` round values in a range. */
export function ticks(range: Range, wanted: number): readonly Tick[] {
  const values = range.log ? decadeValues(range) : evenValues(range, wanted);
  const decimals = Math.max(
    0,
    ...values.map((value) => `${Number(value.toPrecision(6))}`.split(".")[1]?.length ?? 0),
  );
  return values.map((value) => ({
    at: place(range, value),
    label: range.log
      ? `${Number(value.toPrecision(3))}`
      : thousands(value.toFixed(decimals)).replace("-", "−"),
  }));
}

/** Ticks with labels below a drawing, in SVG; the drawing's lower edge is their y = 0. */
export function marksBelow(marks: readonly Tick[]): string {
  const each = marks.map(({ at, label }) => {
    const x = percent(at);
    return `<line x1="${x}" x2="${x}" y1="0" y2="4"/>` +
      `<text x="${x}" y="17" text-anchor="middle">${label}</text>`;
  });
  return `<svg y="100%">${each.join("")}</svg>`;
}

/** The smallest step of 1, 2, 2.5 or 5 times a power of ten that divides `length` into at most `parts`. */
export function roundStep(length: number, parts: number, whole = false): number {
  const least = Math.max(length / parts, whole ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].map((n) => n * power)
    .find((step) => step >= least * (1 - 1e-9) && (!whole || Number.isInteger(step)))!;
}

function evenValues({ low, high, whole }: Range, wanted: number): readonly number[] {
  const step = roundStep(high - low, wanted, whole);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => (first + i) * step + 0);
}

function decadeValues({ low, high }: Range): readonly number[] {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const inner = Math.log10(high / low) <= 3.2 ? [1, 2, 5] : [1];
  return Array.from({ length: to - from + 1 }, (_, i) => inner.map((n) => n * 10 ** (from + i)))
    .flat().filter((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9));
}

const mel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);

/**
 * Ticks in Hz along the bands of a mel filter bank (HTK scale). Each band is a row, and its filter's peak is
 * at the middle of the row.
 */
export function melTicks(bank: {
  readonly mels: number;
  readonly fMin: number;
  readonly fMax: number;
}): readonly Tick[] {
  const band = (mel(bank.fMax) - mel(bank.fMin)) / (bank.mels + 1);
  return [100, 500, 1000, 2000, 4000, 8000, 16000]
    .map((hertz) => ({
      at: ((mel(hertz) - mel(bank.fMin)) / band - 0.5) / bank.mels,
      label: hertz < 1000 ? `${hertz}` : `${hertz / 1000}k`,
    }))
    // The bank's edges are half a row outside the picture.
    .filter((tick) => tick.at > -0.51 / bank.mels && tick.at < 1 + 0.51 / bank.mels)
    .map((tick) => ({ ...tick, at: Math.min(1, Math.max(0, tick.at)) }));
}
