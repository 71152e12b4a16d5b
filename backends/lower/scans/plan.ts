// Scan planning. A lane is one position of the axes that a step keeps independent. Axes that a step
// reduces or moves along are held: looped over by the lane, or by a workgroup where they are too
// long for one lane. Outputs that sum over lanes become partial sums, finished by an ordinary
// reduction, which adds across workgroups without atomics.
import { sizeOf, volume } from "../../../dsl/axes.ts";
import { intern, type Node, rewrite, topologicalOrder } from "../../../dsl/node.ts";
import { apply } from "../../../dsl/primitives.ts";
import { locals, roles, substitute } from "../../../dsl/scan.ts";
import { reduce } from "../../../dsl/structure.ts";
import { hoist } from "./hoist.ts";
import { isKeptInStep } from "./phases.ts";
import { type Dim, size } from "../kernel_ir.ts";
import { crossLaneAxes, lanesFor } from "./cooperative.ts";
import { dependents, movedAxes } from "../graph/queries.ts";

/** The shape of one scan's kernel. */
export interface ScanPlan {
  readonly parallel: readonly Dim[];
  readonly perLane: readonly Dim[];
  readonly laneAxis: Dim | undefined;
  readonly workgroupSize: number;
  /** The lanes of a workgroup share the held axes (a cooperative scan). */
  readonly cooperative: boolean;
  readonly outs: Readonly<Record<string, Node>>;
  /** Outputs that are sums across lanes, with the reduction at their top. */
  readonly partial: Readonly<Record<string, Node>>;
  readonly checkpointEvery: number;
  readonly recomputes?: Node;
}

/** Lanes of a workgroup: enough to fill it, few enough for its shared partial sums. */
const workgroup = 64;
/** Shorter axes are not used as the lane axis. */
const fewLanes = 4;
/** Suffix of the axis of chunks, after the name of the time axis. */
export const chunkSuffix = ".chunk";
/** Bytes of workgroup memory that every WebGPU device has. */
const sharedLimit = 16384;
/** Most values of one carry in a lane before an axis is summed across lanes instead. */
const heldLimit = 64;
/**
 * Values of one carry in a lane above which sums are hoisted out of the step, as its code gets
 * long.
 */
const fullLimit = 128;
/** Most values of one carry in a lane in any case: with the next carry, half of WGSL's 8 KiB. */
const keptLimit = 1024;
/** Most values that a lane keeps for one segment of recomputed carries. */
const segmentLimit = 512;

const axesIn = (nodes: readonly Node[]): ReadonlySet<string> =>
  new Set(nodes.flatMap((node) => Object.keys(node.axes)));

const reducedIn = (nodes: readonly Node[]): ReadonlySet<string> =>
  new Set(nodes.flatMap((node) => node.op === "reduce" ? node.attributes.over! : []));

/**
 * Axes along which a step reads carries, kept values or others of `own` at other positions: what a
 * lane has of these is what it computed.
 */
export const movedIn = (
  nodes: readonly Node[],
  own: ReadonlySet<Node> = new Set(),
): ReadonlySet<string> => {
  const isCarry = ({ op, attributes }: Node) =>
    op === "local" && attributes.name!.startsWith("carry.");
  const isOwn = (node: Node) => isCarry(node) || isKeptInStep(node) || own.has(node);
  const inStep = dependents(nodes, nodes.filter(isOwn));
  return new Set(nodes.flatMap((node) => inStep.has(node) ? movedAxes(node) : []));
};

