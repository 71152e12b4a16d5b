// `deno task evaluate`: scores embeddings of checkpoints on downstream tasks, compared with the same
// encoders untrained and a baseline. All tasks are checked before any work.
import { basename, dirname } from "node:path";
import * as E from "fp-ts/Either.js";
import { openBackend } from "../machines/device.ts";
import { readCheckpoints } from "./models.ts";
import { documentOf } from "./results.ts";
import { evaluateOn, writeEvaluation } from "./run.ts";
import { textTable } from "./table.ts";
import { ensureFolder, fileErrorText } from "../io/files.ts";
import { knownTask } from "../data/hear/published_tasks.ts";
import {
  listTasks,
  readTasks,
  type Task,
  type TaskError,
  taskErrorText,
} from "../data/hear/task.ts";
import { listenForEnd } from "../io/interrupt.ts";
import { quoted } from "../../backends/runtime/text.ts";

/** Options of the command line. */
export interface EvaluateOptions {
  /** Paths of checkpoints, at least one. */
  readonly checkpoints: readonly string[];
  /** The folder of the tasks. */
  readonly tasks: string;
  /** Names of the tasks; all if empty. */
  readonly names: readonly string[];
  /** Number of seeds: 0, 1, ... */
  readonly seeds: number;
  readonly device: string;
  /** Overrides the fidelity of the checkpoints. */
  readonly fidelity?: "faithful" | "corrected";
  /** Where to write; by default the folder `evaluation` next to the first checkpoint. */
  readonly out?: string;
  /** Cache folder of embeddings and scores; by default the output folder. */
  readonly kept?: string;
  /** Aborted when an end is requested; the caller may listen for longer. */
  readonly signal?: AbortSignal;
  /** Print the evaluation as JSON instead of the table. */
  readonly json: boolean;
}

/** Gives the exit status: 0, or 1 after printing an error. */
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
  const tasks = await tasksIn(options.tasks, options.names, [...rates][0]);
  if (E.isLeft(tasks)) return complain(tasks.left);
  const out = options.out ?? `${dirname(options.checkpoints[0])}/evaluation`;
  const writable = await ensureFolder(out)();
  if (E.isLeft(writable)) return complain(fileErrorText(writable.left));
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) return complain(chosen.left);
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);
  const end = listenForEnd(options.signal);
  try {
    const found = await evaluateOn(backend, {
      checkpoints: checkpoints.right,
      tasks: tasks.right,
      seeds: Array.from({ length: options.seeds }, (_, k) => k),
      fidelity: options.fidelity,
      out,
      ...(options.kept === undefined ? {} : { kept: options.kept }),
      interrupted: () => end.signal.aborted,
      signal: end.signal,
    });
    if (E.isLeft(found)) return complain(found.left);
    const written = await writeEvaluation(out, found.right);
    if (E.isLeft(written)) return complain(written.left);
    console.log(options.json ? JSON.stringify(documentOf(found.right)) : textTable(found.right));
    if (!options.json) console.log(`page: ${out}/evaluation.html`);
    return 0;
  } finally {
    end.forget();
    backend.close();
  }
};

/** The complete tasks in a folder, all or those named; on the left, what is wrong, in words. */
export const tasksIn = async (
  folder: string,
  names: readonly string[],
  rate: number,
): Promise<E.Either<string, readonly Task[]>> => {
  const folders = foldersOf(folder, names);
  if (E.isLeft(folders)) return folders;
  const tasks = await readTasks(folders.right, rate)();
  return E.mapLeft((errors: readonly TaskError[]) =>
    errors.map((error) => taskErrorText(error)).join("\n")
  )(tasks);
};

/** The folders of tasks in a folder. */
const foldersOf = (
  folder: string,
  names: readonly string[],
): E.Either<string, readonly string[]> => {
  const listed = listTasks(folder);
  if (E.isLeft(listed)) return E.left(taskErrorText(listed.left));
  const { tasks, others } = listed.right;
  if (tasks.length === 0) {
    return E.left(
      `there is no task in ${folder}: no folder in it holds a task_metadata.json; ` +
        "'deno task data' makes or fetches some",
    );
  }
  // A task whose metadata is missing must not be omitted from the table silently.
  if (names.length === 0 && others.length > 0) {
    const which = others.map((name) => `${folder}/${name}`).join(", ");
    return E.left(
      `${which}: there is no task_metadata.json in it, so it is no task; move it away, or name the ` +
        "tasks that are meant, with --task or in the spec",
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
