// An evaluation as one page: the table, how it was made, and the figures of each task.
import * as E from "fp-ts/Either.js";
import { escape } from "../plots/html.ts";
import { style } from "../plots/style.ts";
import {
  classLegend,
  confusionFigure,
  figureStyle,
  precisionsFigure,
  projectionFigure,
} from "./figures.ts";
import {
  type EvaluatedTask,
  type Evaluation,
  intervalOf,
  perClass,
  resultOf,
  summaryOf,
} from "./results.ts";
import { rowsOf } from "./table.ts";

/** The page, self-contained. */
export const evaluationPage = (of: Evaluation): string =>
  `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(of.models[0].name)}: downstream tasks</title>
<link rel="icon" href="data:,">
<style>${style}${figureStyle}</style>
</head>
<body>
<header>
<p class="kind">Formant evaluation</p>
<h1>${
    escape(
      of.models.filter(({ kind }) => kind === "pre-trained").map(({ name }) => name).join(", "),
    )
  }</h1>
<p>${escape(aboutText(of))}</p>
</header>
<main>
<section>
<h2>Scores</h2>
${scoresTable(of)}
${summaryText(of)}
</section>
${of.tasks.map((task) => taskSection(of, task)).join("\n")}
</main>
<footer>
<h2>How it was measured</h2>
<details><summary>Protocol</summary><pre>${
    escape(JSON.stringify(of.protocol, null, 2))
  }</pre></details>
</footer>
</body>
</html>
`;

const aboutText = ({ tasks, seeds, protocol, fidelity, device }: Evaluation): string =>
  `${
    tasks.length === 1 ? "One task" : `${tasks.length} tasks`
  } in the layout of HEAR; embeddings of ` +
  `whole clips, scored by a perceptron of ${protocol.hidden} hidden units with ` +
  (seeds.length === 1
    ? "one seed"
    : `${seeds.length} seeds (means, and 95% intervals of Student's t over the seeds of the probe)`) +
  `. Fidelity: ${fidelity}. Device: ${device}.`;

const scoresTable = (of: Evaluation): string => {
  const [head, ...body] = rowsOf(of);
  const best = of.tasks.map((task) => {
    const means = of.models.map(({ name }) => intervalOf(of, name, task).mean);
    return means.indexOf(Math.max(...means.filter((mean) => !Number.isNaN(mean))));
  });
  const row = (cells: readonly string[], k: number) =>
    `<tr${k === of.tasks.length ? ' class="main"' : ""}><th>${escape(cells[0])}</th>${
      cells.slice(1).map((text, j) =>
        `<td${j > 0 && j - 1 === best[k] ? ' class="best"' : ""}>${escape(text)}</td>`
      ).join("")
    }</tr>`;
  return `<div class="scores"><table><thead><tr><th>${escape(head[0])}</th>${
    head.slice(1).map((text) => `<td class="soft">${escape(text)}</td>`).join("")
  }</tr></thead><tbody>
${body.map(row).join("\n")}
</tbody></table></div>`;
};

const summaryText = (of: Evaluation): string => {
  const summary = summaryOf(of);
  if (E.isLeft(summary)) return `<p class="soft">${escape(summary.left)}</p>`;
  const { formula, tasks, undecided } = summary.right.aggregate;
  const ranges = tasks.map(({ task, min, max, worst, best }) =>
    `<tr><th>${escape(task)}</th><td>${min.toFixed(3)} (${escape(worst)})</td><td>${
      max.toFixed(3)
    } (${escape(best)})</td></tr>`
  );
  return `<p class="soft">${escape(formula)}. It compares the models of this table only${
    undecided.length === 0 ? "" : `; all score the same on ${escape(undecided.join(", "))}`
  }.</p>
<details><summary>The least and the greatest score of each task</summary><table>
<thead><tr><th></th><td class="soft">least</td><td class="soft">greatest</td></tr></thead>
<tbody>${ranges.join("\n")}</tbody></table></details>`;
};

const taskSection = (of: Evaluation, task: EvaluatedTask): string => {
  const looks = of.models.filter(({ kind }) => kind === "pre-trained").map(({ name }) => {
    const { confusion, precisions } = perClass(resultOf(of, name, task.name));
    return `<div><h3>${escape(name)}</h3>${
      confusion !== undefined
        ? confusionFigure(task, confusion)
        : precisions !== undefined
        ? precisionsFigure(task, precisions)
        : ""
    }</div>`;
  });
  const pictures = of.models.map(({ name }) =>
    projectionFigure(task, name, resultOf(of, name, task.name).picture)
  );
  return `<section>
<h2>${escape(task.name)}</h2>
<p>${task.clips} clips, ${task.labels.length} classes.</p>
<div class="looks">${looks.join("\n")}</div>
<h3>Embeddings in the plane of their first two principal components</h3>
${classLegend(task)}
<div class="projections">${pictures.join("\n")}</div>
</section>`;
};
