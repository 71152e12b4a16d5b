// The mLSTM cell (Beck et al., "xLSTM: Extended long short-term memory", 2024) in its stabilised
// parallel form, with its gates and its norm as published for audio (AxLSTM).
import type { Tensor } from "../dsl/axes.ts";
import { known } from "../dsl/axes.ts";
import { node } from "../dsl/node.ts";
import {
  add,
  concat,
  contract,
  exp,
  iota,
  less,
  logSigmoid,
  max,
  maximum,
  mean,
  merge,
  mul,
  named,
  neg,
  on,
  param,
  recip,
  recurrence,
  rename,
  scalarOf,
  scale,
  select,
  shift,
  split,
  sqrt,
  square,
  stop,
  sub,
  sum,
} from "../dsl/ops.ts";
import { zeros } from "./initialise.ts";
import { linear, type Scope, scope, type Sequence } from "./layers.ts";

/** Vectors of every head at every token. */
export type Heads = Tensor<{ batch: number; head: number; token: number; feature: number }>;
/** A number of every head at every token. */
export type Gate = Tensor<{ batch: number; head: number; token: number }>;

/** Below any score that matters; a difference with it is still a number. */
const never = -1e30;

/** Σ over earlier tokens and this one. */
const cumulative = (x: Gate): Gate => recurrence("token", on(x, scalarOf(1)) as Gate, x);

/**
 * C = (q kᵀ / √d) ∘ D with log D = F_i - F_j + I_j for j ≤ i, stabilised by its row maximum m;
 * h = C v / (max(|C 1|, e^-m) + 1e-6). Gates are given before their activations: F sums log σ(f).
 */
export const mlstmCell = (
  { q, k, v, inputGate, forgetGate }: {
    readonly q: Heads;
    readonly k: Heads;
    readonly v: Heads;
    readonly inputGate: Gate;
    readonly forgetGate: Gate;
  },
): Heads =>
  named("mLSTM cell", () => {
    const { axes } = node(q);
    const tokens = known(axes, "token"), feature = known(axes, "feature");
    const sums = cumulative(logSigmoid(forgetGate));
    const key = (x: Gate) => rename(x, "token", "key");
    const logs = add(sub(sums, key(sums)), key(inputGate));
    const causal = less(iota("key", tokens), shift(iota("token", tokens), 1));
    const masked = select(causal, logs, scalarOf(never));
    const m = stop(maximum(masked, "key"));
    const decay = exp(sub(masked, m));
    const keys = rename(k, "token", "key"), values = rename(v, "token", "key");
    const scores = mul(scale(contract(q, keys, "feature"), feature ** -0.5), decay);
    const total = sum(scores, "key");
    const norm = max(max(total, neg(total)), exp(neg(m)));
    return contract(on.mul(scores, recip(shift(norm, 1e-6))), values, "key") as unknown as Heads;
  });

/** Each head normalised over its features; the stored weight w scales by 1 + w. */
export const headNorm = (at: Scope, eps: number) => (x: Heads): Heads => {
  const { axes } = node(x);
  const head = known(axes, "head"), feature = known(axes, "feature");
  const centred = on.sub(x, mean(x, "feature"));
  const normal = on.mul(centred, recip(sqrt(shift(mean(square(centred), "feature"), eps))));
  const weight = param(at("weight"), { channel: head * feature }, zeros);
  return on.mul(normal, shift(split(weight, "channel", { head, feature }), 1));
};

/** The cell with gates read from q, k and v side by side, and its norm; sequences in and out. */
export const matrixLSTM =
  (at: Scope, heads: number) => (q: Sequence, k: Sequence, v: Sequence): Sequence =>
    named("matrix LSTM", () => {
      const all = concat(concat(q, k, "channel"), v, "channel") as Sequence;
      const gate = (name: string) =>
        rename(
          linear(scope(name, at), heads, { init: zeros })(all),
          "channel",
          "head",
        ) as unknown as Gate;
      const feature = known(node(q).axes, "channel") / heads;
      const cut = (x: Sequence) =>
        split(x, "channel", { head: heads, feature }) as unknown as Heads;
      const h = mlstmCell({
        q: cut(q),
        k: cut(k),
        v: cut(v),
        inputGate: gate("igate"),
        forgetGate: gate("fgate"),
      });
      return merge(
        headNorm(scope("outnorm", at), 1e-5)(h),
        ["head", "feature"],
        "channel",
      ) as Sequence;
    });

/** Block-diagonal linear map: each group of channels has a matrix of its own. */
export const linearHeadwise = (at: Scope, groups: number) => (x: Sequence): Sequence => {
  const size = known(node(x).axes, "channel") / groups;
  const weight = param(at("weight"), { group: groups, out: size, in: size }, zeros);
  const y = contract(split(x, "channel", { group: groups, in: size }), weight, "in");
  return merge(y, ["group", "out"], "channel") as unknown as Sequence;
};
