// A stack of one family's blocks: the direction in which they read the tokens, and stochastic depth.
// Every family has the same options, as each block is a function from sequence to sequence.
import { sizeOf } from "../dsl/axes.ts";
import { type Key, nodeOf } from "../dsl/node.ts";
import { add, constant, flip, less, mul, named, on, sub, toFloat } from "../dsl/ops.ts";
import { foldIn, uniform } from "../dsl/random.ts";
import type { Norm, Scope, Sequence } from "./layers.ts";
import { scope } from "./layers.ts";
import { mambaBlock, type MambaSizes } from "./mamba.ts";
import { transformerBlock, type TransformerSizes } from "./transformer.ts";
import { xlstmBlock, type XlstmSizes } from "./xlstm.ts";

/**
 * The order in which blocks read tokens: all from first to last, all from last to first, in turns
 * (even blocks forward, odd ones back), or both ways at once. A recurrent block that reads both ways
 * is run on the sequence and on its reverse with the same weights, and the two outputs are averaged;
 * attention just sees all tokens, and a custom block gets that as a setting. In the other orders
 * attention is causal.
 */
export type Order = "causal" | "reversed" | "alternating" | "bidirectional";

/** What a block of a user's architecture is given. */
export interface CustomOptions {
  /** The block's index, from 0. */
  readonly number: number;
  /** Number of blocks of the encoder. */
  readonly depth: number;
  /** True when a token may not see later ones. Sequences that are read backwards come reversed. */
  readonly causal: boolean;
  /** The norm that the shell uses. */
  readonly norm: Norm;
  /** The module's own settings from the spec. */
  readonly settings: Settings;
}

/** Numbers, strings and booleans by name. */
export type Settings = Readonly<Record<string, number | string | boolean>>;

/**
 * Makes a block: a function from a sequence of tokens to one with the same axes, residual connections
 * and norms included. `at` makes parameter names.
 */
export type CustomBlock = (at: Scope, options: CustomOptions) => (x: Sequence) => Sequence;

/** A user-defined architecture: the function that makes its blocks, and the module it comes from. */
export interface CustomSizes {
  readonly module: string;
  readonly settings?: Settings;
  readonly block: CustomBlock;
}

/** A family and its sizes. */
export type Family =
  | { readonly family: "module" } & CustomSizes
  | { readonly family: "transformer" } & TransformerSizes
  | { readonly family: "mamba" } & Omit<MambaSizes, "depth">
  | { readonly family: "xlstm" } & Omit<XlstmSizes, "depth">;

/** Options of a stack. */
export type StackSizes = Family & {
  /** Number of blocks. */
  readonly depth: number;
  readonly order: Order;
  readonly norm: Norm;
  /** Positions are given to attention by rotating queries and keys. Only Transformers have attention. */
  readonly rotary?: boolean;
  /** Share of clips for which the last block is skipped in training; earlier blocks less often. */
  readonly stochasticDepth: number;
};

type Block = (x: Sequence) => Sequence;

const blockOf = (at: Scope, sizes: StackSizes, k: number): Block => {
  const { norm, order } = sizes;
  switch (sizes.family) {
    case "transformer": {
      const options = { causal: order !== "bidirectional", rotary: sizes.rotary === true };
      return transformerBlock(at, sizes, options, norm);
    }
    case "mamba":
      return mambaBlock(at, sizes, norm);
    case "xlstm":
      return xlstmBlock(at, sizes, k, norm);
    case "module": {
      const { block, depth, settings = {} } = sizes;
      return block(at, { number: k, depth, causal: order !== "bidirectional", norm, settings });
    }
  }
};

const directed = ({ family, order }: StackSizes, k: number, block: Block): Block => {
  const back: Block = (x) => flip(block(flip(x, "token")), "token");
  switch (order) {
    case "causal":
      return block;
    case "reversed":
      return back;
    case "alternating":
      return k % 2 === 0 ? block : back;
    case "bidirectional":
      return family === "transformer" || family === "module"
        ? block
        : (x) => mul(add(block(x), back(x)), 0.5);
  }
};

/**
 * Stochastic depth (Huang et al. 2016): for a random share of clips a block is the identity; for the
 * others its residual is scaled up, so that its mean is unchanged. The share grows linearly with depth.
 */
const sometimes = (key: Key, share: number, block: Block): Block => (x) => {
  const batch = sizeOf(nodeOf(x).axes, "batch");
  const kept = toFloat(less(constant(share), uniform(key, { batch })));
  return add(x, on.mul(sub(block(x), x), mul(kept, 1 / (1 - share))));
};

/** Runs the blocks, named `blocks.0`, `blocks.1`, … `key` turns stochastic depth on (training). */
export const stack = (at: Scope, sizes: StackSizes, key?: Key) => (x: Sequence): Sequence =>
  Array.from({ length: sizes.depth }).reduce<Sequence>(
    (h, _, k) =>
      named(`block ${k}`, () => {
        const block = directed(sizes, k, blockOf(scope(`blocks.${k}`, at), sizes, k));
        const share = sizes.stochasticDepth * (k + 1) / sizes.depth;
        return key === undefined || share === 0
          ? block(h)
          : sometimes(foldIn(key, k), share, block)(h);
      }),
    x,
  );
