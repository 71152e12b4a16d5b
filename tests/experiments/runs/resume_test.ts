// Pulling the plug: a run that is killed again and again, also while it writes a checkpoint, ends with
// the files of one that nobody touched, bit for bit. And what may go on, and what may not.
import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import { dice } from "../../../experiments/data/synth/random.ts";
import { webgpu } from "../../support/device.ts";
import mamba from "../../../experiments/specs/presets/mamba.json" with { type: "json" };

const cli = decodeURIComponent(
  new URL("../../../experiments/commands/main.ts", import.meta.url).pathname,
);

const little = {
  ...mamba,
  evaluation: undefined,
  name: "little",
  clip: { frames: 40 },
  encoder: { ...mamba.encoder, dim: 48, depth: 1, state: 4, stochasticDepth: 0.2 },
  optimiser: { ...mamba.optimiser, emaDecay: 0.9 },
  schedule: { warmupSteps: 4, steps: 140 },
  batch: 2,
  data: { kind: "synthetic", clips: 7, seconds: 1, heldOutFraction: 0.3 },
  // So that there are lines of steps that no checkpoint holds.
  logEvery: 1,
  evaluateEvery: 7,
  checkpointEvery: 2,
  report: { examples: 1 },
};

// What else is kept between steps: the scale of the loss, and gradients summed over parts.
const inParts = {
  ...little,
  precision: "f16",
  optimiser: { ...little.optimiser, clipNorm: 1 },
  accumulate: 2,
};

