// `deno task evaluate`: how well embeddings of checkpoints serve downstream tasks, beside the same
// encoders untrained and a baseline. All tasks are checked before any work; embeddings and scores are
// kept as they come, so that an evaluation which was interrupted goes on where it was.
import { basename, dirname, resolve } from "node:path";
import * as E from "fp-ts/Either.js";
import { faithful } from "../models/fidelity.ts";
import { openBackend } from "./backend.ts";
import {
  type Model,
  type NamedCheckpoint,
  openModels,
  readCheckpoints,
} from "./evaluate/models.ts";
import { evaluationPage } from "./evaluate/page.ts";
import {
  documentOf,
  type EvaluatedTask,
  type Evaluation,
  intervalOf,
  keepScore,
  keptScore,
  type Picture,
  type Result,
  scoreKey,
} from "./evaluate/results.ts";
import { csv, factorOf, latex, scoreText, textTable } from "./evaluate/table.ts";
import { ensureFolder, fileErrorText, writeWhole } from "./files.ts";
import { embeddingsErrorText, embedTask } from "./hear/embeddings.ts";
import { knownTask } from "./hear/known.ts";
import { layoutErrorText, writeEmbeddings } from "./hear/layout.ts";
import {
  correctedProtocol,
  faithfulProtocol,
  probeTask,
  type Protocol,
  type TaskEmbeddings,
} from "./hear/probe.ts";
import { principalComponents } from "./hear/projection.ts";
import { listTasks, readTasks, type Task, taskErrorText } from "./hear/task.ts";
import { progress, standardError } from "./progress.ts";
import { quoted } from "./quote.ts";
import type { Backend } from "../backends/backend.ts";

/** What the command line says. */
export interface EvaluateOptions {
  /** Files of checkpoints, at least one. */
  readonly checkpoints: readonly string[];
  /** The folder of the tasks. */
  readonly tasks: string;
  /** Names of some of them; all of them when there is none. */
  readonly names: readonly string[];
  /** How many seeds: 0, 1, ... */
  readonly seeds: number;
  readonly device: string;
  /** Instead of what the checkpoints say. */
  readonly fidelity?: "faithful" | "corrected";
  /** Where to write; by default the folder `evaluation` beside the first checkpoint. */
  readonly out?: string;
  /** Whether to print the whole evaluation as JSON instead of the table. */
  readonly json: boolean;
}

/** Gives the exit status: 0, or 1 after messages that say what was wrong. */
export const evaluate = async (options: EvaluateOptions): Promise<number> => {
  const complain = (message: string): number => {
    console.error(message);
    return 1;
  };
  const checkpoints = await readCheckpoints(options.checkpoints);
  if (E.isLeft(checkpoints)) return complain(checkpoints.left);
  const rates = new Set(checkpoints.right.map(({ checkpoint }) => checkpoint.frontEnd.sampleRate));
  if (rates.size > 1) {
    return complain(
      `the checkpoints are for audio at different rates, ${[...rates].join(" and ")} Hz; ` +
        "evaluate them one by one",
    );
  }
  const folders = foldersOf(options.tasks, options.names);
  if (E.isLeft(folders)) return complain(folders.left);
  const tasks = await readTasks(folders.right, [...rates][0])();
  if (E.isLeft(tasks)) return complain(tasks.left.map((error) => taskErrorText(error)).join("\n"));
  const out = options.out ?? `${dirname(options.checkpoints[0])}/evaluation`;
  for (const folder of [out, `${out}/scores`]) {
    const writable = await ensureFolder(folder)();
    if (E.isLeft(writable)) return complain(fileErrorText(writable.left));
  }
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) return complain(chosen.left);
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);
  let stop = false;
  const onInterrupt = () => {
    stop = true;
  };
  Deno.addSignalListener("SIGINT", onInterrupt);
  try {
    const found = await evaluateOn(backend, {
      checkpoints: checkpoints.right,
      tasks: tasks.right,
      seeds: Array.from({ length: options.seeds }, (_, k) => k),
      fidelity: options.fidelity,
      out,
      interrupted: () => stop,
    });
    if (E.isLeft(found)) return complain(found.left);
    const document = documentOf(found.right);
    const files: Readonly<Record<string, string>> = {
      "scores.csv": csv(found.right),
      "scores.tex": latex(found.right),
      "evaluation.json": `${JSON.stringify(document, null, 1)}\n`,
      "evaluation.html": evaluationPage(found.right),
    };
    for (const [name, content] of Object.entries(files)) {
      const written = await writeWhole(`${out}/${name}`, content)();
      if (E.isLeft(written)) return complain(fileErrorText(written.left));
    }
    console.log(options.json ? JSON.stringify(document) : textTable(found.right));
    if (!options.json) console.log(`page: ${out}/evaluation.html`);
    return 0;
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
    backend.close();
  }
};

/** The folders of the tasks that are meant. */
const foldersOf = (
  folder: string,
  names: readonly string[],
): E.Either<string, readonly string[]> => {
  const listed = listTasks(folder);
  if (E.isLeft(listed)) return E.left(taskErrorText(listed.left));
  const { tasks } = listed.right;
  if (tasks.length === 0) {
    return E.left(
      `there is no task in ${folder}: no folder in it holds a task_metadata.json; ` +
        "'deno task data' makes or fetches some",
    );
  }
  const found: string[] = [];
  for (const name of names) {
    const known = knownTask(name)?.folder;
    const task = tasks.find((path) => basename(path) === name || basename(path) === known);
    if (task === undefined) {
      const there = tasks.map((path) => basename(path)).join(", ");
      return E.left(`there is no task ${quoted(name)} in ${folder}; there is ${there}`);
    }
    if (!found.includes(task)) found.push(task);
  }
  return E.right(names.length === 0 ? tasks : found);
};

