// Prints one step of a scan by lanes: its reductions, next carries and outputs, in loops over the
// held axes, each in the earliest possible phase.
import { type Node, topologicalOrder } from "../../../dsl/node.ts";
import type * as affine from "../../codegen/index_math.ts";
import { isKeptInStep, phasesOf, verifyPhases } from "../../lower/scans/phases.ts";
import type { Dim, ScanRoot } from "../../lower/kernel_ir.ts";
import type { Value } from "../assembler/builder.ts";
import type { Emitter, Env } from "./emitter.ts";
import { atOnce, type Engine } from "../engine.ts";
import { acrossLanes, joinVectors } from "./horizontal_reduce.ts";
import type { Keeper, Kept, Scratch } from "./scan_scratch.ts";
import { readsOf } from "../../lower/graph/queries.ts";
import { onlyOnce } from "./scan_values.ts";

/** A value that a step computes. */
interface Item {
  readonly of: Node;
  /** Its phase: reductions that it needs are in earlier ones. */
  readonly phase: number;
  /** The held axes of its value. */
  readonly nest: readonly Dim[];
  /** The computed values, if not `of` alone. */
  readonly value?: (env: Env) => Value;
  /** A sum to which all vectors are added in sequence. */
  readonly sum?: {
    readonly reduction: Node;
    /** A place in scratch memory for two vectors. */
    readonly pair: number;
    readonly add: (sum: Value, env: Env) => Value;
  };
  readonly run: (env: Env, value: Value) => void;
}

/** An output of a step. */
export interface Out {
  readonly of: Node;
  readonly root: ScanRoot;
}

/** The context in which all steps of a scan are printed. */
export interface StepPrinter {
  readonly emit: Emitter;
  readonly engine: Engine;
  readonly scratch: Scratch;
  readonly keeper: Keeper;
  /** The axis of time. */
  readonly axis: string;
  readonly space: readonly Dim[];
  /** The held axes of a value. */
  readonly heldOf: (node: Node) => readonly Dim[];
  /** The scratch memory of outputs that are summed across lanes, and the index of each. */
  readonly sums: ReadonlyMap<Out, number>;
  readonly placeOf: (node: Node, env: Env) => affine.IndexExpr;
  readonly countOf: (node: Node) => number;
}

/** The values that one step computes. */
export interface Step {
  readonly next: Readonly<Record<string, Node>>;
  /** The leaves that stand for the carries. */
  readonly leaves: Readonly<Record<string, Node>>;
  readonly carries: Readonly<Record<string, Kept>>;
  readonly outs: readonly Out[];
  /** The places of next carries, if not those of the carries. */
  readonly places?: Readonly<Record<string, Kept>>;
  /** Further kept values. */
  readonly more?: readonly Kept[];
}

const key = (nest: readonly Dim[]): string => nest.map((dim) => dim.axis).join();

/**
 * Computes values at environments and uses those of adjacent vectors together, in descending order,
 * which lets V8 fuse two stores into a 256-bit one.
 */
export const inTurn = <T>(
  engine: Engine,
  envs: readonly Env[],
  value: (env: Env, k: number) => T,
  put: (envs: readonly Env[], values: readonly T[]) => void,
): void => {
  for (let k = 0; k < envs.length; k += atOnce(engine)) {
    const some = envs.slice(k, k + atOnce(engine));
    const values = some.map((env, n) => value(env, k + n));
    put(some.toReversed(), values.reverse());
  }
};

/** The same with one value for each environment. */
export const oneByOne = (
  engine: Engine,
  envs: readonly Env[],
  value: (env: Env) => Value,
  put: (env: Env, value: Value) => void,
): void =>
  inTurn(engine, envs, value, (some, values) => some.forEach((env, k) => put(env, values[k])));

/** Runs `inside` for every position of some held axes. */
export const over = (
  emit: Emitter,
  nest: readonly Dim[],
  envs: readonly Env[],
  inside: (envs: readonly Env[]) => void,
): void => {
  if (nest.length === 0) return inside(envs);
  const [{ axis, size }, ...rest] = nest;
  emit.loop(size, (at) => {
    over(emit, rest, envs.map((env) => new Map([...env, [axis, at]])), inside);
  });
};

