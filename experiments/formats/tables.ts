// Tables of text cells: aligned for a terminal, as CSV (RFC 4180), and as a LaTeX `tabular`.

type Row = readonly string[];

/**
 * Aligned columns: the first `left` columns and those in `alsoLeft` are left-aligned, all others
 * right-aligned. Every row must have as many cells as the first.
 *
 * @example
 * ```ts
 * import { textTable } from "./tables.ts";
 * console.log(textTable([["model", "loss"], ["mamba", "0.42"]], 1).join("\n"));
 * ```
 */
export const textTable = (
  rows: readonly Row[],
  left: number,
  alsoLeft: readonly number[] = [],
): readonly string[] => {
  const widths = columnWidths(rows);
  const isLeft = (k: number) => k < left || alsoLeft.includes(k);
  return rows.map((row) =>
    row.map((cell, k) => isLeft(k) ? cell.padEnd(widths[k]) : cell.padStart(widths[k])).join("  ")
      .trimEnd()
  );
};

/** The width in characters of each column. */
export const columnWidths = (rows: readonly Row[]): readonly number[] =>
  rows[0].map((_, k) => Math.max(...rows.map((row) => row[k].length)));

const quote = (cell: string | number | undefined): string => {
  const text = cell === undefined ? "" : `${cell}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** A header and rows as CSV with a newline at the end; cells are quoted if necessary. */
export const csv = (
  header: Row,
  rows: readonly (readonly (string | number | undefined)[])[],
): string => [header, ...rows].map((row) => `${row.map(quote).join(",")}\n`).join("");

const texSigns: Readonly<Record<string, string>> = {
  "\\": "\\textbackslash{}",
  "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}",
  "±": "$\\pm$",
  "−": "$-$",
};

/** Text with LaTeX's special characters escaped. */
export const latexText = (text: string): string =>
  text.replace(/[&%$#_{}\\~^±−]/g, (sign) => texSigns[sign] ?? `\\${sign}`);

/** A `tabular` of cells that are already LaTeX, the first column left-aligned. */
export const tabular = (head: Row, rows: readonly Row[]): string => {
  const line = (cells: Row) => `${cells.join(" & ")} \\\\`;
  return [
    `\\begin{tabular}{l${"r".repeat(head.length - 1)}}`,
    "\\hline",
    line(head),
    "\\hline",
    ...rows.map(line),
    "\\hline",
    "\\end{tabular}",
    "",
  ].join("\n");
};
