// WGSL for the kernels that evaluate expressions over a space: maps (one invocation an element),
// rows (one invocation or one workgroup a row) and tiled contractions.
import type { Node } from "../../dsl/node.ts";
import * as affine from "../lower/affine.ts";
import {
  type Contraction,
  type Dim,
  type ExpressionKernel,
  size,
  type Storage,
} from "../lower/program.ts";
import type { Binder } from "./bindings.ts";
import { type Emitter, emitter, type Env, literal, rounded } from "./emit.ts";
import { type Area, type Body, fold, gridLimit } from "./module.ts";

/** Threads of a workgroup that maps and rows run in. */
const threads = 64;
/** Up from this many rows there is enough to do with one invocation a row. */
const manyRows = 1024;

/** What the code is printed for. */
export interface Target {
  /** The driver runs shaders on a CPU: barriers are dear there, and memory is cached. */
  readonly onCpu: boolean;
  /** Products of more bytes that are only summed up again are not stored. */
  readonly storedLimit?: number;
  /** The size of all subgroups, where each runs on a CPU's vector, consecutive invocations in one. */
  readonly subgroup?: number;
  /** Values between kernels of at least so many elements are stored as f16. */
  readonly halvesFrom?: number;
}

/** Prints a map, row or contraction kernel. */
export const printExpression = (
  kernel: ExpressionKernel,
  stored: ReadonlyMap<Node, Storage>,
  target: Target,
  bound?: Binder,
): Body => {
  // A root that is stored elsewhere as well is only copied from there.
  const computed = kernel.roots.filter((root) => stored.get(root.node) === root.storage);
  const here = new Set([
    ...computed.map((root) => root.node),
    ...kernel.reductions,
    ...kernel.again,
  ]);
  const emit = emitter(stored, here, bound);
  if (kernel.shape === "contraction") {
    return printContraction(kernel, kernel.contraction!, emit, stored, target);
  }
  const rows = size(kernel.space);
  if (kernel.shape === "row") {
    const over = size(kernel.over), { subgroup } = target;
    const along = readsAlong(kernel.reductions[0].args[0], kernel.over, stored);
    if (subgroup !== undefined && along && over >= 4 * subgroup) {
      return printRowSubgroups(kernel, emit, subgroup);
    }
    if (rows < manyRows && over >= 32) return printRowGroups(kernel, emit);
  }
  return printElements(kernel, emit);
};

/** Emits the values of some roots, then their stores: a store may overwrite what another root reads. */
const storeRoots = (
  emit: Emitter,
  kernel: ExpressionKernel,
  env: Env,
  which: (of: Node) => boolean,
) => {
  const roots = kernel.roots.filter((root) => which(root.node));
  const values = roots.map((root) => emit.emit(root.node, env).text);
  roots.forEach((root, k) => emit.store(root.storage, env, values[k]));
};

/** The stages of row reductions: each needs only those of earlier stages. */
const stages = (kernel: ExpressionKernel): readonly (readonly Node[])[] => {
  const stage = new Map<Node, number>();
  const memo = new Map<Node, number>();
  const below = (of: Node): number => {
    const known = stage.get(of) ?? memo.get(of);
    if (known !== undefined) return known;
    const value = Math.max(0, ...of.args.map(below));
    memo.set(of, value);
    return value;
  };
  const lists: Node[][] = [];
  for (const reduction of kernel.reductions) {
    const at = below(reduction.args[0]);
    stage.set(reduction, at + 1);
    (lists[at] ??= []).push(reduction);
  }
  return lists.filter((list) => list !== undefined);
};

const startOf = (reduction: Node): string =>
  reduction.attributes.how === "add" ? "0.0" : literal(-Infinity, "f32");
const joined = (reduction: Node, a: string, b: string): string =>
  reduction.attributes.how === "add" ? `${a} + ${b}` : `max(${a}, ${b})`;

const isFull = (kernel: ExpressionKernel) => (of: Node): boolean =>
  kernel.over.length > 0 && kernel.over.every((dim) => dim.axis in of.axes);

