// `deno task data hear` as a user meets it, against a server on this machine.
import { assert, assertEquals, assertMatch, assertStrictEquals, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { archiveOf, taskFolders } from "../../../../experiments/data/hear/fetch.ts";
import type { Remote } from "../../../../experiments/data/hear/download.ts";
import { knownTasks } from "../../../../experiments/data/hear/published_tasks.ts";
import { filesOf, inFolder, threeSplits } from "../../../support/hear/made.ts";
import { broken, part, serving } from "../../../support/hear/server.ts";
import { gzip, taskTar } from "../../../support/hear/tarball.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};
const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

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
  assertStrictEquals(archiveOf("esc50-v2.0.0-full", files), files[1]);
  assertStrictEquals(archiveOf("libricount-v1.0.0-hear2021-full", files), files[5]);
  assertStrictEquals(archiveOf("fsd50k-v1.0-full", files), undefined);
  assertEquals(right(taskFolders(["e50", "esc50", "BO", "x-v1-small"])), [
    "esc50-v2.0.0-full",
    "beijing_opera-v1.0-hear2021-full",
    "x-v1-small",
  ]);
  assertStrictEquals(right(taskFolders(["all", "VL"])).length, knownTasks.length);
  for (const name of ["esc", "../x-y", "", "-a-b", "a/b-c"]) {
    assert(E.isLeft(taskFolders([name])), name);
  }
});

const cli = decodeURIComponent(
  new URL("../../../../experiments/commands/main.ts", import.meta.url).pathname,
);

const ran = async (folder: string, ...args: readonly string[]) => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", cli, "data", ...args],
    cwd: folder,
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert(!/^\s+at /m.test(err), `a stack trace: ${err}`);
  return { code, out, err };
};

Deno.test("the command fetches, resamples and checks; the second time it only checks", () =>
  inFolder(async (folder) => {
    const bytes = await gzip(taskTar("made-v1-small", filesOf(threeSplits, 48000)));
    const files = { "hear2021-made-v1-small-48000.tar.gz": bytes };
    await serving(files, [broken(bytes.length >> 1), part], async ({ url, asked }) => {
      const first = await ran(folder, "hear", "made-v1-small", "--from", `${url}/record`);
      assertStrictEquals(first.code, 0, first.err);
      assertStrictEquals(
        first.out,
        "tasks/made-v1-small: whole, 7 clips in 3 splits, 3 classes\n",
      );
      assertMatch(
        first.err,
        /unpacked 7 clips in \d+:\d\d, of which 7 were resampled from 48000 Hz/,
      );
      assertEquals(asked, [null, `bytes=${bytes.length >> 1}-`]);
      assertEquals(names(`${folder}/tasks`), ["made-v1-small"]);

      Deno.removeSync(`${folder}/tasks/made-v1-small/16000/valid/d.wav`);
      const second = await ran(folder, "hear", "made-v1-small", "BO", "--from", `${url}/record`);
      assertStrictEquals(second.code, 1);
      assertMatch(
        second.err,
        /16000\/valid\/d\.wav: there is no such file, and valid\.json names/,
      );
      assertMatch(
        second.err,
        /record has no archive of beijing_opera-v1\.0-hear2021-full; it has hear2021-made-v1-small/,
      );
      assertStrictEquals(asked.length, 2);
    });
  }));

Deno.test("an archive that is there is unpacked and kept; one from an address is not", () =>
  inFolder(async (folder) => {
    const archive = `${folder}/made-v1-small-16000.tar.gz`;
    Deno.writeFileSync(archive, await gzip(taskTar("made-v1-small", filesOf(threeSplits))));
    const file = await ran(folder, "hear", "made-v1-small", "--from", archive, "--out", "a/b/");
    assertStrictEquals(file.code, 0, file.err);
    assertMatch(file.out, /^a\/b\/made-v1-small: whole/);
    assert(names(folder).includes("made-v1-small-16000.tar.gz"));
    const bytes = new Uint8Array(Deno.readFileSync(archive));
    await serving({ "x.tar.gz": bytes }, [], async ({ url }) => {
      const from = `${url}/files/x.tar.gz`;
      const address = await ran(folder, "hear", "made-v1-small", "--from", from, "--out", "c");
      assertStrictEquals(address.code, 0, address.err);
      assertEquals(names(`${folder}/c`), ["made-v1-small"]);
    });
  }));

Deno.test("offline: one sentence that says what to do; what is not understood has status 2", () =>
  inFolder(async (folder) => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    const offline = await ran(folder, "hear", "all", "--from", `http://127.0.0.1:${port}/record`);
    assertStrictEquals(offline.code, 1);
    assertMatch(
      offline.err,
      /^127\.0\.0\.1:\d+ cannot be reached: .*; fetch the archive of beijing_opera.* --from FILE/,
    );
    assertStrictEquals(offline.err.trim().split("\n").length, 1);
    for (
      const [args, pattern] of [
        [["hear", "esc"], /there is no task 'esc'; the ten are BO \(beijing_opera/],
        [["hear"], /say which tasks to fetch, or all/],
        [["audioset", "x"], /there is no data 'audioset'; there are synthetic and hear/],
        [[], /say what to get/],
      ] as const
    ) {
      const wrong = await ran(folder, ...args);
      assertStrictEquals(wrong.code, 2);
      assertMatch(wrong.err, pattern);
    }
  }));
