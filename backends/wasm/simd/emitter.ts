// The interface of kernel printers: expressions at environments, loops, and memory accesses.
import type { Node } from "../../../dsl/node.ts";
import type * as affine from "../../codegen/index_math.ts";
import type { Dim, Storage } from "../../lower/kernel_ir.ts";
import type { Func } from "../assembler/encode.ts";
import type { Builder, Value } from "../assembler/builder.ts";
import type { VectorMath } from "./math.ts";

/** Where each axis is read. */
export type Env = ReadonlyMap<string, affine.IndexExpr>;

/** The enclosing vector loop: its variable, and the number of active lanes. */
export interface Lanes {
  readonly name: string;
  readonly count: number;
}

/** One memory access, recorded to choose the vector axis. */
export interface Access {
  readonly storage: Storage;
  readonly address: affine.IndexExpr;
  readonly isStore: boolean;
}

/** A part of an axis. */
export interface Range {
  readonly from: affine.IndexExpr;
  readonly most: number;
}

/** The parameters of every kernel's function, by position. */
export const parameters = { args: 0, from: 1, to: 2, scratch: 3 } as const;

/** Prints one kernel's function. */
export interface Emitter {
  readonly make: Builder;
  readonly math: VectorMath;
  /** The value of a node at an environment. */
  readonly emit: (node: Node, env: Env) => Value;
  /**
   * The same, with products in the order in which they are written, whatever the enclosing loops.
   */
  readonly inOrder: (node: Node, env: Env) => Value;
  /** The address of a node's value at an environment, if it is stored unchanged. */
  readonly place: (
    node: Node,
    env: Env,
  ) => { readonly storage: Storage; readonly at: affine.IndexExpr } | undefined;
  /** Defines a node's value from here on, or resets it to its arguments. */
  readonly override: (node: Node, by: ((env: Env) => Value) | undefined) => void;
  /** The address of an environment in a storage, in elements. */
  readonly placeIn: (storage: Storage, env: Env) => affine.IndexExpr;
  /** The value of an integer expression, times `by`. */
  readonly whole: (of: affine.IndexExpr, by?: number) => Value;
  /** Positions of `dims` from one flattened index. */
  readonly unflatten: (
    flat: affine.IndexExpr,
    dims: readonly Dim[],
  ) => ReadonlyMap<string, affine.IndexExpr>;
  readonly load: (storage: Storage, env: Env) => Value;
  readonly store: (storage: Storage, env: Env, value: Value) => void;
  /** The minimum of a non-negative expression and a number. */
  readonly atMost: (of: affine.IndexExpr, most: number) => Value;
  /**
   * A new variable from 0 to `extent` - 1 with a given value, which is clamped if its range is not
   * known.
   */
  readonly named: (value: Value, extent: number, vary?: readonly string[]) => affine.IndexExpr;
  /** Runs `inside` for the units of work that the function is called with, of `count` in all. */
  readonly units: (count: number, inside: (unit: affine.IndexExpr) => void) => void;
  /** Runs `inside` if an integer is not zero. */
  readonly when: (condition: Value, inside: () => void) => void;
  /** Runs `inside` for all positions of an axis, one at a time; or for those of them below `to`. */
  readonly loop: (extent: number, inside: (at: affine.IndexExpr) => void, to?: Value) => void;
  /** The address of an element of a storage, where all elements of `any` must lie inside. */
  readonly address: (storage: Storage, at: affine.IndexExpr, any: affine.IndexExpr) => Value;
  /** Records the highest byte of scratch memory in use. */
  readonly reachScratch: (bytes: number) => void;
  readonly scratchBytes: () => number;
  readonly loopDown: (from: Value, extent: number, inside: (at: affine.IndexExpr) => void) => void;
  /**
   * Runs `inside` in a loop over vectors of an axis, unrolled by `unroll` as far as possible. A
   * range begins at `from`, a multiple of a vector, and ends after `most` elements or at the end of
   * the axis; `since` are positions relative to its beginning.
   */
  readonly vectors: (
    extent: number,
    inside: (at: readonly affine.IndexExpr[], since: readonly affine.IndexExpr[]) => void,
    range?: Range,
    unroll?: number,
  ) => void;
  readonly lanes: () => Lanes | undefined;
  /** Runs `inside` once for each active lane; the values become one vector. */
  readonly eachLane: (
    inside: (shift: (of: affine.IndexExpr) => affine.IndexExpr, lane: number) => Value,
  ) => Value;
  /** `value`, but `rest` in inactive lanes. */
  readonly counted: (value: Value, rest: Value) => Value;
  /** The sum of a value and a node's, one instruction where that is a product. */
  readonly plus: (sum: Value, node: Node, env: Env) => Value;
  /** A sum or maximum with one more term; with `lanesToo`, its lanes will be reduced as well. */
  readonly joined: (reduction: Node, sum: Value, env: Env, lanesToo: boolean) => Value;
  readonly fresh: (prefix: string) => string;
  /** The accessed storages, in the order of the function's arguments. */
  readonly storages: () => readonly Storage[];
  readonly accesses: () => readonly Access[];
  readonly func: () => Func;
}
