// Analyses of a scan's step before it is printed: where a carry is read, what is loop-invariant,
// what can be precomputed for all steps, which values two scans share, and a copy of a step for
// printing it next to another one.
import { intern, type Node, topologicalOrder } from "../../dsl/node.ts";
import { locals, roles, substitute } from "../../dsl/scan.ts";
import { costOf } from "../lower/cost_model.ts";
import type { Dim, ScanRoot } from "../lower/kernel_ir.ts";
import { dependents, movedAxes } from "../lower/graph/queries.ts";

/**
 * The largest loop-invariant values of a step: those that depend on no `changing` leaf. None if a
 * step moves along axes, as such values would be read at other lanes too.
 */
export const steadyIn = (roots: readonly Node[], changing: readonly Node[]): readonly Node[] => {
  const nodes = topologicalOrder(roots);
  const moving = dependents(nodes, changing);
  if (nodes.some((node) => moving.has(node) && movedAxes(node).length > 0)) return [];
  const read = nodes.filter((node) => moving.has(node)).flatMap((node) => node.args);
  return [...new Set([...roots, ...read])].filter((node) =>
    !moving.has(node) && node.op !== "const"
  );
};

/** Least work, in additions, that makes a value worth keeping in scratch memory. */
const worthKeeping = 8;

/** A scan's step with its leaves and roots. */
export interface Steps {
  readonly scan: Node;
  readonly leaves: ReturnType<typeof locals>;
  readonly roots: readonly Node[];
}

/** How the values of steps may be computed. */
export interface Around {
  /** Whether a value is computed from its arguments, or is stored. */
  readonly isOpen: (node: Node) => boolean;
  readonly isStored: (node: Node) => boolean;
  /** The held axes, which each lane loops over. */
  readonly held: ReadonlySet<string>;
}

/** The analysis of one value of a step. */
interface Found {
  /** The node with leaves replaced by the arguments that they stand for. */
  readonly as: Node;
  /** `fixed`: independent of carries; `timed`: it changes with time. */
  readonly fixed: boolean;
  readonly timed: boolean;
  /** Work to compute it from stored values, in additions. */
  readonly cost: number;
}

interface Looked {
  readonly seen: ReadonlyMap<Node, Found>;
  /** Values that are read at other positions than they are computed at. */
  readonly elsewhere: ReadonlySet<Node>;
  readonly standsFor: ReadonlyMap<Node, Node>;
}

/** Analyses all values of a step, through its leaves to the arguments. */
const lookAt = (
  { scan, leaves, roots }: Steps,
  { isOpen, isStored, held }: Around,
): Looked => {
  const { each, rest } = roles(scan);
  const time = scan.attributes.axis!;
  const standsFor = new Map<Node, Node>([
    ...Object.entries(leaves.each).map(([name, leaf]) => [leaf, each[name]] as const),
    ...leaves.rest.map((leaf, k) => [leaf, rest[k]] as const),
  ]);
  const seen = new Map<Node, Found>();
  const elsewhere = new Set<Node>();
  const look = (node: Node): Found => {
    const found = seen.get(node);
    if (found !== undefined) return found;
    const other = standsFor.get(node);
    const below = other !== undefined ? [look(other)] : isOpen(node) ? node.args.map(look) : [];
    const as = other !== undefined ? below[0].as : intern(
      node.op,
      node.dtype,
      node.axes,
      node.args.map((arg, k) => below[k]?.as ?? arg),
      node.attributes,
    );
    const made: Found = {
      as,
      fixed: (other !== undefined || isOpen(node) || isStored(node)) &&
        below.every(({ fixed }) => fixed),
      timed: time in node.axes || below.some(({ timed }) => timed),
      cost: below.reduce((sum, { cost }) => sum + cost, isOpen(node) ? costOf(node) : 0),
    };
    seen.set(node, made);
    return made;
  };
  roots.forEach(look);
  const leave = (node: Node): void => {
    if (elsewhere.has(node)) return;
    elsewhere.add(node);
    const other = standsFor.get(node);
    (other !== undefined ? [other] : isOpen(node) ? node.args : []).forEach(leave);
  };
  for (const node of seen.keys()) {
    const other = node.op === "reduce"
      ? node.attributes.over!.filter((axis) => !held.has(axis))
      : movedAxes(node);
    if (isOpen(node) && other.length > 0) node.args.forEach(leave);
  }
  return { seen, elsewhere, standsFor };
};

