// What befalls one of the processes that share a run: all of them end, the first says why and saves what
// was done, and the run goes on with any number of them. Here all are in one process; mpi_test.ts has
// real ones.
import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import { openSource } from "../../../experiments/data/open.ts";
import type { Source } from "../../../experiments/data/clips/source.ts";
import { type Metric, readMetrics } from "../../../experiments/training/metrics.ts";
import { alone, type Processes, processesOf } from "../../../experiments/machines/processes.ts";
import type { Spec } from "../../../experiments/specs/spec.ts";
import { train } from "../../../experiments/training/train.ts";
import { readRecord } from "../../../experiments/training/run_folder.ts";
import { savedSteps } from "../../../experiments/training/checkpoints.ts";
import { wasmPlain } from "../../support/device.ts";
import { worlds } from "../../support/worlds.ts";
import { inFolder, littleSpec } from "../../support/small_spec.ts";

const little = (changes: Record<string, unknown> = {}): Spec =>
  littleSpec({ batch: 4, ...changes });

const together = (of: number) => worlds(of).map(processesOf);

/** Trains with some processes; `around` may stand between each of them and its clips. */
const run = (
  spec: Spec,
  folder: string,
  processes: readonly Processes[],
  { resume = false, around = (source: Source, _rank: number): Source => source } = {},
) =>
  Promise.all(processes.map(async (one) => {
    const source = await openSource(spec);
    assert(E.isRight(source));
    return await train({
      spec,
      backend: wasmPlain,
      source: around(source.right, one.share.rank),
      folder,
      resume,
      interrupted: () => false,
      processes: one,
    });
  }));

const whyNot = (result: E.Either<{ readonly message: string }, unknown>): string => {
  assert(E.isLeft(result), JSON.stringify(result));
  return result.left.message;
};

const metricsIn = (folder: string): readonly Metric[] => {
  const read = readMetrics(`${folder}/metrics.jsonl`);
  assert(E.isRight(read), JSON.stringify(read));
  return read.right;
};

const assertSameCurve = (folder: string, wanted: string) => {
  const got = metricsIn(folder), want = metricsIn(wanted);
  assertEquals(got.map(({ step }) => step), want.map(({ step }) => step));
  got.forEach(({ step, loss, heldOutLoss }, k) => {
    for (const [a, b] of [[loss, want[k].loss], [heldOutLoss, want[k].heldOutLoss]]) {
      assertStrictEquals(a === undefined, b === undefined);
      assertLessOrEqual(Math.abs((a ?? 0) - (b ?? 0)), 1e-5, `step ${step}: ${a}, ${b}`);
    }
  });
};

Deno.test("data that goes away from one process: all end, and one goes on by itself", () =>
  inFolder(async (folder) => {
    const spec = little(), at = `${folder}/run`;
    assert(E.isRight((await run(spec, `${folder}/untouched`, [alone]))[0]));
    const gone = (source: Source, rank: number): Source => ({
      ...source,
      batch: (first, count) =>
        rank === 1 && first >= 5 * spec.batch
          ? Promise.resolve(
            E.left({ _tag: "DataGone", path: "sounds/a.wav", reason: "there is no such file" }),
          )
          : source.batch(first, count),
    });
    const [first, ...others] = await run(spec, at, together(2), { around: gone });
    assertMatch(
      whyNot(first),
      /^process 1 of 2 on \S+: sounds\/a\.wav can no longer be read: .*; the checkpoint of step 5 is in .*, and --resume goes on from it$/,
    );
    others.forEach(whyNot);
    assertEquals(savedSteps(at), [5, 4]);
    assertStrictEquals(readRecord(at)?.state, "stopped");
    assert(E.isRight((await run(spec, at, [alone], { resume: true }))[0]));
    assertSameCurve(at, `${folder}/untouched`);
  }));

Deno.test({
  name: "a disk that is full ends all processes, and another number of them goes on",
  ignore: Deno.build.os !== "linux",
  fn: () =>
    inFolder(async (folder) => {
      const spec = little(), at = `${folder}/run`;
      assert(E.isRight((await run(spec, `${folder}/untouched`, [alone]))[0]));
      const full = (source: Source, rank: number): Source => ({
        ...source,
        batch: (first, count) => {
          if (rank === 0 && first === 5 * spec.batch) {
            const path = `${at}/checkpoints/step-0000006.safetensors.partial`;
            Deno.symlinkSync("/dev/full", path);
          }
          return source.batch(first, count);
        },
      });
      const results = await run(spec, at, together(2), { around: full });
      for (const result of results) {
        assertMatch(
          whyNot(result),
          /^cannot write the file .*step-0000006\.safetensors: the disk is full; .*; the checkpoint of step 4 is in /,
        );
      }
      assert((await run(spec, at, together(4), { resume: true })).every(E.isRight));
      assertSameCurve(at, `${folder}/untouched`);
    }),
});

Deno.test("a disk that is full before the first step ends all processes", () =>
  inFolder(async (folder) => {
    // A folder in the place of a file that the first process writes.
    Deno.mkdirSync(`${folder}/spec.json.partial`);
    const results = await run(little(), folder, together(2));
    results.forEach((result) =>
      assertMatch(whyNot(result), /^cannot write the file .*spec\.json: /)
    );
  }));

Deno.test("a loss that is not a number ends all processes", () =>
  inFolder(async (folder) => {
    const broken = (source: Source, rank: number): Source => ({
      ...source,
      batch: async (first, count) =>
        E.map((clips: Float32Array) => rank === 1 && first >= 12 ? clips.map(() => NaN) : clips)(
          await source.batch(first, count),
        ),
    });
    const results = await run(little(), folder, together(2), { around: broken });
    for (const result of results) {
      assertMatch(whyNot(result), /^the loss of step 4 is not a number; its clips are in /);
    }
    // Each keeps its own clips: those of one process may be the cause.
    for (const name of ["failed-step.safetensors", "failed-step-1.safetensors"]) {
      assert(Deno.statSync(`${folder}/${name}`).isFile);
    }
  }));

Deno.test("all processes must have the same clips and go on from the same step", () =>
  inFolder(async (folder) => {
    const spec = little();
    const other = (source: Source, rank: number): Source =>
      rank === 1 ? { ...source, identity: "other clips" } : source;
    for (const result of await run(spec, folder, together(2), { around: other })) {
      assertMatch(whyNot(result), /^the data of process 1 is not that of process 0; /);
    }
    assertStrictEquals(readRecord(folder), undefined);
  }));

Deno.test("a folder that holds an unfinished run is told once, whoever looks", () =>
  inFolder(async (folder) => {
    const spec = little();
    const gone = (source: Source): Source => ({
      ...source,
      batch: (first, count) =>
        first >= 3 * spec.batch
          ? Promise.resolve(E.left({ _tag: "DataGone", path: "x", reason: "gone" }))
          : source.batch(first, count),
    });
    await run(spec, folder, together(2), { around: gone });
    for (const result of await run(spec, folder, together(2))) {
      assertMatch(whyNot(result), /holds this run up to step 3; add --resume to go on with it/);
    }
  }));

Deno.test("a batch that the processes do not divide is told before anything is done", () =>
  inFolder(async (folder) => {
    for (const result of await run(little(), `${folder}/run`, together(3))) {
      assertMatch(whyNot(result), /^the batch, 4, is not divisible by 3 processes × 1 part; /);
    }
    assertEquals([...Deno.readDirSync(folder)], []);
  }));
