// What the world does to a run, as a user meets it: commands are run, and their disk, folders and data are
// broken before or under them. What they say is looked at, what is left, and that a run that goes on ends
// with the bits of one that nothing happened to.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotMatch,
  assertStrictEquals,
} from "@std/assert";
import { npy } from "../../../experiments/formats/npy_write.ts";
import { wav16 } from "../../../experiments/formats/wav.ts";
import { synthesise } from "../../../experiments/data/synth/corpus.ts";
import { inFolder } from "../../support/hear/made.ts";
import { tar } from "../../support/hear/tarball.ts";
import { command, littleDocument } from "../../support/commands.ts";

const stored = { heldOutFraction: 0.3, skippedFraction: 0.9 };
const little = {
  ...littleDocument,
  schedule: { warmupSteps: 2, steps: 12 },
  evaluateEvery: 4,
  checkpointEvery: 3,
};

const ended = async (running: Promise<Deno.CommandOutput>) => {
  const { code, stdout, stderr } = await running;
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const err = text(stderr);
  assertNotMatch(err, /^\s+at /m);
  return { code, out: text(stdout), err };
};

const experiment = (cwd: string, ...args: readonly string[]) =>
  ended(command(cwd, ["experiment", "little.json", ...args]).output());

const writeSpec = (folder: string, changes: Record<string, unknown> = {}) =>
  Deno.writeTextFileSync(`${folder}/little.json`, JSON.stringify({ ...little, ...changes }));

const writeSounds = (folder: string, count = 8) => {
  Deno.mkdirSync(folder, { recursive: true });
  for (const { name, samples } of synthesise(1, count, 0.8)) {
    Deno.writeFileSync(`${folder}/${name}.wav`, wav16(samples, 16000));
  }
};

const exists = (path: string): boolean => {
  try {
    return Deno.statSync(path).size >= 0;
  } catch {
    return false;
  }
};

/** Runs, and does something once a checkpoint is there. */
const experimentWhile = async (folder: string, out: string, act: () => void) => {
  const child = command(folder, ["experiment", "little.json", "--out", out]).spawn();
  let over = false;
  const end = ended(child.output()).finally(() => over = true);
  while (!over && !exists(`${folder}/${out}/checkpoint.safetensors`)) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  act();
  return await end;
};

const assertSame = (folder: string, one: string, other: string) => {
  for (const name of ["checkpoint.safetensors", "metrics.jsonl"]) {
    const [a, b] = [one, other].map((of) => Deno.readFileSync(`${folder}/${of}/${name}`));
    assertEquals(a, b, name);
  }
};

// ---------------------------------------------------------------- the disk

const mount = (...args: readonly string[]): boolean => {
  try {
    return new Deno.Command("mount", { args: [...args] }).outputSync().success;
  } catch {
    return false;
  }
};

Deno.test("a disk that fills up, or that nothing may be written on, stops a run that goes on later", () =>
  inFolder(async (folder) => {
    writeSpec(folder);
    writeSounds(`${folder}/sounds`);
    const disk = `${folder}/disk`;
    Deno.mkdirSync(disk);
    if (!mount("-t", "tmpfs", "-o", "size=240k", "none", disk)) {
      return console.log("skipped: no small disk can be made here, which takes root");
    }
    try {
      assertStrictEquals((await experiment(folder, "--out", "untouched")).code, 0);
      assert(mount("-o", "remount,ro", disk));
      const unwritable = await experiment(folder, "--out", "disk/run");
      assertStrictEquals(unwritable.code, 1);
      assertMatch(
        unwritable.err,
        /^cannot make the folder disk\/run: the file system is read-only; choose another folder$/m,
      );
      assert(mount("-o", "remount,rw", disk));
      const full = await experiment(folder, "--out", "disk/run");
      assertStrictEquals(full.code, 1);
      assertMatch(
        full.err,
        /^cannot write the file disk\/run\/.*: the disk is full; make room or choose another folder; the checkpoint of step \d+ is in disk\/run, and --resume goes on from it$/m,
      );
      assert(mount("-o", "remount,size=4m", disk));
      const end = await experiment(folder, "--out", "disk/run", "--resume");
      assertStrictEquals(end.code, 0, end.err);
      assertSame(folder, "disk/run", "untouched");
    } finally {
      new Deno.Command("umount", { args: [disk] }).outputSync();
    }
  }));

