// What a day consists of: stages, each a few commands with a time limit, and the parts of a day that
// name them in their order. Sizes are those of a large GPU, or the smallest, for a rehearsal.
import { relative } from "node:path";
import { root } from "./tree.ts";
import type { Variant } from "./variants.ts";

/** A command, run at the root of the tree or of a variant of it. */
export interface Command {
  /** A line above its output. */
  readonly title?: string;
  /** What is started, Deno where nothing is said. */
  readonly program?: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly variant?: Variant;
}

/** A stage of the day. */
export interface Stage {
  readonly name: string;
  /** Seconds after which it is stopped. */
  readonly limit: number;
  /** Lines of its log that stand in the summary. */
  readonly shown: RegExp;
  readonly commands: readonly Command[];
  /** How many of the commands run at once; 1 where nothing is said. */
  readonly atOnce?: number;
  /** Why it is not run, a sentence. */
  readonly skipped?: string;
}

/** What stages depend on. */
export interface Setting {
  /** What commands get as `--device`. */
  readonly device: string;
  /** A Python that has PyTorch. */
  readonly python: string | undefined;
  /** The smallest sizes. */
  readonly small: boolean;
  /** Where stages leave files: rows of measurements, pages. */
  readonly files: string;
  /** Where they leave what the next ones read. */
  readonly scratch: string;
}

/** Names of stages; those of one inner list run at once, as values are compared before times are taken. */
export const PARTS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  // Does it work?
  first: [["doctor"], ["golden", "tests", "random"], ["experiment"], ["f16-tests"]],
  // How fast is it?
  second: [
    ...["steps", "explain", "pytorch", "f16", "whatif", "peers", "explain-large", "scaling", "tune"]
      .map((name) => [name]),
  ],
  // All of it in small, the quickest first.
  rehearsal: [
    ...[
      "doctor",
      "golden",
      "random",
      "steps",
      "pytorch",
      "explain",
      "scaling",
      "experiment",
      "f16",
    ],
    ...["whatif", "tests", "peers"],
  ].map((name) => [name]),
};

/** Seconds that a part has where nothing is said. */
export const BUDGETS: Readonly<Record<string, number>> = { first: 200, second: 335, rehearsal: 50 };

const run = (file: string, ...args: readonly string[]): Command => ({
  args: ["run", "-A", "--cached-only", "--no-check", file, ...args],
});
const cli = (...args: readonly string[]): Command => run("experiments/commands/main.ts", ...args);
const test = (file: string, ...args: readonly string[]): Command => ({
  title: file,
  args: ["test", "-A", "--cached-only", "--no-check", "--quiet", ...args, file],
  env: { FORMANT_REQUIRE_WEBGPU: "1" },
});

const testsIn = (folder: string): readonly string[] =>
  [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory
      ? testsIn(`${folder}/${name}`)
      : name.endsWith("_test.ts")
      ? [`${folder}/${name}`]
      : []
  );

/** Not of a device, or of much else: WebAssembly, commands that are killed and go on. */
const others = new RegExp(
  "^tests/(?:bench|backends/wasm|backends/random_programs_test|experiments/(?:commands|runs|" +
    "evaluation|encoders/user_module|training/processes))",
);