const inFolder = async (spec: typeof little, body: (folder: string) => Promise<void>) => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/little.json`, JSON.stringify(spec));
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

const start = (folder: string, args: readonly string[]) =>
  new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", cli, "experiment", "little.json", ...args],
    cwd: folder,
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  });

const finished = async (folder: string, ...args: readonly string[]) => {
  const { code, stdout, stderr } = await start(folder, args).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
};

const names = (folder: string): readonly string[] => {
  try {
    return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
  } catch {
    return [];
  }
};

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Starts a run and kills it once `due` says so, if it is still there. */
const killed = async (
  folder: string,
  args: readonly string[],
  due: (ended: () => boolean) => Promise<void>,
): Promise<void> => {
  const child = start(folder, args).spawn();
  let ended = false;
  const end = child.output().then(() => ended = true);
  await Promise.race([end, due(() => ended)]);
  if (!ended) child.kill("SIGKILL");
  await end;
};

const states = (folder: string): readonly string[] =>
  names(`${folder}/out/checkpoints`).filter((name) => name.endsWith(".safetensors"));

const stepOf = (name: string | undefined): number => Number(/\d+/.exec(name ?? "0"));
const fileOf = (step: number): string => `step-${`${step}`.padStart(7, "0")}.safetensors`;

/**
 * Kills a run while it writes the checkpoint of a step, of which `bytes` have been written: it writes
 * them into a pipe that takes no more. They are left under the name that they were written to.
 */
const killedWriting = async (
  folder: string,
  args: readonly string[],
  { step, bytes }: { readonly step: number; readonly bytes: number },
): Promise<void> => {
  const path = `${folder}/out/checkpoints/${fileOf(step)}.partial`;
  await Deno.remove(path).catch(() => {});
  await new Deno.Command("mkfifo", { args: [path] }).output();
  const pipe = await Deno.open(path, { read: true, write: true });
  const written = new Uint8Array(bytes);
  let done = 0;
  await killed(folder, args, async (ended) => {
    while (done < bytes) {
      const count = await pipe.read(written.subarray(done));
      if (ended()) return;
      done += count!;
    }
  });
  // What still waits to read is let go.
  if (done < bytes) pipe.writeSync(Uint8Array.of(0));
  pipe.close();
  assert(done === bytes, `the run ended before it wrote the checkpoint of step ${step}`);
  await Deno.remove(path);
  await Deno.writeFile(path, written);
};

/** Kills and resumes a run twenty times, then lets it end, and compares it with an untouched one. */
const plugPulled = (device: string, spec: typeof little) =>
  inFolder(spec, async (folder) => {
    const on = ["--device", device], out = [...on, "--out", "out", "--resume"];
    const { steps } = spec.schedule, every = spec.checkpointEvery;
    const untouched = await finished(folder, ...on, "--out", "untouched");
    assertStrictEquals(untouched.code, 0, untouched.err);
    const kept = names(`${folder}/untouched/checkpoints`);
    assertEquals(kept, [fileOf(steps - every), fileOf(steps)]);
    const { size } = Deno.statSync(`${folder}/untouched/checkpoints/${fileOf(steps)}`);
    // A pipe takes 64 kB that nobody reads.
    assertGreater(size, 2 * 65536, `${size}`);
    const lines = Deno.readTextFileSync(`${folder}/untouched/timing.jsonl`).trim().split("\n");
    // Memory is flat once a run is going.
    const memory = lines.map((line) => JSON.parse(line).memory as number);
    const [early, late] = [memory.slice(20, 40), memory.slice(-20)].map((of) => Math.max(...of));
    assertLess(late, early + 50e6, `${early} bytes, then ${late}`);
    const perStep = 1000 * JSON.parse(lines.at(-1)!).elapsed / steps;

    const random = dice(20);
    let met = 0;
    for (let k = 0; k < 20; k++) {
      const last = stepOf(states(folder).at(-1));
      // A checkpoint that was being written is met every other time.
      if (k % 2 === 1 && last > 0) {
        met++;
        await killedWriting(folder, out, {
          step: last + every * random.whole(1, 2),
          bytes: random.whole(1, size - 65537),
        });
        continue;
      }
      // The first is before there is anything; others come after some progress.
      await killed(folder, out, async (ended) => {
        while (k > 0 && stepOf(states(folder).at(-1)) === last && !ended()) await pause(2);
        await pause(k === 0 ? random.between(50, 400) : random.between(0, 3 * perStep));
      });
      // What a machine leaves that loses its power while lines are written.
      for (const name of ["metrics.jsonl", "timing.jsonl"]) {
        if (k > 0) {
          Deno.writeTextFileSync(`${folder}/out/${name}`, '{"step":9,"lo', { append: true });
        }
      }
    }
    assertGreaterOrEqual(met, 9, `${met} kills met a checkpoint that was being written`);
    const reached = stepOf(states(folder).at(-1));
    assert(reached > 20 && reached < steps, `step ${reached} after 20 kills`);
    const end = await finished(folder, ...out);
    assertStrictEquals(end.code, 0, end.err);
    assertMatch(end.err, new RegExp(`going on from step ${reached}$`, "m"));
    const compared = [
      "checkpoint.safetensors",
      "average.safetensors",
      "metrics.jsonl",
      "spec.json",
      ...kept.map((name) => `checkpoints/${name}`),
    ];
    for (const name of compared) {
      const [one, other] = ["out", "untouched"].map((of) =>
        Deno.readFileSync(`${folder}/${of}/${name}`)
      );
      assertEquals(one, other, name);
    }
    const timed = Deno.readTextFileSync(`${folder}/out/timing.jsonl`).trim().split("\n");
    assertEquals(
      timed.map((line) => JSON.parse(line).step),
      lines.map((line) => JSON.parse(line).step),
    );
    assertEquals(names(`${folder}/out`), names(`${folder}/untouched`));
    assertEquals(names(`${folder}/out/checkpoints`), kept);
  });

const withPipes = Deno.build.os !== "windows";

Deno.test({
  name: "killed at twenty moments and resumed, a run ends with the same bits as WebAssembly",
  ignore: !withPipes,
  fn: () => plugPulled("wasm", little),
});

const driver = /llvmpipe|swiftshader/i.exec(webgpu?.device ?? "")?.[0].toLowerCase();
const kind = driver === undefined ? "gpu" : driver === "llvmpipe" ? "software" : driver;

Deno.test({
  name: "killed at twenty moments and resumed, a run ends with the same bits on WebGPU",
  ignore: !withPipes || webgpu === undefined,
  fn: () => plugPulled(kind, inParts),
});
