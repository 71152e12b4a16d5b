// Cooperative scans. When a step mixes elements of the carry (a contraction of it, a norm, a shift
// along it), a whole workgroup runs the scan: carries and sums lie in workgroup memory, the lanes
// share the positions of every value, and a barrier ends each phase of the step. This file decides
// when that is done and which value is computed in which phase.
import { dependents, movedAxes, readsOf } from "../graph/queries.ts";
import { known } from "../../../dsl/axes.ts";
import { type Node, reachable } from "../../../dsl/node.ts";
import { scalarRow } from "../../../dsl/primitives.ts";
import { locals } from "../../../dsl/scan.ts";
import { isKeptInStep, phasesOf, verifyPhases } from "./phases.ts";
import { type Dim, size } from "../kernel_ir.ts";

/** Most values of the mixed axes that one lane handles alone; beyond, a workgroup shares them. */
const aloneLimit = 64;
/** Most lanes of a workgroup on every device. */
const mostLanes = 256;
/** Bytes of workgroup memory that every device has. */
const memoryLimit = 16384;
/** Most work that is repeated at each position in place of a phase of its own. */
const cheap = 4;
/**
 * Most numbers of loop-invariant operands that a lane keeps: WGSL's 8 KiB of private memory, less
 * some for other variables.
 */
const rowLimit = 1536;
/** Terms of a sum that one lane adds before more lanes are worth a second round. */
const fewTerms = 16;

const stepNodes = (scan: Node): { readonly chain: readonly Node[]; readonly all: Node[] } => {
  const { next, out } = scan.attributes.step!;
  const chain = reachable(Object.values(next));
  return { chain, all: [...reachable([...Object.values(next), ...Object.values(out)])] };
};

/**
 * The axes along which a step mixes the carry, if that is more than one lane should handle; else
 * undefined.
 */
export const mixedAxes = (scan: Node): ReadonlySet<string> | undefined => {
  const { chain, all } = stepNodes(scan);
  const time = scan.attributes.axis!;
  const carries = Object.values(locals(scan).carry);
  const carried = dependents(all, carries);
  const inChain = new Set(chain);
  if (all.some((of) => of.op === "scan" || time in of.axes)) return undefined;
  const axes = new Set<string>();
  for (const of of all) {
    if (!carried.has(of)) continue;
    movedAxes(of).forEach((axis) => axes.add(axis));
    if (of.op === "reduce" && inChain.has(of)) {
      of.attributes.over!.forEach((axis) => axes.add(axis));
    }
  }
  const volume = (of: Node) =>
    Object.keys(of.axes).reduce((n, axis) => axes.has(axis) ? n * known(of.axes, axis) : n, 1);
  const mixing = all.filter((of) =>
    carried.has(of) && inChain.has(of) && (of.op === "reduce" || movedAxes(of).length > 0)
  );
  const largest = Math.max(0, ...mixing.map((of) => volume(of.args[0])));
  return largest > aloneLimit ? axes : undefined;
};

/** A value that a step keeps in workgroup memory from one phase to later ones. */
export interface Kept {
  readonly of: Node;
  readonly dims: readonly Dim[];
  readonly phase: number;
  /** For a reduction: its axes, the fastest last. */
  readonly over: readonly Dim[];
  /** Lanes that share one sum; readers add up their partial sums. */
  readonly parts: number;
  /** True if neighbouring lanes share a sum, as the summed axis is the fastest in memory. */
  readonly partsFirst: boolean;
  /** A loop-invariant factor of the summed product: each lane reads its part of it once. */
  readonly constant: Node | undefined;
}

/** The schedule of a step. */
export interface Arrangement {
  readonly kept: ReadonlyMap<Node, Kept>;
  /**
   * The phase in which a value can be computed: all values that it reads were complete in earlier
   * ones.
   */
  readonly phaseOf: (of: Node) => number;
  /** Double-buffered carries: those read at other positions while they are written. */
  readonly twice: ReadonlySet<string>;
  /** Elements in workgroup memory. */
  readonly words: number;
}

