// A run's folder: only one process at a time writes it, an unfinished run is never overwritten by
// accident, and its state can be read at any time, also after a kill.
import * as E from "fp-ts/Either.js";
import {
  ensureFolder,
  type FileError,
  fileErrorText,
  reasonText,
  writeWhole,
} from "../io/files.ts";
import type { Spec } from "../specs/spec.ts";
import { type Difference, differences, differenceText } from "../specs/difference.ts";
import { latest, type Saved, savedSteps } from "./checkpoints.ts";

/** What `run.json` says of a run. */
export interface RunRecord {
  /** A run that says "running" and whose folder is not locked was killed. */
  readonly state: "running" | "finished" | "stopped";
  /** The device in words. */
  readonly device: string;
  /** The clips, as their source calls them: a run goes on with no others. */
  readonly data: string;
  /** When it was first started, as an ISO date. */
  readonly began: string;
  /** Why it stopped. */
  readonly reason?: string;
  /** Versions of what took part, by name. */
  readonly versions: Readonly<Record<string, string>>;
  /** Trained numbers of the model. */
  readonly parameters?: number;
  /** Cost of one step; absent where the device does not report it. */
  readonly step?: StepCost;
  /** Held-out loss of predicting each clip's mean; once the run is finished. */
  readonly baseline?: number;
}

/** What is known of a training step before it runs. */
export interface StepCost {
  readonly flops: number;
  /** Most bytes of intermediate values held at once. */
  readonly peakBytes: number;
}

/** Why a folder cannot be used for a run. */
export type FolderError =
  | { readonly _tag: "FolderUnwritable"; readonly error: FileError }
  | { readonly _tag: "FolderBusy"; readonly folder: string }
  | {
    /** There is an unfinished run, and --resume was not given. */
    readonly _tag: "Unfinished";
    readonly folder: string;
    readonly step: number;
    readonly differences: readonly Difference[];
  }
  | {
    /** The run that should go on is of another spec. */
    readonly _tag: "OtherSpec";
    readonly folder: string;
    readonly differences: readonly Difference[];
  }
  | { readonly _tag: "AllDamaged"; readonly folder: string; readonly damaged: readonly string[] };

/** What a run starts from. */
export interface Prior {
  /** The checkpoint to go on from; undefined for a start. */
  readonly saved: Saved | undefined;
  /** What `run.json` said, when a run goes on. */
  readonly record: RunRecord | undefined;
  /** What a user should know. */
  readonly notes: readonly string[];
}

const readJson = (path: string): unknown => {
  try {
    return JSON.parse(Deno.readTextFileSync(path));
  } catch {
    return undefined;
  }
};

/** What `run.json` in a folder says; undefined where there is none that can be read. */
export const readRecord = (folder: string): RunRecord | undefined => {
  const json = readJson(`${folder}/run.json`);
  const states = ["running", "finished", "stopped"];
  return typeof json === "object" && json !== null && "state" in json &&
      states.includes(`${json.state}`)
    ? json as RunRecord
    : undefined;
};

// Where a run was computed is no difference: it goes on anywhere, if not to the last bit.
const unlike = (there: unknown, spec: Spec): readonly Difference[] =>
  differences(there, JSON.parse(JSON.stringify(spec))).filter(({ path }) => path !== "device");

/** Decides from what is in a folder whether a run may start, or go on, and from where. */
export const inspect = (
  folder: string,
  spec: Spec,
  resume: boolean,
): E.Either<FolderError, Prior> => {
  const record = readRecord(folder), steps = savedSteps(folder);
  const fresh = { saved: undefined, record: undefined, notes: [] };
  if (steps.length === 0) return E.right(fresh);
  if (!resume) {
    if (record?.state === "finished") return E.right(fresh);
    const there = readJson(`${folder}/spec.json`) ?? latest(folder).saved?.spec;
    const differs = unlike(there, spec);
    return E.left({ _tag: "Unfinished", folder, step: steps[0], differences: differs });
  }
  const { saved, damaged } = latest(folder);
  if (saved === undefined) return E.left({ _tag: "AllDamaged", folder, damaged });
  const differs = unlike(saved.spec, spec);
  return differs.length > 0
    ? E.left({ _tag: "OtherSpec", folder, differences: differs })
    : E.right({ saved, record, notes: damaged });
};

