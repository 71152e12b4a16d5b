// Tables of text: aligned for a terminal, as CSV that a spreadsheet reads back, and escaped for LaTeX.
import { assertEquals, assertStrictEquals } from "@std/assert";
import { csv, latexText, tabular, textTable } from "../../../experiments/formats/tables.ts";

Deno.test("columns are aligned, names at the left and numbers at the right", () => {
  assertEquals(
    textTable([["model", "task", "loss"], ["a", "speech", "0.421"], ["transformer", "", "10"]], 2),
    ["model        task     loss", "a            speech  0.421", "transformer             10"],
  );
});

Deno.test("CSV quotes what would end a cell or a line, and leaves what is not known empty", () => {
  assertStrictEquals(
    csv(["name", "value"], [['a "b", c', 1.5], ["two\nlines", undefined], ["plain", "x"]]),
    'name,value\n"a ""b"", c",1.5\n"two\nlines",\nplain,x\n',
  );
});

Deno.test("LaTeX text has no command that was not meant", () => {
  assertStrictEquals(
    latexText("50% of a_b & {c} #1 $x ^ ~ \\d ± −1"),
    "50\\% of a\\_b \\& \\{c\\} \\#1 \\$x \\textasciicircum{} \\textasciitilde{} \\textbackslash{}d" +
      " $\\pm$ $-$1",
  );
});

Deno.test("a tabular has a rule above and below its head and at its end", () => {
  assertStrictEquals(
    tabular(["", "loss"], [["mamba", "\\textbf{0.4}"]]),
    "\\begin{tabular}{lr}\n\\hline\n & loss \\\\\n\\hline\nmamba & \\textbf{0.4} \\\\\n\\hline\n" +
      "\\end{tabular}\n",
  );
});
