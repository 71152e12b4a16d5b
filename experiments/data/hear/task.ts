// Downstream tasks in HEAR's layout, as read by hear-eval-kit: task_metadata.json, labelvocabulary.csv, a
// JSON file for each split with the labels of every clip, and WAV files under the sample rate and the
// split. All problems are reported at once, before any work; a task is read completely or not at all.
import { basename } from "node:path";
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { parseJson } from "../../../backends/runtime/json.ts";
import { irregular } from "../../io/regular_files.ts";
import { knownTasks } from "./published_tasks.ts";
import type { KnownTask } from "./published_tasks.ts";
import { decodeMetadata, splitsProblem, type TaskMetadata } from "./metadata.ts";
import { problemText, type TaskProblem } from "./problem.ts";
import { parseVocabulary } from "./vocabulary.ts";
import { readWavHeader } from "../../formats/wav.ts";
import { reasonOf } from "../../io/reason.ts";

/** One clip of a task. */
export interface TaskClip {
  /** Its name in the split's file. */
  readonly file: string;
  /** Path of its audio. */
  readonly path: string;
  /** Indices of its labels, in the order of the split's file. */
  readonly labels: readonly number[];
  /** Samples at the task's rate, by its header; absent where the header does not give it. */
  readonly samples?: number;
}

/** One split or fold. */
export interface TaskSplit {
  readonly name: string;
  /** In the order of the split's file; at least one. */
  readonly clips: readonly TaskClip[];
}

/** A complete task. */
export interface Task {
  readonly folder: string;
  readonly metadata: TaskMetadata;
  /** Which of the ten published tasks it is, if any. */
  readonly known?: KnownTask;
  /** Names of the classes by index. */
  readonly labels: readonly string[];
  /** In the order of the metadata. */
  readonly splits: readonly TaskSplit[];
  /** Sample rate of the audio in Hz. */
  readonly rate: number;
}

/** Why a task cannot be evaluated: at least one problem. */
export interface TaskError {
  readonly _tag: "BrokenTask";
  readonly folder: string;
  readonly problems: readonly TaskProblem[];
}

/** Default sample rate of tasks in Hz. */
export const taskRate = 16000;

// Tolerance for clip lengths that differ from the metadata: resampling rounds.
const slackSeconds = 0.01;

/** Reads a task's folder; of the audio only the headers. */
export const readTask =
  (folder: string, rate: number = taskRate): TaskEither<TaskError, Task> => () =>
    Promise.resolve(read(folder.replace(/(?<=.)\/+$/, ""), rate));

/** Reads several tasks. When any is broken, all broken ones are reported. */
export const readTasks = (folders: readonly string[], rate: number = taskRate): TaskEither<
  readonly TaskError[],
  readonly Task[]
> =>
async () => {
  const all: E.Either<TaskError, Task>[] = [];
  for (const folder of folders) all.push(await readTask(folder, rate)());
  const broken = all.filter(E.isLeft).map(({ left }) => left);
  return broken.length > 0
    ? E.left(broken)
    : E.right(all.filter(E.isRight).map(({ right }) => right));
};

/**
 * The tasks in a folder: subfolders with a `task_metadata.json`, sorted by name. The names of all other
 * subfolders, except hidden ones, are returned too, so that they can be reported.
 */
export const listTasks = (
  folder: string,
): E.Either<
  TaskError,
  { readonly tasks: readonly string[]; readonly others: readonly string[] }
> => {
  const names = entries(folder, "");
  if (E.isLeft(names)) {
    return E.left({ _tag: "BrokenTask", folder, problems: [names.left] });
  }
  const folders = names.right.filter((name) => isFolder(`${folder}/${name}`)).sort();
  const isTask = (name: string): boolean => exists(`${folder}/${name}/task_metadata.json`);
  return E.right({
    tasks: folders.filter(isTask).map((name) => `${folder}/${name}`),
    others: folders.filter((name) => !isTask(name) && !name.startsWith(".")),
  });
};

