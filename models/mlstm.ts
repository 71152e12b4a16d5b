// The mLSTM cell (Beck et al., "xLSTM: Extended long short-term memory", 2024, equations 19-27): a
// matrix memory with exponential gates, in three forms that give the same numbers.
import type { Tensor } from "../dsl/axes.ts";
import {
  add,
  contract,
  cumsum,
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
  previous,
  recip,
  recurrence,
  rename,
  renaming,
  select,
  sizeOf,
  states,
  stopGradient,
  sub,
  sum,
  take,
} from "../dsl/ops.ts";
import { joinChunks, toChunks } from "./sequences.ts";
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
const stabiliser = <A, K extends keyof A & string>(
  decay: Tensor<A>,
  x: Tensor<A>,
  over: K,
): Tensor<A> => {
  const start = take(on(x, never), over, 0);
  const { m } = states(
    { over, from: { m: start }, each: { decay, x } },
    ({ m }, now) => ({ m: maximum(add(m, now.decay), now.x) }),
  );
  return stopGradient(m);
};

/** 1 / (max(|n|, e^-m) + 1e-6): the normaliser has the lower bound 1 in the stabilised scale. */
const normaliser = <A>(n: Tensor<A>, m: Tensor<A>): Tensor<A> =>
  recip(add(maximum(maximum(n, neg(n)), exp(neg(m))), 1e-6));

/** k / √d */
const scaled = (k: Heads): Heads => mul(k, sizeOf(k, "feature") ** -0.5);

/**
 * C = (q kᵀ / √d) ∘ D with log D = F_i - F_j + I_j for j ≤ i, where F sums log σ(f), stabilised by
 * its row maximum m; h = C v / (max(|C 1|, e^-m) + 1e-6). Memory grows as the square of the tokens.
 */
export const parallelMlstm = ({ q, k, v, inputGate, forgetGate }: MlstmInputs): Heads =>
  named("mLSTM, parallel", () => {
    const tokens = sizeOf(q, "token"), j = renaming("token", "key");
    const F = cumsum(logSigmoid(forgetGate), "token");
    const causal = less(iota("key", tokens), add(iota("token", tokens), 1));
    const logD = select(causal, add(sub(F, j(F)), j(inputGate)), never);
    const m = stopGradient(max(logD, "key"));
    const C = mul(contract(q, j(scaled(k)), "feature"), exp(sub(logD, m)));
    return mul(contract(C, j(v), "key"), normaliser(sum(C, "key"), m));
  });

/**
 * C' = f C + i v kᵀ, n' = f n + i k, h = C q / max(|nᵀ q|, 1) with i and f in the scale of the
 * running maximum m (equations 19-27 with the stabiliser of equation 15).
 */
export const recurrentMlstm = ({ q, k, v, inputGate, forgetGate }: MlstmInputs): Heads =>
  named("mLSTM, recurrent", () => {
    const logF = logSigmoid(forgetGate);
    const m = stabiliser(logF, inputGate, "token");
    const f = exp(sub(add(logF, previous(m, "token", never)), m));
    const ik = mul(exp(sub(inputGate, m)), scaled(k));
    const C = recurrence("token", f, mul(ik, rename(v, "feature", "value")));
    const n = recurrence("token", f, ik);
    const h = mul(contract(C, q, "feature"), normaliser(contract(n, q, "feature"), m));
    return rename(h, "value", "feature");
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
    const cut = toChunks(size), j = renaming("place", "other");
    const Q = cut(q), K = cut(scaled(k)), V = rename(cut(v), "feature", "value");
    const I = toChunks(size, never)(inputGate);
    const b = cumsum(cut(logSigmoid(forgetGate)), "place");
    const g = take(b, "place", size - 1);
    // From chunk to chunk: memory C and normaliser n before each chunk, in the scale of m there.
    const ahead = add(sub(g, b), I);
    const m = stabiliser(g, max(ahead, "place"), "chunk");
    const before = previous(m, "chunk", never);
    const f = exp(sub(add(g, before), m));
    const ik = mul(exp(sub(ahead, m)), K);
    const memory = recurrence("chunk", f, contract(ik, V, "place"));
    const counts = recurrence("chunk", f, sum(ik, "place"));
    const C = previous(memory, "chunk"), n = previous(counts, "chunk");
    // Within a chunk: pairs of its tokens, and what its first state adds, in a common scale.
    const causal = less(iota("other", size), add(iota("place", size), 1));
    const logD = select(causal, add(sub(b, j(b)), j(I)), never);
    const carried = add(b, before);
    const top = stopGradient(maximum(max(logD, "other"), carried));
    const S = mul(contract(Q, j(K), "feature"), exp(sub(logD, top)));
    const first = mul(Q, exp(sub(carried, top)));
    const read = add(contract(S, j(V), "other"), contract(first, C, "feature"));
    const norm = add(sum(S, "other"), contract(first, n, "feature"));
    const h = rename(mul(read, normaliser(norm, top)), "value", "feature");
    return joinChunks(h, sizeOf(q, "token"));
  });

/** The cell in one of its forms. */
export const mlstm = (form: MlstmForm): (inputs: MlstmInputs) => Heads =>
  ({ parallel: parallelMlstm, recurrent: recurrentMlstm, chunkwise: chunkwiseMlstm })[form];
