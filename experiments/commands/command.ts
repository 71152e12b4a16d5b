// What a command is: a summary, notes, options and words as data, of which help and shell completions are
// made, and what runs with them. Its arguments are read and checked here, in the same way for all commands.
import * as E from "fp-ts/Either.js";
import { readArguments } from "../io/arguments.ts";

/** What shells complete a value with. */
export interface Suggestions {
  /** The possible values, or the names of all commands. */
  readonly values?: readonly string[] | "commands";
  readonly paths?: "files" | "folders";
}

/** One option, `--NAME` with or without a value. */
export interface Option<A = unknown> {
  readonly takes: "nothing" | "text" | "texts";
  /** Placeholder of its value in help. */
  readonly value?: string;
  /** One sentence. */
  readonly help: string;
  /** Whether the option is required. */
  readonly isNeeded?: boolean;
  readonly suggests?: Suggestions;
  /** Suggestion shown with an unknown option, which this one may be a misspelling of. */
  readonly hint?: string;
  /** Parses the given values; on the left, what is wrong with them, in words. */
  readonly read: (name: string, given: readonly string[]) => E.Either<string, A>;
}

/** Options by name, in the order of the help. */
export type Options = Readonly<Record<string, Option>>;

/** Parsed values of options. */
export type Values<O extends Options> = {
  readonly [Name in keyof O]: O[Name] extends Option<infer A> ? A : never;
};

/** The positional arguments of a command. */
export interface Words<O extends Options = Options> {
  /** Their usage, such as `AUDIO...`; or several usages, each with the options that it allows. */
  readonly usage: string | Readonly<Record<string, readonly (keyof O & string)[]>>;
  /** What each argument means. */
  readonly help?: Readonly<Record<string, string>>;
  readonly suggests?: Suggestions;
  /** What is wrong with them, in words, or `seeHelp`. */
  wrong(words: readonly string[], options: Values<O>): string | undefined;
}

/** Parsed arguments of a command. */
export interface Asked<O extends Options = Options> {
  readonly options: Values<O>;
  readonly words: readonly string[];
}

/** All commands by name. */
export type LoadCommands = () => Promise<Readonly<Record<string, Command>>>;

/** A command; its name is its key in the table of main.ts. */
export interface Command<O extends Options = Options> {
  /** One line for the list of commands. */
  readonly summary: string;
  /** A few sentences for its own help. */
  readonly notes: string;
  readonly words: Words<O>;
  readonly options: O;
  /** Gives the exit status: 0, or 1 if the work failed. On the left, why its arguments are wrong. */
  run(asked: Asked<O>, load: LoadCommands): Promise<E.Either<string, number>>;
}

/** Erases the types of a command's options, for the table of commands. */
export const commandOf = <O extends Options>(command: Command<O>): Command =>
  command as unknown as Command;

/** In place of an error message: print the whole help. */
export const seeHelp = "";

/** The message for positional arguments that have no meaning. */
export const surplus = (words: readonly string[]): string =>
  `there is nothing to do with ${words.map((word) => `'${word}'`).join(", ")}`;

/** No positional arguments. */
export const noWords: Words = {
  usage: "",
  wrong: (words) => words.length > 0 ? surplus(words) : undefined,
};

// ---------------------------------------------------------------- kinds of options

/** A boolean option. */
export const flag = (help: string): Option<boolean> => ({
  takes: "nothing",
  help,
  read: (_, given) => E.right(given.length > 0),
});

/** An optional string. */
export const text = (
  value: string,
  help: string,
  suggests?: Suggestions,
): Option<string | undefined> => ({
  takes: "text",
  value,
  help,
  suggests,
  read: (_, [given]) => E.right(given),
});

/** A required string; `why` says what it is needed for. */
export const neededText = (
  value: string,
  help: string,
  why: string,
  suggests?: Suggestions,
): Option<string> => ({
  takes: "text",
  value,
  help,
  isNeeded: true,
  suggests,
  read: (name, [given]) =>
    given === undefined ? E.left(`--${name} ${value} is missing: ${why}`) : E.right(given),
});

/** A string option that may be repeated. */
export const texts = (
  value: string,
  help: string,
  suggests?: Suggestions,
): Option<readonly string[]> => ({
  takes: "texts",
  value,
  help,
  suggests,
  read: (_, given) => E.right(given),
});

/** The same, but required at least once. */
export const neededTexts = (
  value: string,
  help: string,
  why: string,
  suggests?: Suggestions,
): Option<readonly string[]> => ({
  ...texts(value, help, suggests),
  isNeeded: true,
  read: (name, given) =>
    given.length === 0 ? E.left(`--${name} ${value} is missing: ${why}`) : E.right(given),
});

/** A whole number in a range. */
export const whole = <A extends number | undefined>(
  value: string,
  help: string,
  { from, to, otherwise, expected = `a whole number from ${from} to ${to}` }: {
    readonly from: number;
    readonly to: number;
    /** The default. */
    readonly otherwise: A;
    readonly expected?: string;
  },
): Option<number | A> => ({
  takes: "text",
  value,
  help: otherwise === undefined ? help : `${help} (default ${otherwise})`,
  read: (name, [given]) => {
    if (given === undefined) return E.right(otherwise);
    const number = given.trim() === "" ? NaN : Number(given);
    return Number.isSafeInteger(number) && number >= from && number <= to
      ? E.right(number)
      : E.left(`--${name}: expected ${expected}, found '${given}'`);
  },
});

/** One of several values. */
export const oneOf = <A extends string>(
  value: string,
  help: string,
  choices: readonly A[],
): Option<A | undefined> => ({
  takes: "text",
  value,
  help,
  suggests: { values: choices },
  read: (name, [given]) => {
    const found = choices.find((choice) => choice === given);
    return given === undefined || found !== undefined
      ? E.right(found)
      : E.left(`--${name}: expected ${choices.join(" or ")}, found '${given}'`);
  },
});

// ---------------------------------------------------------------- reading

/**
 * Parses the arguments of a command; `help` if help is requested. On the left, the first mistake:
 * unknown options come first, then values, then positional arguments.
 */
export const readAsked = <O extends Options>(
  command: Pick<Command<O>, "options" | "words">,
  args: readonly string[],
): E.Either<string, Asked<O> | "help"> => {
  const options = Object.entries(command.options);
  const taking = (takes: Option["takes"]): readonly string[] =>
    options.filter(([, option]) => option.takes === takes).map(([name]) => name);
  const read = readArguments(args, {
    flags: taking("nothing"),
    texts: taking("text"),
    lists: taking("texts"),
  });
  if (E.isLeft(read)) {
    const hint = /^Unknown option/.test(read.left)
      ? options.flatMap(([, { hint }]) => hint ?? [])[0]
      : undefined;
    return E.left(hint === undefined ? read.left : `${read.left}; ${hint}`);
  }
  const { flags, texts, lists, words, help } = read.right;
  if (help) return E.right("help");
  const values: Record<string, unknown> = {};
  for (const [name, option] of options) {
    const given = option.takes === "texts"
      ? lists[name]
      : option.takes === "text"
      ? [texts[name]].flatMap((one) => one ?? [])
      : flags[name]
      ? [name]
      : [];
    const value = option.read(name, given);
    if (E.isLeft(value)) return value;
    values[name] = value.right;
  }
  const asked = { options: values as Values<O>, words };
  const wrong = command.words.wrong(words, asked.options);
  return wrong === undefined ? E.right(asked) : E.left(wrong);
};
