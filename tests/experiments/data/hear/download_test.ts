// Downloads against a server on this machine: whole, interrupted, damaged, and no server at all.
import { createHash } from "node:crypto";
import { assert, assertEquals, assertMatch, assertStrictEquals, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import {
  download,
  downloadErrorText,
  type DownloadOptions,
  recordFiles,
  type Remote,
} from "../../../../experiments/data/hear/download.ts";
import { inFolder } from "../../../support/hear/made.ts";
import { type Answer, broken, md5, part, serving } from "../../../support/hear/server.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};
const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

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
  assert(
    createHash("md5").update(Deno.readFileSync(path)).digest("hex") === md5(content).slice(4),
  );
  assertEquals(names(path.replace(/\/[^/]*$/, "")), ["a.bin"]);
};

Deno.test("a file is fetched, checked and named", () =>
  fetched([], undefined, {}, (result, path, asked) => {
    right(result);
    whole(path);
    assertEquals(asked, [null]);
  }));

Deno.test("what was there is gone on from, with what the server sends", async () => {
  await fetched([], content.slice(0, 100_000), {}, (result, path, asked) => {
    right(result);
    whole(path);
    assertEquals(asked, ["bytes=100000-"]);
  });
  // All is there but the name.
  await fetched([], content, {}, (result, path, asked) => {
    right(result);
    whole(path);
    assertEquals(asked, []);
  });
  // Without a known size the server says that nothing follows.
  await fetched([], content, { size: undefined }, (result, path, asked) => {
    right(result);
    whole(path);
    assertEquals(asked, ["bytes=300000-"]);
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
    assertEquals(asked, [null]);
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
      assertEquals(asked, [
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
    assert(E.isLeft(result));
    assertStrictEquals(
      result.left,
      "a.bin: the connection broke after 70000 bytes of 0.3 MB: the server answered 503; the same " +
        "command goes on from there",
    );
    assertStrictEquals(asked.length, 3);
    assertEquals(names(path.replace(/\/[^/]*$/, "")), ["a.bin.partial"]);
  });
  await fetched([nothing], undefined, {}, (result, path) => {
    assert(E.isLeft(result));
    assertMatch(result.left, /\/files\/a\.bin answered 503$/);
    assertEquals(names(path.replace(/\/[^/]*$/, "")), []);
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
      assertEquals(asked.slice(0, 2), [null, "bytes=1000-"]);
    },
    { ...quick, stall: 300 },
  ));

Deno.test("a wrong checksum or size is told, and nothing is kept", async () => {
  const none = (path: string) => assertEquals(names(path.replace(/\/[^/]*$/, "")), []);
  await fetched([], new Uint8Array(100_000), {}, (result, path) => {
    assert(E.isLeft(result));
    assertMatch(result.left, /^a\.bin is damaged: its checksum is md5:[0-9a-f]{32}, where md5:/);
    none(path);
  });
  await fetched([], undefined, { size: 200_000 }, (result, path) => {
    assert(E.isLeft(result));
    assertMatch(result.left, /^a\.bin has 300000 bytes, where 200000 are expected/);
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
        return E.isLeft(result) ? downloadErrorText(result.left) : fail("fetched");
      };
      assertStrictEquals(await to(url), `${url}/files/a.bin answered 404, there is no such file`);
      assertMatch(await to("no address"), /^"no address\/files\/a\.bin" is not an address/);
    });
  }));

Deno.test("no server at all: who cannot be reached, and why", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  const listed = await recordFiles(`http://127.0.0.1:${port}/record`)();
  assert(E.isLeft(listed));
  assertMatch(
    downloadErrorText(listed.left),
    new RegExp(`^127\\.0\\.0\\.1:${port} cannot be reached: .*[Rr]efused`),
  );
});

Deno.test("records: what they list, and what is none", () =>
  serving({ "a.bin": content }, [], async ({ url }) => {
    assertEquals(right(await recordFiles(`${url}/record`)()), [remote(url)]);
    const why = async (url: string) => {
      const listed = await recordFiles(url)();
      return E.isLeft(listed) ? downloadErrorText(listed.left) : fail("a record");
    };
    assertMatch(await why(`${url}/files/a.bin`), /is not a record of Zenodo: it is not JSON$/);
    assertMatch(await why(`${url}/none`), /answered 404/);
    assertMatch(await why("zenodo"), /is not an address/);
  }));
