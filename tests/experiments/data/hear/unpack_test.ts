// Archives of tasks: what is in them comes out, at the rate that is wanted; hostile and damaged ones are
// refused and leave nothing.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertStrictEquals,
  fail,
} from "@std/assert";
import fc from "fast-check";
import * as E from "fp-ts/Either.js";
import { decodeRecording } from "../../../../experiments/data/audio/recording.ts";
import { decimate } from "../../../../experiments/data/hear/decimate.ts";
import { tarErrorText, tarFiles } from "../../../../experiments/formats/tar.ts";
import { readTask } from "../../../../experiments/data/hear/task.ts";
import { unpackErrorText, unpackTask } from "../../../../experiments/data/hear/unpack.ts";
import { pcm16, wav16 } from "../../../../experiments/formats/wav.ts";
import {
  filesOf,
  inFolder,
  type Made,
  threeSplits,
  wav,
  writeFiles,
} from "../../../support/hear/made.ts";
import { gzip, tar, type TarEntry, taskTar } from "../../../support/hear/tarball.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};
const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
const text = (content: string) => new TextEncoder().encode(content);
const content = Uint8Array.from({ length: 3000 }, (_, k) => (k * k) >> 7);

const entriesOf = async (bytes: Uint8Array<ArrayBuffer>, chunk = 1000) => {
  const stream = async function* () {
    for (let at = 0; at < bytes.length; at += chunk) yield bytes.subarray(at, at + chunk);
  };
  const all = await Array.fromAsync(tarFiles(stream()));
  const last = all.at(-1);
  return {
    files: all.flatMap((entry) => E.isRight(entry) ? [entry.right] : []),
    error: last !== undefined && E.isLeft(last) ? tarErrorText(last.left) : undefined,
  };
};

Deno.test("what is put into an archive comes out, in any pieces", () =>
  fc.assert(fc.asyncProperty(
    fc.uniqueArray(
      fc.record({
        name: fc.stringMatching(/^[\w é東🥁-]{1,150}$/u),
        content: fc.uint8Array({ maxLength: 1500 }),
      }),
      { selector: ({ name }) => name },
    ),
    fc.integer({ min: 1, max: 2000 }),
    async (files, chunk) => {
      const entries = files.map(({ name, content }) => ({ path: `a/${name}`, content }));
      const { files: found, error } = await entriesOf(tar(entries), chunk);
      assertStrictEquals(error, undefined);
      assertEquals(
        found.map(({ path, content }) => ({ path, content: [...content] })),
        entries.map(({ path, content }) => ({ path, content: [...content] })),
      );
    },
  )));

Deno.test("archives of GNU tar and of other formats are read", async () => {
  const isThere = await new Deno.Command("tar", { args: ["--version"], stdout: "null" }).output()
    .then(({ success }) => success, () => false);
  if (!isThere) return console.log("skipped: there is no tar");
  const long = `${"long ".repeat(30)}größe 東京.wav`;
  await inFolder(async (folder) => {
    writeFiles(`${folder}/in`, new Map([["b/a.txt", text("A")], [`b/${long}`, text("long")]]));
    for (const format of ["gnu", "pax", "oldgnu"]) {
      const args = ["--format", format, "-cf", `${folder}/x.tar`, "-C", `${folder}/in`, "b"];
      const { success } = await new Deno.Command("tar", { args, stderr: "null" }).output();
      assert(success, format);
      const { files, error } = await entriesOf(
        new Uint8Array(Deno.readFileSync(`${folder}/x.tar`)),
      );
      assertStrictEquals(error, undefined, format);
      assertEquals(
        files.map(({ path, content }) => [path, new TextDecoder().decode(content)]).sort(),
        [["b/a.txt", "A"], [`b/${long}`, "long"]],
      );
    }
  });
});