Deno.test("folders that cannot be written are told before any work", () =>
  inFolder(async (folder) => {
    writeSpec(folder);
    writeSounds(`${folder}/sounds`, 2);
    Deno.writeTextFileSync(`${folder}/taken`, "");
    for (const out of ["taken", "taken/run"]) {
      const { code, err } = await experiment(folder, "--out", out);
      assertStrictEquals(code, 1);
      assertMatch(
        err,
        /^cannot make the folder taken.*: (a file has that name|a part of the path is a file, not a folder)$/m,
      );
      assertNotMatch(err, /compiling/);
    }
  }));

// ---------------------------------------------------------------- the data

Deno.test("data that vanishes under a run: it is told, and with the data back the run goes on", () =>
  inFolder(async (folder) => {
    writeSpec(folder, { schedule: { warmupSteps: 2, steps: 150 } });
    writeSounds(`${folder}/sounds`);
    const gone = await experimentWhile(folder, "out", () => {
      Deno.renameSync(`${folder}/sounds`, `${folder}/elsewhere`);
    });
    assertStrictEquals(gone.code, 1);
    assertMatch(
      gone.err,
      /^sounds\/.*\.wav can no longer be read: it is no longer there; put it back and resume the run; the checkpoint of step \d+ is in out, and --resume goes on from it$/m,
    );
    const missing = await experiment(folder, "--out", "out", "--resume");
    assertStrictEquals(missing.code, 1);
    assertMatch(missing.err, /^there is no folder sounds; give the path of a folder of/m);
    Deno.renameSync(`${folder}/elsewhere`, `${folder}/sounds`);
    assertStrictEquals((await experiment(folder, "--out", "out", "--resume")).code, 0);
    assertStrictEquals((await experiment(folder, "--out", "untouched")).code, 0);
    assertSame(folder, "out", "untouched");
  }));

Deno.test("a shard that is cut under a run, and a recording that turns bad", () =>
  inFolder(async (folder) => {
    const values = (k: number) => Float32Array.from({ length: 4800 }, (_, i) => Math.sin(i * k));
    const shard = tar(
      Array.from({ length: 8 }, (_, k) => ({
        path: `${k}.npy`,
        content: npy(values(1 + k), [60, 80]),
      })),
    );
    const whole = () => Deno.writeFileSync(`${folder}/a.tar`, shard);
    writeSpec(folder, {
      schedule: { warmupSteps: 2, steps: 150 },
      data: { kind: "shards", paths: ["a.tar"], members: "log-mel", ...stored },
    });
    whole();
    const cut = await experimentWhile(folder, "out", () => {
      Deno.truncateSync(`${folder}/a.tar`, shard.length * 0.4 | 0);
    });
    assertStrictEquals(cut.code, 1);
    assertMatch(
      cut.err,
      /^a\.tar can no longer be read: it is shorter than when the run began; put it back and resume the run; the checkpoint/m,
    );
    whole();
    // As a disk that fails, or somebody who writes into what is read.
    const spoilt = await experimentWhile(folder, "other", () => {
      const file = Deno.openSync(`${folder}/a.tar`, { write: true });
      for (let k = 0; k < 8; k++) {
        file.seekSync(512 + k * (512 + 19456) + 10000, Deno.SeekMode.Start);
        if (k % 3 === 0) file.writeSync(new Uint8Array(Float32Array.of(NaN).buffer));
      }
      file.close();
    });
    assertStrictEquals(spoilt.code, 0, spoilt.err);
    assertMatch(
      spoilt.err,
      /^a\.tar\/\d\.npy is skipped: the value of frame \d+, band \d+ is not finite$/m,
    );
    assertMatch(Deno.readTextFileSync(`${folder}/other/report.html`), /\d recordings? skipped/);
  }));