/**
 * Values worth keeping, keyed by the node with leaves replaced by arguments: those that change with
 * time but not with carries, and are read at their own position.
 */
const worthwhile = (steps: Steps, around: Around): ReadonlyMap<Node, Node> => {
  const { seen, elsewhere } = lookAt(steps, around);
  return new Map(
    [...seen].flatMap(([node, { as, fixed, timed }]) =>
      fixed && timed && costOf(node) >= worthKeeping && around.isOpen(node) && !elsewhere.has(node)
        ? [[as, node] as const]
        : []
    ),
  );
};

/**
 * The largest values worth precomputing before the steps: those that change with time but not with
 * carries, and have no held axis.
 */
export const aheadIn = (steps: Steps, around: Around): readonly Node[] => {
  const { seen, elsewhere, standsFor } = lookAt(steps, around);
  const found = new Set<Node>(), visited = new Set<Node>();
  const visit = (node: Node): void => {
    if (visited.has(node) || elsewhere.has(node)) return;
    visited.add(node);
    const { fixed, timed, cost } = seen.get(node)!;
    const other = standsFor.get(node);
    if (other !== undefined) return visit(other);
    const isLoose = !Object.keys(node.axes).some((axis) => around.held.has(axis));
    if (fixed && timed && isLoose) {
      if (cost >= worthKeeping) found.add(node);
    } else if (around.isOpen(node)) node.args.forEach(visit);
  };
  steps.roots.forEach(visit);
  return [...found];
};

/** Values worth keeping from the first scan's steps for the second's: pairs of nodes. */
export const alike = (
  first: Steps,
  second: Steps,
  around: Around,
): readonly (readonly [Node, Node])[] => {
  const there = worthwhile(second, around);
  return [...worthwhile(first, around)].flatMap(([as, node]) => {
    const found = there.get(as);
    return found === undefined ? [] : [[node, found] as const];
  });
};

/** Axes without some of them. */
export const without = (axes: Node["axes"], names: readonly string[]): Node["axes"] =>
  Object.fromEntries(Object.entries(axes).filter(([axis]) => !names.includes(axis)));

/** The step of a scan on new locals, so that it can be printed next to another scan's. */
export const renewed = (scan: Node) => {
  const leaves = locals(scan);
  const by = new Map<Node, Node>();
  const renew = (node: Node): Node => {
    const made = intern("local", node.dtype, node.axes, [], {
      level: -1,
      name: node.attributes.name,
    });
    by.set(node, made);
    return made;
  };
  const record = (of: Readonly<Record<string, Node>>) =>
    Object.fromEntries(Object.entries(of).map(([name, leaf]) => [name, renew(leaf)]));
  const made = {
    carry: record(leaves.carry),
    each: record(leaves.each),
    rest: leaves.rest.map(renew),
  };
  const names = Object.keys(scan.attributes.step!.next);
  const next = substitute(names.map((name) => scan.attributes.step!.next[name]), by);
  return { leaves: made, next: Object.fromEntries(names.map((name, k) => [name, next[k]])) };
};

/** What an output of a scan's step is; of a partial sum, what a lane adds up over what it holds. */
export const outputOf = (
  scan: Node,
  { name, partial }: ScanRoot,
  held: readonly Dim[],
): Node => {
  if (partial === undefined) return scan.attributes.step!.out[name];
  const { args: [term], attributes: { over } } = partial.reduction;
  const inLane = over!.filter((axis) => held.some((dim) => dim.axis === axis));
  return inLane.length === 0
    ? term
    : intern("reduce", "f32", without(term.axes, inLane), [term], { how: "add", over: inLane });
};
