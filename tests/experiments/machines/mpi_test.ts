// Runs that mpirun starts: the same losses as by one process, whatever their number, a killed process
// that ends all, and a run that goes on with another number. With FORMANT_REQUIRE_MPI set, to anything,
// a machine without MPI fails instead of skipping them.
import {
  assert,
  assertEquals,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotStrictEquals,
  assertStrictEquals,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import { type Metric, readMetrics } from "../../../experiments/training/metrics.ts";
import mamba from "../../../experiments/specs/presets/mamba.json" with { type: "json" };

const little = {
  ...mamba,
  name: "little",
  evaluation: undefined,
  clip: { frames: 40 },
  encoder: { ...mamba.encoder, dim: 16, depth: 2, state: 4, stochasticDepth: 0.4 },
  schedule: { warmupSteps: 2, steps: 50 },
  batch: 8,
  data: { kind: "synthetic", clips: 20, seconds: 1, heldOutFraction: 0.3 },
  logEvery: 1,
  evaluateEvery: 25,
  checkpointEvery: 5,
  report: { examples: 1 },
  device: "wasm",
};

interface Launcher {
  readonly command: string;
  readonly args: readonly string[];
}

/** A command that starts processes, by what it says of its version; undefined where it is missing. */
const launcher = (command: string, says: RegExp, args: readonly string[]): Launcher | undefined => {
  try {
    const { stdout } = new Deno.Command(command, { args: ["--version"], stderr: "null" })
      .outputSync();
    return says.test(new TextDecoder().decode(stdout)) ? { command, args } : undefined;
  } catch {
    return undefined;
  }
};
// More processes than processors, and by root, as in a container.
const openMpi = launcher("mpirun", /Open MPI/, ["--allow-run-as-root", "--oversubscribe"]);
const mpich = launcher("mpirun.mpich", /HYDRA/, []) ?? launcher("mpirun", /HYDRA/, []);
type Name = "Open MPI" | "MPICH";
const launchers = { "Open MPI": openMpi, MPICH: mpich };
const test = (what: string, name: Name, body: (launched: Launcher) => Promise<void>) => {
  const launched = launchers[name];
  if (launched === undefined && Deno.env.has("FORMANT_REQUIRE_MPI")) {
    throw new Error(`${name} is required, and its mpirun was not found`);
  }
  Deno.test({
    // A quiet run shows nothing but names.
    name: launched === undefined ? `${what} (skipped, as ${name} is not installed)` : what,
    ignore: launched === undefined,
    fn: () => body(launched!),
  });
};

/** A folder with the spec, and in `one` the run by a single process, which is made once. */
const folder = await Deno.makeTempDir();
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
await Deno.writeTextFile(`${folder}/little.json`, JSON.stringify(little));

const through = (module: string): readonly string[] => {
  const path = decodeURIComponent(
    new URL(`../../../experiments/commands/${module}`, import.meta.url).pathname,
  );
  return [Deno.execPath(), "run", "-A", "--no-check", path, "experiment", "little.json"];
};
const experiment = through("start.ts");
/** The process below, which computes and may be killed for its memory. */
const computing = through("main.ts");

const start = ([command, ...args]: readonly string[]) =>
  new Deno.Command(command, {
    args,
    cwd: folder,
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  });

const texts = ({ code, stdout, stderr }: Deno.CommandOutput) => {
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
};

const by = ({ command, args }: Launcher, processes: number): readonly string[] => [
  command,
  ...args,
  "-n",
  `${processes}`,
];

const ran = async (...args: readonly string[]) => texts(await start(args).output());

const metricsIn = (run: string): readonly Metric[] => {
  const read = readMetrics(`${folder}/${run}/metrics.jsonl`);
  assert(E.isRight(read), JSON.stringify(read));
  return read.right;
};

let one: Promise<readonly Metric[]> | undefined;
const byOne = (): Promise<readonly Metric[]> =>
  one ??= (async () => {
    const { code, err } = await ran(...experiment, "--out", "one");
    assertStrictEquals(code, 0, err);
    return metricsIn("one");
  })();

const assertSameCurve = (got: readonly Metric[], want: readonly Metric[]) => {
  assertEquals(got.map(({ step }) => step), want.map(({ step }) => step));
  got.forEach(({ step, loss, heldOutLoss }, k) => {
    for (const [a, b] of [[loss, want[k].loss], [heldOutLoss, want[k].heldOutLoss]]) {
      assertStrictEquals(a === undefined, b === undefined, `step ${step}`);
      assertLessOrEqual(Math.abs((a ?? 0) - (b ?? 0)), 1e-5, `step ${step}: ${a}, ${b}`);
    }
  });
};

const count = (text: string, of: RegExp): number => text.match(new RegExp(of, "g"))?.length ?? 0;

for (const [name, processes] of [["Open MPI", 2], ["Open MPI", 4], ["MPICH", 2]] as const) {
  test(`${processes} processes of ${name} give the losses of one`, name, async (launched) => {
    const run = `${name.replace(" ", "-")}-${processes}`;
    const { code, out, err } = await ran(...by(launched, processes), ...experiment, "--out", run);
    assertStrictEquals(code, 0, err);
    const want = await byOne();
    assertStrictEquals(want.length, 51);
    assertLess(want.at(-1)!.heldOutLoss!, want[0].heldOutLoss!);
    assertSameCurve(metricsIn(run), want);
    // One of them speaks, and all of them compute.
    assertStrictEquals(count(out, /report: /), 1, out);
    assertStrictEquals(count(err, /step 50 of 50/), 1, err);
    const device = /^device: (\d) × WebAssembly \(.*, (\d+) threads?\)$/m.exec(err);
    assertStrictEquals(Number(device?.[1]), processes, err);
    // They do not take processors from each other.
    const threads = Number(device?.[2]);
    assert(threads === 1 || threads * processes <= navigator.hardwareConcurrency, err);
  });
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Starts two processes, kills one with a checkpoint there, and gives what was said. */
const killed = async (launched: Launcher, victim: number, run: string) => {
  // Each leaves its number behind and becomes the experiment.
  const own = 'echo $$ > "$0-$OMPI_COMM_WORLD_RANK"; exec "$@"';
  const command = ["sh", "-c", own, run, ...computing, "--out", run];
  const child = start([...by(launched, 2), ...command]).spawn();
  let ended = false;
  const end = child.output().then((output) => {
    ended = true;
    return texts(output);
  });
  const saved = () => {
    try {
      return [...Deno.readDirSync(`${folder}/${run}/checkpoints`)]
        .some(({ name }) => name.endsWith(".safetensors"));
    } catch {
      return false;
    }
  };
  while (!saved() && !ended) await pause(2);
  const number = Number(await Deno.readTextFile(`${folder}/${run}-${victim}`));
  if (!ended) Deno.kill(number, "SIGKILL");
  return await end;
};

for (const [victim, on, goes] of [[0, 1, "one goes"], [1, 4, "four go"]] as const) {
  const what = `process ${victim} of two is killed: all end with a clear message, and ${goes} on`;
  test(what, "Open MPI", async (launched) => {
    const run = `killed-${victim}`;
    const { code, out, err } = await killed(launched, victim, run);
    assertNotStrictEquals(code, 0, err);
    assertStrictEquals(out, "");
    assertMatch(
      err,
      /the run was told to end \(SIGTERM\), as when one of its 2 processes dies; the checkpoint of step \d+ is in killed-\d, and --resume goes on from it\n/,
    );
    assertStrictEquals(count(err, /told to end/), 1, err);
    const end = await ran(
      ...(on === 1 ? [] : by(launched, on)),
      ...[...experiment, "--out", run, "--resume"],
    );
    assertStrictEquals(end.code, 0, end.err);
    assertMatch(end.err, /going on from step \d+/);
    assertSameCurve(metricsIn(run), await byOne());
  });
}
