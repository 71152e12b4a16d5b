// A study's folder: `study.json`, and a folder for each run.
import type { Spec } from "../spec.ts";
import { isBusy, readRecord } from "../train/folder.ts";

const exists = (path: string): boolean => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
};

/** Whether all that a run should leave is there. */
export const isDone = (folder: string, { evaluation }: Spec): boolean =>
  readRecord(folder)?.state === "finished" &&
  ((evaluation?.kind ?? "none") === "none" || exists(`${folder}/evaluation/evaluation.json`));

/** Whether a folder holds a study, and whether some process makes one of its runs. */
export const studyIn = (
  folder: string,
): { readonly busy: boolean } | undefined => {
  if (!exists(`${folder}/study.json`)) return undefined;
  const runs = [...Deno.readDirSync(folder)]
    .filter(({ isDirectory, name }) => isDirectory && readRecord(`${folder}/${name}`) !== undefined)
    .map(({ name }) => `${folder}/${name}`);
  return { busy: runs.some(isBusy) };
};
