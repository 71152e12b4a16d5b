// `deno task golden FILE...`: runs the primitive, block or model that a golden file describes, with
// the inputs and parameters stored in it, and compares what it stores of the published PyTorch code.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import * as E from "fp-ts/Either.js";
import type { Backend, Output, Values } from "../backends/backend.ts";
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import { AxisError } from "../dsl/axes.ts";
import { grad } from "../dsl/grad.ts";
import { node } from "../dsl/node.ts";
import * as F from "../dsl/ops.ts";
import { parameters } from "../dsl/parameters.ts";
import { type Encoder, features } from "../models/encoder.ts";
import { faithful } from "../models/fidelity.ts";
import * as frontend from "../models/frontend.ts";
import * as initialise from "../models/initialise.ts";
import {
  causalConv,
  headNorm,
  type Heads,
  linearHeadwise,
  norm,
  residualNorm,
  type Scope,
  type Sequence,
} from "../models/layers.ts";
import { mixer, selectiveScan } from "../models/mamba.ts";
import { maskByRank, type PerToken } from "../models/masking.ts";
import { type Gate, mlstm, type MlstmForm } from "../models/mlstm.ts";
import { adamW, moments } from "../models/optimiser.ts";
import { embedPatches, patchify, positionTable, type Spectrogram } from "../models/patches.ts";
import { learningRate } from "../models/schedule.ts";
import { slstm } from "../models/slstm.ts";
import { forward } from "../models/training.ts";
import { mambaBlock } from "../models/mamba.ts";
import { type FamilyName, publishedEncoder } from "../models/sizes.ts";
import { attention, transformerBlock } from "../models/transformer.ts";
import { matrixLSTM, mlstmBlock } from "../models/xlstm.ts";
import { openBackend } from "./backend.ts";
import { decode, type Safetensors, safetensorsErrorText, type TensorData } from "./safetensors.ts";

/** How one tensor of a golden file compares. */
export interface Row {
  readonly file: string;
  readonly tensor: string;
  /** Relative L2 error. */
  readonly rel: number;
  /** Largest absolute error. */
  readonly abs: number;
  readonly tolerance: string;
  readonly ok: boolean;
}

/** A mistake in a golden file, in one sentence. */
export class GoldenError extends Error {
  override name = "GoldenError";
}

interface Golden {
  readonly file: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorData>;
  /** What stands beside the file under the same name as JSON: the tiny models' checksums. */
  readonly companion?: TinyCompanion;
}

/** Tolerances: relative L2 unless stated. */
interface Tolerance {
  readonly rel?: number;
  readonly abs?: number;
}

type Asked = Readonly<Record<string, { readonly output: Output; readonly tolerance: Tolerance }>>;

const root: Scope = (name) => name;
const outputTolerance: Tolerance = { rel: 1e-5 };
const gradientTolerance: Tolerance = { rel: 1e-4 };

const floats = (data: TensorData): Float32Array =>
  data.data instanceof Float32Array ? data.data : Float32Array.from(data.data as ArrayLike<number>);

const tensorOf = (golden: Golden, name: string): TensorData => {
  const found = golden.tensors.get(name);
  if (found === undefined) {
    throw new GoldenError(`${golden.file} has no tensor '${name}', which '${golden.kind}' needs`);
  }
  return found;
};

const shapeOf = (golden: Golden, name: string): readonly number[] => tensorOf(golden, name).shape;

/** An input with the axes that its shape is read as. */
const inputOf = <K extends string>(
  golden: Golden,
  name: string,
  axes: readonly K[],
): Tensor<{ [P in K]: number }> => {
  const shape = shapeOf(golden, name);
  if (shape.length !== axes.length) {
    throw new GoldenError(
      `${golden.file}: '${name}' has ${shape.length} axes, but ${axes.join(", ")} were expected`,
    );
  }
  const sizes = Object.fromEntries(axes.map((axis, k) => [axis, shape[k]]));
  return F.input(name, sizes) as unknown as Tensor<{ [P in K]: number }>;
};

/** A parameter that is used directly. */
const paramOf = <K extends string>(
  golden: Golden,
  name: string,
  axes: readonly K[],
): Tensor<{ [P in K]: number }> => {
  const shape = shapeOf(golden, `param.${name}`);
  const sizes = Object.fromEntries(axes.map((axis, k) => [axis, shape[k]]));
  return F.param(name, sizes, initialise.zeros) as unknown as Tensor<{ [P in K]: number }>;
};

