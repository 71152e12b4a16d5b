// A study as one page: the comparison and its results, part by part, and the same clips as filled in by
// each family. It is self-contained, without scripts or network access.
import { count, escape } from "../plots/html.ts";
import { colourBar, colourRange, panelsOf } from "../plots/spectrogram.ts";
import { familyStyle, style } from "../plots/style.ts";
import { costFigure, lengthsFigures, lossesFigure, scoresFigure, studyStyle } from "./figures.ts";
import type { LengthPoint } from "./lengths.ts";
import { learned, lossesOf, type PartResult, type StudyResult } from "./results.ts";
import { scoresTable, type Table, trainingTable } from "./table.ts";

/** The page. */
export const studyPage = (result: StudyResult, lengths: readonly LengthPoint[]): string => {
  const { study, parts } = result;
  const lengthsShown = lengthsFigures(lengths), cost = costFigure(result);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(study.name)}: a study</title>
<link rel="icon" href="data:,">
<style>${style}${familyStyle}${studyStyle}</style>
</head>
<body>
<header>
<p class="kind">Formant study</p>
<h1>${escape(study.name)}</h1>
<p>${escape(summary(result))}</p>
${missingText(result)}
</header>
<main>
${parts.map((part, k) => partSection(part, result, k === 0)).join("\n")}
${
    cost === "" ? "" : `<section>
<h2>Cost against ${result.ranges === undefined ? "loss" : "score"}</h2>
<p>Operations of a training step for each clip, counted by the compiler.</p>
${cost}
</section>`
  }
${
    lengthsShown === "" ? "" : `<section>
<h2>Length</h2>
<p>One clip of so many patches on ${escape(lengths[0].device)}. A level line is time that grows with
the tokens; memory is of intermediate values, known before running.</p>
${lengthsShown}
</section>`
  }
${reconstructions(result)}
</main>
<footer>
<h2>What was run</h2>
${
    result.runs.map(({ spec, record }) =>
      `<details><summary>${escape(spec.name)}</summary><p class="soft">${escape(record.device)}; ` +
      `${escape(Object.entries(record.versions).map(([name, of]) => `${name} ${of}`).join(", "))}` +
      `</p><pre>${escape(JSON.stringify(spec, null, 2))}</pre></details>`
    ).join("\n")
  }
</footer>
</body>
</html>
`;
};

/** A summary of the numbers, also for models that did not learn. */
const summary = ({ study, runs, parts, ranges }: StudyResult): string => {
  const rows = parts.flatMap(({ rows }) => rows);
  const learning = rows.map(learned).filter((of) => of !== undefined);
  const did = learning.filter(Boolean).length;
  const best = parts[0].rows.flatMap((row) => {
    const { last } = lossesOf(row);
    return last === undefined ? [] : [{ row, loss: last.mean }];
  }).sort((a, b) => a.loss - b.loss)[0];
  return `${count(runs.length, "run")} of ${study.runs.length}. ` +
    (learning.length === 0
      ? ""
      : did === learning.length
      ? "Every trained encoder fills in held-out clips better than the same encoder untrained. "
      : `${did} of ${learning.length} rows fill in held-out clips better trained than untrained. `) +
    (best === undefined
      ? ""
      : `In the first part the lowest held-out loss is that of ${best.row.label}. `) +
    (ranges === undefined
      ? ""
      : "Intervals are of 95%: over seeds of pre-training where there are several, and else over " +
        "seeds of the probe.");
};

const missingText = ({ missing }: StudyResult): string =>
  missing.length === 0 ? "" : `<p class="soft">Not finished: ${
    escape(
      missing.map(({ name, reason }) => reason === undefined ? name : `${name} (${reason})`)
        .join("; "),
    )
  }.</p>`;

const table = ({ caption, head, rows, best }: Table): string =>
  `<div class="wide"><table><caption>${escape(caption)}</caption>
<thead><tr>${
    head.map((text, k) => k === 0 ? "<th></th>" : `<td>${escape(text)}</td>`).join("")
  }</tr></thead><tbody>
${
    rows.map((cells, row) =>
      `<tr>${
        cells.map((text, k) =>
          k === 0
            ? `<th scope="row">${escape(text)}</th>`
            : `<td${best[k] === row ? ' class="best"' : ""}>${escape(text)}</td>`
        ).join("")
      }</tr>`
    ).join("\n")
  }
</tbody></table></div>`;

const partSection = (part: PartResult, result: StudyResult, first: boolean): string => {
  const scores = scoresTable(part, result);
  return `<section>
<h2>${escape(part.title)}</h2>
${table({ ...trainingTable(part), caption: "Pre-training" })}
${lossesFigure(part)}
${scores === undefined ? "" : table({ ...scores, caption: "Downstream tasks" })}
${scores === undefined || !first ? "" : scoresFigure(part, result)}
${scores === undefined || !first ? "" : rangesText(result)}
</section>`;
};

const rangesText = ({ ranges }: StudyResult): string =>
  ranges === undefined ? "" : `<details><summary>What s(m) is relative to</summary>
<p>s(m) = 100 × mean over tasks t of (x_t(m) − min_t) / (max_t − min_t), over all models of this study.</p>
<table class="list"><tbody>${
    ranges.map(({ task, min, max, worst, best }) =>
      `<tr><th>${escape(task)}</th><td>${min.toFixed(3)} (${escape(worst)}) to ${max.toFixed(3)} (${
        escape(best)
      })</td></tr>`
    ).join("\n")
  }</tbody></table></details>`;

/** The same clips as reconstructed by each row of the first part. */
const reconstructions = ({ parts }: StudyResult): string => {
  const rows = parts[0].rows.filter(({ runs }) => runs.length > 0);
  const [first] = rows;
  if (first === undefined) return "";
  const { spec, examples } = first.runs[0];
  const geometry = { frontEnd: spec.frontEnd, patch: spec.patch };
  const range = colourRange(examples);
  const each = examples.flatMap((clip, k) => {
    const models = rows.flatMap(({ label, runs }) => {
      const example = runs[0].examples[k];
      const same = example !== undefined && example.name === clip.name &&
        example.mask.length === clip.mask.length &&
        example.original.values.length === clip.original.values.length;
      return same ? [{ label, example }] : [];
    });
    return [
      `<article class="example"><header><h3>${escape(clip.name)}</h3></header>
<div class="panels">
${panelsOf(models, geometry, range)}
</div></article>`,
    ];
  });
  return each.length === 0 ? "" : `<section>
<h2>The same held-out clips</h2>
<p>Each clip as it is, as the models saw it, and with its hidden patches as each of them fills them in.</p>
${colourBar(range, "standard deviations from the clip's mean")}
${each.join("\n")}
</section>`;
};
