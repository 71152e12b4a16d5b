// Storage of a scan's kept values, for all vectors that run through time in parallel: a local for
// each vector, or scratch memory for values with held axes.
import type { Node } from "../../../dsl/node.ts";
import * as affine from "../../codegen/index_math.ts";
import { type Dim, size } from "../../lower/kernel_ir.ts";
import { mustBeInside } from "../../codegen/verify_addresses.ts";
import type { Value, Variable } from "../assembler/builder.ts";
import { type Emitter, type Env, parameters } from "./emitter.ts";
import { width } from "./lanes.ts";
import { position } from "./scan_values.ts";

/** A kept value. In scratch memory, the vectors of one held position are adjacent. */
export interface Kept {
  readonly dims: readonly Dim[];
  readonly node: Node;
  readonly variables?: readonly Variable[];
  readonly offset: number;
  /** Its positions, including those of all steps of a segment. */
  readonly count: number;
  /** The offset of this step's positions, if it has some for each step of a segment. */
  readonly from?: affine.IndexExpr;
}

/** Scratch memory. */
export interface Scratch {
  /** Allocates some vectors, and returns the offset in bytes of the first. */
  readonly take: (vectors: number) => number;
  /**
   * The address of one of `count` elements of some bytes. Constant offsets are left to
   * instructions.
   */
  readonly address: (at: affine.IndexExpr, bytes: number, count: number) => Value;
  readonly taken: () => number;
  /** Frees what was allocated since then. */
  readonly giveBack: (to: number) => void;
}

/** The scratch memory of a kernel. */
export const scratchOf = (emit: Emitter): Scratch => {
  const { make } = emit;
  let taken = 0;
  return {
    take: (vectors) => {
      const at = taken;
      taken += 16 * vectors;
      emit.reachScratch(taken);
      return at;
    },
    address: (at, bytes, count) => {
      mustBeInside(at, { elements: count, words: () => "what steps keep in scratch memory" });
      return make.op("i32.add", make.parameter(parameters.scratch), emit.whole(at, bytes));
    },
    taken: () => taken,
    giveBack: (to) => {
      taken = to;
    },
  };
};

/** Keeps values of `beside` parallel vectors along an axis. */
export interface Keeper {
  /** A place for a value, or for its values in some steps. */
  readonly declare: (node: Node, steps?: number) => Kept;
  readonly read: (kept: Kept, env: Env) => Value;
  /** Reads a value that the enclosing loop does not write, in an outer block if it is invariant. */
  readonly readSteady: (kept: Kept, env: Env) => Value;
  readonly write: (kept: Kept, env: Env, value: Value) => void;
  /** The place of the step `k` of a segment. */
  readonly slot: (kept: Kept, k: affine.IndexExpr) => Kept;
}

export const keeper = (
  emit: Emitter,
  scratch: Scratch,
  held: readonly Dim[],
  along: Dim | undefined,
  beside: number,
): Keeper => {
  const { make } = emit;
  /** The index of an environment's vector; any if the value lacks the axis. */
  const numberOf = (env: Env): number => (env.get(along?.axis ?? "")?.constant ?? 0) / width;
  const addressOf = ({ dims, count, from = affine.int(0) }: Kept, env: Env): Value =>
    scratch.address(affine.sum(from, position(dims, env)), 16 * beside, count);
  const offsetOf = ({ offset }: Kept, env: Env): number => offset + 16 * numberOf(env);
  return {
    declare: (node, steps) => {
      const dims = held.filter((dim) => dim.axis in node.axes);
      const count = (steps ?? 1) * size(dims);
      if (steps !== undefined || dims.length > 0) {
        return { dims, node, count, offset: scratch.take(count * beside) };
      }
      const variable = () => make.variable("v128", make.splat(0));
      return { dims, node, count, offset: 0, variables: Array.from({ length: beside }, variable) };
    },
    read: (kept, env) =>
      kept.variables === undefined
        ? make.loadUnhoisted("v128.load", addressOf(kept, env), offsetOf(kept, env))
        : make.current(kept.variables[numberOf(env)]),
    readSteady: (kept, env) => ({
      ...make.load("v128.load", addressOf(kept, env), offsetOf(kept, env)),
      varies: true,
    }),
    write: (kept, env, value) =>
      kept.variables === undefined
        ? make.store("v128.store", addressOf(kept, env), offsetOf(kept, env), value)
        : make.assign(kept.variables[numberOf(env)], value),
    slot: (kept, k) => ({ ...kept, from: affine.times(k, size(kept.dims)) }),
  };
};
