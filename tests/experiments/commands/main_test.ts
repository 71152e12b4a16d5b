// The command line as a user meets it: bad input gives one clear message, a status that is not 0, no
// stack trace, and nothing half-written.
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotStrictEquals,
  assertStrictEquals,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import { decode } from "../../../backends/runtime/safetensors.ts";
import mamba from "../../../experiments/specs/presets/mamba.json" with { type: "json" };

const command = decodeURIComponent(
  new URL("../../../experiments/commands/start.ts", import.meta.url).pathname,
);

const little = {
  ...mamba,
  evaluation: undefined,
  name: "little",
  clip: { frames: 40 },
  encoder: { ...mamba.encoder, dim: 16, depth: 1, state: 4, expand: 2 },
  schedule: { warmupSteps: 1, steps: 2 },
  batch: 2,
  data: { kind: "synthetic", clips: 4, seconds: 1, heldOutFraction: 0.3 },
  evaluateEvery: 2,
  checkpointEvery: 1,
  report: { examples: 1 },
};

const start = (args: readonly string[], cwd: string) =>
  new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", command, ...args],
    cwd,
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  });

const ran = async (args: readonly string[], cwd: string) => {
  const { code, stdout, stderr } = await start(args, cwd).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
};

const inFolder = async (body: (folder: string) => Promise<void>) => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/little.json`, JSON.stringify(little));
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

/** A wav file of a falling tone; `kept` cuts it. */
const wav = (seconds: number, kept = 1): Uint8Array => {
  const samples = Math.floor(16000 * seconds);
  const bytes = new Uint8Array(44 + 2 * samples), view = new DataView(bytes.buffer);
  const words = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
  words(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples, true);
  words(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, 16000, true);
  view.setUint32(28, 32000, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  words(36, "data");
  view.setUint32(40, 2 * samples, true);
  for (let k = 0; k < samples; k++) {
    view.setInt16(44 + 2 * k, 9000 * Math.sin(k * (0.3 - k / 1e6)), true);
  }
  return bytes.slice(0, Math.floor(bytes.length * kept));
};

const refused = async (
  args: readonly string[],
  folder: string,
  pattern: RegExp,
  status: number,
) => {
  const { code, err } = await ran(args, folder);
  assertStrictEquals(code, status, err);
  assertMatch(err, pattern);
  assert(!/^\s+at /m.test(err), `a stack trace: ${err}`);
};

const experiment = (
  ...args: readonly string[]
) => ["experiment", "little.json", "--device", "reference", ...args];

Deno.test("what is not understood is refused with status 2", () =>
  inFolder(async (folder) => {
    await refused(
      [],
      folder,
      /no command; the commands are experiment, golden, doctor, explain/,
      2,
    );
    await refused(["train"], folder, /there is no command 'train'/, 2);
    await refused(
      ["experiment", "mamba", "--steps", "3"],
      folder,
      /Unknown option '--steps'; a field of the spec is set with --set, such as --set schedule\.steps/,
      2,
    );
    await refused(
      ["experiment", "mamba", "--set", "encoder.dim", "=", "64"],
      folder,
      /one experiment is named; there is nothing to do with '=', '64'; see deno task experiment/,
      2,
    );
    await refused(
      ["experiment", "mamba", "--device", "cuda"],
      folder,
      /there is no device 'cuda'; the devices are auto, gpu, wasm, software, swiftshader,/,
      2,
    );
    await refused(
      ["data", "synthetic", "--seed"],
      folder,
      /^Option '--seed <value>' argument miss/,
      2,
    );
    await refused(
      ["doctor", "now"],
      folder,
      /there is nothing to do with 'now'; see deno task doc/,
      2,
    );
    await refused(["experiment"], folder, /^deno task experiment NAME /, 2);
    // Several are explained at once.
    await refused(["explain", "mamba", "mambo"], folder, /there is no experiment 'mambo'/, 1);
  }));

Deno.test("specs that are not there or have mistakes are refused", () =>
  inFolder(async (folder) => {
    await refused(
      ["experiment", "mambo"],
      folder,
      /there is no experiment 'mambo'.*mamba-tiny/s,
      1,
    );
    const typo = { ...little, encoder: { ...little.encoder, dept: 3 } };
    await Deno.writeTextFile(`${folder}/typo.json`, JSON.stringify(typo));
    await refused(["experiment", "typo.json"], folder, /encoder\.dept.*did you mean/s, 1);
    assert(![...Deno.readDirSync(folder)].some((entry) => entry.name === "runs"));
  }));

Deno.test("folders without usable audio are refused", () =>
  inFolder(async (folder) => {
    await refused(experiment("--data", "nowhere"), folder, /nowhere/, 1);
    await Deno.mkdir(`${folder}/empty`);
    await refused(experiment("--data", "empty"), folder, /empty/, 1);
    await Deno.mkdir(`${folder}/cut`);
    await Deno.writeFile(`${folder}/cut/a.wav`, wav(1, 0.5));
    await refused(experiment("--data", "cut"), folder, /a\.wav/, 1);
  }));

Deno.test("a truncated recording is listed and skipped, and the run goes on", () =>
  inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/sounds`);
    for (const name of ["a", "b", "c"]) {
      await Deno.writeFile(`${folder}/sounds/${name}.wav`, wav(0.6));
    }
    await Deno.writeFile(`${folder}/sounds/broken.wav`, wav(0.6, 0.4));
    const { code, err } = await ran(experiment("--data", "sounds", "--out", "out"), folder);
    assertStrictEquals(code, 0, err);
    assertMatch(err, /1 file was skipped:\n {2}broken\.wav: /);
    const page = await Deno.readTextFile(`${folder}/out/report.html`);
    assertMatch(page, /broken\.wav/);
  }));