const asked = (
  of: AnyTensor,
  order: readonly string[],
  tolerance: Tolerance = outputTolerance,
) => ({
  output: { of, order },
  tolerance,
});

/** What a primitive or block gives, which leaves it is differentiated for, and in which order. */
interface Case {
  readonly outputs: Readonly<
    Record<string, { readonly of: AnyTensor; readonly order: readonly string[] }>
  >;
  /** The output that the loss compares with `target`. */
  readonly scored: string;
  readonly leaves: Readonly<Record<string, AnyTensor>>;
  readonly tolerances?: { readonly output: Tolerance; readonly gradient: Tolerance };
}

const sequence = ["batch", "token", "channel"] as const;
const heads = ["batch", "head", "token", "feature"] as const;

const simple = (golden: Golden, axes: readonly string[], f: (x: AnyTensor) => AnyTensor): Case => {
  const x = inputOf(golden, "input.x", axes);
  return { outputs: { y: { of: f(x), order: axes } }, scored: "y", leaves: { "input.x": x } };
};

const onSequence = (golden: Golden, f: (x: Sequence) => Sequence): Case =>
  simple(golden, sequence, f as (x: AnyTensor) => AnyTensor);

const numberFrom = (golden: Golden, key: string): number => {
  const value = Number(golden.metadata[key]);
  if (!Number.isFinite(value)) {
    throw new GoldenError(`${golden.file}: its metadata has no number '${key}'`);
  }
  return value;
};

const mambaSizes = (golden: Golden) => ({
  depth: Number(golden.metadata.depth ?? 12),
  state: numberFrom(golden, "d_state"),
  conv: numberFrom(golden, "d_conv"),
  expand: numberFrom(golden, "expand"),
  form: "sequential" as const,
});

const scanCase = (golden: Golden, whole: boolean): Case => {
  const over = ["batch", "channel", "token"] as const;
  const u = inputOf(golden, "input.u", over), delta = inputOf(golden, "input.delta", over);
  const A = paramOf(golden, "A", ["channel", "state"]);
  const B = inputOf(golden, "input.B", ["batch", "state", "token"]);
  const C = inputOf(golden, "input.C", ["batch", "state", "token"]);
  const leaves: Record<string, AnyTensor> = {
    "input.u": u,
    "input.delta": delta,
    "param.A": A,
    "input.B": B,
    "input.C": C,
  };
  let step: AnyTensor = delta;
  if (whole) {
    const bias = paramOf(golden, "delta_bias", ["channel"]);
    leaves["param.delta_bias"] = bias;
    step = F.softplus(F.on.add(delta, bias));
  }
  const h = F.recurrence(
    "token",
    F.exp(F.mul(step, A)) as AnyTensor,
    F.mul(F.mul(step, B) as AnyTensor, u) as AnyTensor,
  );
  let y: AnyTensor = selectiveScan({
    u: u as AnyTensor,
    delta: step,
    A,
    B: B as AnyTensor,
    C: C as AnyTensor,
  });
  if (whole) {
    const D = paramOf(golden, "D", ["channel"]);
    const z = inputOf(golden, "input.z", over);
    leaves["param.D"] = D;
    leaves["input.z"] = z;
    y = F.mul(F.add(y, F.mul(u, D) as AnyTensor) as AnyTensor, F.silu(z) as AnyTensor);
  }
  const last = F.pick(h as AnyTensor, "token", shapeOf(golden, "input.u")[2] - 1);
  return {
    outputs: {
      y: { of: y, order: over },
      last_state: { of: last, order: ["batch", "channel", "state"] },
    },
    scored: "y",
    leaves,
  };
};

const mlstmCase = (golden: Golden, stress: boolean): Case => {
  const q = inputOf(golden, "input.q", heads),
    k = inputOf(golden, "input.k", heads),
    v = inputOf(golden, "input.v", heads);
  const gate = (name: string) => inputOf(golden, name, ["batch", "head", "token", "one"]);
  const i = gate("input.igate"), f = gate("input.fgate");
  const inputs = { q, k, v, inputGate: F.pick(i, "one", 0), forgetGate: F.pick(f, "one", 0) };
  const y = mlstm("parallel")(inputs);
  const loose: Tolerance = { rel: 1e-3 };
  return {
    outputs: { y: { of: y, order: heads } },
    scored: "y",
    leaves: { "input.q": q, "input.k": k, "input.v": v, "input.igate": i, "input.fgate": f },
    ...(stress ? { tolerances: { output: loose, gradient: loose } } : {}),
  };
};

