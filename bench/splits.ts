// `deno run -A bench/splits.ts [device]`: products of few tiles and scans of few lanes, split and not,
// in turns on one device; milliseconds are the device's own. They are split as the compiler does it,
// but for scans on CPUs, which it never splits: there as if eight lanes filled the device. And what a
// GPU would be given in both cases: kernels, and most workgroups of one that is a product or a scan.
import * as E from "fp-ts/Either.js";
import * as TE from "fp-ts/TaskEither.js";
import type { Machine, Program, ProgramReport, Values } from "../backends/backend.ts";
import { webgpuBackend } from "../backends/webgpu/backend.ts";
import { compile, programReport } from "../backends/webgpu/compile.ts";
import {
  deviceErrorMessage,
  deviceRequest,
  openDevice,
} from "../backends/webgpu/discovery/discover.ts";
import { parallelismOf } from "../backends/webgpu/schedules.ts";
import { type AnyTensor, type Axes, volume } from "../dsl/axes.ts";
import { grad, type Tensors } from "../dsl/grad.ts";
import { nodeOf } from "../dsl/node.ts";
import * as d from "../dsl/ops.ts";
import { interleave, median, ratioOf } from "./measure.ts";

interface Workload {
  readonly name: string;
  readonly program: Program;
  readonly axes: Readonly<Record<string, Axes>>;
}

const output = (of: AnyTensor) => ({ of, order: Object.keys(nodeOf(of).axes) });

const workload = (
  name: string,
  axes: Readonly<Record<string, Axes>>,
  build: (x: Readonly<Record<string, AnyTensor>>) => Tensors,
): Workload => {
  const x = Object.fromEntries(Object.entries(axes).map(([key, of]) => [key, d.input(key, of)]));
  const outputs = Object.entries(build(x)).map(([key, of]) => [key, output(of)] as const);
  return { name, program: { outputs: Object.fromEntries(outputs) }, axes };
};

const product = (row: number, column: number, term: number): Workload =>
  workload(
    `product ${row} x ${column} over ${term}`,
    { x: { term, row }, y: { term, column } },
    ({ x, y }) => ({ of: d.contract(x, y, "term") }),
  );

/** A recurrence, summed up so that it is not all of what is written; or its gradients, likewise. */
const recurrence = (token: number, channel: number, back: boolean): Workload =>
  workload(
    `recurrence [${token}, ${channel}]${back ? ", gradients" : ""}`,
    { a: { token, channel }, b: { token, channel }, w: { token, channel } },
    ({ a, b, w }): Tensors => {
      const y = d.mul(d.recurrence("token", d.sigmoid(a), b), w);
      if (!back) return { of: d.sum(y, ["token"]) };
      const slopes = grad(d.sum(y, ["token", "channel"]), { a, b });
      return { a: d.sum(slopes.a, ["token"]), b: d.sum(slopes.b, ["token"]) };
    },
  );

const selective = (token: number, channel: number): Workload => {
  const wide = { token, channel }, narrow = { token, state: 16 };
  return workload(
    `selective scan [${token}, ${channel}, 16]`,
    { u: wide, dt: wide, A: { channel, state: 16 }, B: narrow, C: narrow },
    ({ u, dt, A, B, C }) => {
      const delta = d.softplus(dt);
      const a = d.exp(d.mul(delta, d.neg(d.exp(A))));
      const h = d.recurrence("token", a, d.mul(d.mul(delta, B), u));
      return { of: d.sum(d.contract(h, C, "state"), ["token"]) };
    },
  );
};

const workloads: readonly Workload[] = [
  product(64, 64, 100_000),
  product(192, 192, 16_000),
  product(192, 768, 16_000),
  recurrence(100_000, 1, false),
  recurrence(100_000, 1, true),
  recurrence(100_000, 8, false),
  recurrence(100_000, 8, true),
  selective(20_000, 1),
  selective(20_000, 64),
];

const asked = deviceRequest(Deno.args[0] ?? "auto");
const opened = await TE.chain(openDevice)(TE.fromEither(asked))();
if (E.isLeft(opened)) {
  console.error(deviceErrorMessage(opened.left));
  Deno.exit(1);
}
const device = opened.right;
const usual = parallelismOf(device);
const breadths = [
  { ...usual, lanes: Math.max(8, usual.lanes) },
  { ...usual, gain: Infinity },
];
const backends = breadths.map((parallelism) => webgpuBackend({ ...device, parallelism }));

/** What a GPU would be given, split or not. */
const onGpu = (program: Program, split: boolean): string => {
  const target = { onCpu: false };
  const parallelism = split ? undefined : { ...parallelismOf(target), gain: Infinity };
  const { limits } = device.device;
  const report = programReport(
    compile(program, { name: "a GPU", limits, target: { ...target, parallelism: parallelism } }),
  );
  return summary(report);
};
const summary = ({ kernels }: ProgramReport): string => {
  const groups = kernels
    .filter(({ shapes }) => shapes.includes("scan") || shapes.includes("contraction"))
    .map(({ grid }) => grid.reduce((a, b) => a * b, 1));
  return `${kernels.length}: ${Math.max(...groups)}`;
};

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
console.log(`${device.name}; kernels: most workgroups of a product or scan\n`);
console.log(row(["workload", "in one", "ms", "split", "ms", "ratio", "GPU, in one", "GPU, split"]));
console.log(row(Array(8).fill("---")));
for (const { name, program, axes } of workloads) {
  const values: Values = Object.fromEntries(
    Object.entries(axes).map(([key, of]) => [
      key,
      Float32Array.from({ length: volume(of) }, (_, k) => Math.sin(k * 1.7 + key.charCodeAt(0))),
    ]),
  );
  const machines = await Promise.all(backends.map((backend) => backend.open({ program })));
  const times: number[][] = [[], []];
  const runner = (machine: Machine, k: number) => async () => {
    const ms = await machine.time!("program", values);
    times[k].push(ms.reduce((a, b) => a + b, 0));
  };
  await interleave(runner(machines[0], 0), runner(machines[1], 1), 3000);
  const [ours, peer] = times.map((list) => list.slice(1));
  const [split, whole] = machines.map((machine) => summary(machine.report("program")));
  console.log(row([
    name,
    whole,
    median(peer).toFixed(2),
    split,
    median(ours).toFixed(2),
    split === whole ? "-" : ratioOf({ ours, peer }).toFixed(2),
    onGpu(program, false),
    onGpu(program, true),
  ]));
  machines.forEach((machine) => machine.close());
}
device.close();