/** Rewrites sums of reductions as one outermost reduction, where the algebra allows it. */
const outermost = (of: Node, over: readonly string[]): Node | undefined => {
  const wanted = (x: Node) =>
    x.op === "reduce" && x.attributes.how === "add" &&
    over.some((axis) => x.attributes.over!.includes(axis));
  const split = (
    x: Node,
  ): { readonly body: Node; readonly over: readonly string[] } | undefined => {
    if (wanted(x)) return { body: x.args[0], over: x.attributes.over! };
    if (x.op === "neg") {
      const inner = split(x.args[0]);
      return inner && { body: apply("neg", inner.body), over: inner.over };
    }
    if (x.op === "mul") {
      const [a, b] = x.args.map(split);
      const free = (node: Node, by: readonly string[]) => by.every((axis) => !(axis in node.axes));
      if (a && !b && free(x.args[1], a.over)) {
        return { body: apply("mul", a.body, x.args[1]), over: a.over };
      }
      if (b && !a && free(x.args[0], b.over)) {
        return { body: apply("mul", x.args[0], b.body), over: b.over };
      }
      return undefined;
    }
    if (x.op === "add") {
      const [a, b] = x.args.map(split);
      if (!a || !b || a.over.join() !== b.over.join()) return undefined;
      const body = apply("add", a.body, b.body);
      const same = Object.keys(body.axes).length === Object.keys(a.body.axes).length &&
        Object.keys(body.axes).length === Object.keys(b.body.axes).length;
      return same ? { body, over: a.over } : undefined;
    }
    return undefined;
  };
  const found = split(of);
  return found && reduce(found.body, "add", found.over);
};

const stepNodes = (scan: Node, which: "next" | "out"): readonly Node[] =>
  topologicalOrder(Object.values(scan.attributes.step![which]));

const inStep = (scan: Node): readonly Node[] => [
  ...stepNodes(scan, "next"),
  ...stepNodes(scan, "out"),
];

/** Most values of one carry in a lane that holds these axes. */
const mostHeld = (scan: Node, held: readonly string[]): number =>
  Math.max(
    ...Object.values(roles(scan).from).map(({ axes }) =>
      [...new Set(held)].reduce((n, axis) => axis in axes ? n * sizeOf(axes, axis) : n, 1)
    ),
  );

/** Those of some axes, shortest first, that a lane can hold with others within a limit. */
const holdable = (
  scan: Node,
  axes: Iterable<string>,
  besides: Iterable<string>,
  limit: number,
): readonly string[] => {
  const everything = inStep(scan);
  const lengthOf = (axis: string) =>
    sizeOf(everything.find((node) => axis in node.axes)!.axes, axis);
  const held: string[] = [];
  for (const axis of [...axes].sort((a, b) => lengthOf(a) - lengthOf(b))) {
    if (mostHeld(scan, [...besides, ...held, axis]) <= limit) held.push(axis);
  }
  return held;
};

/** True if a lane holds so much that sums should be hoisted out of the step. */
const isFull = (scan: Node, { perLane }: ScanPlan): boolean =>
  mostHeld(scan, perLane.map(({ axis }) => axis)) > fullLimit &&
  inStep(scan).every((node) => node.op !== "scan" && !(scan.attributes.axis! in node.axes));

/** True for the incoming carries of a scan's steps. */
const isPrevOf = ({ op, args, attributes }: Node, scan: Node | undefined): boolean =>
  op === "part" && args[0] === scan && attributes.name!.startsWith("prev.");

/** The leaves of a step that are carries of `source`, which the step's lanes may recompute. */
export const recomputedLeaves = (scan: Node, source: Node): ReadonlySet<Node> => {
  const leaves = locals(scan).each;
  return new Set(
    Object.entries(roles(scan).each)
      .flatMap(([name, node]) => isPrevOf(node, source) ? [leaves[name]] : []),
  );
};

/** The scan that `scan` runs backward over and whose carries it can recompute, if there is one. */
const recomputable = (
  scan: Node,
  users: ReadonlyMap<Node, readonly Node[]>,
): Node | undefined => {
  const { each } = roles(scan);
  const sources = new Set(
    Object.values(each).flatMap((node) => isPrevOf(node, node.args[0]) ? [node.args[0]] : []),
  );
  if (sources.size !== 1) return undefined;
  const [source] = sources;
  const opposite = source.attributes.reverse !== scan.attributes.reverse &&
    source.attributes.axis === scan.attributes.axis;
  const plain = Object.values(roles(source).each).every((node) =>
    !(node.op === "part" && node.attributes.name!.startsWith("prev."))
  );
  const nested = stepNodes(source, "next").some((node) => node.op === "scan");
  // Carries that have another reader are stored.
  const others = [...users].flatMap(([node, by]) => isPrevOf(node, source) ? by : []);
  const alone = others.every((user) => user.op === "scan" && user === scan);
  return opposite && plain && alone && !nested ? source : undefined;
};

