// `deno task gpu-day`: packs what a bare machine with a GPU needs, or runs a day of checks and
// measurements, here or there. README.md beside this file says how.
import { resolve } from "node:path";
import * as E from "fp-ts/Either.js";
import { readArguments } from "../../experiments/io/arguments.ts";
import { findPython } from "../python.ts";
import { runDay, stopAll } from "./day.ts";
import { chosenLibraries } from "./libraries.ts";
import { denoFolders, pack, revisionOf } from "./pack.ts";
import { BUDGETS, PARTS, stagesOf } from "./stages.ts";
import { root } from "./tree.ts";

const usage = `usage: deno task gpu-day pack DIR [--plain]
       deno task gpu-day PART [options]

  pack DIR      writes what a machine with a GPU and no network needs; there: bash DIR/start.sh PART
  --plain       nothing is compressed, and no libraries are fetched

  PART          ${Object.keys(PARTS).join(", ")}; or stages, such as steps,explain
  --device D    gpu (the default), software, swiftshader
  --small       the smallest sizes, as a rehearsal has them
  --budget S    seconds for all of it; what would begin later is left out
  --out DIR     where results go (default runs/gpu-day)
  --work DIR    where to keep what is made on the way (default: a temporary folder)`;

const refuse = (why: string): never => {
  console.error(`${why}\n${usage}`);
  Deno.exit(2);
};

const parsed = () => {
  const given = readArguments(Deno.args, {
    flags: ["plain", "small"],
    texts: ["device", "budget", "out", "work"],
  });
  if (E.isLeft(given)) return refuse(given.left);
  const { texts, flags, words, help } = given.right;
  return {
    values: { device: "gpu", out: "runs/gpu-day", ...texts, ...flags, help },
    positionals: words,
  };
};

/** What commands run with: no network, and caches in a folder of the day's own. */
const environment = (caches: string, packages: string, libraries: string | undefined) => ({
  NO_COLOR: "1",
  DENO_NO_UPDATE_CHECK: "1",
  DENO_NO_PROMPT: "1",
  PYTHONUNBUFFERED: "1",
  // Asking for a file fails at once, instead of waiting for a name server that does not answer.
  ...{ HTTP_PROXY: "http://127.0.0.1:9", HTTPS_PROXY: "http://127.0.0.1:9", NO_PROXY: "127.0.0.1" },
  XDG_CACHE_HOME: caches,
  // Or the packages would be looked for in those caches as well.
  DENO_DIR: packages,
  // NVIDIA's driver keeps what it compiled, from one process to the next.
  __GL_SHADER_DISK_CACHE: "1",
  __GL_SHADER_DISK_CACHE_PATH: caches,
  __GL_SHADER_DISK_CACHE_SKIP_CLEANUP: "1",
  ...(libraries === undefined ? {} : { LD_LIBRARY_PATH: libraries }),
});

/** Writes clocks, memory and temperature of NVIDIA's GPUs every two seconds; gives what ends it. */
const watchNvidia = async (file: string): Promise<() => void> => {
  const fields = "timestamp,clocks.sm,clocks.mem,utilization.gpu,memory.used,power.draw," +
    "temperature.gpu";
  try {
    const child = new Deno.Command("nvidia-smi", {
      args: [`--query-gpu=${fields}`, "--format=csv", "-l", "2"],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const to = await Deno.create(file);
    // It ends with an error when it is stopped.
    child.stdout.pipeTo(to.writable).catch(() => {});
    return () => child.kill();
  } catch {
    return () => {};
  }
};

const runPart = async (part: string): Promise<number> => {
  const { values } = parsed();
  const small = values.small === true || part === "rehearsal";
  const budget = Number(values.budget ?? BUDGETS[part] ?? BUDGETS.second);
  if (!(budget > 0)) return refuse(`--budget takes seconds, not '${values.budget}'`);
  const out = resolve(values.out), device = values.device;
  const work = values.work === undefined ? await Deno.makeTempDir() : resolve(values.work);
  const python = await findPython(Deno.env.get("PYTHON"));
  const files = `${out}/files`, scratch = `${work}/scratch`, caches = `${work}/caches`;
  const stages = stagesOf({ device, python, small, files, scratch });
  const groups = PARTS[part] ?? part.split(",").map((name) => [name]);
  const unknown = groups.flat().find((name) => !(name in stages));
  if (unknown !== undefined) return refuse(`there is no part or stage '${unknown}'`);
  for (const folder of [files, scratch, caches]) await Deno.mkdir(folder, { recursive: true });
  const end = await watchNvidia(`${out}/nvidia-smi.csv`);
  const cleanUp = async () => {
    stopAll();
    end();
    if (values.work === undefined) await Deno.remove(work, { recursive: true });
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => void cleanUp().finally(() => Deno.exit(130)));
  }
  const needs = "adapters";
  // The device is looked at first: without it nothing else has a meaning.
  const rest = groups.map((group) => group.filter((name) => name !== "machine" && name !== needs));
  const results = await runDay(
    [["machine"], [needs], ...rest].map((group) => group.map((name) => stages[name])),
    needs,
    {
      title: `Formant ${await revisionOf(root)}, ${part} on ${device}`,
      tree: root.replace(/\/$/, ""),
      out,
      scratch,
      budget,
      env: environment(
        caches,
        denoFolders().denoDir,
        await chosenLibraries(`${scratch}/libraries`),
      ),
      say: (line) => console.log(line),
    },
  );
  await cleanUp();
  const summary = await Deno.readTextFile(`${out}/summary.md`);
  // Where only the end of what was printed comes back, it should begin with the table.
  console.log(`\n${summary.slice(0, 10_000)}`);
  const lost = results.find(({ name, result }) => name === needs && result !== "ok");
  if (lost !== undefined) {
    const why = lost.shown.find((line) => /^(?:no device|error): /.test(line)) ??
      `no device: ${lost.result}`;
    console.error(why);
    return 1;
  }
  const isFailed = ({ result }: { readonly result: string }) =>
    result !== "ok" && !/^(?:skipped|left out)/.test(result);
  return results.some(isFailed) ? 1 : 0;
};

if (import.meta.main) {
  const { values, positionals: [part, folder, ...surplus] } = parsed();
  if (values.help) {
    console.log(usage);
    Deno.exit(0);
  }
  if (part === undefined) refuse("say what to do");
  if (surplus.length > 0 || (part !== "pack" && folder !== undefined)) {
    refuse(`there is nothing to do with '${surplus[0] ?? folder}'`);
  }
  if (part !== "pack") Deno.exit(await runPart(part));
  if (folder === undefined) refuse("pack DIR: say where to pack");
  try {
    await pack(resolve(folder), { plain: values.plain === true, say: console.error });
  } catch (error) {
    console.error(error instanceof Error ? error.message : `${error}`);
    Deno.exit(1);
  }
}
