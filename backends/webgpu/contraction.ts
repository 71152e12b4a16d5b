// WGSL for contractions: each workgroup computes a tile of the result, each invocation a small grid of
// it in registers, and what is done point-wise to the operands and to the result is done in passing.
import type { Node } from "../../dsl/node.ts";
import * as affine from "../lower/affine.ts";
import {
  type Contraction,
  type Dim,
  type ExpressionKernel,
  size,
  type Storage,
} from "../lower/program.ts";
import { readsAlong, storeRoots } from "./access.ts";
import { type Emitter, type Env, rounded } from "./emit.ts";
import { type Body, fold, gridLimit } from "./module.ts";
import { productKey, productSchedule, type Target, threads } from "./schedule.ts";

/** A tiled product: tiles of both operands in workgroup memory, a small tile a thread in registers. */
export const printContraction = (
  kernel: ExpressionKernel,
  of: Contraction,
  emit: Emitter,
  stored: ReadonlyMap<Node, Storage>,
  target: Target,
): Body => {
  const rows = size(of.rows), columns = size(of.columns), over = size(of.over);
  const batch = size(of.batch);
  const count = threads;
  const schedule = productSchedule(of, target);
  const { depth } = schedule;
  const sideRows = schedule.side, sideColumns = count / sideRows;
  // Each invocation accumulates a grid of results in registers, interleaved with its neighbours'.
  const down = Array.from({ length: schedule.down }, (_, i) => i);
  const across = Array.from({ length: schedule.across }, (_, j) => j);
  const tileRows = sideRows * down.length, tileColumns = sideColumns * across.length;
  const groupsX = Math.ceil(columns / tileColumns), groupsY = Math.ceil(rows / tileRows);
  const { x: batchX, y: batchY } = fold(batch);
  if (groupsX * batchX > gridLimit || groupsY * batchY > gridLimit) {
    throw new Error(
      `a product of ${batch} x ${rows} x ${columns} needs more workgroups than a dispatch has`,
    );
  }
  emit.line("let lane = i32(local);");
  emit.line(`let tx = lane % ${sideColumns};`);
  emit.line(`let ty = lane / ${sideColumns};`);
  emit.line(`let column0 = (i32(group.x) % ${groupsX}) * ${tileColumns};`);
  emit.line(`let row0 = (i32(group.y) % ${groupsY}) * ${tileRows};`);
  emit.line(`let item = i32(group.x) / ${groupsX} + (i32(group.y) / ${groupsY}) * ${batchX};`);
  if (batchX * batchY > batch) emit.line(`if (item >= ${batch}) { return; }`);
  const named = (text: string, extent: number, depends: readonly string[] = []): affine.Int =>
    extent === 1 ? affine.int(0) : {
      constant: 0,
      terms: [{ atom: { text, low: 0, high: extent - 1, depends }, times: 1 }],
    };
  const outer = emit.unflatten(named("item", batch), of.batch);
  for (const i of down) for (const j of across) emit.line(`var acc${i}_${j} = 0.0;`);
  // Products of halves are exact in f32, in which they are summed.
  const halves = target.halvesFrom !== undefined;
  const tileAt = (text: string) => halves ? `f32(${text})` : text;

  const fill = (
    which: "left" | "right",
    tile: number,
    extent: number,
    dims: readonly Dim[],
    origin: string,
    k0: string,
    alongK: boolean,
  ) => {
    const operand = which === "left" ? of.left : of.right;
    const e = emit.fresh("e");
    const total = tile * depth;
    emit.block(
      `for (var ${e} = lane; ${e} < ${total}; ${e} += ${count})`,
      [e],
      total / count,
      () => {
        const m = emit.fresh("m"), k = emit.fresh("k");
        emit.line(`let ${m} = ${alongK ? `${e} / ${depth}` : `${e} % ${tile}`};`);
        emit.line(`let ${k} = ${alongK ? `${e} % ${depth}` : `${e} / ${tile}`};`);
        const mm = emit.fresh("m"), kk = emit.fresh("k");
        // Positions beyond the edge read the last one, and count as zero.
        emit.line(`let ${mm} = min(${origin} + ${m}, ${extent - 1});`);
        emit.line(`let ${kk} = min(${k0} + ${k}, ${over - 1});`);
        const env = new Map([
          ...outer,
          ...emit.unflatten(named(mm, extent, [e]), dims),
          ...emit.unflatten(named(kk, over, [e]), of.over),
        ]);
        const value = emit.emit(operand, env).text;
        const inside = [
          ...(extent % tile === 0 ? [] : [`${origin} + ${m} < ${extent}`]),
          ...(over % depth === 0 ? [] : [`${k0} + ${k} < ${over}`]),
        ].join(" && ");
        const term = inside === "" ? value : `select(0.0, ${value}, ${inside})`;
        emit.line(`${which}[${k} * ${tile} + ${m}] = ${halves ? rounded(term) : term};`);
      },
    );
  };
  /** Sums straight from where the operands are. */
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
        // Positions beyond the edge work on the last one and are not stored.
        emit.line(`let ${at} = min(${origin} + ${i * side} + ${own}, ${extent - 1});`);
        return emit.unflatten(named(at, extent), dims);
      });
    };
    // The lanes of a subgroup have the same row of threads and read rows in turn, one for each other.
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

  /** Sums from tiles of both operands in workgroup memory. */
  const sumByTiles = () => {
    const leftAlong = readsAlong(of.left, of.over, stored);
    const rightAlong = readsAlong(of.right, of.over, stored);
    const steps = Math.ceil(over / depth);
    emit.block(`for (var k0 = 0; k0 < ${over}; k0 += ${depth})`, ["k0"], steps, () => {
      fill("left", tileRows, rows, of.rows, "row0", "k0", leftAlong);
      fill("right", tileColumns, columns, of.columns, "column0", "k0", rightAlong);
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
  const shared = schedule.from === "memory" ? [] : [
    { name: "left", type: halves ? "f16" : "f32", length: depth * tileRows },
    { name: "right", type: halves ? "f16" : "f32", length: depth * tileColumns },
  ];
  return {
    emit,
    workgroup: count,
    areas: shared,
    grid: [groupsX * batchX, groupsY * batchY, 1],
    flops: 2 * batch * rows * columns * over,
    tuned: productKey(of, target),
  };
};