/**
 * Outputs of a scan that are one value under several names: all but the first, mapped to the first.
 */
const sameOutputs = (scan: Node, order: readonly Node[]): ReadonlyMap<Node, Node> => {
  const first = new Map<Node, Node>();
  const replace = new Map<Node, Node>();
  for (const node of order) {
    if (node.op !== "part" || node.args[0] !== scan || !node.attributes.name!.startsWith("out.")) {
      continue;
    }
    const value = scan.attributes.step!.out[node.attributes.name!.slice("out.".length)];
    const found = first.get(value);
    if (found === undefined) first.set(value, node);
    else replace.set(node, found);
  }
  return replace;
};

/**
 * Plans every scan, and replaces outputs summed across lanes by reductions of partial sums.
 * `change` is applied to what is hoisted out of a step.
 */
export const planScans = (
  roots: readonly Node[],
  change: (node: Node) => Node = (node) => node,
): { readonly roots: readonly Node[]; readonly plans: ReadonlyMap<Node, ScanPlan> } => {
  const plans = new Map<Node, ScanPlan>();
  let now = roots;
  for (;;) {
    const order = topologicalOrder(now);
    const scan = order.find((node) => node.op === "scan" && !plans.has(node));
    if (scan === undefined) break;
    const users = new Map<Node, Node[]>();
    for (const node of order) {
      for (const arg of node.args) {
        const by = users.get(arg);
        if (by === undefined) users.set(arg, [node]);
        else by.push(node);
      }
    }
    const twins = sameOutputs(scan, order);
    if (twins.size > 0) {
      now = substitute(now, twins);
      continue;
    }
    const mixed = crossLaneAxes(scan);
    const source = recomputable(scan, users);
    const alone = planLanes(
      scan,
      source !== undefined && plans.get(source)!.cooperative ? undefined : source,
    );
    const loosened = mixed !== undefined
      ? hoist(scan, order, mixed)
      : isFull(scan, alone)
      ? hoist(scan, order, new Set(holdable(scan, axesIn(inStep(scan)), [], heldLimit)), true)
      : undefined;
    if (loosened !== undefined) {
      now = rewrite(substitute(now, loosened), change);
      continue;
    }
    const plan = (mixed && planCooperative(scan, mixed)) ?? alone;
    plans.set(scan, plan);
    const replace = new Map<Node, Node>();
    for (const name of Object.keys(plan.partial)) {
      const of = order.find((node) =>
        node.op === "part" && node.args[0] === scan && node.attributes.name === `out.${name}`
      );
      if (of !== undefined) replace.set(of, finished(scan, plan, name));
    }
    now = substitute(now, replace);
  }
  return { roots: now, plans: withSegments(now, plans) };
};

/** The axis of stored carries when only those at the start of a segment are stored. */
export const segmentAxis = "segment";

/** The axis of `count` partial sums of an output. */
const partialAxis = (count: number): string => `partial sum of ${count}`;
/** The axis of a scan's partial sums: one for each workgroup of lanes. */
export const partialAxisOf = ({ laneAxis, workgroupSize }: ScanPlan): Dim => {
  const size = Math.ceil(laneAxis!.size / workgroupSize);
  return { axis: partialAxis(size), size };
};

const finished = (scan: Node, plan: ScanPlan, name: string): Node => {
  const { axis } = scan.attributes;
  const reduction = plan.partial[name];
  const length = scan.args[scan.attributes.carries!.length].axes[axis!];
  const groups = partialAxisOf(plan);
  const across = plan.parallel.filter((dim) =>
    reduction.attributes.over!.includes(dim.axis) && dim.axis !== plan.laneAxis!.axis
  );
  const extra = Object.fromEntries([
    ...across.map((dim) => [dim.axis, dim.size] as const),
    ...(reduction.attributes.over!.includes(plan.laneAxis!.axis)
      ? [[groups.axis, groups.size] as const]
      : []),
  ]);
  const stored = intern(
    "part",
    "f32",
    { [axis!]: length, ...reduction.axes, ...extra },
    [scan],
    { name: `partial.${name}` },
  );
  return reduce(stored, "add", Object.keys(extra));
};

