// WGSL for scans by lanes: a lane is an invocation, time is a loop inside it, and a lane's part of
// the carries is in its registers. Producers are printed into the step where they are read. A scan
// that runs backward over another one recomputes its carries, a segment at a time, from
// checkpoints.
import { sizeOf } from "../../../dsl/axes.ts";
import { type Node, topologicalOrder } from "../../../dsl/node.ts";
import { locals, roles } from "../../../dsl/scan.ts";
import * as affine from "../../codegen/index_math.ts";
import { outputOf, renewed } from "../../codegen/scan_analysis.ts";
import { isKeptInStep, phasesOf, verifyPhases } from "../../lower/scans/phases.ts";
import {
  type Dim,
  type ScanKernel,
  type ScanRoot,
  size,
  type Storage,
} from "../../lower/kernel_ir.ts";
import { computed, elementOf, emitter, type Env, literal } from "./emit.ts";
import type { Binder } from "./bindings.ts";
import type { Target } from "../target.ts";
import { type Area, type Body, fold } from "./module.ts";
import { below, bindLocals, type Kept, named, position, timeOf } from "./scan_values.ts";
import { printTogether } from "./cooperative_scan.ts";

/** A value that a step computes. */
interface Item {
  readonly of: Node;
  /** Its phase: reductions that it needs are in earlier ones. */
  readonly phase: number;
  /** The held axes that its value has. */
  readonly nest: readonly Dim[];
  readonly run: (env: Env, value: string) => void;
}

const element = (kept: Kept, env: Env): string =>
  kept.dims.length === 0
    ? kept.name
    : elementOf(kept.name, position(kept.dims, env), size(kept.dims));

/**
 * Held positions up to which loops over them are unrolled: a lane's carries are then in registers,
 * and values that do not change with time are read before the first step.
 */
const unrolled = 64;

/** Prints a scan kernel. */
export const printScan = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  bound?: Binder,
  target?: Target,
): Body =>
  kernel.cooperative
    ? printTogether(kernel, stored, bound)
    : printByLanes(kernel, stored, bound, target?.subgroup);

