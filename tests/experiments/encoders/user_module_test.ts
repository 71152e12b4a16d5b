// Architectures of the user's own: the example of the documentation trains, is saved and embeds; every
// mistake in a module is told in one sentence that names it.
import { assert, assertEquals, assertLess, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { checkpointErrorText, readCheckpoint } from "../../../experiments/encoders/checkpoint.ts";
import { openSource } from "../../../experiments/data/open.ts";
import type { Spec } from "../../../experiments/specs/spec.ts";
import { readSpec, specReadErrorText } from "../../../experiments/specs/read.ts";
import { train } from "../../../experiments/training/train.ts";
import { encoderOf } from "../../../experiments/training/programs.ts";
import { wasm } from "../../support/device.ts";
import { inFolder } from "../../support/small_spec.ts";

const examples = decodeURIComponent(new URL("../../../docs/examples", import.meta.url).pathname);

const little = [
  "clip.frames=40",
  "encoder.dim=16",
  "encoder.depth=2",
  "batch=4",
  "schedule.warmupSteps=2",
  "schedule.steps=60",
  "optimiser.peakLearningRate=0.01",
  "data.clips=12",
  "data.seconds=1",
  "report.examples=1",
  "fidelity=faithful",
];

const sound = (read: E.Either<Parameters<typeof specReadErrorText>[0], Spec>): Spec => {
  assert(E.isRight(read), E.isLeft(read) ? specReadErrorText(read.left) : "");
  return read.right;
};

for (const style of ["ssast", "mae"]) {
  Deno.test(`the example's encoder learns, ${style} style, and its checkpoint can be read`, () =>
    inFolder(async (folder) => {
      const spec = sound(
        await readSpec(`${examples}/mixer.json`, [...little, `objective.style=${style}`])(),
      );
      assertEquals(
        [spec.encoder.family, spec.encoder.order, spec.encoder.positions],
        ["module", "alternating", "sin-cos"],
      );
      const source = await openSource(spec);
      assert(E.isRight(source));
      const result = await train({
        spec,
        backend: wasm,
        source: source.right,
        folder,
        interrupted: () => false,
      });
      assert(E.isRight(result), JSON.stringify(result));
      assertLess(result.right.last, 0.9 * result.right.first, JSON.stringify(result.right));
      // The run's own spec names the module by its whole path.
      const kept = sound(await readSpec(`${folder}/spec.json`)());
      assertEquals(kept, spec);
      const read = await readCheckpoint(`${folder}/checkpoint.safetensors`)();
      assert(E.isRight(read), E.isLeft(read) ? checkpointErrorText(read.left) : "");
      assertEquals(read.right.encoder, encoderOf(spec));
      assert("blocks.1.memory.gate.weight" in read.right.values);
    }));
}

Deno.test("what is wrong with a module is told in a sentence", () =>
  inFolder(async (folder) => {
    const whyNot = async (name: string, code: string | undefined): Promise<string> => {
      if (code !== undefined) await Deno.writeTextFile(`${folder}/${name}.ts`, code);
      const spec = { extends: "mamba", name: "x", encoder: { module: `./${name}.ts` } };
      await Deno.writeTextFile(`${folder}/${name}.json`, JSON.stringify(spec));
      const read = await readSpec(`${folder}/${name}.json`)();
      assert(E.isLeft(read), `${name} was accepted`);
      const text = specReadErrorText(read.left);
      const start = `${folder}/${name}.json: encoder.module: the module ${folder}/${name}.ts `;
      assert(text.startsWith(start), text);
      return text.slice(start.length);
    };
    const house = new URL("../../../mod.ts", import.meta.url).href;
    assertStrictEquals(
      await whyNot("none", undefined),
      "does not exist; a spec names a module relative to its own file",
    );
    assertMatch(await whyNot("broken", "export const block = ("), /^cannot be loaded: /);
    assertMatch(
      await whyNot("throws", "throw new Error('no luck today');"),
      /^cannot be loaded: no luck today$/,
    );
    assertStrictEquals(
      await whyNot("named", "export const blocks = 1; export const more = 2;"),
      "exports no 'block', a function (at, options) => (x) => y; it exports blocks, more",
    );
    assertStrictEquals(
      await whyNot("number", "export const block = 3;"),
      "exports a 'block' that is number, not a function (at, options) => (x) => y",
    );
    assertStrictEquals(
      await whyNot("plain", "export const block = () => 3;"),
      "its 'block' gives no function (x) => y",
    );
    assertStrictEquals(
      await whyNot("value", "export const block = () => () => 3;"),
      "its block gives something that is no tensor",
    );
    assertMatch(
      await whyNot(
        "drops",
        `import { sum } from "${house}"; export const block = () => (x) => sum(x, "token");`,
      ),
      /^its block turns \{.*token: 5.*\} into \{.*channel: 64.*\}; the axes must be the same$/,
    );
    assertMatch(
      await whyNot(
        "axes",
        `import { add, input } from "${house}";
        export const block = () => (x) => add(x, input("y", { token: 6 }));`,
      ),
      /^its block is wrong: .*axis 'token' is 5 on the left but 6 on the right/,
    );
    assertMatch(
      await whyNot("fails", "export const block = () => (x) => x.y.z;"),
      /^its block fails: Cannot read properties of undefined/,
    );
  }));

Deno.test("a checkpoint whose module is gone says so", () =>
  inFolder(async (folder) => {
    const module = `${folder}/gone.ts`;
    const house = new URL("../../../mod.ts", import.meta.url).href;
    await Deno.writeTextFile(
      module,
      `import { linear } from "${house}";
      export const block = (at) => (x) => linear(at, 16)(x);`,
    );
    await Deno.writeTextFile(
      `${folder}/x.json`,
      JSON.stringify({ extends: "mamba", name: "x", encoder: { module: "gone.ts" } }),
    );
    const spec = sound(await readSpec(`${folder}/x.json`, [...little, "schedule.steps=2"])());
    const source = await openSource(spec);
    assert(E.isRight(source));
    const run = { spec, backend: wasm, source: source.right, folder: `${folder}/run` };
    assert(E.isRight(await train({ ...run, interrupted: () => false })));
    await Deno.remove(module);
    // Another process, which has not loaded it.
    const cli = decodeURIComponent(
      new URL("../../../experiments/commands/main.ts", import.meta.url).pathname,
    );
    const checkpoint = `${folder}/run/checkpoint.safetensors`;
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        cli,
        "embed",
        "--checkpoint",
        checkpoint,
        "--out",
        folder,
        folder,
      ],
      stderr: "piped",
    }).output();
    assertStrictEquals(code, 1);
    assertMatch(
      new TextDecoder().decode(stderr),
      /'encoder' in its metadata: the module .*gone\.ts does not exist/,
    );
  }));
