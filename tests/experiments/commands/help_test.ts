// Help and completions, which are made of what commands say of themselves.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { KINDS } from "../../../backends/webgpu/discovery/discover.ts";
import {
  type Command,
  commandOf,
  flag,
  neededText,
  noWords,
  oneOf,
  readAsked,
  seeHelp,
  text,
  texts,
  whole,
} from "../../../experiments/commands/command.ts";
import { command as completions } from "../../../experiments/commands/completions.ts";
import { helpText, listText } from "../../../experiments/commands/help.ts";
import { deviceNames } from "../../../experiments/specs/spec.ts";
import { command } from "../../support/commands.ts";
import { inFolder } from "../../support/hear/made.ts";

const paint = commandOf({
  summary: "paints",
  notes: "Paints it's way.",
  words: {
    usage: "WALL...",
    help: { WALL: "what is painted" },
    suggests: { values: ["north", "south"] },
    wrong: (words) => words.length === 0 ? seeHelp : undefined,
  },
  options: {
    colour: neededText("C", "of the paint", "the colour of the paint"),
    brush: oneOf("B", "the user's own, or a new one", ["old", "new"]),
    coats: whole("N", "how often", { from: 1, to: 9, otherwise: 2 }),
    over: texts("THING", "what is painted as well; as often as you like"),
    plan: flag("paints nothing"),
    into: text("DIR", `where ${"a long sentence leads ".repeat(6)}to`, { paths: "folders" }),
  },
  run: () => Promise.resolve(E.right(0)),
});

const rest = commandOf({
  summary: "rests",
  notes: "Rests.",
  words: noWords,
  options: {},
  run: () => Promise.resolve(E.right(0)),
});

Deno.test("arguments are read as what they mean, and the first mistake is told", () => {
  const read = (line: string) => readAsked(paint, line.split(" ").filter((word) => word !== ""));
  assertEquals(read("north --colour red --over a --over=b --coats 3 007"), {
    _tag: "Right",
    right: {
      words: ["north", "007"],
      options: {
        colour: "red",
        brush: undefined,
        coats: 3,
        over: ["a", "b"],
        plan: false,
        into: undefined,
      },
    },
  });
  assertEquals(read("--odd -h"), E.right("help"));
  for (
    const [line, sentence] of [
      ["--odd", "Unknown option '--odd'"],
      ["north", "--colour C is missing: the colour of the paint"],
      ["--colour red", seeHelp],
      ["--colour red --brush own north", "--brush: expected old or new, found 'own'"],
      ["--colour red --coats 10 north", "--coats: expected a whole number from 1 to 9, found '10'"],
      [
        "--colour red --coats 1.5 north",
        "--coats: expected a whole number from 1 to 9, found '1.5'",
      ],
      ["--colour --plan", "Option '--colour <value>' argument missing"],
      ["--plan=no", "Option '--plan' does not take an argument"],
    ] as const
  ) assertEquals(read(line), E.left(sentence), line);
  assertEquals(readAsked(rest, ["now"]), E.left("there is nothing to do with 'now'"));
});

Deno.test("help is usage, notes and a table, within a terminal's width", () => {
  const help = helpText("paint", paint);
  assertStrictEquals(
    help.split("\n").slice(0, 7).join("\n"),
    `\
deno task paint --colour C WALL... [--brush B] [--coats N] [--over THING]... [--plan] [--into DIR]

Paints it's way.

  WALL          what is painted
  --colour C    of the paint
  --brush B     the user's own, or a new one`,
  );
  assertMatch(help, /^ {2}--coats N {5}how often \(default 2\)$/m);
  assert(help.split("\n").every((line) => line.length <= 100));
  assertStrictEquals(helpText("rest", rest), "deno task rest\n\nRests.");
  assertMatch(listText({ paint, rest }), /^ {2}paint {2}paints\n {2}rest {3}rests$/m);
});

/** What the command line prints. */
const said = async (...args: readonly string[]) => {
  const { code, stdout, stderr } = await command(".", args).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
};

