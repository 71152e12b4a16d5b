// One run from its spec to its end: opens the device and the clips, trains, and scores the encoder on
// downstream tasks where the spec names some.
import * as E from "fp-ts/Either.js";
import { openBackend } from "./backend.ts";
import { openSource } from "./data/open.ts";
import { type DataError, dataErrorText, type Source } from "./data/source.ts";
import { suiteErrorText, writeSuite } from "./data/suite.ts";
import { syntheticTasks } from "./data/synthetic.ts";
import { evaluate, tasksIn } from "./evaluate.ts";
import { ensureFolder, fileErrorText } from "./files.ts";
import { progress, standardError } from "./progress.ts";
import type { EvaluationSpec, Spec } from "./spec.ts";
import type { NoEvaluation } from "./spec/evaluation.ts";
import { train } from "./train.ts";
import { examine, folderErrorText } from "./train/folder.ts";

/** Where a run is made, and how. */
export interface RunIn {
  readonly folder: string;
  /** Goes on with the run in that folder, where there is one. */
  readonly resume: boolean;
  /** A folder that keeps embeddings and scores for several runs; by default each keeps its own. */
  readonly kept?: string;
  /** Says nothing of how the device was chosen, which an earlier run did. */
  readonly again?: boolean;
}

const complain = (message: string): number => {
  console.error(message);
  return 1;
};

/** Makes a run. Gives the exit status: 0, or 1 after one message that says what was wrong. */
export const runSpec = async (
  spec: Spec,
  { folder, resume, kept, again = false }: RunIn,
): Promise<number> => {
  const writable = await ensureFolder(folder)();
  if (E.isLeft(writable)) return complain(fileErrorText(writable.left));
  // Before any work; the run asks again once the folder is its own.
  const prior = examine(folder, spec, resume);
  if (E.isLeft(prior)) return complain(folderErrorText(prior.left));
  const { evaluation = { kind: "none" }, frontEnd: { sampleRate } } = spec;
  if (evaluation.kind === "hear") {
    const tasks = await tasksIn(evaluation.tasks, evaluation.names ?? [], sampleRate);
    if (E.isLeft(tasks)) return complain(`evaluation: ${tasks.left}`);
  }
  const trained = await trainNow(spec, folder, resume, again);
  return trained !== 0 || evaluation.kind === "none"
    ? trained
    : await evaluateRun(spec, evaluation, folder, kept);
};

/** Scores the encoder of a finished run on the tasks that its spec names. */
const evaluateRun = async (
  { device }: Spec,
  evaluation: Exclude<EvaluationSpec, NoEvaluation>,
  folder: string,
  kept: string | undefined,
): Promise<number> => {
  const out = `${folder}/evaluation`, names = evaluation.names ?? [];
  const made = `${kept ?? out}/tasks`;
  if (evaluation.kind === "synthetic") {
    const tasks = syntheticTasks.filter(({ name }) => names.length === 0 || names.includes(name));
    const options = { seed: 0, clips: evaluation.clips };
    const written = await writeSuite(made, options, { tasks })();
    if (E.isLeft(written)) return complain(suiteErrorText(written.left));
  }
  return await evaluate({
    checkpoints: [`${folder}/checkpoint.safetensors`],
    tasks: evaluation.kind === "synthetic" ? made : evaluation.tasks,
    names,
    seeds: evaluation.seeds,
    device,
    out,
    ...(kept === undefined ? {} : { kept }),
    json: false,
  });
};

// Data that is read before training is told of, as it may take minutes.
const openShown = async (spec: Spec): Promise<E.Either<DataError, Source>> => {
  const bar = progress(standardError()), began = performance.now();
  let shown = false;
  const opened = await openSource(spec, {
    onProgress: (step, steps) => {
      const elapsed = (performance.now() - began) / 1000;
      shown ||= elapsed > 1;
      if (shown) bar.update({ unit: "recordings", step, steps, from: 0, elapsed });
    },
  });
  if (shown) bar.finish();
  return opened;
};

const trainNow = async (
  spec: Spec,
  folder: string,
  resume: boolean,
  again: boolean,
): Promise<number> => {
  const chosen = await openBackend(spec.device);
  if (E.isLeft(chosen)) return complain(chosen.left);
  const { backend, notes } = chosen.right;
  if (!again) {
    notes.forEach((note) => console.error(note));
    console.error(`device: ${backend.device}`);
  }
  let stop = false;
  const onInterrupt = () => {
    stop = true;
  };
  Deno.addSignalListener("SIGINT", onInterrupt);
  const source = await openShown(spec);
  try {
    if (E.isLeft(source)) return complain(dataErrorText(source.left));
    const skipped = source.right.skipped();
    if (skipped.length > 0) {
      console.error(
        `${skipped.length} ${skipped.length === 1 ? "file was" : "files were"} skipped:`,
      );
      skipped.forEach(({ path, reason }) => console.error(`  ${path}: ${reason}`));
    }
    const result = await train({
      spec,
      backend,
      folder,
      resume,
      interrupted: () => stop,
      source: source.right,
    });
    if (E.isLeft(result)) return complain(result.left.message);
    const { first, last, baseline } = result.right;
    console.log(
      `held-out loss ${first.toFixed(4)} at step 0, ${last.toFixed(4)} at the end; ` +
        `predicting each clip's mean gives ${baseline.toFixed(4)}`,
    );
    console.log(`report: ${folder}/report.html`);
    return 0;
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
    if (E.isRight(source)) source.right.close();
    backend.close();
  }
};
