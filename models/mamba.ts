// Mamba (Gu and Dao, "Mamba: Linear-time sequence modeling with selective state spaces", 2023) as
// used for audio by SSAM (Yadav and Tan, Interspeech 2024).
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
  previous,
  recurrence,
  renaming,
  silu,
  softplus,
  states,
  sum,
  take,
} from "../dsl/ops.ts";
import type { Tensor } from "../dsl/axes.ts";
import { logPositions, ones, stepSizes, within } from "./initialisers.ts";
import {
  causalConv,
  channels,
  linear,
  type Norm,
  norm,
  type Scope,
  scope,
  type Sequence,
  tokens,
} from "./layers.ts";
import { joinChunks, toChunks } from "./sequences.ts";

/** Sizes of a Mamba encoder beyond its width. */
export interface MambaSizes {
  readonly depth: number;
  /** Size of the state that each channel carries. */
  readonly state: number;
  /** Taps of the causal convolution. */
  readonly conv: number;
  /** Inner channels per channel. */
  readonly expand: number;
  /** How the scan is computed: step by step, or in chunks that run in parallel. */
  readonly form: "sequential" | "chunked";
}

type Step = Tensor<{ batch: number; token: number; state: number }>;

/** Inputs of a selective scan: Δ after softplus, and A, B, C, u of the paper's section 3. */
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

/**
 * The same in chunks of `size` tokens: each chunk's contribution to the state from a zero state, the
 * states at chunk borders by a recurrence over chunks, then every chunk again from its initial state. A
 * chunk multiplies the state by exp(A Σ Δ).
 */
export const chunkedSelectiveScan = (
  { u, delta, A, B, C }: SelectiveScan,
  size = 64,
): Sequence =>
  named("chunked selective scan", () => {
    const cut = toChunks(size), d = cut(delta);
    const a = exp(mul(d, A)), b = mul(mul(d, cut(B)), cut(u));
    const alone = recurrence("place", a, b);
    const through = exp(mul(sum(d, "place"), A));
    const after = recurrence("chunk", through, take(alone, "place", size - 1));
    const { h } = states(
      { over: "place", from: { h: previous(after, "chunk") }, each: { a, b } },
      ({ h }, now) => ({ h: add(mul(now.a, h), now.b) }),
    );
    return joinChunks(contract(h, cut(C), "state"), tokens(u));
  });

/** Algorithm 2: D, and Δ, B and C that depend on the input. */
const selectiveSSM = (at: Scope, sizes: MambaSizes, rank: number) => (u: Sequence): Sequence => {
  const inner = channels(u), { state, form } = sizes;
  const all = linear(scope("x_proj", at), rank + 2 * state, { bias: false })(u);
  const { dt, B, C } = parts(all, "channel", { dt: rank, B: state, C: state });
  const options = { init: within(rank ** -0.5), biasInit: stepSizes(1e-3, 0.1, 1e-4) };
  const delta = softplus(linear(scope("dt_proj", at), inner, options)(dt));
  const A = neg(exp(param(at("A_log"), { channel: inner, state }, logPositions("state"))));
  const run = form === "chunked" ? chunkedSelectiveScan : selectiveScan;
  const toState = renaming("channel", "state");
  const y = run({ u, delta, A, B: toState(B), C: toState(C) });
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
    // The last linear map of a residual branch is initialised smaller in deeper stacks (GPT-2's rule).
    const init = within(1 / Math.sqrt(inner * sizes.depth));
    return linear(scope("out_proj", at), dim, { bias: false, init })(mul(y, silu(z)));
  });

/** One block: x + mixer(norm(x)). */
export const mambaBlock =
  (at: Scope, sizes: MambaSizes, kind: Norm = "layer") => (x: Sequence): Sequence =>
    add(x, mixer(scope("mixer", at), sizes)(norm(scope("norm", at), 1e-6, kind)(x)));
