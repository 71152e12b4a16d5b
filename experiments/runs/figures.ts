// Figures of a study: losses over training, scores by task, cost and score, and time and memory by
// length. Colours are families; within a family lines have different dashes.
import type { Interval } from "../evaluation/probe/statistics.ts";
import { escape, percent } from "../plots/html.ts";
import { type Line, linesFigure } from "../plots/line_chart.ts";
import { marksBelow, place, type Range, ticks } from "../plots/scale.ts";
import type { LengthPoint } from "./lengths.ts";
import {
  aggregateOf,
  curveOf,
  flopsPerClip,
  lossesOf,
  type PartResult,
  type Row,
  scoreOf,
  type StudyResult,
  tasksOf,
} from "./results.ts";

const familyOf = ({ runs }: Row): string => runs[0].spec.encoder.family;

/** Rows that have results. */
const shownRows = ({ rows }: PartResult): readonly Row[] =>
  rows.filter(({ runs }) => runs.length > 0);

const dashes = 4;

/** The CSS class of each row's line: its family's colour, with dashes for further rows of the family. */
const looksOf = (rows: readonly Row[]): readonly string[] =>
  rows.map((row, k) => {
    const before = rows.slice(0, k).filter((other) => familyOf(other) === familyOf(row)).length;
    return `${familyOf(row)} dash-${before % dashes}`;
  });

/** Held-out loss by step, a line for each row of a part. */
export const lossesFigure = (part: PartResult): string => {
  const rows = shownRows(part), looks = looksOf(rows);
  const lines = rows.map((row, k): Line => ({
    name: row.label,
    look: looks[k],
    points: curveOf(row),
  }));
  return linesFigure(lines, {
    along: "step",
    unit: "held-out loss",
    about: `Held-out loss by step: ${part.title}`,
    even: true,
  });
};

/** Scores of the rows of a part by task: filled for trained encoders, hollow for untrained ones. */
export const scoresFigure = (part: PartResult, result: StudyResult): string => {
  const rows = shownRows(part);
  const tasks = tasksOf(result.runs).filter(({ score }) => score !== "d_prime");
  if (rows.length === 0 || tasks.length === 0) return "";
  const line = 14, head = 22, gap = 16;
  const height = head + line * rows.length + gap;
  const range: Range = { low: 0, high: 100 };
  const x = (score: number) => percent(place(range, 100 * score));
  const dot = (
    of: Interval | undefined,
    y: number,
    look: string,
    said: string,
  ): string => {
    if (of === undefined || Number.isNaN(of.mean)) return "";
    const { mean, halfWidth } = of;
    const text = `${said}: ${(100 * mean).toFixed(1)}` +
      (halfWidth === undefined ? "" : ` ± ${(100 * halfWidth).toFixed(1)}`);
    const bar = halfWidth === undefined
      ? ""
      : `<line class="${look}" x1="${x(Math.max(0, mean - halfWidth))}" x2="${
        x(Math.min(1, mean + halfWidth))
      }" y1="${y}" y2="${y}"/>`;
    return `${bar}<circle class="${look}" r="4" cx="${x(mean)}" cy="${y}"><title>${
      escape(text)
    }</title></circle>`;
  };
  const each = tasks.map(({ task, score }, k) => {
    const top = k * height;
    const statistics = scoreOf(rows[0], task, "log-mel statistics");
    const tick = statistics === undefined
      ? ""
      : `<line class="baseline" x1="${x(statistics.mean)}" x2="${x(statistics.mean)}" y1="${
        top + head - 4
      }" y2="${top + head + line * rows.length - 4}"><title>log-mel statistics: ${
        (100 * statistics.mean).toFixed(1)
      }</title></line>`;
    const dots = rows.map((row, j) => {
      const y = top + head + line * j + 4;
      return `<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/>` +
        dot(
          scoreOf(row, task, "untrained"),
          y,
          `${familyOf(row)} hollow`,
          `${row.label}, untrained`,
        ) +
        dot(scoreOf(row, task), y, familyOf(row), row.label);
    });
    return `<text class="task" x="0" y="${top + 14}">${escape(task)} <tspan class="unit">${
      escape(score)
    }</tspan></text>${dots.join("")}${tick}`;
  });
  const legend = [
    ...rows.map((row) =>
      `<li><svg aria-hidden="true" viewBox="0 0 10 10"><circle class="${familyOf(row)}" cx="5" ` +
      `cy="5" r="4"/></svg>${escape(row.label)}</li>`
    ),
    `<li><svg aria-hidden="true" viewBox="0 0 10 10"><circle class="baseline hollow" cx="5" cy="5" ` +
    `r="4"/></svg>untrained</li>`,
    `<li><svg aria-hidden="true" viewBox="0 0 10 10"><line class="baseline" x1="5" x2="5" y1="0" ` +
    `y2="10"/></svg>log-mel statistics</li>`,
  ];
  return `<figure class="tasks"><ul class="legend">${legend.join("")}</ul>
<div class="plot"><svg role="img" aria-label="Scores by task" style="height: ${
    height * tasks.length
  }px">
${each.join("\n")}
${marksBelow(ticks(range, 5))}
</svg></div></figure>`;
};

/** All rows without duplicates, in the order of the parts. */
const allRows = ({ parts }: StudyResult): readonly Row[] => {
  const rows = parts.flatMap(shownRows);
  const key = ({ runs }: Row) => runs.map(({ spec }) => spec.name).join();
  return rows.filter((row, k) => rows.findIndex((other) => key(other) === key(row)) === k);
};

