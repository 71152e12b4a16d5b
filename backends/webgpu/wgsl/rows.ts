// WGSL for kernels that evaluate expressions over a space: maps (one invocation per element) and
// rows (one invocation, subgroup or workgroup per row); contractions have a file of their own.
import { rowStages } from "../../codegen/row_stages.ts";
import type { Node } from "../../../dsl/node.ts";
import { descend } from "../../../dsl/walk.ts";
import * as affine from "../../codegen/index_math.ts";
import { type ExpressionKernel, size, type Storage } from "../../lower/kernel_ir.ts";
import { readsAlong, storeRoots } from "./access.ts";
import type { Binder } from "./bindings.ts";
import { printContraction } from "./contraction.ts";
import { type Emitter, emitter, type Env, literal } from "./emit.ts";
import { type Area, type Body, fold } from "./module.ts";
import { manyRows, rowKey, rowSchedule } from "../schedules.ts";
import { type Target, threads } from "../target.ts";

/** Prints a map, row or contraction kernel. */
export const printExpression = (
  kernel: ExpressionKernel,
  stored: ReadonlyMap<Node, Storage>,
  target: Target,
  bound?: Binder,
): Body => {
  // A root that another storage holds as well is only copied from there.
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
  if (kernel.shape === "map") return printElements(kernel, emit, threads, turnsOf(kernel, target));
  const isRead = (node: Node) => stored.has(node) && !here.has(node);
  const along = readsAlong(kernel.reductions[0].args[0], kernel.over, stored);
  const { by, threads: count } = rowSchedule(kernel, along, target);
  const body = by === "subgroup"
    ? printRowSubgroups(kernel, emit, target.subgroup!, operationsOf(kernel, isRead))
    : by === "workgroup"
    ? printRowGroups(kernel, emit, count)
    : printElements(kernel, emit, count);
  return { ...body, tuned: rowKey(kernel) };
};

const startOf = (reduction: Node): string =>
  reduction.attributes.how === "add" ? "0.0" : literal(-Infinity, "f32");
const joined = (emit: Emitter, reduction: Node, a: string, b: string): string =>
  reduction.attributes.how === "add" ? `${a} + ${b}` : emit.larger(a, b);

const isFull = (kernel: ExpressionKernel) => (node: Node): boolean =>
  kernel.over.length > 0 && kernel.over.every((dim) => dim.axis in node.axes);

/** Elements that an invocation of a map computes in sequence, where launching one is expensive. */
const turnsOf = ({ space }: ExpressionKernel, { onCpu }: Target): number =>
  onCpu && size(space) >= manyElements ? elementsInTurn : 1;
const elementsInTurn = 16, manyElements = 2 ** 14;

/**
 * One invocation for each element of the space, or for `turns` of them, a workgroup's size apart.
 */
const printElements = (
  kernel: ExpressionKernel,
  emit: Emitter,
  threads: number,
  turns = 1,
): Body => {
  const count = size(kernel.space);
  const { x, y } = fold(Math.ceil(count / (threads * turns)));
  const group = `(i32(group.x) + i32(group.y) * ${x})`;
  const printed = (from: string, depends: readonly string[]) => {
    emit.line(`let flat = ${from} * ${threads} + i32(local);`);
    emit.line(`if (flat >= ${count}) { return; }`);
    const atom = { text: "flat", low: 0, high: count - 1, depends };
    printElement(kernel, emit, { constant: 0, terms: [{ atom, times: 1 }] });
  };
  if (turns === 1) printed(group, []);
  else {
    emit.block(
      `for (var turn = 0; turn < ${turns}; turn++)`,
      ["turn"],
      turns,
      () => printed(`(${group} * ${turns} + turn)`, ["turn"]),
    );
  }
  return {
    emit,
    workgroup: threads,
    areas: [],
    grid: [x, y, 1],
    flops: emit.flops() * count / turns,
  };
};

/** The element at a place in the space; row reductions are loops inside it. */
const printElement = (kernel: ExpressionKernel, emit: Emitter, flat: affine.IndexExpr): void => {
  const env = emit.unflatten(flat, kernel.space);
  const full = isFull(kernel);
  const over = size(kernel.over);
  for (const stage of rowStages(kernel)) {
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
        emit.line(`${sums[k]} = ${joined(emit, reduction, sums[k], value)};`);
      });
    });
    stage.forEach((reduction, k) => emit.override(reduction, () => ({ text: sums[k], level: 0 })));
  }
  storeRoots(emit, kernel, env, (node) => !full(node));
  if (kernel.roots.some((root) => full(root.node))) {
    const r = emit.fresh("k");
    emit.block(`for (var ${r} = 0; ${r} < ${over}; ${r}++)`, [r], over, () => {
      const inner = new Map([...env, ...emit.unflatten(affine.variable(r, over), kernel.over)]);
      storeRoots(emit, kernel, inner, full);
    });
  }
};

