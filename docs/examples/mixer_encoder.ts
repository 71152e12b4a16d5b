// An architecture of one's own: a gated average that runs along the tokens (minGRU: Feng et al. 2024,
// "Were RNNs all we needed?"), then a gated mixer of channels. `deno task experiment` runs it from
// mixer.json, in which `settings.widen` is the width of the mixer in multiples of the channels.
import {
  add,
  channels,
  type CustomBlock,
  linear,
  mul,
  named,
  neg,
  norm,
  recurrence,
  type Scope,
  scope,
  type Sequence,
  sigmoid,
  silu,
} from "@formant/formant";

/** h' = (1 - z) h + z v, where the gate z and the values v are linear in x. */
const remember = (at: Scope) => (x: Sequence): Sequence => {
  const z = sigmoid(linear(scope("gate", at), channels(x))(x));
  const v = linear(scope("value", at), channels(x))(x);
  return recurrence("token", add(neg(z), 1), mul(z, v));
};

/** Wide and back, one half of the wide channels gating the other. */
const mix = (at: Scope, widen: number) => (x: Sequence): Sequence => {
  const wide = widen * channels(x);
  const gate = silu(linear(scope("gate", at), wide)(x));
  return linear(scope("back", at), channels(x))(mul(gate, linear(scope("wide", at), wide)(x)));
};

/** What the spec's `encoder.module` must export. */
export const block: CustomBlock = (at, { norm: kind, settings }) => (x) =>
  named("mixer", () => {
    const h = add(x, remember(scope("memory", at))(norm(scope("norm1", at), 1e-6, kind)(x)));
    const seen = norm(scope("norm2", at), 1e-6, kind)(h);
    return add(h, mix(scope("mix", at), Number(settings.widen ?? 2))(seen));
  });
