// The shell that all families share: patches are embedded and get their positions, some are hidden,
// a class token goes first, the blocks run, and a norm ends it. Two ways to hide: a learnt token in
// place of a patch (SSAST style), or leaving the patch out (MAE style).
import type { Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { type Key, nodeOf } from "../dsl/node.ts";
import {
  concat,
  constant,
  equal,
  expand,
  gather,
  gelu,
  merge,
  named,
  on,
  param,
  rename,
  select,
  slice,
  split,
  take,
} from "../dsl/ops.ts";
import type { Fidelity } from "./fidelity.ts";
import { fanIn, spread, zeros } from "./initialisers.ts";
import {
  channels,
  linear,
  type Norm,
  norm,
  type Scope,
  scope,
  type Sequence,
  tokens,
} from "./layers.ts";
import type { PerToken } from "./masking.ts";
import {
  embedPatches,
  gridOf,
  learntPositions,
  patchify,
  type PatchSize,
  positions,
  type Spectrogram,
} from "./patches.ts";
import { type Family, type Order, stack } from "./stack.ts";

/** What encoders of all families have in common. */
export interface Shell {
  /** Channels of a token; a multiple of 4. */
  readonly dim: number;
  /** Number of blocks. */
  readonly depth: number;
  readonly order: Order;
  readonly norm: Norm;
  /** How positions are encoded: added sines, a learnt table, rotation in attention, or not at all. */
  readonly positions: "sin-cos" | "learned" | "rotary" | "none";
  /** Learnt tokens that hold no patch (Darcet et al. 2024), after the class token. */
  readonly registers: number;
  /** Share of clips for which the last block is skipped in training; earlier blocks less often. */
  readonly stochasticDepth: number;
}

/** An encoder as data: a family and its sizes, the common shell, the size of a patch. */
export type Encoder = Family & Shell & { readonly patch: PatchSize };

const root: Scope = (name) => name;

/** A learnt vector, stored with two leading axes of size 1. */
export const learntToken = (
  at: Scope,
  name: string,
  dim: number,
): Tensor<{ channel: number }> =>
  take(
    take(param(at(name), { one: 1, single: 1, channel: dim }, spread(0.02)), "one", 0),
    "single",
    0,
  );

/** The table of positions: a row for the class token, then one per patch; undefined without one. */
const tableOf = (
  at: Scope,
  { dim, patch, positions: kind }: Encoder,
  x: Spectrogram,
): Tensor<{ token: number; channel: number }> | undefined => {
  const grid = gridOf(x, patch);
  if (kind === "sin-cos") return positions(at, dim, grid);
  return kind === "learned" ? learntPositions(at, dim, grid) : undefined;
};

/** Patches as vectors, without positions. */
const embed = (at: Scope, { dim, patch }: Encoder, x: Spectrogram): Sequence =>
  embedPatches(scope("patch_embed.proj", at), patch, dim)(patchify(x, patch));

/** Class token and registers, then the sequence through the blocks and the last norm. */
const run = (at: Scope, encoder: Encoder, x: Sequence, first: Sequence, key?: Key): Sequence => {
  const { registers, dim } = encoder;
  const batch = sizeOf(nodeOf(x).axes, "batch");
  const rows = registers === 0 ? undefined : take(
    param(at("register_tokens"), { one: 1, token: registers, channel: dim }, spread(0.02)),
    "one",
    0,
  );
  const head = rows === undefined ? first : concat(first, expand(rows, { batch }), "token");
  const rotary = encoder.positions === "rotary";
  const h = stack(at, { ...encoder, rotary }, key)(concat(head, x, "token"));
  return norm(scope("encoder_norm", at), 1e-6, encoder.norm)(h);
};

/** The class token of every clip, with the first row of the positions. */
const classToken = (
  at: Scope,
  dim: number,
  batch: number,
  table: Tensor<{ token: number; channel: number }> | undefined,
): Sequence => {
  const token = expand(learntToken(at, "cls_token", dim), { batch, token: 1 });
  return table === undefined ? token : on.add(token, slice(table, "token", 0, 1));
};

const positioned = (
  x: Sequence,
  table: Tensor<{ token: number; channel: number }> | undefined,
): Sequence => table === undefined ? x : on.add(x, slice(table, "token", 1, tokens(x)));

/** Which patches are replaced by a learnt token, with or without their positions. */
export interface Hidden {
  readonly mask: PerToken;
  readonly positions: Fidelity["maskedPositions"];
}

/** Options of encoding: what is hidden, and a random key, which turns stochastic depth on. */
export interface EncodeOptions {
  readonly hidden?: Hidden;
  readonly key?: Key;
  readonly at?: Scope;
}

/**
 * All output tokens of the encoder: class token, registers, patches. Hidden patches are replaced by
 * one learnt token; as published ("dropped"), it replaces the position as well.
 */
export const encode =
  (encoder: Encoder, { hidden, key, at = root }: EncodeOptions = {}) =>
  (x: Spectrogram): Sequence =>
    named("encoder", () => {
      const { dim } = encoder;
      const table = tableOf(at, encoder, x);
      const cover = (h: Sequence): Sequence =>
        hidden === undefined ? h : select(
          equal(hidden.mask, constant(1)),
          learntToken(at, "mask_token", dim),
          h,
        );
      const embedded = embed(at, encoder, x);
      const seen = hidden?.positions === "kept"
        ? positioned(cover(embedded), table)
        : cover(positioned(embedded, table));
      const batch = sizeOf(nodeOf(x).axes, "batch");
      return run(at, encoder, seen, classToken(at, dim, batch, table), key);
    });

/** The output tokens of an encoder that sees only the patches at `places`, in the order of `encode`. */
export const encodeVisible = (
  encoder: Encoder,
  places: Tensor<{ batch: number; slot: number }>,
  { key, at = root }: Omit<EncodeOptions, "hidden"> = {},
) =>
(x: Spectrogram): Sequence =>
  named("encoder", () => {
    const table = tableOf(at, encoder, x);
    const all = positioned(embed(at, encoder, x), table);
    const seen = rename(gather(all, "token", places), "slot", "token");
    const batch = sizeOf(nodeOf(x).axes, "batch");
    return run(at, encoder, seen, classToken(at, encoder.dim, batch, table), key);
  });

/** Output tokens of the patches only, without class token and registers. */
export const patchTokens = (encoder: Encoder, h: Sequence): Sequence =>
  slice(h, "token", 1 + encoder.registers, tokens(h) - 1 - encoder.registers);

/** Predicted values of every patch: linear, GELU, linear. Published initial biases: see PAPER 3.4. */
export const predict =
  (encoder: Encoder, at: Scope = root) =>
  (h: Sequence): Tensor<{ batch: number; token: number; pixel: number }> =>
    named("predictor", () => {
      const dim = channels(h), pixels = encoder.patch.time * encoder.patch.frequency;
      const biasInit = encoder.family === "mamba" ? zeros : fanIn(dim);
      const hidden = gelu(linear(scope("pred.0", at), dim, { biasInit })(h));
      const all = linear(scope("pred.2", at), pixels, { biasInit })(hidden);
      return rename(patchTokens(encoder, all), "channel", "pixel");
    });

/**
 * Features of a clip with nothing hidden, a row per time step of the grid: the tokens of all its
 * frequencies, concatenated. As published ("frequency"), tokens are grouped as if frequency were the
 * slower axis of the sequence, which it is not.
 */
export const features =
  (encoder: Encoder, rows: Fidelity["rows"]) =>
  (x: Spectrogram): Tensor<{ batch: number; step: number; feature: number }> => {
    const grid = gridOf(x, encoder.patch);
    const h = patchTokens(encoder, encode(encoder)(x));
    const cut = rows === "frequency"
      ? split(h, "token", { slot: grid.frequency, step: grid.time })
      : split(h, "token", { step: grid.time, slot: grid.frequency });
    return merge(cut, ["slot", "channel"], "feature");
  };
