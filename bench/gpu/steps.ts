// Training steps of the tiny encoders at several batches: time from a step's inputs to its loss, the
// device's own time, time to compile, memory. And the files from which pytorch_modes.py does the same.
import * as E from "fp-ts/Either.js";
import { readArguments } from "../../experiments/io/arguments.ts";
import type { Backend, Peaks, Precision } from "../../backends/backend.ts";
import { openBackend } from "../../experiments/machines/device.ts";
import type { FamilyName } from "../../models/sizes.ts";
import { median } from "../measure.ts";
import { encoderStep, fileOf, type Step } from "../training.ts";

/** A measured step, a line of the file of `--out`. */
export interface StepRow {
  readonly name: string;
  readonly family: FamilyName;
  readonly batch: number;
  readonly precision: Precision;
  readonly loss: number;
  /** Milliseconds of a step with its loss read, the median. */
  readonly ms: number;
  /** Milliseconds of all kernels; undefined where the device has no clock. */
  readonly deviceMs?: number;
  readonly compileMs: number;
  readonly firstMs: number;
  readonly kernels: number;
  readonly peakBytes: number;
  readonly flops: number;
  readonly bytes: number;
}

const given = readArguments(Deno.args, {
  // Narrow encoders, for a rehearsal; shorter, and without the device's peaks.
  flags: ["small", "brief"],
  // A folder for PyTorch's files, and a file to which a line of JSON is added for each step.
  texts: ["device", "families", "batches", "precision", "dir", "out", "name"],
});
if (E.isLeft(given)) {
  console.error(given.left);
  Deno.exit(2);
}
const options = {
  ...{ device: "gpu", families: "transformer,mamba,xlstm", batches: "8,64,256" },
  ...{ precision: "f32", name: "" },
  ...given.right.texts,
  ...given.right.flags,
};
const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);
const timed = async <T>(act: () => Promise<T>): Promise<readonly [number, T]> => {
  const began = performance.now();
  const value = await act();
  return [performance.now() - began, value];
};

const open = async (): Promise<Backend> => {
  const opened = await openBackend(options.device);
  if (E.isLeft(opened)) {
    console.log(`no device: ${opened.left}`);
    Deno.exit(1);
  }
  opened.right.notes.forEach((note) => console.log(`note: ${note}`));
  return opened.right.backend;
};

/** Measures a step; `onFirst` is given the mask that the first one drew. */
const measure = async (
  backend: Backend,
  of: Pick<StepRow, "name" | "family" | "batch">,
  step: Step,
  onFirst: (mask: Float32Array) => Promise<void>,
): Promise<StepRow> => {
  const [compileMs, machine] = await timed(() => backend.open({ step: step.program }));
  try {
    machine.write(step.parameters);
    const run = () => machine.run("step", step.inputs);
    const [firstMs, first] = await timed(run);
    await onFirst(first.mask as Float32Array);
    const runs: number[] = [], inner: number[] = [];
    const until = performance.now() + (options.brief ? 700 : 1500);
    while (runs.length < 3 || (performance.now() < until && runs.length < 60)) {
      runs.push((await timed(run))[0]);
    }
    // The first measurement compiles what measures.
    if (machine.time !== undefined) {
      for (let k = 0; k < 4; k++) inner.push(sum(await machine.time("step", step.inputs)));
    }
    const { kernels, peakBytes, precision } = machine.report("step");
    return {
      ...of,
      precision,
      loss: Number(first.loss[0]),
      ms: median(runs),
      ...(inner.length === 0 ? {} : { deviceMs: median(inner.slice(1)) }),
      compileMs,
      firstMs,
      kernels: kernels.length,
      peakBytes,
      flops: sum(kernels.map(({ flops }) => flops)),
      bytes: sum(kernels.map(({ bytesRead, bytesWritten }) => bytesRead + bytesWritten)),
    };
  } finally {
    machine.close();
  }
};

/** A mask that hides every second patch, of 4 frames and 16 bands. */
const everySecond = ({ shapes }: Step): Float32Array => {
  const [batch, frames, bands] = shapes.spectrogram;
  return Float32Array.from({ length: batch * frames * bands / 64 }, (_, k) => k % 2);
};

const header = [
  ...["step", "batch", "precision", "loss", "ms a step", "ms on the device", "of copy", "Tflop/s"],
  ...["kernels", "compile s", "first ms", "peak MB"],
];
const titleOf = ({ family, name }: Pick<StepRow, "family" | "name">): string =>
  name === "" ? family : `${family}: ${name}`;
const line = (row: StepRow, peaks: Peaks | undefined): string => {
  const own = row.deviceMs ?? row.ms;
  const cells = [
    titleOf(row),
    row.batch,
    row.precision,
    row.loss.toFixed(6),
    row.ms.toFixed(2),
    row.deviceMs?.toFixed(2) ?? "",
    peaks === undefined ? "" : `${(1e5 * row.bytes / own / peaks.bytesPerSecond).toFixed(0)}%`,
    (row.flops / own / 1e9).toFixed(3),
    row.kernels,
    (row.compileMs / 1000).toFixed(1),
    row.firstMs.toFixed(0),
    (row.peakBytes / 1e6).toFixed(0),
  ];
  return `| ${cells.join(" | ")} |`;
};

let backend = await open();
const peaks = options.brief ? undefined : await backend.peaks?.();
console.log(`device: ${backend.device}`);
if (peaks !== undefined) {
  const copy = (peaks.bytesPerSecond / 1e9).toFixed(0);
  const rate = (peaks.flopsPerSecond / 1e12).toFixed(2);
  console.log(`| its peaks: copy ${copy} GB/s, multiply-adds ${rate} Tflop/s |`);
}
console.log(`| ${header.join(" | ")} |`);
if (options.dir !== undefined) await Deno.mkdir(options.dir, { recursive: true });
// A batch that is too large for the device fails alone.
let measured = 0;
for (const batch of options.batches.split(",").map(Number)) {
  for (const family of options.families.split(",") as FamilyName[]) {
    const precision = options.precision as Precision;
    const of = { name: options.name, family, batch };
    const step = encoderStep(family, { batch, precision, small: options.small });
    let isWritten = options.dir === undefined;
    const write = async (mask: Float32Array) => {
      if (isWritten) return;
      isWritten = true;
      await Deno.writeFile(`${options.dir}/${family}-${batch}.safetensors`, fileOf(step, mask));
    };
    try {
      const row = await measure(backend, of, step, write);
      console.log(line(row, peaks));
      measured++;
      if (options.out !== undefined) {
        await Deno.writeTextFile(options.out, `${JSON.stringify(row)}\n`, { append: true });
      }
    } catch (error) {
      const why = (error instanceof Error ? error.message : `${error}`).split("\n")[0];
      console.log(`| ${titleOf(of)} | ${batch} | ${precision} | failed: ${why} |`);
      // PyTorch may do what was refused here: every second patch is hidden then.
      await write(everySecond(step));
      // What broke may have taken the device with it.
      try {
        backend.close();
      } catch {
        // It has said what is wrong with it.
      }
      backend = await open();
    }
  }
}
Deno.exit(measured > 0 ? 0 : 1);
