// Figures of a task: the confusion matrix, and clips projected onto the first two principal components of
// their embeddings.
import { escape, percent } from "../plots/html.ts";
import type { EvaluatedTask, Picture } from "./results.ts";

/** Class colours, for any number of classes: equally spaced hues; beyond 8 also alternating lightness. */
const colour = (label: number, labels: number): string => {
  const lightness = labels > 8 && label % 2 === 1 ? 0.72 : 0.58;
  return `oklch(${lightness} 0.15 ${Number((360 * label / labels + 20).toFixed(1))})`;
};

const short = (label: string): string => label.length > 18 ? `${label.slice(0, 17)}…` : label;

/**
 * A confusion matrix as a square of cells: rows are true classes, columns predicted ones. The shade of a
 * cell is its share of the row; numbers stay legible on the darkest.
 */
export const confusionFigure = (
  { labels, name }: EvaluatedTask,
  counts: readonly (readonly number[])[],
): string => {
  const size = labels.length, step = 100 / size;
  const cells = counts.flatMap((row, truth) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    return row.flatMap((count, guess) => {
      if (count === 0) return [];
      const about =
        `${labels[truth]}, taken for ${labels[guess]}: ${Number(count.toFixed(1))} of ` +
        `${Number(total.toFixed(1))}`;
      const number = size <= 12
        ? `<text x="${percent((guess + 0.5) / size)}" y="${
          percent((truth + 0.5) / size)
        }" dy="4" ` +
          `text-anchor="middle" class="count">${Number(count.toFixed(count < 10 ? 1 : 0))}</text>`
        : "";
      return [
        `<rect class="${truth === guess ? "right" : "wrong"}" x="${guess * step}%" y="${
          truth * step
        }%" width="${step}%" height="${step}%" fill-opacity="${
          (0.08 + 0.42 * count / total).toFixed(3)
        }"><title>${escape(about)}</title></rect>${number}`,
      ];
    });
  });
  const every = Math.ceil(size / 24);
  const rows = labels.map((label, k) =>
    k % every === 0
      ? `<text x="-6" y="${percent((k + 0.5) / size)}" dy="4" text-anchor="end">${
        escape(short(label))
      }</text>`
      : ""
  );
  const columns = labels.map((label, k) =>
    k % every === 0
      ? `<svg x="${
        percent((k + 0.5) / size)
      }" y="100%"><text transform="rotate(-60)" x="-4" y="10" ` +
        `text-anchor="end">${escape(short(label))}</text></svg>`
      : ""
  );
  return `<figure class="confusion"><figcaption>Rows: true; columns: predicted; clips, on the mean of ` +
    `the seeds</figcaption><div class="cells"><svg role="img" aria-label="Confusion of ${
      escape(name)
    }">
${cells.join("\n")}
${rows.join("")}${columns.join("")}
</svg></div></figure>`;
};

/** The average precision of each class as bars. */
export const precisionsFigure = (
  { labels, name }: EvaluatedTask,
  precisions: readonly number[],
): string =>
  `<table class="bars"><caption>Average precision of each class of ${
    escape(name)
  }</caption><tbody>${
    labels.map((label, k) =>
      `<tr><th>${escape(label)}</th><td><span style="width: ${
        percent(precisions[k])
      }"></span></td>` +
      `<td>${(100 * precisions[k]).toFixed(1)}</td></tr>`
    ).join("\n")
  }</tbody></table>`;

/** The classes with their colours. */
export const classLegend = ({ labels }: EvaluatedTask): string =>
  `<ul class="legend classes">${
    labels.map((label, k) =>
      `<li><svg aria-hidden="true" viewBox="0 0 10 10"><circle cx="5" cy="5" r="4.5" fill="${
        colour(k, labels.length)
      }"/></svg>${escape(label)}</li>`
    ).join("")
  }</ul>`;

/** Clips as dots, coloured by class. */
export const projectionFigure = (
  { labels }: EvaluatedTask,
  title: string,
  { points, explained, labels: of }: Picture,
): string => {
  const ends = (axis: number): readonly [number, number] => {
    let low = Infinity, high = -Infinity;
    for (let k = axis; k < points.length; k += 2) {
      low = Math.min(low, points[k]);
      high = Math.max(high, points[k]);
    }
    return high > low ? [low, high] : [low - 1, low + 1];
  };
  const [left, right] = ends(0), [bottom, top] = ends(1);
  const dots = of.map((label, k) => {
    const x = 0.02 + 0.96 * (points[2 * k] - left) / (right - left);
    const y = 0.98 - 0.96 * (points[2 * k + 1] - bottom) / (top - bottom);
    const look = label === undefined
      ? 'fill="var(--soft)"'
      : `fill="${colour(label, labels.length)}"`;
    const title = label === undefined ? "" : `<title>${escape(labels[label])}</title>`;
    return `<circle cx="${percent(x)}" cy="${percent(y)}" r="3" ${look}>${title}</circle>`;
  });
  return `<figure class="projection"><figcaption>${escape(title)} <span>${
    Math.round(100 * (explained[0] + explained[1]))
  }% of the variance</span></figcaption><svg role="img" aria-label="${
    escape(`Embeddings of ${title} in the plane`)
  }">
${dots.join("\n")}
</svg></figure>`;
};

/** Styles of these figures, in addition to those of all reports. */
export const figureStyle = `
.scores { overflow-x: auto; }
.scores th, .scores td { padding-right: 1.5rem; white-space: nowrap; }
.scores th:first-child { position: sticky; left: 0; background: var(--page); }
.scores td.best { font-weight: 600; }
.looks { display: grid; gap: 2.5rem 3rem; margin-top: 1.25rem; }
.confusion .cells { padding: 0.75rem 0 6.5rem 8.5rem; max-width: 36rem; }
.confusion .cells > svg { width: 100%; aspect-ratio: 1; height: auto; border: 1px solid var(--line); }
.confusion svg svg { overflow: visible; }
svg rect.right { fill: var(--train); }
svg rect.wrong { fill: var(--held-out); }
.confusion text.count { fill: var(--ink); }
.projections { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.projection > svg { width: 100%; aspect-ratio: 1; height: auto; border: 1px solid var(--line); }
.projection circle { fill-opacity: 0.8; }
figcaption { font-size: 0.9rem; margin-bottom: 0.4rem; }
.legend.classes { margin: 1.25rem 0 0.75rem; font-size: 0.85rem; }
.legend.classes svg { width: 0.8rem; margin-right: 0.35rem; vertical-align: -0.1em; }
.bars td:nth-child(2) { width: 60%; }
.bars span { display: block; height: 0.8rem; background: var(--train); }
@media (min-width: 60rem) { .looks { grid-template-columns: 5fr 4fr; } }
`;
