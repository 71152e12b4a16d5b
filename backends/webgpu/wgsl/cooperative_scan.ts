// WGSL for cooperative scans: one workgroup for each position of the independent axes, time a loop
// inside it. Carries, sums and values with several readers are in workgroup memory; the lanes share
// the positions of each, and a barrier ends each phase of the step.
import { sizeOf } from "../../../dsl/axes.ts";
import type { Node } from "../../../dsl/node.ts";
import { locals, roles } from "../../../dsl/scan.ts";
import * as affine from "../../codegen/index_math.ts";
import { type Dim, type ScanKernel, size, type Storage } from "../../lower/kernel_ir.ts";
import { type Kept, scheduleStep } from "../../lower/scans/cooperative.ts";
import { computed, elementOf, emitter, type Env, literal } from "./emit.ts";
import type { Binder } from "./bindings.ts";
import { type Area, type Body, fold } from "./module.ts";
import { atMost, below, bindLocals, named, position, timeOf } from "./scan_values.ts";

/** A value that a phase computes at every position of some axes, and what is done with it. */
interface Item {
  readonly of: Node;
  readonly phase: number;
  readonly dims: readonly Dim[];
  readonly run: (env: Env, value: string) => void;
}

/** Where a value is: a variable of every lane, or a shared array. */
interface Cell {
  readonly name: string;
  readonly dims: readonly Dim[];
  readonly shared: boolean;
  readonly length: number;
}

const element = (cell: Cell, env: Env, offset = affine.int(0)): string =>
  cell.shared
    ? elementOf(cell.name, affine.sum(position(cell.dims, env), offset), cell.length)
    : cell.name;

/** A sum and the place of the lanes' partial sums. */
interface Sum {
  readonly sum: Kept;
  readonly to: Cell;
}

/** The axis of lanes that share a sum. */
const partAxis = "part of a sum";

/** The positions of a kept value, times the lanes that share each if it is a sum. */
const withParts = ({ dims, parts, partsFirst }: Kept): readonly Dim[] => {
  if (parts === 1) return dims;
  const part: Dim = { axis: partAxis, size: parts };
  return partsFirst ? [...dims, part] : [part, ...dims];
};

