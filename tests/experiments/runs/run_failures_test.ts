// What the world does to a run: a full disk, data that goes away, a folder that belongs to another.
// Each is told in one sentence, and nothing that was done is lost.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { openSource } from "../../../experiments/data/open.ts";
import type { Source } from "../../../experiments/data/clips/source.ts";
import { readMetrics } from "../../../experiments/training/metrics.ts";
import { decode } from "../../../backends/runtime/safetensors.ts";
import type { Spec } from "../../../experiments/specs/spec.ts";
import { train } from "../../../experiments/training/train.ts";
import { isBusy, lock, readRecord } from "../../../experiments/training/run_folder.ts";
import { savedSteps } from "../../../experiments/training/checkpoints.ts";
import { wasm } from "../../support/device.ts";
import { inFolder, littleSpec as little } from "../../support/small_spec.ts";

/** Runs a spec; `around` may stand between the run and its clips. */
const run = async (
  spec: Spec,
  folder: string,
  { resume = false, around = (source: Source): Source => source } = {},
) => {
  const source = await openSource(spec);
  assert(E.isRight(source));
  return await train({
    spec,
    backend: wasm,
    source: around(source.right),
    folder,
    resume,
    interrupted: () => false,
  });
};

const whyNot = (result: E.Either<{ readonly message: string }, unknown>): string => {
  assert(E.isLeft(result), JSON.stringify(result));
  return result.left.message;
};

const bytes = (path: string) => Deno.readFileSync(path);

/** A source that does something once, when the clips of a step are asked for. */
const atStep = (step: number, batch: number, act: () => void) => (source: Source): Source => ({
  ...source,
  batch: (first, count) => {
    if (first === step * batch) act();
    return source.batch(first, count);
  },
});

Deno.test({
  name: "a disk that is full at a checkpoint: the one before stays, and the run goes on from it",
  // What takes no byte, ever.
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inFolder(async (folder) => {
      const spec = little(), at = `${folder}/run`;
      assert(E.isRight(await run(spec, `${folder}/untouched`)));
      const cases = [
        { file: "checkpoints/step-0000006.safetensors", step: 5, saved: [4, 2] },
        // The last step's: a run that goes on has nothing else to do.
        { file: "checkpoint.safetensors", step: 7, saved: [6, 4] },
      ];
      for (const { file, step, saved } of cases) {
        const full = () => Deno.symlinkSync("/dev/full", `${at}/${file}.partial`);
        const resume = saved[0] === 6;
        const stopped = whyNot(
          await run(spec, at, { resume, around: atStep(step, spec.batch, full) }),
        );
        assertMatch(stopped, /^cannot write the file .*: the disk is full; make room .*;/);
        assert(stopped.includes(`${at}/${file}: `), stopped);
        assert(
          stopped.endsWith(
            `; the checkpoint of step ${saved[0]} is in ${at}, and --resume goes on from it`,
          ),
          stopped,
        );
        assertEquals(savedSteps(at), saved);
        assert(E.isRight(decode(bytes(`${at}/checkpoint.safetensors`))));
        assertEquals(readRecord(at)?.state, "stopped");
      }
      assert(E.isRight(await run(spec, at, { resume: true })));
      for (const name of ["checkpoint.safetensors", "metrics.jsonl"]) {
        assertEquals(bytes(`${at}/${name}`), bytes(`${folder}/untouched/${name}`), name);
      }
      assertEquals(readRecord(at)?.state, "finished");
    }),
});

Deno.test({
  name: "a disk that is full from the start is told by the file that could not be written",
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inFolder(async (folder) => {
      Deno.symlinkSync("/dev/full", `${folder}/metrics.jsonl.new`);
      assertMatch(
        whyNot(await run(little(), folder)),
        /^.*metrics\.jsonl could not be written: the disk is full; .*; there is no checkpoint yet$/,
      );
    }),
});

Deno.test("data that goes away: what was done is saved first, and the run goes on with it back", () =>
  inFolder(async (folder) => {
    const spec = little(), at = `${folder}/run`;
    assert(E.isRight(await run(spec, `${folder}/untouched`)));
    const gone = (source: Source): Source => ({
      ...source,
      batch: (first, count) =>
        first >= 5 * spec.batch
          ? Promise.resolve(
            E.left({ _tag: "DataGone", path: "sounds/a.wav", reason: "there is no such file" }),
          )
          : source.batch(first, count),
    });
    assertMatch(
      whyNot(await run(spec, at, { around: gone })),
      /^sounds\/a\.wav can no longer be read: there is no such file; put it back and resume the run; the checkpoint of step 5 is in/,
    );
    assertEquals(savedSteps(at), [5, 4]);
    assert(E.isRight(await run(spec, at, { resume: true })));
    for (const name of ["checkpoint.safetensors", "metrics.jsonl"]) {
      assertEquals(bytes(`${at}/${name}`), bytes(`${folder}/untouched/${name}`), name);
    }
  }));