/** What is evaluated, and how. */
export interface Evaluating {
  readonly checkpoints: readonly NamedCheckpoint[];
  readonly tasks: readonly Task[];
  readonly seeds: readonly number[];
  readonly fidelity?: "faithful" | "corrected";
  /** A folder that is there. */
  readonly out: string;
  readonly interrupted: () => boolean;
}

/** Evaluates all models on all tasks. On the left, why it ended early, in words. */
const evaluateOn = async (
  backend: Backend,
  { checkpoints, tasks, seeds, fidelity, out, interrupted }: Evaluating,
): Promise<E.Either<string, Evaluation>> => {
  const isFaithful = fidelity === undefined
    ? checkpoints.every(({ checkpoint }) => checkpoint.fidelity.rows === faithful.rows)
    : fidelity === "faithful";
  const protocol = isFaithful ? faithfulProtocol : correctedProtocol;
  const models = await openModels(backend, checkpoints, fidelity);
  const bar = progress(standardError());
  const began = performance.now();
  const results: Result[] = [];
  const evaluation = (): Evaluation => ({
    device: backend.device,
    fidelity: isFaithful ? "faithful" : "corrected",
    seeds,
    protocol,
    models: models.map(({ name, kind, width }) => ({ name, kind, width })),
    tasks: tasks.map(evaluatedTask),
    results,
  });
  try {
    for (const task of tasks) {
      for (const model of models) {
        const place = results.length, places = tasks.length * models.length;
        const show = (share: number) =>
          bar.update({
            unit: "score",
            step: Math.round(100 * (place + share)) / 100,
            steps: places,
            from: 0,
            elapsed: (performance.now() - began) / 1000,
          });
        const result = await evaluateOne(backend, model, task, {
          seeds,
          protocol,
          out,
          interrupted,
          show,
        });
        if (E.isLeft(result)) return result;
        results.push(result.right);
        const { name, score } = evaluatedTask(task);
        const text = scoreText(
          intervalOf(evaluation(), model.name, evaluatedTask(task)),
          factorOf(score),
        );
        bar.note(`${name}, ${model.name}: ${text}`);
      }
    }
    return E.right(evaluation());
  } finally {
    bar.finish();
    models.forEach(({ scenes }) => scenes.close());
  }
};

/** A task as tables have it. */
const evaluatedTask = ({ folder, known, labels, splits, metadata }: Task): EvaluatedTask => ({
  name: known?.short ?? basename(resolve(folder)),
  folder,
  labels,
  clips: splits.reduce((sum, { clips }) => sum + clips.length, 0),
  score: metadata.evaluation[0],
});

/** A model on a task: embeddings, which are written for the kit too, and their scores. */
const evaluateOne = async (
  backend: Backend,
  model: Model,
  task: Task,
  { seeds, protocol, out, interrupted, show }: {
    readonly seeds: readonly number[];
    readonly protocol: Protocol;
    readonly out: string;
    readonly interrupted: () => boolean;
    readonly show: (share: number) => void;
  },
): Promise<E.Either<string, Result>> => {
  // Probes take most of the time.
  const embeddingShare = 0.2;
  const embedded = await embedTask(model.scenes, task, {
    cache: `${out}/cache`,
    onProgress: (done, clips) => show(embeddingShare * done / clips),
    interrupted,
  });
  if (E.isLeft(embedded)) return E.left(embeddingsErrorText(embedded.left));
  const { width, splits } = embedded.right;
  const folder = `${out}/embeddings/${model.name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}`;
  const written = await writeEmbeddings(folder, task, width, splits)();
  if (E.isLeft(written)) return E.left(layoutErrorText(written.left));
  const key = scoreKey(backend.name, task, embedded.right, seeds, protocol);
  const { name } = evaluatedTask(task);
  const kept = keptScore(`${out}/scores`, key);
  const score = kept ?? await probeTask(backend, task, embedded.right, {
    seeds,
    protocol,
    interrupted,
    onProgress: ({ ended, trials }) => show(embeddingShare + (1 - embeddingShare) * ended / trials),
  });
  if (score === undefined) return E.left("interrupted; scores so far are kept");
  if (kept === undefined) {
    const saved = await keepScore(`${out}/scores`, key, score);
    if (E.isLeft(saved)) return E.left(fileErrorText(saved.left));
  }
  return E.right({
    model: model.name,
    task: name,
    score,
    picture: pictureOf(task, embedded.right),
  });
};

/** Clips that a picture shows at most. */
const mostDots = 600;

/** Some of a task's clips, evenly from all splits, in the plane. */
const pictureOf = (task: Task, { width, splits }: TaskEmbeddings): Picture => {
  const all = task.splits.flatMap(({ clips }, split) =>
    clips.map(({ labels }, clip) => ({ split, clip, label: labels.at(0) }))
  );
  const count = Math.min(mostDots, all.length);
  const shown = Array.from({ length: count }, (_, k) => all[Math.floor(k * all.length / count)]);
  const values = new Float32Array(count * width);
  shown.forEach(({ split, clip }, k) =>
    values.set(splits[split].subarray(clip * width, (clip + 1) * width), k * width)
  );
  return { ...principalComponents(values, width), labels: shown.map(({ label }) => label) };
};
