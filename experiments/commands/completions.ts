// `deno task completions bash|zsh|fish`: a shell script that completes `deno task COMMAND ...`, generated
// from the table of commands. Other tasks are completed as before.
import * as E from "fp-ts/Either.js";
import { type Command, commandOf, seeHelp, type Suggestions, surplus } from "./command.ts";

type Commands = Readonly<Record<string, Command>>;

const valuesOf = (
  { values = [] }: Suggestions,
  commands: Commands,
): readonly string[] => values === "commands" ? Object.keys(commands) : values;

/** The options of a command, help included, with the completions of their values, if any. */
const optionsOf = ({ options }: Command) => [
  ...Object.entries(options).map(([name, { value, help, suggests = {} }]) => ({
    name,
    help,
    ...(value === undefined ? {} : { suggests }),
  })),
  { name: "help", help: "explains the command" },
];

const posix = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const lines = (...parts: readonly (string | readonly string[])[]): string =>
  parts.flat().join("\n");

// ---------------------------------------------------------------- bash and zsh

/**
 * The part that bash and zsh share: a `case` for each command with the completions of its positional
 * arguments and of its options' values, which follow `$option`. Sets `values` and `paths`.
 */
const cases = (commands: Commands): readonly string[] => {
  const set = (suggests: Suggestions): string =>
    `values=${posix(valuesOf(suggests, commands).join(" "))} paths=${suggests.paths ?? ""}`;
  return Object.entries(commands).flatMap(([name, command]) => [
    `    ${name})`,
    "      case $option in",
    ...optionsOf(command).flatMap(({ name, suggests }) =>
      suggests === undefined ? [] : [`        --${name}) ${set(suggests)} ;;`]
    ),
    `        *) option= ${set(command.words.suggests ?? {})} ;;`,
    "      esac ;;",
  ]);
};

const bash = (commands: Commands): string =>
  lines(
    "# Completes Formant's commands in bash:",
    '#   eval "$(deno task --quiet completions bash)"',
    "_formant_options() {",
    "  case $1 in",
    Object.entries(commands).map(([name, command]) =>
      `    ${name}) echo ${posix(optionsOf(command).map(({ name }) => `--${name}`).join(" "))} ;;`
    ),
    "  esac",
    "}",
    "# What completed `deno` before.",
    "_formant_pattern='-F ([^ ]+)'",
    "if [[ $(complete -p deno 2>/dev/null) =~ $_formant_pattern && ${BASH_REMATCH[1]} != _formant ]]; then",
    "  _formant_before=${BASH_REMATCH[1]}",
    "fi",
    "_formant() {",
    "  local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} at=1 values= paths= line",
    "  # `--device=x` is three words.",
    "  if [[ $word == = ]]; then word=",
    "  elif [[ $option == = ]]; then option=${COMP_WORDS[COMP_CWORD-2]}; fi",
    "  COMPREPLY=()",
    "  while (( at < COMP_CWORD )) && [[ ${COMP_WORDS[at]} != task ]]; do (( at++ )); done",
    "  (( at++ ))",
    "  if (( at == COMP_CWORD )); then",
    `    COMPREPLY=($(compgen -W ${posix(Object.keys(commands).join(" "))} -- "$word"))`,
    "    return",
    "  fi",
    "  case ${COMP_WORDS[at]} in",
    cases(commands),
    "    *)",
    '      [[ -z $_formant_before ]] || "$_formant_before" "$@"',
    "      return ;;",
    "  esac",
    "  if [[ -z $option && $word == -* ]]; then",
    '    COMPREPLY=($(compgen -W "$(_formant_options "${COMP_WORDS[at]}")" -- "$word"))',
    "    return",
    "  fi",
    '  COMPREPLY=($(compgen -W "$values" -- "$word"))',
    "  [[ -n $paths ]] || return",
    "  compopt -o filenames 2>/dev/null",
    "  local kind=-f",
    "  [[ $paths == folders ]] && kind=-d",
    '  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen $kind -- "$word")',
    "}",
    "complete -o bashdefault -F _formant deno",
  );