/**
 * The plan of a cooperative scan: each workgroup runs it at one position of the independent axes;
 * undefined if the rest does not fit into workgroup memory. Its carries are stored at every step
 * for a scan back over it: recomputing them would be one more contraction a step.
 */
const planCooperative = (scan: Node, mixed: ReadonlySet<string>): ScanPlan | undefined => {
  const { out } = scan.attributes.step!;
  const everything = inStep(scan);
  const axes = axesIn(everything);
  const reduced = reducedIn(everything);
  const dim = (axis: string): Dim => ({
    axis,
    size: sizeOf(everything.find((node) => axis in node.axes)!.axes, axis),
  });
  const moved = movedIn(everything);
  const isHeld = (axis: string) => mixed.has(axis) || reduced.has(axis) || moved.has(axis);
  // In the order of the largest input, so that neighbouring lanes read neighbouring elements.
  const inputs = everything.filter((node) =>
    node.op === "local" && !node.attributes.name!.startsWith("carry.")
  );
  const [largest] = [...inputs].sort((a, b) => volume(b.axes) - volume(a.axes));
  const order = Object.keys(largest?.axes ?? {});
  const held = [...axes].filter(isHeld).map(dim)
    .sort((a, b) => order.indexOf(a.axis) - order.indexOf(b.axis));
  // Values that are only read through movements have axes along which nothing is computed.
  const lanes = axesIn([...Object.values(scan.attributes.step!.next), ...Object.values(out)]);
  const parallel = [...lanes].filter((axis) => !isHeld(axis)).map(dim);
  const width = lanesFor(scan, Object.values(out), held);
  if (width === undefined) return undefined;
  const outs = { ...out };
  return {
    parallel: parallel,
    perLane: held,
    laneAxis: undefined,
    workgroupSize: width,
    cooperative: true,
    outs,
    partial: {},
    checkpointEvery: 1,
  };
};

const planScan = (scan: Node, recomputes: Node | undefined): ScanPlan => {
  const { step } = scan.attributes;
  const chain = stepNodes(scan, "next");
  const outNodes = stepNodes(scan, "out");
  const again = recomputes === undefined ? [] : stepNodes(recomputes, "next");
  const fixed = new Set([
    ...reducedIn(chain),
    ...movedIn([...chain]),
    ...movedIn([...outNodes]),
    ...reducedIn(again),
    ...movedIn(again),
  ]);
  for (const node of [...chain, ...outNodes, ...again]) {
    if (node.op === "scan") {
      for (const axis of axesIn(topologicalOrder([node]))) fixed.add(axis);
    }
  }
  // A sum is computed once for all elements that a lane carries along axes that the sum lacks, as
  // far as the lane can hold them; beyond, each lane computes it for itself.
  const sums = chain.filter((node) => node.op === "reduce");
  const lacking = [...axesIn(Object.values(step!.next))]
    .filter((axis) => sums.some((node) => !(axis in node.axes)));
  holdable(scan, lacking, fixed, keptLimit).forEach((axis) => fixed.add(axis));
  const everything = [...chain, ...outNodes, ...again];
  const lengthOf = (axis: string) =>
    sizeOf(everything.find((node) => axis in node.axes)!.axes, axis);
  const outs: Record<string, Node> = { ...step!.out };
  const partial: Record<string, Node> = {};
  const held = new Set(fixed);
  const candidates = [...reducedIn(outNodes)].filter((axis) => !held.has(axis))
    .sort((a, b) => lengthOf(a) - lengthOf(b) || (a < b ? -1 : 1));
  const across: string[] = [];
  for (const axis of candidates) {
    const volume = [...held].reduce((n, name) => n * lengthOf(name), lengthOf(axis));
    if (volume <= heldLimit) held.add(axis);
    else across.push(axis);
  }
  // Sums across lanes must be outermost in an output; where they are not, the lane holds the axis.
  for (const [name, node] of Object.entries(step!.out)) {
    const inside = reducedIn(topologicalOrder([node]));
    if (!across.some((axis) => inside.has(axis))) continue;
    const top = outermost(node, across);
    const clean = top !== undefined && top.op === "reduce" &&
      !across.some((axis) => reducedIn(topologicalOrder([top.args[0]])).has(axis));
    if (clean) {
      partial[name] = top;
      outs[name] = top;
    } else {
      for (const axis of inside) held.add(axis);
    }
  }
  for (const [name, node] of Object.entries(partial)) {
    // An axis that is held after all may leave nothing to sum across lanes.
    if (node.attributes.over!.every((axis) => held.has(axis))) delete partial[name];
  }
  const lanesOf = axesIn([
    ...Object.values(step!.next),
    // Recomputed carries, where no cotangent has their axes.
    ...recomputes === undefined ? [] : Object.values(recomputes.attributes.step!.next),
    ...Object.values(outs),
    ...Object.values(partial).map((node) => node.args[0]),
  ]);
  const space = [...lanesOf].filter((axis) => !held.has(axis)).map((axis) => ({
    axis,
    size: lengthOf(axis),
  }));
  const summed = Object.values(partial).flatMap((node) => node.attributes.over!)
    .filter((axis) => !held.has(axis));
  // Neighbouring chunks are far apart in memory.
  const isNear = (dim: Dim) => Number(!dim.axis.includes(chunkSuffix) && dim.size >= fewLanes);
  const best = (of: readonly Dim[]) =>
    [...of].sort((a, b) => isNear(b) - isNear(a) || b.size - a.size)[0];
  const lanes = best(space.filter((dim) => summed.includes(dim.axis))) ?? best(space);
  const ordered = lanes === undefined ? space : [...space.filter((dim) => dim !== lanes), lanes];
  let width = workgroup;
  while (lanes !== undefined && width > 8 && width / 2 >= lanes.size) width /= 2;
  const heldDims = [...held].map((axis) => ({ axis, size: lengthOf(axis) }));
  const perLane = Object.values(partial).reduce(
    (n, node) => n + size(heldDims.filter((dim) => dim.axis in node.axes)),
    0,
  );
  while (width > 8 && perLane * width * 4 > sharedLimit) width /= 2;
  return {
    parallel: ordered,
    perLane: heldDims,
    laneAxis: lanes,
    workgroupSize: width,
    cooperative: false,
    outs,
    partial,
    checkpointEvery: 1,
    recomputes,
  };
};