Deno.test("entries that could leave the folder, and damaged archives, end the reading", async () => {
  const of = async (...entries: readonly TarEntry[]) =>
    (await entriesOf(tar([{ path: "a/ok", content: text("x") }, ...entries]))).error;
  assertMatch(
    (await of({ path: "../evil" }))!,
    /'\.\.\/evil' leads out of the folder, so nothing/,
  );
  assertMatch((await of({ path: "a/../../evil" }))!, /leads out of the folder/);
  assertMatch((await of({ path: `${"a/".repeat(80)}../evil` }))!, /leads out of the folder/);
  assertMatch((await of({ path: "/etc/evil" }))!, /has an absolute path/);
  assertMatch((await of({ path: "C:evil" }))!, /has an absolute path/);
  assertMatch((await of({ path: "a\\..\\evil" }))!, /has a sign in its name/);
  assertMatch((await of({ path: "a/l", kind: "2", link: "/etc/passwd" }))!, /'a\/l' is a link/);
  assertMatch((await of({ path: "a/l", kind: "1", link: "a/ok" }))!, /is a link/);
  assertMatch((await of({ path: "a/dev", kind: "3" }))!, /is neither a file nor a folder/);
  assertMatch((await of({ path: "a/./ok" }))!, /it holds 'a\/ok' twice/);
  assertStrictEquals(await of({ path: "./a/..ok/..." }), undefined);

  const good = tar([{ path: "a/ok", content: text("some content") }]);
  assertStrictEquals((await entriesOf(good.slice(0, 700))).error, "it ends in the middle");
  assertStrictEquals((await entriesOf(good.slice(0, 1024))).error, "it ends in the middle");
  const changed = good.slice();
  changed[3]++;
  assertStrictEquals((await entriesOf(changed)).error, "it is no tar archive, or is damaged");
  assertMatch((await entriesOf(content)).error!, /no tar archive/);
  // A record of a name that makes no sense is passed over.
  for (const record of ["", "5", "x path=../y\n", "999 path=b\n", "-3 path=b\n"]) {
    const { files, error } = await entriesOf(
      tar([{ path: "pax", kind: "x", content: text(record) }, { path: "c" }]),
    );
    assert(error !== undefined || files.length === 1, record);
  }
});

Deno.test("random bytes in place of an archive's give a sentence or files that are safe", () =>
  fc.assert(fc.asyncProperty(
    fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { maxLength: 8 }),
    async (changes) => {
      const bytes = tar([
        { path: "a/b", content: text("x".repeat(600)) },
        { path: `a/é`, content: text("y") },
      ]);
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      const { files } = await entriesOf(bytes);
      for (const { path } of files) {
        assert(!path.startsWith("/") && !path.split("/").includes(".."), path);
      }
    },
  )));

// ---------------------------------------------------------------- unpacking

const named: Made = {
  ...threeSplits,
  splits: { ...threeSplits.splits, test: { "größe 東京.wav": ["bell"] } },
};

const archived = async (folder: string, rate: number): Promise<string> => {
  const path = `${folder}/made-v1-small-${rate}.tar.gz`;
  Deno.writeFileSync(path, await gzip(taskTar("made-v1-small", filesOf(named, rate))));
  return path;
};

Deno.test("a task at 16000 Hz comes out as it went in", () =>
  inFolder(async (folder) => {
    const unpacked = right(
      await unpackTask(await archived(folder, 16000), "made-v1-small", `${folder}/tasks`)(),
    );
    assertEquals(unpacked, { clips: 7, resampled: 0 });
    for (const [path, bytes] of filesOf(named)) {
      assertEquals(Deno.readFileSync(`${folder}/tasks/made-v1-small/${path}`), bytes);
    }
    right(await readTask(`${folder}/tasks/made-v1-small`)());
    assertEquals(names(`${folder}/tasks`), ["made-v1-small"]);
  }));

const resampledFrom = (rate: number) =>
  inFolder(async (folder) => {
    const archive = await archived(folder, rate);
    assertEquals(right(await unpackTask(archive, "made-v1-small", folder)()), {
      clips: 7,
      resampled: 7,
      rate,
    });
    const task = right(await readTask(`${folder}/made-v1-small`)());
    assertEquals(names(task.folder).filter((name) => /\d/.test(name)), ["16000"]);
    const expected = filesOf(named, 16000);
    for (const { name, clips } of task.splits) {
      for (const { file, path } of clips) {
        const samples = async (bytes: Uint8Array) => right(await decodeRecording(bytes)());
        const [got, want] = [
          await samples(Deno.readFileSync(path)),
          await samples(expected.get(`16000/${name}/${file}`)!),
        ];
        assertStrictEquals(got.length, want.length);
        // Away from the ends, where the filter sees the silence around the clip.
        for (let k = 100; k < got.length - 100; k++) {
          assertLess(Math.abs(got[k] - want[k]), 0.002, `${file} at ${k}: ${got[k]}, ${want[k]}`);
        }
      }
    }
  });

Deno.test("one at 48000 Hz is resampled: the same tone, a third of the samples", () =>
  resampledFrom(48000));
Deno.test("one at 44100 Hz is resampled too", () => resampledFrom(44100));

Deno.test("samples as 16 bit: what is read is written back, and loud ones are cut", () => {
  const bytes = wav(65536 / 16000), all = new DataView(bytes.buffer);
  for (let k = 0; k < 65536; k++) all.setInt16(44 + 2 * k, k - 32768, true);
  assertEquals(wav16(pcm16(bytes)!.samples, 16000), bytes);
  const view = new DataView(wav16(Float32Array.of(-2, -1, 0, 1, 2), 16000).buffer);
  assertEquals([0, 1, 2, 3, 4].map((k) => view.getInt16(44 + 2 * k, true)), [
    -32768,
    -32768,
    0,
    32767,
    32767,
  ]);
});

