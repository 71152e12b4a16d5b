// What the printers of kernels print with: expressions at environments, loops, and accesses to memory.
import type { Node } from "../../../dsl/node.ts";
import type * as affine from "../../codegen/index_math.ts";
import type { Dim, Storage } from "../../lower/kernel_ir.ts";
import type { Func } from "../assembler/encode.ts";
import type { Builder, Value } from "../assembler/builder.ts";
import type { VectorMath } from "./math.ts";

/** Where each axis is read. */
export type Env = ReadonlyMap<string, affine.Int>;

/** The vector loop around: its variable, and how many lanes count. */
export interface Lanes {
  readonly name: string;
  readonly count: number;
}

/** One access to memory, for choosing loops. */
export interface Access {
  readonly storage: Storage;
  readonly address: affine.Int;
  readonly isStore: boolean;
}

/** A part of an axis. */
export interface Range {
  readonly from: affine.Int;
  readonly most: number;
}

/** The parameters of every kernel's function, by their places. */
export const parameters = { args: 0, from: 1, to: 2, scratch: 3 } as const;

/** Prints one kernel's function. */
export interface Emitter {
  readonly make: Builder;
  readonly math: VectorMath;
  /** The value of a node at an environment. */
  readonly emit: (of: Node, env: Env) => Value;
  /** The same with its products in the order in which they are written, whatever loops are around. */
  readonly inOrder: (of: Node, env: Env) => Value;
  /** Where the value of a node at an environment stands, unless something is done to what stands there. */
  readonly place: (
    of: Node,
    env: Env,
  ) => { readonly storage: Storage; readonly at: affine.Int } | undefined;
  /** Says what a node is from here on, or that it is computed from its arguments again. */
  readonly override: (of: Node, by: ((env: Env) => Value) | undefined) => void;
  /** Where an environment is in a storage, in elements. */
  readonly placeIn: (storage: Storage, env: Env) => affine.Int;
  /** The number that an integer expression is; multiplied by `by`. */
  readonly whole: (of: affine.Int, by?: number) => Value;
  /** Positions of `dims` from one flattened index. */
  readonly unflatten: (flat: affine.Int, dims: readonly Dim[]) => ReadonlyMap<string, affine.Int>;
  readonly load: (storage: Storage, env: Env) => Value;
  readonly store: (storage: Storage, env: Env, value: Value) => void;
  /** The smaller of an expression, which is not negative, and a number. */
  readonly atMost: (of: affine.Int, most: number) => Value;
  /**
   * A variable from 0 to `extent` - 1 under a fresh name, whose value is given; it is kept in that
   * range where it is not known to be.
   */
  readonly named: (value: Value, extent: number, vary?: readonly string[]) => affine.Int;
  /** Runs `inside` for the units of work that the function is called for, of `count` in all. */
  readonly units: (count: number, inside: (unit: affine.Int) => void) => void;
  /** Runs `inside` where a whole number is not zero. */
  readonly when: (condition: Value, inside: () => void) => void;
  /** Runs `inside` for all positions of an axis, one at a time; or for those of them below `to`. */
  readonly loop: (extent: number, inside: (at: affine.Int) => void, to?: Value) => void;
  /** The address of an element of a storage, from which all of `any` are reached. */
  readonly address: (storage: Storage, at: affine.Int, any: affine.Int) => Value;
  /** Says that scratch memory is reached up to a byte. */
  readonly reachScratch: (bytes: number) => void;
  readonly scratchBytes: () => number;
  readonly loopDown: (from: Value, extent: number, inside: (at: affine.Int) => void) => void;
  /**
   * Runs `inside` in a loop over vectors of an axis, `unroll` of them at a time as long as there are
   * so many. A range begins at `from`, a multiple of a vector, and ends where it has `most` elements or
   * at the end of the axis; `since` are the places from its beginning.
   */
  readonly vectors: (
    extent: number,
    inside: (at: readonly affine.Int[], since: readonly affine.Int[]) => void,
    range?: Range,
    unroll?: number,
  ) => void;
  readonly lanes: () => Lanes | undefined;
  /** Runs `inside` once for each lane that counts, each alone; the values become one vector. */
  readonly eachLane: (
    inside: (shift: (of: affine.Int) => affine.Int, lane: number) => Value,
  ) => Value;
  /** `value`, but `rest` in lanes that do not count. */
  readonly counted: (value: Value, rest: Value) => Value;
  /** The sum of a value and a node's, one instruction where that is a product. */
  readonly plus: (sum: Value, of: Node, env: Env) => Value;
  /** A sum or maximum with one more term; with `lanesToo`, its lanes will be joined as well. */
  readonly joined: (reduction: Node, sum: Value, env: Env, lanesToo: boolean) => Value;
  readonly fresh: (prefix: string) => string;
  /** The storages reached, in the order of the function's arguments. */
  readonly storages: () => readonly Storage[];
  readonly accesses: () => readonly Access[];
  readonly func: () => Func;
}
