// What the steps of a scan keep, for all vectors of lanes that are run through time beside each other:
// a local for each vector, or scratch memory where a value has axes that a lane holds.
import type { Node } from "../../dsl/node.ts";
import * as affine from "../lower/affine.ts";
import { type Dim, size } from "../lower/program.ts";
import type { Value, Variable } from "./builder.ts";
import { type Emitter, type Env, parameters } from "./emitter.ts";
import { width } from "./lanes.ts";
import { position } from "./scan_values.ts";

/** A kept value. In scratch memory, the vectors of one held position are neighbours. */
export interface Kept {
  readonly dims: readonly Dim[];
  readonly node: Node;
  readonly variables?: readonly Variable[];
  readonly offset: number;
  /** Where in it the positions of this step begin, if it has some for each step of a segment. */
  readonly from?: affine.Int;
}

/** Scratch memory, by vectors. */
export interface Scratch {
  /** Takes some vectors, and gives the offset in bytes of the first. */
  readonly take: (vectors: number) => number;
  readonly read: (offset: number, at: affine.Int, beside?: number, n?: number) => Value;
  readonly write: (
    offset: number,
    at: affine.Int,
    value: Value,
    beside?: number,
    n?: number,
  ) => void;
  readonly taken: () => number;
  /** Gives back what was taken since so much was. */
  readonly giveBack: (to: number) => void;
}

/** The scratch memory of a kernel. Places are read and written at `n` of `beside` vectors each. */
export const scratchOf = (emit: Emitter): Scratch => {
  const { make } = emit;
  let taken = 0;
  // Offsets are left to the instructions, so that places at the same position share an address.
  const reach = (at: affine.Int, beside: number): Value =>
    make.op("i32.add", make.parameter(parameters.scratch), emit.whole(at, 16 * beside));
  return {
    take: (vectors) => {
      const at = taken;
      taken += 16 * vectors;
      return at;
    },
    read: (offset, at, beside = 1, n = 0) =>
      make.loadNow("v128.load", reach(at, beside), offset + 16 * n),
    write: (offset, at, value, beside = 1, n = 0) =>
      make.store("v128.store", reach(at, beside), offset + 16 * n, value),
    taken: () => taken,
    giveBack: (to) => {
      taken = to;
    },
  };
};

/** Keeps values of `beside` vectors along an axis. */
export interface Keeper {
  /** A place for a value, and for that of each of `count` steps. */
  readonly declare: (of: Node, count?: number) => Kept;
  readonly read: (kept: Kept, env: Env) => Value;
  readonly write: (kept: Kept, env: Env, value: Value) => void;
  /** The place of the step `k` of a segment. */
  readonly slot: (kept: Kept, k: affine.Int) => Kept;
  /** Which of the vectors beside each other an environment is of. */
  readonly numberOf: (env: Env) => number;
}

export const keeper = (
  emit: Emitter,
  scratch: Scratch,
  held: readonly Dim[],
  along: Dim | undefined,
  beside: number,
): Keeper => {
  const { make } = emit;
  const numberOf = (env: Env): number =>
    along === undefined ? 0 : env.get(along.axis)!.constant / width;
  const within = ({ dims, from }: Kept, env: Env): affine.Int =>
    from === undefined ? position(dims, env) : affine.sum(from, position(dims, env));
  return {
    declare: (node, count) => {
      const dims = held.filter((dim) => dim.axis in node.axes);
      if (count !== undefined || dims.length > 0) {
        return { dims, node, offset: scratch.take((count ?? 1) * size(dims) * beside) };
      }
      const variable = () => make.variable("v128", make.splat(0));
      return { dims, node, offset: 0, variables: Array.from({ length: beside }, variable) };
    },
    read: (kept, env) =>
      kept.variables === undefined
        ? scratch.read(kept.offset, within(kept, env), beside, numberOf(env))
        : make.current(kept.variables[numberOf(env)]),
    write: (kept, env, value) =>
      kept.variables === undefined
        ? scratch.write(kept.offset, within(kept, env), value, beside, numberOf(env))
        : make.assign(kept.variables[numberOf(env)], value),
    slot: (kept, k) => ({ ...kept, from: affine.times(k, size(kept.dims)) }),
    numberOf,
  };
};
