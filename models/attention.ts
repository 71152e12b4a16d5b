// Multi-head self-attention (Vaswani et al. 2017), queries, keys and values from one linear map whose
// output is ordered (q, k, v), head, feature, as published.
import { contract, merge, named, pick, rename, scale, softmax, split } from "../dsl/ops.ts";
import { channels, linear, type Scope, scope, type Sequence } from "./layers.ts";

/** softmax(q kᵀ / √d) v for each head, heads side by side, then a linear map. */
export const attention = (at: Scope, heads: number) => (x: Sequence): Sequence =>
  named("attention", () => {
    const dim = channels(x), feature = dim / heads;
    const all = split(linear(scope("qkv_layer", at), 3 * dim)(x), "channel", {
      role: 3,
      head: heads,
      feature,
    });
    const q = pick(all, "role", 0);
    const k = rename(pick(all, "role", 1), "token", "key");
    const v = rename(pick(all, "role", 2), "token", "key");
    const scores = scale(contract(q, k, "feature"), feature ** -0.5);
    const y = contract(softmax(scores, "key"), v, "key");
    return linear(scope("proj_layer", at), dim)(
      merge(y, ["head", "feature"], "channel") as Sequence,
    );
  });
