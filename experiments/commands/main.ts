// The command line: `experiment`, `golden`, `doctor`, `explain`, `scaling`, `tune`, `embed`, `evaluate`,
// `import`, `data`, `accuracy`.
// Only arguments are read here; each command is a file of its own. Exit status 0, 1 when the work
// failed, 2 when it was not understood.
import { parseArgs } from "node:util";
import { OTHERS } from "../machines/device.ts";
import { deviceRequest } from "../../backends/webgpu/discovery/discover.ts";
import * as E from "fp-ts/Either.js";
import { specNamesText, studyNames } from "../specs/read.ts";

const devices = "auto, gpu, wasm, software, swiftshader, navigator, reference";

const usage: Readonly<Record<string, string>> = {
  experiment:
    `deno task experiment NAME [--data DIR] [--set FIELD=VALUE]... [--device D] [--out DIR]
                            [--resume] [--shard I/N] [--print]
deno task experiment --list | --schema

Pre-trains the model that a spec describes and writes runs/NAME: spec.json, metrics.jsonl,
checkpoint.safetensors and report.html. A study is many runs: it writes runs/NAME/RUN for each, and
a report.html, tables.tex and .csv files that compare them.
checkpoint.safetensors and report.html. Processes that mpirun or srun starts share every batch; see
docs/clusters.md.

  NAME         ${specNamesText()};
               a study, ${studyNames.join(" or ")}; or the path of a JSON file
  --data DIR   a folder of recordings (wav, flac, ogg, mp3); without it sounds are synthesised
  --set FIELD=VALUE  another value for a field of the spec, such as fidelity=faithful,
                     objective.style=mae or encoder.depth=4; as often as you like
  --device D   ${devices}
  --out DIR    where to write instead of runs/NAME
  --resume     goes on from the last checkpoint in that folder; starts where there is none; finished
               runs of a study are kept
  --shard I/N  only every Nth run of a study, from the Ith, such as I from a Slurm array of 1 to N
  --print      shows the whole spec, with what it extends and what is set here, and runs nothing
  --list       the specs that there are, a line for each
  --schema     the JSON Schema of specs, for editors; docs/specs.md has the same as tables`,
  golden: `deno task golden [--device D] [--json] FILE...

Compares files of reference numbers with what a device computes. Status 0 only when all hold.

  --device D   ${devices}
  --json       one JSON object per tensor: file, tensor, rel, abs, ok`,
  doctor: `deno task doctor

Says which devices this machine has, which one would be used, and what to install.`,
  explain: `deno task explain NAME... [--set FIELD=VALUE]... [--time] [--json] [--code]

Shows the kernels of an experiment's training step: shape, grid, flops, bytes read and written, the
bytes if every operation read and wrote memory (the floor without fusion), and the totals. Of several
experiments, only the totals: a line for each.

  NAME         ${specNamesText()}; or the path of a JSON file
  --set FIELD=VALUE  another value for a field of the spec, such as fidelity=faithful,
                     objective.style=mae or encoder.depth=4; as often as you like
  --device D   ${devices}
  --time       measures each kernel, and the device's copy bandwidth and flop rate beside it
  --json       one JSON object
  --code       with each kernel's WGSL`,
  tune: `deno task tune NAME [--set FIELD=VALUE]... [--device D] [--out F]

Measures other schedules of the kernels of an experiment's training step on this device, and stores
those that are faster; later runs on the device use them. Results may differ in the last bits, as
sums are made in another order.

  NAME         ${specNamesText()}; or the path of a JSON file
  --set FIELD=VALUE  another value for a field of the spec
  --device D   auto, gpu, software, swiftshader, navigator
  --out F      where to write instead of the user's cache folder; runs do not look there`,
  accuracy: `deno task accuracy [--device D] [--stride N]

Measures every function of one float over all floats against float64: a table of the largest errors in
units in the last place (ulp), and where. Status 1 when one is farther off than docs/numbers.md says.

  --device D  ${devices}
  --stride N  only every Nth float (default 1, all of them, which takes hours)`,
  scaling: `deno task scaling [--tokens A,B,...] [--families A,B,...] [--depth N] [--plan]

Measures time per token and peak memory of tiny encoders over the length of one clip, forward and in
training: one table, and scaling.html (two plots) and scaling.json in the folder of --out.

  --tokens A,B,...    lengths in patches (default 250,500,1000,2000,4000,8000)
  --families A,B,...  transformer, mamba, xlstm (default all); xlstm's mLSTM cell is the chunkwise form
  --depth N           blocks (default 2)
  --plan              only memory and kernels, which are known without running; no device is needed
  --device D          ${devices.replace(", reference", "")}
  --out DIR           where to write (default runs/scaling)
  --json              one JSON object instead of the table`,
  embed: `deno task embed --checkpoint F --out DIR [--device D] [--batch N] [--fidelity F] AUDIO...

Writes embeddings of recordings as .npy files (float32): NAME.embeddings.npy [rows, width], a row per
time step; NAME.timestamps.npy [rows], in milliseconds; NAME.scene.npy [width], the mean of the rows.
Recordings are as long as they are. Status 1 when any of them could not be embedded.

  AUDIO           recordings (wav, flac, ogg, mp3), and folders, whose sub-folders are kept
  --checkpoint F  what 'deno task experiment' wrote, or a safetensors file like it
  --out DIR       where to write
  --device D      ${devices}
  --batch N       stretches of audio that are computed at once (default 8)
  --fidelity F    faithful: as the published code does it; corrected: without its quirks;
                  without this option as the checkpoint says`,
  evaluate: `deno task evaluate --checkpoint F --tasks DIR [--task NAME]... [--seeds N] [--device D]

Scores embeddings on downstream tasks in the layout of HEAR: trains the published probe on them, for
ten seeds, beside the same encoder untrained and log-mel statistics. Prints a table; writes
evaluation.html, evaluation.json, scores.csv, scores.tex, and the embeddings as hear-eval-kit reads
them. All tasks are checked first. What is done is kept: the same command goes on where it was.

  --checkpoint F  what 'deno task experiment' wrote; as often as you like, to compare several
  --tasks DIR     a folder of tasks, as 'deno task data' makes or fetches them
  --task NAME     only this one (a folder's name, or BO, E50, ...); as often as you like
  --seeds N       seeds of the probe, 0 to N - 1 (default 10)
  --device D      ${devices}
  --fidelity F    faithful: embeddings and probe as the published code has them; corrected: without
                  its quirks; without this option as the checkpoints say
  --out DIR       where to write (default: the folder 'evaluation' beside the first checkpoint)
  --json          one JSON object instead of the table`,
  import: `deno task import IN OUT [--heads N]

Makes a checkpoint that 'embed' reads of one of the published code: tells which encoder it holds,
which keys matched, were missing or left over, and writes OUT, safetensors with the same names.
Nothing in the file is run.

  IN         what torch.save wrote (a state_dict, or a dict with one under 'model' or 'state_dict'),
             or a safetensors file
  OUT        where to write
  --heads N  attention heads of a Transformer whose width does not tell them`,
  runs: `deno task runs [diff ONE OTHER | delete NAME...] [--in DIR] [--json]

Lists the runs in runs/: state, step, losses, time and device. A run whose process was killed says so,
and goes on with deno task experiment ... --resume.

  diff ONE OTHER  in which fields the specs of two runs differ
  delete NAME...  removes runs, or studies with all their runs; refuses what is neither, and what is
                  going on
  --in DIR        where runs are, instead of runs
  --json          the list as JSON`,
  data: `deno task data hear TASK... [--out DIR] [--from SOURCE]
deno task data synthetic [--out DIR] [--clips N] [--seed S]

'synthetic' makes ten labelled tasks, synthetic_stroke and the like, by program: no download. They
mirror HEAR's ten in kind, and are laid out as they are. What is there already is kept.

'hear' fetches downstream tasks of HEAR 2021 from Zenodo, checks them, and unpacks them for 'evaluate'.
What was fetched before an interruption is gone on from. The archives hold audio at 48000 Hz, which
is resampled to 16000 Hz; HEAR's own files at 16000 Hz lie in a bucket where the one who fetches
pays, and can be given with --from. A task that is there already is only checked.

  TASK           BO, CD, E50, LC, Mri-S, Mri-T, NS-5h, SC-5h, F50K or VL; the folder of a task, such
                 as gunshot_triangulation-v1.0-full; or all, which means the ten
  --out DIR      where to put folders of tasks (default tasks)
  --from SOURCE  an archive of the task (path or address that ends in .tar.gz), or the address of a
                 record like Zenodo's
  --clips N      clips of each synthetic task (default 240)
  --seed S       the synthetic tasks' seed, a whole number (default 0)`,
};