/** Rows of at most so many elements per lane and operations in all are printed without loops. */
const unrolled = 32, unrolledOperations = 640;

/** Operations of a row kernel per element; infinite if that takes loops of its own. */
const operationsOf = (kernel: ExpressionKernel, isRead: (node: Node) => boolean): number => {
  const seen = new Set<Node>();
  const starts = [
    ...kernel.reductions.map((node) => node.args[0]),
    ...kernel.roots.map(({ node }) => node),
  ];
  descend(starts, (node) => {
    const varies = kernel.over.some(({ axis }) => axis in node.axes);
    if (!varies || isRead(node) || kernel.reductions.includes(node)) return [];
    seen.add(node);
    return node.args;
  });
  return [...seen].some((node) => node.op === "reduce") ? Infinity : seen.size;
};

/**
 * Rows that a subgroup computes in sequence if there are many, with their shared values read once.
 */
const rowsInTurn = 4;

/** Rows by subgroups: lanes read neighbouring elements and share the reductions. */
const printRowSubgroups = (
  kernel: ExpressionKernel,
  emit: Emitter,
  subgroup: number,
  operations: number,
): Body => {
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
    // Beyond the last row, the last one is computed again and not stored: control flow stays
    // uniform.
    emit.line(`let row = ${isExact ? own : `min(${own}, ${count - 1})`};`);
    const row: affine.IndexExpr = count === 1 ? affine.int(0) : {
      constant: 0,
      terms: [{ atom: { text: "row", low: 0, high: count - 1, depends, varies: true }, times: 1 }],
    };
    const env = emit.unflatten(row, kernel.space);
    const loop = (inside: (env: Env) => void) => {
      const at = (position: affine.IndexExpr) =>
        new Map([...env, ...emit.unflatten(position, kernel.over)]);
      // A short row is unrolled: elements read for one sum are reused for the next.
      const lane: affine.IndexExpr = {
        constant: 0,
        terms: [{
          atom: { text: "lane", low: 0, high: subgroup - 1, depends: [], varies: true },
          times: 1,
        }],
      };
      const each = over / subgroup;
      const isShort = each <= unrolled && each * operations <= unrolledOperations;
      if (Number.isInteger(each) && isShort) {
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
    for (const stage of rowStages(kernel)) {
      const sums = stage.map((reduction) => {
        const name = emit.fresh("s");
        emit.line(`var ${name} = ${startOf(reduction)};`);
        return name;
      });
      loop((inner) => {
        stage.forEach((reduction, k) => {
          const value = emit.emit(reduction.args[0], inner).text;
          emit.line(`${sums[k]} = ${joined(emit, reduction, sums[k], value)};`);
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
        () => storeRoots(emit, kernel, env, (node) => !full(node)),
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
const printRowGroups = (kernel: ExpressionKernel, emit: Emitter, threads: number): Body => {
  const count = size(kernel.space);
  const over = size(kernel.over);
  const { x, y } = fold(count);
  const row: affine.IndexExpr = count === 1 ? affine.int(0) : {
    constant: 0,
    terms: [{ atom: { text: "row", low: 0, high: count - 1, depends: [] }, times: 1 }],
  };
  emit.line(`let row = i32(group.x) + i32(group.y) * ${x};`);
  emit.line("let lane = i32(local);");
  // Workgroups beyond the last row compute it again, so that barriers stay uniform; they store
  // nothing.
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
  for (const stage of rowStages(kernel)) {
    const sums = stage.map((reduction) => {
      const name = emit.fresh("s");
      emit.line(`var ${name} = ${startOf(reduction)};`);
      return name;
    });
    loop((inner) => {
      stage.forEach((reduction, k) => {
        const value = emit.emit(reduction.args[0], inner).text;
        emit.line(`${sums[k]} = ${joined(emit, reduction, sums[k], value)};`);
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
          emit.line(
            `${area}[lane] = ${joined(emit, reduction, `${area}[lane]`, `${area}[lane + h]`)};`,
          );
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
      () => storeRoots(emit, kernel, env, (node) => !full(node)),
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
