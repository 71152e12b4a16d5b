// `deno run -A bench/start.ts [SPEC] [--device D]`: how long it takes from a spec to the first finished
// step, stage by stage: wall time, and the processor time of our own thread and of all threads, which
// on a software driver are mostly the driver's. Run it twice, with MESA_SHADER_CACHE_DIR set to an
// empty folder, for a cold start and a warm one.
import * as E from "fp-ts/Either.js";
import { readArguments } from "../experiments/io/arguments.ts";
import { openBackend } from "../experiments/machines/device.ts";
import { openSource } from "../experiments/data/open.ts";
import { dataErrorText } from "../experiments/data/clips/source.ts";
import { filled, leavesOf } from "../experiments/inspect/explain.ts";
import { initialValues } from "../experiments/encoders/initial_values.ts";
import { readSpec, specReadErrorText } from "../experiments/specs/read.ts";
import { programsOf } from "../experiments/training/programs.ts";

const right = <A, B>(of: E.Either<A, B>, text: (error: A) => string): B => {
  if (E.isRight(of)) return of.right;
  console.error(text(of.left));
  Deno.exit(1);
};
const given = right(readArguments(Deno.args, { texts: ["device"] }), (why) => why);
const { device = "software" } = given.texts, [name = "mamba"] = given.words;

/** Milliseconds of processor time: of this thread, and of the whole process. */
const spent = (): readonly [number, number] => {
  // Fields 14 and 15, in hundredths of a second; the name before them may hold spaces.
  const of = (path: string): number => {
    const fields = Deno.readTextFileSync(path).split(") ").at(-1)!.split(" ");
    return 10 * (Number(fields[11]) + Number(fields[12]));
  };
  return [of(`/proc/self/task/${Deno.pid}/stat`), of("/proc/self/stat")];
};

// From the start of the process on: loading the modules is the first stage.
let last = { wall: performance.timeOrigin, own: 0, all: 0 };
const first = last;
const rows: string[][] = [["stage", "wall ms", "own ms", "all threads ms"]];
const row = (stage: string, from: typeof last, to: typeof last) =>
  rows.push([
    stage,
    ...(["wall", "own", "all"] as const).map((key) => (to[key] - from[key]).toFixed(0)),
  ]);
const mark = (stage: string) => {
  const [own, all] = spent();
  const now = { wall: performance.timeOrigin + performance.now(), own, all };
  row(stage, last, now);
  last = now;
};

mark("loading the modules");
const spec = right(await readSpec(name, [])(), specReadErrorText);
const { backend } = right(await openBackend(device!), (why) => why);
mark("opening the device");
const source = right(await openSource(spec), dataErrorText);
const clips = right(await source.batch(0, spec.batch), dataErrorText);
mark("clips and their spectrograms");
const { programs, all } = programsOf(spec);
mark("the graph and its gradient");
const machine = await backend.open(programs);
mark("kernels and pipelines");
const params = leavesOf(programs.train).filter(({ op }) => op === "param");
machine.write({ ...filled(params), ...initialValues(all, spec.seed) });
mark("first values of parameters");
const step = Uint32Array.of(0), rate = Float32Array.of(1e-3);
await machine.run("train", { spectrogram: clips, step, rate });
mark("the first step");
row("in all", first, last);

const width = (k: number) => Math.max(...rows.map((row) => row[k].length));
for (const cells of rows) {
  console.log(
    cells.map((cell, k) => k === 0 ? cell.padEnd(width(0)) : cell.padStart(width(k))).join("  "),
  );
}
source.close();
machine.close();
backend.close();
