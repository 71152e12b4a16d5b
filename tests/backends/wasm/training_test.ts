// Training steps of the published tiny encoders as WebAssembly: kernels, distinct functions, planned
// bytes, what the process then really takes, and how long the default step takes to compile.
import { assertLess, assertLessOrEqual } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { compile } from "../../../backends/wasm/compile.ts";
import type { FamilyName } from "../../../models/sizes.ts";
import { readSpec } from "../../../experiments/specs/read.ts";
import { programsOf } from "../../../experiments/training/programs.ts";
import { tinyStep } from "../../support/tiny_steps.ts";
import type { Memory } from "./memory.ts";

/** Most of each in a training step of twelve blocks with everything around them. */
interface Most {
  readonly kernels: number;
  /** Calls of functions; a product is two, and each small value that is turned is one. */
  readonly calls: number;
  readonly functions: number;
  /** Bytes of intermediate values, in millions. */
  readonly megabytes: number;
  /** Scratch memory of each thread, in thousands of bytes. */
  readonly scratch: number;
}

const most: Readonly<Record<FamilyName, Most>> = {
  transformer: { kernels: 388, calls: 612, functions: 102, megabytes: 355, scratch: 160 },
  mamba: { kernels: 342, calls: 517, functions: 83, megabytes: 392, scratch: 215 },
  xlstm: { kernels: 645, calls: 913, functions: 109, megabytes: 500, scratch: 160 },
};

for (const family of Object.keys(most) as FamilyName[]) {
  Deno.test(`${family}-tiny: kernels, functions and bytes as WebAssembly`, () => {
    const { lowered, steps, arenaBytes, scratchBytes } = compile(tinyStep(family, "all", 12), {
      engine: { relaxed: true, wide: false },
    });
    const launches = steps.flatMap((step) => step.launches);
    const functions = new Set(launches.map(({ func }) => `${func.locals} ${func.body}`)).size;
    const found: Most = {
      kernels: lowered.kernels.length,
      calls: launches.length,
      functions,
      megabytes: arenaBytes / 1e6,
      scratch: scratchBytes / 1e3,
    };
    for (const [key, value] of Object.entries(found)) {
      const limit = most[family][key as keyof Most];
      assertLessOrEqual(value, limit, `${value} ${key}, at most ${limit}`);
    }
  });
}

Deno.test("a tiny training step takes no more than 1.5 times the memory that is planned", async () => {
  if (Deno.build.os !== "linux") return console.log("skipped: only Linux says how much it was");
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", new URL("./memory.ts", import.meta.url).pathname, "mamba"],
    stderr: "inherit",
  }).output();
  const { planned, before, most }: Memory = JSON.parse(new TextDecoder().decode(stdout));
  const ratio = (most - before) / planned;
  assertLessOrEqual(ratio, 1.5, `${ratio} times ${planned} bytes`);
});

Deno.test("the default training step compiles in seconds", async () => {
  const spec = await readSpec("mamba", [])();
  if (E.isLeft(spec)) throw new Error(JSON.stringify(spec.left));
  const { programs } = programsOf(spec.right);
  const began = performance.now();
  compile(programs.train, { engine: { relaxed: true, wide: false } });
  const seconds = (performance.now() - began) / 1000;
  console.log(`compiled in ${seconds.toFixed(2)} s`);
  // Two seconds on a machine that has nothing else to do, which this need not be.
  assertLess(seconds, 8, `${seconds} seconds`);
});
