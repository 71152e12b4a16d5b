// Shared by both scan printers: the places of carries, and the values of a step's locals while it
// is printed.
import type { Node } from "../../../dsl/node.ts";
import { type locals, roles } from "../../../dsl/scan.ts";
import * as affine from "../../codegen/index_math.ts";
import type { Dim } from "../../lower/kernel_ir.ts";
import type { Emitter, Env } from "./emit.ts";

/** A kept value: a variable, or an array over the held axes. */
export interface Kept {
  readonly name: string;
  readonly dims: readonly Dim[];
  readonly node: Node;
}

/** The flattened position along some axes, the last being the fastest. */
export const position = (dims: readonly Dim[], env: Env): affine.IndexExpr =>
  dims.reduce(
    (flat, dim) => affine.sum(affine.times(flat, dim.size), env.get(dim.axis)!),
    affine.int(0),
  );

/** A variable of the kernel that runs from 0 to `extent` - 1. */
export const named = (
  text: string,
  extent: number,
  depends: readonly string[],
  varies = false,
): affine.IndexExpr =>
  extent === 1 ? affine.int(0) : {
    constant: 0,
    terms: [{ atom: { text, low: 0, high: extent - 1, depends, varies }, times: 1 }],
  };

/** The smaller of a number and `most`. */
export const atMost = (of: affine.IndexExpr, most: number): affine.IndexExpr => ({
  constant: 0,
  terms: [{
    atom: {
      text: `min(${affine.show(of)}, ${most})`,
      low: affine.low(of),
      high: most,
      depends: affine.depends(of),
      varies: affine.varies(of),
    },
    times: 1,
  }],
});

/** A number clamped below `extent`. */
export const below = (of: affine.IndexExpr, extent: number): affine.IndexExpr =>
  affine.high(of) < extent ? of : atMost(of, extent - 1);

/** The position in time of the step number `s`. */
export const timeOf = (s: affine.IndexExpr, steps: number, reverse: boolean): affine.IndexExpr =>
  reverse ? affine.sum(affine.int(steps - 1), affine.times(s, -1)) : s;

/**
 * Defines the locals of a scan's step at time `t`: carries are read by `carry`, inputs from their
 * storages or by `instead`.
 */
export const bindLocals = (
  emit: Emitter,
  leaves: ReturnType<typeof locals>,
  node: Node,
  carry: (name: string, env: Env) => string,
  t: affine.IndexExpr,
  instead: Readonly<Record<string, (env: Env) => string>> = {},
): void => {
  const { each, rest } = roles(node);
  const time = node.attributes.axis!;
  for (const [name, leaf] of Object.entries(leaves.carry)) {
    emit.override(leaf, (env) => {
      const read = emit.fresh("c");
      emit.line(`let ${read} = ${carry(name, env)};`);
      return { text: read, level: emit.depth() };
    });
  }
  for (const [name, leaf] of Object.entries(leaves.each)) {
    const by = instead[name];
    emit.override(
      leaf,
      (env) =>
        by !== undefined
          ? { text: by(env), level: emit.depth() }
          : emit.emit(each[name], new Map([...env, [time, t]])),
    );
  }
  leaves.rest.forEach((leaf, k) => emit.override(leaf, (env) => emit.emit(rest[k], env)));
};
