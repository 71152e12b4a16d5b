// The mLSTM block of xLSTM (Beck et al., "xLSTM: Extended long short-term memory", 2024), as used in
// Vision-LSTM (Alkin et al. 2024) and the audio encoder AxLSTM.
import { add, concat, mul, named, on, param, parts, rename, silu } from "../dsl/ops.ts";
import { ones, ramp, spread, zeros } from "./initialisers.ts";
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
  toHeads,
} from "./layers.ts";
import { mlstm, type MlstmForm } from "./mlstm.ts";
import { slstmBlock } from "./slstm.ts";

/** Sizes of an xLSTM encoder beyond its width. */
export interface XlstmSizes {
  readonly depth: number;
  /** Heads of the cells. */
  readonly heads: number;
  /** Inner channels of an mLSTM block per channel. */
  readonly expand: number;
  /** Taps of the causal convolution. */
  readonly conv: number;
  /** Which blocks, counted from 0, are sLSTM blocks; the others are mLSTM blocks. */
  readonly slstm: readonly number[];
  /** How the mLSTM cell is computed. */
  readonly form: MlstmForm;
}

/** Channels per matrix of the block-diagonal maps to q, k and v. */
const group = 4;

/** The cell with gates computed from q, k and v, concatenated (equations 25-27), and its norm. */
export const matrixLSTM =
  (at: Scope, heads: number, form: MlstmForm = "parallel") =>
  (q: Sequence, k: Sequence, v: Sequence): Sequence =>
    named("matrix LSTM", () => {
      const all = concat(concat(q, k, "channel"), v, "channel");
      const gate = (name: string, biasInit: typeof zeros) => {
        const y = linear(scope(name, at), heads, { init: zeros, biasInit })(all);
        return rename(y, "channel", "head");
      };
      const h = mlstm(form)({
        q: toHeads(q, heads),
        k: toHeads(k, heads),
        v: toHeads(v, heads),
        inputGate: gate("igate", spread(0.1)),
        forgetGate: gate("fgate", ramp(3, 6)),
      });
      return fromHeads(headNorm(scope("outnorm", at), 1e-5)(h));
    });

/** The layer of figure 11: up, convolve, q and k from the convolved input, v from the input, gate, down. */
const mlstmLayer = (at: Scope, sizes: XlstmSizes) => (x: Sequence): Sequence =>
  named("mLSTM layer", () => {
    const dim = channels(x), inner = sizes.expand * dim, small = spread(Math.sqrt(2 / (5 * dim)));
    const both = linear(scope("proj_up", at), 2 * inner, { bias: false, init: small })(x);
    const { u, z } = parts(both, "channel", { u: inner, z: inner });
    const convolved = silu(causalConv(scope("conv1d.conv", at), sizes.conv)(u));
    const headwise = (name: string) => linearHeadwise(scope(name, at), inner / group, small);
    const q = headwise("q_proj")(convolved), k = headwise("k_proj")(convolved);
    const h = matrixLSTM(scope("mlstm_cell", at), sizes.heads, sizes.form)(
      q,
      k,
      headwise("v_proj")(u),
    );
    const skip = on.mul(convolved, param(at("learnable_skip"), { channel: inner }, ones));
    const init = spread(2 / Math.sqrt(dim));
    return linear(scope("proj_down", at), dim, { bias: false, init })(mul(add(h, skip), silu(z)));
  });

/** An mLSTM block: x + layer(norm(x)). */
export const mlstmBlock =
  (at: Scope, sizes: XlstmSizes, kind: Norm = "layer") => (x: Sequence): Sequence =>
    add(x, mlstmLayer(scope("layer", at), sizes)(residualNorm(scope("norm", at), 1e-5, kind)(x)));

/** Block `k` of a stack: an sLSTM block where the sizes list it, else an mLSTM block. */
export const xlstmBlock = (
  at: Scope,
  sizes: XlstmSizes,
  k: number,
  kind: Norm = "layer",
): (x: Sequence) => Sequence =>
  sizes.slstm.includes(k) ? slstmBlock(at, sizes, k, kind) : mlstmBlock(at, sizes, kind);
