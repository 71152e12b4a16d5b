// `deno task data synthetic`: writes the synthetic suite to disk in HEAR's layout.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { ensureFolder, type FileError, fileErrorText } from "../../../io/files.ts";
import { wav16 } from "../../../formats/wav.ts";
import { isEnded } from "../../../io/interrupt.ts";
import { parseJson } from "../../../../backends/runtime/json.ts";
import type { SyntheticTask } from "./task.ts";
import { rate } from "../voices.ts";
import { splitsOf, type SuiteOptions, suiteVersion, syntheticTasks, taskClips } from "./suite.ts";
import { reasonOf } from "../../../io/reason.ts";

/** A task that was written, or existed already. */
export interface WrittenTask {
  readonly folder: string;
  readonly clips: number;
  readonly seconds: number;
  /** Whether the same task existed and was left unchanged. */
  readonly wasThere: boolean;
}

/** Why a suite could not be written. */
export type SuiteError =
  | { readonly _tag: "Files"; readonly error: FileError }
  | { readonly _tag: "Interrupted" }
  /** A task's folder exists with other content. */
  | { readonly _tag: "Occupied"; readonly folder: string };

/**
 * Writes the ten tasks, or some of them, as folders in `folder`, each whole or not at all, as
 * `deno task evaluate` reads them. A task that is there with the same seed and number of clips is left
 * as it is; one with others is an error. `onTask` is called when a task has been written.
 */
export const writeSuite = (
  folder: string,
  options: SuiteOptions,
  { tasks = syntheticTasks, onTask = () => {}, signal }: {
    readonly tasks?: readonly SyntheticTask[];
    /** Stops writing when aborted; a partial task is removed. */
    readonly signal?: AbortSignal;
    readonly onTask?: (written: WrittenTask) => void;
  } = {},
): TaskEither<SuiteError, readonly WrittenTask[]> =>
async () => {
  const into = folder.replace(/(?<=.)\/+$/, "");
  const made = await ensureFolder(into)();
  if (E.isLeft(made)) return E.left({ _tag: "Files", error: made.left });
  const all: WrittenTask[] = [];
  for (const task of tasks) {
    const written = await writeTask(into, task, options, signal);
    if (E.isLeft(written)) return written;
    all.push(written.right);
    onTask(written.right);
  }
  return E.right(all);
};

/** Why a suite could not be written, in one sentence. */
export const suiteErrorText = (error: SuiteError): string => {
  switch (error._tag) {
    case "Files":
      return fileErrorText(error.error);
    case "Interrupted":
      return "interrupted while the synthetic tasks were made";
    case "Occupied":
      return `${error.folder} is there already, and was made with another seed or number of clips, ` +
        "or by something else; remove it, or choose another folder with --out";
  }
};

/** `deno task data synthetic`: gives the exit status, 0 when all ten tasks are there. */
export const synthetic = async (out: string, options: SuiteOptions): Promise<number> => {
  const written = await writeSuite(out, options, {
    onTask: ({ folder, clips, seconds, wasThere }) => {
      const length = `${clips} clips, ${(seconds / 60).toFixed(1)} minutes`;
      console.log(`${folder}: ${wasThere ? "there already, " : ""}${length}`);
    },
  })();
  if (E.isRight(written)) return 0;
  console.error(suiteErrorText(written.left));
  return 1;
};

// ---------------------------------------------------------------- writing

const metadataOf = (task: SyntheticTask, { seed, clips }: SuiteOptions) => ({
  task_name: task.name,
  version: suiteVersion,
  mode: "synthetic",
  embedding_type: "scene",
  prediction_type: task.prediction,
  split_mode: task.splitMode,
  splits: splitsOf(task),
  ...(task.splitMode === "trainvaltest" ? {} : { nfolds: splitsOf(task).length }),
  sample_duration: task.seconds,
  evaluation: task.evaluation,
  description: `${task.description} Made by a program; nothing is recorded.`,
  seed,
  clips,
});

async function writeTask(
  into: string,
  task: SyntheticTask,
  options: SuiteOptions,
  signal: AbortSignal | undefined,
): Promise<E.Either<SuiteError, WrittenTask>> {
  const folder = `${into}/${task.name}`, partial = `${into}/.${task.name}.partial`;
  const metadata = metadataOf(task, options);
  const there = kept(folder, metadata);
  if (there === "other") return E.left({ _tag: "Occupied", folder });
  if (there !== undefined) return E.right({ folder, ...there, wasThere: true });
  const discard = (): void => {
    try {
      remove(partial);
    } catch {
      // It is hidden, and is removed the next time.
    }
  };
  try {
    remove(partial);
    for (const split of splitsOf(task)) {
      Deno.mkdirSync(`${partial}/${rate}/${split}`, { recursive: true });
    }
    const listed = new Map(splitsOf(task).map((split) => [split, new Map<string, unknown>()]));
    let samplesInAll = 0;
    for (const { file, split, labels, samples } of taskClips(task, options)) {
      if (await isEnded(signal)) {
        discard();
        return E.left({ _tag: "Interrupted" });
      }
      Deno.writeFileSync(`${partial}/${rate}/${split}/${file}`, wav16(samples, rate));
      listed.get(split)!.set(file, labels);
      samplesInAll += samples.length;
    }
    const seconds = samplesInAll / rate;
    for (const [split, files] of listed) {
      writeJson(`${partial}/${split}.json`, Object.fromEntries(files));
    }
    Deno.writeTextFileSync(
      `${partial}/labelvocabulary.csv`,
      ["idx,label", ...task.labels.map((label, k) => `${k},${label}`), ""].join("\n"),
    );
    writeJson(`${partial}/task_metadata.json`, { ...metadata, seconds });
    Deno.renameSync(partial, folder);
    return E.right({ folder, clips: options.clips, seconds, wasThere: false });
  } catch (error) {
    discard();
    const reason = reasonOf(error);
    return E.left({
      _tag: "Files",
      error: { _tag: "FileError", doing: "write the file", path: folder, reason },
    });
  }
}

const writeJson = (path: string, value: unknown): void =>
  Deno.writeTextFileSync(path, `${JSON.stringify(value, null, 2)}\n`);

const remove = (path: string): void => {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
};

// A folder is written whole or not at all, so its metadata says what is in it.
function kept(
  folder: string,
  metadata: Readonly<Record<string, unknown>>,
): { readonly clips: number; readonly seconds: number } | "other" | undefined {
  try {
    Deno.statSync(folder);
  } catch {
    return undefined;
  }
  let text: string;
  try {
    text = Deno.readTextFileSync(`${folder}/task_metadata.json`);
  } catch {
    return "other";
  }
  const parsed = parseJson(text);
  if (E.isLeft(parsed)) return "other";
  const { seconds, ...found } = (parsed.right ?? {}) as Record<string, unknown>;
  return JSON.stringify(found) === JSON.stringify(metadata)
    ? { clips: found.clips as number, seconds: seconds as number }
    : "other";
}
