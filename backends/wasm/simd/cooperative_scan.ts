// Scans whose steps mix their carries: each unit of work is one position of the independent axes,
// and all kept values are arrays in scratch memory. Values are computed in phases, each in loops
// whose vectors lie along the best of the held axes.
import type { Node } from "../../../dsl/node.ts";
import { locals, roles } from "../../../dsl/scan.ts";
import type * as affine from "../../codegen/index_math.ts";
import { type Dim, type ScanKernel, size, type Storage } from "../../lower/kernel_ir.ts";
import { type Kept, scheduleStep } from "../../lower/scans/cooperative.ts";
import type { Value } from "../assembler/builder.ts";
import { emitter } from "./emit.ts";
import type { Emitter, Env } from "./emitter.ts";
import type { Engine } from "../engine.ts";
import { acrossLanes, sumsAtOnce } from "./horizontal_reduce.ts";
import { type Launch, launchOf } from "./launch.ts";
import { vectorLoop } from "./vector_axis.ts";
import { bindLocals, onlyOnce, stepsOf, timeOf } from "./scan_values.ts";

/** A value that a phase computes at every position of some axes, and what is done with it. */
interface Item {
  readonly of: Node;
  readonly phase: number;
  readonly dims: readonly Dim[];
  readonly run: (env: Env, value: Value) => void;
}