Deno.test("an output folder that can not be written is refused before any work", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/taken`, "");
    await refused(experiment("--out", "taken"), folder, /taken/, 1);
    assertStrictEquals(await Deno.readTextFile(`${folder}/taken`), "");
  }));

const asked = (signal: Deno.Signal) =>
  inFolder(async (folder) => {
    const long = { ...little, schedule: { warmupSteps: 1, steps: 5000 } };
    await Deno.writeTextFile(`${folder}/little.json`, JSON.stringify(long));
    const child = start(experiment("--out", "out"), folder).spawn();
    const file = `${folder}/out/checkpoint.safetensors`;
    for (let k = 0; k < 600 && !(await Deno.stat(file).catch(() => undefined)); k++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    child.kill(signal);
    const { code, stderr } = await child.output();
    const err = new TextDecoder().decode(stderr);
    assertNotStrictEquals(code, 0);
    assertMatch(err, /interrupted after step \d+; the checkpoint of step \d+ is in out/);
    assert(!/^\s+at /m.test(err), err);
    assert(E.isRight(decode(await Deno.readFile(file))));
    const left = [...Deno.readDirSync(`${folder}/out`)].map((entry) => entry.name).sort();
    assertEquals(left, [
      ".lock",
      "checkpoint.safetensors",
      "checkpoints",
      "metrics.csv",
      "metrics.jsonl",
      "run.json",
      "spec.json",
      "timing.jsonl",
    ]);
  });

Deno.test("an interrupt leaves the last checkpoint whole", () => asked("SIGINT"));

Deno.test({
  name: "so does a scheduler that ends the job",
  ignore: Deno.build.os === "windows",
  fn: () => asked("SIGTERM"),
});

Deno.test("a run goes on when nobody reads what it says any more", () =>
  inFolder(async (folder) => {
    const child = start(experiment("--out", "out"), folder).spawn();
    await child.stderr.cancel();
    await child.stdout.cancel();
    assertStrictEquals((await child.status).code, 0);
    assertStrictEquals(
      JSON.parse(Deno.readTextFileSync(`${folder}/out/run.json`)).state,
      "finished",
    );
  }));

Deno.test("doctor says what it finds, and golden tells a file that is none", () =>
  inFolder(async (folder) => {
    const { code, out } = await ran(["doctor"], folder);
    assertStrictEquals(code, 0, out);
    assertMatch(out, /reference/);
    await refused(["golden", "--device", "reference", "little.json"], folder, /little\.json/, 1);
  }));
