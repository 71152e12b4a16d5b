// The arguments of a command as its options by name and the words between them, taken apart by
// `@std/cli`'s parseArgs. That is lenient; here an option that there is not, a value that is missing or
// an unknown one is reported in a sentence.
import * as E from "fp-ts/Either.js";
import { parseArgs } from "@std/cli/parse-args";

/** The names of options, by what they take. */
export interface OptionNames<Flag extends string, Text extends string, List extends string> {
  /** Nothing. */
  readonly flags?: readonly Flag[];
  /** One text; the last that is given counts. */
  readonly texts?: readonly Text[];
  /** A text each time. */
  readonly lists?: readonly List[];
}

/** What was given. */
export interface Given<Flag extends string, Text extends string, List extends string> {
  readonly flags: Readonly<Record<Flag, boolean>>;
  readonly texts: Readonly<Partial<Record<Text, string>>>;
  readonly lists: Readonly<Record<List, readonly string[]>>;
  readonly words: readonly string[];
  /** Whether help is asked for, with --help or -h. */
  readonly help: boolean;
}

/** Takes arguments apart; where help is asked for, nothing else is looked at. */
export const readArguments = <
  const Flag extends string = never,
  const Text extends string = never,
  const List extends string = never,
>(
  args: readonly string[],
  { flags = [], texts = [], lists = [] }: OptionNames<Flag, Text, List>,
): E.Either<string, Given<Flag, Text, List>> => {
  const strange: string[] = [];
  const found: Readonly<Record<string, unknown>> & { readonly _: readonly unknown[] } = parseArgs(
    [...args],
    {
      boolean: [...flags, "help"] as string[],
      // "_": words are never numbers.
      string: [...texts, ...lists, "_"] as string[],
      collect: [...lists] as string[],
      alias: { help: "h" },
      unknown: (arg: string, key?: string) => {
        if (key === undefined) return true;
        strange.push(arg.startsWith("--") ? `--${key}` : `-${key}`);
        return false;
      },
    },
  );
  const pick = <Name extends string, A>(names: readonly Name[]) =>
    Object.fromEntries(
      // One that is not given is not there, and so takes the place of no default.
      names.flatMap((name) => found[name] === undefined ? [] : [[name, found[name]]]),
    ) as Readonly<Record<Name, A>>;
  const given: Given<Flag, Text, List> = {
    flags: pick<Flag, boolean>(flags),
    texts: pick<Text, string | undefined>(texts) as Partial<Record<Text, string>>,
    lists: pick<List, readonly string[]>(lists),
    words: found._.map(String),
    help: found.help === true,
  };
  if (given.help) return E.right(given);
  if (strange.length > 0) return E.left(`Unknown option '${strange[0]}'`);
  const isEmpty = (name: string): boolean => {
    const value = found[name];
    return value === "" || (Array.isArray(value) && value.includes(""));
  };
  const empty = [...texts, ...lists].find(isEmpty);
  if (empty !== undefined) return E.left(`Option '--${empty} <value>' argument missing`);
  const end = args.indexOf("--");
  const valued = flags.find((flag) =>
    args.slice(0, end < 0 ? args.length : end).some((arg) => arg.startsWith(`--${flag}=`))
  );
  return valued === undefined
    ? E.right(given)
    : E.left(`Option '--${valued}' does not take an argument`);
};