/** Prints the kernel of a scan whose steps mix their carries. */
export const printTogether = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  engine: Engine,
): Launch => {
  const { scan, parallel, perLane, roots, checkpoints } = kernel;
  const { axis, step, carries: names } = scan.attributes;
  const steps = stepsOf(scan);
  const outs = roots.filter((root) => root.kind === "out")
    .map((root) => ({ of: step!.out[root.name], to: root.storage }));
  const { kept, phaseOf, doubleBuffered } = scheduleStep(
    scan,
    outs.map(({ of: node }) => node),
    perLane,
    1,
  );
  const heldOf = (node: Node): readonly Dim[] => perLane.filter((dim) => dim.axis in node.axes);

  const cells = new Map<Storage, number>();
  let scratch = 0;
  const cell = (node: Node, dims: readonly Dim[]): Storage => {
    const made: Storage = { id: -1 - cells.size, dtype: node.dtype, dims, role: "temporary" };
    cells.set(made, scratch);
    scratch += Math.ceil(4 * size(dims) / 16) * 16;
    return made;
  };
  const { from } = roles(scan);
  const carries = Object.fromEntries(
    names!.map((name) => [name, cell(from[name], heldOf(from[name]))] as const),
  );
  // The new value of a carry that is still read while it is written; a scalar needs no second
  // place.
  const apart = new Set(
    names!.filter((name) => doubleBuffered.has(name) || size(carries[name].dims) === 1),
  );
  const nexts = Object.fromEntries(
    names!.map((name) => [
      name,
      apart.has(name) ? cell(from[name], heldOf(from[name])) : carries[name],
    ]),
  );
  const cellOf = new Map([...kept].map(([node, { dims }]) => [node, cell(node, dims)] as const));
  const fresh = () => emitter(stored, engine, kernel.again, cells);

  /** Defines the leaves of a step at time `t`. */
  const prepare = (emit: Emitter, t: affine.IndexExpr) =>
    bindLocals(emit, locals(scan), scan, (name, env) => emit.load(carries[name], env), t);
  /** Makes a phase read the values kept in earlier ones from their places. */
  const readKept = (emit: Emitter, isThere: (one: Kept) => boolean) => {
    for (const one of kept.values()) {
      if (isThere(one)) emit.override(one.of, (env) => emit.load(cellOf.get(one.of)!, env));
    }
  };

  const probe = (
    all: readonly Dim[],
    phase: number,
    body: (emit: Emitter, env: Env) => void,
  ): Dim | undefined =>
    vectorLoop(
      all.map((dim) => [dim]),
      [...parallel, ...all, { axis: axis!, size: steps }],
      fresh,
      (emit, env) => {
        prepare(emit, env.get(axis!)!);
        readKept(emit, (one) => one.phase < phase);
        body(emit, env);
      },
    )?.dims[0];

  const emit = fresh();
  const { make } = emit;

  /** Runs `inside` for all positions of some axes, in vectors along one of them. */
  const nest = (
    dims: readonly Dim[],
    along: Dim | undefined,
    env: Env,
    inside: (envs: readonly Env[]) => void,
    unroll = 1,
  ): void => {
    const [first, ...rest] = dims.filter((dim) => dim !== along);
    if (first !== undefined) {
      emit.loop(first.size, (at) => {
        const others = along === undefined ? rest : [...rest, along];
        nest(others, along, new Map([...env, [first.axis, at]]), inside, unroll);
      });
    } else if (along === undefined) inside([env]);
    else {
      emit.vectors(
        along.size,
        (ats) => inside(ats.map((at) => new Map([...env, [along.axis, at]]))),
        undefined,
        unroll,
      );
    }
  };

  /** Computes some sums over the same axes in one loop. */
  const addUp = (sums: readonly Kept[], env: Env): void => {
    const [{ dims, over, phase }] = sums;
    const along = probe([...dims, ...over], phase, (emit, env) => {
      sums.forEach(({ of: node }) => emit.emit(node.args[0], env));
    });
    const startOf = ({ of: node }: Kept) =>
      make.splat(node.attributes.how === "add" ? 0 : -Infinity);
    if (along !== undefined && !over.includes(along)) {
      nest(dims, along, env, (ats) => {
        const totals = ats.map(() => sums.map((sum) => make.variable("v128", startOf(sum))));
        nest(over, undefined, new Map(), ([inner]) => {
          ats.forEach((at, n) =>
            sums.forEach((sum, k) => {
              const old = make.current(totals[n][k]);
              const here = new Map([...at, ...inner]);
              make.assign(totals[n][k], emit.joined(sum.of, old, here, false));
            })
          );
        });
        ats.forEach((at, n) =>
          sums.forEach(({ of: node }, k) =>
            emit.store(cellOf.get(node)!, at, make.current(totals[n][k]))
          )
        );
      }, Math.max(1, Math.floor(sumsAtOnce / sums.length)));
      return;
    }
    nest(dims, undefined, env, ([at]) => {
      const totals = sums.map((sum) => make.variable("v128", startOf(sum)));
      nest(over, along, at, ([inner]) => {
        sums.forEach((sum, k) => {
          const old = make.current(totals[k]);
          make.assign(totals[k], emit.joined(sum.of, old, inner, true));
        });
      });
      sums.forEach(({ of: node }, k) => {
        const total = make.current(totals[k]);
        emit.store(
          cellOf.get(node)!,
          at,
          along === undefined ? total : acrossLanes(emit, node, total),
        );
      });
    });
  };

  /** Computes some values over the same axes in one loop. */
  const computeAll = (items: readonly Item[], env: Env): void => {
    const [{ dims, phase }] = items;
    const along = probe(
      dims,
      phase,
      (emit, env) => items.forEach(({ of: node }) => emit.emit(node, env)),
    );
    nest(dims, along, env, ([at]) => {
      const values = items.map((item) => emit.emit(item.of, at));
      items.forEach((item, k) => item.run(at, values[k]));
    });
  };

  const copy = (from: Storage, to: Storage, env: Env) =>
    nest(from.dims, from.dims.at(-1), env, ([at]) => emit.store(to, at, emit.load(from, at)));

  const printStep = (start: Env, env: Env): void => {
    const store = (node: Node, to: Storage, at: Env, value: Value) =>
      onlyOnce(emit, parallel, start, node, () => emit.store(to, at, value));
    const items: Item[] = [
      ...[...kept.values()].filter(({ of: node }) => node.op !== "reduce").map((
        { of: node, dims, phase },
      ): Item => ({
        of: node,
        phase,
        dims,
        run: (at, value) => emit.store(cellOf.get(node)!, at, value),
      })),
      ...outs.map(({ of: node, to }): Item => ({
        of: node,
        phase: phaseOf(node),
        dims: heldOf(node),
        run: (at, value) => store(node, to, at, value),
      })),
      ...names!.map((name): Item => ({
        of: step!.next[name],
        phase: phaseOf(step!.next[name]),
        dims: carries[name].dims,
        run: (at, value) => emit.store(nexts[name], at, value),
      })),
    ];
    const sums = [...kept.values()].filter(({ of: node }) => node.op === "reduce");
    const last = Math.max(0, ...items.map((item) => item.phase));
    const keyOf = (dims: readonly Dim[]) => dims.map((dim) => dim.axis).join();
    for (let phase = 0; phase <= last; phase++) {
      const now = sums.filter((sum) => sum.phase === phase);
      const alike = Map.groupBy(now, ({ dims, over }) => `${keyOf(dims)} ${keyOf(over)}`);
      for (const list of alike.values()) addUp(list, env);
      const nests = Map.groupBy(
        items.filter((item) => item.phase === phase),
        (item) => keyOf(item.dims),
      );
      for (const list of nests.values()) computeAll(list, env);
      readKept(emit, (one) => one.phase === phase);
    }
    for (const name of apart) copy(nexts[name], carries[name], env);
  };

  const units = size(parallel);
  emit.units(units, (unit) => {
    const start = emit.unflatten(unit, parallel);
    for (const name of names!) {
      const { dims } = carries[name];
      nest(dims, dims.at(-1), start, ([at]) => {
        emit.store(carries[name], at, emit.emit(from[name], at));
      });
    }
    emit.loop(steps, (s) => {
      const t = timeOf(s, scan);
      const env = new Map([...start, [axis!, t] as const]);
      prepare(emit, t);
      for (const [name, to] of Object.entries(checkpoints?.storage ?? {})) {
        onlyOnce(emit, parallel, start, from[name], () => {
          copy(carries[name], to, new Map([...env, [to.dims[0].axis, t]]));
        });
      }
      printStep(start, env);
    });
    for (const root of roots) {
      if (root.kind !== "final") continue;
      onlyOnce(
        emit,
        parallel,
        start,
        from[root.name],
        () => copy(carries[root.name], root.storage, start),
      );
    }
  });
  return launchOf(emit, units, scratch);
};