const options = {
  experiment: {
    data: { type: "string" },
    set: { type: "string", multiple: true },
    device: { type: "string" },
    out: { type: "string" },
    resume: { type: "boolean" },
    shard: { type: "string" },
    list: { type: "boolean" },
    print: { type: "boolean" },
    schema: { type: "boolean" },
  },
  scaling: {
    tokens: { type: "string" },
    families: { type: "string" },
    depth: { type: "string" },
    plan: { type: "boolean" },
    device: { type: "string" },
    out: { type: "string" },
    json: { type: "boolean" },
  },
  embed: {
    checkpoint: { type: "string" },
    out: { type: "string" },
    device: { type: "string" },
    batch: { type: "string" },
    fidelity: { type: "string" },
  },
  runs: { in: { type: "string" }, json: { type: "boolean" } },
  evaluate: {
    checkpoint: { type: "string", multiple: true },
    tasks: { type: "string" },
    task: { type: "string", multiple: true },
    seeds: { type: "string" },
    device: { type: "string" },
    fidelity: { type: "string" },
    out: { type: "string" },
    json: { type: "boolean" },
  },
  import: { heads: { type: "string" } },
  data: {
    out: { type: "string" },
    from: { type: "string" },
    clips: { type: "string" },
    seed: { type: "string" },
  },
  tune: {
    set: { type: "string", multiple: true },
    device: { type: "string" },
    out: { type: "string" },
  },
  accuracy: { device: { type: "string" }, stride: { type: "string" } },
  golden: { device: { type: "string" }, json: { type: "boolean" } },
  doctor: {},
  explain: {
    set: { type: "string", multiple: true },
    device: { type: "string" },
    json: { type: "boolean" },
    code: { type: "boolean" },
    time: { type: "boolean" },
  },
} as const;

