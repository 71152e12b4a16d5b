// WGSL for contractions: each workgroup computes a tile of the result, each invocation a small grid
// of it in registers. Point-wise producers of the operands and the epilogue are computed on the
// way.
import type { Node } from "../../../dsl/node.ts";
import * as affine from "../../codegen/index_math.ts";
import {
  type Contraction,
  type Dim,
  type ExpressionKernel,
  size,
  type Storage,
} from "../../lower/kernel_ir.ts";
import { storeRoots } from "./access.ts";
import type { Emitter, Env } from "./emit.ts";
import { printMatrices } from "./subgroup_contraction.ts";
import type { Body } from "./module.ts";
import { productKey, productSchedule } from "../schedules.ts";
import { type Target, threads } from "../target.ts";
import { areaOf, mustBeInTile, named, placeTile, stage, stagesOf } from "./tiles.ts";

/** A tiled product: tiles of both operands in workgroup memory, a small tile a thread in registers. */
export const printContraction = (
  kernel: ExpressionKernel,
  of: Contraction,
  emit: Emitter,
  stored: ReadonlyMap<Node, Storage>,
  target: Target,
): Body => {
  const rows = size(of.rows), columns = size(of.columns), over = size(of.over);
  const schedule = productSchedule(of, target);
  const tuned = productKey(of, target);
  if (schedule.from === "matrices") {
    return { ...printMatrices(kernel, of, emit, stored, target), tuned };
  }
  const { depth } = schedule;
  const sideRows = schedule.side, sideColumns = threads / sideRows;
  // Each invocation accumulates a grid of results in registers, interleaved with its neighbours'.
  const down = Array.from({ length: schedule.down }, (_, i) => i);
  const across = Array.from({ length: schedule.across }, (_, j) => j);
  const tileRows = sideRows * down.length, tileColumns = sideColumns * across.length;
  emit.line("let lane = i32(local);");
  emit.line(`let tx = lane % ${sideColumns};`);
  emit.line(`let ty = lane / ${sideColumns};`);
  const { grid, outer } = placeTile(of, tileRows, tileColumns, emit);
  for (const i of down) for (const j of across) emit.line(`var acc${i}_${j} = 0.0;`);
  // Products of f16 are exact in f32, in which they are summed.
  const halves = target.halvesFrom !== undefined;
  const tileAt = (text: string) => halves ? `f32(${text})` : text;

  /** Sums with operands read directly from their storages. */
  const sumDirectly = () => {
    const positions = (
      origin: string,
      count: number,
      side: number,
      own: string,
      dims: readonly Dim[],
    ) => {
      const extent = size(dims);
      return Array.from({ length: count }, (_, i) => {
        const at = emit.fresh("m");
        // Positions beyond the edge compute the last one and are not stored.
        emit.line(`let ${at} = min(${origin} + ${i * side} + ${own}, ${extent - 1});`);
        return emit.unflatten(named(at, extent), dims);
      });
    };
    // The lanes of a subgroup share a row of threads: each reads some rows for all of them.
    const { subgroup = 1 } = target;
    const inTurn = sideColumns % subgroup === 0 ? Math.min(subgroup, down.length) : 1;
    const turn = `i32(sg) % ${inTurn} * ${sideRows} + ty`;
    const atRows = inTurn === 1
      ? positions("row0", down.length, sideRows, "ty", of.rows)
      : positions("row0", down.length / inTurn, sideRows * inTurn, turn, of.rows);
    const atColumns = positions("column0", across.length, sideColumns, "tx", of.columns);
    emit.block(`for (var k = 0; k < ${over}; k++)`, ["k"], over, () => {
      const inner = emit.unflatten(affine.variable("k", over), of.over);
      const read = (operand: Node, env: Env) =>
        emit.emit(operand, new Map([...outer, ...env, ...inner])).text;
      const xs = atRows.map((env) => read(of.left, env)).flatMap((x) =>
        inTurn === 1 ? [x] : Array.from({ length: inTurn }, (_, lane) => {
          const shared = emit.fresh("x");
          emit.line(`let ${shared} = ${emit.broadcast(x, lane)};`);
          return shared;
        })
      );
      const ys = atColumns.map((env) => read(of.right, env));
      for (const i of down) {
        for (const j of across) emit.line(`acc${i}_${j} = fma(${xs[i]}, ${ys[j]}, acc${i}_${j});`);
      }
    });
  };

  const { left, right } = stagesOf(of, stored, {
    tileRows,
    tileColumns,
    padding: 0,
    depth,
    halves,
    threads,
  });
  /** Sums from tiles of both operands in workgroup memory. */
  const sumByTiles = () => {
    const own = (name: string, count: number, side: number) =>
      affine.sum(affine.times(named("i", count), side), named(name, side));
    mustBeInTile(left, named("k", depth), own("ty", down.length, sideRows));
    mustBeInTile(right, named("k", depth), own("tx", across.length, sideColumns));
    const steps = Math.ceil(over / depth);
    emit.block(`for (var k0 = 0; k0 < ${over}; k0 += ${depth})`, ["k0"], steps, () => {
      stage(left, outer, emit);
      stage(right, outer, emit);
      emit.line("workgroupBarrier();");
      emit.block(`for (var k = 0; k < ${depth}; k++)`, ["k"], depth, () => {
        for (const j of across) {
          emit.line(
            `let y${j} = ${tileAt(`right[k * ${tileColumns} + ${j * sideColumns} + tx]`)};`,
          );
        }
        for (const i of down) {
          emit.line(`let x${i} = ${tileAt(`left[k * ${tileRows} + ${i * sideRows} + ty]`)};`);
          for (const j of across) emit.line(`acc${i}_${j} = fma(x${i}, y${j}, acc${i}_${j});`);
        }
      });
      emit.line("workgroupBarrier();");
    });
  };

  if (schedule.from === "memory") sumDirectly();
  else sumByTiles();
  // The results move to an array only now, so that they stay in registers while they accumulate.
  const results = down.flatMap((i) => across.map((j) => `acc${i}_${j}`));
  emit.line(`var results = array<f32, ${results.length}>(${results.join(", ")});`);
  emit.block(`for (var i = 0; i < ${down.length}; i++)`, ["i"], down.length, () => {
    emit.line(`let r = row0 + i * ${sideRows} + ty;`);
    emit.block(`if (r < ${rows})`, ["r"], 1, () => {
      emit.block(`for (var j = 0; j < ${across.length}; j++)`, ["j"], across.length, () => {
        emit.line(`let c = column0 + j * ${sideColumns} + tx;`);
        emit.block(`if (c < ${columns})`, ["c"], 1, () => {
          const env = new Map([
            ...outer,
            ...emit.unflatten(named("r", rows, ["r"]), of.rows),
            ...emit.unflatten(named("c", columns, ["c"]), of.columns),
          ]);
          const level = emit.depth();
          emit.override(of.node, () => ({ text: `results[i * ${across.length} + j]`, level }));
          storeRoots(emit, kernel, env, () => true);
        });
      });
    });
  });
  const shared = schedule.from === "memory" ? [] : [areaOf(left), areaOf(right)];
  return {
    emit,
    workgroup: threads,
    areas: shared,
    grid,
    flops: 2 * size(of.batch) * rows * columns * over,
    tuned,
  };
};