const slstmCase = (golden: Golden, given: boolean): Case => {
  const [batch, , width] = shapeOf(golden, "input.x");
  const head = numberFrom(golden, "num_heads"), hidden = numberFrom(golden, "hidden_size");
  const unit = hidden / head;
  const x = inputOf(golden, "input.x", ["batch", "token", "wide"]);
  const recurrent = paramOf(golden, "_recurrent_kernel_", ["head", "wide", "other"]);
  const bias = paramOf(golden, "_bias_", ["wide"]);
  const leaves: Record<string, AnyTensor> = {
    "input.x": x,
    "param._recurrent_kernel_": recurrent,
    "param._bias_": bias,
  };
  const start = (k: number): AnyTensor => {
    if (!given) return F.expand(F.scalarOf(0), { batch, head, unit });
    const state = inputOf(golden, "input.state", ["part", "batch", "wide"]);
    leaves["input.state"] = state;
    return F.split(F.pick(state, "part", k), "wide", { head, unit }) as AnyTensor;
  };
  if (width !== 4 * hidden) {
    throw new GoldenError(`${golden.file}: input.x has ${width} numbers a step, not 4 x ${hidden}`);
  }
  const { out, last } = slstm({
    x: F.split(x, "wide", { gate: 4, head, unit }) as AnyTensor,
    recurrent: F.split(recurrent, "wide", { gate: 4, unit }) as AnyTensor,
    bias: F.split(bias, "wide", { gate: 4, head, unit }) as AnyTensor,
    from: { y: start(0), c: start(1), n: start(2), m: start(3) },
  });
  const merged = [last.y, last.c, last.n, last.m].map((state) =>
    F.merge(state, ["head", "unit"], "wide") as AnyTensor
  );
  const stacked = merged.map((state, k) =>
    F.pad(F.expand(state, { part: 1 }) as AnyTensor, "part", k, 3 - k) as AnyTensor
  )
    .reduce((a, b) => F.add(a, b) as AnyTensor);
  return {
    outputs: {
      y: { of: out, order: ["batch", "head", "token", "unit"] },
      last_state: { of: stacked, order: ["part", "batch", "wide"] },
    },
    scored: "y",
    leaves,
  };
};

const blockCase = (golden: Golden, first: boolean): Case => {
  const x = inputOf(golden, "input.x", sequence);
  const leaves: Record<string, AnyTensor> = { "input.x": x };
  let residual: AnyTensor = x;
  if (!first) {
    const before = inputOf(golden, "input.residual", sequence);
    leaves["input.residual"] = before;
    residual = F.add(before, x);
  }
  const sum = mambaBlock(root, { ...mambaSizes(golden), depth: 1 })(residual as Sequence);
  return {
    outputs: {
      sum: { of: sum, order: sequence },
      residual: { of: residual, order: sequence },
      hidden: { of: F.sub(sum, residual) as AnyTensor, order: sequence },
    },
    scored: "sum",
    leaves,
  };
};

const xlstmSizes = (golden: Golden) => ({
  depth: Number(golden.metadata.depth ?? 12),
  heads: numberFrom(golden, "mlstm_heads"),
  expand: Number(golden.metadata.expansion ?? golden.metadata.expansion_factor),
  conv: Number(golden.metadata.conv_kernel ?? 4),
  slstm: [],
  form: "parallel" as const,
});

/** An mLSTM block on the sequence, or on its reverse. */
const vilCase = (golden: Golden, reversed: boolean): Case =>
  onSequence(golden, (x) => {
    const block = mlstmBlock(root, xlstmSizes(golden));
    return reversed ? F.flip(block(F.flip(x, "token")), "token") : block(x);
  });