const misunderstood = (message: string): number => {
  console.error(message);
  return 2;
};

/** `2/8`, the second of eight shares. */
const shardOf = (
  text: string,
): E.Either<string, { readonly index: number; readonly of: number }> => {
  const [, index, of] = /^(\d{1,6})\/(\d{1,6})$/.exec(text)?.map(Number) ?? [];
  return index >= 1 && index <= of
    ? E.right({ index, of })
    : E.left(`--shard: expected I/N with I from 1 to N, such as 2/8, found '${text}'`);
};

const run = async (args: readonly string[]): Promise<number> => {
  const [command, ...rest] = args;
  const help = usage[command];
  if (help === undefined) {
    return misunderstood(
      `${command === undefined ? "no command" : `there is no command '${command}'`}; ` +
        `the commands are ${Object.keys(usage).join(", ")}`,
    );
  }
  if (rest.includes("--help") || rest.includes("-h")) {
    console.log(help);
    return 0;
  }
  let values: Readonly<Record<string, string | boolean | readonly string[] | undefined>>,
    positionals: readonly string[];
  try {
    ({ values, positionals } = parseArgs({
      args: [...rest],
      options: options[command as keyof typeof options],
      allowPositionals: true,
    }));
  } catch (error) {
    const reason = error instanceof Error ? error.message.split(". ")[0] : `${error}`;
    const fields =
      /^Unknown option/.test(reason) && "set" in options[command as keyof typeof options]
        ? "; a field of the spec is set with --set, such as --set schedule.steps=100"
        : "";
    return misunderstood(`${reason}${fields}; see deno task ${command} --help`);
  }
  const device = `${values.device ?? "auto"}`;
  if (!OTHERS.includes(device)) {
    const request = deviceRequest(device);
    if (E.isLeft(request)) {
      return misunderstood(`there is no device '${device}'; the devices are ${devices}`);
    }
  }
  const changes = (values.set ?? []) as readonly string[];
  if (["experiment", "explain", "tune"].includes(command) && positionals.length > 1) {
    const surplus = positionals.slice(1).map((text) => `'${text}'`).join(", ");
    return misunderstood(
      `one experiment is named; there is nothing to do with ${surplus}; see deno task ${command} --help`,
    );
  }
  const one = (): string | undefined => positionals.length === 1 ? positionals[0] : undefined;
  switch (command) {
    case "doctor": {
      const { doctor } = await import("./doctor.ts");
      return await doctor();
    }
    case "embed": {
      const { checkpoint, out, fidelity } = values, batch = Number(values.batch ?? 8);
      const wrong = typeof checkpoint !== "string"
        ? "--checkpoint F is missing: the encoder to embed with"
        : typeof out !== "string"
        ? "--out DIR is missing: where to write"
        : positionals.length === 0
        ? "there is nothing to embed; give recordings, or folders of them"
        : !(Number.isInteger(batch) && batch > 0 && batch <= 1024)
        ? `--batch: expected a whole number from 1 to 1024, found '${values.batch}'`
        : fidelity !== undefined && fidelity !== "faithful" && fidelity !== "corrected"
        ? `--fidelity: expected faithful or corrected, found '${fidelity}'`
        : undefined;
      if (wrong !== undefined) return misunderstood(`${wrong}; see deno task embed --help`);
      const { embed } = await import("./embed.ts");
      return await embed({
        checkpoint: checkpoint as string,
        out: out as string,
        device,
        batch,
        fidelity: fidelity as "faithful" | "corrected" | undefined,
        audio: positionals,
      });
    }
    case "runs": {
      const [verb, ...names] = positionals;
      const wrong = verb === undefined
        ? undefined
        : verb === "diff"
        ? names.length === 2 ? undefined : "diff takes two runs"
        : verb === "delete"
        ? names.length > 0 ? undefined : "say which run to delete"
        : `there is nothing called '${verb}' to do with runs; there is diff and delete`;
      if (wrong !== undefined) return misunderstood(`${wrong}; see deno task runs --help`);
      const { runs } = await import("./runs.ts");
      return runs({
        command: positionals,
        root: (values.in as string | undefined ?? "runs").replace(/\/+$/, ""),
        json: values.json === true,
      });
    }
    case "evaluate": {
      const { tasks, fidelity } = values, seeds = Number(values.seeds ?? 10);
      const checkpoints = (values.checkpoint ?? []) as readonly string[];
      const wrong = checkpoints.length === 0
        ? "--checkpoint F is missing: the encoder to evaluate"
        : typeof tasks !== "string"
        ? "--tasks DIR is missing: the folder of the tasks"
        : positionals.length > 0
        ? `there is nothing to do with '${positionals[0]}'`
        : !(Number.isInteger(seeds) && seeds > 0 && seeds <= 1000)
        ? `--seeds: expected a whole number from 1 to 1000, found '${values.seeds}'`
        : fidelity !== undefined && fidelity !== "faithful" && fidelity !== "corrected"
        ? `--fidelity: expected faithful or corrected, found '${fidelity}'`
        : undefined;
      if (wrong !== undefined) return misunderstood(`${wrong}; see deno task evaluate --help`);
      const { evaluate } = await import("../evaluation/evaluate.ts");
      return await evaluate({
        checkpoints,
        tasks: tasks as string,
        names: (values.task ?? []) as readonly string[],
        seeds,
        device,
        fidelity: fidelity as "faithful" | "corrected" | undefined,
        out: values.out as string | undefined,
        json: values.json === true,
      });
    }
    case "import": {
      const { heads } = values, [from, to] = positionals;
      const wrong = positionals.length !== 2
        ? "two files are needed: the one to read and the one to write"
        : heads !== undefined && !/^[1-9]\d{0,3}$/.test(`${heads}`)
        ? `--heads: expected a whole number from 1, found '${heads}'`
        : undefined;
      if (wrong !== undefined) return misunderstood(`${wrong}; see deno task import --help`);
      const { importFile } = await import("./import.ts");
      return await importFile(from, to, heads === undefined ? {} : { heads: Number(heads) });
    }
    case "data": {
      const [kind, ...tasks] = positionals;
      const clips = Number(values.clips ?? 240), seed = Number(values.seed ?? 0);
      const { fewestClips } = await import("../data/synth/tasks/suite.ts");
      const wrong = kind === undefined
        ? "say what to get: synthetic; or hear, and which tasks"
        : kind !== "hear" && kind !== "synthetic"
        ? `there is no data '${kind}'; there are synthetic and hear`
        : kind === "synthetic" && tasks.length > 0
        ? `there is nothing to do with '${tasks[0]}'; all ten synthetic tasks are made`
        : !(Number.isInteger(clips) && clips >= fewestClips && clips <= 100_000)
        ? `--clips: expected a whole number from ${fewestClips} to 100000, found '${values.clips}'`
        : !Number.isSafeInteger(seed) || values.seed === ""
        ? `--seed: expected a whole number, found '${values.seed}'`
        : kind === "synthetic"
        ? undefined
        : tasks.length === 0
        ? "say which tasks to fetch, or all"
        : undefined;
      if (wrong !== undefined) return misunderstood(`${wrong}; see deno task data --help`);
      if (kind === "synthetic") {
        const { synthetic } = await import("../data/synth/tasks/write_suite.ts");
        return await synthetic(`${values.out ?? "tasks"}`, { seed, clips });
      }
      const { data, taskFolders, unknownText } = await import("../data/hear/fetch.ts");
      const folders = taskFolders(tasks);
      if (E.isLeft(folders)) return misunderstood(unknownText(folders.left));
      const from = values.from as string | undefined, out = values.out as string | undefined;
      return await data({
        folders: folders.right,
        out: out ?? "tasks",
        ...(from === undefined ? {} : { from }),
      });
    }
    case "golden": {
      if (positionals.length === 0) return misunderstood(help);
      const { golden } = await import("./golden.ts");
      return await golden(positionals, { device, json: values.json === true });
    }
    case "explain": {
      if (positionals.length === 0) return misunderstood(help);
      const { explain } = await import("../inspect/explain.ts");
      return await explain(positionals, {
        changes,
        device,
        json: values.json === true,
        code: values.code === true,
        time: values.time === true,
      });
    }
    case "tune": {
      const spec = one();
      if (spec === undefined) return misunderstood(help);
      const { tune } = await import("../inspect/tune.ts");
      return await tune(spec, { changes, device, out: values.out as string | undefined });
    }
    case "accuracy": {
      const stride = Number(values.stride ?? 1);
      if (positionals.length > 0) {
        return misunderstood(`there is nothing to do with '${positionals[0]}'`);
      }
      if (!Number.isInteger(stride) || stride < 1 || stride > 2 ** 31) {
        return misunderstood(
          `--stride: expected a whole number from 1, such as 1009, found '${values.stride}'`,
        );
      }
      const { measureAccuracy } = await import("../inspect/accuracy.ts");
      return await measureAccuracy(device, stride);
    }
    case "scaling": {
      const { asked, scaling } = await import("./scaling.ts");
      const of = positionals.length > 0
        ? E.left(`there is nothing to do with '${positionals[0]}'`)
        : asked(values);
      return E.isLeft(of)
        ? misunderstood(`${of.left}; see deno task scaling --help`)
        : await scaling(of.right);
    }
    default: {
      if (values.schema === true) {
        const { specSchemaText } = await import("../specs/schema.ts");
        console.log(specSchemaText().trimEnd());
        return 0;
      }
      const { experiment, printList, printSpec } = await import("./experiment.ts");
      if (values.list === true) return await printList();
      const spec = one();
      if (spec === undefined) return misunderstood(help);
      const data = values.data as string | undefined, out = values.out as string | undefined;
      if (values.print === true) {
        return await printSpec({
          spec,
          changes,
          data,
          device: values.device as string | undefined,
        });
      }
      const shard = values.shard === undefined ? undefined : shardOf(`${values.shard}`);
      if (shard !== undefined && E.isLeft(shard)) {
        return misunderstood(`${shard.left}; see deno task experiment --help`);
      }
      return await experiment({
        spec,
        changes,
        data,
        out,
        ...(shard === undefined ? {} : { shard: shard.right }),
        device: values.device as string | undefined,
        resume: values.resume === true,
      });
    }
  }
};

/** Runs the command that this process was started with, and ends the process. */
export const main = async (): Promise<never> => {
  // What reaches here is a mistake of ours; a user still gets a sentence and not a stack.
  const status = await run(Deno.args).catch((error) => {
    console.error(error instanceof Error ? error.message : `${error}`);
    if (Deno.env.get("DEBUG")) console.error(error);
    return 1;
  });
  return Deno.exit(status);
};

if (import.meta.main) await main();
