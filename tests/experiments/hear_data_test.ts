// `deno task data hear` against a server on this machine: whole, interrupted, damaged and hostile
// archives, and no server at all.
import { createHash } from "node:crypto";
import assert from "assert";
import fc from "fast-check";
import * as E from "fp-ts/Either.js";
import { archiveOf, taskFolders } from "../../experiments/hear/data.ts";
import { decimate } from "../../experiments/hear/decimate.ts";
import {
  download,
  downloadErrorText,
  type DownloadOptions,
  recordFiles,
  type Remote,
} from "../../experiments/hear/download.ts";
import { knownTasks } from "../../experiments/hear/known.ts";
import { tarErrorText, tarFiles } from "../../experiments/hear/tar.ts";
import { readTask } from "../../experiments/hear/task.ts";
import { unpackErrorText, unpackTask } from "../../experiments/hear/unpack.ts";
import { pcm16, wav16 } from "../../experiments/hear/wav.ts";
import { decodeRecording } from "../../experiments/audio.ts";
import { filesOf, inFolder, type Made, threeSplits, wav, writeFiles } from "./hear/made.ts";
import { gzip, tar, type TarEntry, taskTar } from "./hear/tarball.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) assert.fail(JSON.stringify(result.left));
  return result.right;
};
const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
const text = (content: string) => new TextEncoder().encode(content);
const md5 = (bytes: Uint8Array) => `md5:${createHash("md5").update(bytes).digest("hex")}`;

// ---------------------------------------------------------------- a server

interface Served {
  readonly url: string;
  /** The range that each request for a file asked for. */
  readonly asked: readonly (string | null)[];
}

type Answer = (request: Request, bytes: Uint8Array<ArrayBuffer>) => Response;

const rangeOf = (request: Request): number =>
  Number(/^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "")?.[1] ?? 0);

