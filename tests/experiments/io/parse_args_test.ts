// The stand-in for `@std/cli/parse-args`, by what the package's documentation says of each option; and
// what arguments.ts makes of it, which tells users what parseArgs lets pass.
import { deepStrictEqual } from "assert";
import * as E from "fp-ts/Either.js";
import { parseArgs } from "@std/cli/parse-args";
import { readArguments } from "../../../experiments/io/arguments.ts";

const words = (line: string): string[] => line.split(" ").filter((word) => word !== "");

Deno.test("without more said, options are flags, numbers or text", () => {
  deepStrictEqual(parseArgs(words("-a beep -b boop")), { a: "beep", b: "boop", _: [] });
  deepStrictEqual(parseArgs(words("-x 3 -y 4 -n5 -abc --beep=boop foo bar baz")), {
    x: 3,
    y: 4,
    n: 5,
    a: true,
    b: true,
    c: true,
    beep: "boop",
    _: ["foo", "bar", "baz"],
  });
  deepStrictEqual(parseArgs(words("--on --far 1e3 --near=-5 --hex 0xff -f=1 -o=a=b 7 -")), {
    on: true,
    far: 1000,
    near: -5,
    hex: 255,
    f: 1,
    o: "a=b",
    _: [7, "-"],
  });
  // What begins with a dash is no value; numbers below 0 take `=`.
  deepStrictEqual(parseArgs(words("--near -5")), { near: true, 5: true, _: [] });
  deepStrictEqual(parseArgs(["--a="]), { a: "", _: [] });
});

Deno.test("names may be those of what objects inherit", () => {
  const { _, ...given } = parseArgs(words("--__proto__ x --constructor=y"));
  deepStrictEqual(Object.entries(given), [["__proto__", "x"], ["constructor", "y"]]);
  deepStrictEqual(Object.getPrototypeOf({}), Object.prototype);
});

Deno.test("boolean: no value is taken but true and false, and false is the default", () => {
  const options = { boolean: ["json", "plan"] } as const;
  deepStrictEqual(parseArgs(words("--json a.json"), options), {
    json: true,
    plan: false,
    _: ["a.json"],
  });
  deepStrictEqual(parseArgs(words("--json=false --plan true"), options), {
    json: false,
    plan: true,
    _: [],
  });
  deepStrictEqual(parseArgs(["--json", "a"], { boolean: "json" }), { json: true, _: ["a"] });
  // All that begin with two dashes and have no `=`.
  deepStrictEqual(parseArgs(words("--a b -c d --e=f"), { boolean: true }), {
    a: true,
    c: "d",
    e: "f",
    _: ["b"],
  });
});

Deno.test("string: always text, empty where there is no value", () => {
  const options = { string: ["seed", "out", "_"] } as const;
  deepStrictEqual(parseArgs(words("--seed 007 5"), options), { seed: "007", _: ["5"] });
  deepStrictEqual(parseArgs(words("--seed --out=3"), options), { seed: "", out: "3", _: [] });
  deepStrictEqual(parseArgs(["--seed"], options), { seed: "", _: [] });
  deepStrictEqual(parseArgs(words("--seed 1 --seed 2"), options), { seed: "2", _: [] });
  deepStrictEqual(parseArgs([], options), { _: [] });
});

Deno.test("collect: all values, none by default", () => {
  const options = { string: "set", collect: ["set", "n"] } as const;
  deepStrictEqual(parseArgs(words("--set a=1 --set 2 --n 3 --n=4"), options), {
    set: ["a=1", "2"],
    n: [3, 4],
    _: [],
  });
  deepStrictEqual(parseArgs([], options), { set: [], n: [], _: [] });
});

Deno.test("negatable: --no-NAME is false, where it is said so", () => {
  const options = { boolean: ["color"], negatable: ["color"], default: { color: true } } as const;
  deepStrictEqual(parseArgs([], options), { color: true, _: [] });
  deepStrictEqual(parseArgs(["--no-color"], options), { color: false, _: [] });
  deepStrictEqual(parseArgs(["--no-color"]), { "no-color": true, _: [] });
});