Deno.test("an unfinished run is not overwritten, and goes on only with its own spec", () =>
  inFolder(async (folder) => {
    const spec = little();
    const stopping = (source: Source): Source => ({
      ...source,
      batch: (first, count) =>
        first >= 3 * spec.batch
          ? Promise.resolve(E.left({ _tag: "DataGone", path: "x", reason: "gone" }))
          : source.batch(first, count),
    });
    whyNot(await run(spec, folder, { around: stopping }));
    const before = bytes(`${folder}/checkpoint.safetensors`);
    assertMatch(
      whyNot(await run(spec, folder)),
      /holds this run up to step 3; add --resume to go on with it, give another folder with --out, or/,
    );
    const other = little({ seed: 1, encoder: { ...spec.encoder, depth: 2 } });
    assertMatch(
      whyNot(await run(other, folder)),
      /unfinished run of another spec, up to step 3; .*\n {2}seed: 0 there, 1 here\n {2}encoder\.depth: 1 there, 2 here$/,
    );
    assertMatch(
      whyNot(await run(other, folder, { resume: true })),
      /cannot go on with another spec\n {2}seed: 0 there, 1 here\n {2}encoder\.depth: 1 there, 2 here$/,
    );
    assertEquals(bytes(`${folder}/checkpoint.safetensors`), before);
    // Where it is computed is no difference.
    assert(E.isRight(await run({ ...spec, device: "wasm" }, folder, { resume: true })));
    const lines = readMetrics(`${folder}/metrics.jsonl`);
    assert(E.isRight(lines));
    assertEquals(lines.right.map(({ step }) => step), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    // A finished run may be replaced, and one that is resumed has nothing left to do.
    assert(E.isRight(await run({ ...spec, device: "wasm" }, folder, { resume: true })));
    assert(E.isRight(await run(other, folder)));
    assertStrictEquals(JSON.parse(Deno.readTextFileSync(`${folder}/spec.json`)).seed, 1);
  }));

Deno.test("a run goes on with the clips that it began with, and no others", () =>
  inFolder(async (folder) => {
    const spec = little();
    const stopping = (source: Source): Source => ({
      ...source,
      batch: (first, count) =>
        first >= 3 * spec.batch
          ? Promise.resolve(E.left({ _tag: "DataGone", path: "x", reason: "gone" }))
          : source.batch(first, count),
    });
    whyNot(await run(spec, folder, { around: stopping }));
    const others = (source: Source): Source => ({ ...source, identity: "other clips" });
    assertMatch(
      whyNot(await run(spec, folder, { resume: true, around: others })),
      /^the data is not what it was when the run in .* began: then 4 clips to train on and 2 held out, \w+; now other clips; put back what was there, or start another run with --out$/,
    );
    assert(E.isRight(await run(spec, folder, { resume: true })));
  }));

Deno.test("a damaged checkpoint is told, and the one before it is used", () =>
  inFolder(async (folder) => {
    const spec = little();
    let asked = 0;
    const source = await openSource(spec);
    assert(E.isRight(source));
    whyNot(
      await train({
        spec,
        backend: wasm,
        source: source.right,
        folder,
        interrupted: () => ++asked > 6,
      }),
    );
    const [last, before] = savedSteps(folder);
    assertEquals([last, before], [6, 4]);
    const file = (step: number) => `${folder}/checkpoints/step-000000${step}.safetensors`;
    const cut = (step: number) => Deno.writeFileSync(file(step), bytes(file(step)).slice(0, 1000));
    cut(6);
    assert(E.isRight(await run(spec, folder, { resume: true })));
    cut(8);
    Deno.removeSync(file(6));
    assertMatch(
      whyNot(await run(spec, folder, { resume: true })),
      /^no checkpoint in .* can be used: .*step-0000008\.safetensors/,
    );
  }));

Deno.test("one run at a time writes a folder", () =>
  inFolder(async (folder) => {
    const mine = await lock(folder);
    assert(E.isRight(mine));
    assert(isBusy(folder));
    assertMatch(
      whyNot(await run(little(), folder)),
      /^another process is writing .*; wait for it, or give another folder with --out$/,
    );
    mine.right();
    assert(!isBusy(folder));
    assert(!isBusy(`${folder}/none`));
  }));
