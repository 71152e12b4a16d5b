// `deno task bench:pytorch`: training steps beside PyTorch on the CPU with as many threads; as
// WebAssembly a second time with vectors of 256 bits, for which V8 needs flags (a process). Both sides
// start from the same values; losses and gradients of the first step are compared, then steps are timed
// in turns. PyTorch runs in a process of its own, which sleeps while ours runs.
import * as E from "fp-ts/Either.js";
import { readArguments } from "../experiments/io/arguments.ts";
import type { Backend } from "../backends/backend.ts";
import { wasmBackend } from "../backends/wasm/backend.ts";
import { engineHere, wideFlags } from "../backends/wasm/engine.ts";
import { disagreement, interleave, median, ratioOf } from "./measure.ts";
import { openDevice } from "./device.ts";
import { findPython } from "./python.ts";
import { fileOf, type StepName, STEPS } from "./training.ts";

/** One comparison. */
export interface Row {
  readonly step: string;
  readonly oursMs: number;
  readonly pytorchMs: number;
  /** How many times faster ours is. */
  readonly ratio: number;
  /** The losses of the first step. */
  readonly losses: readonly [ours: number, pytorch: number];
  /** The largest difference of gradients, as a share of the largest magnitude in the same one. */
  readonly difference: number;
  readonly gigaflops: number;
  /** Milliseconds from a program to something that runs. */
  readonly compileMs: number;
  /** Milliseconds of the first step, in which the engine compiles. */
  readonly firstMs: number;
}

const usage = `usage: deno task bench:pytorch [options]
  --device D      wasm (the default), or what bench:peers takes
  --only A,B      steps: ${Object.keys(STEPS).join(", ")}
  --threads N     threads of both sides; 2
  --python P      a Python with PyTorch; by default python3, of the path or the system
  --seconds S     seconds of timing for each step; 10
  --json          one JSON object per step`;

const refuse = (why: string): never => {
  console.error(`${why}\n${usage}`);
  Deno.exit(2);
};

/** Gradients that differ by more than this are not of the same function. */
const tolerance = 2e-3;

/** PyTorch at work on one step. */
interface PyTorch {
  readonly version: string;
  /** Runs a step and gives its loss. */
  readonly step: () => Promise<number>;
  /** The first moments of parameters. */
  readonly means: (
    names: readonly string[],
    sizes: readonly number[],
  ) => Promise<readonly Float32Array[]>;
  readonly close: () => Promise<void>;
}

const startPyTorch = async (
  python: string,
  name: StepName,
  file: string,
  threads: number,
): Promise<PyTorch> => {
  const child = new Deno.Command(python, {
    args: [
      new URL("./pytorch_steps.py", import.meta.url).pathname,
      name,
      file,
      `${threads}`,
    ],
    env: { OMP_NUM_THREADS: `${threads}` },
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const writer = child.stdin.getWriter();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  const answer = async (): Promise<Record<string, unknown>> => {
    while (!rest.includes("\n")) {
      const { value, done } = await reader.read();
      if (done) throw new Error("PyTorch's process ended early");
      rest += value;
    }
    const at = rest.indexOf("\n"), line = rest.slice(0, at);
    rest = rest.slice(at + 1);
    return JSON.parse(line);
  };
  const ask = async (line: string) => {
    await writer.write(new TextEncoder().encode(`${line}\n`));
    return await answer();
  };
  const { torch } = await answer();
  return {
    version: `${torch}`,
    step: async () => Number((await ask("step")).loss),
    means: async (names, sizes) => {
      await ask(`means ${names.join(" ")}`);
      const all = new Float32Array(Uint8Array.from(await Deno.readFile(`${file}.means`)).buffer);
      let at = 0;
      return sizes.map((size) => all.subarray(at, at += size));
    },
    close: async () => {
      await writer.close();
      await reader.cancel();
      await child.status;
    },
  };
};

/**
 * The same once more in a process whose V8 makes vectors of 256 bits, if this one's does not and the
 * processor may have them.
 */
const runWide = async (device: string): Promise<void> => {
  if (device !== "wasm" || engineHere().wide || Deno.build.arch !== "x86_64") return;
  const { DENO_V8_FLAGS: flags, ...env } = Deno.env.toObject();
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.url, ...Deno.args],
    env: { ...env, DENO_V8_FLAGS: [...flags === undefined ? [] : [flags], ...wideFlags].join(",") },
    clearEnv: true,
  }).spawn().status;
  if (!success) Deno.exit(1);
};