Deno.test("--help, help and no command list what deno.json has tasks for", async () => {
  const [asked, help, none] = await Promise.all([said("--help"), said("help"), said()]);
  assertEquals([asked.code, help.code, none.code], [0, 0, 2]);
  assertStrictEquals(asked.out, help.out);
  assert(none.err.includes(help.out.trim()), none.err);
  const listed = [...help.out.matchAll(/^ {2}(\w+) {2}/gm)].map(([, name]) => name);
  const { tasks } = JSON.parse(
    Deno.readTextFileSync(new URL("../../../deno.json", import.meta.url)),
  );
  for (const name of listed) assertMatch(tasks[name] ?? "", new RegExp(`\\.ts ${name}$`), name);
  const every = await said("help", ...listed);
  assertStrictEquals(every.code, 0);
  for (const block of every.out.split(/^(?=deno task )/m)) {
    const lines = block.split("\n").filter((line) => line !== "");
    assertEquals(lines, [...new Set(lines)], "a line stands twice");
  }
  assertStrictEquals((await said("help", "embed")).out, (await said("embed", "--help")).out);
  assertMatch((await said("help", "train")).err, /there is no command 'train'; the commands are/);
});

Deno.test("the devices are those that can be opened", () => {
  assertEquals([...deviceNames].sort(), ["auto", "reference", "wasm", ...KINDS].sort());
});

/** The script for a shell, of some commands. */
const script = async (shell: string, commands: Readonly<Record<string, Command>>) => {
  const printed: string[] = [], { log } = console;
  console.log = (text: string) => printed.push(text);
  try {
    const asked = { options: {}, words: [shell] };
    assertEquals(await completions.run(asked, () => Promise.resolve(commands)), E.right(0));
  } finally {
    console.log = log;
  }
  return printed.join("\n");
};

/** The output of a shell, or undefined where there is none. */
const shell = async (name: string, args: readonly string[], cwd: string) => {
  try {
    const { success, stdout, stderr } = await new Deno.Command(name, { args: [...args], cwd })
      .output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assert(success, err);
    assertStrictEquals(err, "");
    return out;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log(`${name} is not installed here; its completions are not tried`);
    return undefined;
  }
};

Deno.test("bash completes commands, options, values and paths", () =>
  inFolder(async (folder) => {
    Deno.mkdirSync(`${folder}/a folder`);
    Deno.writeTextFileSync(`${folder}/a file`, "");
    const text = await script("bash", { paint, rest, completions });
    Deno.writeTextFileSync(
      `${folder}/script`,
      `before() { COMPREPLY=(before); }
complete -F before deno
. ./formant
. ./formant # Twice is as once.
try() { COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _formant; (IFS=,; echo "\${COMPREPLY[*]}"); }
complete -p deno
try deno ta
try deno task ""
try deno task pa
try deno task other ""
try deno task paint ""
try deno task paint n
try deno task paint north --c
try deno task paint --plan ""
try deno task paint --brush ""
try deno task paint --brush = n
try deno task paint --brush =
try deno task paint --into a
try deno task paint --over ""
try deno task --colour ""
try deno task completions ""
try deno task rest --
`,
    );
    Deno.writeTextFileSync(`${folder}/formant`, text);
    const out = await shell("bash", ["--norc", "script"], folder);
    if (out === undefined) return;
    assertEquals(out.trimEnd().split("\n"), [
      "complete -o bashdefault -F _formant deno",
      "before",
      "paint,rest,completions",
      "paint",
      "before",
      "north,south",
      "north",
      "--colour,--coats",
      "north,south",
      "old,new",
      "new",
      "old,new",
      "a folder",
      "",
      "before",
      "bash,zsh,fish",
      "--help",
    ]);
  }));

Deno.test("zsh reads its script", () =>
  inFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/formant`, await script("zsh", { paint, rest, completions }));
    await shell("zsh", ["-n", "formant"], folder);
  }));

Deno.test("fish completes commands, options and values", () =>
  inFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/formant`, await script("fish", { paint, rest, completions }));
    const lines = ["task pa", "task paint n", "task paint --coa", "task paint --brush "];
    const tried = lines.map((line) => `complete -C 'deno ${line}'`).join("\n");
    Deno.writeTextFileSync(`${folder}/script`, `source formant\n${tried}\n`);
    const out = await shell("fish", ["--no-config", "script"], folder);
    if (out === undefined) return;
    assertEquals(out.trimEnd().split("\n"), [
      "paint\tpaints",
      "north",
      "--coats\thow often (default 2)",
      "new\tthe user's own, or a new one",
      "old\tthe user's own, or a new one",
    ]);
  }));
