// Layers that all encoders share. A sequence has the axes batch, token and channel; weights have the
// names, shapes and order of the published checkpoints.
import type { Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { type Initialiser, nodeOf } from "../dsl/node.ts";
import {
  add,
  contract,
  mean,
  merge,
  named,
  on,
  param,
  recip,
  rename,
  slidingWindows,
  split,
  sqrt,
  square,
  take,
} from "../dsl/ops.ts";
import { fanIn, ones, zeros } from "./initialisers.ts";

/** Tokens of clips, each a vector of channels. */
export type Sequence = Tensor<{ batch: number; token: number; channel: number }>;
/** Vectors of every head at every token. */
export type Heads = Tensor<{ batch: number; head: number; token: number; feature: number }>;

/** Maps a name within a part of the model to a parameter's full name. */
export type Scope = (name: string) => string;

/** A part of a model: `scope("blocks.0")("norm.weight")` is `blocks.0.norm.weight`. */
export const scope = (prefix: string, outer: Scope = (name) => name): Scope => (name) =>
  outer(prefix === "" ? name : `${prefix}.${name}`);

/** Number of channels of a sequence. */
export const channels = (x: Sequence): number => sizeOf(nodeOf(x).axes, "channel");

/** Number of tokens of a sequence. */
export const tokens = (x: Sequence): number => sizeOf(nodeOf(x).axes, "token");

/** Splits channels into heads of equally many features. */
export const toHeads = (x: Sequence, heads: number): Heads =>
  split(x, "channel", { head: heads, feature: channels(x) / heads });

/** Heads side by side again. */
export const fromHeads = (x: Heads): Sequence => merge(x, ["head", "feature"], "channel");

/** y = W x + b over channels. `bias: false` leaves b out; initial values default to PyTorch's. */
export const linear = (
  at: Scope,
  to: number,
  { bias = true, init, biasInit }: {
    readonly bias?: boolean;
    readonly init?: Initialiser;
    readonly biasInit?: Initialiser;
  } = {},
): (x: Sequence) => Sequence =>
(x) => {
  const from = channels(x);
  const weight = param(at("weight"), { out: to, channel: from }, init ?? fanIn(from));
  const y = rename(contract(x, weight, "channel"), "out", "channel");
  return bias ? on.add(y, param(at("bias"), { channel: to }, biasInit ?? fanIn(from))) : y;
};

/** Block-diagonal linear map: each group of channels has its own matrix, (group, out, in). */
export const linearHeadwise =
  (at: Scope, groups: number, init: Initialiser = zeros) => (x: Sequence): Sequence => {
    const size = channels(x) / groups;
    const weight = param(at("weight"), { group: groups, out: size, in: size }, init);
    const y = contract(split(x, "channel", { group: groups, in: size }), weight, "in");
    return merge(y, ["group", "out"], "channel");
  };

/** Layer norm (Ba, Kiros and Hinton 2016), or RMS norm without the mean (Zhang, Sennrich 2019). */
export type Norm = "layer" | "rms";

/** x minus its mean, divided by its root mean square + `eps`, over one axis. */
const normalised = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  over: K,
  eps: number,
  kind: Norm,
): Tensor<A> => {
  const lift = on;
  const centred = kind === "rms" ? x : lift.sub(x, mean(x, over));
  return lift.mul(centred, recip(sqrt(add(mean(square(centred), over), eps))));
};

/** (x - mean) / √(variance + eps) · weight + bias over channels; RMS norm has neither mean nor bias. */
export const norm =
  (at: Scope, eps: number, kind: Norm = "layer"): (x: Sequence) => Sequence => (x) =>
    named(`${kind} norm`, () => {
      const size = { channel: channels(x) };
      const y = on.mul(normalised(x, "channel", eps, kind), param(at("weight"), size, ones));
      return kind === "rms" ? y : on.add(y, param(at("bias"), size, zeros));
    });

/** The norm of xLSTM blocks: the stored weight w scales by 1 + w, and there is no bias. */
export const residualNorm =
  (at: Scope, eps: number, kind: Norm = "layer") => (x: Sequence): Sequence =>
    named(`${kind} norm`, () => {
      const weight = param(at("weight"), { channel: channels(x) }, zeros);
      return on.mul(normalised(x, "channel", eps, kind), add(weight, 1));
    });

/** Each head normalised over its features; the stored weight w scales by 1 + w. */
export const headNorm = (at: Scope, eps: number) => (x: Heads): Heads =>
  named("head norm", () => {
    const { head, feature } = nodeOf(x).axes;
    const size = { head: Number(head), feature: Number(feature) };
    const weight = param(at("weight"), { channel: size.head * size.feature }, zeros);
    return on.mul(normalised(x, "feature", eps, "layer"), add(split(weight, "channel", size), 1));
  });

/** A depthwise causal convolution along tokens: token t sees t - taps + 1 ... t. */
export const causalConv = (at: Scope, taps: number): (x: Sequence) => Sequence => (x) =>
  named("causal conv", () => {
    const size = channels(x);
    const weight = param(at("weight"), { channel: size, group: 1, tap: taps }, fanIn(taps));
    const seen = slidingWindows(x, "token", { out: "token", tap: "tap", size: taps }, {
      before: taps - 1,
    });
    const y = contract(seen, take(weight, "group", 0), "tap");
    return on.add(y, param(at("bias"), { channel: size }, fanIn(taps)));
  });
