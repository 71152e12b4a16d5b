// The decoder of MAE-style pre-training (He et al. 2022; Huang et al. 2022 for audio): the visible
// tokens go back to their places among learnt mask tokens, and a smaller stack predicts all patches.
import type { Tensor } from "../dsl/axes.ts";
import {
  concat,
  constant,
  equal,
  gather,
  named,
  on,
  rename,
  select,
  slice,
  toU32,
} from "../dsl/ops.ts";
import { type Encoder, learntToken, patchTokens } from "./encoder.ts";
import { linear, norm, type Scope, scope, type Sequence, tokens } from "./layers.ts";
import { type Grid, type PerToken, slots } from "./masking.ts";
import { positions } from "./patches.ts";
import { stack } from "./stack.ts";

/** Width and depth of a decoder; its blocks are of the encoder's family. */
export interface DecoderSizes {
  readonly dim: number;
  readonly depth: number;
}

/**
 * Predicts every patch of `grid` from the encoder's output on the visible patches. All tokens, hidden
 * ones included, get the fixed sine-cosine positions.
 */
export const decode =
  (encoder: Encoder, { dim, depth }: DecoderSizes, grid: Grid, mask: PerToken, at: Scope) =>
  (h: Sequence): Tensor<{ batch: number; token: number; pixel: number }> =>
    named("decoder", () => {
      const narrow = linear(scope("embed", at), dim)(h);
      const visible = rename(patchTokens(encoder, narrow), "token", "slot");
      const back = gather(visible, "slot", toU32(slots(mask)));
      const all = select(equal(mask, constant(1)), learntToken(at, "mask_token", dim), back);
      const first = slice(narrow, "token", 0, 1);
      const sequence = concat(first, all, "token");
      const placed = on.add(sequence, positions(at, dim, grid));
      const sizes = { ...encoder, depth, stochasticDepth: 0 };
      const y = norm(scope("norm", at), 1e-6, encoder.norm)(stack(at, sizes)(placed));
      const pixels = encoder.patch.time * encoder.patch.frequency;
      const predicted = linear(scope("pred", at), pixels)(y);
      return rename(slice(predicted, "token", 1, tokens(y) - 1), "channel", "pixel");
    });
