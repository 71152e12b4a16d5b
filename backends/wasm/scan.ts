// Scans by lanes: four neighbours of the space lie in the lanes of vectors, time is a loop inside, and
// what a lane holds along further axes is in scratch memory, a vector for each position. Producers are
// printed into the step where they are read. A scan that runs back over another computes that one's
// carries again, a segment at a time, from checkpoints.
import { intern, type Node, reachable } from "../../dsl/node.ts";
import { locals, roles } from "../../dsl/scan.ts";
import * as affine from "../lower/affine.ts";
import {
  type Dim,
  dims,
  type ScanKernel,
  type ScanRoot,
  size,
  type Storage,
} from "../lower/program.ts";
import type { Value, Variable } from "./builder.ts";
import { emitter } from "./emit.ts";
import { type Emitter, type Env, parameters } from "./emitter.ts";
import { acrossLanes } from "./kernels.ts";
import { type Launch, launchOf } from "./launch.ts";
import { vectorLoop } from "./loops.ts";
import { bindLocals, onlyOnce, position, stepsOf, timeOf } from "./scan_values.ts";
import { alike, readsOf, renewed, steadyIn, without, withoutFactors } from "./scan_steps.ts";
import { printTogether } from "./scan_together.ts";

/** Lanes of a unit of work where nothing is summed across them: a line of the cache. */
const lanesOfUnit = 16;

/** Most values of one kind that are computed before the steps. */
const mostSteady = 512;
/** Most vectors of one value that are kept for the steps of a segment. */
const mostSlots = 1024;

/** A value of a step as it is kept: a local, or vectors in scratch memory, one a held position. */
interface Kept {
  readonly dims: readonly Dim[];
  readonly node: Node;
  readonly variable?: Variable;
  readonly offset: number;
  /** Where in it the vectors of this step begin, if it has some for each step of a segment. */
  readonly from?: affine.Int;
}

/** What one step must compute. */
interface Item {
  readonly of: Node;
  /** Reductions that this value needs are done in earlier phases. */
  readonly phase: number;
  /** The held axes that its value has. */
  readonly nest: readonly Dim[];
  /** What is computed, where that is not `of` alone. */
  readonly value?: (env: Env) => Value;
  readonly run: (env: Env, value: Value) => void;
}

const key = (nest: readonly Dim[]): string => nest.map((dim) => dim.axis).join();

/** Prints a scan kernel. */
export const printScan = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  relaxed: boolean,
): Launch =>
  kernel.together ? printTogether(kernel, stored, relaxed) : printByLanes(kernel, stored, relaxed);

/** The axis that vectors lie along: that of partial sums, or the best for what the steps read. */
const vectorAxis = (
  kernel: ScanKernel,
  fresh: () => Emitter,
): Dim | undefined => {
  const { scan, space, held, lanes, roots } = kernel;
  const isAcross = roots.some((root) =>
    (root.partial?.reduction.attributes.over ?? []).includes(lanes?.axis ?? "")
  );
  if (isAcross) return lanes;
  const { each } = roles(scan);
  const read = Object.values(each).filter((of) =>
    of.op !== "part" || !of.attributes.name!.startsWith("prev.")
  );
  const all = new Map([...space, ...held].map((dim) => [dim.axis, dim]));
  for (const of of [scan.args[scan.attributes.carries!.length], ...read]) {
    for (const dim of dims(of.axes)) all.set(dim.axis, dim);
  }
  const loop = vectorLoop(
    space.map((dim) => [dim]),
    [...all.values()],
    fresh,
    (emit, env) => {
      read.forEach((of) => emit.emit(of, env));
      for (const root of roots) {
        if (root.kind === "out") emit.store(root.storage, env, emit.make.splat(0));
      }
    },
  );
  return loop?.dims[0];
};

