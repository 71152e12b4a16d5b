// `deno task experiment NAME`: reads a spec or study and makes its run or runs. Under mpirun or srun
// every process executes this, and only rank 0 prints.
import * as E from "fp-ts/Either.js";
import { agreeOnError, labelled, openProcesses, type Processes } from "../machines/processes.ts";
import { evaluateRun, trainRun } from "../runs/run.ts";
import type { DeviceName, Spec } from "../specs/spec.ts";
import { folderData } from "../data/config.ts";
import { specList } from "../specs/list.ts";
import {
  type Experiment,
  readExperiment,
  type SpecReadError,
  specReadErrorText,
} from "../specs/read.ts";
import { runStudy, type Shard } from "../runs/study.ts";
import { specSchemaText } from "../specs/schema.ts";
import { commandOf, flag, type Option, seeHelp, text } from "./command.ts";
import { device } from "./options.ts";
import { set, specsAndStudies, surplusNames } from "./spec_options.ts";

/** Options of the command line. */
export interface ExperimentOptions {
  /** The name of a spec or a study, or the path of a file that holds one. */
  readonly spec: string;
  /** Changed fields of the spec, `path=value`. */
  readonly changes: readonly string[];
  /** A folder of recordings that replaces the spec's data. */
  readonly data?: string;
  /** Overrides the spec's device. */
  readonly device?: string;
  readonly out?: string;
  /** Resumes the run in that folder, if there is one. */
  readonly resume: boolean;
  /** Which runs of a study this process makes; all of them by default. */
  readonly shard?: Shard;
}

/** Reads the spec or study, with the changes of all options applied. */
const experimentOf = async (
  { spec: name, changes, data, device }: Pick<
    ExperimentOptions,
    "spec" | "changes" | "data" | "device"
  >,
): Promise<E.Either<SpecReadError, Experiment>> => {
  const given = (spec: Spec): Spec => ({
    ...spec,
    ...(data === undefined ? {} : { data: folderData(data, spec.data) }),
    ...(device === undefined ? {} : { device: device as DeviceName }),
  });
  return E.map((of: Experiment): Experiment =>
    of.kind === "run"
      ? { ...of, spec: given(of.spec) }
      : { ...of, study: { ...of.study, runs: of.study.runs.map(given) } }
  )(await readExperiment(name, changes)());
};

/** Prints a spec merged with what it extends, or the specs of a study's runs. Gives the exit status. */
export const printSpec = async (options: Parameters<typeof experimentOf>[0]): Promise<number> => {
  const of = await experimentOf(options);
  if (E.isLeft(of)) return complain(specReadErrorText(of.left));
  console.log(JSON.stringify(of.right.kind === "run" ? of.right.spec : of.right.study, null, 2));
  return 0;
};

/** Prints the names of all specs. Gives the exit status. */
export const printList = async (): Promise<number> => {
  const list = await specList();
  if (E.isLeft(list)) console.error(list.left);
  else console.log(list.right);
  return E.isLeft(list) ? 1 : 0;
};

const complain = (message: string, status = 1): number => {
  console.error(message);
  return status;
};

/** Runs an experiment. Gives the exit status: 0, or 1 after printing an error. */
export const experiment = async (options: ExperimentOptions): Promise<number> => {
  const found = await openProcesses();
  if (E.isLeft(found)) return complain(found.left);
  const processes = found.right;
  return await runTogether(options, processes).catch((error) => {
    // A bug, or a lost device. Other processes wait for this one, so they must be ended too.
    if (processes.share.of > 1) console.error(labelled(processes, `${error?.message ?? error}`));
    processes.abort();
    throw error;
  });
};

const runTogether = async (
  options: ExperimentOptions,
  processes: Processes,
): Promise<number> => {
  const speaks = processes.share.rank === 0;
  const ended = async (message: string, status = 1): Promise<number> => {
    if (speaks) console.error(message);
    await processes.finish();
    return status;
  };
  const of = await experimentOf(options);
  const wrong = await agreeOnError(
    processes,
    E.isLeft(of) ? labelled(processes, specReadErrorText(of.left)) : undefined,
  );
  if (E.isLeft(of) || wrong !== undefined) return await ended(`${wrong}`);
  const { resume, shard, out } = options;
  if (of.right.kind === "study") {
    const { study } = of.right;
    const at = { folder: out ?? `runs/${study.name}`, resume, shard };
    const status = await runStudy(study, at, processes);
    await processes.finish();
    return status;
  }
  const { spec } = of.right;
  if (shard !== undefined) {
    const why = `'${options.spec}' is one run; only the runs of a study are shared out`;
    return await ended(`--shard: ${why}`, 2);
  }
  const at = { folder: out ?? `runs/${spec.name}`, resume };
  const trained = await trainRun(spec, at, processes);
  if (E.isLeft(trained)) return await ended(trained.left);
  await processes.finish();
  return speaks ? await evaluateRun(spec, at) : 0;
};

/** `2/8`, the second of eight shares. */
const shard: Option<Shard | undefined> = {
  takes: "text",
  value: "I/N",
  help: "only every Nth run of a study, from the Ith, such as I from a Slurm array of 1 to N",
  read: (name, [given]) => {
    if (given === undefined) return E.right(undefined);
    const [, index, of] = /^(\d{1,6})\/(\d{1,6})$/.exec(given)?.map(Number) ?? [];
    return index >= 1 && index <= of
      ? E.right({ index, of })
      : E.left(`--${name}: expected I/N with I from 1 to N, such as 2/8, found '${given}'`);
  },
};

export const command = commandOf({
  summary: "pre-trains the model that a spec describes, or makes a study of many runs",
  notes: `\
Pre-trains the model that a spec describes and writes runs/NAME: spec.json, metrics.jsonl,
checkpoint.safetensors and report.html. A study is many runs: it writes runs/NAME/RUN for each, and
a report.html, tables.tex and .csv files that compare them. Processes that mpirun or srun starts
share every batch; see docs/clusters.md.`,
  words: {
    ...specsAndStudies,
    usage: {
      NAME: ["data", "set", "device", "out", "resume", "shard", "print"],
      "--list | --schema": [],
    },
    wrong: (words, { list, schema }: { readonly list: boolean; readonly schema: boolean }) =>
      words.length === 0 && !list && !schema ? seeHelp : surplusNames(words),
  },
  options: {
    data: text(
      "DIR",
      "a folder of recordings (wav, flac, ogg, mp3); default: the data of the spec",
      { paths: "folders" },
    ),
    set,
    device,
    out: text("DIR", "where to write instead of runs/NAME", { paths: "folders" }),
    resume: flag(
      "resumes from the last checkpoint in that folder, or starts where there is none; finished runs " +
        "of a study are kept",
    ),
    shard,
    print: flag(
      "shows the whole spec, with what it extends and what is set here, and runs nothing",
    ),
    list: flag("lists the specs, one on each line"),
    schema: flag("the JSON Schema of specs, for editors; docs/specs.md has the same as tables"),
  },
  run: async ({ words: [spec], options: { set: changes, print, list, schema, ...options } }) => {
    if (schema) {
      console.log(specSchemaText().trimEnd());
      return E.right(0);
    }
    if (list) return E.right(await printList());
    const asked = { ...options, spec, changes };
    return E.right(await (print ? printSpec(asked) : experiment(asked)));
  },
});
