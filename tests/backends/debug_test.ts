// What FORMANT_DEBUG shows, level by level, and that it changes no value.
import { deepStrictEqual, doesNotMatch, match, strictEqual } from "assert";
import * as E from "fp-ts/Either.js";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import { type OpenDevice, openDevice } from "../../backends/webgpu/discover.ts";
import { exp, input, log, named } from "../../dsl/ops.ts";

// Two kernels that have nothing to do with each other.
const bad = named("bad", () => log(input("x", { time: 5 })));
const good = named("good", () => exp(input("z", { channel: 3 })));
const program = {
  outputs: { good: { of: good, order: ["channel"] }, bad: { of: bad, order: ["time"] } },
};

/** What a run says on standard error at a level, and what it gives. */
const shown = async (device: OpenDevice, level: number, values: readonly number[]) => {
  const lines: string[] = [];
  const { error } = console;
  console.error = (...words: readonly unknown[]) => lines.push(words.join(" "));
  Deno.env.set("FORMANT_DEBUG", `${level}`);
  try {
    const machine = await webgpuBackend(device).open({ program });
    const given = { x: Float32Array.from(values), z: new Float32Array(3) };
    const { good, bad } = await machine.run("program", given);
    machine.close();
    return { text: lines.join("\n"), values: [good, bad] };
  } finally {
    Deno.env.delete("FORMANT_DEBUG");
    console.error = error;
  }
};

Deno.test("each level of FORMANT_DEBUG shows more", async () => {
  const found = await openDevice("auto")();
  if (E.isLeft(found)) return console.log("skipped: there is no device");
  const device = found.right, sound = [1, 2, 3, 4, 5], unsound = [1, 2, 0, 4, 5];
  try {
    const silent = await shown(device, 0, unsound);
    strictEqual(silent.text, "");
    const programs = await shown(device, 1, unsound);
    match(
      programs.text,
      /^formant: program 'program': (\d+) kernels, \1 pipelines, 0\.00 MB of .* lowered in \d+ ms, printed in \d+ ms, .*$/,
    );
    const kernels = await shown(device, 2, unsound);
    match(kernels.text, /^ {2}\d map 1x1x1 .*: bad > log$/m);
    match(kernels.text, /^ {2}\d map 1x1x1 .*: good > exp$/m);
    doesNotMatch(kernels.text, /@compute/);
    const code = await shown(device, 3, unsound);
    match(code.text, /: bad > log\n@group\(0\)[^]*@compute/);
    doesNotMatch(code.text, /wrote/);
    const checked = await shown(device, 4, unsound);
    match(
      checked.text,
      /program 'program': the kernel 'bad > log' wrote -Infinity at element 2 of time 5$/m,
    );
    strictEqual(checked.text.match(/wrote/g)!.length, 1, "only the first is told");
    const plain = await shown(device, 0, sound);
    const clean = await shown(device, 4, sound);
    doesNotMatch(clean.text, /wrote/);
    deepStrictEqual(clean.values, plain.values);
  } finally {
    device.close();
  }
});