/** Why a task cannot be evaluated: one line per problem, at most `most` of each kind. */
export const taskErrorText = (error: TaskError, most: number = 20): string => {
  const { folder, problems } = error;
  const kinds = [...Map.groupBy(problems, ({ _tag }) => _tag).values()];
  const lines = kinds.flatMap((of) => {
    const shown = of.slice(0, of.length === most + 1 ? most + 1 : most).map(problemText);
    return of.length > shown.length
      ? [...shown, `and ${of.length - shown.length} more like that`]
      : shown;
  });
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  return `the task ${folder} cannot be used; it has ${count}:\n` +
    lines.map((line) => `  ${line}`).join("\n");
};

// ---------------------------------------------------------------- reading

type Problems = TaskProblem[];

function read(folder: string, rate: number): E.Either<TaskError, Task> {
  const problems: Problems = [];
  const broken = (): E.Either<TaskError, never> => E.left({ _tag: "BrokenTask", folder, problems });
  if (!isFolder(folder)) {
    problems.push({ _tag: "Missing", file: folder, what: "folder" });
    return broken();
  }
  const metadata = readMetadata(folder, problems);
  const labels = readVocabulary(folder, problems);
  if (metadata === undefined) return broken();
  const known = knownTasks.find((task) => task.folder === versionedName(folder, metadata));

  const rateFolder = `${folder}/${rate}`;
  const hasAudio = isFolder(rateFolder);
  if (!hasAudio) {
    const names = entries(folder, "");
    const others = E.isRight(names) ? names.right.filter((name) => /^\d+$/.test(name)) : [];
    const rates = others.map(Number).sort((a, b) => a - b);
    problems.push({ _tag: "NoRate", file: `${rate}`, others: rates });
  }
  const index = labels === undefined
    ? undefined
    : new Map(labels.map((label, k) => [label, k] as const));
  const splits: TaskSplit[] = [], splitOf = new Map<string, string>();
  let named: number | undefined = 0;
  for (const name of metadata.splits) {
    const listed = readSplit(folder, name, metadata, index, problems);
    named = listed === undefined || named === undefined ? undefined : named + listed.length;
    for (const { file } of listed ?? []) {
      const other = splitOf.get(file);
      if (other === undefined) splitOf.set(file, name);
      else {
        problems.push({
          _tag: "InTwoSplits",
          file: `${name}.json`,
          clip: file,
          other: `${other}.json`,
        });
      }
    }
    const clips = hasAudio ? withAudio(folder, name, rate, metadata, listed, problems) : [];
    splits.push({ name, clips });
  }
  if (known !== undefined) problems.push(...differences(known, metadata, labels?.length, named));
  return problems.length > 0 ? broken() : E.right({
    folder,
    metadata,
    ...(known === undefined ? {} : { known }),
    labels: labels!,
    splits,
    rate,
  });
}

const versionedName = (folder: string, { name, version, mode }: TaskMetadata): string =>
  mode === undefined ? basename(folder) : `${name}-${version}-${mode}`;

function readMetadata(folder: string, problems: Problems): TaskMetadata | undefined {
  const file = "task_metadata.json";
  const json = readJson(folder, file, problems);
  if (json === undefined) return undefined;
  const decoded = decodeMetadata(json.value);
  if (E.isLeft(decoded)) {
    problems.push(
      ...decoded.left.map((error): TaskProblem => ({ _tag: "BadField", file, error })),
    );
    return undefined;
  }
  const problem = splitsProblem(decoded.right);
  if (problem !== undefined) problems.push({ _tag: "BadSplits", file, problem });
  return problem === undefined ? decoded.right : undefined;
}

function readVocabulary(folder: string, problems: Problems): readonly string[] | undefined {
  const file = "labelvocabulary.csv";
  const text = readText(folder, file, problems);
  if (text === undefined) return undefined;
  const parsed = parseVocabulary(text);
  if (E.isRight(parsed)) return parsed.right;
  problems.push(
    ...parsed.left.map((found): TaskProblem => ({ _tag: "BadVocabulary", file, ...found })),
  );
  return undefined;
}

