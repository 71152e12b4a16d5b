// A run's folder: only one process at a time writes it, an unfinished run is never overwritten by accident,
// and its state can be read at any time, also after a kill.
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

/** The content of a run's `run.json`. */
export interface RunRecord {
  /** If "running" and the folder is not locked, the run was killed. */
  readonly state: "running" | "finished" | "stopped";
  /** The device's description. */
  readonly device: string;
  /** The identity of the source of clips: a run only resumes with the same one. */
  readonly data: string;
  /** Start of the run, as an ISO date. */
  readonly began: string;
  /** Why it stopped. */
  readonly reason?: string;
  /** Versions of software, by name. */
  readonly versions: Readonly<Record<string, string>>;
  /** Number of trained parameters. */
  readonly parameters?: number;
  /** Cost of one step; absent where the device does not report it. */
  readonly step?: StepCost;
  /** Held-out loss of predicting each clip's mean; only for finished runs. */
  readonly baseline?: number;
}

/** The cost of a training step, known before it runs. */
export interface StepCost {
  readonly flops: number;
  /** Peak bytes of intermediate values. */
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
    /** The run to resume has another spec. */
    readonly _tag: "OtherSpec";
    readonly folder: string;
    readonly differences: readonly Difference[];
  }
  | { readonly _tag: "AllDamaged"; readonly folder: string; readonly damaged: readonly string[] };

/** The starting point of a run. */
export interface Prior {
  /** The checkpoint to resume from; undefined for a new run. */
  readonly saved: Saved | undefined;
  /** The content of `run.json` when resuming. */
  readonly record: RunRecord | undefined;
  /** Notes for the user. */
  readonly notes: readonly string[];
}

const readJson = (path: string): unknown => {
  try {
    return JSON.parse(Deno.readTextFileSync(path));
  } catch {
    return undefined;
  }
};

/** The content of `run.json`; undefined if it cannot be read. */
export const readRecord = (folder: string): RunRecord | undefined => {
  const json = readJson(`${folder}/run.json`);
  const states = ["running", "finished", "stopped"];
  return typeof json === "object" && json !== null && "state" in json &&
      states.includes(`${json.state}`)
    ? json as RunRecord
    : undefined;
};

// The device may differ: a run resumes on any, though not bit for bit.
const unlike = (there: unknown, spec: Spec): readonly Difference[] =>
  differences(there, JSON.parse(JSON.stringify(spec))).filter(({ path }) => path !== "device");

/** Decides from the content of a folder whether a run may start or resume, and from where. */
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

/** Whether a process has locked this folder. */
export const isBusy = (folder: string): boolean => {
  const file = lockFile(folder);
  if (file === undefined) return false;
  try {
    return !locked(file);
  } finally {
    file.close();
  }
};

/** Locks the folder for this process; gives the function that unlocks it. A kill unlocks it too. */
export const lock = async (folder: string): Promise<E.Either<FolderError, () => void>> => {
  const made = await ensureFolder(folder)();
  if (E.isLeft(made)) return E.left({ _tag: "FolderUnwritable", error: made.left });
  const file = lockFile(folder);
  if (file === undefined) return E.right(() => {});
  if (locked(file)) return E.right(() => file.close());
  file.close();
  return E.left({ _tag: "FolderBusy", folder });
};

// The system releases a lock when its process ends, however it ends.
const lockFile = (folder: string): Deno.FsFile | undefined => {
  try {
    return Deno.openSync(`${folder}/.lock`, { create: true, write: true });
  } catch {
    return undefined;
  }
};

// On a file system without locks, concurrent runs are not detected.
const locked = (file: Deno.FsFile): boolean => {
  try {
    return file.tryLockSync(true);
  } catch {
    return true;
  }
};

/** Names that a run writes into its folder. */
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

/** Whether a name in a run's folder belongs to the run. */
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

/** Deletes the files of an earlier run in a locked folder. */
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

/** Why a folder cannot be used for a run, in one sentence, followed by the differing fields. */
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