const cases: Readonly<Record<string, (golden: Golden) => Case>> = {
  prim_gelu: (golden) => simple(golden, ["row", "channel"], F.gelu),
  prim_silu: (golden) => simple(golden, ["row", "channel"], F.silu),
  prim_softplus: (golden) => simple(golden, ["row", "channel"], F.softplus),
  prim_logsigmoid: (golden) => simple(golden, ["row", "channel"], F.logSigmoid),
  prim_softmax: (golden) => simple(golden, sequence, (x) => F.softmax(x, "channel")),
  prim_layer_norm: (golden) => onSequence(golden, norm(root, 1e-6)),
  prim_layer_norm_residual: (golden) => onSequence(golden, residualNorm(root, 1e-5)),
  prim_causal_conv1d: (golden) =>
    onSequence(
      golden,
      causalConv((name) => `conv.${name}`, shapeOf(golden, "param.conv.weight")[2]),
    ),
  prim_linear_headwise: (golden) =>
    onSequence(golden, linearHeadwise(root, shapeOf(golden, "param.weight")[0])),
  prim_attention: (golden) =>
    onSequence(golden, attention(root, { heads: numberFrom(golden, "num_heads") })),
  prim_multihead_layer_norm: (golden) => {
    const x = inputOf(golden, "input.x", heads);
    return {
      outputs: { y: { of: headNorm(root, 1e-5)(x as Heads), order: heads } },
      scored: "y",
      leaves: { "input.x": x },
    };
  },
  prim_patch_embed: (golden) => {
    const x = inputOf(golden, "input.x", ["batch", "plane", "time", "mel"]);
    const [dim, , time, frequency] = shapeOf(golden, "param.proj.weight");
    const cut = patchify(F.pick(x, "plane", 0) as Spectrogram, { time, frequency });
    const y = embedPatches((name) => `proj.${name}`, { time, frequency }, dim)(cut);
    return { outputs: { y: { of: y, order: sequence } }, scored: "y", leaves: { "input.x": x } };
  },
  prim_selective_scan: (golden) => scanCase(golden, true),
  prim_selective_scan_plain: (golden) => scanCase(golden, false),
  prim_mlstm_cell: (golden) => mlstmCase(golden, false),
  prim_mlstm_cell_stress: (golden) => mlstmCase(golden, true),
  prim_matrix_lstm_cell: (golden) => {
    const [q, k, v] = ["input.q", "input.k", "input.v"].map((name) =>
      inputOf(golden, name, sequence)
    );
    const y = matrixLSTM(root, numberFrom(golden, "num_heads"))(q, k, v);
    return {
      outputs: { y: { of: y, order: sequence } },
      scored: "y",
      leaves: { "input.q": q, "input.k": k, "input.v": v },
    };
  },
  prim_slstm_cell: (golden) => slstmCase(golden, false),
  prim_slstm_cell_state: (golden) => slstmCase(golden, true),
  block_mamba: (golden) => blockCase(golden, false),
  block_mamba_first: (golden) => blockCase(golden, true),
  block_mamba_mixer: (golden) =>
    onSequence(golden, mixer(root, { ...mambaSizes(golden), depth: 1 })),
  block_transformer: (golden) => {
    const sizes = { heads: numberFrom(golden, "num_heads"), mlp: numberFrom(golden, "mlp_ratio") };
    return onSequence(golden, transformerBlock(root, sizes));
  },
  block_vil_fwd: (golden) => vilCase(golden, false),
  block_vil_rev: (golden) => vilCase(golden, true),
};

/** A primitive or block: its outputs, its loss against `target`, and the gradients of that. */
const runCase = (golden: Golden, of: Case): Asked => {
  const { output: outputTol, gradient: gradientTol } = of.tolerances ??
    { output: outputTolerance, gradient: gradientTolerance };
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {};
  for (const [name, { of: value, order }] of Object.entries(of.outputs)) {
    if (golden.tensors.has(`output.${name}`)) {
      wanted[`output.${name}`] = asked(value, order, outputTol);
    }
  }
  if (!golden.tensors.has("target")) return wanted;
  const { of: y, order } = of.outputs[of.scored];
  const target = inputOf(golden, "target", order);
  const loss = F.mean(F.square(F.sub(y, target) as AnyTensor), order as never) as AnyTensor;
  wanted.loss = asked(loss, [], outputTol);
  const leaves: Record<string, AnyTensor> = { ...of.leaves };
  for (const parameter of parameters([loss])) leaves[`param.${parameter.name}`] = parameter.tensor;
  const gradients = grad(loss, leaves);
  for (const [name, g] of Object.entries(gradients)) {
    const key = `grad.${name}`;
    if (!golden.tensors.has(key)) continue;
    wanted[key] = asked(
      g,
      Object.keys(node(leaves[name]).axes),
      cancels(name) ? { ...gradientTol, abs: 1e-4 * scaleBeside(golden, key) } : gradientTol,
    );
  }
  return wanted;
};

