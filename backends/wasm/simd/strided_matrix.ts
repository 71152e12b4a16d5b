// Strided matrices: values in memory whose rows, and elements within a row, have constant
// distances. Such an operand of a contraction is read, and such a result written, without a copy.
import type { Node } from "../../../dsl/node.ts";
import type * as affine from "../../codegen/index_math.ts";
import { type Dim, size, type Storage } from "../../lower/kernel_ir.ts";
import type { Value } from "../assembler/builder.ts";
import type { Emitter, Env } from "./emitter.ts";

/** Rows or columns: the first, and any of them. */
export interface Span {
  readonly first: affine.IndexExpr;
  readonly any: affine.IndexExpr;
}

/** A matrix in memory; distances are in elements. */
export interface Matrix {
  /** The address of the first element of some rows and columns, all of which must lie inside. */
  readonly address: (rows: Span, columns: Span) => Value;
  readonly rowPitch: number;
  readonly columnPitch: number;
}

/** The stride of an address along a variable; undefined if it is not constant. */
const growth = (at: affine.IndexExpr, variable: affine.IndexExpr): number | undefined => {
  const [own] = variable.terms;
  if (own === undefined) return 0;
  const those = at.terms.filter(({ atom }) => atom.depends.includes(own.atom.text));
  return those.length === 1 && those[0].atom.text === own.atom.text ? those[0].times : undefined;
};

type Place = { readonly storage: Storage; readonly at: affine.IndexExpr };

const matrix = (
  emit: Emitter,
  rows: readonly Dim[],
  columns: readonly Dim[],
  outer: Env,
  placeOf: (env: Env) => Place | undefined,
): Matrix | undefined => {
  const place = (row: affine.IndexExpr, column: affine.IndexExpr) =>
    placeOf(new Map([...outer, ...emit.unflatten(row, rows), ...emit.unflatten(column, columns)]));
  const [row, column] = [rows, columns].map((dims) => emit.named(emit.make.whole(0), size(dims)));
  const any = place(row, column);
  if (any === undefined || any.storage.dtype !== "f32") return undefined;
  const rowPitch = growth(any.at, row), columnPitch = growth(any.at, column);
  if (rowPitch === undefined || columnPitch === undefined) return undefined;
  const address = (rows: Span, columns: Span) => {
    const { storage, at } = place(rows.first, columns.first)!;
    return emit.address(storage, at, place(rows.any, columns.any)!.at);
  };
  return { address, rowPitch, columnPitch };
};

/** A node as a matrix, if it is stored unchanged. */
export const matrixOf = (
  emit: Emitter,
  node: Node,
  rows: readonly Dim[],
  columns: readonly Dim[],
  outer: Env,
): Matrix | undefined => matrix(emit, rows, columns, outer, (env) => emit.place(node, env));

/** A storage as a matrix. */
export const matrixIn = (
  emit: Emitter,
  storage: Storage,
  rows: readonly Dim[],
  columns: readonly Dim[],
  outer: Env,
): Matrix | undefined =>
  matrix(emit, rows, columns, outer, (env) => ({ storage, at: emit.placeIn(storage, env) }));
