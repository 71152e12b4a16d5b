// Help texts, generated from the table of commands, and the command `help`, which prints them.
import * as E from "fp-ts/Either.js";
import { type Command, commandOf, type Option } from "./command.ts";

/** Width of help texts in columns. */
const columns = 100;

/** Wraps text to `width` columns. */
const wrapped = (text: string, width: number): readonly string[] => {
  const lines: string[] = [];
  for (const word of text.split(/[ \n]+/)) {
    const longer = lines.length === 0 ? word : `${lines[lines.length - 1]} ${word}`;
    if (lines.length > 0 && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
};

/** Names and descriptions in two columns. */
const table = (rows: readonly (readonly [string, string])[]): string => {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.flatMap(([name, text]) =>
    wrapped(text, columns - width - 4).map((line, k) =>
      `  ${(k === 0 ? name : "").padEnd(width)}  ${line}`
    )
  ).join("\n");
};

/** An option with its placeholder, `--device D`. */
export const written = (name: string, { value }: Option): string =>
  value === undefined ? `--${name}` : `--${name} ${value}`;

const usageLine = (name: string, words: string, options: Command["options"]): string => {
  const parts = Object.entries(options).map(([name, option]) => {
    const part = option.isNeeded ? written(name, option) : `[${written(name, option)}]`;
    return { part: option.takes === "texts" ? `${part}...` : part, isNeeded: option.isNeeded };
  });
  const needed = parts.filter(({ isNeeded }) => isNeeded),
    others = parts.filter((of) => !of.isNeeded);
  const all = [...needed.map(({ part }) => part), words, ...others.map(({ part }) => part)];
  const begin = `deno task ${name} `;
  // Do not break between an option and its value.
  const lines = wrapped(
    all.filter((part) => part !== "").map((part) => part.replaceAll(" ", "\u00a0")).join(" "),
    columns - begin.length,
  );
  return lines.map((line, k) => (k === 0 ? begin : " ".repeat(begin.length)) + line).join("\n")
    .replaceAll("\u00a0", " ").trimEnd();
};

/** The help of one command. */
export const helpText = (name: string, { notes, words, options }: Command): string => {
  const uses = typeof words.usage === "string"
    ? [usageLine(name, words.usage, options)]
    : Object.entries(words.usage).map(([form, names]) =>
      usageLine(name, form, Object.fromEntries(names.map((name) => [name, options[name]])))
    );
  const rows = [
    ...Object.entries(words.help ?? {}),
    ...Object.entries(options).map(([name, of]) => [written(name, of), of.help] as const),
  ];
  return [uses.join("\n"), notes, ...(rows.length === 0 ? [] : [table(rows)])].join("\n\n");
};

/** All commands, a line for each. */
export const listText = (commands: Readonly<Record<string, Command>>): string =>
  "deno task COMMAND ...\n\n" +
  table(Object.entries(commands).map(([name, { summary }]) => [name, summary])) +
  "\n\ndeno task COMMAND --help shows the options of one.";

/** The message for an unknown or missing command, with the names of all commands. */
export const noCommandText = (name: string | undefined, names: readonly string[]): string =>
  `${name === undefined ? "no command" : `there is no command '${name}'`}; ` +
  `the commands are ${names.join(", ")}`;

export const command = commandOf({
  summary: "says what commands there are, or what one of them does",
  notes: "Lists the commands, or explains some of them; NAME --help does the same.",
  words: {
    usage: "[NAME...]",
    help: { NAME: "a command" },
    suggests: { values: "commands" },
    wrong: () => undefined,
  },
  options: {},
  run: async ({ words }, load) => {
    const commands = await load();
    const unknown = words.find((name) => !Object.hasOwn(commands, name));
    if (unknown !== undefined) return E.left(noCommandText(unknown, Object.keys(commands)));
    console.log(
      words.length === 0
        ? listText(commands)
        : words.map((name) => helpText(name, commands[name])).join("\n\n"),
    );
    return E.right(0);
  },
});