/** One invocation an element of the space; row reductions are loops inside it. */
const printElements = (kernel: ExpressionKernel, emit: Emitter): Body => {
  const count = size(kernel.space);
  const { x, y } = fold(Math.ceil(count / threads));
  const flat: affine.Int = {
    constant: 0,
    terms: [{ atom: { text: "flat", low: 0, high: count - 1, depends: [] }, times: 1 }],
  };
  emit.line(`let flat = (i32(group.x) + i32(group.y) * ${x}) * ${threads} + i32(local);`);
  emit.line(`if (flat >= ${count}) { return; }`);
  const env = emit.unflatten(flat, kernel.space);
  const full = isFull(kernel);
  const over = size(kernel.over);
  for (const stage of stages(kernel)) {
    const sums = stage.map((reduction) => {
      const name = emit.fresh("s");
      emit.line(`var ${name} = ${startOf(reduction)};`);
      return name;
    });
    const r = emit.fresh("k");
    emit.block(`for (var ${r} = 0; ${r} < ${over}; ${r}++)`, [r], over, () => {
      const inner = new Map([...env, ...emit.unflatten(affine.variable(r, over), kernel.over)]);
      stage.forEach((reduction, k) => {
        const value = emit.emit(reduction.args[0], inner).text;
        emit.line(`${sums[k]} = ${joined(reduction, sums[k], value)};`);
      });
    });
    stage.forEach((reduction, k) => emit.override(reduction, () => ({ text: sums[k], level: 0 })));
  }
  storeRoots(emit, kernel, env, (of) => !full(of));
  if (kernel.roots.some((root) => full(root.node))) {
    const r = emit.fresh("k");
    emit.block(`for (var ${r} = 0; ${r} < ${over}; ${r}++)`, [r], over, () => {
      const inner = new Map([...env, ...emit.unflatten(affine.variable(r, over), kernel.over)]);
      storeRoots(emit, kernel, inner, full);
    });
  }
  return {
    emit,
    workgroup: threads,
    areas: [],
    grid: [x, y, 1],
    flops: emit.flops() * count,
  };
};

/** Rows of so many elements a lane are printed without loops. */
const unrolled = 32;

/** Rows that a subgroup does one after the other where there are many, with what they share read once. */
const rowsInTurn = 4;

