// Named pipes, sockets, devices and links in circles that are called like files: listed with the reason and
// passed over, never opened, by every command that reads recordings, tasks, archives or checkpoints.
import { assert, assertMatch, assertNotMatch, assertStrictEquals } from "@std/assert";
import { irregular } from "../../../experiments/io/regular_files.ts";
import { synthesise } from "../../../experiments/data/synth/corpus.ts";
import { wav16 } from "../../../experiments/formats/wav.ts";
import { filesOf, threeSplits, writeFiles } from "../../support/hear/made.ts";
import { command, littleDocument, mkfifo, onLinux } from "../../support/commands.ts";

/** Puts one of each kind into a folder; gives why each is not read. The socket must be closed. */
const strange = (folder: string) => {
  mkfifo(`${folder}/pipe.wav`);
  Deno.symlinkSync("pipe.wav", `${folder}/link.wav`);
  Deno.symlinkSync("/dev/zero", `${folder}/zero.wav`);
  Deno.symlinkSync("round.flac", `${folder}/around.wav`);
  Deno.symlinkSync("around.wav", `${folder}/round.flac`);
  Deno.symlinkSync(".", `${folder}/itself`); // A folder that is in itself is no hindrance.
  const socket = Deno.listen({ transport: "unix", path: `${folder}/socket.ogg` });
  const why = (kind: string) => `it is not a regular file: ${kind}`;
  const reasons = {
    "around.wav": why("a link that leads back to itself"),
    "link.wav": why("a named pipe"),
    "pipe.wav": why("a named pipe"),
    "round.flac": why("a link that leads back to itself"),
    "socket.ogg": why("a socket"),
    "zero.wav": why("a device"),
  };
  return { socket, reasons };
};

const ran = async (cwd: string, ...args: readonly string[]) => {
  const child = command(cwd, args).spawn();
  // A command that opened one of them would wait for ever.
  const late = setTimeout(() => child.kill("SIGKILL"), 60_000);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(late);
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertNotMatch(err, /^\s+at /m);
  return { code, out, err };
};

onLinux("what is no regular file is told by its kind", (folder) => {
  const { socket, reasons } = strange(folder);
  for (const [name, reason] of Object.entries(reasons)) {
    assertStrictEquals(irregular(`${folder}/${name}`), reason);
  }
  socket.close();
  Deno.writeTextFileSync(`${folder}/file`, "");
  Deno.symlinkSync("file", `${folder}/to-file`);
  for (const name of ["file", "to-file", ".", "itself", "missing"]) {
    assertStrictEquals(irregular(`${folder}/${name}`), undefined, name);
  }
});

onLinux("experiment and embed list it, and use the others", async (folder) => {
  Deno.mkdirSync(`${folder}/sounds`);
  for (const { name, samples } of synthesise(1, 4, 0.8)) {
    Deno.writeFileSync(`${folder}/sounds/${name}.wav`, wav16(samples, 16000));
  }
  const { socket, reasons } = strange(`${folder}/sounds`);
  try {
    Deno.writeTextFileSync(`${folder}/little.json`, JSON.stringify(littleDocument));
    const trained = await ran(folder, "experiment", "little.json", "--out", "run");
    assertStrictEquals(trained.code, 0, trained.err);
    const lines = (at: string) =>
      Object.entries(reasons).map(([name, reason]) => `  ${at}${name}: ${reason}\n`).join("");
    assert(trained.err.includes(`6 files were skipped:\n${lines("")}`), trained.err);

    const checkpoint = ["--checkpoint", "run/checkpoint.safetensors", "--device", "wasm"];
    const embedded = await ran(folder, "embed", ...checkpoint, "--out", "out", "sounds");
    assertStrictEquals(embedded.code, 1);
    assertMatch(embedded.out, /^embedded 4 recordings/m);
    assert(
      embedded.err.includes(`6 recordings could not be embedded:\n${lines("sounds/")}`),
      embedded.err,
    );
    assertStrictEquals([...Deno.readDirSync(`${folder}/out`)].length, 12);

    const given = ["sounds/pipe.wav", "/dev/zero", "sounds/around.wav"];
    const alone = await ran(folder, "embed", ...checkpoint, "--out", "other", ...given);
    assertStrictEquals(alone.code, 1);
    assertMatch(alone.err, /^ {2}sounds\/pipe\.wav: it is not a regular file: a named pipe$/m);
    assertMatch(alone.err, /^ {2}\/dev\/zero: it is not a regular file: a device$/m);

    writeFiles(`${folder}/tasks/made-v1-small`, filesOf(threeSplits));
    Deno.removeSync(`${folder}/tasks/made-v1-small/16000/train/a.wav`);
    mkfifo(`${folder}/tasks/made-v1-small/16000/train/a.wav`);
    const evaluated = await ran(folder, "evaluate", ...checkpoint, "--tasks", "tasks");
    assertStrictEquals(evaluated.code, 1);
    assertMatch(
      evaluated.err,
      /^ {2}16000\/train\/a\.wav: it is not a regular file: a named pipe$/m,
    );
  } finally {
    socket.close();
  }
});

onLinux("checkpoints, goldens, archives and shards that are none are refused", async (folder) => {
  mkfifo(`${folder}/pipe.tar.gz`);
  mkfifo(`${folder}/shard.tar`);
  const shards = { ...littleDocument.data, kind: "shards", paths: ["shard.tar"], members: "audio" };
  const { path: _, ...data } = shards;
  Deno.writeTextFileSync(`${folder}/little.json`, JSON.stringify({ ...littleDocument, data }));
  const cases: readonly (readonly [readonly string[], string])[] = [
    [
      ["embed", "--checkpoint", "shard.tar", "--out", "out", "."],
      "the checkpoint shard.tar cannot be read: it is not a regular file: a named pipe",
    ],
    [
      ["golden", "--device", "reference", "shard.tar"],
      "shard.tar can not be read, as it is not a regular file: a named pipe; give the path of a " +
      "golden .safetensors file",
    ],
    [
      ["import", "shard.tar", "out.safetensors"],
      "shard.tar cannot be read: it is not a regular file: a named pipe",
    ],
    [
      ["data", "hear", "made-v1-small", "--from", "pipe.tar.gz"],
      "pipe.tar.gz cannot be read: it is not a regular file: a named pipe",
    ],
    [
      ["experiment", "little.json", "--out", "run"],
      "there are 0 clips from the shard shard.tar, but training and holding out need at least 2; " +
      "skipped: shard.tar: it is not a regular file: a named pipe",
    ],
  ];
  for (const [args, sentence] of cases) {
    const { code, err } = await ran(folder, ...args);
    assertStrictEquals(code, 1);
    assert(err.includes(`${sentence}\n`), err);
  }
});
