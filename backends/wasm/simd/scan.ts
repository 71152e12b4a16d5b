// Scans by lanes: four neighbouring positions of the space are the lanes of a vector, and a few
// vectors run in parallel; time is a loop inside, and values along held axes are in scratch memory,
// a vector for each position. Producers are printed into the step where they are read, or before a
// segment of steps if they are expensive and independent of the carries. A scan that runs backward
// over another one recomputes its carries, a segment at a time, from checkpoints.
import type { Node } from "../../../dsl/node.ts";
import { locals, roles } from "../../../dsl/scan.ts";
import * as affine from "../../codegen/index_math.ts";
import {
  type Dim,
  dims,
  type ScanKernel,
  type ScanRoot,
  size,
  type Storage,
} from "../../lower/kernel_ir.ts";
import type { Value } from "../assembler/builder.ts";
import { emitter } from "./emit.ts";
import type { Emitter, Env } from "./emitter.ts";
import type { Engine } from "../engine.ts";
import { sharedProducts, withoutFactors } from "../../lower/graph/factor_products.ts";
import { width as lanesOfVector } from "./lanes.ts";
import { type Launch, launchOf } from "./launch.ts";
import { vectorLoop } from "./vector_axis.ts";
import { keeper, type Kept, scratchOf } from "./scan_scratch.ts";
import { inTurn, oneByOne, type Out, over, printStep, type Step } from "./scan_step.ts";
import { bindLocals, onlyOnce, position, type Reader, stepsOf, timeOf } from "./scan_values.ts";
import {
  aheadIn,
  alike,
  type Around,
  outputOf,
  renewed,
  steadyIn,
  type Steps,
} from "../../codegen/scan_analysis.ts";
import { printTogether } from "./cooperative_scan.ts";

/** Lanes of a unit of work without sums across lanes: a cache line. */
const lanesOfUnit = 16;

/** Most values of one kind that are precomputed before the steps. */
const mostSteady = 512;
/** Most vectors of one value that are kept for the steps of a segment. */
const mostSlots = 1024;
/** Default steps of a segment. */
const stepsAhead = 16;

/** Prints a scan kernel. */
export const printScan = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  engine: Engine,
): Launch =>
  kernel.cooperative ? printTogether(kernel, stored, engine) : printByLanes(kernel, stored, engine);

/** The vector axis: that of partial sums, or the best for what the steps read. */
const vectorAxis = (
  kernel: ScanKernel,
  fresh: () => Emitter,
): Dim | undefined => {
  const { scan, parallel, perLane, laneAxis, roots } = kernel;
  const isAcross = roots.some((root) =>
    (root.partial?.reduction.attributes.over ?? []).includes(laneAxis?.axis ?? "")
  );
  if (isAcross) return laneAxis;
  const { each } = roles(scan);
  const read = Object.values(each).filter((node) =>
    node.op !== "part" || !node.attributes.name!.startsWith("prev.")
  );
  const all = new Map([...parallel, ...perLane].map((dim) => [dim.axis, dim]));
  for (const node of [scan.args[scan.attributes.carries!.length], ...read]) {
    for (const dim of dims(node.axes)) all.set(dim.axis, dim);
  }
  const loop = vectorLoop(
    parallel.map((dim) => [dim]),
    [...all.values()],
    fresh,
    (emit, env) => {
      read.forEach((node) => emit.emit(node, env));
      for (const root of roots) {
        if (root.kind === "out") emit.store(root.storage, env, emit.make.splat(0));
      }
    },
  );
  return loop?.dims[0];
};

/**
 * The number of vectors that run through time in parallel: they share lane-invariant values, and
 * use whole cache lines. It divides the number of vectors, so that code is printed once.
 */
const besideIn = (extent: number, piece: number): number =>
  [4, 2].find((count) => [extent, piece].every((one) => one % (count * lanesOfVector) === 0)) ?? 1;