const part: Answer = (request, bytes) => {
  const from = rangeOf(request);
  if (from === 0) return new Response(bytes, { headers: { "content-length": `${bytes.length}` } });
  return from >= bytes.length
    ? new Response(null, { status: 416, headers: { "content-range": `bytes */${bytes.length}` } })
    : new Response(bytes.subarray(from), {
      status: 206,
      headers: { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` },
    });
};

/** The first `count` bytes of what is asked for, and then the connection breaks. */
const broken = (count: number): Answer => (request, bytes) => {
  const from = rangeOf(request), rest = bytes.subarray(from);
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(rest.slice(0, count));
      // The bytes reach the other side before the connection ends.
      setTimeout(() => controller.error(new Error("broken for the test")), 50);
    },
  });
  return new Response(body, {
    status: from > 0 ? 206 : 200,
    headers: {
      "content-length": `${rest.length}`,
      ...(from > 0 ? { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
    },
  });
};

const serving = async (
  files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>,
  answers: readonly Answer[],
  act: (served: Served) => Promise<void>,
): Promise<void> => {
  const asked: (string | null)[] = [];
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
    onError: () => new Response(null, { status: 500 }),
  }, (request) => {
    const { pathname, origin } = new URL(request.url);
    const name = decodeURIComponent(pathname.replace(/^\/files\//, ""));
    if (pathname === "/record") {
      return Response.json({
        id: 1,
        files: Object.entries(files).map(([key, bytes]) => ({
          key,
          size: bytes.length,
          checksum: md5(bytes),
          links: { self: `${origin}/files/${key}` },
        })),
      });
    }
    if (!Object.hasOwn(files, name)) return new Response("nothing", { status: 404 });
    asked.push(request.headers.get("range"));
    const answer = answers[Math.min(asked.length, answers.length) - 1] ?? part;
    return answer(request, files[name]);
  });
  try {
    await act({ url: `http://127.0.0.1:${server.addr.port}`, asked });
  } finally {
    await server.shutdown();
  }
};

const content = Uint8Array.from({ length: 300_000 }, (_, k) => (k * k) >> 7);
const remote = (url: string, changes: Partial<Remote> = {}): Remote => ({
  url: `${url}/files/a.bin`,
  name: "a.bin",
  size: content.length,
  checksum: md5(content),
  ...changes,
});
const quick: DownloadOptions = { tries: 3, pause: 1 };

const fetched = async (
  answers: readonly Answer[],
  before: Uint8Array | undefined,
  changes: Partial<Remote>,
  check: (
    result: E.Either<string, void>,
    path: string,
    asked: readonly (string | null)[],
  ) => void,
  options: DownloadOptions = quick,
): Promise<void> =>
  await inFolder((folder) =>
    serving({ "a.bin": content }, answers, async ({ url, asked }) => {
      const path = `${folder}/a.bin`;
      if (before !== undefined) Deno.writeFileSync(`${path}.partial`, before);
      const result = await download(remote(url, changes), path, options)();
      check(E.mapLeft(downloadErrorText)(result), path, asked);
    })
  );

const whole = (path: string): void => {
  assert.ok(
    createHash("md5").update(Deno.readFileSync(path)).digest("hex") === md5(content).slice(4),
  );
  assert.deepEqual(names(path.replace(/\/[^/]*$/, "")), ["a.bin"]);
};

// ---------------------------------------------------------------- downloads

Deno.test("a file is fetched, checked and named", () =>
  fetched([], undefined, {}, (result, path, asked) => {
    right(result);
    whole(path);
    assert.deepEqual(asked, [null]);
  }));

Deno.test("what was there is gone on from, with what the server sends", async () => {
  await fetched([], content.slice(0, 100_000), {}, (result, path, asked) => {
    right(result);
    whole(path);
    assert.deepEqual(asked, ["bytes=100000-"]);
  });
  // All is there but the name.
  await fetched([], content, {}, (result, path, asked) => {
    right(result);
    whole(path);
    assert.deepEqual(asked, []);
  });
  // Without a known size the server says that nothing follows.
  await fetched([], content, { size: undefined }, (result, path, asked) => {
    right(result);
    whole(path);
    assert.deepEqual(asked, ["bytes=300000-"]);
  });
  // A server without ranges sends all of it anew.
  const ignoring: Answer = (_, bytes) => new Response(bytes);
  await fetched([ignoring], content.slice(0, 100_000), {}, (result, path) => {
    right(result);
    whole(path);
  });
  // More than there should be cannot be a part.
  await fetched([], new Uint8Array(400_000), {}, (result, path, asked) => {
    right(result);
    whole(path);
    assert.deepEqual(asked, [null]);
  });
});

Deno.test("a connection that breaks is taken up again as long as bytes come", () =>
  fetched(
    [broken(70_000), broken(50_000), broken(90_000), broken(1), part],
    undefined,
    {},
    (result, path, asked) => {
      right(result);
      whole(path);
      assert.deepEqual(asked, [
        null,
        "bytes=70000-",
        "bytes=120000-",
        "bytes=210000-",
        "bytes=210001-",
      ]);
    },
  ));

Deno.test("one that breaks again and again is given up; the next time goes on", async () => {
  const nothing: Answer = () => new Response(null, { status: 503 });
  await fetched([broken(70_000), nothing], undefined, {}, (result, path, asked) => {
    assert.ok(E.isLeft(result));
    assert.equal(
      result.left,
      "a.bin: the connection broke after 70000 bytes of 0.3 MB: the server answered 503; the same " +
        "command goes on from there",
    );
    assert.equal(asked.length, 3);
    assert.deepEqual(names(path.replace(/\/[^/]*$/, "")), ["a.bin.partial"]);
  });
  await fetched([nothing], undefined, {}, (result, path) => {
    assert.ok(E.isLeft(result));
    assert.match(result.left, /\/files\/a\.bin answered 503$/);
    assert.deepEqual(names(path.replace(/\/[^/]*$/, "")), []);
  });
});

Deno.test("a server that falls silent counts as broken", () =>
  fetched(
    [(_, bytes) =>
      new Response(
        new ReadableStream({ start: (controller) => controller.enqueue(bytes.slice(0, 1000)) }),
      ), part],
    undefined,
    {},
    (result, path, asked) => {
      right(result);
      whole(path);
      assert.deepEqual(asked, [null, "bytes=1000-"]);
    },
    { ...quick, stall: 300 },
  ));

Deno.test("a wrong checksum or size is told, and nothing is kept", async () => {
  const none = (path: string) => assert.deepEqual(names(path.replace(/\/[^/]*$/, "")), []);
  await fetched([], new Uint8Array(100_000), {}, (result, path) => {
    assert.ok(E.isLeft(result));
    assert.match(result.left, /^a\.bin is damaged: its checksum is md5:[0-9a-f]{32}, where md5:/);
    none(path);
  });
  await fetched([], undefined, { size: 200_000 }, (result, path) => {
    assert.ok(E.isLeft(result));
    assert.match(result.left, /^a\.bin has 300000 bytes, where 200000 are expected/);
    none(path);
  });
  const sha = `sha256:${createHash("sha256").update(content).digest("hex")}`;
  await fetched([], undefined, { checksum: sha }, (result, path) => {
    right(result);
    whole(path);
  });
});

Deno.test("answers that no second attempt changes are told at once", () =>
  serving({}, [], async ({ url }) => {
    await inFolder(async (folder) => {
      const to = async (url: string) => {
        const result = await download(remote(url), `${folder}/x`, quick)();
        return E.isLeft(result) ? downloadErrorText(result.left) : assert.fail("fetched");
      };
      assert.equal(await to(url), `${url}/files/a.bin answered 404, there is no such file`);
      assert.match(await to("no address"), /^"no address\/files\/a\.bin" is not an address/);
    });
  }));

Deno.test("no server at all: who cannot be reached, and why", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  const listed = await recordFiles(`http://127.0.0.1:${port}/record`)();
  assert.ok(E.isLeft(listed));
  assert.match(
    downloadErrorText(listed.left),
    new RegExp(`^127\\.0\\.0\\.1:${port} cannot be reached: .*[Rr]efused`),
  );
});

Deno.test("records: what they list, and what is none", () =>
  serving({ "a.bin": content }, [], async ({ url }) => {
    assert.deepEqual(right(await recordFiles(`${url}/record`)()), [remote(url)]);
    const why = async (url: string) => {
      const listed = await recordFiles(url)();
      return E.isLeft(listed) ? downloadErrorText(listed.left) : assert.fail("a record");
    };
    assert.match(await why(`${url}/files/a.bin`), /is not a record of Zenodo: it is not JSON$/);
    assert.match(await why(`${url}/none`), /answered 404/);
    assert.match(await why("zenodo"), /is not an address/);
  }));

Deno.test("the archive of a task among others, at 16000 Hz where there is one", () => {
  const file = (name: string): Remote => ({ url: "", name });
  const files = [
    "LICENSE.txt",
    "hear2021-esc50-v2.0.0-full-48000.tar.gz",
    "hear2021-esc50-v2.0.0-small-48000.tar.gz",
    "hear2021-more-esc50-v2.0.0-full-44100.tar.gz",
    "hear-LATEST-libricount-v1.0.0-hear2021-full-48000.tar.gz",
    "hear-LATEST-libricount-v1.0.0-hear2021-full-16000.tar.gz",
    "esc50x-v2.0.0-full-16000.tar.gz",
  ].map(file);
  assert.equal(archiveOf("esc50-v2.0.0-full", files), files[1]);
  assert.equal(archiveOf("libricount-v1.0.0-hear2021-full", files), files[5]);
  assert.equal(archiveOf("fsd50k-v1.0-full", files), undefined);
  assert.deepEqual(right(taskFolders(["e50", "esc50", "BO", "x-v1-small"])), [
    "esc50-v2.0.0-full",
    "beijing_opera-v1.0-hear2021-full",
    "x-v1-small",
  ]);
  assert.equal(right(taskFolders(["all", "VL"])).length, knownTasks.length);
  for (const name of ["esc", "../x-y", "", "-a-b", "a/b-c"]) {
    assert.ok(E.isLeft(taskFolders([name])), name);
  }
});

// ---------------------------------------------------------------- archives

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
      assert.equal(error, undefined);
      assert.deepEqual(
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
      assert.ok(success, format);
      const { files, error } = await entriesOf(
        new Uint8Array(Deno.readFileSync(`${folder}/x.tar`)),
      );
      assert.equal(error, undefined, format);
      assert.deepEqual(
        files.map(({ path, content }) => [path, new TextDecoder().decode(content)]).sort(),
        [["b/a.txt", "A"], [`b/${long}`, "long"]],
      );
    }
  });
});

