// Files that are whole or not there, and one clear sentence where they cannot be written.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import {
  ensureFolder,
  type FileError,
  fileErrorText,
  writeWhole,
} from "../../../experiments/io/files.ts";

async function inFolder(act: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await act(folder);
  } finally {
    await Deno.chmod(folder, 0o700);
    await Deno.remove(folder, { recursive: true });
  }
}

const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

const failure = (result: E.Either<FileError, void>): string => {
  assert(E.isLeft(result), "it should not have worked");
  return fileErrorText(result.left);
};

Deno.test("bytes and texts are written, new and over an old file, and nothing else is left", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a.bin`;
    const bytes = Uint8Array.from({ length: 3_000_001 }, (_, i) => i * i);
    assertEquals(await writeWhole(path, bytes)(), E.right(undefined));
    assertEquals(Deno.readFileSync(path), bytes);
    // What a killed writer left does not get into the next file.
    Deno.writeTextFileSync(`${path}.partial`, "x".repeat(100));
    assertEquals(await writeWhole(path, "two\n")(), E.right(undefined));
    assertStrictEquals(Deno.readTextFileSync(path), "two\n");
    assertEquals(names(folder), ["a.bin"]);
  }));

Deno.test("nothing happens before the task is run", () =>
  inFolder((folder) => {
    writeWhole(`${folder}/a`, "a");
    ensureFolder(`${folder}/b`);
    assertEquals(names(folder), []);
    return Promise.resolve();
  }));

Deno.test("what a kill leaves of trying a folder is gone the next time", () =>
  inFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/.writable`, "");
    assert(E.isRight(await ensureFolder(folder)()));
    assertEquals(names(folder), []);
  }));

Deno.test("a file that cannot be written is told, and what was there stays", () =>
  inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/taken/inside`, { recursive: true });
    await Deno.writeTextFile(`${folder}/file`, "old");
    const text = async (path: string) => failure(await writeWhole(`${folder}/${path}`, "new")());
    assertStrictEquals(
      await text("missing/a"),
      `cannot write the file ${folder}/missing/a: its folder does not exist`,
    );
    assertStrictEquals(
      await text("file/a"),
      `cannot write the file ${folder}/file/a: a part of the path is a file, not a folder`,
    );
    assertStrictEquals(
      await text("taken"),
      `cannot write the file ${folder}/taken: a folder has that name`,
    );
    assertEquals(names(folder), ["file", "taken"]);
    assertEquals(names(`${folder}/taken`), ["inside"]);
    assertStrictEquals(Deno.readTextFileSync(`${folder}/file`), "old");
  }));

Deno.test("a disk that is full is told, and the file before stays whole", async () => {
  // Linux has a device that is always full; a name that links to it is a file that cannot be written.
  if (Deno.build.os !== "linux") return console.log("skipped: there is no /dev/full");
  await inFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/a`, "old");
    Deno.symlinkSync("/dev/full", `${folder}/a.partial`);
    assertMatch(failure(await writeWhole(`${folder}/a`, "new")()), /the disk is full/);
    assertEquals(names(folder), ["a"]);
    assertStrictEquals(Deno.readTextFileSync(`${folder}/a`), "old");
  });
});

Deno.test("a folder is made with those above it, found when it is there, and left empty", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a/b/c`;
    for (let i = 0; i < 2; i++) {
      assertEquals(await ensureFolder(path)(), E.right(undefined));
      assertEquals(names(path), []);
    }
  }));

Deno.test("a folder that cannot be made is told", () =>
  inFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/file`, "");
    assertStrictEquals(
      failure(await ensureFolder(`${folder}/file`)()),
      `cannot make the folder ${folder}/file: a file has that name`,
    );
    assertStrictEquals(
      failure(await ensureFolder(`${folder}/file/a`)()),
      `cannot make the folder ${folder}/file/a: a part of the path is a file, not a folder`,
    );
  }));

Deno.test("a folder in which no file can be made is told before anything is written", () =>
  inFolder(async (folder) => {
    if (Deno.build.os !== "linux") return console.log("skipped: it needs Linux");
    if (Deno.uid() === 0) {
      // Root may write anywhere but where the system has no files to be made.
      return assertMatch(failure(await ensureFolder("/proc/self")()), /^cannot write into the/);
    }
    Deno.chmodSync(folder, 0o500);
    assertStrictEquals(
      failure(await ensureFolder(folder)()),
      `cannot write into the folder ${folder}: permission denied; choose another folder, or ` +
        "change who may write there",
    );
    assertMatch(failure(await writeWhole(`${folder}/a`, "a")()), /permission denied/);
  }));
