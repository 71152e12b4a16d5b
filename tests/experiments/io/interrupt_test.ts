// An end that is asked for while a command waits: for a decoder that hangs, a file that gives nothing, a
// server that does not answer. Commands are started as users start them, and must be gone within two
// seconds, their decoders with them, with nothing half-written.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotMatch,
  assertStrictEquals,
} from "@std/assert";
import { listenForEnd, unlessEnded } from "../../../experiments/io/interrupt.ts";
import { synthesise } from "../../../experiments/data/synth/corpus.ts";
import { filesOf, threeSplits, writeFiles } from "../../support/hear/made.ts";
import { gzip, taskTar } from "../../support/hear/tarball.ts";
import { command, littleDocument, mkfifo, onLinux } from "../../support/commands.ts";

const little = {
  ...littleDocument,
  schedule: { warmupSteps: 2, steps: 5000 },
  evaluateEvery: 5000,
};

/** A wav file of 32-bit floats, one channel. */
const floats = (samples: Float32Array, rate = 16000): Uint8Array => {
  const bytes = new Uint8Array(44 + 4 * samples.length), view = new DataView(bytes.buffer);
  const words = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
  words(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  words(8, "WAVEfmt ");
  [16, 3 + (1 << 16), rate, 4 * rate, 4 + (32 << 16)].forEach((word, k) =>
    view.setUint32(16 + 4 * k, word, true)
  );
  words(36, "data");
  view.setUint32(40, 4 * samples.length, true);
  bytes.set(new Uint8Array(samples.buffer), 44);
  return bytes;
};

const writeSounds = (folder: string, count = 6) => {
  Deno.mkdirSync(folder, { recursive: true });
  for (const { name, samples } of synthesise(1, count, 0.8)) {
    Deno.writeFileSync(`${folder}/${name}.wav`, floats(samples));
  }
};

const writeSpec = (folder: string, changes: Record<string, unknown> = {}) =>
  Deno.writeTextFileSync(`${folder}/little.json`, JSON.stringify({ ...little, ...changes }));

const exists = (path: string): boolean => {
  try {
    return Deno.lstatSync(path) !== undefined;
  } catch {
    return false;
  }
};

/** What `deno task` starts without an engine of its own. */
const starts = ["runs", "import", "data", "tune"];

const start = (cwd: string, args: readonly string[]) =>
  command(cwd, args, starts.includes(args[0]) ? "main" : "start");

/** Processes below another one, as Linux knows them, with their command lines. */
const below = (ancestor: number): readonly { readonly pid: number; readonly line: string }[] => {
  const parents = new Map<number, number>(), lines = new Map<number, string>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const [state, parent] = Deno.readTextFileSync(`/proc/${name}/stat`).split(") ")[1].split(" ");
      if (state === "Z") continue;
      parents.set(Number(name), Number(parent));
      lines.set(Number(name), Deno.readTextFileSync(`/proc/${name}/cmdline`));
    } catch {
      // It has ended.
    }
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent !== undefined && (parent === ancestor || isBelow(parent));
  };
  return [...parents.keys()].filter(isBelow).map((pid) => ({ pid, line: lines.get(pid)! }));
};

const isAlive = (pid: number): boolean => {
  try {
    return !/\) Z /.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return false;
  }
};