const printByLanes = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  engine: Engine,
): Launch => {
  const {
    scan,
    parallel,
    perLane,
    laneAxis,
    workgroupSize,
    roots,
    recomputes,
  } = kernel;
  const fresh = () => emitter(stored, engine, kernel.again);
  const along = vectorAxis(kernel, fresh);
  const emit = fresh();
  const { make } = emit;
  const axis = scan.attributes.axis!;
  const steps = stepsOf(scan);
  const others = parallel.filter((dim) => dim !== along);
  const acrossOf = (root: ScanRoot) =>
    root.partial !== undefined && laneAxis !== undefined &&
    root.partial.reduction.attributes.over!.includes(laneAxis.axis);
  const isAcross = roots.some(acrossOf);
  const piece = along === undefined
    ? 1
    : isAcross
    ? workgroupSize
    : Math.min(lanesOfUnit, along.size);
  const pieces = along === undefined ? 1 : Math.ceil(along.size / piece);
  const units = size(others) * pieces;
  const beside = along === undefined ? 1 : besideIn(along.size, piece);

  const scratch = scratchOf(emit);
  const heldOf = (node: Node): readonly Dim[] => perLane.filter((dim) => dim.axis in node.axes);
  const { from } = roles(scan);
  const own = locals(scan);
  const outRoots = roots.filter((root) => root.kind === "out");
  const nextNames = Object.keys(scan.attributes.step!.next);
  const better = sharedProducts(
    withoutFactors([
      ...nextNames.map((name) => scan.attributes.step!.next[name]),
      ...outRoots.map((root) => outputOf(scan, root, perLane)),
    ]),
    (node) => heldOf(node).length > 0,
  );
  const next = Object.fromEntries(nextNames.map((name, k) => [name, better[k]]));
  const outs: readonly Out[] = outRoots.map((root, k) => ({
    root,
    of: better[nextNames.length + k],
  }));
  const countOf = (node: Node): number => steps * size(heldOf(node));
  // Sums across lanes, for all steps, over the lanes of a unit.
  const sums = new Map(
    outs.filter(({ root }) => acrossOf(root))
      .map((out) => [out, scratch.take(Math.ceil(steps * size(heldOf(out.of)) / 4))] as const),
  );
  const placeOf = (node: Node, env: Env): affine.IndexExpr =>
    affine.sum(
      affine.times(env.get(axis)!, size(heldOf(node))),
      position(heldOf(node), env),
    );

  /** Prints all steps for some vectors of lanes in parallel. */
  const printSteps = (starts: readonly Env[]): void => {
    const places = keeper(emit, scratch, perLane, along, starts.length);
    const { declare, read, readSteady, write, slot } = places;
    const printer = {
      ...{ emit, engine, scratch, keeper: places, axis, space: parallel, heldOf, sums },
      ...{ placeOf, countOf },
    };
    const put = (kept: Kept, node: Node) => (envs: readonly Env[]) =>
      oneByOne(
        engine,
        envs,
        (env) => emit.emit(node, env),
        (env, value) => write(kept, env, value),
      );
    const plus = (envs: readonly Env[], axis: string, at: affine.IndexExpr): readonly Env[] =>
      envs.map((env) => new Map([...env, [axis, at]]));
    const carries = Object.fromEntries(
      Object.entries(from).map(([name, node]) => [name, declare(node)]),
    );
    const ownStep: Step = { next, leaves: own.carry, carries, outs };
    for (const [name, kept] of Object.entries(carries)) {
      over(emit, kept.dims, starts, put(kept, from[name]));
    }
    const storeKept = (kept: Kept, to: Storage, envs: readonly Env[]) => {
      const isEverywhere = parallel.every(({ axis }) => axis in kept.node.axes);
      for (const some of isEverywhere ? [envs] : envs.map((env) => [env])) {
        onlyOnce(emit, parallel, some[0], kept.node, () => {
          over(emit, kept.dims, some, (ats) => {
            oneByOne(engine, ats, (at) => read(kept, at), (at, value) => emit.store(to, at, value));
          });
        });
      }
    };
    /** Stores the carries that come into a step, or into a segment of steps. */
    const saveCarries = (at: affine.IndexExpr) => {
      for (const [name, to] of Object.entries(kernel.checkpoints?.storage ?? {})) {
        storeKept(carries[name], to, plus(starts, to.dims[0].axis, at));
      }
    };
    const reading = (of: Readonly<Record<string, Kept>>) => (name: string, env: Env) =>
      read(of[name], env);

    /**
     * Computes loop-invariant values once for all held positions; returns what defines them inside
     * a step. Without held axes, loops leave such values outside anyway.
     */
    const keepSteady = (
      node: Node,
      leaves: ReturnType<typeof locals>,
      roots: readonly Node[],
    ): () => void => {
      const { rest } = roles(node);
      leaves.rest.forEach((leaf, k) => emit.override(leaf, (env) => emit.emit(rest[k], env)));
      const isAtHand = (x: Node): boolean => {
        const given = rest[leaves.rest.indexOf(x)];
        return given !== undefined && stored.has(given) && !kernel.again.has(given) &&
          (along === undefined || !(along.axis in x.axes));
      };
      const changing = [...Object.values(leaves.carry), ...Object.values(leaves.each)];
      const list = steadyIn(roots, changing).filter((x) =>
        heldOf(x).length > 0 && size(heldOf(x)) <= mostSteady && x.op !== "iota" && !isAtHand(x)
      );
      const places = list.map((x) => {
        const kept = declare(x);
        over(emit, kept.dims, starts, put(kept, x));
        return [x, kept] as const;
      });
      return () => places.forEach(([x, kept]) => emit.override(x, (env) => read(kept, env)));
    };
    const steady = keepSteady(scan, own, [
      ...Object.values(next),
      ...outs.map(({ of: node }) => node),
    ]);

    const around: Around = {
      isOpen: (node) =>
        !["part", "scan", "gather", "local", "materialise"].includes(node.op) &&
        (!stored.has(node) || kernel.again.has(node)),
      isStored: (node) => stored.has(node),
      held: new Set(perLane.map((dim) => dim.axis)),
    };
    const every = (recomputes ?? kernel).checkpoints?.every ?? 1;
    const length = every > 1 ? every : Math.min(stepsAhead, steps);
    const segments = Math.ceil(steps / length);
    const stepAt = (g: affine.IndexExpr, k: affine.IndexExpr): affine.IndexExpr => {
      const s = affine.sum(affine.times(g, length), k);
      return affine.high(s) < steps ? s : emit.named(emit.whole(s), steps);
    };
    const lengthOf = (g: affine.IndexExpr): Value =>
      emit.atMost(affine.sum(affine.int(steps), affine.times(g, -length)), length);
    // A single step is no loop, so that its code is in the enclosing loop.
    const reader = (kept: Kept): Reader => (env) =>
      length > 1 ? readSteady(kept, env) : read(kept, env);
    /** Values that are independent of carries are precomputed for a whole segment. */
    const keepAhead = (of: readonly Steps[]) => {
      const nodes = perLane.length === 0 ? [] : of.flatMap((one) => aheadIn(one, around));
      const list = [...new Set(nodes)].map((x) => declare(x, length));
      return {
        compute: (g: affine.IndexExpr, count: Value) => {
          if (list.length === 0) return;
          emit.loop(length, (k) => {
            const t = timeOf(stepAt(g, k), of[0].scan);
            of.forEach(({ leaves, scan }) => bindLocals(emit, leaves, scan, reading({}), t));
            const values = (env: Env) => list.map((kept) => emit.emit(kept.node, env));
            inTurn(engine, plus(starts, axis, t), values, (some, values) => {
              list.forEach((kept, i) => {
                some.forEach((env, n) => write(slot(kept, k), env, values[n][i]));
              });
            });
          }, count);
        },
        readAt: (k: affine.IndexExpr) =>
          list.forEach((kept) => emit.override(kept.node, reader(slot(kept, k)))),
        forget: () => list.forEach(({ node }) => emit.override(node, undefined)),
      };
    };
    const ownSteps: Steps = {
      scan,
      leaves: own,
      roots: [...Object.values(next), ...outs.map(({ of: node }) => node)],
    };

    if (recomputes === undefined) {
      const ahead = keepAhead([ownSteps]);
      emit.loop(segments, (g) => {
        const count = lengthOf(g);
        ahead.compute(g, count);
        if (every > 1) saveCarries(g);
        emit.loop(length, (k) => {
          const t = timeOf(stepAt(g, k), scan);
          ahead.readAt(k);
          bindLocals(emit, own, scan, reading(carries), t);
          steady();
          if (every === 1) saveCarries(t);
          printStep(printer, ownStep, plus(starts, axis, t));
        }, count);
        ahead.forget();
      });
    } else {
      const source = recomputes.scan;
      const { storage } = recomputes.checkpoints;
      const names = source.attributes.carries!;
      const sourceFrom = roles(source).from;
      const again = renewed(source);
      const steadyAgain = keepSteady(source, again.leaves, Object.values(again.next));
      // Values for all steps of a segment: incoming carries, and values worth keeping.
      const came = Object.fromEntries(
        names.map((name) => [name, declare(sourceFrom[name], every + 1)]),
      );
      const cameInto = (k: affine.IndexExpr) =>
        Object.fromEntries(names.map((name) => [name, slot(came[name], k)]));
      const sourceSteps: Steps = {
        scan: source,
        leaves: again.leaves,
        roots: Object.values(again.next),
      };
      const ahead = keepAhead([sourceSteps, ownSteps]);
      const both = alike(sourceSteps, ownSteps, around)
        .filter(([node]) => perLane.length === 0 || heldOf(node).length > 0)
        .filter(([node]) => every * size(heldOf(node)) <= mostSlots)
        .map(([node, instead]) => ({ kept: declare(node, every), instead }));
      emit.loopDown(make.whole(segments - 1), segments, (g) => {
        const count = lengthOf(g);
        const lastOne = make.op("i32.sub", count, make.whole(1));
        ahead.compute(g, count);
        for (const name of names) {
          over(emit, came[name].dims, plus(starts, storage[name].dims[0].axis, g), (envs) => {
            oneByOne(
              engine,
              envs,
              (env) => emit.load(storage[name], env),
              (env, value) => write(came[name], env, value),
            );
          });
        }
        // The last step is computed only if a value of it is kept; nothing reads its carries.
        emit.loop(every, (k) => {
          const t = timeOf(stepAt(g, k), source);
          const into = cameInto(k);
          ahead.readAt(k);
          bindLocals(emit, again.leaves, source, reading(into), t);
          steadyAgain();
          const onto = cameInto(affine.sum(k, affine.int(1)));
          const keep = both.map(({ kept }) => slot(kept, k));
          const step = {
            next: again.next,
            leaves: again.leaves.carry,
            carries: into,
            outs: [],
            places: onto,
            more: keep,
          };
          printStep(printer, step, plus(starts, axis, t));
        }, both.length > 0 ? count : lastOne);
        emit.loopDown(lastOne, every, (k) => {
          const t = timeOf(stepAt(g, k), source);
          const { each } = roles(scan);
          ahead.readAt(k);
          const instead: Record<string, Reader> = {};
          for (const [name, node] of Object.entries(each)) {
            if (node.op !== "part" || node.args[0] !== source) continue;
            const [kind, carry] = node.attributes.name!.split(/\.(.*)/s);
            if (kind !== "prev") continue;
            instead[name] = reader(slot(came[carry], k));
          }
          for (const { kept, instead } of both) emit.override(instead, reader(slot(kept, k)));
          bindLocals(emit, own, scan, reading(carries), t, instead);
          steady();
          // These are never recomputed: a scan that recomputes is not run back over itself.
          saveCarries(t);
          printStep(printer, ownStep, plus(starts, axis, t));
        });
        both.forEach(({ instead }) => emit.override(instead, undefined));
        ahead.forget();
      });
    }
    for (const root of roots) {
      if (root.kind !== "final") continue;
      storeKept(carries[root.name], root.storage, starts);
    }
  };

  emit.units(units, (unit) => {
    const group = affine.remainder(unit, pieces);
    const start = emit.unflatten(affine.quotient(unit, pieces), others);
    for (const [{ of: node }, total] of sums) {
      const vectors = Math.ceil(countOf(node) / 4);
      emit.loop(vectors, (at) => {
        make.store("v128.store", scratch.address(at, 16, vectors), total, make.splat(0));
      });
    }
    if (along === undefined) {
      printSteps([start]);
      return;
    }
    const begin = affine.times(group, piece);
    const declared = scratch.taken();
    let most = declared;
    emit.vectors(
      along.size,
      (ats) => {
        // All of these loops share their scratch memory.
        scratch.giveBack(declared);
        printSteps(ats.map((at) => new Map([...start, [along.axis, at]])));
        most = Math.max(most, scratch.taken());
      },
      pieces === 1 ? undefined : { from: begin, most: piece },
      beside,
    );
    scratch.giveBack(most);
    for (const [{ of: node, root }, total] of sums) {
      onlyOnce(emit, others, start, root.partial!.reduction.args[0], () => {
        emit.loop(steps, (t) => {
          const env: Env = new Map([...start, [axis, t], [root.partial!.axis, group]]);
          over(emit, heldOf(node), [env], ([at]) => {
            const address = scratch.address(placeOf(node, at), 4, countOf(node));
            emit.store(root.storage, at, make.loadUnhoisted("v128.load32_zero", address, total));
          });
        });
      });
    }
  });
  return launchOf(emit, units, scratch.taken());
};
