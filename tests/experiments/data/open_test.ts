// Data as a spec names it: folders and tasks, the same bits for any number of threads and with or without
// a store, what is told of what cannot be used, what happens when data goes away, and memory.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotStrictEquals,
  assertStrictEquals,
  fail,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import { openSource } from "../../../experiments/data/open.ts";
import { dataErrorText, type Source } from "../../../experiments/data/clips/source.ts";
import { storedBytes } from "../../../experiments/data/clips/spectrogram_cache.ts";
import { wav16 } from "../../../experiments/formats/wav.ts";
import type { DataSpec } from "../../../experiments/data/config.ts";
import { synthesise } from "../../../experiments/data/synth/corpus.ts";
import { publishedFrontEnd } from "../../../models/frontend.ts";
import { filesOf, fourFolds, inFolder, threeSplits, writeFiles } from "../../support/hear/made.ts";

const left = <L>(result: E.Either<L, unknown>): L => {
  assert(E.isLeft(result), "it should not have worked");
  return result.left;
};

const open = (data: DataSpec, threads = 1, frames = 50, seed = 3) =>
  openSource({ seed, frontEnd: publishedFrontEnd, clip: { frames }, data }, { threads });

const withSource = async (
  opening: ReturnType<typeof open>,
  act: (source: Source) => Promise<void> | void,
) => {
  const opened = await opening;
  if (E.isLeft(opened)) fail(dataErrorText(opened.left));
  try {
    await act(opened.right);
  } finally {
    opened.right.close();
  }
};

const read = async (source: Source, first: number, count: number): Promise<Float32Array> => {
  const batch = await source.batch(first, count);
  if (E.isLeft(batch)) fail(dataErrorText(batch.left));
  return batch.right;
};

const same = (a: Float32Array, b: Float32Array) =>
  assert(a.length === b.length && a.every((value, k) => Object.is(value, b[k])));

const folderOf = (path: string, changes: Partial<DataSpec> = {}) => ({
  kind: "folder",
  path,
  heldOutFraction: 0.2,
  skippedFraction: 0.5,
  ...changes,
} as DataSpec);

const recorded = (name: string): Uint8Array =>
  Deno.readFileSync(new URL(`../../support/recordings/${name}`, import.meta.url));

// Recordings of several rates and lengths, some shorter than a crop.
const writeSounds = (folder: string, count = 12) => {
  Deno.mkdirSync(folder, { recursive: true });
  for (const [k, { name, samples }] of synthesise(2, count, 1).entries()) {
    const rate = [16000, 22050, 8000][k % 3], length = [16000, 9000, 4000][k % 3];
    Deno.writeFileSync(`${folder}/${name}.wav`, wav16(samples.slice(0, length), rate));
  }
  for (const name of ["tone.flac", "tone.ogg", "tone.mp3"]) {
    Deno.writeFileSync(`${folder}/${name}`, recorded(name));
  }
};

Deno.test("any number of threads, a store that is empty, full or there give the same bits", () =>
  inFolder(async (folder) => {
    writeSounds(`${folder}/sounds`);
    let wanted: readonly Float32Array[] | undefined;
    const store = { path: `${folder}/store`, gigabytes: 1 };
    const small = { path: `${folder}/small`, gigabytes: 1e-4 };
    const cases = [[1, undefined], [3, undefined], [1, store], [2, store], [1, small]] as const;
    for (const [threads, at] of cases) {
      const data = folderOf(`${folder}/sounds`, at === undefined ? {} : { store: at });
      await withSource(open(data, threads), async (source) => {
        assertStrictEquals(source.clips + source.heldOut.length, 15);
        const values = [
          ...source.heldOut.map(({ frames }) => frames),
          await read(source, 0, 30),
          await read(source, 7, 3),
        ];
        wanted ??= values;
        values.forEach((value, k) => same(value, wanted![k]));
        // The part of a batch is the batch's.
        same(values.at(-1)!, values.at(-2)!.subarray(7 * 4000, 10 * 4000));
      });
    }
    const files = (path: string): number =>
      [...Deno.readDirSync(path)].reduce(
        (sum, { name, isDirectory }) => sum + (isDirectory ? files(`${path}/${name}`) : 1),
        0,
      );
    assertStrictEquals(files(store.path), 15);
    assert(files(small.path) >= 1 && files(small.path) < 15);
  }));

