// The mLSTM cell (Beck et al., "xLSTM: Extended long short-term memory", 2024, equations 19-27): a
// matrix memory with exponential gates, in three forms that give the same numbers.
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import {
  add,
  contract,
  exp,
  iota,
  less,
  logSigmoid,
  max,
  maximum,
  mul,
  named,
  neg,
  on,
  pick,
  recip,
  recurrence,
  rename,
  scalarOf,
  scale,
  scan,
  select,
  shift,
  stop,
  sub,
  sum,
} from "../dsl/ops.ts";
import { cumulative, joinChunks, previous, toChunks } from "./sequences.ts";
import type { Heads } from "./layers.ts";

/** One number per head and token. */
export type Gate = Tensor<{ batch: number; head: number; token: number }>;

/** Inputs of the cell; the gates are given before their activations. */
export interface MlstmInputs {
  readonly q: Heads;
  readonly k: Heads;
  readonly v: Heads;
  readonly inputGate: Gate;
  readonly forgetGate: Gate;
}

/** How the cell is computed: over all pairs of tokens, step by step, or both by chunks. */
export type MlstmForm = "parallel" | "recurrent" | "chunkwise";

/** Lower than any gate that matters; still finite after a subtraction. */
const never = -1e30;

/** The running maximum m' = max(m + decay, x) that keeps exponentials below 1. */
const stabiliser = (decay: AnyTensor, x: AnyTensor, over: string): AnyTensor => {
  const start: AnyTensor = pick(on(x, scalarOf(never)) as AnyTensor, over, 0);
  const { out } = scan({ over, from: { m: start }, each: { decay, x } }, ({ m }, now) => {
    const next: AnyTensor = max(add(m, now.decay), now.x);
    return { next: { m: next }, out: { m: next } };
  });
  return stop(out.m as AnyTensor);
};

/** numerator / (max(|n|, e^-m) + 1e-6): the normaliser's lower bound 1 in the stabilised scale. */
const normalisedBy = (numerator: AnyTensor, n: AnyTensor, m: AnyTensor): AnyTensor =>
  on.mul(numerator, recip(shift(max(max(n, neg(n)), exp(neg(m))), 1e-6)));

const scaledKeys = (k: Heads): Heads => scale(k, sizeOf(nodeOf(k).axes, "feature") ** -0.5);

/**
 * C = (q kᵀ / √d) ∘ D with log D = F_i - F_j + I_j for j ≤ i, where F sums log σ(f), stabilised by
 * its row maximum m; h = C v / (max(|C 1|, e^-m) + 1e-6). Memory grows as the square of the tokens.
 */
export const parallelMlstm = ({ q, k, v, inputGate, forgetGate }: MlstmInputs): Heads =>
  named("mLSTM, parallel", () => {
    const tokens = sizeOf(nodeOf(q).axes, "token");
    const sums = cumulative(logSigmoid(forgetGate), "token");
    const key = (x: AnyTensor): AnyTensor => rename(x, "token", "key");
    const logs = add(sub(sums, key(sums)), key(inputGate));
    const causal = less(iota("key", tokens), shift(iota("token", tokens), 1));
    const masked: AnyTensor = select(causal, logs as AnyTensor, scalarOf(never));
    const m = stop(maximum(masked, "key"));
    const decay = exp(sub(masked, m as AnyTensor));
    const scores: AnyTensor = mul(contract(q, key(scaledKeys(k)), "feature"), decay);
    return normalisedBy(contract(scores, key(v), "key"), sum(scores, "key"), m) as Heads;
  });

/**
 * C' = f C + i v kᵀ, n' = f n + i k, h = C q / max(|nᵀ q|, 1) with i and f in the scale of the
 * running maximum m (equations 19-27 with the stabiliser of equation 15).
 */
