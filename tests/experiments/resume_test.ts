// Pulling the plug: a run that is killed again and again, also while it writes a checkpoint, ends with
// the files of one that nobody touched, bit for bit. And what may go on, and what may not.
import assert from "assert";
import { dice } from "../../experiments/synth/dice.ts";
import { webgpu } from "../device.ts";
import mamba from "../../experiments/specs/mamba.json" with { type: "json" };

const cli = decodeURIComponent(new URL("../../experiments/cli.ts", import.meta.url).pathname);

const little = {
  ...mamba,
  evaluation: undefined,
  name: "little",
  clip: { frames: 40 },
  encoder: { ...mamba.encoder, dim: 64, depth: 2, state: 4, stochasticDepth: 0.2 },
  optimiser: { ...mamba.optimiser, emaDecay: 0.9 },
  schedule: { warmupSteps: 4, steps: 60 },
  batch: 2,
  data: { kind: "synthetic", clips: 7, seconds: 1, heldOutFraction: 0.3 },
  logEvery: 3,
  evaluateEvery: 7,
  checkpointEvery: 1,
  report: { examples: 1 },
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

/** Runs until `due`, kills, and says whether a checkpoint was being written. */
const killed = async (
  folder: string,
  args: readonly string[],
  due: (writing: () => boolean) => Promise<void>,
) => {
  const states = `${folder}/out/checkpoints`;
  const writing = () => names(states).some((name) => name.endsWith(".partial"));
  const child = start(folder, args).spawn();
  let ended = false;
  const end = child.output().then(() => ended = true);
  await Promise.race([end, due(() => writing() || ended)]);
  if (!ended) child.kill("SIGKILL");
  await end;
  return writing();
};

const lastSaved = (folder: string): string | undefined =>
  names(`${folder}/out/checkpoints`).filter((name) => name.endsWith(".safetensors")).at(-1);

/** Kills and resumes a run `times` times, then lets it end, and compares it with an untouched one. */
const plugPulled = (device: string, times: number) =>
  inFolder(async (folder) => {
    const on = ["--device", device];
    const untouched = await finished(folder, ...on, "--out", "untouched");
    assert.equal(untouched.code, 0, untouched.err);
    const random = dice(20);
    let torn = 0;
    for (let k = 0; k < times; k++) {
      const before = lastSaved(folder);
      const started = performance.now();
      torn += Number(
        await killed(folder, [...on, "--out", "out", "--resume"], async (writing) => {
          // The first kill is before there is anything; most come after some progress.
          if (k === 0) return await pause(random.scaled(50, 400));
          while (lastSaved(folder) === before && performance.now() - started < 20000) {
            await pause(2);
          }
          await pause(random.scaled(0, 40));
          if (k % 2 === 0) return;
          // Asked without a pause: a checkpoint is written in milliseconds.
          const until = performance.now() + 5000;
          while (!writing() && performance.now() < until) {
            if (Math.floor(performance.now()) % 50 === 0) await pause(0);
          }
        }),
      );
    }
    const reached = lastSaved(folder);
    assert.ok(reached !== undefined && reached < "step-0000060", `${reached} after ${times} kills`);
    assert.ok(torn > 0, "no kill met a checkpoint that was being written");
    const end = await finished(folder, ...on, "--out", "out", "--resume");
    assert.equal(end.code, 0, end.err);
    assert.match(end.err, /going on from step \d+/);
    const compared = [
      "checkpoint.safetensors",
      "average.safetensors",
      "metrics.jsonl",
      "spec.json",
    ];
    const states = names(`${folder}/untouched/checkpoints`);
    assert.deepEqual(states, ["step-0000059.safetensors", "step-0000060.safetensors"]);
    assert.deepEqual(names(`${folder}/out/checkpoints`), states);
    for (const name of [...compared, ...states.map((name) => `checkpoints/${name}`)]) {
      assert.deepEqual(
        Deno.readFileSync(`${folder}/out/${name}`),
        Deno.readFileSync(`${folder}/untouched/${name}`),
        name,
      );
    }
    assert.deepEqual(names(`${folder}/out`), names(`${folder}/untouched`));
  });

Deno.test("killed at twenty moments and resumed, a run ends with the same bits as WebAssembly", () =>
  plugPulled("wasm", 20));

const driver = /llvmpipe|swiftshader/i.exec(webgpu?.device ?? "")?.[0].toLowerCase();
const kind = driver === undefined ? "gpu" : driver === "llvmpipe" ? "software" : driver;

Deno.test({
  name: "killed at some moments and resumed, a run ends with the same bits on WebGPU",
  ignore: webgpu === undefined,
  fn: () => plugPulled(kind, 3),
});