/** Training cost of each row, in operations per clip, and its score. */
export const costFigure = (result: StudyResult): string => {
  const scored = result.ranges !== undefined;
  const points = allRows(result).flatMap((row) => {
    const flops = flopsPerClip(row.runs[0]);
    const y = scored ? aggregateOf(row, result.ranges)?.mean : lossesOf(row).last?.mean;
    return flops === undefined || y === undefined || Number.isNaN(y)
      ? []
      : [{ row, x: flops / 1e6, y }];
  });
  if (points.length < 2) return "";
  const xs = points.map(({ x }) => x), ys = points.map(({ y }) => y);
  const across: Range = { low: Math.min(...xs) / 1.3, high: Math.max(...xs) * 1.3, log: true };
  const room = 0.1 * (Math.max(...ys) - Math.min(...ys)) || 1;
  const up: Range = { low: Math.min(...ys) - room, high: Math.max(...ys) + room };
  const grid = ticks(up, 6).map(({ at, label }) => {
    const y = percent(1 - at);
    return `<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/>` +
      `<text x="-9" y="${y}" dy="4" text-anchor="end">${label}</text>`;
  });
  const named: { readonly x: number; readonly y: number }[] = [];
  const dots = points.map(({ row, x, y }) => {
    const at = { x: place(across, x), y: place(up, y) };
    const cx = percent(at.x), cy = percent(1 - at.y);
    const dot = `<circle class="${familyOf(row)}" r="5" cx="${cx}" cy="${cy}"><title>${
      escape(`${row.label}: ${x.toFixed(1)} Mflop a clip, ${y.toPrecision(3)}`)
    }</title></circle>`;
    // A label that would overlap an earlier one is only shown as a tooltip.
    if (named.some((other) => Math.abs(other.x - at.x) < 0.3 && Math.abs(other.y - at.y) < 0.06)) {
      return dot;
    }
    named.push(at);
    const end = at.x > 0.6;
    return `${dot}<text class="name" x="${cx}" y="${cy}" dx="${end ? -9 : 9}" dy="4"${
      end ? ' text-anchor="end"' : ""
    }>${escape(row.label)}</text>`;
  });
  const unit = scored ? "s(m)" : "held-out loss";
  return `<figure class="cost"><div class="plot"><svg role="img" aria-label="${unit} against Mflop">
${grid.join("")}
${marksBelow(ticks(across, 6))}
<text x="0" y="0" dy="-12" class="unit">${unit}</text>
<text x="100%" y="100%" dy="36" text-anchor="end" class="unit">Mflop a clip in training</text>
${dots.join("\n")}
</svg></div></figure>`;
};

/** Time per token and memory of the study's encoders by length. */
export const lengthsFigures = (points: readonly LengthPoint[]): string => {
  const of = (
    unit: string,
    title: string,
    value: (point: LengthPoint) => number | undefined,
  ): string => {
    const kinds = [...new Set(points.map(({ label, pass }) => JSON.stringify([label, pass])))];
    const lines = kinds.map((kind): Line => {
      const own = points.filter(({ label, pass }) => JSON.stringify([label, pass]) === kind);
      const [{ label, family, pass }] = own;
      return {
        name: `${label}, ${pass}`,
        look: `${family} ${pass === "forward" ? "dash-1" : "dash-0"}`,
        points: own.flatMap((point) => {
          const y = value(point);
          return y === undefined ? [] : [{ x: point.tokens, y }];
        }),
      };
    });
    const figure = linesFigure(lines, { along: "tokens", unit, about: `${title} by tokens` });
    return figure === "" ? "" : `<h3>${title}</h3>${figure}`;
  };
  return of(
    "µs",
    "Time per token",
    ({ ms, tokens }) => ms === undefined ? undefined : 1000 * ms / tokens,
  ) +
    of(
      "MB",
      "Peak memory of intermediate values",
      ({ peakBytes }) => peakBytes === undefined ? undefined : peakBytes / 1e6,
    );
};

/** Styles of these figures, in addition to those of all reports and the families' colours. */
export const studyStyle = `
svg .dash-0, svg .dash-1, svg .dash-2, svg .dash-3 { stroke-width: 2; }
svg path.dash-1, svg line.dash-1 { stroke-dasharray: 6 4; }
svg path.dash-2, svg line.dash-2 { stroke-dasharray: 2 3; }
svg path.dash-3, svg line.dash-3 { stroke-dasharray: 10 3 2 3; }
svg circle[class*="dash-"] { stroke: var(--page); stroke-width: 1; }
.lines { margin-top: 0.75rem; }
.tasks .plot { padding: 1rem 0.75rem 2rem; }
.tasks .plot > svg { width: 100%; }
.tasks circle.hollow { fill: var(--page); }
.tasks circle { stroke-width: 1.75; }
.tasks line.hollow { opacity: 0.4; }
.tasks .legend svg { width: 0.8rem; height: 0.8rem; }
svg text.task { fill: var(--ink); font-size: 13px; }
svg text.name { fill: var(--ink); }
.cost circle { stroke: var(--page); }
.wide { overflow-x: auto; margin: 1.25rem 0; }
.wide table { width: auto; min-width: 100%; }
.wide td, .wide th { padding: 0.3rem 0 0.3rem 1.5rem; white-space: nowrap; overflow-wrap: normal; }
.wide thead td { color: var(--soft); white-space: normal; min-width: 5rem; }
.wide th { padding-left: 0; }
.wide td.best { font-weight: 600; }
`;
