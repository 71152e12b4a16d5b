// The decoder of MAE-style pre-training (He et al. 2022; Huang et al. 2022 for audio): visible tokens
// are put back at their positions among learnt mask tokens, and a smaller stack predicts all patches.
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import {
  concat,
  equal,
  gather,
  named,
  on,
  rename,
  scalarOf,
  select,
  slice,
  toWord,
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
      const visible: AnyTensor = rename(patchTokens(encoder, narrow), "token", "slot");
      const back = gather(visible, "slot", toWord(slots(mask))) as AnyTensor;
      const all = select(equal(mask, scalarOf(1)), learntToken(at, "mask_token", dim), back);
      const first = slice(narrow, "token", 0, 1) as Sequence;
      const sequence = concat(first, all as AnyTensor, "token") as Sequence;
      const placed = on.add(sequence, positions(at, dim, grid));
      const sizes = { ...encoder, depth, stochasticDepth: 0 };
      const y = norm(scope("norm", at), 1e-6, encoder.norm)(stack(at, sizes)(placed));
      const pixels = encoder.patch.time * encoder.patch.frequency;
      const predicted = linear(scope("pred", at), pixels)(y);
      return rename(slice(predicted, "token", 1, tokens(y) - 1), "channel", "pixel");
    });
