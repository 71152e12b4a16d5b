// The command line: a table of commands, each in its own file and loaded when used. Exit status 0, 1 if
// the work failed, 2 if the arguments were wrong.
import * as E from "fp-ts/Either.js";
import { type Command, type LoadCommands, readAsked, seeHelp } from "./command.ts";
import { helpText, listText, noCommandText } from "./help.ts";
import { reasonOf } from "../io/reason.ts";

const table: Readonly<Record<string, () => Promise<{ readonly command: Command }>>> = {
  experiment: () => import("./experiment.ts"),
  golden: () => import("./golden.ts"),
  doctor: () => import("./doctor.ts"),
  explain: () => import("./explain.ts"),
  tune: () => import("./tune.ts"),
  accuracy: () => import("./accuracy.ts"),
  scaling: () => import("./scaling.ts"),
  embed: () => import("./embed.ts"),
  evaluate: () => import("./evaluate.ts"),
  import: () => import("./import.ts"),
  runs: () => import("./runs.ts"),
  data: () => import("./data.ts"),
  docs: () => import("./docs.ts"),
  completions: () => import("./completions.ts"),
  help: () => import("./help.ts"),
};

const loadAll: LoadCommands = async () =>
  Object.fromEntries(
    await Promise.all(
      Object.entries(table).map(async ([name, load]) => [name, (await load()).command] as const),
    ),
  );

const printed = (text: string): number => {
  console.log(text);
  return 0;
};

const misunderstood = (message: string): number => {
  console.error(message);
  return 2;
};

const run = async ([name, ...args]: readonly string[]): Promise<number> => {
  if (name === "--help" || name === "-h") return await run(["help", ...args]);
  if (name === undefined || !Object.hasOwn(table, name)) {
    const sentence = noCommandText(name, Object.keys(table));
    return misunderstood(
      name === undefined ? `${sentence}\n\n${listText(await loadAll())}` : sentence,
    );
  }
  const { command } = await table[name]();
  const asked = readAsked(command, args);
  const done = E.isLeft(asked)
    ? asked
    : asked.right === "help"
    ? E.right(printed(helpText(name, command)))
    : await command.run(asked.right, loadAll);
  if (E.isRight(done)) return done.right;
  return misunderstood(
    done.left === seeHelp ? helpText(name, command) : `${done.left}; see deno task ${name} --help`,
  );
};

/** Runs the command of this process's arguments and exits. */
export const main = async (): Promise<never> => {
  // An exception here is a bug; users still get one sentence and no stack trace.
  const status = await run(Deno.args).catch((error) => {
    console.error(reasonOf(error));
    if (Deno.env.get("DEBUG")) console.error(error);
    return 1;
  });
  return Deno.exit(status);
};

if (import.meta.main) await main();