interface Listed {
  readonly file: string;
  readonly labels: readonly number[];
}

function readSplit(
  folder: string,
  name: string,
  { prediction }: TaskMetadata,
  index: ReadonlyMap<string, number> | undefined,
  problems: Problems,
): readonly Listed[] | undefined {
  const file = `${name}.json`;
  const json = readJson(folder, file, problems);
  if (json === undefined) return undefined;
  const { value, text } = json;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const problem = "it should be an object that gives names of files their labels";
    problems.push({ _tag: "BadSplit", file, problem });
    return undefined;
  }
  const labelsOf = value as Readonly<Record<string, unknown>>;
  // In the order of the text: a JavaScript object would reorder names that are integers.
  const names = fieldNames(text), clips = new Set(names);
  if (clips.size === 0) problems.push({ _tag: "EmptySplit", file });
  if (clips.size < names.length) {
    const seen = new Set<string>(), repeated = new Set<string>();
    for (const clip of names) (seen.has(clip) ? repeated : seen).add(clip);
    for (const clip of repeated) problems.push({ _tag: "Repeated", file, clip });
  }
  const listed: Listed[] = [];
  const forms = new Map([...index?.keys() ?? []].map((label) => [label.normalize("NFC"), label]));
  for (const clip of clips) {
    if (clip === "" || clip === "." || clip === ".." || /[/\\\0]/.test(clip)) {
      problems.push({ _tag: "BadName", file, clip });
      continue;
    }
    const labels = labelsOf[clip];
    if (!Array.isArray(labels) || !labels.every(isLabel)) {
      problems.push({ _tag: "BadLabels", file, clip });
      listed.push({ file: clip, labels: [] });
      continue;
    }
    const texts = labels.map(String);
    if (prediction === "multiclass" && texts.length !== 1) {
      problems.push({ _tag: "NotOneLabel", file, clip, labels: texts });
    }
    const strange = index === undefined ? [] : texts.filter((label) => !index.has(label));
    for (const label of strange) {
      const there = forms.get(label.normalize("NFC"));
      const known = there === undefined ? {} : { there };
      problems.push({ _tag: "UnknownLabel", file, clip, label, ...known });
    }
    listed.push({ file: clip, labels: texts.map((label) => index?.get(label) ?? -1) });
  }
  return listed;
}

const isLabel = (u: unknown): boolean => typeof u === "string" || Number.isSafeInteger(u);

/** The field names of the outermost object of a JSON text, duplicates included. */
function fieldNames(text: string): readonly string[] {
  const names: string[] = [];
  let depth = 0, last = "";
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]/g)) {
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (token === ":" && depth === 1) names.push(JSON.parse(last));
    last = token;
  }
  return names;
}

function withAudio(
  folder: string,
  split: string,
  rate: number,
  { sampleDuration }: TaskMetadata,
  listed: readonly Listed[] | undefined,
  problems: Problems,
): readonly TaskClip[] {
  const inside = `${rate}/${split}`, namedIn = `${split}.json`;
  const names = entries(folder, inside);
  if (E.isLeft(names)) {
    problems.push(names.left);
    return [];
  }
  if (listed === undefined) return [];
  const there = new Set(names.right);
  const wanted = new Set(listed.map(({ file }) => file));
  const byForm = new Map(names.right.map((name) => [name.normalize("NFC"), name]));
  const told = new Set<string>();
  const clips: TaskClip[] = [];
  for (const { file: name, labels } of listed) {
    const file = `${inside}/${name}`, path = `${folder}/${file}`;
    if (!there.has(name)) {
      const other = byForm.get(name.normalize("NFC"));
      if (other === undefined || wanted.has(other)) {
        problems.push({ _tag: "MissingAudio", file, namedIn });
      } else {
        told.add(other);
        problems.push({ _tag: "OtherForm", file, namedIn, there: other });
      }
      continue;
    }
    const header = readWavHeader(path);
    if (E.isLeft(header)) {
      problems.push({ _tag: "BadAudio", file, problem: header.left });
      continue;
    }
    const { rate: found, channels, samples } = header.right;
    const seconds = samples === undefined ? undefined : samples / found;
    if (found !== rate) problems.push({ _tag: "WrongRate", file, rate: found, expected: rate });
    if (channels !== 1) problems.push({ _tag: "NotMono", file, channels });
    if (
      sampleDuration !== null && seconds !== undefined &&
      Math.abs(seconds - sampleDuration) > slackSeconds
    ) problems.push({ _tag: "WrongLength", file, seconds, expected: sampleDuration });
    clips.push({ file: name, path, labels, ...(samples === undefined ? {} : { samples }) });
  }
  for (const name of [...there].sort()) {
    if (wanted.has(name) || told.has(name) || name.startsWith(".")) continue;
    problems.push({ _tag: "Unlisted", file: `${inside}/${name}`, missingIn: namedIn });
  }
  return clips;
}