const zsh = (commands: Commands): string => {
  const described = (rows: readonly (readonly [string, string])[]): readonly string[] =>
    rows.map(([name, help]) => `        ${posix(`${name.replaceAll(":", "\\:")}:${help}`)}`);
  return lines(
    "# Completes Formant's commands in zsh, after compinit:",
    '#   eval "$(deno task --quiet completions zsh)"',
    "[[ ${_comps[deno]} == _formant ]] || typeset -g _formant_before=${_comps[deno]}",
    "_formant() {",
    "  local option=${words[CURRENT-1]} values= paths=",
    "  local -i at=${words[(i)task]}+1",
    "  local -a rows",
    "  if (( at == CURRENT )); then",
    "    rows=(",
    described(Object.entries(commands).map(([name, { summary }]) => [name, summary])),
    "    )",
    "    _describe command rows",
    "    return",
    "  fi",
    "  if [[ ${words[CURRENT]} == --*=* ]]; then",
    "    option=${words[CURRENT]%%=*}",
    "    compset -P '*='",
    "  fi",
    "  case ${words[at]} in",
    cases(commands),
    "    *)",
    "      [[ -z $_formant_before ]] || $_formant_before",
    "      return ;;",
    "  esac",
    "  if [[ -z $option && ${words[CURRENT]} == -* ]]; then",
    "    case ${words[at]} in",
    Object.entries(commands).flatMap(([name, command]) => [
      `      ${name}) rows=(`,
      ...described(optionsOf(command).map(({ name, help }) => [`--${name}`, help])),
      "      ) ;;",
    ]),
    "    esac",
    "    _describe option rows",
    "    return",
    "  fi",
    "  [[ -z $values ]] || compadd -- ${=values}",
    "  case $paths in",
    "    files) _files ;;",
    "    folders) _files -/ ;;",
    "  esac",
    "}",
    "compdef _formant deno",
  );
};

// ---------------------------------------------------------------- fish

const fish = (commands: Commands): string => {
  const quote = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const following = (suggests: Suggestions): string => {
    const values = valuesOf(suggests, commands).join(" ");
    const folders = suggests.paths === "folders"
      ? ["(__fish_complete_directories (commandline -ct))"]
      : [];
    const all = [values, ...folders].filter((part) => part !== "").join(" ");
    return `${suggests.paths === "files" ? "-F" : "-f"}${all === "" ? "" : ` -a ${quote(all)}`}`;
  };
  return lines(
    "# Completes Formant's commands in fish:",
    "#   deno task --quiet completions fish | source",
    "# The word after `task`; nothing where that is the one that is being written.",
    "function __formant_command",
    "    set -l words (commandline -opc)",
    "    set -l at (contains -i -- task $words)",
    "    and set -q words[(math $at + 1)]",
    "    and echo $words[(math $at + 1)]",
    "end",
    "function __formant_is",
    '    test "$(__formant_command)" = $argv[1]',
    "end",
    "function __formant_is_asked",
    '    test "$(commandline -opc)[-1]" = task',
    "end",
    Object.entries(commands).flatMap(([name, command]) => {
      const here = `complete -c deno -n '__formant_is ${name}'`;
      return [
        `complete -c deno -n __formant_is_asked -f -a ${name} -d ${quote(command.summary)}`,
        `${here} ${following(command.words.suggests ?? {})}`,
        ...optionsOf(command).map(({ name, help, suggests }) =>
          `${here} -l ${name} -d ${quote(help)}` +
          (suggests === undefined ? "" : ` -r ${following(suggests)}`)
        ),
      ];
    }),
  );
};

// ---------------------------------------------------------------- the command

const shells: Readonly<Record<string, (commands: Commands) => string>> = { bash, zsh, fish };

export const command = commandOf({
  summary: "prints a script by which bash, zsh or fish completes these commands",
  notes: `\
Prints a script with which a shell completes commands, their options, and known values. Source it
when the shell starts:

  bash  eval "$(deno task --quiet completions bash)"   in ~/.bashrc
  zsh   eval "$(deno task --quiet completions zsh)"    in ~/.zshrc, after compinit
  fish  deno task --quiet completions fish | source    in ~/.config/fish/config.fish

These lines work in a folder of Formant; elsewhere, write the script to a file once and read that.`,
  words: {
    usage: Object.keys(shells).join(" | "),
    suggests: { values: Object.keys(shells) },
    wrong: ([shell, ...others]) =>
      shell === undefined
        ? seeHelp
        : !Object.hasOwn(shells, shell)
        ? `there is no script for '${shell}'; there are ${Object.keys(shells).join(", ")}`
        : others.length > 0
        ? surplus(others)
        : undefined,
  },
  options: {},
  run: async ({ words: [shell] }, load) => {
    console.log(shells[shell](await load()));
    return E.right(0);
  },
});
