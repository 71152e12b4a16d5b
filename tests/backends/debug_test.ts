// What FORMANT_DEBUG shows, level by level, and that it changes no value.
import { assertMatch, assertNotMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import { wasmBackend } from "../../backends/wasm/backend.ts";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import { openDevice } from "../../backends/webgpu/discovery/discover.ts";
import { exp, input, log, named } from "../../dsl/ops.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

// Two kernels that have nothing to do with each other.
const bad = named("bad", () => log(input("x", { time: 5 })));
const good = named("good", () => exp(input("z", { channel: 3 })));
const program = {
  outputs: { good: { of: good, order: ["channel"] }, bad: { of: bad, order: ["time"] } },
};

// One that stands before it, of kernels that must not be taken for its own.
const before = {
  outputs: { low: { of: log(input("low", { time: 5 })), order: ["time"] } },
};

/** What a run says on standard error at a level, and what it gives. */
const shown = async (open: () => Backend, level: number, values: readonly number[]) => {
  const lines: string[] = [];
  const { error } = console;
  console.error = (...words: readonly unknown[]) => lines.push(words.join(" "));
  Deno.env.set("FORMANT_DEBUG", `${level}`);
  try {
    const machine = await open().open({ before, program });
    const given = { x: Float32Array.from(values), z: new Float32Array(3) };
    const { good, bad } = await machine.run("program", given);
    machine.close();
    return { text: lines.join("\n"), values: [good, bad] };
  } finally {
    Deno.env.delete("FORMANT_DEBUG");
    console.error = error;
  }
};

/** What is said of a device's code. */
interface Words {
  readonly pieces: string;
  readonly grid: string;
  readonly code: RegExp;
}

const check = async (open: () => Backend, { pieces, grid, code }: Words) => {
  // WGSL leaves open what the log of zero is, but not what infinite values are that it reads.
  const sound = [1, 2, 3, 4, 5], unsound = [1, 2, Infinity, 4, 5];
  const silent = await shown(open, 0, unsound);
  assertStrictEquals(silent.text, "");
  const programs = await shown(open, 1, unsound);
  assertMatch(
    programs.text,
    new RegExp(
      `^formant: program 'program': (\\d+) kernels, \\1 ${pieces}, 0\\.00 MB of .* ` +
        `lowered in \\d+ ms, printed in \\d+ ms, ${pieces} .*$`,
      "m",
    ),
  );
  const kernels = await shown(open, 2, unsound);
  assertMatch(kernels.text, new RegExp(`^ {2}\\d map ${grid} .*: bad > log$`, "m"));
  assertMatch(kernels.text, new RegExp(`^ {2}\\d map ${grid} .*: good > exp$`, "m"));
  assertNotMatch(kernels.text, code);
  const all = await shown(open, 3, unsound);
  assertMatch(all.text, code);
  assertNotMatch(all.text, /wrote/);
  const checked = await shown(open, 4, unsound);
  assertMatch(
    checked.text,
    /program 'program': the kernel 'bad > log' wrote Infinity at element 2 of time 5$/m,
  );
  assertStrictEquals(checked.text.match(/wrote/g)!.length, 1, "only the first is told");
  const plain = await shown(open, 0, sound);
  const clean = await shown(open, 4, sound);
  assertNotMatch(clean.text, /wrote/);
  assertSameNumbers(clean.values, plain.values);
};

Deno.test("each level of FORMANT_DEBUG shows more, on WebGPU", async () => {
  const found = await openDevice("auto")();
  if (E.isLeft(found)) return console.log("skipped: there is no device");
  const device = found.right;
  try {
    await check(() => webgpuBackend(device), {
      pieces: "pipelines",
      grid: "1x1x1",
      code: /: bad > log\n@group\(0\)[^]*@compute/,
    });
  } finally {
    device.close();
  }
});

Deno.test("each level of FORMANT_DEBUG shows more, as WebAssembly", async () => {
  const opened: Backend[] = [];
  const open = () => {
    opened.push(wasmBackend({ threads: 2 }));
    return opened.at(-1)!;
  };
  await check(open, {
    pieces: "functions",
    grid: "1",
    code: /: bad > log\n;; 1 units of work[^]*f32x4\.convert_i32x4_s/,
  });
  opened.forEach((backend) => backend.close());
});