/**
 * A scan by lanes, which recompute the carries of `source` unless a step reads those of other lanes:
 * then they are read from memory.
 */
const planLanes = (scan: Node, source: Node | undefined): ScanPlan => {
  const plan = planScan(scan, source);
  if (source === undefined) return plan;
  const moved = movedIn(inStep(scan), recomputedLeaves(scan, source));
  return plan.parallel.some(({ axis }) => moved.has(axis)) ? planScan(scan, undefined) : plan;
};

/** The axes along which lanes run a scan in parallel; each lane holds the others. */
export const spaceOf = (scan: Node): readonly Dim[] => planScan(scan, undefined).parallel;

/**
 * Chooses the steps between stored carries (sqrt checkpointing); all are stored where none are
 * recomputed.
 */
const withSegments = (
  roots: readonly Node[],
  plans: ReadonlyMap<Node, ScanPlan>,
): ReadonlyMap<Node, ScanPlan> => {
  const result = new Map<Node, ScanPlan>();
  const live = topologicalOrder(roots).filter((node) => node.op === "scan");
  for (const scan of live) result.set(scan, plans.get(scan)!);
  for (const scan of live) {
    const source = plans.get(scan)!.recomputes;
    if (source === undefined) continue;
    const { perLane } = plans.get(scan)!;
    const { from } = roles(source);
    const values = Object.values(from).reduce(
      (n, node) => n + size(perLane.filter((dim) => dim.axis in node.axes)),
      0,
    );
    const steps = sizeOf(
      source.args[source.attributes.carries!.length].axes,
      source.attributes.axis!,
    );
    const fit = Math.max(1, Math.floor(segmentLimit / values));
    // More than the square root of the steps, as memory for carries costs more than a lane's
    // registers.
    const every = Math.min(fit, Math.max(1, Math.ceil(1.5 * Math.sqrt(steps))));
    result.set(source, { ...result.get(source)!, checkpointEvery: every });
    if (every === 1) result.set(scan, { ...result.get(scan)!, recomputes: undefined });
  }
  return result;
};
