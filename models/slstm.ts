// The sLSTM cell (Beck et al., "xLSTM", 2024): scalar memories with exponential gates, mixed within a
// head by a recurrent matrix, so that steps can only run one after another.
import { known, type Tensor } from "../dsl/axes.ts";
import { node } from "../dsl/node.ts";
import {
  add,
  contract,
  div,
  equal,
  exp,
  expand,
  logSigmoid,
  max,
  mul,
  named,
  pick,
  rename,
  scalarOf,
  scan,
  select,
  sigmoid,
  sub,
  tanh,
} from "../dsl/ops.ts";
import { channels, type Sequence } from "./layers.ts";

/** The memory of every unit. */
export type Units = Tensor<{ batch: number; head: number; unit: number }>;
/** What the cell carries: hidden value, memory, normaliser and stabiliser. */
export interface SlstmState {
  readonly [name: string]: Units;
  readonly y: Units;
  readonly c: Units;
  readonly n: Units;
  readonly m: Units;
}

/**
 * Runs the cell over tokens. `x` are the gates' inputs (i, f, z, o along `gate`), `recurrent` the
 * matrices R of each head, `bias` the gates' biases. On the first step from an empty normaliser the
 * stabiliser is the input gate itself, as in the published code.
 */
export const slstm = (
  { x, recurrent, bias, from }: {
    readonly x: Tensor<{ batch: number; token: number; gate: number; head: number; unit: number }>;
    readonly recurrent: Tensor<{ head: number; gate: number; unit: number; other: number }>;
    readonly bias: Tensor<{ gate: number; head: number; unit: number }>;
    readonly from: SlstmState;
  },
): {
  readonly out: Tensor<{ batch: number; head: number; unit: number; token: number }>;
  readonly last: SlstmState;
} =>
  named("sLSTM", () => {
    const { final, out } = scan({ over: "token", from, each: { x } }, ({ y, c, n, m }, now) => {
      const mixed = contract(rename(y, "unit", "other"), recurrent, "other");
      const raw = add(add(now.x, mixed), bias) as Tensor<
        { batch: number; gate: number; head: number; unit: number }
      >;
      const [i, f, z, o] = [0, 1, 2, 3].map((gate) => pick(raw, "gate", gate) as Units);
      const kept = add(m, logSigmoid(f));
      const top = select(equal(n, scalarOf(0)), i, max(i, kept)) as Units;
      const write = exp(sub(i, top)), keep = exp(sub(kept, top));
      const memory = add(mul(keep, c), mul(write, tanh(z)));
      const norm = add(mul(keep, n), write);
      const hidden = mul(sigmoid(o), div(memory, norm));
      return { next: { y: hidden, c: memory, n: norm, m: top } as SlstmState, out: { h: hidden } };
    });
    return {
      out: out.h as unknown as Tensor<{ batch: number; head: number; unit: number; token: number }>,
      last: final,
    };
  });

/** The state before the first token, for the clips of `x` and `heads` heads: nothing. */
export const emptySlstm = (x: Sequence, heads: number): SlstmState => {
  const batch = known(node(x).axes, "batch"), unit = channels(x) / heads;
  const zero = expand(scalarOf(0), { batch, head: heads, unit });
  return { y: zero, c: zero, n: zero, m: zero };
};
