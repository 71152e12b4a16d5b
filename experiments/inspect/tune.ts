// `deno task tune NAME`: measures other schedules of a training step's kernels on this device, and saves
// the faster ones in a table that later runs on the device use. Every round tries one edit on all kernels
// at once, compared with the best so far, so that the program is compiled once per edit and not per
// kernel.
import { dirname } from "node:path";
import * as E from "fp-ts/Either.js";
import type { Machine, Program } from "../../backends/backend.ts";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import type { WebgpuDevice } from "../../backends/webgpu/device/device.ts";
import {
  deviceErrorMessage,
  deviceRequest,
  openDevice,
} from "../../backends/webgpu/discovery/discover.ts";
import { NUMBERS, WORDS } from "../../backends/webgpu/schedules.ts";
import type { Edit, Tuning } from "../../backends/webgpu/target.ts";
import { filled, leavesOf } from "./explain.ts";
import { ensureFolder, fileErrorText, writeWhole } from "../io/files.ts";
import { readSpec, specReadErrorText } from "../specs/read.ts";
import { programsOf } from "../training/programs.ts";
import { tuningPath, type TuningTable } from "../machines/tuning.ts";

/**
 * The edits that are tried, in order. Only contractions and row kernels have schedules; those of scans
 * follow from the shape of their carries.
 */
export const candidates: readonly Edit[] = [
  ...WORDS.from.map((from) => ({ from })),
  ...[[8, 8], [8, 4], [4, 8], [4, 4], [2, 4], [4, 2], [2, 2]].map(([down, across]) => ({
    down,
    across,
  })),
  ...NUMBERS.side.map((side) => ({ side })),
  ...NUMBERS.depth.map((depth) => ({ depth })),
  ...(["invocation", "workgroup"] as const).map((by) => ({ by })),
  ...NUMBERS.threads.map((threads) => ({ threads })),
];

/** An edit must save this fraction of a kernel's time: less may be noise. */
const LEAST = 0.05;
/** Timed runs of each program in a round, alternating; the final result is confirmed by as many more. */
const RUNS = 5;

/** Milliseconds by kernel key, summed over all kernels with that key. */
export type Times = ReadonlyMap<string, number>;

/** The measurement: minimum milliseconds of two tunings of the same program, alternating. */
export type Measure = (a: Tuning, b: Tuning) => Promise<readonly [Times, Times]>;

/**
 * Finds the edits that make kernels faster. Each candidate is tried on top of those kept so far; `tell`
 * is called after every round.
 */
export const search = async (
  measure: Measure,
  tell: (edit: Edit, kept: number, of: number) => void = () => {},
): Promise<Tuning> => {
  const kept = new Map<string, readonly Edit[]>();
  const [first] = await measure({}, {});
  const keys = [...first.keys()];
  for (const edit of candidates) {
    const now = Object.fromEntries(kept);
    const tried = Object.fromEntries(keys.map((key) => [key, [...(kept.get(key) ?? []), edit]]));
    const [before, after] = await measure(now, tried);
    const better = keys.filter((key) => after.get(key)! < (1 - LEAST) * before.get(key)!);
    better.forEach((key) => kept.set(key, tried[key]));
    tell(edit, better.length, keys.length);
  }
  // Among this many kernels and rounds some are faster by chance: those are dropped.
  const [before, after] = await measure({}, Object.fromEntries(kept));
  return Object.fromEntries(
    [...kept].filter(([key]) => after.get(key)! < (1 - LEAST) * before.get(key)!),
  );
};

interface Opened {
  readonly machine: Machine;
  /** The key of each kernel, empty if it has no schedule. */
  readonly keys: readonly string[];
  /** The code of all kernels of a key. */
  readonly codes: ReadonlyMap<string, string>;
}

