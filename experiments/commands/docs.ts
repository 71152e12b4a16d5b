// `deno task docs`: writes what is made from the codec of specs, docs/specs.md and
// docs/spec.schema.json. A test keeps both as they come out here.
import { specPage, specSchemaText } from "../specs/schema.ts";

const docs = new URL("../../docs/", import.meta.url);
await Deno.writeTextFile(new URL("spec.schema.json", docs), specSchemaText());
const page = new URL("specs.md", docs);
await Deno.writeTextFile(page, specPage());
await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", page.pathname] }).output();
