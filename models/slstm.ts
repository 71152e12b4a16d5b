// The sLSTM cell and block (Beck et al., "xLSTM", 2024): scalar memories with exponential gates,
// mixed within a head by a recurrent matrix, so that steps can only run one after another. The
// published audio encoders leave it out.
import type { Tensor } from "../dsl/axes.ts";
import {
  add,
  constant,
  contract,
  equal,
  exp,
  expand,
  gelu,
  logSigmoid,
  maximum,
  mul,
  named,
  param,
  parts,
  recip,
  rename,
  scan,
  select,
  sigmoid,
  silu,
  sizeOf,
  split,
  stack,
  sub,
  tanh,
  unstack,
} from "../dsl/ops.ts";
import { gateBias, spread, zeros } from "./initialisers.ts";
import {
  causalConv,
  channels,
  fromHeads,
  headNorm,
  linear,
  linearHeadwise,
  type Norm,
  residualNorm,
  type Scope,
  scope,
  type Sequence,
} from "./layers.ts";

/** Sizes of an sLSTM block. */
export interface SlstmSizes {
  readonly depth: number;
  readonly heads: number;
  /** Taps of the causal convolution. */
  readonly conv: number;
}

/** One number per unit: the shape of the cell's memory. */
export type Units = Tensor<{ batch: number; head: number; unit: number }>;
/** The carry of the cell: hidden value y, memory c, normaliser n and stabiliser m. */
export type SlstmState = Readonly<Record<"y" | "c" | "n" | "m", Units>>;

/**
 * Runs the cell over tokens. `x` is the input of the gates (i, f, z, o along `gate`), `recurrent` the
 * matrices R of each head, `bias` the biases of the gates. On the first step from a zero normaliser the
 * stabiliser is the input gate itself, as in the published code.
 */
export const slstm = (
  { x, recurrent, bias, from }: {
    readonly x: Tensor<{ batch: number; token: number; gate: number; head: number; unit: number }>;
    readonly recurrent: Tensor<{ head: number; gate: number; unit: number; other: number }>;
    readonly bias: Tensor<{ gate: number; head: number; unit: number }>;
    readonly from: SlstmState;
  },
): {
  readonly out: Tensor<{ batch: number; head: number; unit: number; token: number }>;
  readonly last: SlstmState;
} =>
  named("sLSTM", () => {
    const { final, out } = scan({ over: "token", from, each: { x } }, ({ y, c, n, m }, now) => {
      const mixed = contract(rename(y, "unit", "other"), recurrent, "other");
      const raw = add(add(now.x, mixed), bias);
      const { i, f, z, o } = unstack(raw, "gate", ["i", "f", "z", "o"]);
      const kept = add(m, logSigmoid(f));
      const top = select(equal(n, 0), i, maximum(i, kept));
      const write = exp(sub(i, top)), keep = exp(sub(kept, top));
      const memory = add(mul(keep, c), mul(write, tanh(z)));
      const norm = add(mul(keep, n), write);
      const hidden = mul(sigmoid(o), mul(memory, recip(norm)));
      return { next: { y: hidden, c: memory, n: norm, m: top }, out: { h: hidden } };
    });
    return { out: out.h, last: final };
  });

/** The zero state before the first token, for the clips of `x` and `heads` heads. */
export const emptySlstm = (x: Sequence, heads: number): SlstmState => {
  const batch = sizeOf(x, "batch"), unit = channels(x) / heads;
  const zero = expand(constant(0), { batch, head: heads, unit });
  return { y: zero, c: zero, n: zero, m: zero };
};

/** The layer of figure 10: i and f from the convolved input, z and o from the input; cell; norm. */
const slstmLayer = (at: Scope, sizes: SlstmSizes, block: number) => (x: Sequence): Sequence =>
  named("sLSTM layer", () => {
    const dim = channels(x), head = sizes.heads, unit = dim / head;
    const convolved = silu(causalConv(scope("conv1d.conv", at), sizes.conv)(x));
    const gate = (name: string, from: Sequence) => {
      const init = spread(Math.sqrt(2 / (5 * dim)));
      const y = linearHeadwise(scope(name, at), head, init)(from);
      return split(y, "channel", { head, unit });
    };
    const gates = stack(
      [
        gate("igate", convolved),
        gate("fgate", convolved),
        gate("zgate", x),
        gate("ogate", x),
      ],
      "gate",
    );
    const cell = scope("slstm_cell", at), each = { gate: 4, head, unit };
    const recurrent = param(
      cell("_recurrent_kernel_"),
      { head, wide: 4 * unit, other: unit },
      zeros,
    );
    const bias = param(
      cell("_bias_"),
      { wide: 4 * dim },
      gateBias(unit, block / Math.max(1, sizes.depth - 1)),
    );
    const { out } = slstm({
      x: gates,
      recurrent: split(recurrent, "wide", { gate: 4, unit }),
      bias: split(bias, "wide", each),
      from: emptySlstm(x, head),
    });
    return fromHeads(headNorm(scope("group_norm", at), 1e-5)(rename(out, "unit", "feature")));
  });

/** GELU(W a) · (W b), then down: the gated perceptron after the cell, 4/3 as wide (figure 10). */
const gatedPerceptron = (at: Scope) => (x: Sequence): Sequence =>
  named("ffn", () => {
    const dim = channels(x), inner = Math.ceil(4 * dim / 3 / 64) * 64;
    const init = spread(Math.sqrt(2 / (5 * dim)));
    const both = linear(scope("proj_up", at), 2 * inner, { bias: false, init })(x);
    const { a, b } = parts(both, "channel", { a: inner, b: inner });
    const down = { bias: false, init: spread(2 / Math.sqrt(dim)) };
    return linear(scope("proj_down", at), dim, down)(mul(gelu(a), b));
  });

/** An sLSTM block: h = x + layer(norm(x)); h + ffn(norm(h)). */
export const slstmBlock = (at: Scope, sizes: SlstmSizes, block: number, kind: Norm = "layer") =>
(
  x: Sequence,
): Sequence => {
  const seen = residualNorm(scope("norm", at), 1e-5, kind)(x);
  const h = add(x, slstmLayer(scope("layer", at), sizes, block)(seen));
  return add(
    h,
    gatedPerceptron(scope("ffn", at))(residualNorm(scope("ffn_norm", at), 1e-5, kind)(h)),
  );
};
