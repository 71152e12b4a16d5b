// Cooperative scans. When a step mixes elements of the carry (a contraction of it, a norm, a shift
// along it), a whole workgroup runs the scan: carries and sums lie in workgroup memory, the lanes
// share the positions of every value, and a barrier ends each phase of the step. This file decides
// when that is done and which value is computed in which phase.
import { dependents, movedAxes, readsOf } from "../graph/queries.ts";
import { sizeOf } from "../../../dsl/axes.ts";
import { type Node, topologicalOrder } from "../../../dsl/node.ts";
import { locals } from "../../../dsl/scan.ts";
import { isKeptInStep, phasesOf, verifyPhases } from "./phases.ts";
import { scalarCost } from "../cost_model.ts";
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
  const chain = topologicalOrder(Object.values(next));
  return { chain, all: [...topologicalOrder([...Object.values(next), ...Object.values(out)])] };
};

/**
 * The axes along which a step mixes the carry, if that is more than one lane should handle; else
 * undefined.
 */
export const crossLaneAxes = (scan: Node): ReadonlySet<string> | undefined => {
  const { chain, all } = stepNodes(scan);
  const time = scan.attributes.axis!;
  const carries = Object.values(locals(scan).carry);
  const carried = dependents(all, carries);
  const inChain = new Set(chain);
  if (all.some((node) => node.op === "scan" || time in node.axes)) return undefined;
  const axes = new Set<string>();
  for (const node of all) {
    if (!carried.has(node)) continue;
    movedAxes(node).forEach((axis) => axes.add(axis));
    if (node.op === "reduce" && inChain.has(node)) {
      node.attributes.over!.forEach((axis) => axes.add(axis));
    }
  }
  const volume = (node: Node) =>
    Object.keys(node.axes).reduce((n, axis) => axes.has(axis) ? n * sizeOf(node.axes, axis) : n, 1);
  const mixing = all.filter((node) =>
    carried.has(node) && inChain.has(node) && (node.op === "reduce" || movedAxes(node).length > 0)
  );
  const largest = Math.max(0, ...mixing.map((node) => volume(node.args[0])));
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
export interface StepSchedule {
  readonly kept: ReadonlyMap<Node, Kept>;
  /**
   * The phase in which a value can be computed: all values that it reads were complete in earlier
   * ones.
   */
  readonly phaseOf: (node: Node) => number;
  /** Double-buffered carries: those read at other positions while they are written. */
  readonly doubleBuffered: ReadonlySet<string>;
  /** Elements in workgroup memory. */
  readonly sharedElements: number;
}

/** The largest power of two that is at most `n`. */
const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(1, n)));

/**
 * Schedules a step in phases. A value with fewer positions than its reader is kept in place of
 * being recomputed at each of them, unless it is cheap.
 */