/** Measures a program on a device. */
export const measuring = (webgpu: WebgpuDevice, program: Program): Measure => {
  const leaves = leavesOf(program);
  const inputs = filled(leaves.filter(({ op }) => op === "input"));
  const params = filled(leaves.filter(({ op }) => op === "param"));
  const open = async (tuning: Tuning): Promise<Opened> => {
    // The device stays open; only its programs are closed.
    const backend = webgpuBackend({ ...webgpu, tuning, apart: true });
    const machine = await backend.open({ program });
    machine.write(params);
    await machine.run("program", inputs);
    const { kernels } = machine.report("program");
    const keys = kernels.map(({ tuned }) => tuned?.[0] ?? "");
    const codes = new Map<string, string>();
    keys.forEach((key, k) => codes.set(key, (codes.get(key) ?? "") + kernels[k].code));
    return { machine, keys, codes };
  };
  const timed = async ({ machine, keys }: Opened): Promise<Times> => {
    const sums = new Map<string, number>();
    (await machine.time!("program", inputs)).forEach((ms, k) => {
      if (keys[k] !== "") sums.set(keys[k], (sums.get(keys[k]) ?? 0) + ms);
    });
    return sums;
  };
  const least = (runs: readonly Times[]): Times =>
    new Map([...runs[0].keys()].map((key) => [key, Math.min(...runs.map((run) => run.get(key)!))]));
  return async (a, b) => {
    const opened = await Promise.all([a, b].map(open));
    try {
      const runs: [Times[], Times[]] = [[], []];
      for (let k = 0; k < RUNS; k++) {
        for (const which of [0, 1]) runs[which].push(await timed(opened[which]));
      }
      const [before, after] = runs.map(least);
      // Kernels with equal code are equally fast, whatever was measured.
      const isSame = (key: string) => opened[0].codes.get(key) === opened[1].codes.get(key);
      return [
        before,
        new Map([...after].map(([key, ms]) => [key, isSame(key) ? before.get(key)! : ms] as const)),
      ];
    } finally {
      opened.forEach(({ machine }) => machine.close());
    }
  };
};

const shown = (edit: Edit): string =>
  Object.entries(edit).map(([name, value]) => `${name} ${value}`).join(", ");

/** The table in words: one line per edited kernel. */
export const tuningText = (tuning: Tuning, before: Times, after: Times): string => {
  const total = (times: Times) => [...times.values()].reduce((sum, ms) => sum + ms, 0);
  const lines = Object.entries(tuning).map(([key, edits]) =>
    `${before.get(key)!.toFixed(3).padStart(10)} ms -> ${after.get(key)!.toFixed(3)} ms  ${key}: ${
      edits.map(shown).join("; ")
    }`
  );
  return [
    ...lines,
    `products and rows of the step: ${total(before).toFixed(2)} ms before, ${
      total(after).toFixed(2)
    } ms after`,
  ].join("\n");
};

/** Tunes the training step of a spec and saves the table. Gives the exit status. */
export const tune = async (
  name: string,
  options: { readonly changes: readonly string[]; readonly device: string; readonly out?: string },
): Promise<number> => {
  const complain = (message: string): number => {
    console.error(message);
    return 1;
  };
  const spec = await readSpec(name, options.changes)();
  if (E.isLeft(spec)) return complain(specReadErrorText(spec.left));
  const request = deviceRequest(options.device);
  if (E.isLeft(request)) {
    return complain(`only WebGPU devices are tuned; ${deviceErrorMessage(request.left)}`);
  }
  const opened = await openDevice(request.right)();
  if (E.isLeft(opened)) return complain(deviceErrorMessage(opened.left));
  const webgpu = opened.right;
  if (!webgpu.features.timestampQuery) {
    return complain(
      `${webgpu.name} offers no timestamps (timestamp-query), so nothing is measured`,
    );
  }
  console.error(`device: ${webgpu.name}`);
  const path = options.out ?? tuningPath(webgpu.name);
  const folder = await ensureFolder(dirname(path))();
  if (E.isLeft(folder)) return complain(fileErrorText(folder.left));
  const measure = measuring(webgpu, programsOf(spec.right).programs.train);
  let round = 0;
  const found = await search(measure, (edit, kept, of) => {
    console.error(
      `${++round} of ${candidates.length}, ${shown(edit)}: faster for ${kept} of ${of} kernels`,
    );
  });
  const [before, after] = await measure({}, found);
  const table: TuningTable = { version: 1, device: webgpu.name, kernels: found };
  const written = await writeWhole(path, `${JSON.stringify(table, null, 2)}\n`)();
  if (E.isLeft(written)) return complain(fileErrorText(written.left));
  console.log(tuningText(found, before, after));
  console.log(`written to ${path}; later runs on this device use it`);
  webgpu.close();
  return 0;
};
