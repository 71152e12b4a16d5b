// `deno task faults [--programs N] [--seed S]`: puts back each fault of faults.ts in a copy of the tree
// and looks for the first random program that meets it. Without a fault no program may be wrong; the
// last line says how many faults were met.
import { parseArgs } from "cli";
import { copyTree } from "../mutants/copies.ts";
import { type Fault, faults } from "./faults.ts";

const { values } = parseArgs({
  options: {
    programs: { type: "string", default: "300" },
    seed: { type: "string", default: "20260" },
    only: { type: "string" },
  },
});
const copy = copyTree(new URL("../../", import.meta.url).pathname);

interface Found {
  readonly k: number | string | null;
  readonly said?: string;
}
const firstFailure = async (what: string): Promise<Found> => {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", "--quiet", "tests/programs/first_failure.ts"],
      ...[what, values.programs, values.seed],
    ],
    cwd: copy,
    stdin: "null",
  }).output();
  const text = new TextDecoder().decode(stdout), line = text.match(/^\{"k".*$/m)?.[0];
  if (line !== undefined) return JSON.parse(line);
  // The process ended by itself.
  return { k: "ends the process", said: new TextDecoder().decode(stderr).slice(0, 200) };
};

/** Makes a fault in the copy, and gives what takes it back. */
const put = ({ name, changes }: Fault): () => void => {
  const before = changes.map((
    { file },
  ) => [`${copy}/${file}`, Deno.readTextFileSync(`${copy}/${file}`)]);
  for (const { file, find, put } of changes) {
    const text = Deno.readTextFileSync(`${copy}/${file}`);
    if (!text.includes(find)) throw new Error(`${name}: ${file} has no '${find}' any more`);
    Deno.writeTextFileSync(`${copy}/${file}`, text.replaceAll(find, () => put));
  }
  return () => before.toReversed().forEach(([path, text]) => Deno.writeTextFileSync(path, text));
};

try {
  const chosen = faults.filter(({ name }) => name.includes(values.only ?? ""));
  let met = 0;
  for (const fault of chosen) {
    const takeBack = put(fault);
    const { k, said } = await firstFailure(fault.on);
    takeBack();
    if (k !== null && k !== "no device") met++;
    console.log(`${k === null ? "not met" : `program ${k}`}: ${fault.name} (${said ?? ""})`);
  }
  for (const on of new Set(chosen.map(({ on }) => on))) {
    const { k, said } = await firstFailure(on);
    if (k !== null) console.log(`without a fault, on ${on}, program ${k}: ${said ?? ""}`);
  }
  console.log(`${met} of ${chosen.length} faults were met`);
} finally {
  Deno.removeSync(copy, { recursive: true });
}
