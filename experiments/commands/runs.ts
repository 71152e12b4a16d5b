// `deno task runs`: what runs there are and how they stand; in what two of them differ; and their
// removal, which only deletes the folder of a run that no process is writing.
import * as E from "fp-ts/Either.js";
import { reasonText, withoutSlash } from "../io/files.ts";
import { readMetrics, readTimings } from "../training/metrics.ts";
import { clock } from "../io/progress.ts";
import { differences, differenceText } from "../specs/difference.ts";
import { studyIn } from "../runs/study_folder.ts";
import { isBusy, isOfRun, readRecord } from "../training/run_folder.ts";
import { savedSteps } from "../training/checkpoints.ts";
import { commandOf, flag, text } from "./command.ts";
import { textTable } from "../formats/tables.ts";

/** One run as listed. */
export interface RunSummary {
  readonly name: string;
  readonly folder: string;
  /** `killed`: its record says running, but no process writes its folder. */
  readonly state: "running" | "finished" | "stopped" | "killed";
  /** Updates made, and the number that the spec asks for. */
  readonly step: number;
  readonly steps: number;
  /** The last held-out loss, and the loss of the last batch. */
  readonly heldOutLoss?: number;
  readonly loss?: number;
  /** Seconds of training so far. */
  readonly seconds: number;
  readonly device: string;
  /** The step of the latest checkpoint. */
  readonly saved?: number;
  readonly reason?: string;
}

/** Why a command on runs failed, in words. */
export interface RunsError {
  readonly _tag: "RunsError";
  readonly message: string;
}

const fail = (message: string): E.Either<RunsError, never> =>
  E.left({ _tag: "RunsError", message });

const readJson = (path: string): unknown => {
  try {
    return JSON.parse(Deno.readTextFileSync(path));
  } catch {
    return undefined;
  }
};

const isRun = (folder: string): boolean =>
  readRecord(folder) !== undefined && readJson(`${folder}/spec.json`) !== undefined;

const linesOf = <A>(read: E.Either<unknown, readonly A[]>): readonly A[] =>
  E.isRight(read) ? read.right : [];

/** The run in a folder; undefined if there is none. */
export const summary = (folder: string): RunSummary | undefined => {
  const record = readRecord(folder);
  const spec = readJson(`${folder}/spec.json`) as { schedule?: { steps?: number } } | undefined;
  if (record === undefined || spec === undefined) return undefined;
  // Runs with damaged metrics are listed too.
  const metrics = linesOf(readMetrics(`${folder}/metrics.jsonl`));
  const timings = linesOf(readTimings(`${folder}/timing.jsonl`));
  const heldOutLoss = metrics.findLast((metric) => metric.heldOutLoss !== undefined)?.heldOutLoss;
  const loss = metrics.at(-1)?.loss;
  const [saved] = savedSteps(folder);
  return {
    name: withoutSlash(folder).split("/").at(-1)!,
    folder,
    state: record.state === "running" && !isBusy(folder) ? "killed" : record.state,
    step: Math.max(metrics.at(-1)?.step ?? 0, saved ?? 0),
    steps: spec.schedule?.steps ?? 0,
    ...(heldOutLoss === undefined ? {} : { heldOutLoss }),
    ...(loss === undefined ? {} : { loss }),
    seconds: timings.at(-1)?.elapsed ?? 0,
    device: record.device,
    ...(saved === undefined ? {} : { saved }),
    ...(record.reason === undefined ? {} : { reason: record.reason }),
  };
};

/** Maximum depth of run folders: a study's runs are in folders of its own. */
const deepest = 3;

/** All runs in a folder and its subfolders, by name. */
export const summaries = (folder: string, depth = 0): readonly RunSummary[] => {
  let names: readonly string[];
  try {
    names = [...Deno.readDirSync(folder)].filter((entry) => entry.isDirectory)
      .map((entry) => entry.name).sort();
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const at = `${folder}/${name}`, one = summary(at);
    return one !== undefined ? [one] : depth < deepest ? summaries(at, depth + 1) : [];
  });
};

const number = (x: number | undefined): string => x === undefined ? "-" : x.toFixed(4);

/** Runs as a table for a terminal. */
export const runsText = (runs: readonly RunSummary[], root: string): string => {
  const head = ["run", "state", "step", "held-out", "loss", "time", "device"];
  const rows = runs.map((run) => [
    run.folder.startsWith(`${root}/`) ? run.folder.slice(root.length + 1) : run.folder,
    run.state,
    `${run.step}/${run.steps}`,
    number(run.heldOutLoss),
    number(run.loss),
    clock(run.seconds),
    run.device,
  ]);
  return textTable([head, ...rows], 2, [6]).join("\n");
};

/** The folder of a run's name or path: `NAME` is `root/NAME` if there is such a run. */
const folderOf = (name: string, root: string): E.Either<RunsError, string> => {
  const clean = withoutSlash(name);
  const found = [`${root}/${clean}`, clean].find(isRun);
  if (found !== undefined) return E.right(found);
  const known = summaries(root).map(({ folder }) => folder.slice(root.length + 1));
  return fail(
    `'${name}' is not a run: neither ${root}/${clean} nor ${clean} holds a spec.json and a run.json; ` +
      (known.length === 0 ? `there are no runs in ${root}` : `the runs are ${known.join(", ")}`),
  );
};