/** Prints one step for some vectors of lanes in parallel. */
export const printStep = (printer: StepPrinter, step: Step, envs: readonly Env[]): void => {
  const { emit, engine, scratch, axis, space, heldOf, sums, placeOf } = printer;
  const { make } = emit;
  const { declare, read, write } = printer.keeper;
  const { next, leaves, carries, outs, places, more = [] } = step;
  const inner = topologicalOrder([...Object.values(next), ...outs.map(({ of: node }) => node)]);
  if (inner.some((node) => node.op === "scan")) {
    throw new Error(`a scan inside the step of a scan over '${axis}' has no kernel yet`);
  }
  const inStep = new Set(inner.filter(isKeptInStep));
  const isKept = (node: Node) => inStep.has(node);
  const phases = phasesOf(topologicalOrder([...inner, ...more.map(({ node }) => node)]), isKept);
  const items: Item[] = [];
  for (const node of inStep) {
    const kept = declare(node);
    if (node.op === "materialise") {
      items.push({
        of: node.args[0],
        phase: phases.of(node),
        nest: kept.dims,
        value: (at) => emit.inOrder(node.args[0], at),
        run: (at, value) => write(kept, at, value),
      });
      emit.override(node, (at) => read(kept, at));
      continue;
    }
    const isSum = node.attributes.how === "add";
    const begin = make.splat(isSum ? 0 : -Infinity);
    over(emit, kept.dims, envs, (ats) => ats.forEach((at) => write(kept, at, begin)));
    items.push({
      of: node.args[0],
      phase: phases.of(node),
      nest: heldOf(node.args[0]),
      value: (at) => emit.joined(node, read(kept, at), at, false),
      run: (at, value) => write(kept, at, value),
    });
    emit.override(node, (at) => read(kept, at));
  }
  for (const out of outs) {
    const { of: node, root } = out, { partial, storage } = root;
    const summed = partial?.reduction.args[0] ?? node;
    const once = (at: Env, put: () => void) => onlyOnce(emit, space, at, summed, put);
    const item = { of: node, phase: phases.reading(node), nest: heldOf(node) };
    const total = sums.get(out);
    if (total === undefined) {
      items.push({
        ...item,
        run: (at, value) => once(at, () => emit.store(storage, at, value)),
      });
      continue;
    }
    items.push({
      ...item,
      sum: {
        reduction: root.partial!.reduction,
        pair: scratch.take(2),
        // Inactive lanes are left out.
        add: (sum, at) => emit.counted(emit.plus(sum, node, at), sum),
      },
      run: (at, value) =>
        once(at, () => {
          const sum = acrossLanes(emit, root.partial!.reduction, value);
          const address = scratch.address(placeOf(node, at), 4, printer.countOf(node));
          const before = make.loadUnhoisted("v128.load32_zero", address, total);
          make.store("v128.store32_lane", address, total, make.op("f32x4.add", before, sum));
        }),
    });
  }
  for (const kept of more) {
    items.push({
      of: kept.node,
      phase: phases.reading(kept.node),
      nest: kept.dims,
      run: (at, value) => write(kept, at, value),
    });
  }
  const commits: (() => void)[] = [];
  const nexts = Object.entries(next).map(([name, node]) => ({
    name,
    of: node,
    phase: phases.reading(node),
    nest: carries[name].dims,
  }));
  for (const { name, of: node, phase, nest } of nexts) {
    const kept = carries[name];
    // A carry is replaced at once if its old value has no later reader.
    const isAtOnce = [...items, ...nexts].every((item) => {
      const reads = readsOf(item.of, leaves[name], isKeptInStep);
      return reads === "no" || item.phase < phase ||
        (item.phase === phase && reads === "own" && key(item.nest) === key(nest));
    });
    const place = places?.[name] ??
      (isAtOnce || kept.variables !== undefined ? kept : declare(node));
    items.push({
      of: node,
      phase,
      nest,
      run: (at, value) => {
        if (place.variables !== undefined) commits.push(() => write(place, at, value));
        else write(place, at, value);
      },
    });
    if (place !== kept && places === undefined) {
      commits.push(() => {
        over(emit, kept.dims, envs, (ats) => {
          oneByOne(engine, ats, (at) => read(place, at), (at, value) => write(kept, at, value));
        });
      });
    }
  }
  verifyPhases(items, phases, isKept);
  const last = Math.max(0, ...items.map((item) => item.phase));
  for (let phase = 0; phase <= last; phase++) {
    const nests = Map.groupBy(
      items.filter((item) => item.phase === phase),
      (item) => key(item.nest),
    );
    for (const group of nests.values()) {
      over(emit, group[0].nest, envs, (ats) => {
        // Two accumulators of each, so that adjacent vectors are added in parallel.
        const zeros = [make.splat(0), make.splat(0)].slice(0, ats.length);
        const running = new Map(
          group.filter((item) => item.sum !== undefined).map((item) => [item, [...zeros]]),
        );
        const valueOf = (item: Item, at: Env, k: number): Value => {
          const sums = running.get(item);
          if (sums === undefined) return item.value?.(at) ?? emit.emit(item.of, at);
          return sums[k % sums.length] = item.sum!.add(sums[k % sums.length], at);
        };
        inTurn(
          engine,
          ats,
          (at, k) => group.map((item) => valueOf(item, at, k)),
          (some, values) => {
            group.forEach((item, k) => {
              if (!running.has(item)) some.forEach((at, n) => item.run(at, values[n][k]));
            });
          },
        );
        running.forEach((sums, item) => {
          const { reduction, pair } = item.sum!;
          item.run(ats[0], joinVectors(emit, reduction, sums, engine.wide ? pair : undefined));
        });
      });
    }
  }
  commits.forEach((commit) => commit());
  inStep.forEach((node) => emit.override(node, undefined));
};