/** README of the goldens: this gradient nearly cancels; it is held to the scale of those beside it. */
const cancels = (name: string): boolean => name.endsWith("igate.bias");

/** The largest gradient of the same block. */
const scaleBeside = (golden: Golden, key: string): number => {
  const block = key.match(/^grad\w*\.param\.(blocks\.\d+\.)?/)?.[0] ?? "grad.param.";
  return Math.max(
    0,
    ...[...golden.tensors].filter(([other]) => other.startsWith(block))
      .map(([, data]) => largest(floats(data))),
  );
};

const largest = (x: ArrayLike<number>): number => {
  let top = 0;
  for (let k = 0; k < x.length; k++) top = Math.max(top, Math.abs(x[k]));
  return top;
};

const compare = (
  golden: Golden,
  tensor: string,
  found: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: Tolerance,
): Row => {
  let square = 0, norm = 0, abs = 0;
  const same = found.length === wanted.length;
  for (let k = 0; k < wanted.length && same; k++) {
    const d = found[k] - wanted[k];
    square += d * d;
    norm += wanted[k] * wanted[k];
    abs = Math.max(abs, Math.abs(d));
    if (Number.isNaN(d)) abs = Infinity;
  }
  const rel = square === 0 ? 0 : Math.sqrt(square / norm);
  const ok = same && Number.isFinite(abs) &&
    ((tolerance.rel !== undefined && rel <= tolerance.rel) ||
      (tolerance.abs !== undefined && abs <= tolerance.abs));
  const words = [
    tolerance.rel === undefined ? [] : [`rel ${tolerance.rel}`],
    tolerance.abs === undefined ? [] : [`abs ${tolerance.abs.toPrecision(2)}`],
  ].flat().join(" or ");
  return { file: golden.file, tensor, rel, abs, tolerance: words, ok };
};

const paramValues = (golden: Golden): Values =>
  Object.fromEntries(
    [...golden.tensors].filter(([name]) => name.startsWith("param.")).map((
      [name, data],
    ) => [name.slice("param.".length), floats(data)]),
  );

const inputValues = (golden: Golden): Values =>
  Object.fromEntries([...golden.tensors].map(([name, data]) => [name, floats(data)]));

const runAsked = async (
  golden: Golden,
  backend: Backend,
  wanted: Asked,
): Promise<readonly Row[]> => {
  const outputs = Object.fromEntries(
    Object.entries(wanted).map(([name, { output }]) => [name, output]),
  );
  const machine = await backend.open({ main: { outputs } });
  try {
    machine.write(paramValues(golden));
    const found = await machine.run("main", inputValues(golden));
    return Object.entries(wanted).map(([name, { tolerance }]) =>
      compare(golden, name, found[name], floats(tensorOf(golden, name)), tolerance)
    );
  } finally {
    machine.close();
  }
};

const list = (golden: Golden, key: string): readonly number[] => {
  const value = JSON.parse(golden.metadata[key] ?? "null");
  if (!Array.isArray(value)) {
    throw new GoldenError(`${golden.file}: its metadata has no list '${key}'`);
  }
  return value;
};

/** Goldens call the families by the names of the published code. */
const families: Readonly<Record<string, FamilyName>> = {
  ssast: "transformer",
  mamba: "mamba",
  xlstm: "xlstm",
};

