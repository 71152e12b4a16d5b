// What the probe of a downstream task costs: probes that are trained beside each other along the axis
// of trials, and the same ones one by one, in turns on one device, with the rate of a plain product of
// the probe's size beside them, which is the floor of both. Then a sample of whole trials with early
// stopping, and what ten seeds with the grid and five folds come to by it.
// `deno run -A bench/probe.ts [--device D] [--whole]`; with --whole all of them are trained.
import { readArguments } from "../experiments/io/arguments.ts";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../backends/backend.ts";
import type { AnyTensor } from "../dsl/axes.ts";
import { contract, input, sum } from "../dsl/ops.ts";
import { faithfulProtocol } from "../experiments/evaluation/probe/probe.ts";
import {
  placesFor,
  runTrials,
  type Shared,
  type Trainers,
  trainersOn,
  type Training,
  type Trial,
} from "../experiments/evaluation/probe/trials.ts";
import { dice } from "../experiments/data/synth/random.ts";
import { openDevice } from "./device.ts";
import { interleave, median, ratioOf } from "./measure.ts";

/** A task by its sizes. */
interface Sizes {
  readonly clips: number;
  readonly features: number;
  readonly classes: number;
}

const folds = 5, seeds = 10, { hidden, grid, every, patience } = faithfulProtocol;
const count = ({ clips }: Sizes) => ({ train: 3 * clips / folds, valid: clips / folds });

/** Of an epoch of one trial: the hidden layer and the gradients of its weights; the rest is little. */
const flops = (of: Sizes): number => 4 * count(of).train * of.features * hidden;

/** Embeddings of classes that overlap, of about unit variance, and targets. */
const made = ({ clips, features, classes }: Sizes) => {
  const { between } = dice(7), spread = () => between(-1.73, 1.73);
  const centres = Float32Array.from({ length: classes * features }, () => 0.12 * spread());
  const embeddings = new Float32Array(clips * features),
    targets = new Float32Array(clips * classes);
  for (let clip = 0; clip < clips; clip++) {
    const label = clip % classes;
    targets[clip * classes + label] = 1;
    for (let k = 0; k < features; k++) {
      embeddings[clip * features + k] = centres[label * features + k] + spread();
    }
  }
  return { embeddings, targets };
};

/** How a task's trials are trained on a device. */
const trainer = (trainers: Trainers, of: Sizes) => {
  const { train, valid } = count(of), { classes } = of;
  const range = (length: number, first: number) =>
    Uint32Array.from({ length }, (_, k) => (first + k) % of.clips);
  const trials = Array.from({ length: seeds * (grid.length + folds - 1) }, (_, k): Trial => {
    const seed = k % seeds, part = Math.max(0, Math.floor(k / seeds) - grid.length + 1);
    const point = Math.floor(k / seeds) === 1 ? 1 : 0, first = part * valid;
    return {
      seed,
      stream: part * grid.length + point,
      ...grid[point],
      test: range(valid, first),
      valid: range(valid, first + valid),
      train: range(train, first + 2 * valid),
    };
  });
  const accuracy: Shared["score"] = (clips, probabilities) => {
    const best = (row: number) => {
      const own = probabilities.subarray(row * classes, (row + 1) * classes);
      return own.indexOf(Math.max(...own));
    };
    return clips.reduce((sum, clip, row) => sum + +(best(row) === clip % classes), 0) /
      clips.length;
  };
  const shared = {
    ...made(of),
    sizes: { ...of, layers: 1, hidden, prediction: "multiclass" as const },
    score: accuracy,
    highest: 1,
  };
  /** Trains some, so many at a time; gives the epochs of all together. */
  const run = async (some: readonly Trial[], places: number, training: Training) => {
    let epochs = 0;
    await runTrials(trainers, { ...shared, training, most: { train, valid }, places }, some, {
      onProgress: (progress) => epochs = progress.epochs,
      interrupted: () => false,
    });
    return epochs;
  };
  return { trials, run };
};

/** Flops per second of a product of rows and weights as in the probe's hidden layer. */
const rateOf = async (backend: Backend, of: Sizes): Promise<number> => {
  const { train: row } = count(of), { features: channel } = of;
  const a = input("a", { row, channel }) as AnyTensor, b = input("b", { channel, out: hidden });
  const y = sum(contract(a, b as AnyTensor, "channel"), "row");
  const machine = await backend.open({ main: { outputs: { y: { of: y, order: ["out"] } } } });
  const values = { a: new Float32Array(row * channel), b: new Float32Array(channel * hidden) };
  const times: number[] = [];
  for (let k = 0; k < 9; k++) {
    const began = performance.now();
    await machine.run("main", values);
    times.push((performance.now() - began) / 1000);
  }
  machine.close();
  return 2 * row * channel * hidden / median(times.slice(1));
};

const given = readArguments(Deno.args, { flags: ["whole"], texts: ["device"] });
const opened = E.isLeft(given) ? given : await openDevice(given.right.texts.device ?? "wasm");
if (E.isLeft(opened)) {
  console.error(opened.left);
  Deno.exit(1);
}
const { backend, name } = opened.right, whole = E.isRight(given) && given.right.flags.whole;
const places = backend.name === "webgpu" ? 20 : 4;
const fixed = (value: number, digits = 1) => value.toFixed(digits);
const giga = (perSecond: number) => `${fixed(perSecond / 1e9)} GFLOP/s`;
console.log(`device: ${name}; ${hidden} hidden units, ${grid.length} points, ${seeds} seeds`);

const tasks: readonly Sizes[] = [
  { clips: 1500, features: 960, classes: 50 },
  { clips: 300, features: 320, classes: 10 },
  { clips: 150, features: 128, classes: 10 },
];
for (const of of tasks) {
  const trainers = trainersOn(backend), { trials, run } = trainer(trainers, of);
  const some = trials.slice(0, places), few = { ...faithfulProtocol, epochs: 2 * every };
  const pairs = await interleave(
    async () => void await run(some, places, few),
    async () => {
      for (const trial of some) await run([trial], 1, few);
    },
    6000,
  );
  const epoch = (times: readonly number[]) => median(times) / (few.epochs * places);
  const rate = await rateOf(backend, of);
  console.log(
    `\n${of.clips} clips of ${of.features} numbers, ${of.classes} classes\n` +
      `  an epoch of a trial, ${places} beside each other: ${fixed(epoch(pairs.ours), 2)} ms, ` +
      `${giga(1000 * flops(of) / epoch(pairs.ours))}; a product alone: ${giga(rate)}\n` +
      `  one by one: ${fixed(epoch(pairs.peer), 2)} ms; ${fixed(ratioOf(pairs), 2)} times as long`,
  );
  if (of !== tasks[0]) {
    trainers.close();
    continue;
  }
  const began = performance.now(), sample = whole ? trials : some;
  const usual = placesFor(backend, { hidden }, count(of).train);
  const epochs = await run(sample, usual, faithfulProtocol) / sample.length;
  const seconds = (performance.now() - began) / 1000 * trials.length / sample.length;
  const least = (patience + 1) * every;
  console.log(
    `  ${sample.length} of ${trials.length} trials trained, ${usual} at a time as by an evaluation, ` +
      `${fixed(epochs, 0)} epochs each: ` +
      `${whole ? "" : "all would take "}${fixed(seconds, 0)} s\n` +
      `  the least that early stopping allows is ${least} epochs, ` +
      `${fixed(trials.length * least * flops(of) / 1e12)} TFLOP: ` +
      `${fixed(trials.length * least * flops(of) / rate, 0)} s at the product's rate`,
  );
  trainers.close();
}
Deno.exit();
