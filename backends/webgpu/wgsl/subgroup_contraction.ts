// WGSL for contractions on subgroup-matrix units (tensor cores), which some GPUs have. A subgroup
// accumulates a few matrices of the result. Operands come through workgroup memory as in other
// tiled contractions; results go there too, one matrix per subgroup at a time, so that any
// invocation can compute the epilogue of any element.
import type { Node } from "../../../dsl/node.ts";
import {
  type Contraction,
  type ExpressionKernel,
  size,
  type Storage,
} from "../../lower/kernel_ir.ts";
import { storeRoots } from "./access.ts";
import type { Emitter } from "./emit.ts";
import type { Body } from "./module.ts";
import {
  fewGroups,
  type Matrices,
  type MatrixSizes,
  type MatrixSpelling,
  type Target,
  workgroupBytes,
} from "../target.ts";
import { areaOf, mustBeInTile, named, placeTile, stage, stagesOf } from "./tiles.ts";

/** The spelling of Dawn's `chromium-experimental-subgroup-matrix`. */
export const subgroupMatrices = (
  component: "f16" | "f32",
  { rows, columns, over }: MatrixSizes,
): MatrixSpelling => {
  // The types name columns first, then rows.
  const types = {
    left: `subgroup_matrix_left<${component}, ${over}, ${rows}>, col_major`,
    right: `subgroup_matrix_right<${component}, ${columns}, ${over}>, row_major`,
  };
  return {
    enables: ["chromium_experimental_subgroup_matrix", "subgroups"],
    builtins: ["@builtin(subgroup_id) subgroup: u32"],
    begin: [],
    zeros: (name) => `var ${name}: subgroup_matrix_result<f32, ${columns}, ${rows}>;`,
    load: (name, side, { area, at, stride }) =>
      `let ${name} = subgroupMatrixLoad<${types[side]}>(&${area}, u32(${at}), ${stride}u);`,
    multiplyAdd: (sum, left, right) =>
      `${sum} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sum});`,
    store: (sum, { area, at, stride }) =>
      `subgroupMatrixStore<row_major>(&${area}, u32(${at}), ${sum}, ${stride}u);`,
  };
};

/** Invocations of a workgroup, unless a subgroup has more: four subgroups of most GPUs. */
const workgroup = 128;
/** Most results along each side of a subgroup's part of a tile. */
const patch = 32;
/** Summed positions in workgroup memory at a time, if there is room. */
const deepest = 32;
/** Elements between the rows of a tile, so that the rows begin in different banks. */
const padding = 8;
/** Cost of loading one element of an operand into workgroup memory, in multiply-adds. */
const perElement = 32;
/** Cost of reading it from there. */
const perLoad = 4;

/** How a contraction is divided among subgroups. */
export interface MatrixTiling {
  readonly threads: number;
  /** Subgroups along the rows and the columns of a workgroup's tile. */
  readonly groupRows: number;
  readonly groupColumns: number;
  /** Matrices of a subgroup along the rows and the columns. */
  readonly down: number;
  readonly across: number;
  /** Summed positions in workgroup memory at a time. */
  readonly depth: number;
}

const powersTo = (most: number): readonly number[] =>
  Array.from({ length: Math.floor(Math.log2(Math.max(1, most))) + 1 }, (_, k) => 2 ** k);

const tileOf = (
  { groupRows, groupColumns, down, across }: Omit<MatrixTiling, "depth">,
  { rows, columns }: MatrixSizes,
) => ({ tileRows: groupRows * down * rows, tileColumns: groupColumns * across * columns });

/**
 * The tiling with the least computation and reading, edges included, and with work for all
 * processors.
 */
export const matrixTiling = (of: Contraction, matrices: Matrices): MatrixTiling => {
  const rows = size(of.rows), columns = size(of.columns);
  const threads = Math.max(workgroup, matrices.subgroup);
  const groups = threads / matrices.subgroup;
  const bytes = matrices.component === "f16" ? 2 : 4;
  const results = 4 * groups * matrices.rows * matrices.columns;
  let best: MatrixTiling | undefined, least = Infinity;
  for (const groupRows of powersTo(groups)) {
    for (const down of powersTo(patch / matrices.rows)) {
      for (const across of powersTo(patch / matrices.columns)) {
        const tiling = { threads, groupRows, groupColumns: groups / groupRows, down, across };
        const { tileRows, tileColumns } = tileOf(tiling, matrices);
        const room = (workgroupBytes - results) / bytes / (tileRows + tileColumns + 2 * padding);
        const depth = matrices.over * Math.floor(Math.min(deepest, room) / matrices.over);
        if (depth === 0) continue;
        const tiles = size(of.batch) * Math.ceil(rows / tileRows) *
          Math.ceil(columns / tileColumns);
        const computed = Math.max(tiles, fewGroups) * tileRows * tileColumns;
        const cost = computed * (1 + perElement / tileRows + perElement / tileColumns +
          perLoad / (down * matrices.rows) + perLoad / (across * matrices.columns));
        if (cost < least) [best, least] = [{ ...tiling, depth }, cost];
      }
    }
  }
  if (best === undefined) {
    throw new RangeError(`matrices of ${matrices.rows} x ${matrices.columns} do not fit a device`);
  }
  return best;
};