Deno.test("default and alias: every name has the value", () => {
  const options = {
    string: ["device"],
    alias: { device: ["d", "on"], help: "h" },
    default: { device: "auto" },
    boolean: ["help"],
  } as const;
  const both = { help: false, h: false, _: [] };
  const of = (device: string) => ({ device, d: device, on: device, ...both });
  deepStrictEqual({ ...parseArgs([], options) }, of("auto"));
  deepStrictEqual({ ...parseArgs(words("-d 5"), options) }, of("5"));
  deepStrictEqual({ ...parseArgs(words("--on wasm"), options) }, of("wasm"));
  deepStrictEqual({ ...parseArgs(["-h"], options) }, { ...of("auto"), help: true, h: true });
});

Deno.test("stopEarly and --: the rest is left as it is", () => {
  const line = words("--a=1 run --b 2");
  deepStrictEqual(parseArgs(line), { a: 1, b: 2, _: ["run"] });
  deepStrictEqual(parseArgs(line, { stopEarly: true }), { a: 1, _: ["run", "--b", "2"] });
  deepStrictEqual(parseArgs(words("x -- --a 1")), { _: ["x", "--a", "1"] });
  deepStrictEqual(parseArgs(words("x -- --a 1"), { "--": true }), {
    "--": ["--a", "1"],
    _: ["x"],
  });
});

Deno.test("unknown: called with what nobody declared, which false leaves out", () => {
  const calls: unknown[][] = [];
  const unknown = (...call: unknown[]) => {
    calls.push(call);
    return call[1] === undefined;
  };
  const line = words("--known 1 -k 2 --odd 3 --other=4 -z word");
  deepStrictEqual(parseArgs(line, { string: "known", alias: { known: "k" }, unknown }), {
    known: "2",
    k: "2",
    _: [],
  });
  deepStrictEqual(calls, [
    ["--odd", "odd", 3],
    ["--other=4", "other", 4],
    ["-z", "z", "word"],
  ]);
  deepStrictEqual(parseArgs(["a", "b"], { unknown: (arg) => arg !== "a" }), { _: ["b"] });
});

Deno.test("types say what an option comes to", () => {
  const of = parseArgs([], {
    boolean: ["json"],
    string: ["out", "set"],
    collect: ["set"],
    default: { out: "runs" },
  });
  const typed: { json: boolean; out: string; set: string[]; _: (string | number)[] } = of;
  deepStrictEqual(typed.out, "runs");
});

const names = { flags: ["json"], texts: ["seed"], lists: ["set"] } as const;
const told = (line: string): unknown => {
  const of = readArguments(words(line), names);
  return E.isLeft(of) ? of.left : of.right;
};

Deno.test("arguments are options by name and words", () => {
  deepStrictEqual(told("a"), {
    flags: { json: false },
    texts: {},
    lists: { set: [] },
    words: ["a"],
    help: false,
  });
  deepStrictEqual(told("a --set x=1 --seed -- --json"), "Option '--seed <value>' argument missing");
  deepStrictEqual(told("a --set x=1 --set=y --seed=-3 007 -- --json"), {
    flags: { json: false },
    texts: { seed: "-3" },
    lists: { set: ["x=1", "y"] },
    words: ["a", "007", "--json"],
    help: false,
  });
});

Deno.test("what there is not, is missing or too much is told, but not where help is asked for", () => {
  deepStrictEqual(told("--steps=3 --odd"), "Unknown option '--steps'");
  deepStrictEqual(told("a -x 3"), "Unknown option '-x'");
  deepStrictEqual(told("--no-json"), "Unknown option '--no-json'");
  deepStrictEqual(told("--schedule.steps 3"), "Unknown option '--schedule.steps'");
  deepStrictEqual(told("--set --json"), "Option '--set <value>' argument missing");
  deepStrictEqual(told("--seed="), "Option '--seed <value>' argument missing");
  deepStrictEqual(told("--json=yes"), "Option '--json' does not take an argument");
  for (const line of ["--odd --help", "-h", "--seed --help"]) {
    deepStrictEqual((told(line) as { help: boolean }).help, true, line);
  }
});