const until = async (what: string, holds: () => boolean): Promise<void> => {
  const began = performance.now();
  while (!holds()) {
    assertLess(performance.now() - began, 60_000, what);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

/** Stops the process that decodes below another one, in the middle of whatever it does. */
const hang = async (ancestor: number): Promise<number> => {
  let decoder: number | undefined;
  await until("a decoder begins", () => {
    decoder = below(ancestor).find(({ line }) => line.includes("decoder_process"))?.pid;
    return decoder !== undefined;
  });
  Deno.kill(decoder!, "SIGSTOP");
  return decoder!;
};

/**
 * Runs a command, has it wait, and tells it to end. Whatever was below it must be gone, within two
 * seconds.
 */
const ended = async (
  cwd: string,
  args: readonly string[],
  signal: Deno.Signal,
  waits: (pid: number) => Promise<unknown>,
) => {
  const child = start(cwd, args).spawn();
  const output = child.output();
  await waits(child.pid);
  // As long as what it waits for is likely to be noticed as not coming.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const all = below(child.pid);
  assert(isAlive(child.pid), `${args.join(" ")} ended by itself`);
  const asked = performance.now();
  child.kill(signal);
  const late = setTimeout(() => [child.pid, ...all.map(({ pid }) => pid)].forEach(kill), 20_000);
  const { code, stdout, stderr } = await output;
  const seconds = (performance.now() - asked) / 1000;
  clearTimeout(late);
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertLess(seconds, 2, `${args.join(" ")} took ${seconds} s to end\n${err}`);
  assertNotMatch(err, /^\s+at /m);
  const left = all.filter(({ pid }) => isAlive(pid));
  left.forEach(({ pid }) => kill(pid));
  assertEquals(left, []);
  return { code, out, err };
};

const kill = (pid: number) => {
  try {
    Deno.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
};

const names = (folder: string): readonly string[] =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

// ---------------------------------------------------------------- a decoder that hangs

onLinux("training ends while it reads all recordings for the first time", async (folder) => {
  writeSpec(folder);
  writeSounds(`${folder}/sounds`);
  const args = ["experiment", "little.json", "--out", "out"];
  const { code, err } = await ended(folder, args, "SIGTERM", hang);
  assertStrictEquals(code, 1);
  assertMatch(err, /^interrupted while recordings were read$/m);
  assertEquals(names(`${folder}/out`), []);
});

onLinux("training ends while it waits for a batch, saves, and goes on later", async (folder) => {
  writeSpec(folder);
  writeSounds(`${folder}/sounds`);
  const args = ["experiment", "little.json", "--out", "out"];
  const { code, err } = await ended(folder, args, "SIGINT", async (pid) => {
    await until("a checkpoint", () => exists(`${folder}/out/checkpoint.safetensors`));
    await hang(pid);
  });
  assertStrictEquals(code, 1);
  const [, step, saved] =
    /^interrupted after step (\d+); the checkpoint of step (\d+) is in out, and --resume goes on from it$/m
      .exec(err)!;
  assertStrictEquals(step, saved);
  writeSpec(folder, { schedule: { ...little.schedule, steps: 5000 } });
  const again = start(folder, [...args, "--resume"]).spawn(), output = again.output();
  const metrics = () => Deno.readTextFileSync(`${folder}/out/metrics.jsonl`);
  const before = metrics().length;
  await until("another step", () => metrics().length !== before);
  again.kill("SIGINT");
  assertMatch(
    new TextDecoder().decode((await output).stderr),
    new RegExp(`going on from step ${step}`),
  );
});

/** A checkpoint of a run of two steps. */
const checkpointIn = async (folder: string): Promise<string> => {
  writeSpec(folder, { schedule: { warmupSteps: 1, steps: 2 }, evaluateEvery: 2 });
  writeSounds(`${folder}/sounds`, 3);
  const made = await start(folder, ["experiment", "little.json", "--out", "made"]).output();
  assertStrictEquals(made.code, 0, new TextDecoder().decode(made.stderr));
  return "made/checkpoint.safetensors";
};

onLinux("embed and evaluate end while a recording is decoded", async (folder) => {
  const checkpoint = ["--checkpoint", await checkpointIn(folder), "--device", "wasm"];
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const args = ["embed", ...checkpoint, "--out", "out", "sounds"];
    const { code, err } = await ended(folder, args, signal, hang);
    assertStrictEquals(code, 1);
    assertMatch(err, /^interrupted$/m);
    assertEquals(names(`${folder}/out`), []);
  }
  // A clip that is not of 16 bit is decoded.
  const files = filesOf(threeSplits);
  files.set("16000/train/a.wav", floats(new Float32Array(800).fill(0.1)));
  writeFiles(`${folder}/tasks/made-v1-small`, files);
  const args = ["evaluate", ...checkpoint, "--tasks", "tasks", "--out", "scores"];
  const { code, err } = await ended(folder, args, "SIGTERM", hang);
  assertStrictEquals(code, 1);
  assertMatch(err, /^interrupted; embeddings so far are kept$/m);
});

onLinux("a task that is being unpacked is not left in part", async (folder) => {
  const files = filesOf(threeSplits, 44100);
  const archive = await gzip(taskTar("made-v1-small", files));
  Deno.writeFileSync(`${folder}/made-v1-small-44100.tar.gz`, archive);
  const args = ["data", "hear", "made-v1-small", "--from", "made-v1-small-44100.tar.gz"];
  const { code } = await ended(folder, args, "SIGTERM", hang);
  assertStrictEquals(code, 143);
  assertEquals(names(`${folder}/tasks`), []);
});

// ---------------------------------------------------------------- files and servers that give nothing

onLinux("every command ends while it waits for a file", async (folder) => {
  mkfifo(`${folder}/pipe.json`);
  Deno.mkdirSync(`${folder}/runs/one`, { recursive: true });
  mkfifo(`${folder}/runs/one/run.json`);
  const commands: readonly (readonly [readonly string[], Deno.Signal, number])[] = [
    [["experiment", "pipe.json"], "SIGINT", 130],
    [["explain", "pipe.json"], "SIGTERM", 143],
    [["tune", "pipe.json"], "SIGINT", 130],
    [["runs"], "SIGTERM", 143],
  ];
  for (const [args, signal, status] of commands) {
    // Nothing tells from outside that it waits.
    const waits = () => new Promise((resolve) => setTimeout(resolve, 2000));
    assertStrictEquals((await ended(folder, args, signal, waits)).code, status, args.join(" "));
  }
});

onLinux("a download ends, and what was fetched is gone on from", async (folder) => {
  let asked = false;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    asked = true;
    // Some bytes, and then nothing for ever.
    return new Response(
      new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(1000)) }),
    );
  });
  try {
    const from = `http://127.0.0.1:${server.addr.port}/made-v1-small-16000.tar.gz`;
    const args = ["data", "hear", "made-v1-small", "--from", from];
    const { code } = await ended(folder, args, "SIGINT", () => until("a request", () => asked));
    assertStrictEquals(code, 130);
    assertEquals(names(`${folder}/tasks`), ["made-v1-small-16000.tar.gz.partial"]);
  } finally {
    await server.shutdown();
  }
});

