// What the forms of recurrences share: tokens as chunks of equal length (the last one filled up with
// values that the caller's formula must not notice), running sums, and the value one step before.
import type { AnyTensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import { merge, on, pad, recurrence, scalarOf, slice, split } from "../dsl/ops.ts";

/** The axis `token` as `chunk` and `place`, `fill` in places beyond the last token. */
export const toChunks = (x: AnyTensor, size: number, fill = 0): AnyTensor => {
  const tokens = sizeOf(nodeOf(x).axes, "token"), chunk = Math.ceil(tokens / size);
  const whole: AnyTensor = pad(x, "token", 0, chunk * size - tokens, fill);
  return split(whole, "token", { chunk, place: size });
};

/** `chunk` and `place` as `tokens` tokens again. */
export const joinChunks = (x: AnyTensor, tokens: number): AnyTensor =>
  slice(merge(x, ["chunk", "place"], "token") as AnyTensor, "token", 0, tokens);

/** Σ over earlier positions and this one. */
export const cumulative = (x: AnyTensor, over: string): AnyTensor =>
  recurrence(over, on(x, scalarOf(1)) as AnyTensor, x);

/** What stood one position earlier along an axis, and `first` at the first. */
export const previous = (x: AnyTensor, axis: string, first = 0): AnyTensor =>
  slice(pad(x, axis, 1, 0, first), axis, 0, sizeOf(nodeOf(x).axes, axis));