Deno.test("processes that open the same data share what room is left in its store", () =>
  inFolder(async (folder) => {
    writeSounds(`${folder}/sounds`);
    const stored = async (sharing: number): Promise<number> => {
      const store = { path: `${folder}/store-${sharing}`, gigabytes: 1e-4 };
      const data = folderOf(`${folder}/sounds`, { store });
      const spec = { seed: 3, frontEnd: publishedFrontEnd, clip: { frames: 50 }, data };
      await withSource(openSource(spec, { threads: 1, sharing }), async (source) => {
        await read(source, 0, 30);
      });
      return storedBytes(store.path);
    };
    const [alone, one] = [await stored(1), await stored(2)];
    assert(alone > 5e4 && alone <= 1e5, `${alone}`);
    assert(one > 0 && one <= 5e4, `${one}`);
  }));

Deno.test("what is damaged in a store is not used, and a store that cannot be written is no error", () =>
  inFolder(async (folder) => {
    writeSounds(`${folder}/sounds`, 3);
    const store = { path: `${folder}/store`, gigabytes: 1 };
    const data = folderOf(`${folder}/sounds`, { store });
    let wanted: Float32Array | undefined;
    await withSource(open(data), async (source) => {
      wanted = await read(source, 0, 9);
    });
    const damage = (path: string, k = 0) => {
      for (const { name, isDirectory } of Deno.readDirSync(path)) {
        if (isDirectory) damage(`${path}/${name}`, k++);
        else if (k % 2 === 0) Deno.truncateSync(`${path}/${name}`, 1000);
        else Deno.writeFileSync(`${path}/${name}`, new Uint8Array(20000));
      }
    };
    damage(store.path);
    await withSource(open(data), async (source) => same(await read(source, 0, 9), wanted!));
    await Deno.writeTextFile(`${folder}/taken`, "");
    const taken = folderOf(`${folder}/sounds`, { store: { ...store, path: `${folder}/taken` } });
    await withSource(open(taken), async (source) => same(await read(source, 0, 9), wanted!));
  }));

Deno.test("a folder's recordings are used; what cannot be used is listed with its reason", () =>
  inFolder(async (folder) => {
    writeSounds(`${folder}/more`, 6);
    const sound = wav16(synthesise(0, 1, 0.2)[0].samples, 16000);
    const nan = new Uint8Array(44 + 4 * 1600), view = new DataView(nan.buffer);
    nan.set(wav16(new Float32Array(3200), 16000).subarray(0, 44));
    view.setUint16(20, 3, true); // float
    view.setUint32(28, 64000, true);
    view.setUint16(32, 4, true);
    view.setUint16(34, 32, true);
    view.setFloat32(44 + 4 * 800, NaN, true);
    const claims = sound.slice();
    new DataView(claims.buffer).setUint32(16, 200_000_000, true); // a format of 200 MB
    const files = { "cut.wav": sound.slice(0, -2), "empty.flac": new Uint8Array(), "nan.wav": nan };
    for (const [name, bytes] of Object.entries({ ...files, "claims.wav": claims })) {
      Deno.writeFileSync(`${folder}/${name}`, bytes);
    }
    Deno.symlinkSync(`${folder}/gone`, `${folder}/link.wav`);
    await withSource(open(folderOf(folder)), async (source) => {
      assertStrictEquals(source.describe, `the recordings in ${folder}`);
      assertEquals(source.skipped(), [
        {
          path: "claims.wav",
          reason:
            "it is damaged: its chunk at byte 12 should have 200000000 bytes, but 6424 are there",
        },
        {
          path: "cut.wav",
          reason: "it is damaged: its audio should have 6400 bytes, but 6398 are there",
        },
        { path: "empty.flac", reason: "the file is empty" },
        { path: "link.wav", reason: "it cannot be read: it is a link to nothing" },
        { path: "nan.wav", reason: "the sample at 0.050 s is not a finite number" },
      ]);
      assertStrictEquals(source.clips + source.heldOut.length, 9);
      assert((await read(source, 0, 40)).every(Number.isFinite));
    });
    const strict = left(await open(folderOf(folder, { skippedFraction: 0.01 })));
    assertMatch(
      dataErrorText(strict),
      /^5 of 14 recordings from the recordings in .* the first is claims\.wav: it is damaged/,
    );
    const gone = left(await open(folderOf(`${folder}/gone`)));
    assertMatch(dataErrorText(gone), /^there is no folder .*gone; give the path of a folder/);
  }));

