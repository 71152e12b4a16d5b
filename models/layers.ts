// What all encoders are made of. A sequence has the axes batch, token and channel; weights have the
// names, shapes and order of the published checkpoints.
import type { Tensor } from "../dsl/axes.ts";
import { known } from "../dsl/axes.ts";
import { type Initialiser, node } from "../dsl/node.ts";
import {
  contract,
  mean,
  named,
  on,
  param,
  pick,
  recip,
  rename,
  shift,
  sqrt,
  square,
  windows,
} from "../dsl/ops.ts";
import { fanIn, ones, zeros } from "./initialise.ts";

/** Tokens of clips, each a vector of channels. */
export type Sequence = Tensor<{ batch: number; token: number; channel: number }>;

/** The full name of a parameter from its name within a part of the model. */
export type Scope = (name: string) => string;

/** A part of a model: `scope("blocks.0")("norm.weight")` is `blocks.0.norm.weight`. */
export const scope = (prefix: string, outer: Scope = (name) => name): Scope => (name) =>
  outer(prefix === "" ? name : `${prefix}.${name}`);

/** How many channels a sequence has. */
export const channels = (x: Sequence): number => known(node(x).axes, "channel");

/** y = W x + b over channels. `bias: false` leaves b out; initial values default to PyTorch's. */
export const linear = (
  at: Scope,
  to: number,
  { bias = true, init, biasInit }: {
    readonly bias?: boolean;
    readonly init?: Initialiser;
    readonly biasInit?: Initialiser;
  } = {},
) =>
(x: Sequence): Sequence => {
  const from = channels(x);
  const weight = param(at("weight"), { out: to, channel: from }, init ?? fanIn(from));
  const y = rename(contract(x, weight, "channel"), "out", "channel");
  return bias ? on.add(y, param(at("bias"), { channel: to }, biasInit ?? fanIn(from))) : y;
};

/** (x - mean) / √(variance + eps) · weight + bias over channels (Ba, Kiros and Hinton 2016). */
export const layerNorm = (at: Scope, eps: number) => (x: Sequence): Sequence =>
  named("layer norm", () => {
    const size = { channel: channels(x) };
    const y = normalise(x, eps);
    return on.add(on.mul(y, param(at("weight"), size, ones)), param(at("bias"), size, zeros));
  });

/** A sequence with mean 0 and variance 1 over the channels of every token. */
export const normalise = (x: Sequence, eps: number): Sequence => {
  const centred = on.sub(x, mean(x, "channel"));
  const variance = mean(square(centred), "channel");
  return on.mul(centred, recip(sqrt(shift(variance, eps))));
};

/** A depthwise causal convolution along tokens: token t sees t - taps + 1 ... t. */
export const causalConv = (at: Scope, taps: number) => (x: Sequence): Sequence =>
  named("causal conv", () => {
    const size = channels(x);
    const weight = param(at("weight"), { channel: size, group: 1, tap: taps }, fanIn(taps));
    const seen = windows(x, "token", { out: "token", tap: "tap", size: taps }, {
      before: taps - 1,
    });
    const y = contract(seen, pick(weight, "group", 0), "tap");
    return on.add(y, param(at("bias"), { channel: size }, fanIn(taps)));
  });
