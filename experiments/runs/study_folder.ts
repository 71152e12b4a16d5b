// A study's folder: `study.json`, and a folder for each run.
import type { Spec } from "../specs/spec.ts";
import { readRecord } from "../training/run_folder.ts";

const exists = (path: string): boolean => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
};

/** Whether a run is complete: trained, and scored if its spec says so. */
export const isDone = (folder: string, { evaluation }: Spec): boolean =>
  readRecord(folder)?.state === "finished" &&
  ((evaluation?.kind ?? "none") === "none" || exists(`${folder}/evaluation/evaluation.json`));

/** The content of a study's folder: its runs, and names that belong to no study. */
export interface StudyFolder {
  readonly runs: readonly string[];
  readonly others: readonly string[];
}

/** What a study's folder has in addition to its runs. */
const written = [
  "study.json",
  "report.html",
  "tables.tex",
  "runs.csv",
  "scores.csv",
  "lengths.csv",
  "lengths.json",
  "kept",
];

/** The study in a folder; undefined if there is none. */
export const studyIn = (folder: string): StudyFolder | undefined => {
  if (!exists(`${folder}/study.json`)) return undefined;
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  const runs = names.filter((name) => readRecord(`${folder}/${name}`) !== undefined);
  const others = names.filter((name) => !runs.includes(name) && !written.includes(name));
  return { runs: runs.map((name) => `${folder}/${name}`), others };
};
