// `deno.jsr.json` is `deno.json` with the packages of JSR in the place of their stand-ins.
import { assertEquals } from "@std/assert";
import here from "../../deno.json" with { type: "json" };
import jsr from "../../deno.jsr.json" with { type: "json" };

/** What JSR has, and the names that stand here for it. */
const replaced = ["@std/assert", "@std/cli/parse-args"];

const others = (imports: Readonly<Record<string, string>>) =>
  Object.entries(imports).filter(([name]) => !replaced.includes(name));

Deno.test("with JSR all is the same but the stand-ins", () => {
  assertEquals(others(jsr.imports), others(here.imports));
  assertEquals(jsr.compilerOptions, here.compilerOptions);
  assertEquals(jsr.allowScripts, here.allowScripts);
  assertEquals(jsr.exclude, here.exclude);
});