const printByLanes = (
  kernel: ScanKernel,
  stored: ReadonlyMap<Node, Storage>,
  relaxed: boolean,
): Launch => {
  const { scan, space, held, lanes, width, roots, recomputes } = kernel;
  const fresh = () => emitter(stored, relaxed, kernel.again);
  const along = vectorAxis(kernel, fresh);
  const emit = fresh();
  const { make } = emit;
  const axis = scan.attributes.axis!;
  const steps = stepsOf(scan);
  const others = space.filter((dim) => dim !== along);
  const acrossOf = (root: ScanRoot) =>
    root.partial !== undefined && lanes !== undefined &&
    root.partial.reduction.attributes.over!.includes(lanes.axis);
  const isAcross = roots.some(acrossOf);
  const piece = along === undefined ? 1 : isAcross ? width : Math.min(lanesOfUnit, along.size);
  const pieces = along === undefined ? 1 : Math.ceil(along.size / piece);
  const units = size(others) * pieces;

  let scratch = 0;
  const take = (vectors: number): number => {
    const at = scratch;
    scratch += 16 * vectors;
    return at;
  };
  const heldOf = (of: Node): readonly Dim[] => held.filter((dim) => dim.axis in of.axes);
  const reach = (offset: number, at: affine.Int): Value =>
    make.op(
      "i32.add",
      make.op("i32.add", make.parameter(parameters.scratch), make.whole(offset)),
      emit.whole(at, 16),
    );
  const readAt = (offset: number, at: affine.Int): Value =>
    make.loadNow("v128.load", reach(offset, at), 0);
  const writeAt = (offset: number, at: affine.Int, value: Value): void =>
    make.store("v128.store", reach(offset, at), 0, value);
  const declare = (of: Node): Kept => {
    const dims = heldOf(of);
    if (dims.length > 0) return { dims, node: of, offset: take(size(dims)) };
    return { dims, node: of, variable: make.variable("v128", make.splat(0)), offset: 0 };
  };
  const within = ({ dims, from }: Kept, env: Env): affine.Int =>
    from === undefined ? position(dims, env) : affine.sum(from, position(dims, env));
  const read = (kept: Kept, env: Env): Value =>
    kept.variable === undefined
      ? readAt(kept.offset, within(kept, env))
      : make.current(kept.variable);
  const write = (kept: Kept, env: Env, value: Value): void =>
    kept.variable === undefined
      ? writeAt(kept.offset, within(kept, env), value)
      : make.assign(kept.variable, value);
  /** Runs `inside` for every position of some held axes. */
  const over = (nest: readonly Dim[], env: Env, inside: (env: Env) => void): void => {
    if (nest.length === 0) return inside(env);
    const [{ axis, size }, ...rest] = nest;
    emit.loop(size, (at) => over(rest, new Map([...env, [axis, at]]), inside));
  };

  const { from } = roles(scan);
  const own = locals(scan);
  const outNode = (root: ScanRoot): Node => {
    const { partial, name } = root;
    if (partial === undefined) return scan.attributes.step!.out[name];
    const { reduction } = partial;
    const inLane = reduction.attributes.over!.filter((axis) =>
      held.some((dim) => dim.axis === axis)
    );
    return inLane.length === 0
      ? reduction.args[0]
      : intern("reduce", "f32", without(reduction.args[0].axes, inLane), [reduction.args[0]], {
        how: "add",
        over: inLane,
      });
  };
  const outRoots = roots.filter((root) => root.kind === "out");
  const nextNames = Object.keys(scan.attributes.step!.next);
  const better = withoutFactors([
    ...nextNames.map((name) => scan.attributes.step!.next[name]),
    ...outRoots.map(outNode),
  ]);
  const next = Object.fromEntries(nextNames.map((name, k) => [name, better[k]]));
  const outs = outRoots.map((root, k) => ({ root, of: better[nextNames.length + k] }));
  // Sums across lanes are vectors while the lanes of a unit are run through, for all steps.
  const totals = new Map(
    outs.filter(({ root }) => acrossOf(root))
      .map(({ root, of }) => [root, take(steps * size(heldOf(of)))] as const),
  );
  const placeOf = (of: Node, env: Env): affine.Int =>
    affine.sum(
      affine.times(env.get(axis)!, size(heldOf(of))),
      position(heldOf(of), env),
    );

  /** Prints all steps for the lanes at `start`. */
  const printSteps = (start: Env): void => {
    /**
     * Prints one step: its reductions, next carries and outputs, in loops over the held axes. Next
     * carries are written to `places`, or in place of the carries; `more` values are kept.
     */
    const step = (
      next: Readonly<Record<string, Node>>,
      leaves: Readonly<Record<string, Node>>,
      carries: Readonly<Record<string, Kept>>,
      outs: readonly { readonly of: Node; readonly root: ScanRoot }[],
      env: Env,
      places?: Readonly<Record<string, Kept>>,
      more: readonly Kept[] = [],
    ): void => {
      const phases = new Map<Node, number>();
      const inner = reachable([...Object.values(next), ...outs.map(({ of }) => of)]);
      for (const of of inner) {
        if (of.op === "scan") {
          throw new Error(`a scan inside the step of a scan over '${axis}' has no kernel yet`);
        }
        phases.set(
          of,
          Math.max(0, ...of.args.map((arg) => phases.get(arg)! + (arg.op === "reduce" ? 1 : 0))),
        );
      }
      const phaseOf = (of: Node) => phases.get(of)! + (of.op === "reduce" ? 1 : 0);
      const items: Item[] = [];
      for (const of of inner) {
        if (of.op !== "reduce") continue;
        const kept = declare(of);
        const isSum = of.attributes.how === "add";
        const begin = make.splat(isSum ? 0 : -Infinity);
        over(kept.dims, new Map(), (at) => write(kept, at, begin));
        items.push({
          of: of.args[0],
          phase: phases.get(of)!,
          nest: heldOf(of.args[0]),
          value: (at) => emit.joined(of, read(kept, at), at, false),
          run: (at, value) => write(kept, at, value),
        });
        emit.override(of, (at) => read(kept, at));
      }
      for (const { of, root } of outs) {
        const { partial, storage } = root;
        const summed = partial?.reduction.args[0] ?? of;
        const put = (at: Env, value: Value) => {
          if (!acrossOf(root)) return emit.store(storage, at, value);
          writeAt(totals.get(root)!, placeOf(of, at), value);
        };
        /** A sum across lanes with one more term. Lanes that do not count are no part of it. */
        const total = (at: Env): Value => {
          const sum = readAt(totals.get(root)!, placeOf(of, at));
          return emit.counted(emit.plus(sum, of, at), sum);
        };
        items.push({
          of,
          phase: phaseOf(of),
          nest: heldOf(of),
          ...(acrossOf(root) ? { value: total } : {}),
          run: (at, value) => onlyOnce(emit, space, start, summed, () => put(at, value)),
        });
      }
      for (const kept of more) {
        items.push({
          of: kept.node,
          phase: 0,
          nest: kept.dims,
          run: (at, value) => write(kept, at, value),
        });
      }
      const commits: (() => void)[] = [];
      const nexts = Object.entries(next).map(([name, of]) => ({
        name,
        of,
        phase: phaseOf(of),
        nest: carries[name].dims,
      }));
      for (const { name, of, phase, nest } of nexts) {
        const kept = carries[name];
        // A carry is replaced at once where nobody reads its old value afterwards.
        const atOnce = [...items, ...nexts].every((item) => {
          const reads = readsOf(item.of, leaves[name]);
          return reads === "no" || item.phase < phase ||
            (item.phase === phase && reads === "own" && key(item.nest) === key(nest));
        });
        const place = places?.[name] ??
          (atOnce || kept.variable !== undefined ? kept : declare(of));
        items.push({
          of,
          phase,
          nest,
          run: (at, value) => {
            if (place.variable !== undefined) commits.push(() => write(place, at, value));
            else write(place, at, value);
          },
        });
        if (place !== kept && places === undefined) {
          commits.push(() => over(kept.dims, new Map(), (at) => write(kept, at, read(place, at))));
        }
      }
      const last = Math.max(0, ...items.map((item) => item.phase));
      for (let phase = 0; phase <= last; phase++) {
        const nests = Map.groupBy(
          items.filter((item) => item.phase === phase),
          (item) => key(item.nest),
        );
        for (const group of nests.values()) {
          over(group[0].nest, env, (at) => {
            const values = group.map((item) => item.value?.(at) ?? emit.emit(item.of, at));
            group.forEach((item, k) => item.run(at, values[k]));
          });
        }
      }
      commits.forEach((commit) => commit());
    };

    const carries = Object.fromEntries(
      Object.entries(from).map(([name, of]) => [name, declare(of)]),
    );
    for (const [name, kept] of Object.entries(carries)) {
      over(kept.dims, start, (env) => write(kept, env, emit.emit(from[name], env)));
    }
    const saveCarries = (s: affine.Int, t: affine.Int) => {
      const { checkpoints } = kernel;
      if (checkpoints === undefined) return;
      const { every, storage } = checkpoints;
      const segment = every === 1 ? t : affine.quotient(s, every);
      const save = () => {
        for (const [name, to] of Object.entries(storage)) {
          const kept = carries[name];
          onlyOnce(
            emit,
            space,
            start,
            kept.node,
            () =>
              over(
                kept.dims,
                new Map([...start, [to.dims[0].axis, segment]]),
                (env) => emit.store(to, env, read(kept, env)),
              ),
          );
        }
      };
      if (every === 1) return save();
      const isFirst = make.op("i32.eq", emit.whole(affine.remainder(s, every)), make.whole(0));
      emit.when(isFirst, save);
    };
    const reading = (of: Readonly<Record<string, Kept>>) => (name: string, env: Env) =>
      read(of[name], env);

    /**
     * Computes what no step changes, once for all positions that the lanes hold. Gives what says so
     * inside a step. Without held axes, loops leave such values outside anyway.
     */
    const keepSteady = (
      of: Node,
      leaves: ReturnType<typeof locals>,
      roots: readonly Node[],
    ): () => void => {
      const { rest } = roles(of);
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
        over(kept.dims, start, (env) => write(kept, env, emit.emit(x, env)));
        return [x, kept] as const;
      });
      return () => places.forEach(([x, kept]) => emit.override(x, (env) => read(kept, env)));
    };
    const steady = keepSteady(scan, own, [...Object.values(next), ...outs.map(({ of }) => of)]);

    if (recomputes === undefined) {
      emit.loop(steps, (s) => {
        const t = timeOf(s, scan);
        bindLocals(emit, own, scan, reading(carries), t);
        steady();
        saveCarries(s, t);
        const env = new Map([...start, [axis, t]]);
        step(next, own.carry, carries, outs, env);
      });
    } else {
      const source = recomputes.scan;
      const { every, storage } = recomputes.checkpoints;
      const names = source.attributes.carries!;
      const sourceFrom = roles(source).from;
      const again = renewed(source);
      const steadyAgain = keepSteady(source, again.leaves, Object.values(again.next));
      /** Values of the steps of a segment: those that come into each, and what is worth keeping. */
      const slots = (of: Node, count: number): Kept => {
        const dims = heldOf(of);
        return { dims, node: of, offset: take(count * size(dims)) };
      };
      const slot = (kept: Kept, k: affine.Int): Kept => ({
        ...kept,
        from: affine.times(k, size(kept.dims)),
      });
      const came = Object.fromEntries(
        names.map((name) => [name, slots(sourceFrom[name], every + 1)]),
      );
      const cameInto = (k: affine.Int) =>
        Object.fromEntries(names.map((name) => [name, slot(came[name], k)]));
      const isOpen = (of: Node) =>
        !["part", "scan", "gather", "local"].includes(of.op) &&
        (!stored.has(of) || kernel.again.has(of));
      const both = alike(
        { scan: source, leaves: again.leaves, roots: Object.values(again.next) },
        { scan, leaves: own, roots: [...Object.values(next), ...outs.map(({ of }) => of)] },
        isOpen,
        new Set(held.map((dim) => dim.axis)),
      )
        .filter(([of]) => every * size(heldOf(of)) <= mostSlots)
        .map(([of, instead]) => ({ kept: slots(of, every), instead }));
      const segments = Math.ceil(steps / every);
      const stepAt = (g: affine.Int, k: affine.Int): affine.Int => {
        const s = affine.sum(affine.times(g, every), k);
        return affine.high(s) < steps ? s : emit.named(emit.whole(s), steps);
      };
      emit.loopDown(make.whole(segments - 1), segments, (g) => {
        const left = make.op("i32.sub", make.whole(steps), emit.whole(affine.times(g, every)));
        const most = make.whole(every);
        const length = make.op("select", left, most, make.op("i32.lt_s", left, most));
        const lastOne = make.op("i32.sub", length, make.whole(1));
        for (const name of names) {
          over(came[name].dims, new Map([...start, [storage[name].dims[0].axis, g]]), (env) => {
            write(came[name], env, emit.load(storage[name], env));
          });
        }
        // The last step is computed too where something is kept of it; nothing reads its carries.
        emit.loop(every, (k) => {
          const t = timeOf(stepAt(g, k), source);
          const into = cameInto(k);
          bindLocals(emit, again.leaves, source, reading(into), t);
          steadyAgain();
          const env = new Map([...start, [axis, t]]);
          const onto = cameInto(affine.sum(k, affine.int(1)));
          const keep = both.map(({ kept }) => slot(kept, k));
          step(again.next, again.leaves.carry, into, [], env, onto, keep);
        }, both.length > 0 ? length : lastOne);
        emit.loopDown(lastOne, every, (k) => {
          const t = timeOf(stepAt(g, k), source);
          const { each } = roles(scan);
          const instead: Record<string, (env: Env) => Value> = {};
          for (const [name, of] of Object.entries(each)) {
            if (of.op !== "part" || of.args[0] !== source) continue;
            const [kind, carry] = of.attributes.name!.split(/\.(.*)/s);
            if (kind !== "prev") continue;
            instead[name] = (env) => read(slot(came[carry], k), env);
          }
          for (const { kept, instead } of both) {
            emit.override(instead, (env) => read(slot(kept, k), env));
          }
          bindLocals(emit, own, scan, reading(carries), t, instead);
          steady();
          const env = new Map([...start, [axis, t]]);
          step(next, own.carry, carries, outs, env);
        });
        both.forEach(({ instead }) => emit.override(instead, undefined));
      });
    }
    for (const root of roots) {
      if (root.kind !== "final") continue;
      const kept = carries[root.name];
      onlyOnce(
        emit,
        space,
        start,
        kept.node,
        () => over(kept.dims, start, (env) => emit.store(root.storage, env, read(kept, env))),
      );
    }
  };

  emit.units(units, (unit) => {
    const group = affine.remainder(unit, pieces);
    const start = emit.unflatten(affine.quotient(unit, pieces), others);
    /** Runs `inside` for every element of the sums across lanes that this unit stores. */
    const forTotals = (
      inside: (root: ScanRoot, sum: number, place: affine.Int, at: Env) => void,
    ) => {
      for (const { of, root } of outs) {
        const sum = totals.get(root);
        if (sum === undefined) continue;
        onlyOnce(emit, others, start, root.partial!.reduction.args[0], () => {
          emit.loop(steps, (t) => {
            const env = new Map([
              ...start,
              [axis, t] as const,
              [root.partial!.axis, group] as const,
            ]);
            over(heldOf(of), env, (at) => inside(root, sum, placeOf(of, at), at));
          });
        });
      }
    };
    forTotals((_root, sum, place) => writeAt(sum, place, make.splat(0)));
    if (along === undefined) return printSteps(start);
    const begin = affine.times(group, piece);
    const end = make.op("i32.add", emit.whole(begin), make.whole(piece));
    const last = make.whole(along.size);
    const to = make.op("select", end, last, make.op("i32.lt_s", end, last));
    const declared = scratch;
    let most = scratch;
    emit.vectors(
      along.size,
      ([at]) => {
        // The short vector uses the same places as the others.
        scratch = declared;
        printSteps(new Map([...start, [along.axis, at]]));
        most = Math.max(most, scratch);
      },
      pieces === 1 ? undefined : { from: emit.whole(begin), to, most: piece },
    );
    scratch = most;
    forTotals((root, sum, place, at) => {
      emit.store(root.storage, at, acrossLanes(emit, root.partial!.reduction, readAt(sum, place)));
    });
  });
  return launchOf(emit, units, scratch);
};