/** A contraction by subgroup matrices; `target` says of which kind. */
export const printMatrices = (
  kernel: ExpressionKernel,
  of: Contraction,
  emit: Emitter,
  stored: ReadonlyMap<Node, Storage>,
  target: Target,
): Body => {
  const matrices = target.matrices!;
  const { spelling, component } = matrices;
  const tiling = matrixTiling(of, matrices);
  const { threads, groupRows, groupColumns, down, across, depth } = tiling;
  const rows = size(of.rows), columns = size(of.columns), over = size(of.over);
  const { tileRows, tileColumns } = tileOf(tiling, matrices);
  const lines = (list: readonly string[]) => list.forEach(emit.line);
  const grid = Array.from(
    { length: down * across },
    (_, n) => [Math.floor(n / across), n % across] as const,
  );

  emit.line("let lane = i32(local);");
  lines(spelling.begin);
  if (groupRows > 1) {
    emit.line(`let sub_row = i32(subgroup) / ${groupColumns} * ${down * matrices.rows};`);
  }
  if (groupColumns > 1) {
    emit.line(`let sub_column = i32(subgroup) % ${groupColumns} * ${across * matrices.columns};`);
  }
  const placed = placeTile(of, tileRows, tileColumns, emit);
  for (const [i, j] of grid) emit.line(spelling.zeros(`acc${i}_${j}`));

  const { left, right } = stagesOf(of, stored, {
    tileRows,
    tileColumns,
    padding,
    depth,
    halves: component === "f16",
    threads,
  });
  // The tiles that a subgroup's matrices are loaded from.
  const all = (groups: number, count: number, one: number) => named("m", groups * count * one);
  mustBeInTile(left, named("k", depth), all(groupRows, down, matrices.rows));
  mustBeInTile(right, named("k", depth), all(groupColumns, across, matrices.columns));
  const place = (k: number, stride: number, origin: string, offset: number): string =>
    [...(origin === "" ? [] : [origin]), `${k * stride + offset}`].join(" + ");
  const steps = Math.ceil(over / depth);
  emit.block(`for (var k0 = 0; k0 < ${over}; k0 += ${depth})`, ["k0"], steps, () => {
    stage(left, placed.outer, emit);
    stage(right, placed.outer, emit);
    emit.line("workgroupBarrier();");
    for (let k = 0; k < depth; k += matrices.over) {
      for (let i = 0; i < down; i++) {
        const at = place(k, left.stride, groupRows > 1 ? "sub_row" : "", i * matrices.rows);
        emit.line(spelling.load(`x${k}_${i}`, "left", { ...left, at }));
      }
      for (let j = 0; j < across; j++) {
        const own = groupColumns > 1 ? "sub_column" : "";
        const at = place(k, right.stride, own, j * matrices.columns);
        emit.line(spelling.load(`y${k}_${j}`, "right", { ...right, at }));
      }
      for (const [i, j] of grid) {
        emit.line(spelling.multiplyAdd(`acc${i}_${j}`, `x${k}_${i}`, `y${k}_${j}`));
      }
    }
    emit.line("workgroupBarrier();");
  });

  // Every subgroup stores one matrix per round.
  const one = matrices.rows * matrices.columns, groups = groupRows * groupColumns;
  emit.block(`for (var turn = 0; turn < ${grid.length}; turn++)`, ["turn"], grid.length, () => {
    emit.block("switch (turn)", [], 1, () => {
      grid.forEach(([i, j], n) => {
        const header = n + 1 < grid.length ? `case ${n}:` : "default:";
        emit.block(header, [], 1, () => {
          const to = { area: "results", at: `subgroup * ${one}`, stride: matrices.columns };
          emit.line(spelling.store(`acc${i}_${j}`, to));
        });
      });
    });
    emit.line("workgroupBarrier();");
    const share = groups * one / threads;
    emit.block(`for (var e = lane; e < ${groups * one}; e += ${threads})`, ["e"], share, () => {
      const shift = (unit: number, sub: string, turn: string, within: string) =>
        `(${sub} + ${turn}) * ${unit} + ${within}`;
      const rowOf = shift(
        matrices.rows,
        `e / ${one} / ${groupColumns} * ${down}`,
        `turn / ${across}`,
        `e % ${one} / ${matrices.columns}`,
      );
      const columnOf = shift(
        matrices.columns,
        `e / ${one} % ${groupColumns} * ${across}`,
        `turn % ${across}`,
        `e % ${matrices.columns}`,
      );
      emit.line(`let r = row0 + ${rowOf};`);
      emit.line(`let c = column0 + ${columnOf};`);
      emit.block(`if (r < ${rows} && c < ${columns})`, ["r", "c"], 1, () => {
        const env = new Map([
          ...placed.outer,
          ...emit.unflatten(named("r", rows, ["r"]), of.rows),
          ...emit.unflatten(named("c", columns, ["c"]), of.columns),
        ]);
        const level = emit.depth();
        emit.override(of.node, () => ({ text: "results[e]", level }));
        storeRoots(emit, kernel, env, () => true);
      });
    });
    emit.line("workgroupBarrier();");
  });
  return {
    emit,
    workgroup: threads,
    areas: [
      areaOf(left),
      areaOf(right),
      { name: "results", type: "f32", length: groups * one },
    ],
    grid: placed.grid,
    flops: 2 * size(of.batch) * rows * columns * over,
    enables: spelling.enables,
    builtins: spelling.builtins,
  };
};
