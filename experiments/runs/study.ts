// A study: all runs of a sweep in sequence, or a share of them on each of several machines; then time and
// memory of its encoders by length, and a page and tables that compare the runs. Finished runs are kept,
// so a stopped study continues with --resume.
import * as E from "fp-ts/Either.js";
import { ensureFolder, fileErrorText, writeWhole } from "../io/files.ts";
import { listenForEnd } from "../io/interrupt.ts";
import { agreeOnError, alone, type Processes } from "../machines/processes.ts";
import { evaluateRun, trainRun } from "./run.ts";
import type { Spec } from "../specs/spec.ts";
import type { Study } from "../specs/sweep.ts";
import { isDone } from "./study_folder.ts";
import { lengthsOf } from "./lengths.ts";
import { reportStudy } from "./report.ts";
import { folderErrorText, inspect, readRecord } from "../training/run_folder.ts";

/** Share `index`, from 1, of `of`. */
export interface Shard {
  readonly index: number;
  readonly of: number;
}

/** Where and how a study is made. */
export interface StudyIn {
  readonly folder: string;
  /** Resumes the study in that folder, if there is one. */
  readonly resume: boolean;
  readonly shard?: Shard;
}

/** The runs of a share. Neighbours cost about the same, so they go to different shares. */
export const shared = (
  runs: readonly Spec[],
  shard: Shard = { index: 1, of: 1 },
): readonly Spec[] => runs.filter((_, k) => k % shard.of === shard.index - 1);

/** Checks everything that can be checked before any work; on the left, what is wrong, in words. */
const prepare = async (
  study: Study,
  own: readonly Spec[],
  { folder, resume }: StudyIn,
): Promise<E.Either<string, void>> => {
  const writable = await ensureFolder(folder)();
  if (E.isLeft(writable)) return E.left(fileErrorText(writable.left));
  for (const spec of own) {
    // The same messages as for a single run.
    const prior = inspect(`${folder}/${spec.name}`, spec, true);
    if (E.isLeft(prior)) return E.left(folderErrorText(prior.left));
  }
  const begun = own.filter(({ name }) => readRecord(`${folder}/${name}`) !== undefined);
  if (begun.length > 0 && !resume) {
    return E.left(
      `${folder} holds ${begun.length} of the ${own.length} runs; add --resume to go on with the ` +
        "study, in which finished runs are kept, give another folder with --out, or remove it " +
        `with: deno task runs delete ${folder}`,
    );
  }
  const written = await writeWhole(`${folder}/study.json`, `${JSON.stringify(study, null, 2)}\n`)();
  return E.isLeft(written) ? E.left(fileErrorText(written.left)) : E.right(undefined);
};

/**
 * Makes the runs of a study, each by all processes, and the report of all finished runs. Gives the exit
 * status.
 */
export const runStudy = async (
  study: Study,
  at: StudyIn,
  processes: Processes = alone,
): Promise<number> => {
  const { folder, shard } = at, own = shared(study.runs, shard);
  const speaks = processes.share.rank === 0;
  const complain = (message: string): number => {
    if (speaks) console.error(message);
    return 1;
  };
  // Rank 0 checks the folder for all processes.
  const prepared = speaks ? await prepare(study, own, at) : E.right(undefined);
  const wrong = await agreeOnError(processes, E.isLeft(prepared) ? prepared.left : undefined);
  if (wrong !== undefined) return complain(wrong);
  const done = (spec: Spec): boolean => isDone(`${folder}/${spec.name}`, spec);
  const end = listenForEnd(), isEnded = () => end.signal.aborted;
  try {
    const failed: string[] = [];
    let again = false;
    for (const [k, spec] of own.entries()) {
      const place = `run ${k + 1} of ${own.length}, ${spec.name}`;
      const [next] = await processes.gather(
        isEnded() ? "stop" : speaks && done(spec) ? "pass" : "train",
      );
      if (next === "stop") break;
      if (speaks) console.error(next === "pass" ? `${place}: finished before` : `${place}:`);
      if (next === "pass") continue;
      const where = {
        folder: `${folder}/${spec.name}`,
        resume: true,
        kept: `${folder}/kept`,
        signal: end.signal,
        again,
      };
      again = true;
      const trained = await trainRun(spec, where, processes);
      if (E.isLeft(trained)) complain(trained.left);
      const status = E.isLeft(trained) ? 1 : speaks ? await evaluateRun(spec, where) : 0;
      const [state] = await processes.gather(
        isEnded() ? "stop" : status === 0 ? "done" : readRecord(where.folder)?.state ?? "none",
      );
      if (state === "stop") break;
      // An error that kept a run from starting or being scored would also stop the other runs.
      if (state !== "done" && state !== "stopped") return 1;
      if (state === "stopped") failed.push(spec.name);
    }
    if (!speaks) return failed.length === 0 ? 0 : 1;
    if (isEnded()) {
      const finished = own.filter(done).length;
      return complain(
        `interrupted; ${finished} of ${own.length} runs are finished, and --resume goes on from there`,
      );
    }
    if (shard === undefined || shard.index === 1) {
      const lengths = await lengthsOf(study, folder, isEnded);
      if (E.isLeft(lengths)) return complain(lengths.left);
    }
    const reported = await reportStudy(study, folder);
    if (E.isLeft(reported)) return complain(reported.left);
    console.log(reported.right);
    console.log(`report: ${folder}/report.html`);
    return failed.length === 0 ? 0 : complain(`stopped early: ${failed.join(", ")}`);
  } finally {
    end.forget();
  }
};