/** Files of tests that open the device, sorted. */
export const deviceTests = (): readonly string[] =>
  testsIn(`${root}tests`)
    .filter((file) => /support\/device\.ts"|openDevice/.test(Deno.readTextFileSync(file)))
    .map((file) => relative(root, file))
    .filter((file) => !others.test(file))
    .sort();

const goldens = (): readonly string[] =>
  [...Deno.readDirSync(`${root}tests/golden`)].map(({ name }) => `tests/golden/${name}`)
    .filter((file) => file.endsWith(".safetensors")).sort();

const passed = /^(?:ok|FAILED) \||^error|FAILED$|^tests\//;
const table = /^\||^device|^no device|^note|are not used/;

/** All stages by name, and `machine` and `adapters`, with which each day begins. */
export const stagesOf = (
  { device, python, small, files, scratch }: Setting,
): Readonly<Record<string, Stage>> => {
  const families = small ? ["transformer"] : ["transformer", "mamba", "xlstm"];
  const batch = small ? 1 : 8, large = small ? 1 : 64;
  const cores = navigator.hardwareConcurrency;
  const blocks = small ? ["--small"] : [];
  const steps = (...args: readonly string[]) =>
    run(
      "bench/gpu/steps.ts",
      "--device",
      device,
      "--families",
      families.join(),
      ...blocks,
      ...args,
    );
  /** Steps of a variant, with its name before them. */
  const varied = (
    variant: Variant | undefined,
    out: string,
    ...args: readonly string[]
  ): Command => ({
    ...steps("--brief", "--name", variant ?? "as it is", "--out", `${files}/${out}`, ...args),
    title: variant ?? "as it is",
    ...(variant === undefined ? {} : { variant }),
  });
  const explain = (name: string, batch: number): Stage => ({
    name,
    limit: 90,
    shown: /on the device|kernels,|Gflop|^ *\d+ +(?:contraction|row|map|scan)/,
    commands: families.map((family) => {
      const few = small
        ? ["--set", "encoder.depth=1", "--set", "encoder.dim=12", "--set", "clip.frames=16"]
        : ["--time"];
      const sizes = ["--set", `batch=${batch}`, ...few];
      return { ...cli("explain", `${family}-tiny`, ...sizes, "--device", device), title: family };
    }),
  });
  const tried: readonly Variant[] = [
    "1024 workgroups fill it",
    "a workgroup for each row",
    "workgroup memory not cleared",
    "with bounds checks",
  ];
  const random = (seed: number): Command => {
    const file = "tests/backends/random_programs_test.ts", count = small ? 1 : 150;
    const { args, env } = test(file, "--filter", "WebGPU");
    const seeded = { ...env, FORMANT_SEED: `${seed}`, FORMANT_PROGRAMS: `${count}` };
    return { title: `seed ${seed}`, args, env: seeded };
  };
  const stages: readonly Stage[] = [
    {
      name: "machine",
      limit: 20,
      shown: /^Deno|^processors|^memory|NVIDIA|Vulkan|^VK_|ERROR|WARNING/i,
      commands: [{ ...run("bench/gpu/machine.ts"), env: { VK_LOADER_DEBUG: "error,warn" } }],
    },
    {
      name: "adapters",
      limit: 25,
      shown:
        /^(?:toggles|adapter|features|matri|device|no device|note|error)|maxBufferSize|WorkgroupStorage/,
      commands: [run("bench/gpu/adapters.ts", device)],
    },
    {
      name: "doctor",
      limit: 40,
      shown: /works|: no |shader-f16|subgroup|timestamp|auto picks|needed/,
      commands: [cli("doctor")],
    },
    {
      name: "golden",
      limit: 90,
      shown: /tensors,|FAIL|are not used|^device/,
      commands: [
        cli(
          ...["golden", "--device", device],
          ...(small ? ["tests/golden/prim_gelu.safetensors"] : goldens()),
        ),
      ],
    },
    {
      name: "tests",
      limit: 110,
      shown: passed,
      atOnce: cores > 8 ? 6 : 2,
      commands: (small ? ["tests/models/loss_scale_test.ts"] : deviceTests()).map((file) =>
        // Each in a process of its own: one that ends the driver's process ends no other.
        file === "tests/golden_test.ts" ? test(file, "--filter", "WebGPU") : test(file)
      ),
    },
    {
      name: "random",
      limit: 100,
      shown: /^(?:ok|FAILED) \||disagree|^seed|^error/,
      // Twice: what a missing barrier breaks changes from run to run.
      commands: small ? [random(20260)] : [random(20260), random(7), random(20260)],
      atOnce: cores > 8 ? 3 : 1,
    },
    {
      name: "experiment",
      limit: 75,
      shown: /loss|score|second|report|device|synthetic_|are not used|"name"/,
      commands: [
        small
          ? cli("experiment", "mamba", "--device", device, "--print")
          : cli("experiment", "mamba", "--device", device, "--out", `${files}/mamba`),
      ],
    },
    {
      name: "f16-tests",
      limit: 60,
      shown: passed,
      atOnce: cores > 8 ? 3 : 1,
      commands: [
        "tests/backends/lower/storage/half_precision_test.ts",
        "tests/backends/webgpu/wgsl/subgroup_contraction_test.ts",
        "tests/models/loss_scale_test.ts",
      ].map((file) => ({ ...test(file), variant: "f16" })),
    },
    {
      name: "steps",
      limit: 90,
      shown: table,
      commands: [steps(
        ...["--batches", small ? "1" : "8,64,256", "--dir", `${scratch}/steps`],
        ...["--out", `${files}/steps.jsonl`, ...(small ? ["--brief"] : [])],
      )],
    },
    explain("explain", batch),
    {
      name: "pytorch",
      limit: 75,
      shown: table,
      ...(python === undefined
        ? { skipped: "no Python here can import torch; PYTHON=FILE names another", commands: [] }
        : {
          commands: [{
            program: python,
            args: ["bench/gpu/pytorch_modes.py", `${scratch}/steps`, `${files}/pytorch.jsonl`],
            env: small ? { QUICK: "1" } : {},
          }],
        }),
    },
    {
      name: "f16",
      limit: 75,
      shown: table,
      commands: (small ? ["f16"] as const : ["f16", "f16 without matrices"] as const).map((
        variant,
      ) => varied(variant, "f16.jsonl", "--batches", `${large}`, "--precision", "f16")),
    },
    {
      name: "whatif",
      limit: 90,
      shown: table,
      commands: [undefined, ...(small ? tried.slice(0, 1) : tried)].map((variant) =>
        varied(variant, "whatif.jsonl", "--batches", `${batch}`)
      ),
    },
    {
      name: "peers",
      limit: 60,
      shown: /^\||left out/,
      ...(device === "swiftshader" ? { skipped: "peers cannot be given SwiftShader" } : {}),
      commands: [run(
        ...["bench/peers.ts", "--device", device, "--peers", "jax-js"] as const,
        ...["--seconds", small ? "0.1" : "0.4", ...(small ? ["--only", "layer norm"] : [])],
      )],
    },
    explain("explain-large", large),
    {
      name: "scaling",
      limit: 70,
      shown: /^(?:transformer|mamba|xlstm)|\|/,
      commands: [cli(
        ...["scaling", "--device", device, "--out", `${files}/scaling`],
        ...(small
          ? ["--plan", "--tokens", "250", "--families", "mamba", "--depth", "1"]
          : ["--tokens", "250,1000,4000,8000"]),
      )],
    },
    {
      name: "tune",
      limit: 90,
      shown: /^\||ms ->|before|written/,
      // One block has the sizes of all; then the whole step with what was found.
      commands: [
        cli(
          ...["tune", "transformer-tiny", "--device", device],
          ...["--set", `batch=${batch}`, "--set", "encoder.depth=1"],
        ),
        run(
          ...["bench/gpu/steps.ts", "--device", device, "--families", "transformer"] as const,
          ...["--batches", `${batch}`, "--brief", "--name", "tuned"],
        ),
      ].map((command) => ({ ...command, env: { XDG_CACHE_HOME: `${files}/tuned` } })),
    },
  ];
  return Object.fromEntries(stages.map((stage) => [stage.name, stage]));
};