export const scheduleStep = (
  scan: Node,
  outs: readonly Node[],
  held: readonly Dim[],
  width: number,
): StepSchedule => {
  const { next } = scan.attributes.step!;
  const roots = [...Object.values(next), ...outs];
  const inner = topologicalOrder(roots);
  const heldOf = (node: Node): readonly Dim[] => held.filter((dim) => dim.axis in node.axes);
  const volume = (node: Node): number => size(heldOf(node));

  // Kept values: those that every step keeps, and those that readers with more positions would
  // recompute.
  const chosen = new Set<Node>(inner.filter(isKeptInStep));
  const cost = (node: Node): number => {
    const seen = new Set<Node>();
    const add = (x: Node): number => {
      if (seen.has(x) || (x !== node && chosen.has(x))) return 0;
      seen.add(x);
      return scalarCost(x) + x.args.reduce((n, arg) => n + add(arg), 0);
    };
    return add(node);
  };
  // A value that is read at other positions of an axis that is not held cannot be kept as one
  // value.
  const isHeld = new Set(held.map(({ axis }) => axis));
  const elsewhere = new Set(inner.flatMap((node) => {
    const axes = movedAxes(node).filter((axis) => !isHeld.has(axis));
    return axes.length === 0
      ? []
      : topologicalOrder(node.args).filter((below) => axes.some((axis) => axis in below.axes));
  }));
  const work = [...roots, ...[...chosen].map((node) => node.args[0])];
  for (let root = work.pop(); root !== undefined; root = work.pop()) {
    const seen = new Set<Node>();
    const positions = volume(root);
    const look = (node: Node): void => {
      if (seen.has(node) || chosen.has(node)) return;
      seen.add(node);
      const smaller = 2 * volume(node) <= positions;
      const isMoved = movedAxes(node).length > 0 || elsewhere.has(node);
      if (!smaller || isMoved || node.op === "index") return node.args.forEach(look);
      if (cost(node) <= cheap) return;
      chosen.add(node);
      work.push(node);
    };
    if (chosen.has(root)) root.args.forEach(look);
    else look(root);
  }

  const changing = dependents(
    inner,
    inner.filter((node) => node.op === "local" && !node.attributes.name!.startsWith("rest.")),
  );
  const steady = (body: Node): Node | undefined =>
    body.op !== "mul" || chosen.has(body)
      ? undefined
      : body.args.find((arg) => !changing.has(arg) && volume(arg) > 1);

  const phases = phasesOf(inner, (node) => chosen.has(node));
  // A kept value that is a result of the step is stored in the phase that computes it; sums and
  // materialised values, in the next one.
  const phaseOf = (node: Node): number =>
    isKeptInStep(node) ? phases.reading(node) : phases.of(node);

  let free = rowLimit;
  const kept = new Map<Node, Kept>();
  for (const node of inner) {
    if (!chosen.has(node)) continue;
    const phase = phases.of(node);
    if (node.op !== "reduce") {
      const plain = { over: [], parts: 1, partsFirst: false, constant: undefined };
      kept.set(node, { of: node, dims: heldOf(node), phase, ...plain });
      continue;
    }
    const names = layoutOf(node.args[0], held, chosen);
    const rank = (dim: Dim) => names.indexOf(dim.axis);
    const inLayout = (dims: readonly Dim[]) => [...dims].sort((a, b) => rank(a) - rank(b));
    const over = inLayout(heldOf(node.args[0]).filter((dim) => !(dim.axis in node.axes)));
    const dims = inLayout(heldOf(node));
    const terms = size(over);
    const most = powerBelow(Math.sqrt(terms));
    const partsFirst = over.some((dim) => dim.axis === names.at(-1));
    const spare = powerBelow(width / size(dims));
    const parts = Math.min(most, spare);
    const own = Math.ceil(size(dims) * parts / width) * Math.ceil(terms / parts);
    const factor = size(dims) * terms > 1 && own <= free ? steady(node.args[0]) : undefined;
    if (factor !== undefined) free -= own;
    kept.set(node, { of: node, dims, phase, over, parts, partsFirst, constant: factor });
  }

  const reductions = [...kept.values()].filter(({ of: node }) => node.op === "reduce");
  const items = [
    ...reductions.map(({ of: node, phase }) => ({ of: node.args[0], phase })),
    ...roots.map((node) => ({ of: node, phase: phaseOf(node) })),
  ];
  // A kept value that is a result of the step is computed once more for that.
  verifyPhases(
    items.filter(({ of: node }) => !chosen.has(node) || isKeptInStep(node)),
    phases,
    (node) => chosen.has(node),
  );

  const twice = new Set<string>();
  const leaves = locals(scan).carry;
  // Readers of a carry: kept values, next carries and outputs, with the phase that computes each.
  const readers = [
    ...[...kept.values()].map(({ of: node, phase }) => ({
      root: node.op === "reduce" ? node.args[0] : node,
      self: node,
      phase,
    })),
    ...roots.map((node) => ({ root: node, self: undefined, phase: phaseOf(node) })),
  ];
  for (const [name, leaf] of Object.entries(leaves)) {
    const dims = heldOf(leaf);
    if (size(dims) === 1) continue;
    const written = phaseOf(next[name]);
    const safe = readers.every(({ root, self, phase }) => {
      const reads = readsOf(root, leaf, (node) => node !== self && chosen.has(node));
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
  return { kept, phaseOf, doubleBuffered: twice, sharedElements: words };
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
  const look = (node: Node): void => {
    if (seen.has(node) || chosen.has(node)) return;
    seen.add(node);
    if (node.op === "local" && !node.attributes.name!.startsWith("carry.")) {
      const names = Object.keys(node.axes).filter((axis) => held.some((dim) => dim.axis === axis));
      const volume = names.reduce((n, axis) => n * sizeOf(node.axes, axis), 1);
      if (volume > most) [best, most] = [names, volume];
    }
    node.args.forEach(look);
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
  const { kept, sharedElements } = scheduleStep(scan, outs, held, mostLanes);
  if (4 * sharedElements > memoryLimit) return undefined;
  const heldOf = (node: Node): number => size(held.filter((dim) => dim.axis in node.axes));
  const positions = [...Object.values(scan.attributes.step!.next), ...outs].map(heldOf);
  const sums = [...kept.values()].map(({ dims, over }) =>
    Math.max(size(dims), Math.ceil(size(dims) * size(over) / fewTerms))
  );
  const wanted = Math.max(...positions, ...sums);
  const rounds = Math.ceil(wanted / mostLanes);
  return Math.max(32, Math.ceil(wanted / rounds / 32) * 32);
};
