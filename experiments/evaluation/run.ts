// Runs an evaluation: every model on every task, and the files it writes. Embeddings and scores are saved
// as they are computed, so that an interrupted evaluation resumes where it stopped.
import { basename, resolve } from "node:path";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import { faithful } from "../../models/fidelity.ts";
import { ensureFolder, fileErrorText, writeWhole } from "../io/files.ts";
import { embeddingsErrorText, embedTask } from "./probe/embed_task.ts";
import { layoutErrorText, writeEmbeddings } from "./probe/kit_layout.ts";
import {
  correctedProtocol,
  faithfulProtocol,
  probeTask,
  type Protocol,
  type SeedScore,
  type TaskEmbeddings,
} from "./probe/probe.ts";
import { principalComponents } from "./probe/projection.ts";
import type { Task } from "../data/hear/task.ts";
import { type Trainers, trainersOn } from "./probe/trials.ts";
import { progress, standardError } from "../io/progress.ts";
import { type Model, type NamedCheckpoint, openModels } from "./models.ts";
import { evaluationPage } from "./page.ts";
import {
  documentOf,
  type EvaluatedTask,
  type Evaluation,
  intervalOf,
  keepScores,
  keptScores,
  type Picture,
  type Result,
  scoreKey,
} from "./results.ts";
import { factorOf, latex, scoresCsv, scoreText } from "./table.ts";

/** Options of an evaluation. */
export interface Evaluating {
  readonly checkpoints: readonly NamedCheckpoint[];
  readonly tasks: readonly Task[];
  readonly seeds: readonly number[];
  /** Overrides the fidelity of the checkpoints. */
  readonly fidelity?: "faithful" | "corrected";
  /** Overrides the protocol that goes with the fidelity. */
  readonly protocol?: Protocol;
  /** The output folder, which must exist. */
  readonly out: string;
  /** Cache folder of embeddings and scores; by default `out`. */
  readonly kept?: string;
  readonly interrupted: () => boolean;
  /** Aborted on interruption; without it, reads in progress are waited for. */
  readonly signal?: AbortSignal;
}

/** Evaluates all models on all tasks. On the left, why it ended early, in words. */
export const evaluateOn = async (
  backend: Backend,
  { checkpoints, tasks, seeds, fidelity, out, kept = out, interrupted, signal, ...given }:
    Evaluating,
): Promise<E.Either<string, Evaluation>> => {
  const isFaithful = fidelity === undefined
    ? checkpoints.every(({ checkpoint }) => checkpoint.fidelity.rows === faithful.rows)
    : fidelity === "faithful";
  const protocol = given.protocol ?? (isFaithful ? faithfulProtocol : correctedProtocol);
  const folder = await ensureFolder(`${kept}/scores`)();
  if (E.isLeft(folder)) return E.left(fileErrorText(folder.left));
  const models = await openModels(backend, checkpoints, fidelity);
  const bar = progress(standardError());
  const began = performance.now();
  const results: Result[] = [], trainers = trainersOn(backend);
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
      // Models of one width have probes of one shape.
      trainers.close();
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
        const result = await evaluateOne(trainers, model, task, {
          seeds,
          protocol,
          out,
          kept,
          interrupted,
          signal,
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
    trainers.close();
    models.forEach(({ scenes }) => scenes.close());
  }
};

/** A task as described in results. */
const evaluatedTask = ({ folder, known, labels, splits, metadata }: Task): EvaluatedTask => ({
  name: known?.short ?? basename(resolve(folder)),
  folder,
  labels,
  clips: splits.reduce((sum, { clips }) => sum + clips.length, 0),
  score: metadata.evaluation[0],
});

/** A model on a task: embeddings, which are also written in the kit's layout, and their scores. */
const evaluateOne = async (
  trainers: Trainers,
  model: Model,
  task: Task,
  { seeds, protocol, out, kept, interrupted, signal, show }: {
    readonly seeds: readonly number[];
    readonly protocol: Protocol;
    readonly out: string;
    readonly kept: string;
    readonly interrupted: () => boolean;
    readonly signal: AbortSignal | undefined;
    readonly show: (share: number) => void;
  },
): Promise<E.Either<string, Result>> => {
  // Share of the progress bar; probes take most of the time.
  const embeddingShare = 0.2;
  const embedded = await embedTask(model.scenes, task, {
    cache: `${kept}/cache`,
    onProgress: (done, clips) => show(embeddingShare * done / clips),
    interrupted,
    signal,
  });
  if (E.isLeft(embedded)) return E.left(embeddingsErrorText(embedded.left));
  const { width, splits } = embedded.right;
  const folder = `${out}/embeddings/${model.name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}`;
  const written = await writeEmbeddings(folder, task, width, splits)();
  if (E.isLeft(written)) return E.left(layoutErrorText(written.left));
  const key = scoreKey(trainers.backend.name, task, embedded.right, protocol);
  let known = keptScores(`${kept}/scores`, key);
  const scored = (seed: number) => known.find((of) => of.seed === seed);
  const wanted = seeds.filter((seed) => scored(seed) === undefined);
  const together = seedsTogether(trainers.backend);
  for (let first = 0; first < wanted.length; first += together) {
    const some: readonly SeedScore[] | undefined = await probeTask(trainers, task, embedded.right, {
      seeds: wanted.slice(first, first + together),
      protocol,
      interrupted,
      onProgress: ({ ended, trials }) => {
        const done = first + Math.min(together, wanted.length - first) * ended / trials;
        show(embeddingShare + (1 - embeddingShare) * done / wanted.length);
      },
    });
    if (some === undefined) return E.left("interrupted; scores so far are kept");
    known = [...known, ...some];
    const saved = await keepScores(`${kept}/scores`, key, known);
    if (E.isLeft(saved)) return E.left(fileErrorText(saved.left));
  }
  return E.right({
    model: model.name,
    task: evaluatedTask(task).name,
    seeds: seeds.map((seed) => scored(seed)!),
    picture: pictureOf(task, embedded.right),
  });
};

/** Seeds trained before their scores are saved: all at once only where that is faster. */
const seedsTogether = (backend: Backend): number => backend.name === "webgpu" ? 10 : 1;

/** Maximum number of clips in a picture. */
const mostDots = 600;

/** Some of a task's clips, evenly from all splits, projected. */
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

/**
 * Writes evaluation.html, evaluation.json, scores.csv and scores.tex into a folder, each atomically. On
 * the left, why not, in words.
 */
export const writeEvaluation = async (
  out: string,
  evaluation: Evaluation,
): Promise<E.Either<string, void>> => {
  const files: Readonly<Record<string, string>> = {
    "scores.csv": scoresCsv(evaluation),
    "scores.tex": latex(evaluation),
    "evaluation.json": `${JSON.stringify(documentOf(evaluation), null, 1)}\n`,
    "evaluation.html": evaluationPage(evaluation),
  };
  for (const [name, content] of Object.entries(files)) {
    const written = await writeWhole(`${out}/${name}`, content)();
    if (E.isLeft(written)) return E.left(fileErrorText(written.left));
  }
  return E.right(undefined);
};