const costOf = (of: Node): number => {
  if (scalarRow(of.op) === undefined) return 0;
  return ["exp", "log", "log1p", "sin", "cos", "tanh", "erf", "erfc"].includes(of.op) ? 8 : 1;
};

/** The largest power of two that is at most `n`. */
const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(1, n)));

/**
 * Schedules a step in phases. A value with fewer positions than its reader is kept in place of
 * being recomputed at each of them, unless it is cheap.
 */
export const arrange = (
  scan: Node,
  outs: readonly Node[],
  held: readonly Dim[],
  width: number,
): Arrangement => {
  const { next } = scan.attributes.step!;
  const roots = [...Object.values(next), ...outs];
  const inner = reachable(roots);
  const heldOf = (of: Node): readonly Dim[] => held.filter((dim) => dim.axis in of.axes);
  const volume = (of: Node): number => size(heldOf(of));

  // Kept values: those that every step keeps, and those that readers with more positions would
  // recompute.
  const chosen = new Set<Node>(inner.filter(isKeptInStep));
  const cost = (of: Node): number => {
    const seen = new Set<Node>();
    const add = (x: Node): number => {
      if (seen.has(x) || (x !== of && chosen.has(x))) return 0;
      seen.add(x);
      return costOf(x) + x.args.reduce((n, arg) => n + add(arg), 0);
    };
    return add(of);
  };
  // A value that is read at other positions of an axis that is not held cannot be kept as one
  // value.
  const isHeld = new Set(held.map(({ axis }) => axis));
  const elsewhere = new Set(inner.flatMap((of) => {
    const axes = movedAxes(of).filter((axis) => !isHeld.has(axis));
    return axes.length === 0
      ? []
      : reachable(of.args).filter((below) => axes.some((axis) => axis in below.axes));
  }));
  const work = [...roots, ...[...chosen].map((of) => of.args[0])];
  for (let root = work.pop(); root !== undefined; root = work.pop()) {
    const seen = new Set<Node>();
    const positions = volume(root);
    const look = (of: Node): void => {
      if (seen.has(of) || chosen.has(of)) return;
      seen.add(of);
      const smaller = 2 * volume(of) <= positions;
      const isMoved = movedAxes(of).length > 0 || elsewhere.has(of);
      if (!smaller || isMoved || of.op === "index") return of.args.forEach(look);
      if (cost(of) <= cheap) return;
      chosen.add(of);
      work.push(of);
    };
    if (chosen.has(root)) root.args.forEach(look);
    else look(root);
  }

  const changing = dependents(
    inner,
    inner.filter((of) => of.op === "local" && !of.attributes.name!.startsWith("rest.")),
  );
  const steady = (body: Node): Node | undefined =>
    body.op !== "mul" || chosen.has(body)
      ? undefined
      : body.args.find((arg) => !changing.has(arg) && volume(arg) > 1);

  const phases = phasesOf(inner, (of) => chosen.has(of));
  // A kept value that is a result of the step is stored in the phase that computes it; sums and
  // materialised values, in the next one.
  const phaseOf = (of: Node): number => isKeptInStep(of) ? phases.reading(of) : phases.of(of);

  let free = rowLimit;
  const kept = new Map<Node, Kept>();
  for (const of of inner) {
    if (!chosen.has(of)) continue;
    const phase = phases.of(of);
    if (of.op !== "reduce") {
      const plain = { over: [], parts: 1, partsFirst: false, constant: undefined };
      kept.set(of, { of, dims: heldOf(of), phase, ...plain });
      continue;
    }
    const names = layoutOf(of.args[0], held, chosen);
    const rank = (dim: Dim) => names.indexOf(dim.axis);
    const inLayout = (dims: readonly Dim[]) => [...dims].sort((a, b) => rank(a) - rank(b));
    const over = inLayout(heldOf(of.args[0]).filter((dim) => !(dim.axis in of.axes)));
    const dims = inLayout(heldOf(of));
    const terms = size(over);
    const most = powerBelow(Math.sqrt(terms));
    const partsFirst = over.some((dim) => dim.axis === names.at(-1));
    const spare = powerBelow(width / size(dims));
    const parts = Math.min(most, spare);
    const own = Math.ceil(size(dims) * parts / width) * Math.ceil(terms / parts);
    const factor = size(dims) * terms > 1 && own <= free ? steady(of.args[0]) : undefined;
    if (factor !== undefined) free -= own;
    kept.set(of, { of, dims, phase, over, parts, partsFirst, constant: factor });
  }

  const reductions = [...kept.values()].filter(({ of }) => of.op === "reduce");
  const items = [
    ...reductions.map(({ of, phase }) => ({ of: of.args[0], phase })),
    ...roots.map((of) => ({ of, phase: phaseOf(of) })),
  ];
  // A kept value that is a result of the step is computed once more for that.
  verifyPhases(
    items.filter(({ of }) => !chosen.has(of) || isKeptInStep(of)),
    phases,
    (of) => chosen.has(of),
  );

  const twice = new Set<string>();
  const leaves = locals(scan).carry;
  // Readers of a carry: kept values, next carries and outputs, with the phase that computes each.
  const readers = [
    ...[...kept.values()].map(({ of, phase }) => ({
      root: of.op === "reduce" ? of.args[0] : of,
      self: of,
      phase,
    })),
    ...roots.map((of) => ({ root: of, self: undefined, phase: phaseOf(of) })),
  ];
  for (const [name, leaf] of Object.entries(leaves)) {
    const dims = heldOf(leaf);
    if (size(dims) === 1) continue;
    const written = phaseOf(next[name]);
    const safe = readers.every(({ root, self, phase }) => {
      const reads = readsOf(root, leaf, (of) => of !== self && chosen.has(of));
      if (reads === "no" || phase < written) return true;
      return phase === written && reads === "own" && self?.op !== "reduce" &&
        sameDims(heldOf(root), dims);
    });
    if (!safe) twice.add(name);
  }
  let words = 0;
  for (const { dims, parts } of kept.values()) {
    if (size(dims) * parts > 1) words += size(dims) * parts;
  }
  for (const [name, leaf] of Object.entries(leaves)) {
    if (volume(leaf) > 1) words += volume(leaf) * (twice.has(name) ? 2 : 1);
  }
  return { kept, phaseOf, twice, words };
};