const compare = async (
  name: StepName,
  backend: Backend,
  start: (file: string) => Promise<PyTorch>,
  folder: string,
  seconds: number,
): Promise<Row> => {
  const step = STEPS[name]();
  const opening = performance.now();
  const machine = await backend.open({ step: step.program });
  const compileMs = performance.now() - opening;
  machine.write(step.parameters);
  const began = performance.now();
  const first = await machine.run("step", step.inputs);
  const firstMs = performance.now() - began;
  const file = `${folder}/${name}.safetensors`;
  await Deno.writeFile(file, fileOf(step, first.mask as Float32Array | undefined));
  const pytorch = await start(file);
  try {
    const losses = [Number(first.loss[0]), await pytorch.step()] as const;
    const read = await machine.read(step.trained.map((key) => `adamw.mean.${key}`));
    const ours = Object.values(read) as readonly Float32Array[];
    const theirs = await pytorch.means(step.trained, ours.map(({ length }) => length));
    const differences = ours.map((mean, k) => disagreement(mean, theirs[k]));
    const difference = Math.max(...differences);
    if (!(difference <= tolerance) || !(Math.abs(losses[0] / losses[1] - 1) <= 1e-4)) {
      const worst = step.trained[differences.indexOf(difference)];
      throw new Error(
        `the losses are ${
          losses.join(" and ")
        }; the gradients for '${worst}' differ by ${difference}`,
      );
    }
    const pairs = await interleave(
      async () => {
        await machine.run("step", step.inputs);
      },
      async () => {
        await pytorch.step();
      },
      1000 * seconds,
    );
    const { kernels } = machine.report("step");
    const oursMs = median(pairs.ours);
    return {
      step: step.name,
      oursMs,
      pytorchMs: median(pairs.peer),
      ratio: ratioOf(pairs),
      losses,
      difference,
      gigaflops: kernels.reduce((sum, { flops }) => sum + flops, 0) / oursMs / 1e6,
      compileMs,
      firstMs,
    };
  } finally {
    machine.close();
    await pytorch.close();
  }
};

const header = [
  "step",
  "ours ms",
  "PyTorch ms",
  "ratio",
  "loss",
  "gradients differ by",
  "GFlop/s",
  "compile ms",
  "first step ms",
];

const line = (row: Row): string =>
  `| ${
    [
      row.step,
      row.oursMs.toFixed(0),
      row.pytorchMs.toFixed(0),
      row.ratio.toFixed(2),
      row.losses[0].toFixed(5),
      row.difference.toExponential(1),
      row.gigaflops.toFixed(1),
      row.compileMs.toFixed(0),
      row.firstMs.toFixed(0),
    ].join(" | ")
  } |`;

if (import.meta.main) {
  const given = readArguments(Deno.args, {
    flags: ["json"],
    texts: ["device", "only", "threads", "python", "seconds"],
  });
  if (E.isLeft(given)) throw refuse(given.left);
  const { words, help } = given.right, options = { ...given.right.texts, ...given.right.flags };
  if (words.length > 0) refuse(`there is nothing to do with '${words[0]}'`);
  if (help) {
    console.log(usage);
    Deno.exit(0);
  }
  const number = (key: "seconds" | "threads", otherwise: number): number => {
    const value = Number(options[key] ?? otherwise);
    return value > 0 ? value : refuse(`--${key} takes a number above 0, not '${options[key]}'`);
  };
  const seconds = number("seconds", 10), threads = number("threads", 2);
  const names = (options.only?.split(",") ?? Object.keys(STEPS)) as StepName[];
  const wrong = names.find((name) => !(name in STEPS));
  if (wrong !== undefined) refuse(`there is no step '${wrong}'`);
  const python = await findPython(options.python);
  if (python === undefined) {
    console.error(
      `PyTorch is not there: ${options.python ?? "python3"} cannot \`import torch\`. On Debian,` +
        " python3-torch has it; or name another Python with --python",
    );
    Deno.exit(1);
  }
  const device = options.device ?? "wasm";
  const opened = device === "wasm"
    ? E.right({ backend: wasmBackend({ threads }) })
    : await openDevice(device);
  if (E.isLeft(opened)) {
    console.error(opened.left);
    Deno.exit(1);
  }
  const { backend } = opened.right;
  const folder = await Deno.makeTempDir();
  let told = options.json === true;
  for (const name of names) {
    const start = async (file: string): Promise<PyTorch> => {
      const pytorch = await startPyTorch(python, name, file, threads);
      if (!told) {
        console.log(
          `${backend.device} beside PyTorch ${pytorch.version}, ${threads} threads\n\n` +
            `| ${header.join(" | ")} |\n|${" --- |".repeat(header.length)}`,
        );
      }
      told = true;
      return pytorch;
    };
    try {
      const row = await compare(name, backend, start, folder, seconds);
      console.log(options.json ? JSON.stringify(row) : line(row));
    } catch (error) {
      console.error(`${name} is left out: ${error instanceof Error ? error.message : error}`);
    }
  }
  await Deno.remove(folder, { recursive: true });
  if (options.json !== true) console.log();
  await runWide(device);
  Deno.exit(0);
}
