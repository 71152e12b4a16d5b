// `parseArgs` of `@std/cli/parse-args`, for machines without access to JSR: the import map gives this file
// for the package's name. It implements the package's documentation, with its names and types, so that no
// code changes if the package itself is used.
//
// It is more lenient than `parseArgs` of node:util: whatever begins with `-` is an option, also one
// that was not declared; an option of text without a value is the empty string; a flag may be given a
// value. arguments.ts reports what is wrong for a user.

/** One name, or several. */
type Names<Name extends string> = Name | readonly Name[];

/** Declared options. */
export interface ParseOptions<
  Flag extends string = string,
  Text extends string = string,
  Several extends string = string,
  Negated extends string = string,
  Defaults extends Readonly<Record<string, unknown>> = Readonly<Record<string, unknown>>,
> {
  /** Flags, without a value and false by default; true: all arguments `--NAME` without `=`. */
  readonly boolean?: boolean | Names<Flag>;
  /** Options whose values are always strings; `_` for the other arguments. */
  readonly string?: Names<Text>;
  /** Options that may be repeated: a list of their values, empty by default. */
  readonly collect?: Names<Several>;
  /** Flags that `--no-NAME` sets to false. */
  readonly negatable?: Names<Negated>;
  /** Values of options that are not given. */
  readonly default?: Defaults;
  /** Aliases of options; the result has all names. */
  readonly alias?: Readonly<Record<string, Names<string>>>;
  /** Whether everything after the first positional argument is left unparsed. */
  readonly stopEarly?: boolean;
  /** Whether the arguments after `--` are in the result's `--` rather than appended to `_`. */
  readonly "--"?: boolean;
  /**
   * Called with every argument that was not declared: as it was given and, where it is an option, with
   * its name and value. Where it gives false, the argument is left out.
   */
  readonly unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** The type of an option's value, without its default. */
type Value<Key, Flag, Text, Several, Negated> =
  | (Key extends Several ? Key extends Text ? string[] : Key extends Flag ? boolean[] : unknown[]
    : Key extends Text ? string | undefined
    : Key extends Flag ? boolean
    : unknown)
  | (Key extends Negated ? false : never);

/** Parsed arguments. */
export type Args<
  Flag extends string = never,
  Text extends string = never,
  Several extends string = never,
  Negated extends string = never,
  Defaults extends Readonly<Record<string, unknown>> = Readonly<Record<never, never>>,
> =
  & { readonly [name: string]: unknown }
  & {
    [Key in Exclude<Flag | Text | Several | Negated, "_">]: Key extends keyof Defaults
      ? Exclude<Value<Key, Flag, Text, Several, Negated>, undefined> | Defaults[Key]
      : Value<Key, Flag, Text, Several, Negated>;
  }
  & { _: (string | number)[]; "--"?: string[] };

const listed = (names: boolean | Names<string> | undefined): readonly string[] =>
  names === undefined || typeof names === "boolean" ? [] : [names].flat();

/** Decimal numbers, and hexadecimal ones from 0x on. */
const isNumber = (text: string): boolean =>
  /^0x[0-9a-f]+$/i.test(text) || /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text);

/**
 * Parses the arguments of a command line: options by name, and all others in `_`. An undeclared option is
 * a string, a number if it looks like one, or true if no value follows.
 */
export const parseArgs = <
  const Flag extends string = never,
  const Text extends string = never,
  const Several extends string = never,
  const Negated extends string = never,
  Defaults extends Readonly<Record<string, unknown>> = Readonly<Record<never, never>>,
