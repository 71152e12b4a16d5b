// Shared by both scan printers: the values of a step's locals while it is printed, the position of
// a step in time, and which unit of work stores a value that several compute.
import { sizeOf } from "../../../dsl/axes.ts";
import type { Node } from "../../../dsl/node.ts";
import { type locals, roles } from "../../../dsl/scan.ts";
import * as affine from "../../codegen/index_math.ts";
import type { Dim } from "../../lower/kernel_ir.ts";
import type { Value } from "../assembler/builder.ts";
import type { Emitter, Env } from "./emitter.ts";

/** Reads a value at an environment. */
export type Reader = (env: Env) => Value;

/** The number of steps of a scan. */
export const stepsOf = (scan: Node): number =>
  sizeOf(scan.args[scan.attributes.carries!.length].axes, scan.attributes.axis!);

/** The position in time of the step number `s`. */
export const timeOf = (s: affine.IndexExpr, scan: Node): affine.IndexExpr =>
  scan.attributes.reverse! ? affine.sum(affine.int(stepsOf(scan) - 1), affine.times(s, -1)) : s;

/** The flattened position along some axes, the last being the fastest. */
export const position = (dims: readonly Dim[], env: Env): affine.IndexExpr =>
  dims.reduce(
    (flat, dim) => affine.sum(affine.times(flat, dim.size), env.get(dim.axis)!),
    affine.int(0),
  );

/**
 * Defines the locals of a scan's step at time `t`: carries are read by `carry`, inputs from their
 * storages or by `instead`.
 */
export const bindLocals = (
  emit: Emitter,
  leaves: ReturnType<typeof locals>,
  node: Node,
  carry: (name: string, env: Env) => Value,
  t: affine.IndexExpr,
  instead: Readonly<Record<string, Reader>> = {},
): void => {
  const { each, rest } = roles(node);
  const time = node.attributes.axis!;
  for (const [name, leaf] of Object.entries(leaves.carry)) {
    emit.override(leaf, (env) => carry(name, env));
  }
  for (const [name, leaf] of Object.entries(leaves.each)) {
    const by = instead[name];
    emit.override(
      leaf,
      by ?? ((env) => emit.emit(each[name], new Map([...env, [time, t]]))),
    );
  }
  leaves.rest.forEach((leaf, k) => emit.override(leaf, (env) => emit.emit(rest[k], env)));
};

/**
 * Runs `write` in the one unit of work that stores `of`: the one at position 0 of the axes of the
 * space that it lacks.
 */
export const onlyOnce = (
  emit: Emitter,
  space: readonly Dim[],
  start: Env,
  node: Node,
  write: () => void,
): void => {
  const { make } = emit;
  const zeros = space.filter((dim) => !(dim.axis in node.axes) && dim.size > 1)
    .map((dim) => make.op("i32.eq", emit.whole(start.get(dim.axis)!), make.whole(0)));
  if (zeros.length === 0) write();
  else emit.when(zeros.reduce((a, b) => make.op("i32.and", a, b)), write);
};
