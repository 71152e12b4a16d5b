// Goldens of small whole models: predictions, features, losses, gradients, AdamW steps.
import type { Backend, Output } from "../../../backends/backend.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import { grad } from "../../../dsl/grad.ts";
import { nodeOf } from "../../../dsl/node.ts";
import * as F from "../../../dsl/ops.ts";
import { parameters } from "../../../dsl/parameters.ts";
import { type Encoder, features } from "../../../models/encoder.ts";
import { faithful } from "../../../models/fidelity.ts";
import { maskByRank, type PerToken } from "../../../models/masking.ts";
import { adamW } from "../../../models/optimiser.ts";
import type { Spectrogram } from "../../../models/patches.ts";
import { type FamilyName, publishedEncoder } from "../../../models/sizes.ts";
import { forward } from "../../../models/training.ts";
import {
  asked,
  cancels,
  compare,
  floats,
  type Golden,
  GoldenError,
  gradientTolerance,
  inputOf,
  inputValues,
  list,
  numberFrom,
  outputTolerance,
  paramValues,
  type Row,
  runAsked,
  scaleBeside,
  tensorOf,
  type Tolerance,
} from "./compare.ts";
import { zeroMoments } from "./optimiser.ts";

/** Families by their names in the published code, which goldens use. */
const families: Readonly<Record<string, FamilyName>> = {
  ssast: "transformer",
  mamba: "mamba",
  xlstm: "xlstm",
};

/** The published encoder of a golden's family, with the golden's sizes. */
export const encoderOf = (
  golden: Golden,
  given: Readonly<Record<string, number | undefined>>,
  patch: Encoder["patch"],
): Encoder => {
  const family = families[golden.metadata.family];
  if (family === undefined) {
    throw new GoldenError(
      `${golden.file}: there is no model of the family '${golden.metadata.family}'; ` +
        `there are ${Object.keys(families).join(", ")}`,
    );
  }
  const of = publishedEncoder(family, "tiny");
  const { embed_dim: dim = of.dim, depth = of.depth } = given;
  const common = { dim, depth, patch };
  switch (of.family) {
    case "transformer":
      return { ...of, ...common, heads: given.num_heads ?? of.heads };
    case "mamba": {
      const { d_state: state = of.state, d_conv: conv = of.conv, expand = of.expand } = given;
      return { ...of, ...common, state, conv, expand };
    }
    case "xlstm": {
      const { mlstm_heads: heads = of.heads, expansion_factor: expand = of.expand } = given;
      return { ...of, ...common, heads, expand };
    }
  }
};

export const published = (masking: number) => ({
  objective: { style: "ssast" as const },
  masking: { kind: "unstructured" as const, ratio: masking },
  fidelity: faithful,
});

export const numbersIn = (golden: Golden): Readonly<Record<string, number | undefined>> =>
  Object.fromEntries(
    Object.entries(golden.metadata).map(([key, value]) => [key, Number(value)])
      .filter(([, value]) => Number.isFinite(value)),
  );

