// The arguments of a command as its options by name and the words between them, taken apart by
// `@std/cli`'s parseArgs. That is lenient; here an option that there is not, a value that is missing or
// an unknown one is reported in a sentence.
import * as E from "fp-ts/Either.js";
import { parseArgs } from "@std/cli/parse-args";

/** The names of options, by their type. */
export interface OptionNames<Flag extends string, Text extends string, List extends string> {
  /** Options without a value. */
  readonly flags?: readonly Flag[];
  /** Options with one string; the last one given counts. */
  readonly texts?: readonly Text[];
  /** Options that may be repeated, with a string each. */
  readonly lists?: readonly List[];
}

/** The parsed arguments. */
export interface Given<Flag extends string, Text extends string, List extends string> {
  readonly flags: Readonly<Record<Flag, boolean>>;
  readonly texts: Readonly<Partial<Record<Text, string>>>;
  readonly lists: Readonly<Record<List, readonly string[]>>;
  readonly words: readonly string[];
  /** Whether help is requested by --help or -h. */
  readonly help: boolean;
}

/** Parses arguments; if help is requested, nothing else is checked. */
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
      // "_": words are never parsed as numbers.
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
      // Options that were not given are absent, so that defaults apply.
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
