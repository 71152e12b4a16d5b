// Line charts as one SVG that fills any page. On two logarithmic axes a straight line is a power law, and a
// horizontal one is constant; linear axes are for values over steps, such as losses.
import { escape, percent, wholeText } from "./html.ts";
import { marksBelow, place, type Range, type Tick, ticks } from "./scale.ts";

/** One line of a chart. */
export interface Line {
  /** Its name in the legend. */
  readonly name: string;
  /** Its CSS class, which sets the colour. */
  readonly look: string;
  /** From left to right; positive on logarithmic axes. */
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/**
 * Lines with dots at their points and a legend. `along` and `unit` describe x and y. On logarithmic axes x
 * has ticks at the points, which are whole numbers. Empty if no line has a point.
 */
export const linesFigure = (
  lines: readonly Line[],
  { along, unit, about, even = false }: {
    readonly along: string;
    readonly unit: string;
    /** Description of the chart for screen readers. */
    readonly about: string;
    /** Linear axes. */
    readonly even?: boolean;
  },
): string => {
  const all = lines.flatMap(({ points }) => points);
  if (all.length === 0) return "";
  const xs = [...new Set(all.map(({ x }) => x))].sort((a, b) => a - b);
  const across: Range = even
    ? { low: 0, high: Math.max(1, xs[xs.length - 1]), whole: true }
    : xs.length > 1
    ? { low: xs[0], high: xs[xs.length - 1], log: true }
    : { low: xs[0] / 2, high: xs[0] * 2, log: true };
  const up = even ? evenRange(all.map(({ y }) => y)) : roundRange(all.map(({ y }) => y));
  const grid = ticks(up, 6).map(({ at, label }) => {
    const y = percent(1 - at);
    return `<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/>` +
      `<text x="-9" y="${y}" dy="4" text-anchor="end">${label}</text>`;
  });
  const number = (share: number): string => `${Number((1000 * share).toFixed(1))}`;
  const curves = lines.filter(({ points }) => points.length > 1).map(({ look, points }) => {
    const path = points.map(({ x, y }) =>
      `${number(place(across, x))} ${number(1 - place(up, y))}`
    );
    return `<path class="${look}" d="M${path.join("L")}"/>`;
  });
  const dots = lines.flatMap(({ name, look, points }) =>
    points.map(({ x, y }) =>
      `<circle class="${look}" r="3" cx="${percent(place(across, x))}" ` +
      `cy="${percent(1 - place(up, y))}"><title>${escape(name)}, ${wholeText(x)} ${
        escape(along)
      }: ${Number(y.toPrecision(3))} ${escape(unit)}</title></circle>`
    )
  );
  const legend = lines.filter(({ points }) => points.length > 0).map(({ name, look }) =>
    `<li><svg aria-hidden="true"><line class="${look}" x1="0" x2="100%" y1="50%" y2="50%"/></svg>` +
    `${escape(name)}</li>`
  );
  const marks = even
    ? ticks(across, 6)
    : apart(xs.map((x) => ({ at: place(across, x), label: wholeText(x) })));
  return `<figure class="lines"><ul class="legend">${legend.join("")}</ul>
<div class="plot"><svg role="img" aria-label="${escape(about)}">
${grid.join("")}
${marksBelow(marks)}
<text ${even ? 'x="0"' : 'x="-9" text-anchor="end"'} y="0" dy="-12" class="unit">${
    escape(unit)
  }</text>
<text x="100%" y="100%" dy="36" text-anchor="end" class="unit">${escape(along)}</text>
<svg class="curves" viewBox="0 0 1000 1000" preserveAspectRatio="none">
${curves.join("\n")}
</svg>
${dots.join("\n")}
</svg></div></figure>`;
};

/** The range around values with ends at 1, 2 or 5 times a power of ten, with at least two ticks. */
function roundRange(values: readonly number[]): Range {
  const least = Math.min(...values), most = Math.max(...values);
  const from = Math.floor(Math.log10(least)), to = Math.ceil(Math.log10(most)) + 1;
  const round = Array.from({ length: to - from + 1 }, (_, k) => from + k)
    .flatMap((power) => [1, 2, 5].map((n) => Number(`${n}e${power}`)));
  return {
    low: round.findLast((value) => value <= least)!,
    high: round.find((value) => value > most)!,
    log: true,
  };
}

/** The range of all values with a margin. */
function evenRange(values: readonly number[]): Range {
  const least = Math.min(...values), most = Math.max(...values);
  const room = 0.06 * (most - least || Math.abs(most) || 1);
  return { low: least - room, high: most + room };
}

/** Ticks whose labels do not overlap on a narrow page; the last one is always kept. */
function apart(marks: readonly Tick[]): readonly Tick[] {
  return marks.reduceRight<readonly Tick[]>(
    (kept, mark) => kept.length === 0 || kept[0].at - mark.at > 0.15 ? [mark, ...kept] : kept,
    [],
  );
}