/** Prints the kernel of a cooperative scan. */
export const printTogether = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  bound: Binder | undefined,
): Body => {
  const { scan, parallel, perLane, workgroupSize, roots, checkpoints } = kernel;
  const emit = emitter(stored, kernel.again, bound);
  const { axis, reverse, step, carries: names } = scan.attributes;
  const steps = sizeOf(scan.args[names!.length].axes, axis!);
  const outs = roots.filter((root) => root.kind === "out")
    .map((root) => ({ of: step!.out[root.name], to: root.storage }));
  const { kept, phaseOf, doubleBuffered } = scheduleStep(
    scan,
    outs.map(({ of: node }) => node),
    perLane,
    workgroupSize,
  );
  const areas: Area[] = [];
  const heldOf = (node: Node): readonly Dim[] => perLane.filter((dim) => dim.axis in node.axes);

  const groups = fold(size(parallel));
  emit.line("let lane = i32(local);");
  emit.line(`let item = i32(group.x) + i32(group.y) * ${groups.x};`);
  if (groups.x * groups.y > size(parallel)) emit.line(`if (item >= ${size(parallel)}) { return; }`);
  const start: Env = emit.unflatten(named("item", size(parallel), []), parallel);

  /** Runs `inside` for every position of some axes, each in one lane; in all lanes for a scalar. */
  const shareOut = (
    dims: readonly Dim[],
    env: Env,
    inside: (env: Env, n: affine.IndexExpr) => void,
  ): void => {
    const count = size(dims);
    if (count === 1) {
      const zero = affine.int(0);
      inside(new Map([...env, ...dims.map((dim) => [dim.axis, zero] as const)]), zero);
      return;
    }
    const n = emit.fresh("n");
    const trips = count / workgroupSize;
    emit.block(
      `for (var ${n} = lane; ${n} < ${count}; ${n} += ${workgroupSize})`,
      [n],
      trips,
      () => {
        const at = affine.variable(n, count);
        inside(new Map([...env, ...emit.unflatten(at, dims)]), at);
      },
    );
  };
  /** Stores a value: without held axes from one lane, of several workgroups from one. */
  const store = (node: Node, to: Storage, env: Env, value: string): void => {
    const conditions = [
      ...(size(heldOf(node)) === 1 ? ["lane == 0"] : []),
      ...parallel.filter((dim) => !(dim.axis in node.axes) && dim.size > 1)
        .map((dim) => `${affine.show(start.get(dim.axis)!)} == 0`),
    ];
    const write = () => emit.store(to, env, value);
    if (conditions.length === 0) write();
    else emit.block(`if (${conditions.join(" && ")})`, [], 1, write);
  };
  /** A variable of each lane, or an array in workgroup memory. */
  const declare = (node: Node, prefix: string, dims: readonly Dim[], copies: number): Cell => {
    const name = emit.fresh(prefix);
    const type = computed[node.dtype];
    const count = size(dims) * copies;
    const shared = count > 1;
    if (shared) areas.push({ name, type, length: count });
    else emit.line(`var ${name}: ${type};`);
    return { name, dims, shared, length: count };
  };
  const { from } = roles(scan);
  const carries = Object.fromEntries(
    names!.map((name) =>
      [
        name,
        declare(from[name], "h", heldOf(from[name]), doubleBuffered.has(name) ? 2 : 1),
      ] as const
    ),
  );
  /** The offset of a carry in its array for this step, or with `next` for the step after it. */
  const side = (name: string, next = false): affine.IndexExpr => {
    if (!doubleBuffered.has(name)) return affine.int(0);
    const count = size(carries[name].dims);
    const odd = affine.times(named("odd", 2, ["s"]), next ? -count : count);
    return affine.sum(affine.int(next ? count : 0), odd);
  };

  for (const name of names!) {
    shareOut(carries[name].dims, start, (env) => {
      const value = emit.emit(from[name], env).text;
      emit.line(`${element(carries[name], env)} = ${value};`);
    });
  }
  if (areas.length > 0) emit.line("workgroupBarrier();");

  const saved = Object.entries(checkpoints?.storage ?? {});
  const saveCarries = () => {
    for (const [name, to] of saved) {
      shareOut(carries[name].dims, new Map([...start, [to.dims[0].axis, t]]), (env) => {
        store(from[name], to, env, reading(name, env));
      });
    }
  };

  /**
   * Runs `inside` for every term that a lane adds to some sums, with `before` and `after` for every
   * result that it contributes to. `own` counts the terms of the lane.
   */
  const forTerms = (
    sum: Kept,
    env: Env,
    before: (at: Env) => void,
    inside: (at: Env, own: affine.IndexExpr) => void,
    after: (at: Env) => void,
  ): void => {
    const { over, parts, partsFirst, constant } = sum;
    const dims = withParts(sum);
    const terms = size(over), each = Math.ceil(terms / parts);
    const rounds = Math.ceil(size(dims) / workgroupSize);
    const divides = terms % parts === 0;
    // Lanes that share a sum take neighbouring terms where those are neighbours in memory.
    const inTurn = !divides || (partsFirst && constant === undefined);
    shareOut(dims, env, (at, n) => {
      before(at);
      const first = at.get(partAxis) ?? affine.int(0);
      const round = rounds === 1 ? affine.int(0) : affine.quotient(n, workgroupSize);
      const term = (k: affine.IndexExpr) => {
        const [slow, fast] = inTurn ? [k, first] : [first, k];
        const q = affine.sum(affine.times(slow, inTurn ? parts : each), fast);
        const own = affine.sum(affine.times(round, each), k);
        const run = (q: affine.IndexExpr) =>
          inside(new Map([...at, ...emit.unflatten(q, over)]), own);
        if (divides) return run(below(q, terms));
        // Terms beyond the last are not added, but the last may be read in their place.
        const text = affine.show(q);
        const last = emit.index(atMost(q, terms - 1));
        emit.block(`if (${text} < ${terms})`, [], 1, () => run(last));
      };
      const k = emit.fresh("k");
      const header = `for (var ${k} = 0; ${k} < ${each}; ${k}++)`;
      emit.block(header, [k], each, () => term(affine.variable(k, each)));
      after(at);
    });
  };

  const t = timeOf(affine.variable("s", steps), steps, reverse!);
  const reading = (name: string, env: Env) => element(carries[name], env, side(name));
  bindLocals(emit, locals(scan), scan, reading, t);

  // Loop-invariant operands are read before the steps: every lane has its rows of a matrix.
  const rows = new Map<Node, (own: affine.IndexExpr) => string>();
  for (const sum of kept.values()) {
    if (sum.constant === undefined) continue;
    const row = emit.fresh("r");
    const length = Math.ceil(size(withParts(sum)) / workgroupSize) *
      Math.ceil(size(sum.over) / sum.parts);
    emit.line(`var ${row}: array<${computed[sum.constant.dtype]}, ${length}>;`);
    const element = (own: affine.IndexExpr) => elementOf(row, own, length);
    rows.set(sum.of, element);
    const nothing = () => {};
    forTerms(sum, start, nothing, (at, own) => {
      emit.line(`${element(own)} = ${emit.emit(sum.constant!, at).text};`);
    }, nothing);
  }

  /** True for a sum of products: one instruction a term. */
  const isProduct = ({ attributes, args: [body] }: Node) =>
    attributes.how === "add" && body.op === "mul" && !kept.has(body);

  /** Adds up each lane's terms of some sums over the same axes. */
  const addUp = (sums: readonly Sum[], env: Env): void => {
    const totals = sums.map(() => emit.fresh("s"));
    const before = () =>
      sums.forEach(({ sum }, k) => {
        const least = sum.of.attributes.how === "add" ? "0.0" : literal(-Infinity, "f32");
        emit.line(`var ${totals[k]} = ${least};`);
      });
    const inside = (at: Env, own: affine.IndexExpr) =>
      sums.forEach(({ sum: { of: node, constant } }, k) => {
        const total = totals[k];
        const [body] = node.args;
        const value = (x: Node) => x === constant ? rows.get(node)!(own) : emit.emit(x, at).text;
        if (node.attributes.how === "max") {
          emit.line(`${total} = ${emit.larger(total, value(body))};`);
        } else if (isProduct(node)) {
          const [a, b] = body.args.map(value);
          emit.line(`${total} = fma(${a}, ${b}, ${total});`);
        } else emit.line(`${total} += ${value(body)};`);
      });
    const after = (at: Env) =>
      sums.forEach(({ to }, k) => emit.line(`${element(to, at)} = ${totals[k]};`));
    forTerms(sums[0].sum, env, before, inside, after);
  };

  const printStep = (env: Env): void => {
    const items: Item[] = [];
    const sums = new Map<string, Sum[]>();
    const cells = new Map(
      [...kept.values()].map((one) => [one.of, declare(one.of, "w", withParts(one), 1)] as const),
    );
    for (const one of kept.values()) {
      const { of: node, dims, over, partsFirst, constant, phase } = one;
      const to = cells.get(node)!;
      if (node.op === "reduce") {
        const names = [dims, over].map((list) => list.map((dim) => dim.axis).join());
        const key = [phase, ...names, partsFirst, constant !== undefined].join(" ");
        sums.set(key, [...(sums.get(key) ?? []), { sum: one, to }]);
      } else {
        const run = (at: Env, value: string) => emit.line(`${element(to, at)} = ${value};`);
        items.push({ of: node, phase, dims, run });
      }
    }
    for (const { of: node, to } of outs) {
      items.push({
        of: node,
        phase: phaseOf(node),
        dims: heldOf(node),
        run: (at, value) => store(node, to, at, value),
      });
    }
    const commits: (() => void)[] = [];
    for (const name of names!) {
      const carry = carries[name];
      items.push({
        of: step!.next[name],
        phase: phaseOf(step!.next[name]),
        dims: carry.dims,
        run: (at, value) => {
          const write = () => emit.line(`${element(carry, at, side(name, true))} = ${value};`);
          // Variables of lanes are replaced once the old value has no more readers.
          if (size(carry.dims) === 1) commits.push(write);
          else write();
        },
      });
    }
    const last = Math.max(0, ...items.map((item) => item.phase));
    /** All later phases read kept values from their places. */
    const keep = ({ of: node, parts }: Kept) => {
      const cell = cells.get(node)!;
      emit.override(node, (at) => {
        const found = Array.from(
          { length: parts },
          (_, k) => element(cell, new Map([...at, [partAxis, affine.int(k)]])),
        );
        const name = emit.fresh("c");
        const isMax = node.attributes.how === "max";
        const value = isMax ? found.reduce(emit.larger) : found.join(" + ");
        emit.line(`let ${name} = ${value};`);
        return { text: name, level: emit.depth() };
      });
    };
    for (let phase = 0; phase <= last; phase++) {
      for (const list of sums.values()) if (list[0].sum.phase === phase) addUp(list, env);
      const nests = new Map<string, Item[]>();
      for (const item of items) {
        if (item.phase !== phase) continue;
        const key = item.dims.map((dim) => dim.axis).join();
        nests.set(key, [...(nests.get(key) ?? []), item]);
      }
      for (const nest of nests.values()) {
        shareOut(nest[0].dims, env, (at) => {
          const values = nest.map((item) => emit.emit(item.of, at).text);
          nest.forEach((item, k) => item.run(at, values[k]));
        });
      }
      if (areas.length > 0) emit.line("workgroupBarrier();");
      for (const one of kept.values()) if (one.phase === phase) keep(one);
    }
    commits.forEach((commit) => commit());
  };

  emit.block(`for (var s = 0; s < ${steps}; s++)`, ["s"], steps, () => {
    if (doubleBuffered.size > 0) emit.line("let odd = s & 1;");
    saveCarries();
    printStep(new Map([...start, [axis!, t]]));
  });
  const finals = roots.filter((root) => root.kind === "final");
  if (doubleBuffered.size > 0 && finals.length > 0) emit.line(`let odd = ${steps & 1};`);
  for (const root of finals) {
    const carry = carries[root.name];
    shareOut(carry.dims, start, (env) => {
      store(from[root.name], root.storage, env, element(carry, env, side(root.name)));
    });
  }
  // The terms of sums: a product and an addition, or an addition to what the body took.
  const terms = [...kept.values()].reduce((n, { of: node, dims, over }) => {
    if (node.op !== "reduce") return n;
    const each = isProduct(node) ? 2 : 1;
    return n + each * steps * size(dims) * size(over);
  }, 0);
  return {
    emit,
    workgroup: workgroupSize,
    areas,
    grid: [groups.x, groups.y, 1],
    flops: (emit.flops() * workgroupSize + terms) * size(parallel),
  };
};
