// Random masks: the patches with the highest noise are hidden, so exactly the same number in every
// clip. Patches that share their noise value are hidden together; the kind of mask says which do.
import type { Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { type Key, nodeOf } from "../dsl/node.ts";
import {
  constant,
  equal,
  gather,
  iota,
  less,
  literal,
  named,
  rename,
  select,
  sum,
  toFloat,
  toU32,
} from "../dsl/ops.ts";
import { uniform } from "../dsl/random.ts";

/** One number per patch. */
export type PerToken = Tensor<{ batch: number; token: number }>;

/** Rows (time) and columns (frequency) of patches. */
export interface Grid {
  readonly time: number;
  readonly frequency: number;
}

/** What is hidden together: single patches, whole time steps, whole bands, or rectangles. */
export type Masking =
  & { readonly ratio: number }
  & (
    | { readonly kind: "unstructured" | "time" | "frequency" }
    /** Rectangles of `block` patches, aligned with the grid's first corner. */
    | { readonly kind: "blocks"; readonly block: Grid }
  );

/** How many of `tokens` patches stay visible: ⌊tokens · (100 - 100 · ratio) / 100⌋, as published. */
export const visible = (tokens: number, ratio: number): number =>
  // 100 - 70 · … can be slightly below a whole number; the published code has the same formula.
  Math.floor((tokens * (100 - ratio * 100)) / 100);

/**
 * The rank of each patch by its noise: the number of patches with smaller noise, or with equal noise
 * and a lower index. Counting avoids a sort.
 */
const ranks = (noise: PerToken): PerToken => {
  const tokens = sizeOf(nodeOf(noise).axes, "token");
  const other = rename(noise, "token", "other");
  const earlier = less(iota("other", tokens), iota("token", tokens));
  const one = constant(1), zero = constant(0);
  const tie = select(equal(other, noise), select(earlier, one, zero), zero);
  return sum(select(less(other, noise), one, tie), "other");
};

/** 1 for hidden patches, 0 for visible ones: all but those of the `visible` lowest ranks are hidden. */
export const maskByRank = (noise: PerToken, ratio: number): PerToken =>
  named("mask", () => {
    const keep = visible(sizeOf(nodeOf(noise).axes, "token"), ratio) - 0.5;
    return toFloat(less(constant(keep), ranks(noise)));
  });

/** Group number of each patch, in time-first order of the grid; a group is hidden together. */
const groups = (masking: Masking, grid: Grid): Uint32Array => {
  const size = masking.kind === "blocks" ? masking.block : {
    unstructured: { time: 1, frequency: 1 },
    time: { time: 1, frequency: grid.frequency },
    frequency: { time: grid.time, frequency: 1 },
  }[masking.kind];
  const columns = Math.ceil(grid.frequency / size.frequency);
  return Uint32Array.from({ length: grid.time * grid.frequency }, (_, token) => {
    const row = Math.floor(token / grid.frequency), column = token % grid.frequency;
    return Math.floor(row / size.time) * columns + Math.floor(column / size.frequency);
  });
};

/**
 * A random mask for every clip. Where the ratio would split a group, its first patches stay visible and
 * the others are hidden.
 */
export const randomMask = (key: Key, masking: Masking, grid: Grid, batch: number): PerToken => {
  const group = groups(masking, grid), token = group.length;
  if (masking.kind === "unstructured") {
    return maskByRank(uniform(key, { batch, token }), masking.ratio);
  }
  const noise = uniform(key, { batch, group: Math.max(...group) + 1 });
  return maskByRank(gather(noise, "group", literal({ token }, group)), masking.ratio);
};

/** The position of each visible patch in the clip, ascending: u32 along `slot`. */
export const visiblePlaces = (
  mask: PerToken,
  count: number,
): Tensor<{ batch: number; slot: number }> =>
  named("visible places", () => {
    const tokens = sizeOf(nodeOf(mask).axes, "token");
    const before = slots(mask);
    const there = equal(toU32(before), iota("slot", count));
    const seen = less(mask, constant(0.5));
    const place = select(
      there,
      select(seen, toFloat(iota("token", tokens)), constant(0)),
      constant(0),
    );
    return toU32(sum(place, "token"));
  });

/** The number of visible patches before each patch. */
export const slots = (mask: PerToken): PerToken => {
  const tokens = sizeOf(nodeOf(mask).axes, "token");
  const earlier = less(iota("other", tokens), iota("token", tokens));
  const seen = select(
    less(rename(mask, "token", "other"), constant(0.5)),
    constant(1),
    constant(0),
  );
  return sum(select(earlier, seen, constant(0)), "other");
};