Deno.test("what is empty, cut, not a number or larger than it is, is listed, and costs little memory", () =>
  inFolder(async (folder) => {
    writeSounds(`${folder}/sounds`);
    const sound = wav16(synthesise(3, 1, 0.5)[0].samples, 16000);
    const changed = (of: Uint8Array, act: (view: DataView) => void) => {
      const bytes = of.slice();
      act(new DataView(bytes.buffer));
      return bytes;
    };
    // 32-bit floats in place of pairs of 16-bit numbers.
    const floats = (value: number) =>
      changed(sound, (view) => {
        view.setUint16(20, 3, true);
        view.setUint32(28, 64000, true);
        view.setUint16(32, 4, true);
        view.setUint16(34, 32, true);
        for (let at = 44; at < sound.length; at += 4) view.setFloat32(at, 0.1, true);
        view.setFloat32(44 + 4 * 800, value, true);
      });
    const flac = Deno.readFileSync(new URL("../../support/recordings/tone.flac", import.meta.url));
    const files: Readonly<Record<string, Uint8Array>> = {
      "empty.wav": new Uint8Array(),
      "cut.wav": sound.slice(0, sound.length / 2),
      "nan.wav": floats(NaN),
      "infinite.wav": floats(-Infinity),
      "loud.wav": floats(1e18),
      "claims.wav": changed(sound, (view) => view.setUint32(40, 200_000_000, true)),
      "format.wav": changed(sound, (view) => view.setUint32(16, 200_000_000, true)),
      "claims.flac": changed(flac, (view) => view.setUint32(22, 200_000_000)),
    };
    for (const [name, bytes] of Object.entries(files)) {
      Deno.writeFileSync(`${folder}/sounds/${name}`, bytes);
    }
    writeSpec(folder);
    const { code, err } = await experiment(folder, "--out", "out");
    assertStrictEquals(code, 0, err);
    const lines = [
      "8 files were skipped:",
      "  claims.flac: it is damaged: it should hold 200000000 samples, but 8820 can be decoded",
      "  claims.wav: it is damaged: its audio should have 200000000 bytes, but 16000 are there",
      "  cut.wav: it is damaged: its audio should have 16000 bytes, but 7978 are there",
      "  empty.wav: the file is empty",
      "  format.wav: it is damaged: its chunk at byte 12 should have 200000000 bytes, but 16024 are there",
      "  infinite.wav: the sample at 0.050 s is not a finite number",
      "  loud.wav: the sample at 0.050 s is 1.00e+18, where samples go from -1 to 1 and up to 1e+15 are read",
      "  nan.wav: the sample at 0.050 s is not a finite number",
    ];
    assert(err.includes(`${lines.join("\n")}\n`), err);
    const page = Deno.readTextFileSync(`${folder}/out/report.html`);
    assertMatch(page, /8 recordings skipped/);
    const memory = Deno.readTextFileSync(`${folder}/out/timing.jsonl`).trim().split("\n")
      .map((line) => JSON.parse(line).memory as number);
    assertLess(Math.max(...memory), 400e6, `${Math.max(...memory)} bytes`);

    // More than the spec allows to be missing.
    writeSpec(folder, { data: { ...little.data, skippedFraction: 0.1 } });
    const strict = await experiment(folder, "--out", "other");
    assertStrictEquals(strict.code, 1);
    assertMatch(
      strict.err,
      /^8 of 16 recordings from the recordings in sounds were skipped, more than the share of 0\.1 that data\.skippedFraction allows; the first is claims\.flac: it is damaged/m,
    );

    // The checkpoints of the run, with a header of 200 MB.
    const checkpoint = changed(
      Deno.readFileSync(`${folder}/out/checkpoint.safetensors`),
      (view) => view.setBigUint64(0, 200_000_000n, true),
    );
    Deno.writeFileSync(`${folder}/claims.safetensors`, checkpoint);
    Deno.truncateSync(`${folder}/claims.safetensors`, 400e6);
    const args = ["embed", "--checkpoint", "claims.safetensors", "--out", "e", "sounds"];
    const embedded = await ended(command(folder, args).output());
    assertStrictEquals(embedded.code, 1);
    assertMatch(
      embedded.err,
      /^claims\.safetensors is not a safetensors file: its first 8 bytes announce a header of 200000000 bytes, where at most 16777216 are accepted$/m,
    );
    assert(!exists(`${folder}/e`));
  }));
