// An architecture stays a page that can be read beside its paper.
import { assertLessOrEqual } from "@std/assert";

Deno.test("each file of a family, without imports, is at most 120 lines", () => {
  for (const name of ["transformer", "mamba", "xlstm", "mlstm", "slstm"]) {
    const text = Deno.readTextFileSync(new URL(`../../models/${name}.ts`, import.meta.url));
    const lines = text.replaceAll(/^import[^;]*;\n/gm, "").trimEnd().split("\n");
    assertLessOrEqual(lines.length, 120, `models/${name}.ts has ${lines.length} lines`);
  }
});
