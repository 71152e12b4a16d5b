// Which patches are hidden: those whose uniform noise ranks highest, so exactly the same number in
// every clip.
import type { Tensor } from "../dsl/axes.ts";
import { known } from "../dsl/axes.ts";
import { node } from "../dsl/node.ts";
import { equal, iota, less, named, rename, scalarOf, select, sum, toFloat } from "../dsl/ops.ts";

/** One number per patch. */
export type PerToken = Tensor<{ batch: number; token: number }>;

/** How many of `tokens` patches stay visible: ⌊tokens · (100 - 100 · ratio) / 100⌋, as published. */
export const visible = (tokens: number, ratio: number): number =>
  Math.floor((tokens * (100 - ratio * 100)) / 100);

/**
 * 1 for patches that are hidden, 0 for visible ones: hidden are all but the `visible` smallest.
 * The rank of a patch is the number of patches with smaller noise, or the same noise and an earlier
 * place; counting needs no sort.
 */
export const maskByRank = (noise: PerToken, ratio: number): PerToken =>
  named("mask", () => {
    const tokens = known(node(noise).axes, "token");
    const other = rename(noise, "token", "other");
    const earlier = less(iota("other", tokens), iota("token", tokens));
    const one = scalarOf(1), zero = scalarOf(0);
    const tie = select(equal(other, noise), select(earlier, one, zero), zero);
    const before = sum(select(less(other, noise), one, tie), "other");
    const keep = scalarOf(visible(tokens, ratio) - 0.5);
    return toFloat(less(keep, before)) as PerToken;
  });