/** Subgroups do rows: lanes read neighbouring elements and share the reductions. */
const printRowSubgroups = (kernel: ExpressionKernel, emit: Emitter, subgroup: number): Body => {
  const count = size(kernel.space), over = size(kernel.over);
  const turns = count >= manyRows ? rowsInTurn : 1, rows = threads / subgroup * turns;
  const { x, y } = fold(Math.ceil(count / rows));
  const isExact = x * y * rows === count;
  emit.line("let lane = i32(sg);");
  emit.line(
    `let first = ((i32(group.x) + i32(group.y) * ${x}) * ${
      threads / subgroup
    } + i32(local) / ${subgroup}) * ${turns};`,
  );
  const full = isFull(kernel);
  const printRow = (own: string, depends: readonly string[]) => {
    // Beyond the last row its work is done again and not stored: control flow stays uniform.
    emit.line(`let row = ${isExact ? own : `min(${own}, ${count - 1})`};`);
    const row: affine.Int = count === 1 ? affine.int(0) : {
      constant: 0,
      terms: [{ atom: { text: "row", low: 0, high: count - 1, depends, varies: true }, times: 1 }],
    };
    const env = emit.unflatten(row, kernel.space);
    const loop = (inside: (env: Env) => void) => {
      const at = (position: affine.Int) =>
        new Map([...env, ...emit.unflatten(position, kernel.over)]);
      // A short row is printed element after element: what is read for one sum is there for the next.
      const lane: affine.Int = {
        constant: 0,
        terms: [{
          atom: { text: "lane", low: 0, high: subgroup - 1, depends: [], varies: true },
          times: 1,
        }],
      };
      const each = over / subgroup;
      if (Number.isInteger(each) && each <= unrolled) {
        for (let k = 0; k < each; k++) inside(at(affine.sum(lane, affine.int(k * subgroup))));
        return;
      }
      const r = emit.fresh("k");
      const header = `for (var ${r} = lane; ${r} < ${over}; ${r} += ${subgroup})`;
      emit.block(
        header,
        [r],
        Math.ceil(over / subgroup),
        () => inside(at(affine.variable(r, over))),
      );
    };
    for (const stage of stages(kernel)) {
      const sums = stage.map((reduction) => {
        const name = emit.fresh("s");
        emit.line(`var ${name} = ${startOf(reduction)};`);
        return name;
      });
      loop((inner) => {
        stage.forEach((reduction, k) => {
          const value = emit.emit(reduction.args[0], inner).text;
          emit.line(`${sums[k]} = ${joined(reduction, sums[k], value)};`);
        });
      });
      stage.forEach((reduction, k) => {
        const name = emit.fresh("s");
        const how = reduction.attributes.how === "add" ? "add" : "max";
        emit.line(`let ${name} = ${emit.acrossSubgroup(how, sums[k])};`);
        const level = emit.depth();
        emit.override(reduction, () => ({ text: name, level }));
      });
    }
    const guarded = (condition: string, inside: () => void) =>
      condition === "" ? inside() : emit.block(`if (${condition})`, [], 1, inside);
    const exists = isExact ? "" : `${own} < ${count}`;
    if (kernel.roots.some((root) => !full(root.node))) {
      guarded(
        ["lane == 0", exists].filter((text) => text !== "").join(" && "),
        () => storeRoots(emit, kernel, env, (of) => !full(of)),
      );
    }
    if (kernel.roots.some((root) => full(root.node))) {
      guarded(exists, () => loop((inner) => storeRoots(emit, kernel, inner, full)));
    }
  };
  if (turns === 1) printRow("first", []);
  else {
    emit.block(
      `for (var turn = 0; turn < ${turns}; turn++)`,
      ["turn"],
      turns,
      () => printRow("(first + turn)", ["turn"]),
    );
  }
  return {
    emit,
    workgroup: threads,
    areas: [],
    grid: [x, y, 1],
    flops: emit.flops() * x * y * threads,
  };
};

/** One workgroup a row: its invocations share the reductions. */
const printRowGroups = (kernel: ExpressionKernel, emit: Emitter): Body => {
  const count = size(kernel.space);
  const over = size(kernel.over);
  const { x, y } = fold(count);
  const row: affine.Int = count === 1 ? affine.int(0) : {
    constant: 0,
    terms: [{ atom: { text: "row", low: 0, high: count - 1, depends: [] }, times: 1 }],
  };
  emit.line(`let row = i32(group.x) + i32(group.y) * ${x};`);
  emit.line("let lane = i32(local);");
  // Workgroups beyond the last row do its work again, so that barriers stay uniform; they store nothing.
  if (x * y > count) emit.line(`if (row >= ${count}) { return; }`);
  const env = emit.unflatten(row, kernel.space);
  const full = isFull(kernel);
  const shared = new Map<string, Area>();
  const loop = (inside: (env: Env) => void) => {
    const r = emit.fresh("k");
    emit.block(
      `for (var ${r} = lane; ${r} < ${over}; ${r} += ${threads})`,
      [r],
      Math.ceil(over / threads),
      () => inside(new Map([...env, ...emit.unflatten(affine.variable(r, over), kernel.over)])),
    );
  };
  for (const stage of stages(kernel)) {
    const sums = stage.map((reduction) => {
      const name = emit.fresh("s");
      emit.line(`var ${name} = ${startOf(reduction)};`);
      return name;
    });
    loop((inner) => {
      stage.forEach((reduction, k) => {
        const value = emit.emit(reduction.args[0], inner).text;
        emit.line(`${sums[k]} = ${joined(reduction, sums[k], value)};`);
      });
    });
    const areas = stage.map((_, k) => `t${k}`);
    areas.forEach((area) => {
      shared.set(area, { name: area, type: "f32", length: threads });
    });
    areas.forEach((area, k) => emit.line(`${area}[lane] = ${sums[k]};`));
    emit.line("workgroupBarrier();");
    emit.block(`for (var h = ${threads / 2}; h > 0; h = h / 2)`, ["h"], Math.log2(threads), () => {
      emit.block("if (lane < h)", [], 1, () => {
        stage.forEach((reduction, k) => {
          const area = areas[k];
          emit.line(`${area}[lane] = ${joined(reduction, `${area}[lane]`, `${area}[lane + h]`)};`);
        });
      });
      emit.line("workgroupBarrier();");
    });
    stage.forEach((reduction, k) => {
      const name = emit.fresh("s");
      emit.line(`let ${name} = ${areas[k]}[0];`);
      emit.override(reduction, () => ({ text: name, level: 0 }));
    });
    emit.line("workgroupBarrier();");
  }
  if (kernel.roots.some((root) => !full(root.node))) {
    emit.block(
      "if (lane == 0)",
      [],
      1 / threads,
      () => storeRoots(emit, kernel, env, (of) => !full(of)),
    );
  }
  if (kernel.roots.some((root) => full(root.node))) {
    loop((inner) => storeRoots(emit, kernel, inner, full));
  }
  return {
    emit,
    workgroup: threads,
    areas: [...shared.values()],
    grid: [x, y, 1],
    flops: emit.flops() * count * threads,
  };
};

