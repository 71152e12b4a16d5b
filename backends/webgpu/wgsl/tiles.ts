// Shared by tiled contractions: which tile of the result a workgroup computes, and how the operands
// of a tile are loaded into workgroup memory, with their point-wise producers computed on the way.
import type { Node } from "../../../dsl/node.ts";
import * as affine from "../../codegen/index_math.ts";
import { type Contraction, type Dim, size, type Storage } from "../../lower/kernel_ir.ts";
import { mustBeInside } from "../../codegen/verify_addresses.ts";
import { readsAlong } from "./access.ts";
import { type Emitter, type Env, rounded } from "./emit.ts";
import { type Area, fold, type Grid, gridLimit } from "./module.ts";

/** An integer variable of the code, from 0 to `extent` - 1, that changes with `depends`. */
export const named = (
  text: string,
  extent: number,
  depends: readonly string[] = [],
): affine.IndexExpr =>
  extent === 1 ? affine.int(0) : {
    constant: 0,
    terms: [{ atom: { text, low: 0, high: extent - 1, depends }, times: 1 }],
  };

/** The workgroups of a contraction, one for each tile, and their positions of the batch. */
export interface Placed {
  readonly grid: Grid;
  readonly outer: Env;
}

/** Defines the origin of a workgroup's tile: `row0`, `column0`, and the item of the batch. */
export const placeTile = (
  of: Contraction,
  tileRows: number,
  tileColumns: number,
  emit: Emitter,
): Placed => {
  const rows = size(of.rows), columns = size(of.columns), batch = size(of.batch);
  const groupsX = Math.ceil(columns / tileColumns), groupsY = Math.ceil(rows / tileRows);
  const { x: batchX, y: batchY } = fold(batch);
  if (groupsX * batchX > gridLimit || groupsY * batchY > gridLimit) {
    throw new Error(
      `a product of ${batch} x ${rows} x ${columns} needs more workgroups than a dispatch has`,
    );
  }
  emit.line(`let column0 = (i32(group.x) % ${groupsX}) * ${tileColumns};`);
  emit.line(`let row0 = (i32(group.y) % ${groupsY}) * ${tileRows};`);
  emit.line(`let item = i32(group.x) / ${groupsX} + (i32(group.y) / ${groupsY}) * ${batchX};`);
  if (batchX * batchY > batch) emit.line(`if (item >= ${batch}) { return; }`);
  return {
    grid: [groupsX * batchX, groupsY * batchY, 1],
    outer: emit.unflatten(named("item", batch), of.batch),
  };
};

/** An operand's tile in workgroup memory. */
export interface Stage {
  /** The array; element k * stride + m is that of position m and summed position k. */
  readonly area: "left" | "right";
  readonly stride: number;
  readonly operand: Node;
  /** Positions of the tile, and of the whole operand, along its own axes. */
  readonly tile: number;
  readonly dims: readonly Dim[];
  /** The origin of the tile along them. */
  readonly origin: string;
  /** Summed positions in memory at a time. */
  readonly depth: number;
  readonly over: readonly Dim[];
  /** True when neighbouring invocations read along the summed axes. */
  readonly along: boolean;
  /** True if the tile is stored as f16. */
  readonly halves: boolean;
  /** The invocations that share the work. */
  readonly threads: number;
}

/** The tiles of both operands of a product; rows of an array are `padding` longer than the tile. */
export const stagesOf = (
  of: Contraction,
  stored: ReadonlyMap<Node, Storage>,
  { tileRows, tileColumns, padding, ...common }:
    & Pick<Stage, "depth" | "halves" | "threads">
    & { readonly tileRows: number; readonly tileColumns: number; readonly padding: number },
): { readonly left: Stage; readonly right: Stage } => {
  const side = (
    area: Stage["area"],
    operand: Node,
    tile: number,
    dims: readonly Dim[],
    origin: string,
  ): Stage => ({
    ...common,
    area,
    operand,
    tile,
    stride: tile + padding,
    dims,
    origin,
    over: of.over,
    along: readsAlong(operand, of.over, stored),
  });
  return {
    left: side("left", of.left, tileRows, of.rows, "row0"),
    right: side("right", of.right, tileColumns, of.columns, "column0"),
  };
};

/** The array of a tile. */
export const areaOf = ({ area, stride, depth, halves }: Stage): Area => ({
  name: area,
  type: halves ? "f16" : "f32",
  length: depth * stride,
});

/** Ensures that all summed positions `k` and positions `m` of a tile are in its array. */
export const mustBeInTile = (tile: Stage, k: affine.IndexExpr, m: affine.IndexExpr): void => {
  const { name, length } = areaOf(tile);
  const at = affine.sum(affine.times(k, tile.stride), m);
  mustBeInside(at, { elements: length, words: () => `the tile '${name}' in workgroup memory` });
};

/** Fills a tile from the summed position `k0` on. Beyond the edges it is zero. */
export const stage = (tileOf: Stage, outer: Env, emit: Emitter): void => {
  const {
    area,
    stride,
    operand,
    tile,
    dims,
    origin,
    depth,
    over,
    along,
    halves,
    threads,
  } = tileOf;
  const extent = size(dims), summed = size(over);
  const e = emit.fresh("e");
  const total = tile * depth;
  emit.block(
    `for (var ${e} = lane; ${e} < ${total}; ${e} += ${threads})`,
    [e],
    total / threads,
    () => {
      const m = emit.fresh("m"), k = emit.fresh("k");
      emit.line(`let ${m} = ${along ? `${e} / ${depth}` : `${e} % ${tile}`};`);
      emit.line(`let ${k} = ${along ? `${e} % ${depth}` : `${e} / ${tile}`};`);
      const mm = emit.fresh("m"), kk = emit.fresh("k");
      // Positions beyond the edge read the last one and count as zero.
      emit.line(`let ${mm} = min(${origin} + ${m}, ${extent - 1});`);
      emit.line(`let ${kk} = min(k0 + ${k}, ${summed - 1});`);
      const env = new Map([
        ...outer,
        ...emit.unflatten(named(mm, extent, [e]), dims),
        ...emit.unflatten(named(kk, summed, [e]), over),
      ]);
      const value = emit.emit(operand, env).text;
      const inside = [
        ...(extent % tile === 0 ? [] : [`${origin} + ${m} < ${extent}`]),
        ...(summed % depth === 0 ? [] : [`k0 + ${k} < ${summed}`]),
      ].join(" && ");
      const term = inside === "" ? value : `select(0.0, ${value}, ${inside})`;
      mustBeInTile(tileOf, named(k, depth), named(m, tile));
      emit.line(`${area}[${k} * ${stride} + ${m}] = ${halves ? rounded(term) : term};`);
    },
  );
};