const printByLanes = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  bound: Binder | undefined,
  subgroup: number | undefined,
): Body => {
  const {
    scan,
    parallel,
    perLane,
    laneAxis,
    workgroupSize,
    roots,
    recomputes,
  } = kernel;
  const workgroup = laneAxis === undefined ? 1 : workgroupSize;
  // Where subgroups are not full, there are too few lanes to read what all of them need.
  const isFull = subgroup !== undefined && workgroup % subgroup === 0;
  const emit = emitter(stored, kernel.again, bound, isFull ? subgroup : undefined);
  const axis = scan.attributes.axis!;
  const steps = sizeOf(scan.args[scan.attributes.carries!.length].axes, axis);
  const others = parallel.filter((dim) => dim !== laneAxis);
  const groups = laneAxis === undefined ? 1 : Math.ceil(laneAxis.size / workgroupSize);
  const items = fold(size(others));

  emit.line("let lane = i32(local);");
  emit.line(`let item = i32(group.y) + i32(group.z) * ${items.x};`);
  if (items.x * items.y > size(others)) emit.line(`if (item >= ${size(others)}) { return; }`);
  const start = new Map<string, affine.IndexExpr>(
    emit.unflatten(named("item", size(others), []), others),
  );
  const edge = laneAxis === undefined || laneAxis.size % workgroupSize !== 0;
  if (laneAxis !== undefined) {
    emit.line(`let own = i32(group.x) * ${workgroupSize} + lane;`);
    // Lanes beyond the edge compute the last position and store nothing: barriers stay uniform.
    emit.line(`let at = min(own, ${laneAxis.size - 1});`);
    start.set(laneAxis.axis, named("at", laneAxis.size, [], true));
  }
  const active = laneAxis === undefined ? "lane == 0" : `own < ${laneAxis.size}`;

  const heldOf = (node: Node): readonly Dim[] => perLane.filter((dim) => dim.axis in node.axes);
  /** Runs `inside` for every position of some held axes. */
  const over = (nest: readonly Dim[], env: Env, inside: (env: Env) => void): void => {
    if (size(nest) === 1) {
      inside(new Map([...env, ...nest.map((dim) => [dim.axis, affine.int(0)] as const)]));
      return;
    }
    if (size(nest) <= unrolled) {
      for (let k = 0; k < size(nest); k++) {
        inside(new Map([...env, ...emit.unflatten(affine.int(k), nest)]));
      }
      return;
    }
    const i = emit.fresh("n");
    emit.block(`for (var ${i} = 0; ${i} < ${size(nest)}; ${i}++)`, [i], size(nest), () => {
      inside(new Map([...env, ...emit.unflatten(affine.variable(i, size(nest)), nest)]));
    });
  };
  const declare = (node: Node, prefix: string): Kept => {
    const dims = heldOf(node);
    const name = emit.fresh(prefix);
    const type = computed[node.dtype];
    emit.line(`var ${name}: ${dims.length === 0 ? type : `array<${type}, ${size(dims)}>`};`);
    return { name, dims, node: node };
  };
  /** Only the lane at position 0 of the axes that a value lacks stores it. */
  const once = (node: Node): string[] =>
    parallel.filter((dim) => !(dim.axis in node.axes) && dim.size > 1)
      .map((dim) => `${affine.show(start.get(dim.axis)!)} == 0`);

  const shared: Area[] = [];

  /** Prints one step: its reductions, next carries and outputs, in loops over the held axes. */
  const step = (
    next: Readonly<Record<string, Node>>,
    carries: Readonly<Record<string, Kept>>,
    outs: readonly { readonly of: Node; readonly root: ScanRoot }[],
    env: Env,
  ): void => {
    const level = emit.depth();
    const inner = topologicalOrder([...Object.values(next), ...outs.map(({ of: node }) => node)]);
    if (inner.some((node) => node.op === "scan")) {
      throw new Error(`a scan inside the step of a scan over '${axis}' has no kernel yet`);
    }
    const phases = phasesOf(inner);
    const phaseOf = phases.reading;
    const list: Item[] = [];
    for (const node of inner.filter(isKeptInStep)) {
      const kept = declare(node, "s");
      const reading = (at: Env) => ({
        text: element(kept, at),
        level: kept.dims.length === 0 ? level : emit.depth(),
      });
      if (node.op === "materialise") {
        list.push({
          of: node.args[0],
          phase: phases.of(node),
          nest: kept.dims,
          run: (at, value) => emit.line(`${element(kept, at)} = ${value};`),
        });
        emit.override(node, reading);
        continue;
      }
      const isSum = node.attributes.how === "add";
      const from = isSum ? "0.0" : literal(-Infinity, "f32");
      if (kept.dims.length === 0) emit.line(`${kept.name} = ${from};`);
      else over(kept.dims, new Map(), (at) => emit.line(`${element(kept, at)} = ${from};`));
      list.push({
        of: node.args[0],
        phase: phases.of(node),
        nest: heldOf(node.args[0]),
        run: (at, value) => {
          const sum = element(kept, at);
          emit.line(isSum ? `${sum} += ${value};` : `${sum} = ${emit.larger(sum, value)};`);
        },
      });
      emit.override(node, reading);
    }
    const pending: (() => void)[] = [];
    for (const { of: node, root } of outs) {
      const { partial, storage } = root;
      const across = (partial?.reduction.attributes.over ?? []).includes(laneAxis?.axis ?? "");
      if (partial !== undefined && across) {
        const area = `w${shared.length}`;
        const nest = heldOf(node);
        const length = size(nest) * workgroupSize;
        shared.push({ name: area, type: "f32", length });
        list.push({
          of: node,
          phase: phaseOf(node),
          nest,
          run: (at, value) => {
            const flat = affine.sum(
              affine.times(position(nest, at), workgroupSize),
              named("lane", workgroupSize, [], true),
            );
            emit.line(
              `${elementOf(area, flat, length)} = ${
                edge ? `select(0.0, ${value}, ${active})` : value
              };`,
            );
          },
        });
        pending.push(() => {
          const q = emit.fresh("q");
          emit.block(
            `for (var ${q} = lane; ${q} < ${size(nest)}; ${q} += ${workgroupSize})`,
            [q],
            1,
            () => {
              const sum = emit.fresh("s"), l = emit.fresh("l");
              emit.line(`var ${sum} = 0.0;`);
              emit.block(
                `for (var ${l} = 0; ${l} < ${workgroupSize}; ${l}++)`,
                [l],
                workgroupSize,
                () => {
                  emit.line(`${sum} += ${area}[${q} * ${workgroupSize} + ${l}];`);
                },
              );
              const at = new Map([
                ...env,
                ...emit.unflatten(named(q, size(nest), [q], true), nest),
                [partial.axis, named("i32(group.x)", groups, [])] as const,
              ]);
              emit.store(storage, at, sum);
            },
          );
        });
      } else {
        list.push({
          of: node,
          phase: phaseOf(node),
          nest: heldOf(node),
          run: (at, value) => {
            const conditions = [
              ...(edge ? [active] : []),
              ...once(partial?.reduction.args[0] ?? node),
            ];
            const write = () => emit.store(storage, at, value);
            if (conditions.length === 0) write();
            else emit.block(`if (${conditions.join(" && ")})`, [], 1, write);
          },
        });
      }
    }
    const commits: (() => void)[] = [];
    for (const [name, node] of Object.entries(next)) {
      const kept = carries[name];
      const plain = kept.dims.length === 0;
      const temporary = plain ? undefined : declare(node, "m");
      list.push({
        of: node,
        phase: phaseOf(node),
        nest: kept.dims,
        run: (at, value) => {
          if (temporary === undefined) commits.push(() => emit.line(`${kept.name} = ${value};`));
          else emit.line(`${element(temporary, at)} = ${value};`);
        },
      });
      if (temporary !== undefined) {
        commits.push(() => emit.line(`${kept.name} = ${temporary.name};`));
      }
    }
    verifyPhases(list, phases);
    const last = Math.max(0, ...list.map((item) => item.phase));
    for (let phase = 0; phase <= last; phase++) {
      const nests = new Map<string, Item[]>();
      for (const item of list) {
        if (item.phase !== phase) continue;
        const key = item.nest.map((dim) => dim.axis).join();
        nests.set(key, [...(nests.get(key) ?? []), item]);
      }
      for (const group of nests.values()) {
        over(group[0].nest, env, (at) => {
          const values = group.map((item) => emit.emit(item.of, at).text);
          group.forEach((item, k) => item.run(at, values[k]));
        });
      }
    }
    commits.forEach((commit) => commit());
    if (pending.length > 0) {
      emit.line("workgroupBarrier();");
      pending.forEach((run) => run());
      emit.line("workgroupBarrier();");
    }
  };

  const reading = (carries: Readonly<Record<string, Kept>>) => (name: string, env: Env) =>
    element(carries[name], env);

  /** Fills carries from expressions or from a storage. */
  const begin = (kept: Kept, read: (env: Env) => string) =>
    over(kept.dims, start, (env) => emit.line(`${element(kept, env)} = ${read(env)};`));

  const { from } = roles(scan);
  const carries = Object.fromEntries(
    Object.entries(from).map(([name, node]) => [name, declare(node, "h")]),
  );
  for (const [name, kept] of Object.entries(carries)) {
    begin(kept, (env) => emit.emit(from[name], env).text);
  }
  const own = locals(scan);
  const outs = roots.filter((root) => root.kind === "out")
    .map((root) => ({ root, of: outputOf(scan, root, perLane) }));

  const timeAt = (s: affine.IndexExpr, reverse: boolean) => timeOf(s, steps, reverse);
  /** Stores the carries that come into a step, or into a segment of steps. */
  const saveAt = (at: affine.IndexExpr) => {
    for (const [name, to] of Object.entries(kernel.checkpoints?.storage ?? {})) {
      const kept = carries[name];
      over(kept.dims, new Map([...start, [to.dims[0].axis, at]]), (env) => {
        const conditions = [...(edge ? [active] : []), ...once(kept.node)];
        const write = () => emit.store(to, env, element(kept, env));
        if (conditions.length === 0) write();
        else emit.block(`if (${conditions.join(" && ")})`, [], 1, write);
      });
    }
  };
  const saveCarries = (s: affine.IndexExpr) => {
    const { checkpoints } = kernel;
    if (checkpoints === undefined) return;
    const { every } = checkpoints;
    if (every === 1) return saveAt(timeAt(s, scan.attributes.reverse!));
    emit.block(`if (${affine.show(affine.remainder(s, every))} == 0)`, [], 1 / every, () => {
      saveAt(affine.quotient(s, every));
    });
  };

  if (recomputes === undefined) {
    emit.block(`for (var s = 0; s < ${steps}; s++)`, ["s"], steps, () => {
      const s = affine.variable("s", steps);
      const t = timeAt(s, scan.attributes.reverse!);
      bindLocals(emit, own, scan, reading(carries), t);
      saveCarries(s);
      step(scan.attributes.step!.next, carries, outs, new Map([...start, [axis, t]]));
    });
  } else {
    const source = recomputes.scan;
    const { every, storage } = recomputes.checkpoints;
    const names = source.attributes.carries!;
    const sourceFrom = roles(source).from;
    const again = renewed(source);
    const redone = Object.fromEntries(names.map((name) => [name, declare(sourceFrom[name], "f")]));
    const kept = Object.fromEntries(names.map((name) => {
      const dims = heldOf(sourceFrom[name]);
      const array = emit.fresh("p");
      emit.line(`var ${array}: array<${computed[sourceFrom[name].dtype]}, ${every * size(dims)}>;`);
      return [name, { array, dims, length: every * size(dims) }];
    }));
    const slot = (name: string, k: affine.IndexExpr, env: Env): string => {
      const { array, dims, length } = kept[name];
      const flat = affine.sum(affine.times(k, size(dims)), position(dims, env));
      return elementOf(array, flat, length);
    };
    const segments = Math.ceil(steps / every);
    emit.block(`for (var g = ${segments - 1}; g >= 0; g--)`, ["g"], segments, () => {
      const g = affine.variable("g", segments);
      const length = steps % every === 0
        ? `${every}`
        : `min(${every}, ${steps} - ${affine.show(g)} * ${every})`;
      emit.line(`let length = ${length};`);
      for (const name of names) {
        over(redone[name].dims, new Map([...start, [storage[name].dims[0].axis, g]]), (env) => {
          emit.line(`${element(redone[name], env)} = ${emit.load(storage[name], env).text};`);
        });
      }
      emit.block("for (var k = 0; k < length; k++)", ["k"], every, () => {
        const k = affine.variable("k", every);
        for (const name of names) {
          over(redone[name].dims, start, (env) => {
            emit.line(`${slot(name, k, env)} = ${element(redone[name], env)};`);
          });
        }
        emit.block("if (k + 1 < length)", [], 1, () => {
          const s = below(affine.sum(affine.times(g, every), k), steps);
          const t = timeAt(s, source.attributes.reverse!);
          bindLocals(emit, again.leaves, source, reading(redone), t);
          step(again.next, redone, [], new Map([...start, [axis, t]]));
        });
      });
      emit.block("for (var k = length - 1; k >= 0; k--)", ["k"], every, () => {
        const k = affine.variable("k", every);
        const s = below(affine.sum(affine.times(g, every), k), steps);
        const t = timeAt(s, source.attributes.reverse!);
        const { each } = roles(scan);
        const instead: Record<string, (env: Env) => string> = {};
        for (const [name, node] of Object.entries(each)) {
          if (node.op !== "part" || node.args[0] !== source) continue;
          const [kind, carry] = node.attributes.name!.split(/\.(.*)/s);
          if (kind === "prev") instead[name] = (env) => slot(carry, k, env);
        }
        bindLocals(emit, own, scan, reading(carries), t, instead);
        // These are never recomputed: a scan that recomputes is not run back over itself.
        saveAt(t);
        step(scan.attributes.step!.next, carries, outs, new Map([...start, [axis, t]]));
      });
    });
  }
  for (const root of roots) {
    if (root.kind !== "final") continue;
    const kept = carries[root.name];
    const conditions = [...(edge ? [active] : []), ...once(kept.node)];
    const write = () =>
      over(kept.dims, start, (env) => emit.store(root.storage, env, element(kept, env)));
    if (conditions.length === 0) write();
    else emit.block(`if (${conditions.join(" && ")})`, [], 1, write);
  }
  return {
    emit,
    workgroup,
    areas: shared,
    grid: [groups, items.x, items.y],
    flops: emit.flops() * size(parallel),
  };
};