/** Whether a process is writing this folder. */
export const isBusy = (folder: string): boolean => {
  const file = lockFile(folder);
  if (file === undefined) return false;
  try {
    return !locked(file);
  } finally {
    file.close();
  }
};

/** Makes the folder this process's; gives what ends that. A kill ends it too. */
export const lock = async (folder: string): Promise<E.Either<FolderError, () => void>> => {
  const made = await ensureFolder(folder)();
  if (E.isLeft(made)) return E.left({ _tag: "FolderUnwritable", error: made.left });
  const file = lockFile(folder);
  if (file === undefined) return E.right(() => {});
  if (locked(file)) return E.right(() => file.close());
  file.close();
  return E.left({ _tag: "FolderBusy", folder });
};

// The system lets go of a lock when its process ends, however it ends.
const lockFile = (folder: string): Deno.FsFile | undefined => {
  try {
    return Deno.openSync(`${folder}/.lock`, { create: true, write: true });
  } catch {
    return undefined;
  }
};

// Where a file system has no locks, runs are not kept apart.
const locked = (file: Deno.FsFile): boolean => {
  try {
    return file.tryLockSync(true);
  } catch {
    return true;
  }
};

/** What a run writes into its folder. */
export const written: readonly string[] = [
  // First, so that no spec is ever next to the checkpoints of another.
  "checkpoints",
  "run.json",
  "spec.json",
  "metrics.jsonl",
  "metrics.csv",
  "timing.jsonl",
  "checkpoint.safetensors",
  "average.safetensors",
  "failed-step.safetensors",
  "held-out.safetensors",
  "report.html",
  "evaluation",
];

/** Whether something in a run's folder is there because of the run, by its name. */
export const isOfRun = (name: string): boolean =>
  written.includes(name) ||
  /^(\.lock|\.writable|failed-step-\d+\..*|.*\.(partial|new))$/.test(name);

const removeIfThere = (path: string): void => {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
};

/** Removes what an earlier run left in a claimed folder. */
export const clear = (folder: string): E.Either<FileError, void> =>
  E.tryCatch(
    () => written.forEach((name) => removeIfThere(`${folder}/${name}`)),
    (error): FileError => ({
      _tag: "FileError",
      doing: "write into the folder",
      path: folder,
      reason: reasonText(error),
    }),
  );

/** Writes `run.json`. */
export const writeRecord = (
  folder: string,
  record: RunRecord,
): Promise<E.Either<FileError, void>> =>
  writeWhole(`${folder}/run.json`, `${JSON.stringify(record, null, 2)}\n`)();

const most = 8;
const list = (of: readonly Difference[], words: readonly [string, string]): string =>
  [
    ...of.slice(0, most).map((one) => `  ${differenceText(one, words)}`),
    ...(of.length > most ? [`  and ${of.length - most} more fields`] : []),
  ].join("\n");

/** Why a folder cannot be used for a run, in a sentence, with the differing fields under it. */
export function folderErrorText(error: FolderError): string {
  switch (error._tag) {
    case "FolderUnwritable":
      return fileErrorText(error.error);
    case "FolderBusy":
      return `another process is writing ${error.folder}; wait for it, or give another folder ` +
        "with --out";
    case "Unfinished": {
      const { folder, step, differences: of } = error;
      const ways = `give another folder with --out, or remove it with: deno task runs delete ` +
        folder;
      return of.length === 0
        ? `${folder} holds this run up to step ${step}; add --resume to go on with it, ${ways}`
        : `${folder} holds an unfinished run of another spec, up to step ${step}; ${ways}\n` +
          list(of, ["there", "here"]);
    }
    case "OtherSpec":
      return `the run in ${error.folder} cannot go on with another spec\n` +
        list(error.differences, ["there", "here"]);
    case "AllDamaged":
      return `no checkpoint in ${error.folder} can be used: ${error.damaged.join("; ")}`;
  }
}
