// Goldens of primitives and blocks: their outputs, a loss against a target, and its gradients.
import type { Output } from "../../../backends/backend.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import { grad } from "../../../dsl/grad.ts";
import { nodeOf } from "../../../dsl/node.ts";
import * as F from "../../../dsl/ops.ts";
import { parameters } from "../../../dsl/parameters.ts";
import {
  causalConv,
  headNorm,
  type Heads,
  linearHeadwise,
  norm,
  residualNorm,
  type Scope,
  type Sequence,
} from "../../../models/layers.ts";
import { mambaBlock, mixer, selectiveScan } from "../../../models/mamba.ts";
import { mlstm } from "../../../models/mlstm.ts";
import { embedPatches, patchify, type Spectrogram } from "../../../models/patches.ts";
import { slstm } from "../../../models/slstm.ts";
import { attention, transformerBlock } from "../../../models/transformer.ts";
import { matrixLSTM, mlstmBlock } from "../../../models/xlstm.ts";
import {
  type Asked,
  asked,
  cancels,
  type Golden,
  GoldenError,
  gradientTolerance,
  inputOf,
  numberFrom,
  outputTolerance,
  paramOf,
  scaleBeside,
  shapeOf,
  type Tolerance,
} from "./compare.ts";

const root: Scope = (name) => name;

/** The outputs of a primitive or block, and the leaves to differentiate for, in order. */
export interface Case {
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
  const last = F.take(h as AnyTensor, "token", shapeOf(golden, "input.u")[2] - 1);
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
  const inputs = { q, k, v, inputGate: F.take(i, "one", 0), forgetGate: F.take(f, "one", 0) };
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
    if (!given) return F.expand(F.constant(0), { batch, head, unit });
    const state = inputOf(golden, "input.state", ["part", "batch", "wide"]);
    leaves["input.state"] = state;
    return F.split(F.take(state, "part", k), "wide", { head, unit }) as AnyTensor;
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

export const cases: Readonly<Record<string, (golden: Golden) => Case>> = {
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
    const cut = patchify(F.take(x, "plane", 0) as Spectrogram, { time, frequency });
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

/** A primitive or block: its outputs, its loss against `target`, and the gradients of the loss. */
export const runCase = (golden: Golden, of: Case): Asked => {
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
      Object.keys(nodeOf(leaves[name]).axes),
      cancels(name) ? { ...gradientTol, abs: 1e-4 * scaleBeside(golden, key) } : gradientTol,
    );
  }
  return wanted;
};