export const recurrentMlstm = ({ q, k, v, inputGate, forgetGate }: MlstmInputs): Heads =>
  named("mLSTM, recurrent", () => {
    const logForget = logSigmoid(forgetGate);
    const m = stabiliser(logForget, inputGate, "token");
    const forget: AnyTensor = exp(sub(add(logForget, previous(m, "token", never)), m));
    const input: AnyTensor = exp(sub(inputGate, m));
    const keys: AnyTensor = mul(input, scaledKeys(k) as AnyTensor);
    const value: AnyTensor = rename(v, "feature", "value");
    const C = recurrence("token", forget, mul(keys, value) as AnyTensor);
    const n = recurrence("token", forget, keys);
    const read: AnyTensor = contract(C as AnyTensor, q as AnyTensor, "feature");
    const norm: AnyTensor = contract(n as AnyTensor, q as AnyTensor, "feature");
    return rename(normalisedBy(read, norm, m), "value", "feature") as unknown as Heads;
  });

/**
 * Chunks of `size` tokens: the parallel form within a chunk and the recurrent form between chunks, so
 * that work and memory grow linearly with the tokens and products stay large (Beck et al. 2025, "Tiled
 * flash linear attention"). g is a chunk's total decay, b the decay from its start to a token.
 */
export const chunkwiseMlstm = (
  { q, k, v, inputGate, forgetGate }: MlstmInputs,
  size = 64,
): Heads =>
  named("mLSTM, chunkwise", () => {
    const tokens = sizeOf(nodeOf(q).axes, "token");
    const cut = (x: AnyTensor, fill = 0): AnyTensor => toChunks(x, size, fill);
    const other = (x: AnyTensor): AnyTensor => rename(x, "place", "other");
    const Q = cut(q), K = cut(scaledKeys(k)), V: AnyTensor = rename(cut(v), "feature", "value");
    const gate = cut(inputGate, never);
    const b = cumulative(cut(logSigmoid(forgetGate)), "place");
    const g: AnyTensor = pick(b, "place", size - 1);
    // Between chunks: memory C and normaliser n before each chunk, in the scale of m there.
    const ahead: AnyTensor = add(sub(g, b as AnyTensor), gate);
    const m = stabiliser(g, maximum(ahead, "place"), "chunk");
    const before = previous(m, "chunk", never);
    const forget: AnyTensor = exp(sub(add(g, before), m));
    const keys: AnyTensor = mul(exp(sub(ahead, m)) as AnyTensor, K);
    const memory: AnyTensor = recurrence("chunk", forget, contract(keys, V, "place") as AnyTensor);
    const counts: AnyTensor = recurrence("chunk", forget, sum(keys, "place") as AnyTensor);
    const C = previous(memory, "chunk"), n = previous(counts, "chunk");
    // Within a chunk: pairs of its tokens and the contribution of its initial state, in a common scale.
    const logs: AnyTensor = add(sub(b, other(b)) as AnyTensor, other(gate));
    const causal = less(iota("other", size), shift(iota("place", size), 1));
    const masked: AnyTensor = select(causal, logs, scalarOf(never));
    const carried: AnyTensor = add(b, before);
    const top: AnyTensor = stop(max(maximum(masked, "other") as AnyTensor, carried));
    const scores: AnyTensor = mul(
      contract(Q, other(K), "feature") as AnyTensor,
      exp(sub(masked, top)) as AnyTensor,
    );
    const first: AnyTensor = mul(Q, exp(sub(carried, top)) as AnyTensor);
    const read: AnyTensor = add(contract(scores, other(V), "other"), contract(first, C, "feature"));
    const norm: AnyTensor = add(sum(scores, "other"), contract(first, n, "feature"));
    const h: AnyTensor = rename(normalisedBy(read, norm, top), "value", "feature");
    return joinChunks(h, tokens) as Heads;
  });

/** The cell in one of its forms. */
export const mlstm = (form: MlstmForm): (inputs: MlstmInputs) => Heads =>
  ({ parallel: parallelMlstm, recurrent: recurrentMlstm, chunkwise: chunkwiseMlstm })[form];
