// `deno task evaluate`: scores embeddings on downstream tasks.
import * as E from "fp-ts/Either.js";
import { knownTasks } from "../data/hear/published_tasks.ts";
import { evaluate } from "../evaluation/evaluate.ts";
import { commandOf, neededText, neededTexts, noWords, text, texts, whole } from "./command.ts";
import { device, fidelity, jsonTable } from "./options.ts";

export const command = commandOf({
  summary: "scores embeddings on tasks in HEAR's layout, and baselines for comparison",
  notes: `\
Scores embeddings on downstream tasks in the layout of HEAR: trains the published probe on them,
for ten seeds, and compares with the same encoder untrained and with log-mel statistics. Prints a
table; writes evaluation.html, evaluation.json, scores.csv, scores.tex, and the embeddings as
hear-eval-kit reads them. All tasks are checked first. Finished results are kept; run the same
command again to resume.`,
  words: noWords,
  options: {
    checkpoint: neededTexts(
      "F",
      "what 'deno task experiment' wrote; may be repeated, to compare several",
      "the encoder to evaluate",
      { paths: "files" },
    ),
    tasks: neededText(
      "DIR",
      "a folder of tasks, as 'deno task data' makes or fetches them",
      "the folder of the tasks",
      { paths: "folders" },
    ),
    task: texts("NAME", "only this one (a folder's name, or BO, E50, ...); may be repeated", {
      values: knownTasks.map(({ short }) => short),
    }),
    seeds: whole("N", "seeds of the probe, 0 to N - 1", { from: 1, to: 1000, otherwise: 10 }),
    device,
    fidelity: fidelity(
      "embeddings and probe as the published code has them",
      "the checkpoints say",
    ),
    out: text(
      "DIR",
      "where to write (default: the folder 'evaluation' next to the first checkpoint)",
      {
        paths: "folders",
      },
    ),
    json: jsonTable,
  },
  run: async ({ options: { checkpoint, task, device = "auto", ...options } }) =>
    E.right(await evaluate({ ...options, checkpoints: checkpoint, names: task, device })),
});
