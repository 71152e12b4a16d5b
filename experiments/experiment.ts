// `deno task experiment NAME`: reads the spec and the clips, opens a device, trains, scores the encoder on
// downstream tasks where the spec names some, and says where the results are.
import * as E from "fp-ts/Either.js";
import { openBackend } from "./backend.ts";
import { openSource } from "./data/open.ts";
import { type DataError, dataErrorText, type Source } from "./data/source.ts";
import { suiteErrorText, writeSuite } from "./data/suite.ts";
import { syntheticTasks } from "./data/synthetic.ts";
import { evaluate, tasksIn } from "./evaluate.ts";
import { ensureFolder, fileErrorText } from "./files.ts";
import { progress, standardError } from "./progress.ts";
import type { DeviceName, EvaluationSpec, Spec } from "./spec.ts";
import { folderData } from "./spec/data.ts";
import type { NoEvaluation } from "./spec/evaluation.ts";
import { specList } from "./spec/list.ts";
import { readSpec, type SpecReadError, specReadErrorText } from "./spec/read.ts";
import { train } from "./train.ts";
import { examine, folderErrorText } from "./train/folder.ts";

/** What the command line says. */
export interface ExperimentOptions {
  /** The name of a spec, or the path of a file that holds one. */
  readonly spec: string;
  /** Fields of the spec with other values, `path=value`. */
  readonly changes: readonly string[];
  /** A folder of recordings in place of the spec's data. */
  readonly data?: string;
  /** Another device than the spec's. */
  readonly device?: string;
  readonly out?: string;
  /** Goes on with the run in that folder, where there is one. */
  readonly resume: boolean;
}

/** The spec that a command line means, its other options included. */
const specOf = async (
  { spec: name, changes, data, device }: Pick<
    ExperimentOptions,
    "spec" | "changes" | "data" | "device"
  >,
): Promise<E.Either<SpecReadError, Spec>> =>
  E.map((spec: Spec): Spec => ({
    ...spec,
    ...(data === undefined ? {} : { data: folderData(data, spec.data) }),
    ...(device === undefined ? {} : { device: device as DeviceName }),
  }))(await readSpec(name, changes)());

/** Prints a spec with all that it extends. Gives the exit status. */
export const printSpec = async (options: Parameters<typeof specOf>[0]): Promise<number> => {
  const spec = await specOf(options);
  if (E.isLeft(spec)) console.error(specReadErrorText(spec.left));
  else console.log(JSON.stringify(spec.right, null, 2));
  return E.isLeft(spec) ? 1 : 0;
};

/** Prints the specs that there are. Gives the exit status. */
export const printList = async (): Promise<number> => {
  const list = await specList();
  if (E.isLeft(list)) console.error(list.left);
  else console.log(list.right);
  return E.isLeft(list) ? 1 : 0;
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

/** Runs an experiment. Gives the exit status: 0, or 1 after one message that says what was wrong. */
export const experiment = async (options: ExperimentOptions): Promise<number> => {
  const read = await specOf(options);
  if (E.isLeft(read)) return complain(specReadErrorText(read.left));
  const spec = read.right;
  const folder = options.out ?? `runs/${spec.name}`;
  const writable = await ensureFolder(folder)();
  if (E.isLeft(writable)) return complain(fileErrorText(writable.left));
  // Before any work; the run asks again once the folder is its own.
  const prior = examine(folder, spec, options.resume);
  if (E.isLeft(prior)) return complain(folderErrorText(prior.left));
  const { evaluation = { kind: "none" }, frontEnd: { sampleRate } } = spec;
  if (evaluation.kind === "hear") {
    const tasks = await tasksIn(evaluation.tasks, evaluation.names ?? [], sampleRate);
    if (E.isLeft(tasks)) return complain(`evaluation: ${tasks.left}`);
  }
  const trained = await trainNow(spec, folder, options.resume);
  return trained !== 0 || evaluation.kind === "none"
    ? trained
    : await evaluateRun(spec, evaluation, folder);
};

/** Scores the encoder of a finished run on the tasks that its spec names. */
const evaluateRun = async (
  { device }: Spec,
  evaluation: Exclude<EvaluationSpec, NoEvaluation>,
  folder: string,
): Promise<number> => {
  const out = `${folder}/evaluation`, names = evaluation.names ?? [];
  if (evaluation.kind === "synthetic") {
    const tasks = syntheticTasks.filter(({ name }) => names.length === 0 || names.includes(name));
    const options = { seed: 0, clips: evaluation.clips };
    const written = await writeSuite(`${out}/tasks`, options, { tasks })();
    if (E.isLeft(written)) return complain(suiteErrorText(written.left));
  }
  return await evaluate({
    checkpoints: [`${folder}/checkpoint.safetensors`],
    tasks: evaluation.kind === "synthetic" ? `${out}/tasks` : evaluation.tasks,
    names,
    seeds: evaluation.seeds,
    device,
    out,
    json: false,
  });
};

const complain = (message: string): number => {
  console.error(message);
  return 1;
};

const trainNow = async (spec: Spec, folder: string, resume: boolean): Promise<number> => {
  const chosen = await openBackend(spec.device);
  if (E.isLeft(chosen)) return complain(chosen.left);
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);
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