>(
  args: string[],
  options: ParseOptions<Flag, Text, Several, Negated, Defaults> = {},
): Args<Flag, Text, Several, Negated, Defaults> => {
  const { alias = {}, unknown = () => true } = options;
  // Every name with all its aliases, itself first.
  const groups = Object.entries(alias).map(([name, others]) => [name, ...listed(others)]);
  const namesOf = (name: string): readonly string[] => [
    ...new Set([name, ...groups.filter((group) => group.includes(name)).flat()]),
  ];
  const setOf = (names: boolean | Names<string> | undefined): ReadonlySet<string> =>
    new Set(listed(names).flatMap(namesOf));
  const flags = setOf(options.boolean), texts = setOf(options.string);
  const several = setOf(options.collect), negated = setOf(options.negatable);
  const declared = new Set(
    [flags, texts, several, negated, groups.flat()].flatMap((set) => [...set]),
  );

  const result = new Map<string, unknown>(), rest: (string | number)[] = [];
  const put = (name: string, value: unknown): void => {
    for (const key of namesOf(name)) {
      const before = result.get(key);
      result.set(
        key,
        !several.has(key) ? value : Array.isArray(before) ? [...before, value] : [value],
      );
    }
  };
  /** Sets an option to the given string, or to its value without one. */
  const set = (arg: string, name: string, given?: string): void => {
    const value = flags.has(name)
      ? given !== "false"
      : texts.has(name)
      ? given ?? ""
      : given === undefined
      ? true
      : isNumber(given)
      ? Number(given)
      : given;
    if (!declared.has(name) && unknown(arg, name, value) === false) return;
    put(name, value);
  };
  const add = (text: string): void => {
    if (unknown(text) === false) return;
    rest.push(!texts.has("_") && isNumber(text) ? Number(text) : text);
  };

  const end = args.indexOf("--");
  const before = end < 0 ? args : args.slice(0, end), after = end < 0 ? [] : args.slice(end + 1);
  for (let k = 0; k < before.length; k++) {
    const arg = before[k], next = before[k + 1];
    /** Sets an option whose value may be the next argument. */
    const setFromNext = (name: string): void => {
      const isFlag = flags.has(name) || (options.boolean === true && arg.startsWith("--"));
      const takes = next !== undefined &&
        (isFlag ? /^(true|false)$/.test(next) : !next.startsWith("-") || next === "-");
      if (takes) k++;
      const isTruth = takes && isFlag && !flags.has(name);
      if (isTruth) put(name, next === "true");
      else set(arg, name, takes ? next : undefined);
    };
    if (arg === "-" || !arg.startsWith("-")) {
      if (options.stopEarly === true) {
        before.slice(k).forEach((text) => rest.push(text));
        break;
      }
      add(arg);
    } else if (arg.startsWith("--")) {
      const [, name, given] = /^--([^=]+)(?:=(.*))?$/s.exec(arg) ?? [arg, arg.slice(2), undefined];
      const positive = name.replace(/^no-/, "");
      if (given !== undefined) set(arg, name, given);
      else if (positive !== name && negated.has(positive)) put(positive, false);
      else setFromNext(name);
    } else {
      // Single letters, of which the last may have a value: in the same argument or the next.
      const letters = [...arg.slice(1)];
      for (let at = 0; at < letters.length; at++) {
        const letter = letters[at], given = letters.slice(at + 1).join("");
        const isValue = given.startsWith("=") || isNumber(given) || /^[^\p{L}\p{N}_-]/u.test(given);
        if (given === "") setFromNext(letter);
        else if (isValue) {
          set(arg, letter, given.replace(/^=/, ""));
          break;
        } else set(arg, letter);
      }
    }
  }

  const defaults: readonly (readonly [string, unknown])[] = [
    ...Object.entries(options.default ?? {}),
    ...[...several].map((name) => [name, []] as const),
    ...[...flags].map((name) => [name, false] as const),
  ];
  for (const [name, value] of defaults) {
    for (const key of namesOf(name)) if (!result.has(key)) result.set(key, value);
  }
  if (options["--"] === true) result.set("--", after);
  else rest.push(...after);
  // Own properties only: an option may have the name of an inherited property.
  const entries = Object.fromEntries([...result].filter(([name]) => name !== "_"));
  return { ...entries, _: rest } as Args<Flag, Text, Several, Negated, Defaults>;
};