Deno.test("entries that could leave the folder, and damaged archives, end the reading", async () => {
  const of = async (...entries: readonly TarEntry[]) =>
    (await entriesOf(tar([{ path: "a/ok", content: text("x") }, ...entries]))).error;
  assert.match(
    (await of({ path: "../evil" }))!,
    /'\.\.\/evil' leads out of the folder, so nothing/,
  );
  assert.match((await of({ path: "a/../../evil" }))!, /leads out of the folder/);
  assert.match((await of({ path: `${"a/".repeat(80)}../evil` }))!, /leads out of the folder/);
  assert.match((await of({ path: "/etc/evil" }))!, /has an absolute path/);
  assert.match((await of({ path: "C:evil" }))!, /has an absolute path/);
  assert.match((await of({ path: "a\\..\\evil" }))!, /has a sign in its name/);
  assert.match((await of({ path: "a/l", kind: "2", link: "/etc/passwd" }))!, /'a\/l' is a link/);
  assert.match((await of({ path: "a/l", kind: "1", link: "a/ok" }))!, /is a link/);
  assert.match((await of({ path: "a/dev", kind: "3" }))!, /is neither a file nor a folder/);
  assert.match((await of({ path: "a/./ok" }))!, /it holds 'a\/ok' twice/);
  assert.equal(await of({ path: "./a/..ok/..." }), undefined);

  const good = tar([{ path: "a/ok", content: text("some content") }]);
  assert.equal((await entriesOf(good.slice(0, 700))).error, "it ends in the middle");
  assert.equal((await entriesOf(good.slice(0, 1024))).error, "it ends in the middle");
  const changed = good.slice();
  changed[3]++;
  assert.equal((await entriesOf(changed)).error, "it is no tar archive, or is damaged");
  assert.match((await entriesOf(content)).error!, /no tar archive/);
  // A record of a name that makes no sense is passed over.
  for (const record of ["", "5", "x path=../y\n", "999 path=b\n", "-3 path=b\n"]) {
    const { files, error } = await entriesOf(
      tar([{ path: "pax", kind: "x", content: text(record) }, { path: "c" }]),
    );
    assert.ok(error !== undefined || files.length === 1, record);
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
        assert.ok(!path.startsWith("/") && !path.split("/").includes(".."), path);
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
    assert.deepEqual(unpacked, { clips: 7, resampled: 0 });
    for (const [path, bytes] of filesOf(named)) {
      assert.deepEqual(Deno.readFileSync(`${folder}/tasks/made-v1-small/${path}`), bytes);
    }
    right(await readTask(`${folder}/tasks/made-v1-small`)());
    assert.deepEqual(names(`${folder}/tasks`), ["made-v1-small"]);
  }));

