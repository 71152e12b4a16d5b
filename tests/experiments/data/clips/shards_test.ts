// Shards: their names, their members, and what is told of ones that are cut, damaged or hostile.
import { assert, assertEquals, assertMatch, assertStrictEquals, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { decodeRecording } from "../../../../experiments/data/audio/recording.ts";
import { openSource } from "../../../../experiments/data/open.ts";
import { indexShard } from "../../../../experiments/data/clips/shard_index.ts";
import { expandBraces, listShards } from "../../../../experiments/data/clips/shards.ts";
import { dataErrorText, type Source } from "../../../../experiments/data/clips/source.ts";
import { logMelOnHost } from "../../../../experiments/data/audio/log_mel.ts";
import { crop, standardised } from "../../../../experiments/data/audio/spectrogram.ts";
import { wav16 } from "../../../../experiments/formats/wav.ts";
import { npy } from "../../../../experiments/formats/npy_write.ts";
import { synthesise } from "../../../../experiments/data/synth/corpus.ts";
import { publishedFrontEnd } from "../../../../models/frontend.ts";
import { inFolder } from "../../../support/hear/made.ts";
import { gzip, tar } from "../../../support/hear/tarball.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};
const left = <L>(result: E.Either<L, unknown>): L => {
  assert(E.isLeft(result), "it should not have worked");
  return result.left;
};

const frames = 40;
const openShards = (paths: readonly string[], members: "audio" | "log-mel", changes = {}) =>
  openSource({
    seed: 1,
    frontEnd: publishedFrontEnd,
    clip: { frames },
    data: {
      kind: "shards",
      paths,
      members,
      heldOutFraction: 0.2,
      skippedFraction: 0.5,
      ...changes,
    },
  }, { threads: 1 });

const withSource = async (
  opening: ReturnType<typeof openShards>,
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

const text = (of: string) => new TextEncoder().encode(of);
const sounds = synthesise(7, 10, 0.9);
const audioEntries = sounds.flatMap(({ name, samples }) => [
  { path: `${name}.wav`, content: wav16(samples, 16000) },
  { path: `${name}.json`, content: text("{}") },
]);

Deno.test("braces count and list, in one another too", () => {
  const of = (pattern: string) => right(expandBraces(pattern));
  assertEquals(of("a.tar"), ["a.tar"]);
  assertEquals(of("s-{08..11}.tar"), ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]);
  assertEquals(of("{9..11}"), ["9", "10", "11"]);
  assertEquals(of("{a,b}/{0..1}"), ["a/0", "a/1", "b/0", "b/1"]);
  assertEquals(of("x{,y{1..2}}z"), ["xz", "xy1z", "xy2z"]);
  for (
    const [pattern, problem] of [
      ["a{b", /a { has no }/],
      ["ab}", /a } has no {/],
      ["a{b}", /should be a list, {a,b}, or a count/],
      ["a{}", /should be a list/],
      ["{5..3}", /counts backwards/],
      ["{0..999999999}", /more than 1000000 paths/],
      ["{0..9999}{0..9999}", /more than 1000000 paths/],
    ] as const
  ) assertMatch(left(expandBraces(pattern)), problem);
});

Deno.test("shards that are not there, or cannot be read in any order, are refused", () =>
  inFolder(async (folder) => {
    await Deno.writeFile(`${folder}/s-0.tar`, tar([]));
    await Deno.writeFile(`${folder}/s-1.tar.gz`, await gzip(tar([])));
    await Deno.mkdir(`${folder}/none`);
    const told = (path: string) => dataErrorText(left(listShards([`${folder}/${path}`])));
    assertMatch(told("s-{0..2}.tar"), /s-1\.tar is not there, one of the 3 shards that .* names$/);
    assertMatch(told("s-7.tar"), /s-7\.tar is not there$/);
    assertMatch(told("s-1.tar.gz"), /is compressed, and cannot be read in any order; unpack it/);
    assertMatch(told("none"), /none is a folder without a \.tar in it$/);
    assertEquals(right(listShards([folder, `${folder}/s-0.tar`])), [`${folder}/s-0.tar`]);
    const empty = left(await openShards([folder], "log-mel"));
    assertMatch(dataErrorText(empty), /has no members of the wanted kind \(\.npy\)$/);
  }));

Deno.test("members are found whatever stands between them, long names too", () =>
  inFolder(async (folder) => {
    const long = `${"deep/".repeat(40)}ü.wav`;
    await Deno.writeFile(
      `${folder}/a.tar`,
      tar([
        { path: "sub/", kind: "5" },
        { path: "sub/x.WAV", content: text("first") },
        { path: "x.txt", content: text("not wanted") },
        { path: "link.wav", kind: "2", link: "x.wav" },
        { path: long, content: text("second!") },
        { path: "empty.wav" },
      ]),
    );
    const { names, offsets, sizes, problem } = right(
      indexShard(`${folder}/a.tar`, /\.wav$/i),
    );
    assertStrictEquals(problem, undefined);
    assertEquals(names, `sub/x.WAV\n${long}\nempty.wav\n`);
    const bytes = Deno.readFileSync(`${folder}/a.tar`);
    const content = [...offsets].map((at, k) =>
      new TextDecoder().decode(bytes.subarray(at, at + sizes[k]))
    );
    assertEquals(content, ["first", "second!", ""]);
  }));

Deno.test("crops of audio in shards are those of the whole clips' spectrograms", () =>
  inFolder(async (folder) => {
    await Deno.writeFile(`${folder}/s-0.tar`, tar(audioEntries.slice(0, 12)));
    await Deno.writeFile(`${folder}/s-1.tar`, tar(audioEntries.slice(12)));
    await withSource(openShards([`${folder}/s-{0..1}.tar`], "audio"), async (source) => {
      assertStrictEquals(source.describe, `the 2 shards ${folder}/s-{0..1}.tar`);
      assertStrictEquals(source.clips, 8);
      assertEquals(source.skipped(), []);
      const extract = logMelOnHost(publishedFrontEnd);
      for (const { name, frames: values } of source.heldOut) {
        const sound = sounds.find(({ name: one }) => name.endsWith(`/${one}.wav`))!;
        const decoded = right(await decodeRecording(wav16(sound.samples, 16000))());
        assertSameNumbers(values, crop(standardised(extract(decoded)), 0, frames));
      }
      const batch = right(await source.batch(0, 8));
      assert(batch.every(Number.isFinite));
    });
  }));

const logMels = sounds.map(({ samples }) => logMelOnHost(publishedFrontEnd)(samples));

Deno.test("precomputed spectrograms are those that audio would give, in any float", () =>
  inFolder(async (folder) => {
    const array = (dtype: string, shape: string, content: ArrayBufferView<ArrayBuffer>) => {
      const dict = `{'descr': '${dtype}', 'fortran_order': False, 'shape': ${shape}, }\n`;
      const bytes = new Uint8Array(10 + dict.length + content.byteLength);
      bytes.set([0x93, ...text("NUMPY"), 1, 0, dict.length, 0, ...text(dict)]);
      bytes.set(new Uint8Array(content.buffer), 10 + dict.length);
      return bytes;
    };
    const entries = logMels.map(({ frames, mels, values }, k) => ({
      path: `${k}.npy`,
      content: k % 2 === 0
        ? npy(values, [frames, mels])
        : array("<f8", `(1, ${frames}, ${mels})`, Float64Array.from(values)),
    }));
    await Deno.writeFile(`${folder}/a.tar`, tar(entries));
    await withSource(openShards([folder], "log-mel"), (source) => {
      assertStrictEquals(source.clips + source.heldOut.length, 10);
      for (const { name, frames: values } of source.heldOut) {
        const of = logMels[Number(/(\d+)\.npy$/.exec(name)![1])];
        assertSameNumbers(values, crop(standardised(of), 0, frames));
      }
    });
    // Halves are near.
    const halves = Uint16Array.from([0x3c00, 0xc000, 0x3800, 0x0000]); // 1, -2, 0.5, 0
    await Deno.writeFile(
      `${folder}/a.tar`,
      tar([0, 1, 2].map((k) => ({ path: `${k}.npy`, content: array("<f2", "(2, 2)", halves) }))),
    );
    const opened = right(
      await openSource({
        seed: 0,
        frontEnd: { ...publishedFrontEnd, mels: 2 },
        clip: { frames: 2 },
        data: {
          kind: "shards",
          paths: [folder],
          members: "log-mel",
          heldOutFraction: 0.3,
          skippedFraction: 0,
        },
      }, { threads: 1 }),
    );
    const wanted = standardised({ frames: 2, mels: 2, values: Float32Array.of(1, -2, 0.5, 0) });
    assertSameNumbers(opened.heldOut[0].frames, wanted.values);
    opened.close();
  }));

Deno.test("what is wrong with members is told, and they are skipped", () =>
  inFolder(async (folder) => {
    const [good] = logMels, { frames, mels } = good;
    const changed = (act: (bytes: Uint8Array) => void) => {
      const bytes = npy(good.values, [frames, mels]);
      act(bytes);
      return bytes;
    };
    const withNaN = Float32Array.from(good.values);
    withNaN[3 * mels + 5] = NaN;
    const huge = new Uint8Array(200);
    huge.set([0x93, ...text("NUMPY"), 2, 0]);
    new DataView(huge.buffer).setUint32(8, 200_000_000, true);
    const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
      ["nan", npy(withNaN, [frames, mels]), /^the value of frame 3, band 5 is not finite$/],
      ["empty", new Uint8Array(), /^the file is empty$/],
      ["noise", text("something else altogether"), /^it is not a \.npy file$/],
      ["huge", huge, /^its header should have 200000000 bytes, but 188 are there$/],
      ["cut", npy(good.values, [frames, mels]).slice(0, 999), /^its numbers should have \d+ bytes/],
      ["bands", npy(good.values, [mels, frames]), /^its shape is .* frontEnd\.mels asks for/],
      ["line", npy(good.values, [frames * mels]), /^its shape is .* where \(frames, 80\)/],
      ["pair", npy(good.values.subarray(0, 160), [2, 1, mels]), /^its shape is \(2, 1, 80\)/],
      ["fortran", changed((b) => b.set(text("True, "), b.indexOf(0x46))), /column-major/],
      ["whole", changed((b) => b.set(text("<i4"), b.indexOf(0x3c))), /its numbers are <i4/],
    ];
    const whole = Array.from({ length: 12 }, (_, k) => ({
      path: `good-${k}.npy`,
      content: npy(good.values, [frames, mels]),
    }));
    await Deno.writeFile(
      `${folder}/a.tar`,
      tar([...whole, ...cases.map(([name, content]) => ({ path: `${name}.npy`, content }))]),
    );
    await withSource(openShards([folder], "log-mel"), (source) => {
      const skipped = source.skipped();
      assertEquals(
        skipped.map(({ path }) => path),
        cases.map(([name]) => `${folder}/a.tar/${name}.npy`),
      );
      cases.forEach(([, , reason], k) => assertMatch(skipped[k].reason, reason));
      assertStrictEquals(source.clips + source.heldOut.length, 12);
    });
    const refused = left(await openShards([folder], "log-mel", { skippedFraction: 0.01 }));
    assertMatch(
      dataErrorText(refused),
      /10 of 22 recordings .* the first is .*nan\.npy: the value/,
    );
  }));

