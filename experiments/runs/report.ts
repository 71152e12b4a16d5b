// Writes the results of a study: report.html, tables.tex, runs.csv, scores.csv and lengths.csv, each
// atomically.
import * as E from "fp-ts/Either.js";
import { fileErrorText, writeWhole } from "../io/files.ts";
import type { Study } from "../specs/sweep.ts";
import { keptLengths } from "./lengths.ts";
import { studyPage } from "./page.ts";
import { readStudy } from "./results.ts";
import { latexTables, lengthsCsv, runsCsv, scoresCsv, tablesOf, textTable } from "./table.ts";

/** Reports on all finished runs of a study. Gives the tables as text; on the left, why not, in words. */
export const reportStudy = async (
  study: Study,
  folder: string,
): Promise<E.Either<string, string>> => {
  const result = readStudy(study, folder);
  const labels = new Set(study.parts[0].rows.map(({ label }) => label));
  const lengths = keptLengths(folder).filter(({ label, tokens }) =>
    labels.has(label) && study.lengths.includes(tokens)
  );
  const tables = tablesOf(result);
  const files: Readonly<Record<string, string>> = {
    "tables.tex": latexTables(tables),
    "runs.csv": runsCsv(result),
    ...(result.runs.some(({ scores }) => scores.length > 0)
      ? { "scores.csv": scoresCsv(result) }
      : {}),
    ...(lengths.length > 0 ? { "lengths.csv": lengthsCsv(lengths) } : {}),
    "report.html": studyPage(result, lengths),
  };
  for (const [name, content] of Object.entries(files)) {
    const written = await writeWhole(`${folder}/${name}`, content)();
    if (E.isLeft(written)) return E.left(fileErrorText(written.left));
  }
  return E.right(tables.map(textTable).join("\n\n"));
};