const sameDims = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((dim, k) => dim.axis === b[k].axis);

/** The held axes in the order of the largest stored value that a sum reads, which lanes follow. */
const layoutOf = (
  body: Node,
  held: readonly Dim[],
  chosen: ReadonlySet<Node>,
): readonly string[] => {
  let best: readonly string[] = [], most = 0;
  const seen = new Set<Node>();
  const look = (of: Node): void => {
    if (seen.has(of) || chosen.has(of)) return;
    seen.add(of);
    if (of.op === "local" && !of.attributes.name!.startsWith("carry.")) {
      const names = Object.keys(of.axes).filter((axis) => held.some((dim) => dim.axis === axis));
      const volume = names.reduce((n, axis) => n * known(of.axes, axis), 1);
      if (volume > most) [best, most] = [names, volume];
    }
    of.args.forEach(look);
  };
  look(body);
  return [...held.map((dim) => dim.axis).filter((axis) => !best.includes(axis)), ...best];
};

/**
 * How many lanes share a step over the held axes; undefined if workgroup memory does not suffice.
 */
export const lanesFor = (
  scan: Node,
  outs: readonly Node[],
  held: readonly Dim[],
): number | undefined => {
  const { kept, words } = arrange(scan, outs, held, mostLanes);
  if (4 * words > memoryLimit) return undefined;
  const heldOf = (of: Node): number => size(held.filter((dim) => dim.axis in of.axes));
  const positions = [...Object.values(scan.attributes.step!.next), ...outs].map(heldOf);
  const sums = [...kept.values()].map(({ dims, over }) =>
    Math.max(size(dims), Math.ceil(size(dims) * size(over) / fewTerms))
  );
  const wanted = Math.max(...positions, ...sums);
  const rounds = Math.ceil(wanted / mostLanes);
  return Math.max(32, Math.ceil(wanted / rounds / 32) * 32);
};