Deno.test("the audio of tasks is used, of the splits that may be trained on", () =>
  inFolder(async (folder) => {
    writeFiles(`${folder}/three`, filesOf(threeSplits));
    writeFiles(`${folder}/folds`, filesOf(fourFolds));
    const tasks = (names: readonly string[], splits?: readonly string[]): DataSpec => ({
      kind: "hear",
      tasks: names.map((name) => `${folder}/${name}`),
      heldOutFraction: 0.3,
      skippedFraction: 0,
      ...(splits === undefined ? {} : { splits }),
    });
    await withSource(open(tasks(["three"])), (source) => {
      assertStrictEquals(source.describe, "the train split of made");
      assertStrictEquals(source.clips + source.heldOut.length, 4);
      assertMatch(source.heldOut[0].name, /three\/16000\/train\//);
    });
    await withSource(open(tasks(["three", "folds"], ["train", "fold00", "fold03"])), (source) => {
      assertStrictEquals(source.clips + source.heldOut.length, 7);
    });
    assertMatch(
      dataErrorText(left(await open(tasks(["three", "folds"])))),
      /folds has the splits fold02, fold00, fold03, fold01; name in data\.splits those that may/,
    );
    assertMatch(
      dataErrorText(left(await open(tasks(["nowhere"])))),
      /the task .*nowhere cannot be used; it has 1 problem/,
    );
  }));

Deno.test("data that goes away in the middle of a run is told, and the same when it is back", () =>
  inFolder(async (folder) => {
    writeSounds(`${folder}/sounds`);
    await withSource(open(folderOf(`${folder}/sounds`)), async (source) => {
      const wanted = await read(source, 0, 12);
      Deno.renameSync(`${folder}/sounds`, `${folder}/elsewhere`);
      const gone = dataErrorText(left(await source.batch(0, 12)));
      assertMatch(
        gone,
        /sounds\/.* can no longer be read: it is no longer there; put it back and resume the run$/,
      );
      Deno.renameSync(`${folder}/elsewhere`, `${folder}/sounds`);
      same(await read(source, 0, 12), wanted);
      // Other clips are not taken for these.
      const { identity } = source;
      await withSource(open(folderOf(`${folder}/sounds`), 2), (again) => {
        assertStrictEquals(again.identity, identity);
      });
      Deno.renameSync(`${folder}/sounds/tone.mp3`, `${folder}/sounds/zone.mp3`);
      await withSource(open(folderOf(`${folder}/sounds`)), (other) => {
        assertNotStrictEquals(other.identity, identity);
      });
    });
  }));

Deno.test("memory stays flat over many batches", () =>
  inFolder(async (folder) => {
    for (const { name, samples } of synthesise(2, 30, 2)) {
      Deno.writeFileSync(`${folder}/${name}.wav`, wav16(samples, 16000));
    }
    await withSource(open(folderOf(folder), 2, 200), async (source) => {
      const rounds = async (from: number, to: number) => {
        for (let k = from; k < to; k++) await read(source, 16 * k, 16);
        return Deno.memoryUsage().rss / 1e6;
      };
      const before = await rounds(0, 30), after = await rounds(30, 110);
      // Each batch is a megabyte, and what was decoded for it as much again.
      assertLess(after - before, 60, `${before} MB, then ${after} MB`);
    });
  }));

Deno.test("the development corpus is read whole", async () => {
  const folder = decodeURIComponent(
    new URL("../../../../shared/corpus/pretrain", import.meta.url).pathname,
  );
  try {
    Deno.statSync(folder);
  } catch {
    return console.log("skipped: there is no ../shared/corpus");
  }
  await withSource(open(folderOf(folder, { skippedFraction: 0 }), 2), (source) => {
    assertEquals(source.skipped(), []);
    assertStrictEquals(source.clips + source.heldOut.length, 1665);
  });
});
