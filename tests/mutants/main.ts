// `deno task mutants`: how good are the tests? Makes one small change at a time in the compiler and the
// derivatives, runs a quick set of tests on a copy of the tree, and lists the changes that no test
// noticed. Changes that do not type-check are not counted. The same seed draws the same changes.
import * as E from "fp-ts/Either.js";
import { readArguments } from "../../experiments/io/arguments.ts";
import { cpus } from "node:os";
import { copyTree, failureOf, stopAll } from "./copies.ts";
import { draw } from "./draw.ts";
import { excused, mostExcused } from "./excused.ts";
import { changed, type Mutation, mutationsOf, shown } from "./mutations.ts";
import { allStages, changedPlaces, leftAlone, type Stage, stagesOf } from "./quick.ts";
import { typeChecker } from "./types.ts";

const usage = `deno task mutants [--n N] [--seed S] [--in DIR] [--without FILE]... [--list]

Makes N small changes, one at a time, to the compiler and the derivatives, each on a copy of the tree;
runs a quick set of tests for each; lists the changes that survive. Status 1 where more than one in
ten does.

  --n N        how many changes (default 100)
  --seed S     which ones: a whole number (default 1)
  --in DIR     only in files whose path begins so, such as backends/lower or dsl/grad.ts
  --without F  leaves a test file out of the quick set: what the others notice without it
  --list       says which changes would be made, and makes none`;

const fail = (sentence: string): never => {
  console.error(`${sentence}\n\n${usage}`);
  Deno.exit(2);
};
const given = readArguments(Deno.args, {
  flags: ["list"],
  texts: ["n", "seed", "in"],
  lists: ["without"],
});
if (E.isLeft(given)) throw fail(given.left);
const { flags, lists, words, help } = given.right;
if (words.length > 0) fail(`there is nothing to do with '${words[0]}'`);
const asked = { n: "100", seed: "1", in: "", ...given.right.texts, ...flags, ...lists };
if (help) {
  console.log(usage);
  Deno.exit(0);
}
const whole = (name: "n" | "seed", least: number): number => {
  const value = Number(asked[name]);
  return Number.isSafeInteger(value) && value >= least && asked[name].trim() !== ""
    ? value
    : fail(`--${name} is ${asked[name]}, expected a whole number from ${least} on`);
};
const count = whole("n", 1), seed = whole("seed", 0);

const root = new URL("../../", import.meta.url).pathname;
/** The files of a folder, and of those in it. */
const inside = (folder: string): readonly string[] =>
  [...Deno.readDirSync(root + folder)].flatMap(({ name, isDirectory }) =>
    isDirectory ? inside(`${folder}${name}/`) : [folder + name]
  );
const allFiles = changedPlaces.flatMap((place) => place.endsWith("/") ? inside(place) : [place])
  .filter((file) => file.endsWith(".ts") && !Object.hasOwn(leftAlone, file)).sort();