/** A whole model: predictions, features, both losses with all gradients, and AdamW steps. */
export const runModel = async (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const [time, frequency] = list(golden, "patch_size");
  const encoder = encoderOf(golden, numbersIn(golden), { time, frequency });
  const imgs = inputOf(golden, "input.imgs", ["batch", "plane", "time", "mel"]);
  const x = F.take(imgs, "plane", 0) as Spectrogram;
  const given = inputOf(golden, "input.mask", ["batch", "token"]) as PerToken;
  const ratio = numberFrom(golden, "mask_ratio");
  const result = forward({ encoder, ...published(ratio) }, x, given);
  const patches = ["batch", "token", "pixel"];
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {
    "output.pred": asked(result.prediction, patches),
    "output.target": asked(result.target, patches),
    "output.features": asked(features(encoder, faithful.rows)(x), ["batch", "step", "feature"]),
    loss: asked(result.lossAll, []),
    loss_masked: asked(result.lossMasked, []),
  };
  if (golden.tensors.has("input.noise")) {
    const noise = inputOf(golden, "input.noise", ["batch", "token"]) as PerToken;
    wanted["input.mask"] = asked(maskByRank(noise, ratio), [
      "batch",
      "token",
    ], { abs: 0 });
  }
  const all = parameters([result.lossAll]);
  const trained = all.filter((parameter) => parameter.trainable);
  const leaves: Record<string, AnyTensor> = { "input.imgs": imgs };
  for (const parameter of trained) leaves[`param.${parameter.name}`] = parameter.tensor;
  const add = (prefix: string, loss: AnyTensor, of: Readonly<Record<string, AnyTensor>>) => {
    for (const [name, g] of Object.entries(grad(loss, of))) {
      const key = `${prefix}.${name}`;
      if (golden.tensors.has(key)) {
        const tolerance = cancels(name)
          ? { ...gradientTolerance, abs: 1e-4 * scaleBeside(golden, key) }
          : gradientTolerance;
        wanted[key] = asked(g, Object.keys(nodeOf(of[name]).axes), tolerance);
      }
    }
  };
  add("grad", result.lossAll, leaves);
  add("grad_masked", result.lossMasked, leaves);
  const pixelError = F.square(F.sub(result.prediction, F.stopGradient(result.target)));
  add("grad_target_detached", F.mean(pixelError, ["batch", "token", "pixel"]), {
    "input.imgs": imgs,
  });
  const rows = [...await runAsked(golden, backend, wanted)];

  if (!golden.tensors.has("opt.losses")) return rows;
  const gradients = grad(
    result.lossAll,
    Object.fromEntries(trained.map(({ name, tensor }) => [name, tensor])),
  );
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 };
  const updates = adamW(options, trained, gradients, {
    rate: F.input("rate", {}),
    step: F.input("step", {}),
  });
  const machine = await backend.open({
    step: { outputs: { loss: { of: result.lossAll, order: [] } }, updates },
    loss: { outputs: { loss: { of: result.lossAll, order: [] } } },
  });
  try {
    machine.write(paramValues(golden));
    machine.write(zeroMoments(golden, trained.map(({ name }) => name)));
    const inputs = inputValues(golden);
    const losses: number[] = [];
    for (let step = 1; step <= 3; step++) {
      const found = await machine.run("step", {
        ...inputs,
        rate: Float32Array.of(1e-3),
        step: Float32Array.of(step),
      });
      losses.push(found.loss[0]);
      const after = [...golden.tensors.keys()].filter((name) =>
        name.startsWith(`after${step}.param.`)
      );
      const names = after.map((name) => name.slice(`after${step}.param.`.length)).filter((name) =>
        leaves[`param.${name}`] !== undefined
      );
      const values = await machine.read(names);
      for (const name of names) {
        const key = `after${step}.param.${name}`;
        rows.push(...afterStep(golden, key, values[name], floats(tensorOf(golden, key))));
      }
    }
    losses.push((await machine.run("loss", inputs)).loss[0]);
    rows.push(
      compare(
        golden,
        "opt.losses",
        losses,
        tensorOf(golden, "opt.losses").data as Float64Array,
        outputTolerance,
      ),
    );
  } finally {
    machine.close();
  }
  return rows;
};

/**
 * A parameter after AdamW steps. The key third of attention's bias has a gradient of zero up to rounding,
 * which AdamW divides by its own magnitude: only the size of its step is checked.
 */
const afterStep = (
  golden: Golden,
  key: string,
  found: ArrayLike<number>,
  wanted: Float32Array,
): readonly Row[] => {
  if (!key.endsWith("attn.qkv_layer.bias")) {
    return [compare(golden, key, found, wanted, gradientTolerance)];
  }
  const third = wanted.length / 3;
  const keys = (x: ArrayLike<number>) => Array.from(x).slice(third, 2 * third);
  const others = (x: ArrayLike<number>) =>
    Array.from(x).filter((_, k) => k / third < 1 || k / third >= 2);
  return [
    compare(golden, key, others(found), others(wanted), gradientTolerance),
    compare(golden, `${key} (keys)`, keys(found), keys(wanted), { abs: 1e-3 }),
  ];
};
