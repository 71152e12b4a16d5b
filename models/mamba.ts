// Mamba (Gu and Dao, "Mamba: Linear-time sequence modeling with selective state spaces", 2023) as
// used for audio by SSAM (Yadav and Tan, Interspeech 2024): one direction, tokens in time order.
import {
  add,
  contract,
  exp,
  mul,
  named,
  neg,
  on,
  param,
  parts,
  recurrence,
  rename,
  silu,
  softplus,
} from "../dsl/ops.ts";
import type { Tensor } from "../dsl/axes.ts";
import { logPositions, ones, stepSizes, within } from "./initialise.ts";
import {
  causalConv,
  channels,
  layerNorm,
  linear,
  type Scope,
  scope,
  type Sequence,
} from "./layers.ts";

/** Sizes of a Mamba encoder beyond its width. */
export interface MambaSizes {
  readonly depth: number;
  /** Size of the state that each channel carries. */
  readonly state: number;
  /** Taps of the causal convolution. */
  readonly conv: number;
  /** Inner channels per channel. */
  readonly expand: number;
}

type Step = Tensor<{ batch: number; token: number; state: number }>;

/** What a selective scan reads: Δ before softplus and without its bias, and B, C, D, z of section 3. */
export interface SelectiveScan {
  readonly u: Sequence;
  readonly delta: Sequence;
  readonly A: Tensor<{ channel: number; state: number }>;
  readonly B: Step;
  readonly C: Step;
}

/** h' = exp(Δ A) h + Δ B u; y = C h (equations 1a, 1b and 4, with Euler's rule for B). */
export const selectiveScan = ({ u, delta, A, B, C }: SelectiveScan): Sequence =>
  named("selective scan", () => {
    const h = recurrence("token", exp(mul(delta, A)), mul(mul(delta, B), u));
    return contract(h, C, "state");
  });

/** Algorithm 2 with D and the input-dependent Δ, B and C. */
const selectiveSSM =
  (at: Scope, { state }: MambaSizes, rank: number) => (u: Sequence): Sequence => {
    const inner = channels(u);
    const { dt, B, C } = parts(
      linear(scope("x_proj", at), rank + 2 * state, { bias: false })(u),
      "channel",
      { dt: rank, B: state, C: state },
    );
    const delta = softplus(
      linear(scope("dt_proj", at), inner, {
        init: within(rank ** -0.5),
        biasInit: stepSizes(1e-3, 0.1, 1e-4),
      })(dt),
    );
    const A = neg(exp(param(at("A_log"), { channel: inner, state }, logPositions("state"))));
    const y = selectiveScan({
      u,
      delta,
      A,
      B: rename(B, "channel", "state"),
      C: rename(C, "channel", "state"),
    });
    return add(y, on.mul(u, param(at("D"), { channel: inner }, ones)));
  };

/** Figure 3: project up, convolve, scan, gate, project down. */
export const mixer = (at: Scope, sizes: MambaSizes) => (x: Sequence): Sequence =>
  named("mixer", () => {
    const dim = channels(x), inner = sizes.expand * dim;
    const both = linear(scope("in_proj", at), 2 * inner, { bias: false })(x);
    const { u, z } = parts(both, "channel", { u: inner, z: inner });
    const convolved = silu(causalConv(scope("conv1d", at), sizes.conv)(u));
    const y = selectiveSSM(at, sizes, Math.ceil(dim / 16))(convolved);
    const gated = mul(y, silu(z));
    // The last map of a residual branch starts smaller the deeper the stack is (GPT-2's rule).
    const init = within(1 / Math.sqrt(inner * sizes.depth));
    return linear(scope("out_proj", at), dim, { bias: false, init })(gated);
  });

/** One block: x + mixer(norm(x)). */
export const mambaBlock = (at: Scope, sizes: MambaSizes) => (x: Sequence): Sequence =>
  add(x, mixer(scope("mixer", at), sizes)(layerNorm(scope("norm", at), 1e-6)(x)));

/** The stack of blocks. Its output goes on to the encoder's norm. */
export const mambaBlocks = (at: Scope, sizes: MambaSizes) => (x: Sequence): Sequence =>
  Array.from({ length: sizes.depth }).reduce<Sequence>(
    (h, _, k) => named(`block ${k}`, () => mambaBlock(scope(`blocks.${k}`, at), sizes)(h)),
    x,
  );
