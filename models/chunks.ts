// Tokens as chunks of equal length, for the chunkwise forms of recurrences: the last chunk is filled
// up with zeros, which the caller's formula must not notice.
import type { AnyTensor } from "../dsl/axes.ts";
import { known } from "../dsl/axes.ts";
import { node } from "../dsl/node.ts";
import { merge, pad, slice, split } from "../dsl/ops.ts";

/** The axis `token` as `chunk` and `place`, `fill` in places beyond the last token. */
export const toChunks = (x: AnyTensor, size: number, fill = 0): AnyTensor => {
  const tokens = known(node(x).axes, "token"), chunk = Math.ceil(tokens / size);
  const whole: AnyTensor = pad(x, "token", 0, chunk * size - tokens, fill);
  return split(whole, "token", { chunk, place: size });
};

/** `chunk` and `place` as `tokens` tokens again. */
export const joinChunks = (x: AnyTensor, tokens: number): AnyTensor =>
  slice(merge(x, ["chunk", "place"], "token") as AnyTensor, "token", 0, tokens);
