// What the chunkwise forms of recurrences share: tokens as chunks of equal length, the last one padded
// with values that the caller's formula must ignore.
import type { Has, Tensor } from "../dsl/axes.ts";
import { merge, pad, sizeOf, slice, split } from "../dsl/ops.ts";

/** The axis `token` as `chunk` and `place`, with `fill` in places beyond the last token. */
export const toChunks = (size: number, fill = 0) => <A extends Has<"token">>(x: Tensor<A>) => {
  const tokens = sizeOf(x, "token"), chunk = Math.ceil(tokens / size);
  return split(pad(x, "token", 0, chunk * size - tokens, fill), "token", { chunk, place: size });
};

/** `chunk` and `place` as `tokens` tokens again. */
export const joinChunks = <A extends Has<"chunk" | "place">>(x: Tensor<A>, tokens: number) =>
  slice(merge(x, ["chunk", "place"], "token"), "token", 0, tokens);