// Differences between a task and its published version, as far as it could be read.
function differences(
  known: KnownTask,
  metadata: TaskMetadata,
  classes: number | undefined,
  clips: number | undefined,
): readonly TaskProblem[] {
  const list = (names: readonly string[]): string => [...names].sort().join(", ");
  const file = "task_metadata.json";
  const compared = [
    { file: "labelvocabulary.csv", what: "classes", expected: known.classes, found: classes },
    { file, what: "as prediction_type", expected: known.prediction, found: metadata.prediction },
    { file, what: "as split_mode", expected: known.splitMode, found: metadata.splitMode },
    { file, what: "as splits", expected: list(known.splits), found: list(metadata.splits) },
    { file, what: "as main score", expected: known.score, found: metadata.evaluation[0] },
    {
      file,
      what: "as sample_duration",
      expected: known.sampleDuration,
      found: metadata.sampleDuration,
    },
    {
      file: metadata.splits.map((name) => `${name}.json`).join(", "),
      what: "clips",
      expected: known.clips,
      found: clips,
    },
  ];
  const task = `${known.short} (${known.title})`;
  return compared
    .filter(({ expected, found }) => found !== undefined && expected !== found)
    .map(({ file, what, expected, found }): TaskProblem => ({
      _tag: "NotAsPublished",
      file,
      task,
      what,
      expected: `${expected}`,
      found: `${found}`,
    }));
}

// ---------------------------------------------------------------- files

function readText(folder: string, file: string, problems: Problems): string | undefined {
  try {
    const why = irregular(`${folder}/${file}`);
    if (why !== undefined) throw new Error(why);
    const bytes = new Uint8Array(Deno.readFileSync(`${folder}/${file}`));
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    problems.push(
      error instanceof Deno.errors.NotFound
        ? { _tag: "Missing", file, what: "file" }
        : { _tag: "Unreadable", file, reason: textReason(error) },
    );
    return undefined;
  }
}

function readJson(
  folder: string,
  file: string,
  problems: Problems,
): { readonly value: unknown; readonly text: string } | undefined {
  const text = readText(folder, file, problems);
  if (text === undefined) return undefined;
  const parsed = parseJson(text);
  if (E.isRight(parsed)) return { value: parsed.right, text };
  const { line, column, problem } = parsed.left;
  problems.push({ _tag: "NotJson", file, line, column, problem });
  return undefined;
}

function entries(folder: string, inside: string): E.Either<TaskProblem, readonly string[]> {
  const path = inside === "" ? folder : `${folder}/${inside}`;
  const file = inside === "" ? folder : inside;
  try {
    return E.right([...Deno.readDirSync(path)].map(({ name }) => name));
  } catch (error) {
    return E.left(
      error instanceof Deno.errors.NotFound
        ? { _tag: "Missing", file, what: "folder" }
        : { _tag: "Unreadable", file, reason: textReason(error) },
    );
  }
}

const isFolder = (path: string): boolean => {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
};

const exists = (path: string): boolean => {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
};

const textReason = (error: unknown): string =>
  error instanceof TypeError ? "its text is not UTF-8" : reasonOf(error);
