// The loss over a run as one SVG: positions are fractions of its width and height, so that it fills any
// page while text and line widths keep their size.
import type { Metric } from "./metrics.ts";
import { escape, lossText, percent } from "../plots/html.ts";
import { marksBelow, place, type Range, ticks } from "../plots/scale.ts";

/** The loss of a trivial prediction, e.g. each clip's mean. */
export interface Baseline {
  /** Its label, e.g. `predicting each clip's mean`. */
  readonly label: string;
  /** Its loss over the held-out clips. */
  readonly loss: number;
}

interface Point {
  readonly step: number;
  readonly loss: number;
}

/** Training and held-out loss as curves, with the baselines as horizontal lines. */
export function lossFigure(
  metrics: readonly Metric[],
  baselines: readonly Baseline[],
): string {
  const train = points(metrics, (metric) => metric.loss);
  const heldOut = points(metrics, (metric) => metric.heldOutLoss);
  if (train.length + heldOut.length === 0) return "";
  const { raw, smooth, window } = smoothed(thinned(train));
  const steps: Range = {
    whole: true,
    low: 0,
    high: Math.max(1, ...[...train, ...heldOut].map((point) => point.step)),
  };
  const losses = lossRange([...raw, ...heldOut, ...baselines].map((point) => point.loss));

  const across = ticks(losses, 6).map(({ at, label }) => {
    const y = percent(1 - at);
    return `<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/>` +
      `<text x="-9" y="${y}" dy="4" text-anchor="end">${label}</text>`;
  });
  const levels = baselines.map((baseline, i) => {
    const y = percent(1 - place(losses, baseline.loss));
    return `<line class="baseline b${i % 3}" x1="0" x2="100%" y1="${y}" y2="${y}"/>`;
  });
  const curve = (name: string, of: readonly Point[]): string =>
    of.length < 2 ? "" : `<path class="${name}" d="${path(of, steps, losses)}"/>`;
  const dots = heldOut.length > 40
    ? []
    : heldOut.map((point) =>
      `<circle class="held-out" r="3.5" cx="${percent(place(steps, point.step))}" ` +
      `cy="${percent(1 - place(losses, point.loss))}"><title>step ${point.step}: ` +
      `${lossText(point.loss)}</title></circle>`
    );
  const description = [
    said("training loss", train),
    said("held-out loss", heldOut),
    ...baselines.map((baseline) => `${baseline.label}: ${lossText(baseline.loss)}`),
  ].filter((text) => text !== "").join("; ");
  const key = (name: string, text: string): string =>
    `<li><svg aria-hidden="true"><line class="${name}" x1="0" x2="100%" y1="50%" y2="50%"/></svg>` +
    `${escape(text)}</li>`;
  const legend = [
    heldOut.length > 0 ? key("held-out", "held-out clips") : "",
    smooth === undefined
      ? key("train", "training batches")
      : key("train", `training, mean of ${window} points`) + key("raw", "training batches"),
    ...baselines.map((baseline, i) => key(`baseline b${i % 3}`, baseline.label)),
  ];
  return `<figure class="loss"><ul class="legend">${legend.join("")}</ul>
<div class="plot"><svg role="img" aria-label="${escape(`Loss by step: ${description}`)}">
${across.join("")}
${marksBelow(ticks(steps, 6))}
<text x="-9" y="0" dy="-12" text-anchor="end" class="unit">loss</text>
<text x="100%" y="100%" dy="36" text-anchor="end" class="unit">step</text>
<svg class="curves" viewBox="0 0 1000 1000" preserveAspectRatio="none">
${smooth === undefined ? curve("train", raw) : curve("raw", raw) + curve("train", smooth)}
${curve("held-out", heldOut)}
</svg>
${levels.join("")}
${dots.join("")}
</svg></div></figure>`;
}

function points(
  metrics: readonly Metric[],
  of: (metric: Metric) => number | undefined,
): readonly Point[] {
  return metrics.flatMap((metric) => {
    const loss = of(metric);
    return loss === undefined || !Number.isFinite(loss) ? [] : [{ step: metric.step, loss }];
  });
}

function said(name: string, of: readonly Point[]): string {
  return of.length === 0
    ? ""
    : `${name} from ${lossText(of[0].loss)} to ${lossText(of[of.length - 1].loss)}`;
}

const mostPoints = 800;

// A long run has more points than the chart has columns: adjacent ones are averaged.
function thinned(of: readonly Point[]): readonly Point[] {
  const each = Math.ceil(of.length / mostPoints);
  return each <= 1 ? of : Array.from(
    { length: Math.ceil(of.length / each) },
    (_, i) => mean(of.slice(i * each, (i + 1) * each)),
  );
}

function mean(of: readonly Point[]): Point {
  const average = (value: (point: Point) => number): number =>
    of.reduce((sum, point) => sum + value(point), 0) / of.length;
  return { step: Math.round(average((p) => p.step)), loss: average((p) => p.loss) };
}

// Losses of single batches are noisy; with more than a few dozen a centred mean is shown.
function smoothed(
  raw: readonly Point[],
): { readonly raw: readonly Point[]; readonly smooth?: readonly Point[]; readonly window: number } {
  if (raw.length < 60) return { raw, window: 1 };
  const reach = Math.max(2, Math.round(raw.length / 50));
  const smooth = raw.map((point, i) => ({
    ...mean(raw.slice(Math.max(0, i - reach), i + reach + 1)),
    step: point.step,
  }));
  return { raw, smooth, window: 2 * reach + 1 };
}

// From 0, the minimum of a squared error; logarithmic if the largest would flatten the rest.
function lossRange(values: readonly number[]): Range {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  if (least > 0 && most / least > 30) {
    return { low: least / 1.2, high: most * 1.2, log: true };
  }
  const room = most * 1.04;
  return { low: 0, high: room > 0 ? room : 1 };
}

function path(of: readonly Point[], steps: Range, losses: Range): string {
  const number = (share: number): string => `${Number((1000 * share).toFixed(1))}`;
  return "M" +
    of.map((point) =>
      `${number(place(steps, point.step))} ${number(1 - place(losses, point.loss))}`
    ).join("L");
}