/** Invocations of a workgroup along the rows of a product's tile; those along the columns fill it. */
const sideOf = (rows: number, columns: number): number => rows <= 4 ? 4 : columns <= 4 ? 16 : 8;
/** Positions of the summed axes that are in workgroup memory at a time. */
const depth = 16;

/** How many results an invocation accumulates along an axis: more share what is read of the other. */
const resultsOf = (extent: number, side: number): number =>
  extent > 4 * side ? 8 : extent > 2 * side ? 4 : extent > side ? 2 : 1;

/** True when the fastest axis of what a node mostly reads is one of `over`. */
const readsAlong = (
  of: Node,
  over: readonly Dim[],
  stored: ReadonlyMap<Node, Storage>,
): boolean => {
  let x = of;
  while (!stored.has(x) && x.args.length > 0) {
    if (x.op === "index") {
      // The summed axis may go by another name below a movement; follow the fastest one up.
      const inner = x.args[0];
      const fastest = fastestOf(inner, stored);
      const place = fastest === undefined ? undefined : x.attributes.places![fastest];
      const names = place?.terms.filter((term) => Math.abs(term.times) === 1).map((term) =>
        term.axis
      );
      return names?.some((name) => over.some((dim) => dim.axis === name)) ?? false;
    }
    x = [...x.args].sort((a, b) => Object.keys(b.axes).length - Object.keys(a.axes).length)[0];
  }
  const fastest = fastestOf(x, stored);
  return over.some((dim) => dim.axis === fastest);
};

const fastestOf = (of: Node, stored: ReadonlyMap<Node, Storage>): string | undefined =>
  stored.get(of)?.dims.at(-1)?.axis ?? Object.keys(of.axes).at(-1);

/** A tiled product: tiles of both operands in workgroup memory, a small tile a thread in registers. */
const printContraction = (
  kernel: ExpressionKernel,
  of: Contraction,
  emit: Emitter,
  stored: ReadonlyMap<Node, Storage>,
  target: Target,
): Body => {
  const rows = size(of.rows), columns = size(of.columns), over = size(of.over);
  const batch = size(of.batch);
  const count = threads;
  const sideRows = sideOf(rows, columns), sideColumns = count / sideRows;
  // Each invocation accumulates a grid of results in registers, interleaved with its neighbours'.
  const down = Array.from({ length: resultsOf(rows, sideRows) }, (_, i) => i);
  const across = Array.from({ length: resultsOf(columns, sideColumns) }, (_, j) => j);
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
  /** Sums straight from where the operands are: a CPU's caches do what workgroup memory is for. */
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

  if (target.onCpu) sumDirectly();
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
  const shared = target.onCpu ? [] : [
    { name: "left", type: halves ? "f16" : "f32", length: depth * tileRows },
    { name: "right", type: halves ? "f16" : "f32", length: depth * tileColumns },
  ];
  return {
    emit,
    workgroup: count,
    areas: shared,
    grid: [groupsX * batchX, groupsY * batchY, 1],
    flops: 2 * batch * rows * columns * over,
  };
};