const resampledFrom = (rate: number) =>
  inFolder(async (folder) => {
    const archive = await archived(folder, rate);
    assert.deepEqual(right(await unpackTask(archive, "made-v1-small", folder)()), {
      clips: 7,
      resampled: 7,
      rate,
    });
    const task = right(await readTask(`${folder}/made-v1-small`)());
    assert.deepEqual(names(task.folder).filter((name) => /\d/.test(name)), ["16000"]);
    const expected = filesOf(named, 16000);
    for (const { name, clips } of task.splits) {
      for (const { file, path } of clips) {
        const samples = async (bytes: Uint8Array) => right(await decodeRecording(bytes)());
        const [got, want] = [
          await samples(Deno.readFileSync(path)),
          await samples(expected.get(`16000/${name}/${file}`)!),
        ];
        assert.equal(got.length, want.length);
        // Away from the ends, where the filter sees the silence around the clip.
        for (let k = 100; k < got.length - 100; k++) {
          assert.ok(Math.abs(got[k] - want[k]) < 0.002, `${file} at ${k}: ${got[k]}, ${want[k]}`);
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
  assert.deepEqual(wav16(pcm16(bytes)!.samples, 16000), bytes);
  const view = new DataView(wav16(Float32Array.of(-2, -1, 0, 1, 2), 16000).buffer);
  assert.deepEqual([0, 1, 2, 3, 4].map((k) => view.getInt16(44 + 2 * k, true)), [
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
      assert.equal(got.length, 4800);
      const worst = level(
        got.map((value, k) => value - Math.sin(2 * Math.PI * hertz * k / 16000)),
      );
      assert.ok(worst < 2e-5, `${hertz} Hz of ${rate} Hz is off by ${worst}`);
    }
    for (
      const hertz of [8000, 8100, 9000, rate / 2 - 3000, rate / 2 - 10].filter((f) => f >= 8000)
    ) {
      const left = level(decimate(tone(hertz), factor));
      assert.ok(left < 2e-5, `${left} of ${hertz} Hz is left`);
    }
  }
  assert.equal(decimate(new Float32Array(100), 3).length, 33);
  assert.equal(decimate(new Float32Array(101), 3).length, 34);
  assert.deepEqual(decimate(Float32Array.of(1, 2), 1), Float32Array.of(1, 2));
});

Deno.test("wav files of 16 bit and one channel are read without a decoder", async () => {
  const bytes = wav(0.05, 48000);
  const plain = pcm16(bytes)!;
  assert.equal(plain.rate, 48000);
  assert.equal(plain.samples.length, 2400);
  // The decoder divides what is above 0 by 32767.
  const decoded = right(await decodeRecording(wav(0.05))());
  pcm16(wav(0.05))!.samples.forEach((sample, k) =>
    assert.ok(Math.abs(sample - decoded[k]) < 2 ** -15, `sample ${k}`)
  );
  for (const other of [wav(0.05, 48000, 2), bytes.slice(0, 1000), text("RIFF"), content]) {
    assert.equal(pcm16(other), undefined);
  }
});

Deno.test("an archive that cannot be unpacked leaves nothing", () =>
  inFolder(async (folder) => {
    const out = `${folder}/out`;
    const why = async (bytes: Uint8Array | undefined) => {
      if (bytes !== undefined) Deno.writeFileSync(`${folder}/x.tar.gz`, bytes);
      const unpacked = await unpackTask(`${folder}/x.tar.gz`, "made-v1-small", out)();
      if (bytes !== undefined) assert.deepEqual(names(out), []);
      return E.isLeft(unpacked)
        ? unpackErrorText(unpacked.left).replaceAll(folder, "")
        : assert.fail("unpacked");
    };
    const task = (files: Map<string, Uint8Array>) => gzip(taskTar("made-v1-small", files));
    assert.equal(await why(undefined), "/x.tar.gz cannot be read: there is no such file");
    const good = await task(filesOf(named));
    assert.match(await why(good.slice(0, 900)), /unpacked: it (ends in|cannot be decompressed)/);
    assert.match(
      await why(text("no gzip at all")),
      /cannot be unpacked: it cannot be decompressed/,
    );
    const damaged = good.slice();
    damaged[damaged.length - 6] ^= 1; // In the checksum of the content.
    assert.match(await why(damaged), /cannot be unpacked: it cannot be decompressed/);
    assert.equal(
      await why(await gzip(taskTar("other-v1", filesOf(named)))),
      "/x.tar.gz holds no folder made-v1-small; the first that it holds is 'hear-2021.0.6/LICENSE'",
    );
    assert.match(
      await why(await task(new Map([["48000/train/a.wav", text("no audio")]]))),
      /'hear-2021.0.6\/tasks\/made-v1-small\/48000\/train\/a.wav' cannot be resampled: its content/,
    );
    assert.match(
      await why(
        await gzip(tar([
          { path: "made-v1-small/train.json", content: text("{}") },
          { path: "made-v1-small/../../evil", content: text("x") },
        ])),
      ),
      /leads out of the folder, so nothing of it is kept$/,
    );
    assert.deepEqual(names(folder), ["out", "x.tar.gz"]);
  }));

// ---------------------------------------------------------------- the command

const cli = decodeURIComponent(new URL("../../experiments/cli.ts", import.meta.url).pathname);

const ran = async (folder: string, ...args: readonly string[]) => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", cli, "data", ...args],
    cwd: folder,
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert.ok(!/^\s+at /m.test(err), `a stack trace: ${err}`);
  return { code, out, err };
};

Deno.test("the command fetches, resamples and checks; the second time it only checks", () =>
  inFolder(async (folder) => {
    const bytes = await gzip(taskTar("made-v1-small", filesOf(named, 48000)));
    const files = { "hear2021-made-v1-small-48000.tar.gz": bytes };
    await serving(files, [broken(bytes.length >> 1), part], async ({ url, asked }) => {
      const first = await ran(folder, "hear", "made-v1-small", "--from", `${url}/record`);
      assert.equal(first.code, 0, first.err);
      assert.equal(
        first.out,
        "tasks/made-v1-small: whole, 7 clips in 3 splits, 3 classes\n",
      );
      assert.match(first.err, /unpacked 7 clips in 0:0\d, of which 7 were resampled from 48000 Hz/);
      assert.deepEqual(asked, [null, `bytes=${bytes.length >> 1}-`]);
      assert.deepEqual(names(`${folder}/tasks`), ["made-v1-small"]);

      Deno.removeSync(`${folder}/tasks/made-v1-small/16000/valid/d.wav`);
      const second = await ran(folder, "hear", "made-v1-small", "BO", "--from", `${url}/record`);
      assert.equal(second.code, 1);
      assert.match(
        second.err,
        /16000\/valid\/d\.wav: there is no such file, and valid\.json names/,
      );
      assert.match(
        second.err,
        /record has no archive of beijing_opera-v1\.0-hear2021-full; it has hear2021-made-v1-small/,
      );
      assert.equal(asked.length, 2);
    });
  }));

Deno.test("an archive that is there is unpacked and kept; one from an address is not", () =>
  inFolder(async (folder) => {
    const archive = await archived(folder, 16000);
    const file = await ran(folder, "hear", "made-v1-small", "--from", archive, "--out", "a/b/");
    assert.equal(file.code, 0, file.err);
    assert.match(file.out, /^a\/b\/made-v1-small: whole/);
    assert.ok(names(folder).includes("made-v1-small-16000.tar.gz"));
    const bytes = new Uint8Array(Deno.readFileSync(archive));
    await serving({ "x.tar.gz": bytes }, [], async ({ url }) => {
      const from = `${url}/files/x.tar.gz`;
      const address = await ran(folder, "hear", "made-v1-small", "--from", from, "--out", "c");
      assert.equal(address.code, 0, address.err);
      assert.deepEqual(names(`${folder}/c`), ["made-v1-small"]);
    });
  }));

Deno.test("offline: one sentence that says what to do; what is not understood has status 2", () =>
  inFolder(async (folder) => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    const offline = await ran(folder, "hear", "all", "--from", `http://127.0.0.1:${port}/record`);
    assert.equal(offline.code, 1);
    assert.match(
      offline.err,
      /^127\.0\.0\.1:\d+ cannot be reached: .*; fetch the archive of beijing_opera.* --from FILE/,
    );
    assert.equal(offline.err.trim().split("\n").length, 1);
    for (
      const [args, pattern] of [
        [["hear", "esc"], /there is no task 'esc'; the ten are BO \(beijing_opera/],
        [["hear"], /say which tasks to fetch, or all/],
        [["audioset", "x"], /there is no data 'audioset'; there is hear/],
        [[], /say what to fetch/],
      ] as const
    ) {
      const wrong = await ran(folder, ...args);
      assert.equal(wrong.code, 2);
      assert.match(wrong.err, pattern);
    }
  }));
