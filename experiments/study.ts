// A study: all runs of a sweep, one after the other, or a share of them on each of several machines;
// then the time and memory of its encoders over lengths, and one page and tables that compare what the
// runs left. Finished runs are kept, so a study that was stopped goes on with --resume.
import * as E from "fp-ts/Either.js";
import { ensureFolder, fileErrorText, writeWhole } from "./files.ts";
import { runSpec } from "./run.ts";
import type { Spec } from "./spec.ts";
import type { Study } from "./spec/sweep.ts";
import { isDone } from "./study/folder.ts";
import { lengthsOf } from "./study/lengths.ts";
import { reportStudy } from "./study/report.ts";
import { examine, folderErrorText, readRecord } from "./train/folder.ts";

/** Share `index`, from 1, of `of` so many. */
export interface Shard {
  readonly index: number;
  readonly of: number;
}

/** How a study is made. */
export interface StudyIn {
  readonly folder: string;
  /** Goes on with the study in that folder, where there is one. */
  readonly resume: boolean;
  readonly shard?: Shard;
}

/** The runs of a share. Neighbours cost alike, so they go to different shares. */
export const shared = (
  runs: readonly Spec[],
  shard: Shard = { index: 1, of: 1 },
): readonly Spec[] => runs.filter((_, k) => k % shard.of === shard.index - 1);

const complain = (message: string): number => {
  console.error(message);
  return 1;
};

/** Makes the runs of a study, and its report of all that are finished. Gives the exit status. */
export const runStudy = async (
  study: Study,
  { folder, resume, shard }: StudyIn,
): Promise<number> => {
  const writable = await ensureFolder(folder)();
  if (E.isLeft(writable)) return complain(fileErrorText(writable.left));
  const own = shared(study.runs, shard);
  const at = ({ name }: Spec) => `${folder}/${name}`;
  // Before any work, and with the same words as for a run by itself.
  for (const spec of own) {
    const prior = examine(at(spec), spec, true);
    if (E.isLeft(prior)) return complain(folderErrorText(prior.left));
  }
  const begun = own.filter((spec) => readRecord(at(spec)) !== undefined);
  if (begun.length > 0 && !resume) {
    return complain(
      `${folder} holds ${begun.length} of the ${own.length} runs; add --resume to go on with the ` +
        "study, in which finished runs are kept, give another folder with --out, or remove it " +
        `with: deno task runs delete ${folder}`,
    );
  }
  const written = await writeWhole(`${folder}/study.json`, `${JSON.stringify(study, null, 2)}\n`)();
  if (E.isLeft(written)) return complain(fileErrorText(written.left));
  let stop = false;
  const onInterrupt = () => {
    stop = true;
  };
  Deno.addSignalListener("SIGINT", onInterrupt);
  try {
    const failed: string[] = [];
    let again = false;
    for (const [k, spec] of own.entries()) {
      const place = `run ${k + 1} of ${own.length}, ${spec.name}`;
      if (isDone(at(spec), spec)) {
        console.error(`${place}: finished before`);
        continue;
      }
      console.error(`${place}:`);
      const status = await runSpec(spec, {
        folder: at(spec),
        resume: true,
        kept: `${folder}/kept`,
        again,
      });
      again = true;
      if (stop) {
        const done = own.filter((spec) => isDone(at(spec), spec)).length;
        return complain(
          `interrupted; ${done} of ${own.length} runs are finished, and --resume goes on from there`,
        );
      }
      if (status === 0) continue;
      // What kept a run from beginning would keep the others too.
      if (readRecord(at(spec))?.state !== "stopped") return status;
      failed.push(spec.name);
    }
    if (shard === undefined || shard.index === 1) {
      const lengths = await lengthsOf(study, folder, () => stop);
      if (E.isLeft(lengths)) return complain(lengths.left);
    }
    const reported = await reportStudy(study, folder);
    if (E.isLeft(reported)) return complain(reported.left);
    console.log(reported.right);
    console.log(`report: ${folder}/report.html`);
    return failed.length === 0 ? 0 : complain(`stopped early: ${failed.join(", ")}`);
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
  }
};
