// `deno task faults [--programs N] [--seed S]`: puts back each fault of faults.ts in a copy of the tree
// and looks for the first random program that meets it. Without a fault no program may be wrong; the
// last line says how many faults were met.
import * as E from "fp-ts/Either.js";
import { readArguments } from "../../experiments/io/arguments.ts";
import { copyTree } from "../mutants/copies.ts";
import { type Fault, faults } from "./faults.ts";

const given = readArguments(Deno.args, { texts: ["programs", "seed", "only"] });
if (E.isLeft(given)) {
  console.error(given.left);
  Deno.exit(2);
}
const { programs = "300", seed = "20260", only = "" } = given.right.texts;
const copy = copyTree(new URL("../../", import.meta.url).pathname);

interface Wrong {
  readonly k: number | "the process ends";
  readonly said: string;
}
/** The first programs that are wrong on a device, of those that are not skipped. */
const failures = async (
  what: string,
  most: number,
  skipped: readonly Wrong["k"][],
): Promise<readonly Wrong[]> => {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", "--quiet", "tests/programs/first_failure.ts"],
      ...[what, programs, seed, `${most}`, JSON.stringify(skipped)],
    ],
    cwd: copy,
    stdin: "null",
  }).output();
  const text = new TextDecoder().decode(stdout), line = text.match(/^\{"found".*$/m)?.[0];
  if (line !== undefined) return JSON.parse(line).found;
  return [{ k: "the process ends", said: new TextDecoder().decode(stderr).slice(0, 200) }];
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
  const chosen = faults.filter(({ name }) => name.includes(only));
  // What is wrong without a fault is told, and says nothing about one.
  const known = new Map<string, readonly Wrong["k"][]>();
  for (const on of new Set(chosen.map(({ on }) => on))) {
    const wrong = await failures(on, 1e9, []);
    for (const { k, said } of wrong) console.log(`without a fault, ${on}, program ${k}: ${said}`);
    known.set(on, wrong.map(({ k }) => k));
  }
  let met = 0;
  for (const fault of chosen) {
    const takeBack = put(fault);
    const [first] = await failures(fault.on, 1, known.get(fault.on)!);
    takeBack();
    if (first !== undefined) met++;
    const { k, said } = first ?? { k: "none", said: "" };
    console.log(`${fault.name}: program ${k} (${said})`);
  }
  console.log(`${met} of ${chosen.length} faults were met`);
} finally {
  Deno.removeSync(copy, { recursive: true });
}
