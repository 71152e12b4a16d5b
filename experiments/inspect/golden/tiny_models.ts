// Goldens of the full-size tiny models: their weights are generated, and the file has a few rows and
// checksums of their results.
import type { Backend, Output } from "../../../backends/backend.ts";
import { grad } from "../../../dsl/grad.ts";
import * as F from "../../../dsl/ops.ts";
import { parameters } from "../../../dsl/parameters.ts";
import { features } from "../../../models/encoder.ts";
import { faithful } from "../../../models/fidelity.ts";
import type { PerToken } from "../../../models/masking.ts";
import { positionTable, type Spectrogram } from "../../../models/patches.ts";
import { forward } from "../../../models/training.ts";
import { encoderOf, published } from "./models.ts";
import {
  cancels,
  compare,
  floats,
  type Generated,
  type Golden,
  GoldenError,
  inputOf,
  inputValues,
  list,
  type Row,
  tensorOf,
  type Tolerance,
} from "./compare.ts";

/** The documented generator of the full-size models' weights. */
const generated = (
  { name, shape, offset, scale, log_mod }: Generated,
  seed: number,
): Float32Array => {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 16777619);
  const length = shape.reduce((a, b) => a * b, 1);
  return Float32Array.from({ length }, (_, i) => {
    let x = (hash + Math.imul(i, 0x9E3779B9) + Math.imul(seed, 0x85EBCA6B)) >>> 0;
    x ^= x >>> 16;
    x = Math.imul(x, 0x7feb352d) >>> 0;
    x ^= x >>> 15;
    x = Math.imul(x, 0x846ca68b) >>> 0;
    x = (x ^ (x >>> 16)) >>> 0;
    const base = log_mod > 0 ? Math.log((i % log_mod) + 1) : offset;
    return base + scale * (x / 2 ** 32 * 2 - 1);
  });
};

const checksum = (x: ArrayLike<number>): readonly number[] => {
  let abs = 0, square = 0;
  for (let k = 0; k < x.length; k++) {
    abs += Math.abs(x[k]);
    square += x[k] * x[k];
  }
  return [abs, Math.sqrt(square)];
};

export const runTiny = async (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const { companion } = golden;
  if (companion === undefined) {
    throw new GoldenError(
      `${golden.file}: ${golden.kind}.json must be next to it; it says how the weights are made`,
    );
  }
  const { config, seed } = companion;
  const [time, mel] = config.img_size as readonly number[];
  const [patchTime, patchFrequency] = config.patch_size as readonly number[];
  const patch = { time: patchTime, frequency: patchFrequency };
  const encoder = encoderOf(golden, config as Readonly<Record<string, number>>, patch);
  const x: Spectrogram = F.input("input.imgs", { batch: config.batch as number, time, mel });
  const mask = inputOf(golden, "input.mask", ["batch", "token"]) as PerToken;
  const result = forward({ encoder, ...published(0.5) }, x, mask);
  const all = features(encoder, faithful.rows)(x);
  const trained = parameters([result.lossAll]).filter((parameter) => parameter.trainable);
  const gradients = grad(
    result.lossAll,
    Object.fromEntries(trained.map(({ name, tensor }) => [name, tensor])),
  );
  const outputs: Record<string, Output> = {
    pred: { of: result.prediction, order: ["batch", "token", "pixel"] },
    features: { of: all, order: ["batch", "step", "feature"] },
    loss: { of: result.lossAll, order: [] },
    loss_masked: { of: result.lossMasked, order: [] },
  };
  for (const { name, axes } of trained) {
    outputs[`grad.${name}`] = { of: gradients[name], order: Object.keys(axes) };
  }
  const machine = await backend.open({ main: { outputs } });
  try {
    const grid = { time: time / patchTime, frequency: mel / patchFrequency };
    machine.write({ pos_embed: positionTable(encoder.dim, grid) });
    machine.write(Object.fromEntries(companion.params.map((of) => [of.name, generated(of, seed)])));
    const found = await machine.run("main", {
      ...inputValues(golden),
      "input.imgs": generated(companion.input, seed),
    });
    const rows = (from: ArrayLike<number>, width: number, which: readonly number[]) =>
      Float32Array.from(
        which.flatMap((row) => Array.from({ length: width }, (_, k) => from[row * width + k])),
      );
    const pixels = patchTime * patchFrequency, feature = encoder.dim * grid.frequency;
    const mean = Float32Array.from({ length: feature }, (_, k) => {
      let total = 0;
      for (let row = 0; row < grid.time; row++) total += found.features[row * feature + k];
      return total / grid.time;
    });
    const loose: Tolerance = { rel: 1e-4 };
    const against = (name: string, value: ArrayLike<number>) =>
      compare(golden, name, value, floats(tensorOf(golden, name)), loose);
    const result = [
      against("output.pred_rows", rows(found.pred, pixels, list(golden, "pred_rows"))),
      against("output.features_rows", rows(found.features, feature, list(golden, "features_rows"))),
      against("output.features_mean", mean),
      against("loss", found.loss),
      against("loss_masked", found.loss_masked),
      compare(golden, "pred checksums", checksum(found.pred), [
        companion.pred.sum_abs,
        companion.pred.l2,
      ], loose),
      compare(golden, "features checksums", checksum(found.features), [
        companion.features.sum_abs,
        companion.features.l2,
      ], loose),
    ];
    for (const [name, { sum_abs, l2, first4 }] of Object.entries(companion.grads)) {
      const g = found[`grad.${name}`];
      if (g === undefined) {
        throw new GoldenError(`${golden.file}: the model has no parameter '${name}'`);
      }
      const block = name.match(/^blocks\.\d+\./)?.[0];
      const beside = Object.entries(companion.grads)
        .filter(([other]) => block !== undefined && other.startsWith(block))
        .map(([, { first4 }]) => Math.max(...first4.map(Math.abs)));
      const slack = cancels(name) ? { abs: 1e-3 * Math.max(...beside) } : {};
      const tolerance = { rel: 1e-3, ...slack };
      result.push(
        compare(golden, `grad.${name} checksums`, checksum(g), [sum_abs, l2], tolerance),
      );
      const worst = Math.max(...first4.map(Math.abs)), size = l2 / Math.sqrt(g.length);
      const floor = Math.max(1e-3 * Math.max(worst, size), slack.abs ?? 0);
      result.push(
        compare(golden, `grad.${name} first four`, g.slice(0, first4.length), first4, {
          rel: 1e-3,
          abs: floor,
        }),
      );
    }
    return result;
  } finally {
    machine.close();
  }
};