const folder = asked.in.replace(/^\.\//, "");
const files = allFiles.filter((file) => file.startsWith(folder));
if (files.length === 0) {
  fail(`--in ${asked.in} has none of the files that are changed: ${changedPlaces.join(", ")}`);
}

const unknown = asked.without.find((file: string) =>
  !allStages.some((stage) => stage.files.includes(file))
);
if (unknown !== undefined) {
  fail(`--without ${unknown} is none of the quick set, which tests/mutants/quick.ts lists`);
}
const without = (stage: Stage): Stage => ({
  ...stage,
  files: stage.files.filter((file) => !asked.without.includes(file)),
});
const kept = new Map(
  allStages.map((stage) => [stage, without(stage)] as const).filter(([, { files }]) =>
    files.length > 0
  ),
);
/** The stages for a file, without what is left out. */
const stagesFor = (file: string): readonly Stage[] =>
  stagesOf(file).flatMap((stage) => kept.get(stage) ?? []);

const sources = new Map(files.map((file) => [file, Deno.readTextFileSync(root + file)]));
const check = await typeChecker(root, files);
const excuseOf = (mutation: Mutation) => {
  const { before, after } = shown(sources.get(mutation.file)!, mutation);
  return excused.find((one) =>
    one.file === mutation.file && one.before === before && one.after === after
  );
};
const line = (mutation: Mutation): string => {
  const { line, before, after } = shown(sources.get(mutation.file)!, mutation);
  return `${mutation.file}:${line} (${mutation.kind})\n    - ${before}\n    + ${after}`;
};

const mutations = [...sources].flatMap(([file, source]) => mutationsOf(file, source));
const drawn: Mutation[] = [], equal: Mutation[] = [];
for (const mutation of draw(mutations, seed)) {
  if (drawn.length === count) break;
  const source = sources.get(mutation.file)!;
  if (!check(mutation.file, changed(source, mutation))) continue;
  const isExcused = equal.length < mostExcused * count / 100 && excuseOf(mutation) !== undefined;
  (isExcused ? equal : drawn).push(mutation);
}
for (const mutation of equal) {
  console.log(`excused, ${excuseOf(mutation)!.why}:\n  ${line(mutation)}`);
}
if (asked.list) {
  drawn.forEach((mutation) => console.log(line(mutation)));
  Deno.exit(0);
}

// Two copies of the tree, on each of which one change is made at a time.
const copies: string[] = [];
let isEnding = false;
const end = async (status: number): Promise<void> => {
  isEnding = true;
  await stopAll();
  for (const copy of copies) Deno.removeSync(copy, { recursive: true });
  Deno.exit(status);
};
for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => end(130));

const began = performance.now();
const seconds = () => `${((performance.now() - began) / 1000).toFixed(0)} s`;
const workers = Math.min(2, cpus().length, count);
for (let k = 0; k < workers; k++) copies.push(copyTree(root));

// As the tree stands all tests pass, and take a time beyond which a change hangs.
const needed = [...kept.values()].filter((stage) =>
  drawn.some(({ file }) => stagesFor(file).includes(stage))
);
const limits = new Map<Stage, number>();
const inTurns = async <T>(list: readonly T[], work: (one: T, copy: string) => Promise<void>) => {
  let next = 0;
  await Promise.all(copies.map(async (copy) => {
    while (next < list.length && !isEnding) await work(list[next++], copy);
  }));
};
await inTurns(needed, async (stage, copy) => {
  const start = performance.now();
  const failure = await failureOf(copy, stage, 600_000);
  if (isEnding) return;
  const took = performance.now() - start;
  console.error(`${(took / 1000).toFixed(1)} s: ${stage.files.join(" ")} ${stage.filter ?? ""}`);
  if (failure !== undefined) {
    console.error(`without any change, ${stage.files.join(", ")}: ${failure}. Mend that first.`);
    await end(1);
  }
  limits.set(stage, 10_000 + 3 * took);
});
console.error(`${needed.length} stages pass without a change: ${seconds()}`);

const survivors = new Set<Mutation>();
let done = 0;
await inTurns(drawn, async (mutation, copy) => {
  const path = `${copy}/${mutation.file}`, source = sources.get(mutation.file)!;
  Deno.writeTextFileSync(path, changed(source, mutation));
  let death: string | undefined, stages = 0;
  for (const stage of stagesFor(mutation.file)) {
    stages++;
    death = await failureOf(copy, stage, limits.get(stage)!);
    if (isEnding || death !== undefined) break;
  }
  // What was stopped has neither died nor survived, and its copy goes.
  if (isEnding) return;
  Deno.writeTextFileSync(path, source);
  if (death === undefined) survivors.add(mutation);
  console.error(
    `${++done} of ${drawn.length}, ${seconds()}: ${
      death === undefined ? "SURVIVES" : `died in stage ${stages}: ${death}`
    }\n  ${line(mutation)}`,
  );
});

for (const mutation of drawn.filter((one) => survivors.has(one))) {
  console.log(`survives: ${line(mutation)}`);
}
console.log(`${equal.length} excused as equivalent, ${seconds()}`);
console.log(`${drawn.length - survivors.size} of ${drawn.length} mutants died`);
await end(10 * survivors.size > drawn.length ? 1 : 0);
