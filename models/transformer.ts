// The Transformer (Vaswani et al., "Attention is all you need", 2017) in pre-norm form, as in the
// published baseline SSAST: full softmax attention, exact GELU, biases everywhere.
import {
  add,
  concat,
  constant,
  contract,
  gelu,
  iota,
  less,
  literal,
  mul,
  named,
  rename,
  select,
  softmax,
  split,
  sub,
  take,
} from "../dsl/ops.ts";
import { nodeOf } from "../dsl/node.ts";
import { xavier, zeros } from "./initialisers.ts";
import {
  channels,
  fromHeads,
  type Heads,
  linear,
  type Norm,
  norm,
  type Scope,
  scope,
  type Sequence,
  tokens,
} from "./layers.ts";

/** Sizes of a Transformer encoder beyond its width. */
export interface TransformerSizes {
  /** Attention heads; must divide the width. */
  readonly heads: number;
  /** Hidden channels of the perceptron per channel. */
  readonly mlp: number;
}

/** What attention may look at, and whether it gets positions by rotation. */
export interface AttentionOptions {
  readonly heads: number;
  /** Token t sees only tokens up to t. */
  readonly causal?: boolean;
  readonly rotary?: boolean;
}

/**
 * Rotary positions (Su et al., "RoFormer", 2021, equation 34): feature pairs of token t rotated by the
 * angles t · 10000^(-2k/d). The table is a literal, as sines of large angles differ between devices.
 */
const rotated = (x: Heads): Heads => {
  const { token, feature } = nodeOf(x).axes;
  const size = { token: Number(token), pair: Number(feature) / 2 };
  const table = (wave: (angle: number) => number) =>
    literal(
      size,
      Float32Array.from({ length: size.token * size.pair }, (_, k) =>
        wave(Math.floor(k / size.pair) * 10000 ** (-(k % size.pair) / size.pair))),
    );
  const halves = split(x, "feature", { half: 2, pair: size.pair });
  const a = take(halves, "half", 0), b = take(halves, "half", 1);
  const cos = table(Math.cos), sin = table(Math.sin);
  const turned = concat(
    sub(mul(a, cos), mul(b, sin)),
    add(mul(a, sin), mul(b, cos)),
    "pair",
  );
  return rename(turned, "pair", "feature");
};

/**
 * softmax(q kᵀ / √d) v (equation 1) for each head, heads concatenated, then a linear map. One map
 * gives queries, keys and values, its output ordered (q, k, v), head, feature, as published.
 */
export const attention =
  (at: Scope, { heads, causal = false, rotary = false }: AttentionOptions) =>
  (x: Sequence): Sequence =>
    named("attention", () => {
      const dim = channels(x), feature = dim / heads, length = tokens(x);
      const init = xavier(dim, 3 * dim);
      const all = linear(scope("qkv_layer", at), 3 * dim, { init, biasInit: zeros })(x);
      const roles = split(all, "channel", { role: 3, head: heads, feature });
      const [q, k, v] = [0, 1, 2].map((role) => take(roles, "role", role));
      const turn = rotary ? rotated : (x: Heads) => x;
      const keys = rename(turn(k), "token", "key"), values = rename(v, "token", "key");
      const scores = mul(contract(turn(q), keys, "feature"), feature ** -0.5);
      const seen = less(iota("key", length), add(iota("token", length), 1));
      const weights = softmax(causal ? select(seen, scores, constant(-1e30)) : scores, "key");
      const y = fromHeads(contract(weights, values, "key"));
      return linear(scope("proj_layer", at), dim, { init: xavier(dim, dim), biasInit: zeros })(y);
    });

/** max(…) of the paper's equation 2 is GELU here (Hendrycks and Gimpel 2016). */
const perceptron = (at: Scope, ratio: number) => (x: Sequence): Sequence =>
  named("mlp", () => {
    const dim = channels(x), hidden = Math.round(ratio * dim);
    const options = { init: xavier(dim, hidden), biasInit: zeros };
    const h = gelu(linear(scope("layer1", at), hidden, options)(x));
    return linear(scope("layer2", at), dim, options)(h);
  });

/** One block: h = x + attention(norm(x)); h + mlp(norm(h)). */
export const transformerBlock = (
  at: Scope,
  { heads, mlp }: TransformerSizes,
  options: Omit<AttentionOptions, "heads"> = {},
  kind: Norm = "layer",
) =>
(x: Sequence): Sequence => {
  const seen = norm(scope("norm1", at), 1e-6, kind)(x);
  const h = add(x, attention(scope("attn", at), { heads, ...options })(seen));
  return add(h, perceptron(scope("mlp", at), mlp)(norm(scope("norm2", at), 1e-6, kind)(h)));
};
