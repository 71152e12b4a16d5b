// A HEAR task's `labelvocabulary.csv`: a header `idx,label` and a row for each class.
import * as E from "fp-ts/Either.js";
import { quoted } from "../../../backends/runtime/text.ts";

/** A problem of a vocabulary. `line` counts from 1. */
export interface VocabularyProblem {
  readonly line: number;
  readonly problem: string;
}

/** The labels by index, or everything that is wrong, in the order of lines. */
export const parseVocabulary = (
  csv: string,
): E.Either<readonly VocabularyProblem[], readonly string[]> => {
  const rows = rowsOf(csv.replace(/^\ufeff/, ""));
  if (E.isLeft(rows)) return E.left([rows.left]);
  const [header, ...lines] = rows.right;
  if (header === undefined) return E.left([{ line: 1, problem: "the file is empty" }]);
  const index = header.cells.indexOf("idx"), label = header.cells.indexOf("label");
  if (index < 0 || label < 0) {
    const problem = `the columns should be idx and label, found ${quoted(header.cells.join(","))}`;
    return E.left([{ line: 1, problem }]);
  }
  if (lines.length === 0) return E.left([{ line: 1, problem: "no label follows the header" }]);
  const labels: string[] = [], problems: VocabularyProblem[] = [];
  const lineOf = new Map<string, number>();
  for (const { line, cells } of lines) {
    const wrong = (problem: string) => problems.push({ line, problem });
    if (cells.length !== header.cells.length) {
      wrong(`${header.cells.length} cells are expected, found ${cells.length}`);
      continue;
    }
    const number = /^\d+$/.test(cells[index]) ? Number(cells[index]) : -1;
    const name = cells[label];
    const before = lineOf.get(name);
    if (number < 0 || number >= lines.length) {
      wrong(
        `idx should be a whole number from 0 to ${lines.length - 1}, found ${quoted(cells[index])}`,
      );
    } else if (labels[number] !== undefined) {
      wrong(`idx ${number} is given twice, to ${quoted(labels[number])} and to ${quoted(name)}`);
    } else if (name === "") wrong("the label is empty");
    else if (before !== undefined) {
      wrong(`the label ${quoted(name)} stands on line ${before} already`);
    } else {
      labels[number] = name;
      lineOf.set(name, line);
    }
  }
  return problems.length > 0 ? E.left(problems) : E.right(labels);
};

interface Row {
  readonly line: number;
  readonly cells: readonly string[];
}

// Cells may be quoted, and then contain commas, newlines and doubled quotes. Empty lines are ignored.
function rowsOf(csv: string): E.Either<VocabularyProblem, readonly Row[]> {
  const rows: Row[] = [];
  let cells: string[] = [], line = 1, first = 1;
  for (let at = 0; at < csv.length;) {
    let cell: string;
    if (csv[at] === '"') {
      const found = /"((?:[^"]|"")*)"/uy;
      found.lastIndex = at;
      const match = found.exec(csv);
      if (match === null) return E.left({ line, problem: "a quoted cell is not closed" });
      cell = match[1].replaceAll('""', '"');
      line += match[0].split("\n").length - 1;
      at = found.lastIndex;
    } else {
      const found = /[^,\r\n]*/y;
      found.lastIndex = at;
      cell = found.exec(csv)![0];
      at = found.lastIndex;
    }
    cells.push(cell);
    const end = /,|\r?\n|$/y;
    end.lastIndex = at;
    const match = end.exec(csv);
    if (match === null) {
      return E.left({ line, problem: "a comma or a line end should follow a quoted cell" });
    }
    at = end.lastIndex;
    if (match[0] === "," && at < csv.length) continue;
    if (match[0] === ",") cells.push("");
    if (cells.length > 1 || cells[0] !== "") rows.push({ line: first, cells });
    cells = [];
    first = ++line;
  }
  return E.right(rows);
}
