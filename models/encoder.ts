// The shell that all families share (SSAST style): patches are embedded, get their positions, some
// are replaced by one learnt token, a class token goes first, the blocks run, and a norm ends it.
import type { Tensor } from "../dsl/axes.ts";
import { known } from "../dsl/axes.ts";
import { node } from "../dsl/node.ts";
import {
  concat,
  equal,
  expand,
  gelu,
  merge,
  named,
  on,
  param,
  pick,
  rename,
  scalarOf,
  select,
  slice,
  split,
} from "../dsl/ops.ts";
import { spread, zeros } from "./initialise.ts";
import { layerNorm, linear, type Scope, scope, type Sequence } from "./layers.ts";
import { mambaBlocks, type MambaSizes } from "./mamba.ts";
import type { PerToken } from "./masking.ts";
import {
  embedPatches,
  gridOf,
  patchify,
  type PatchSize,
  positions,
  type Spectrogram,
} from "./patches.ts";

/** An encoder: a family's blocks and their sizes, the width of a token, the size of a patch. */
export interface EncoderSizes extends MambaSizes {
  readonly family: "mamba";
  readonly dim: number;
  readonly patch: PatchSize;
}

/** The sizes of the published Mamba encoders (SSAM), patch 4 × 16. */
export const published: Readonly<Record<"tiny" | "small" | "base", EncoderSizes>> = {
  tiny: mambaOf(192),
  small: mambaOf(384),
  base: mambaOf(768),
};

function mambaOf(dim: number): EncoderSizes {
  const patch = { time: 4, frequency: 16 };
  return { family: "mamba", dim, depth: 12, state: 24, conv: 4, expand: 3, patch };
}

const root: Scope = (name) => name;

/** A learnt vector, stored with two axes of size 1 before it. */
const token = (at: Scope, name: string, dim: number): Tensor<{ channel: number }> =>
  pick(
    pick(param(at(name), { one: 1, single: 1, channel: dim }, spread(0.02)), "one", 0),
    "single",
    0,
  );

/**
 * All output tokens of the encoder, the class token first. `mask` says which patches the encoder
 * does not see; without it all are visible. As published, the learnt mask token replaces patch and
 * position together.
 */
export const encode =
  (sizes: EncoderSizes, mask?: PerToken, at: Scope = root) => (x: Spectrogram): Sequence =>
    named("encoder", () => {
      const { dim, patch } = sizes;
      const grid = gridOf(x, patch);
      const tokens = grid.time * grid.frequency;
      const table = positions(at, dim, grid);
      const embedded = embedPatches(scope("patch_embed.proj", at), patch, dim)(patchify(x, patch));
      const placed = on.add(embedded, slice(table, "token", 1, tokens));
      const seen = mask === undefined
        ? placed
        : select(equal(mask, scalarOf(1)), token(at, "mask_token", dim), placed) as Sequence;
      const batch = known(node(x).axes, "batch");
      const first = on.add(
        expand(token(at, "cls_token", dim), { batch, token: 1 }),
        slice(table, "token", 0, 1),
      ) as Sequence;
      const sequence = concat(first, seen, "token") as Sequence;
      return layerNorm(scope("encoder_norm", at), 1e-6)(mambaBlocks(at, sizes)(sequence));
    });

/** The predictor: linear, GELU, linear to the values of a patch. The class token is dropped. */
export const predict = (pixels: number, at: Scope = root) =>
(h: Sequence): Tensor<{
  batch: number;
  token: number;
  pixel: number;
}> =>
  named("predictor", () => {
    const dim = known(node(h).axes, "channel"), tokens = known(node(h).axes, "token") - 1;
    const hidden = gelu(linear(scope("pred.0", at), dim, { biasInit: zeros })(h));
    const all = linear(scope("pred.2", at), pixels, { biasInit: zeros })(hidden);
    return rename(slice(all, "token", 1, tokens), "channel", "pixel");
  });

/**
 * Features of a clip without masking, a row per time step of 5 · dim numbers, as the published
 * runtime gives them: it regroups tokens as if frequency were the slower axis, which they are not.
 */
export const features = (sizes: EncoderSizes) =>
(x: Spectrogram): Tensor<{
  batch: number;
  step: number;
  feature: number;
}> => {
  const grid = gridOf(x, sizes.patch);
  const h = slice(encode(sizes)(x), "token", 1, grid.time * grid.frequency);
  const regrouped = split(h, "token", { slot: grid.frequency, step: grid.time });
  return merge(regrouped, ["slot", "channel"], "feature");
};