onLinux("commands that compute end at once", async (folder) => {
  for (
    const [args, signal] of [
      [["scaling", "--tokens", "20000", "--device", "wasm"], "SIGTERM"],
      [["data", "synthetic", "--clips", "5000"], "SIGINT"],
    ] as const
  ) {
    const waits = () => new Promise((resolve) => setTimeout(resolve, 2500));
    const { code } = await ended(folder, args, signal, waits);
    assertStrictEquals(code, signal === "SIGINT" ? 130 : 143, args.join(" "));
  }
});

onLinux("making a corpus ends between two sounds", async (folder) => {
  const data = { kind: "synthetic", clips: 100_000, seconds: 1, heldOutFraction: 0.3 };
  writeSpec(folder, { data });
  const args = ["experiment", "little.json", "--out", "out"];
  const { code, err } = await ended(folder, args, "SIGINT", async () => {
    await until("a folder", () => exists(`${folder}/out`));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  });
  assertStrictEquals(code, 1);
  assertMatch(err, /^interrupted while recordings were read$/m);
});

// ---------------------------------------------------------------- the parts

Deno.test("what is waited for comes, or an end does", async () => {
  const { promise, resolve } = Promise.withResolvers<number>();
  const controller = new AbortController();
  const ended = unlessEnded(promise, controller.signal);
  controller.abort();
  assertStrictEquals(await ended, undefined);
  assertStrictEquals(await unlessEnded(promise, controller.signal), undefined);
  assertStrictEquals(await unlessEnded(Promise.reject(new Error()), controller.signal), undefined);
  resolve(3);
  assertStrictEquals(await unlessEnded(promise, new AbortController().signal), 3);
  assertStrictEquals(await unlessEnded(promise, undefined), 3);
});

Deno.test({
  name: "who listens hears a scheduler, and who listens for longer",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const longer = listenForEnd(), end = listenForEnd(longer.signal);
    assert(!end.signal.aborted && end.asked() === undefined);
    Deno.kill(Deno.pid, "SIGTERM");
    while (!longer.signal.aborted) await new Promise((resolve) => setTimeout(resolve, 1));
    assert(end.signal.aborted);
    assertStrictEquals(end.asked(), "SIGTERM");
    const later = listenForEnd(longer.signal);
    assert(later.signal.aborted && later.asked() === undefined);
    [longer, end, later].forEach(({ forget }) => forget());
  },
});
