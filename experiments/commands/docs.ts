// `deno task docs`: generates docs/specs.md and docs/spec.schema.json from the codec of specs. A test
// checks that both are up to date.
import * as E from "fp-ts/Either.js";
import { specPage, specSchemaText } from "../specs/schema.ts";
import { commandOf, noWords } from "./command.ts";

export const command = commandOf({
  summary: "writes the pages that are made of the code, for who changes the fields of a spec",
  notes:
    "Writes docs/specs.md and docs/spec.schema.json, which are generated from the fields of specs.",
  words: noWords,
  options: {},
  run: async () => {
    const docs = new URL("../../docs/", import.meta.url);
    await Deno.writeTextFile(new URL("spec.schema.json", docs), specSchemaText());
    const page = new URL("specs.md", docs);
    await Deno.writeTextFile(page, specPage());
    await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", page.pathname] }).output();
    return E.right(0);
  },
});