/** The fields in which the specs of two runs differ, one per line. */
export const runsDifference = (
  one: string,
  other: string,
  root: string,
): E.Either<RunsError, string> => {
  const folders = [folderOf(one, root), folderOf(other, root)];
  const wrong = folders.find(E.isLeft);
  if (wrong !== undefined) return wrong;
  const [a, b] = folders.map((folder) => readJson(`${E.getOrElse(() => "")(folder)}/spec.json`));
  const lines = differences(a, b).map((of) => differenceText(of, [`in ${one}`, `in ${other}`]));
  return E.right(lines.length === 0 ? "the two specs are the same" : lines.join("\n"));
};

/** The folder of a study's name or path, if it is one. */
const studyFolder = (name: string, root: string): string | undefined => {
  const clean = withoutSlash(name);
  return [`${root}/${clean}`, clean].find((folder) => studyIn(folder) !== undefined);
};

/**
 * Deletes a run, or a study with all its runs; gives the deleted folder. It is renamed first, so
 * that no half of it stays.
 */
export const deleteRun = (name: string, root: string): E.Either<RunsError, string> => {
  const study = studyFolder(name, root);
  const found = study === undefined ? folderOf(name, root) : E.right(study);
  if (E.isLeft(found)) return found;
  const folder = found.right;
  const { runs, others: beside } = studyIn(folder) ?? { runs: [folder], others: [] };
  if (runs.some(isBusy)) {
    return fail(`a process is writing ${folder}; stop it first, with Ctrl-C where it runs`);
  }
  if (Deno.lstatSync(folder).isSymlink) {
    return fail(`${folder} is a link; delete the folder that it leads to, or remove the link`);
  }
  const others = [
    ...beside,
    ...runs.flatMap((run) =>
      [...Deno.readDirSync(run)].map(({ name }) => name).filter((name) => !isOfRun(name)).sort()
    ),
  ];
  if (others.length > 0) {
    const few = others.slice(0, 3).join(", ");
    return fail(
      `${folder} holds more than ${study === undefined ? "a run" : "a study"}: ${few}${
        others.length > 3 ? ", ..." : ""
      }; move that away, ` +
        "or remove the folder by hand",
    );
  }
  const gone = `${folder}.deleted-${Date.now()}`;
  try {
    Deno.renameSync(folder, gone);
    Deno.removeSync(gone, { recursive: true });
  } catch (error) {
    return fail(`${folder} could not be deleted: ${reasonText(error)}`);
  }
  return E.right(folder);
};

/** Options of the command line. */
export interface RunsOptions {
  readonly command: readonly string[];
  readonly root: string;
  readonly json: boolean;
}

/** Lists, compares or deletes runs. Gives the exit status. */
export const runs = ({ command, root, json }: RunsOptions): number => {
  const [verb, ...names] = command;
  const told = (of: E.Either<RunsError, string>): number => {
    if (E.isRight(of)) console.log(of.right);
    else console.error(of.left.message);
    return E.isRight(of) ? 0 : 1;
  };
  if (verb === undefined) {
    const found = summaries(root);
    if (json) console.log(JSON.stringify(found, null, 2));
    else if (found.length === 0) console.error(`there are no runs in ${root}`);
    else console.log(runsText(found, root));
    return 0;
  }
  if (verb === "diff") return told(runsDifference(names[0], names[1], root));
  const results = names.map((name) =>
    told(E.map((folder: string) => `deleted ${folder}`)(deleteRun(name, root)))
  );
  return Math.max(...results);
};

export const command = commandOf({
  summary: "lists runs, says in what two of them differ, and deletes them",
  notes: `\
Lists the runs in runs/: state, step, losses, time and device. A run whose process was killed is
listed as killed; resume it with deno task experiment ... --resume.`,
  words: {
    usage: { "": ["in", "json"], "diff ONE OTHER": ["in"], "delete NAME...": ["in"] },
    help: {
      "diff ONE OTHER": "in which fields the specs of two runs differ",
      "delete NAME...":
        "deletes runs, or studies with all their runs; refuses other folders, and runs in progress",
    },
    suggests: { values: ["diff", "delete"], paths: "folders" },
    wrong: ([verb, ...names]) => {
      switch (verb) {
        case undefined:
          return undefined;
        case "diff":
          return names.length === 2 ? undefined : "diff takes two runs";
        case "delete":
          return names.length > 0 ? undefined : "say which run to delete";
        default:
          return `there is nothing called '${verb}' to do with runs; there is diff and delete`;
      }
    },
  },
  options: {
    in: text("DIR", "where runs are, instead of runs", { paths: "folders" }),
    json: flag("the list as JSON"),
  },
  run: ({ words, options: { in: root = "runs", json } }) =>
    Promise.resolve(E.right(runs({ command: words, root: withoutSlash(root), json }))),
});