Deno.test("of a shard that is cut, empty or no archive the rest is told as skipped", () =>
  inFolder(async (folder) => {
    const whole = tar(audioEntries);
    await Deno.writeFile(`${folder}/whole.tar`, whole);
    await Deno.writeFile(`${folder}/cut.tar`, whole.slice(0, whole.length * 0.55 | 0));
    await Deno.writeFile(`${folder}/empty.tar`, new Uint8Array());
    await Deno.writeFile(`${folder}/noise.tar`, text("no archive ".repeat(100)));
    // No end: nothing says that this was all.
    await Deno.writeFile(`${folder}/open.tar`, whole.slice(0, whole.length - 1024));
    // A header that claims 200 MB where a name should be.
    const claims = tar([{ path: "n", kind: "L", content: new Uint8Array(200_000_000) }]);
    const sparse = await Deno.open(`${folder}/claims.tar`, { write: true, create: true });
    await sparse.write(claims.subarray(0, 512));
    await sparse.truncate(claims.length);
    sparse.close();
    await withSource(openShards([folder], "audio"), (source) => {
      const told = new Map(
        source.skipped().map(({ path, reason }) => [path.replace(/^.*\//, ""), reason]),
      );
      assertStrictEquals(told.size, 5);
      assertMatch(told.get("cut.tar")!, /^it is cut in '\d{4}-.*\.wav', which should have 28844/);
      assertStrictEquals(told.get("empty.tar"), "the file is empty");
      assertStrictEquals(told.get("noise.tar"), "it is no tar archive");
      assertStrictEquals(told.get("open.tar"), "it is cut after 10 recordings");
      assertMatch(told.get("claims.tar")!, /a name has 200000000 bytes, where 65536 are read/);
      assertStrictEquals(source.clips + source.heldOut.length, 25);
    });
  }));

Deno.test("an index is kept beside the store, and made anew when the shard changes", () =>
  inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/in`);
    const path = `${folder}/in/a.tar`, store = { path: `${folder}/store`, gigabytes: 1 };
    await Deno.writeFile(path, tar(audioEntries));
    const kept = () =>
      [...Deno.readDirSync(`${folder}/store/index`)].map(({ name }) => name).sort();
    await withSource(openShards([path], "audio", { store }), () => {});
    const [first] = kept();
    // What is kept is what is used.
    const index = JSON.parse(await Deno.readTextFile(`${folder}/store/index/${first}`));
    await Deno.writeTextFile(
      `${folder}/store/index/${first}`,
      JSON.stringify({ ...index, names: index.names.replaceAll(/\d{4}-/g, "kept-") }),
    );
    await withSource(openShards([path], "audio", { store, heldOutFraction: 0.9 }), (source) => {
      assertStrictEquals(kept().length, 1);
      assert(source.heldOut.some(({ name }) => name.includes("kept-")));
    });
    await Deno.writeFile(path, tar(audioEntries.slice(0, 8)));
    await withSource(openShards([path], "audio", { store }), (source) => {
      assertStrictEquals(source.clips + source.heldOut.length, 4);
      assertStrictEquals(kept().length, 2);
    });
  }));