/** The published encoder of a golden's family, with the golden's own sizes. */
const encoderOf = (
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

const published = (masking: number) => ({
  objective: { style: "ssast" as const },
  masking: { kind: "unstructured" as const, ratio: masking },
  fidelity: faithful,
});

const numbersIn = (golden: Golden): Readonly<Record<string, number | undefined>> =>
  Object.fromEntries(
    Object.entries(golden.metadata).map(([key, value]) => [key, Number(value)])
      .filter(([, value]) => Number.isFinite(value)),
  );

/** A whole model: predictions, features, both losses with all gradients, and AdamW steps. */
const runModel = async (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const [time, frequency] = list(golden, "patch_size");
  const encoder = encoderOf(golden, numbersIn(golden), { time, frequency });
  const imgs = inputOf(golden, "input.imgs", ["batch", "plane", "time", "mel"]);
  const x = F.pick(imgs, "plane", 0) as Spectrogram;
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
        wanted[key] = asked(g, Object.keys(node(of[name]).axes), tolerance);
      }
    }
  };
  add("grad", result.lossAll, leaves);
  add("grad_masked", result.lossMasked, leaves);
  const pixelError = F.square(F.sub(result.prediction, F.stop(result.target)));
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
 * A parameter after AdamW steps. The key third of attention's bias has a gradient of zero but for
 * rounding, which AdamW divides by its own size: it is held to the size of a step only.
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

const zeroMoments = (golden: Golden, names: readonly string[]): Values =>
  Object.fromEntries(names.flatMap((name) => {
    const length = floats(tensorOf(golden, `param.${name}`)).length;
    const { mean, square } = moments(name);
    return [[mean, new Float32Array(length)], [square, new Float32Array(length)]];
  }));

/** What stands in `tiny_<family>.json`. */
interface TinyCompanion {
  readonly seed: number;
  readonly config: Readonly<Record<string, number | boolean | readonly number[]>>;
  readonly input: Generated;
  readonly params: readonly Generated[];
  readonly pred: Checksum;
  readonly features: Checksum;
  readonly grads: Readonly<
    Record<
      string,
      { readonly sum_abs: number; readonly l2: number; readonly first4: readonly number[] }
    >
  >;
}
interface Generated {
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly scale: number;
  readonly log_mod: number;
}
interface Checksum {
  readonly sum_abs: number;
  readonly l2: number;
}

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

