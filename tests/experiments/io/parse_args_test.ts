// The stand-in for `@std/cli/parse-args`, by what the package's documentation says of each option; and
// what arguments.ts makes of it, which tells users what parseArgs lets pass.
import { assertEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { parseArgs } from "@std/cli/parse-args";
import { readArguments } from "../../../experiments/io/arguments.ts";

const words = (line: string): string[] => line.split(" ").filter((word) => word !== "");

Deno.test("without more said, options are flags, numbers or text", () => {
  assertEquals<unknown>(parseArgs(words("-a beep -b boop")), { a: "beep", b: "boop", _: [] });
  assertEquals<unknown>(parseArgs(words("-x 3 -y 4 -n5 -abc --beep=boop foo bar baz")), {
    x: 3,
    y: 4,
    n: 5,
    a: true,
    b: true,
    c: true,
    beep: "boop",
    _: ["foo", "bar", "baz"],
  });
  assertEquals<unknown>(parseArgs(words("--on --far 1e3 --near=-5 --hex 0xff -f=1 -o=a=b 7 -")), {
    on: true,
    far: 1000,
    near: -5,
    hex: 255,
    f: 1,
    o: "a=b",
    _: [7, "-"],
  });
  // What begins with a dash is no value; numbers below 0 take `=`.
  assertEquals<unknown>(parseArgs(words("--near -5")), { near: true, 5: true, _: [] });
  assertEquals<unknown>(parseArgs(["--a="]), { a: "", _: [] });
});

Deno.test("names may be those of what objects inherit", () => {
  const { _, ...given } = parseArgs(words("--__proto__ x --constructor=y"));
  assertEquals<unknown>(Object.entries(given), [["__proto__", "x"], ["constructor", "y"]]);
  assertEquals<unknown>(Object.getPrototypeOf({}), Object.prototype);
});

Deno.test("boolean: no value is taken but true and false, and false is the default", () => {
  const options = { boolean: ["json", "plan"] } as const;
  assertEquals<unknown>(parseArgs(words("--json a.json"), options), {
    json: true,
    plan: false,
    _: ["a.json"],
  });
  assertEquals<unknown>(parseArgs(words("--json=false --plan true"), options), {
    json: false,
    plan: true,
    _: [],
  });
  assertEquals<unknown>(parseArgs(["--json", "a"], { boolean: "json" }), { json: true, _: ["a"] });
  // All that begin with two dashes and have no `=`.
  assertEquals<unknown>(parseArgs(words("--a b -c d --e=f"), { boolean: true }), {
    a: true,
    c: "d",
    e: "f",
    _: ["b"],
  });
});

Deno.test("string: always text, empty where there is no value", () => {
  const options = { string: ["seed", "out", "_"] } as const;
  assertEquals<unknown>(parseArgs(words("--seed 007 5"), options), { seed: "007", _: ["5"] });
  assertEquals<unknown>(parseArgs(words("--seed --out=3"), options), { seed: "", out: "3", _: [] });
  assertEquals<unknown>(parseArgs(["--seed"], options), { seed: "", _: [] });
  assertEquals<unknown>(parseArgs(words("--seed 1 --seed 2"), options), { seed: "2", _: [] });
  assertEquals<unknown>(parseArgs([], options), { _: [] });
});

Deno.test("collect: all values, none by default", () => {
  const options = { string: "set", collect: ["set", "n"] } as const;
  assertEquals<unknown>(parseArgs(words("--set a=1 --set 2 --n 3 --n=4"), options), {
    set: ["a=1", "2"],
    n: [3, 4],
    _: [],
  });
  assertEquals<unknown>(parseArgs([], options), { set: [], n: [], _: [] });
});

Deno.test("negatable: --no-NAME is false, where it is said so", () => {
  const options = { boolean: ["color"], negatable: ["color"], default: { color: true } } as const;
  assertEquals<unknown>(parseArgs([], options), { color: true, _: [] });
  assertEquals<unknown>(parseArgs(["--no-color"], options), { color: false, _: [] });
  assertEquals<unknown>(parseArgs(["--no-color"]), { "no-color": true, _: [] });
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
  assertEquals<unknown>({ ...parseArgs([], options) }, of("auto"));
  assertEquals<unknown>({ ...parseArgs(words("-d 5"), options) }, of("5"));
  assertEquals<unknown>({ ...parseArgs(words("--on wasm"), options) }, of("wasm"));
  assertEquals<unknown>({ ...parseArgs(["-h"], options) }, { ...of("auto"), help: true, h: true });
});

Deno.test("stopEarly and --: the rest is left as it is", () => {
  const line = words("--a=1 run --b 2");
  assertEquals<unknown>(parseArgs(line), { a: 1, b: 2, _: ["run"] });
  assertEquals<unknown>(parseArgs(line, { stopEarly: true }), { a: 1, _: ["run", "--b", "2"] });
  assertEquals<unknown>(parseArgs(words("x -- --a 1")), { _: ["x", "--a", "1"] });
  assertEquals<unknown>(parseArgs(words("x -- --a 1"), { "--": true }), {
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
  assertEquals<unknown>(parseArgs(line, { string: "known", alias: { known: "k" }, unknown }), {
    known: "2",
    k: "2",
    _: [],
  });
  assertEquals<unknown>(calls, [
    ["--odd", "odd", 3],
    ["--other=4", "other", 4],
    ["-z", "z", "word"],
  ]);
  assertEquals<unknown>(parseArgs(["a", "b"], { unknown: (arg) => arg !== "a" }), { _: ["b"] });
});

Deno.test("types say what an option comes to", () => {
  const of = parseArgs([], {
    boolean: ["json"],
    string: ["out", "set"],
    collect: ["set"],
    default: { out: "runs" },
  });
  const typed: { json: boolean; out: string; set: string[]; _: (string | number)[] } = of;
  assertEquals<unknown>(typed.out, "runs");
});

const names = { flags: ["json"], texts: ["seed"], lists: ["set"] } as const;
const told = (line: string): unknown => {
  const of = readArguments(words(line), names);
  return E.isLeft(of) ? of.left : of.right;
};

Deno.test("arguments are options by name and words", () => {
  assertEquals<unknown>(told("a"), {
    flags: { json: false },
    texts: {},
    lists: { set: [] },
    words: ["a"],
    help: false,
  });
  assertEquals<unknown>(
    told("a --set x=1 --seed -- --json"),
    "Option '--seed <value>' argument missing",
  );
  assertEquals<unknown>(told("a --set x=1 --set=y --seed=-3 007 -- --json"), {
    flags: { json: false },
    texts: { seed: "-3" },
    lists: { set: ["x=1", "y"] },
    words: ["a", "007", "--json"],
    help: false,
  });
});

Deno.test("what there is not, is missing or too much is told, but not where help is asked for", () => {
  assertEquals<unknown>(told("--steps=3 --odd"), "Unknown option '--steps'");
  assertEquals<unknown>(told("a -x 3"), "Unknown option '-x'");
  assertEquals<unknown>(told("--no-json"), "Unknown option '--no-json'");
  assertEquals<unknown>(told("--schedule.steps 3"), "Unknown option '--schedule.steps'");
  assertEquals<unknown>(told("--set --json"), "Option '--set <value>' argument missing");
  assertEquals<unknown>(told("--seed="), "Option '--seed <value>' argument missing");
  assertEquals<unknown>(told("--json=yes"), "Option '--json' does not take an argument");
  for (const line of ["--odd --help", "-h", "--seed --help"]) {
    assertEquals<unknown>((told(line) as { help: boolean }).help, true, line);
  }
});
