// `deno task explain NAME`: what the training step of an experiment is compiled to.
import * as E from "fp-ts/Either.js";
import type { KernelReport, ProgramReport } from "../backends/backend.ts";
import { openBackend } from "./backend.ts";
import { readSpec, specReadErrorText } from "./spec.ts";
import { programsOf } from "./train.ts";

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(2);

const line = (kernel: KernelReport, k: number): string =>
  [
    `${k + 1}`.padStart(4),
    kernel.shape.padEnd(11),
    kernel.grid.join("x").padEnd(12),
    (kernel.flops / 1e6).toFixed(1).padStart(10),
    megabytes(kernel.bytesRead).padStart(9),
    megabytes(kernel.bytesWritten).padStart(9),
    ` ${kernel.path}`,
  ].join(" ");

/** A compiled program as a table, kernel by kernel, with totals. */
export const explanation = (report: ProgramReport, code: boolean): string => {
  const total = (of: (kernel: KernelReport) => number) =>
    report.kernels.reduce((sum, kernel) => sum + of(kernel), 0);
  const head = "   # shape       grid              Mflop   read MB  write MB  path";
  const rows = report.kernels.flatMap((kernel, k) =>
    code ? [line(kernel, k), kernel.code] : [line(kernel, k)]
  );
  return [
    head,
    ...rows,
    `${report.kernels.length} kernels, ${report.pipelines} pipelines, ` +
    `${megabytes(report.peakBytes)} MB of intermediate values at most, ` +
    `${(total((kernel) => kernel.flops) / 1e9).toFixed(2)} Gflop, ` +
    `${megabytes(total((kernel) => kernel.bytesRead + kernel.bytesWritten))} MB moved`,
  ].join("\n");
};

/** Prints the explanation of a spec's training step. Gives the exit status. */
export const explain = async (
  name: string,
  options: { readonly device: string; readonly json: boolean; readonly code: boolean },
): Promise<number> => {
  const spec = await readSpec(name)();
  if (E.isLeft(spec)) {
    console.error(specReadErrorText(spec.left));
    return 1;
  }
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) {
    console.error(chosen.left);
    return 1;
  }
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);
  const machine = await backend.open({ train: programsOf(spec.right).programs.train });
  const report = machine.report("train");
  if (options.json) {
    const kernels = options.code
      ? report.kernels
      : report.kernels.map(({ code: _, ...kernel }) => kernel);
    console.log(JSON.stringify({ device: backend.device, ...report, kernels }));
  } else console.log(explanation(report, options.code));
  machine.close();
  backend.close();
  return 0;
};