Deno.test("decimation passes what the new rate can hold and stops the rest", () => {
  for (const factor of [2, 3, 6]) {
    const rate = 16000 * factor, count = 4800 * factor;
    const tone = (hertz: number) =>
      Float32Array.from({ length: count }, (_, k) => Math.sin(2 * Math.PI * hertz * k / rate));
    // Away from the ends, where the filter sees silence.
    const level = (of: Float32Array) => Math.max(...of.subarray(200, 4600).map(Math.abs));
    for (const hertz of [0.001, 50, 440, 3000, 6000, 7200]) {
      const got = decimate(tone(hertz), factor);
      assertStrictEquals(got.length, 4800);
      const worst = level(
        got.map((value, k) => value - Math.sin(2 * Math.PI * hertz * k / 16000)),
      );
      assertLess(worst, 2e-5, `${hertz} Hz of ${rate} Hz is off by ${worst}`);
    }
    for (
      const hertz of [8000, 8100, 9000, rate / 2 - 3000, rate / 2 - 10].filter((f) => f >= 8000)
    ) {
      const left = level(decimate(tone(hertz), factor));
      assertLess(left, 2e-5, `${left} of ${hertz} Hz is left`);
    }
  }
  assertStrictEquals(decimate(new Float32Array(100), 3).length, 33);
  assertStrictEquals(decimate(new Float32Array(101), 3).length, 34);
  assertSameNumbers(decimate(Float32Array.of(1, 2), 1), Float32Array.of(1, 2));
});

Deno.test("wav files of 16 bit and one channel are read without a decoder", async () => {
  const bytes = wav(0.05, 48000);
  const plain = pcm16(bytes)!;
  assertStrictEquals(plain.rate, 48000);
  assertStrictEquals(plain.samples.length, 2400);
  // The decoder divides what is above 0 by 32767.
  const decoded = right(await decodeRecording(wav(0.05))());
  pcm16(wav(0.05))!.samples.forEach((sample, k) =>
    assertLess(Math.abs(sample - decoded[k]), 2 ** -15, `sample ${k}`)
  );
  for (const other of [wav(0.05, 48000, 2), bytes.slice(0, 1000), text("RIFF"), content]) {
    assertStrictEquals(pcm16(other), undefined);
  }
});

Deno.test("an archive that cannot be unpacked leaves nothing", () =>
  inFolder(async (folder) => {
    const out = `${folder}/out`;
    const why = async (bytes: Uint8Array | undefined) => {
      if (bytes !== undefined) Deno.writeFileSync(`${folder}/x.tar.gz`, bytes);
      const unpacked = await unpackTask(`${folder}/x.tar.gz`, "made-v1-small", out)();
      if (bytes !== undefined) assertEquals(names(out), []);
      return E.isLeft(unpacked)
        ? unpackErrorText(unpacked.left).replaceAll(folder, "")
        : fail("unpacked");
    };
    const task = (files: Map<string, Uint8Array>) => gzip(taskTar("made-v1-small", files));
    assertStrictEquals(await why(undefined), "/x.tar.gz cannot be read: there is no such file");
    const good = await task(filesOf(named));
    assertMatch(await why(good.slice(0, 900)), /unpacked: it (ends in|cannot be decompressed)/);
    assertMatch(
      await why(text("no gzip at all")),
      /cannot be unpacked: it cannot be decompressed/,
    );
    const damaged = good.slice();
    damaged[damaged.length - 6] ^= 1; // In the checksum of the content.
    assertMatch(await why(damaged), /cannot be unpacked: it cannot be decompressed/);
    assertStrictEquals(
      await why(await gzip(taskTar("other-v1", filesOf(named)))),
      "/x.tar.gz holds no folder made-v1-small; the first that it holds is 'hear-2021.0.6/LICENSE'",
    );
    assertMatch(
      await why(await task(new Map([["48000/train/a.wav", text("no audio")]]))),
      /'hear-2021.0.6\/tasks\/made-v1-small\/48000\/train\/a.wav' cannot be resampled: its content/,
    );
    assertMatch(
      await why(
        await gzip(tar([
          { path: "made-v1-small/train.json", content: text("{}") },
          { path: "made-v1-small/../../evil", content: text("x") },
        ])),
      ),
      /leads out of the folder, so nothing of it is kept$/,
    );
    assertEquals(names(folder), ["out", "x.tar.gz"]);
  }));