const runTiny = async (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const { companion } = golden;
  if (companion === undefined) {
    throw new GoldenError(
      `${golden.file}: ${golden.kind}.json must stand beside it; it says how the weights are made`,
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

const runLogMel = (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const front = frontend.publishedFrontEnd;
  const wave = F.input("input.wav", { sample: shapeOf(golden, "input.wav")[0] });
  const clip = F.expand(wave, { batch: 1 }) as frontend.Waveform;
  const logs = frontend.logMel(front)(clip);
  const one = (x: AnyTensor) => F.pick(x, "batch", 0);
  const frames = shapeOf(golden, "output.normalized")[2];
  const inference = frontend.standardise(logs, 1);
  const training = frontend.standardise(logs, 0);
  const absolute: Tolerance = { abs: 1e-4 };
  const planes = (x: AnyTensor) => F.expand(x, { plane: 1 });
  const order = ["batch", "plane", "time", "mel"];
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {
    "const.window": asked(F.literal({ tap: front.fft }, frontend.hann(front)), ["tap"], {
      rel: 1e-6,
    }),
    "const.mel_fb": asked(
      F.literal({ bin: 201, mel: 80 }, frontend.melFilters(front)),
      ["bin", "mel"],
      outputTolerance,
    ),
    "output.mel_power": asked(one(frontend.melPower(front)(clip)), ["mel", "time"]),
    "output.power_spec": asked(one(frontend.power(front)(clip)), ["bin", "time"]),
    "output.logmel": asked(one(logs), ["mel", "time"], { abs: 1e-3 }),
    "output.normalized": asked(planes(inference), order, absolute),
    "output.normalized_first200": asked(
      planes(frontend.standardise(F.slice(logs, "time", 0, 200) as frontend.Frames<"mel">, 1)),
      order,
      absolute,
    ),
  };
  const centre = [...golden.tensors.keys()].find((name) => name.startsWith("output.train_center"));
  if (centre !== undefined) {
    const length = shapeOf(golden, centre)[1];
    wanted[centre] = asked(
      F.slice(training, "time", Math.floor((frames - length) / 2), length),
      ["batch", "time", "mel"],
      absolute,
    );
  }
  return runAsked(golden, backend, wanted);
};

const runPatchify = (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {};
  for (const [letter, patch] of Object.entries(patchesIn(golden))) {
    const imgs = inputOf(golden, `${letter}.input.imgs`, ["batch", "plane", "time", "mel"]);
    const x = F.pick(imgs, "plane", 0) as Spectrogram;
    for (
      const [name, order] of [["time_first", "time first"], [
        "frequency_first",
        "frequency first",
      ]] as const
    ) {
      const y = patchify(x, patch, order);
      wanted[`${letter}.output.${name}`] = asked(y, ["batch", "token", "pixel"], { abs: 0 });
    }
  }
  return runAsked(golden, backend, wanted);
};

/** The patch sizes from the sentence in the metadata: `a: img 24x16 patch 4x8, ...`. */
const patchesIn = (
  golden: Golden,
): Readonly<Record<string, { time: number; frequency: number }>> => {
  const found = [
    ...(golden.metadata.cases ?? "").matchAll(/(\w+): img \d+x\d+ patch (\d+)x(\d+)/g),
  ];
  if (found.length === 0) {
    throw new GoldenError(`${golden.file}: its metadata does not say the patch sizes`);
  }
  return Object.fromEntries(
    found.map((
      [, letter, time, frequency],
    ) => [letter, { time: Number(time), frequency: Number(frequency) }]),
  );
};

const runPositions = (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {};
  for (const name of golden.tensors.keys()) {
    const match = name.match(/^pos\.dim(\d+)\.grid(\d+)x(\d+)\.cls$/);
    if (match === null) continue;
    const [dim, time, frequency] = match.slice(1).map(Number);
    const table = F.literal(
      { token: 1 + time * frequency, channel: dim },
      positionTable(dim, { time, frequency }),
    );
    wanted[name] = asked(table, ["token", "channel"], { abs: 1e-5 });
  }
  return runAsked(golden, backend, wanted);
};

const runSchedule = (golden: Golden): readonly Row[] =>
  [...golden.tensors.keys()].filter((name) => name.endsWith(".config")).map((name) => {
    const prefix = name.slice(0, -".config".length);
    const [peak, warmup, total, least] = floats64(tensorOf(golden, name));
    const found = floats64(tensorOf(golden, `${prefix}.epoch`))
      .map((epoch) => learningRate({ peak, least, warmup, total }, epoch));
    return compare(golden, `${prefix}.lr`, found, floats64(tensorOf(golden, `${prefix}.lr`)), {
      rel: 1e-12,
    });
  });

const floats64 = (data: TensorData): Float64Array =>
  Float64Array.from(data.data as ArrayLike<number>);

const runAdamW = async (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const names = [...golden.tensors.keys()].filter((name) => name.startsWith("param.")).map((name) =>
    name.slice(6)
  );
  const steps = shapeOf(golden, `input.grads.${names[0]}`)[0];
  const all = names.map((name) => {
    const shape = shapeOf(golden, `param.${name}`);
    const axes = Object.fromEntries(shape.map((size, k) => [`axis ${k}`, size]));
    return {
      name,
      axes,
      tensor: F.param(name, axes, initialise.zeros) as AnyTensor,
      init: initialise.zeros,
      trainable: true,
    };
  });
  const gradients = Object.fromEntries(
    all.map(({ name, axes }) => [name, F.input(`g.${name}`, axes) as AnyTensor]),
  );
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 };
  const updates = adamW(options, all, gradients, {
    rate: F.input("rate", {}),
    step: F.input("step", {}),
  });
  const machine = await backend.open({ main: { outputs: {}, updates } });
  try {
    machine.write(paramValues(golden));
    machine.write(zeroMoments(golden, names));
    const rows: Row[] = [];
    for (let step = 1; step <= steps; step++) {
      const given: Record<string, Float32Array> = {
        rate: Float32Array.of(1e-3),
        step: Float32Array.of(step),
      };
      for (const name of names) {
        const g = floats(tensorOf(golden, `input.grads.${name}`)), length = g.length / steps;
        given[`g.${name}`] = g.slice((step - 1) * length, step * length);
      }
      await machine.run("main", given);
      const values = await machine.read(names);
      for (const name of names) {
        const key = `output.after${step}.${name}`;
        rows.push(
          compare(golden, key, values[name], floats(tensorOf(golden, key)), outputTolerance),
        );
      }
    }
    return rows;
  } finally {
    machine.close();
  }
};

const kinds = (golden: Golden): ((backend: Backend) => Promise<readonly Row[]>) | undefined => {
  const { kind } = golden;
  if (kind === "prim_adamw") return (backend) => runAdamW(golden, backend);
  if (cases[kind] !== undefined) {
    return (backend) => runAsked(golden, backend, runCase(golden, cases[kind](golden)));
  }
  if (kind.startsWith("model_")) return (backend) => runModel(golden, backend);
  if (kind.startsWith("tiny_")) return (backend) => runTiny(golden, backend);
  if (kind === "logmel") return (backend) => runLogMel(golden, backend);
  if (kind === "patchify") return (backend) => runPatchify(golden, backend);
  if (kind === "pos_embed") return (backend) => runPositions(golden, backend);
  if (kind === "lr_schedule") return () => Promise.resolve(runSchedule(golden));
};

/** The longest known kind that a file name begins with, so that variants of a kind are found too. */
const kindOf = (file: string): string => {
  const stem = basename(file).replace(/\.safetensors$/, "");
  const known = [...Object.keys(cases), "prim_adamw"].filter((kind) => stem.startsWith(kind))
    .sort((a, b) => b.length - a.length);
  return known[0] ??
    ["logmel", "patchify", "pos_embed", "lr_schedule"].find((kind) => stem.startsWith(kind)) ??
    stem;
};

/**
 * Compares one golden file with what a backend computes: a row per tensor.
 * Throws `GoldenError` with one sentence for a file that is not there, damaged, or of no known kind.
 */
export const checkGolden = async (file: string, backend: Backend): Promise<readonly Row[]> => {
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(readFileSync(file));
  } catch {
    throw new GoldenError(`${file} can not be read; give the path of a golden .safetensors file`);
  }
  const decoded = decode(bytes);
  if (E.isLeft(decoded)) throw new GoldenError(safetensorsErrorText(decoded.left, file));
  const { metadata, tensors }: Safetensors = decoded.right;
  let companion: TinyCompanion | undefined;
  try {
    companion = JSON.parse(readFileSync(file.replace(/\.safetensors$/, ".json"), "utf8"));
  } catch {
    // Only the tiny models have one, and they say so when it is missing.
  }
  const golden: Golden = { file: basename(file), kind: kindOf(file), metadata, tensors, companion };
  const run = kinds(golden);
  if (run === undefined) {
    const list = [
      ...Object.keys(cases),
      "prim_adamw",
      "model_mamba",
      "tiny_mamba",
      "logmel",
      "patchify",
      "pos_embed",
      "lr_schedule",
    ];
    throw new GoldenError(
      `${file}: '${golden.kind}' is no known golden; known are ${list.join(", ")}`,
    );
  }
  try {
    return await run(backend);
  } catch (error) {
    if (error instanceof AxisError) {
      throw new GoldenError(`${file} does not fit '${golden.kind}': ${error.message}`);
    }
    throw error;
  }
};

const showRow = ({ file, tensor, rel, abs, tolerance, ok }: Row): string =>
  [
    ok ? "ok  " : "FAIL",
    file.replace(/\.safetensors$/, "").padEnd(28),
    tensor.padEnd(44),
    `rel ${rel.toExponential(1)}`.padEnd(13),
    `abs ${abs.toExponential(1)}`.padEnd(13),
    `within ${tolerance}`,
  ].join(" ");

/** Compares files and prints a row per tensor. Gives the exit status: 0 only when all hold. */
export const golden = async (
  files: readonly string[],
  options: { readonly device: string; readonly json: boolean },
): Promise<number> => {
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) {
    console.error(chosen.left);
    return 1;
  }
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);
  let total = 0, failed = 0, refused = 0;
  for (const file of files) {
    try {
      for (const row of await checkGolden(file, backend)) {
        total++;
        if (!row.ok) failed++;
        const { file, tensor, rel, abs, ok } = row;
        console.log(options.json ? JSON.stringify({ file, tensor, rel, abs, ok }) : showRow(row));
      }
    } catch (error) {
      if (!(error instanceof GoldenError)) throw error;
      refused++;
      console.error(error.message);
    }
  }
  backend.close();
  if (!options.json) {
    console.log(
      `${total} tensors, ${failed} out of tolerance${
        refused > 0 ? `, ${refused} files refused` : ""
      }`,
    );
  }
  return failed + refused === 0 && total > 0 ? 0 : 1;
};
