// Shared by the forms of recurrences: tokens as chunks of equal length (the last one padded with values
// that must not affect the caller's formula), running sums, and shifting by one step.
import type { AnyTensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import { merge, on, pad, recurrence, scalarOf, slice, split } from "../dsl/ops.ts";

/** The axis `token` as `chunk` and `place`, with `fill` beyond the last token. */
export const toChunks = (x: AnyTensor, size: number, fill = 0): AnyTensor => {
  const tokens = sizeOf(nodeOf(x).axes, "token"), chunk = Math.ceil(tokens / size);
  const whole: AnyTensor = pad(x, "token", 0, chunk * size - tokens, fill);
  return split(whole, "token", { chunk, place: size });
};

/** The axes `chunk` and `place` as `tokens` tokens again. */
export const joinChunks = (x: AnyTensor, tokens: number): AnyTensor =>
  slice(merge(x, ["chunk", "place"], "token") as AnyTensor, "token", 0, tokens);

/** Inclusive cumulative sum. */
export const cumulative = (x: AnyTensor, over: string): AnyTensor =>
  recurrence(over, on(x, scalarOf(1)) as AnyTensor, x);

/** The value one position earlier along an axis; `first` at the first position. */
export const previous = (x: AnyTensor, axis: string, first = 0): AnyTensor =>
  slice(pad(x, axis, 1, 0, first), axis, 0, sizeOf(nodeOf(x).axes, axis));
