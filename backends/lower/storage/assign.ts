// From drafts to kernels: their order, a storage for every stored value, and which updates run in
// place.
import { sameAxes, sizeOf } from "../../../dsl/axes.ts";
import { type Node, nodeOf, topologicalOrder } from "../../../dsl/node.ts";
import { part, roles } from "../../../dsl/scan.ts";
import { ascend } from "../../../dsl/walk.ts";
import type { Program } from "../../backend.ts";
import { contractionOf, isLeaf } from "../cost_model.ts";
import { type KernelDraft, updatesOf, type Use } from "../fusion/kernel_draft.ts";
import { canBeF16 } from "./half_precision.ts";
import {
  type Checkpoints,
  copying,
  type Dim,
  dims,
  type Kernel,
  type KernelOutput,
  type LoweredProgram,
  type ScanRoot,
  size,
  type Storage,
} from "../kernel_ir.ts";
import { partialAxisOf, type ScanPlan, segmentAxis } from "../scans/plan.ts";

/** Addresses are 32-bit signed integers on devices. */
const indexLimit = 2 ** 31 - 1;

/**
 * Orders the drafts, assigns a storage to every stored value, and chooses the updates that run in
 * place.
 */
export const assignBuffers = (
  program: Program,
  roots: readonly Node[],
  drafts: readonly KernelDraft[],
  home: ReadonlyMap<Node, KernelDraft>,
  uses: ReadonlyMap<Node, ReadonlyMap<KernelDraft, Use>>,
  plans: ReadonlyMap<Node, ScanPlan>,
  halvesFrom: number,
): LoweredProgram => {
  let nextId = 0;
  const storage = (fields: Omit<Storage, "id">): Storage => {
    const elements = size(fields.dims);
    if (elements > indexLimit) {
      const shape = fields.dims.map((dim) => `${dim.axis} ${dim.size}`).join(" x ");
      throw new RangeError(
        `a value of ${shape} has ${elements} elements, more than 32-bit indices reach; use a smaller batch`,
      );
    }
    return { id: nextId++, ...fields };
  };
  const stored = new Map<Node, Storage>();
  const inputs: Storage[] = [], params: Storage[] = [], literals: Storage[] = [];
  const leaf = (node: Node) => {
    const role = node.op as "input" | "param" | "literal";
    const { name, data } = node.attributes;
    const made = storage({ dtype: node.dtype, dims: dims(node.axes), role, name, data });
    stored.set(node, made);
    ({ input: inputs, param: params, literal: literals })[role].push(made);
  };
  const outputs = Object.entries(program.outputs);
  const updates = Object.entries(program.updates ?? {});
  for (const node of topologicalOrder(roots)) {
    if (["input", "param", "literal"].includes(node.op)) leaf(node);
  }

  const readers = new Map<Node, Set<KernelDraft>>();
  const needs = new Map<KernelDraft, Set<KernelDraft>>(drafts.map((draft) => [draft, new Set()]));
  for (const [node, by] of uses) {
    readers.set(node, new Set(by.keys()));
    const from = home.get(node);
    if (from === undefined) continue;
    for (const draft of by.keys()) if (draft !== from) needs.get(draft)!.add(from);
  }
  for (const draft of drafts) {
    // A kernel that only copies a value to an output reads it where it is stored.
    for (const root of draft.roots) {
      const from = home.get(root);
      if (from !== undefined && from !== draft) needs.get(draft)!.add(from);
    }
  }

  // A draft that only computes new parameter values may overwrite them after all other readers.
  const updated = updatesOf(program, roots);
  const outputNodes = new Set(roots.slice(0, outputs.length));
  const paramByName = new Map<string, Node>();
  for (const node of stored.keys()) {
    if (node.op === "param") paramByName.set(node.attributes.name!, node);
  }
  const updating = new Set(
    drafts.filter((draft) =>
      draft.scan === undefined && draft.roots.length > 0 &&
      draft.roots.every((root) =>
        home.get(root) === draft && updated.has(root) && !outputNodes.has(root) &&
        [...(readers.get(root) ?? [])].every((reader) => reader === draft)
      )
    ),
  );
  const inPlace = new Map<Node, Storage>();
  // If no kernel reads the old value, the new one is stored in the parameter's place.
  for (const [node, [name, ...others]] of updated) {
    if (others.length > 0 || paramByName.has(name) || outputNodes.has(node) || !home.has(node)) {
      continue;
    }
    const place = storage({ dtype: node.dtype, dims: dims(node.axes), role: "param", name });
    inPlace.set(node, place);
    params.push(place);
  }
  for (const draft of updating) {
    for (const root of draft.roots) {
      if (inPlace.has(root)) continue;
      const [name, ...others] = updated.get(root)!;
      const param = paramByName.get(name);
      if (param === undefined || others.length > 0) continue;
      const by = [...(uses.get(param) ?? [])];
      const safe = by.every(([reader, { aligned }]) =>
        reader === draft ? aligned : !updating.has(reader)
      );
      if (!safe || !sameAxes(param.axes, root.axes)) continue;
      inPlace.set(root, stored.get(param)!);
      by.forEach(([reader]) => reader !== draft && needs.get(draft)!.add(reader));
    }
  }

  const sequence = topological(drafts.filter((draft) => draft.roots.length > 0), needs, updating);

  const outputStorage: Record<string, Storage> = {};
  const copies: { from: Storage; to: Storage }[] = [];
  const wantedOrder = new Map<Node, readonly string[]>();
  outputs.forEach(([, output], k) => {
    if (!wantedOrder.has(roots[k])) wantedOrder.set(roots[k], output.order);
  });
  updates.forEach(([name], k) => {
    const node = roots[outputs.length + k];
    const param = paramByName.get(name);
    if (!wantedOrder.has(node) && param !== undefined) {
      wantedOrder.set(node, Object.keys(param.axes));
    }
  });

  const mayRound = halvesFrom === Infinity
    ? new Set<Node>()
    : canBeF16(topologicalOrder(roots), halvesFrom, new Set(updates.map(([name]) => name)));
  /** True for the sum or maximum of a row. */
  const isStatistic = (node: Node, { reductionAxes, contraction }: KernelDraft): boolean =>
    contraction === undefined && reductionAxes !== undefined &&
    !reductionAxes.every((axis) => axis in node.axes);
  const isHalf = (node: Node, draft: KernelDraft): boolean =>
    mayRound.has(node) && !outputNodes.has(node) && !updated.has(node) &&
    !isStatistic(node, draft) &&
    !node.attributes.name?.startsWith("final.");
  const placed = (node: Node, draft: KernelDraft, order: readonly string[]): Storage =>
    storage({
      dtype: node.dtype,
      ...(isHalf(node, draft) ? { half: true } : {}),
      dims: dims(node.axes, order),
      role: outputNodes.has(node) ? "output" : "temporary",
    });

  const checkpoints = new Map<Node, Checkpoints>();
  const scanStorage = (draft: KernelDraft) => {
    const scan = draft.scan!;
    const plan = plans.get(scan)!;
    const prevs = draft.roots.filter((node) => node.attributes.name!.startsWith("prev."));
    if (prevs.length > 0) {
      const { from } = roles(scan);
      const steps = sizeOf(prevs[0].axes, scan.attributes.axis!);
      const segments = Math.ceil(steps / plan.checkpointEvery);
      // All carries are stored where steps are recomputed from them; else those that are read.
      const names = plan.checkpointEvery > 1
        ? scan.attributes.carries!
        : prevs.map((node) => node.attributes.name!.slice("prev.".length));
      const entries = names.map((name) => {
        const made = storage({
          dtype: from[name].dtype,
          dims: [
            {
              axis: plan.checkpointEvery > 1 ? segmentAxis : scan.attributes.axis!,
              size: segments,
            },
            ...dims(from[name].axes),
          ],
          role: "temporary",
        });
        if (plan.checkpointEvery === 1) stored.set(part(scan, "prev", name), made);
        return [name, made] as const;
      });
      checkpoints.set(scan, { every: plan.checkpointEvery, storage: Object.fromEntries(entries) });
    }
    for (const node of draft.roots) {
      if (node.attributes.name!.startsWith("prev.")) continue;
      const order = wantedOrder.get(node) ?? Object.keys(node.axes);
      stored.set(node, inPlace.get(node) ?? placed(node, draft, order));
    }
  };
  for (const draft of sequence) {
    if (draft.scan !== undefined) {
      scanStorage(draft);
      continue;
    }
    for (const root of draft.roots) {
      if (home.get(root) !== draft) continue;
      const order = wantedOrder.get(root) ?? orderLikeReads(root, draft, stored);
      stored.set(root, inPlace.get(root) ?? placed(root, draft, order));
    }
  }

  const extra: Kernel[] = [];
  const sameOrder = (storage: Storage, order: readonly string[]) =>
    storage.dims.map((dim) => dim.axis).join() === order.join();
  const copyOut = (node: Node, order: readonly string[], role: "output" | "temporary"): Storage => {
    const made = storage({ dtype: node.dtype, dims: dims(node.axes, order), role });
    extra.push(copying(node, made, [...node.path, "copy"].join(" > ")));
    return made;
  };
  outputs.forEach(([name, output], k) => {
    const node = roots[k];
    const own = stored.get(node);
    const usable = own !== undefined && own.role === "output" && sameOrder(own, output.order);
    outputStorage[name] = usable ? own : copyOut(node, output.order, "output");
  });
  updates.forEach(([name], k) => {
    const node = roots[outputs.length + k];
    const param = paramByName.get(name);
    const to = param === undefined ? undefined : stored.get(param);
    if (inPlace.get(node)?.name === name) return;
    const order = param === undefined ? Object.keys(node.axes) : Object.keys(param.axes);
    const target = to ??
      storage({ dtype: node.dtype, dims: dims(node.axes, order), role: "param", name });
    if (to === undefined) params.push(target);
    const own = stored.get(node);
    const from =
      own !== undefined && own.role !== "param" && own.role !== "input" && sameOrder(own, order)
        ? own
        : copyOut(node, order, "temporary");
    copies.push({ from, to: target });
  });

  // A leaf is copied to an output before any update overwrites it.
  const isFirst = (kernel: Kernel) =>
    kernel.roots.every((root) => "node" in root && isLeaf(root.node));
  const ordered = sequence.flatMap((draft) => {
    const kernel = draft.scan !== undefined
      ? scanKernel(draft, plans.get(draft.scan)!, stored, checkpoints)
      : expressionKernel(draft, home, stored);
    return kernel === undefined ? [] : [kernel];
  });
  const kernels = [
    ...extra.filter(isFirst),
    ...ordered,
    ...extra.filter((kernel) => !isFirst(kernel)),
  ];
  // A parameter that no kernel reads is kept, as its value may be requested.
  const asked = [...outputs.map(([, { of }]) => of), ...updates.map(([, of]) => of)];
  const kept = new Set(params.map(({ name }) => name));
  for (const { op, dtype, axes, attributes: { name } } of topologicalOrder(asked.map(nodeOf))) {
    if (op !== "param" || kept.has(name)) continue;
    kept.add(name);
    params.push(storage({ dtype, dims: dims(axes), role: "param", name }));
  }
  return { kernels, stored, inputs, params, literals, outputs: outputStorage, copies };
};

/**
 * The most frequent order of axes among the stored values that a draft reads and that have the axes
 * of `root`: elements then are contiguous where they are read and written. A node's own order
 * follows from how its expression was written.
 */
const orderLikeReads = (
  root: Node,
  draft: KernelDraft,
  stored: ReadonlyMap<Node, Storage>,
): readonly string[] => {
  const seen = new Set<Node>(),
    orders = new Map<string, { axes: readonly string[]; reads: number }>();
  const rest: Node[] = draft.roots.flatMap(({ args }) => args);
  for (let of = rest.pop(); of !== undefined; of = rest.pop()) {
    if (seen.has(of)) continue;
    seen.add(of);
    const storage = stored.get(of);
    if (storage === undefined) {
      rest.push(...of.args);
    } else if (sameAxes(of.axes, root.axes)) {
      const axes = storage.dims.map(({ axis }) => axis), key = axes.join();
      orders.set(key, { axes, reads: (orders.get(key)?.reads ?? 0) + 1 });
    }
  }
  const most = Math.max(0, ...[...orders.values()].map(({ reads }) => reads));
  return [...orders.values()].find(({ reads }) => reads === most)?.axes ?? Object.keys(root.axes);
};

/** A topological order of drafts. Updates come as soon as they can. */
const topological = (
  drafts: readonly KernelDraft[],
  needs: ReadonlyMap<KernelDraft, ReadonlySet<KernelDraft>>,
  updating: ReadonlySet<KernelDraft>,
): readonly KernelDraft[] => {
  const done = new Map<KernelDraft, KernelDraft>();
  // Drafts made later are earlier in the graph.
  const earlierFirst = (some: Iterable<KernelDraft>) => [...some].sort((a, b) => b.id - a.id);
  for (const draft of earlierFirst(drafts)) {
    ascend(draft, done, (of) => earlierFirst(needs.get(of)!), (of) => of);
  }
  const result = [...done.keys()];
  // Nothing depends on an update, so it comes right after the last draft that it needs; so do
  // drafts that only updates depend on, such as parts of a gradient.
  const used = new Set<KernelDraft>(), awaited = new Set<KernelDraft>();
  for (const [user, all] of needs) {
    for (const draft of all) {
      used.add(draft);
      if (!updating.has(user)) awaited.add(draft);
    }
  }
  const isAside = (draft: KernelDraft): boolean =>
    updating.has(draft) || used.has(draft) && !awaited.has(draft);
  const place = new Map(result.filter((draft) => !isAside(draft)).map((draft, k) => [draft, k]));
  const when = new Map<KernelDraft, number>();
  for (const draft of result) {
    const last = [...needs.get(draft)!].reduce((late, of) => Math.max(late, when.get(of)!), -1);
    when.set(draft, place.get(draft) ?? last);
  }
  return result
    .map((draft, k) => ({ draft, at: when.get(draft)!, isAside: place.has(draft) ? 0 : 1, k }))
    .sort((a, b) => a.at - b.at || a.isAside - b.isAside || a.k - b.k)
    .map(({ draft }) => draft);
};

const expressionKernel = (
  draft: KernelDraft,
  home: ReadonlyMap<Node, KernelDraft>,
  stored: ReadonlyMap<Node, Storage>,
): Kernel | undefined => {
  const roots: KernelOutput[] = draft.roots.filter((root) => home.get(root) === draft)
    .map((root) => ({ node: root, storage: stored.get(root)! }));
  if (roots.length === 0) return undefined;
  const over = (draft.reductionAxes ?? []).map((axis) => ({ axis, size: draft.domain.get(axis)! }));
  const contraction = draft.contraction === undefined
    ? undefined
    : contractionOf(draft.contraction);
  const widest = [...roots].sort((a, b) => size(b.storage.dims) - size(a.storage.dims))[0];
  const ordered = widest.storage.dims.filter((dim) => !draft.reductionAxes?.includes(dim.axis));
  const rest = [...draft.domain].map(([axis, size]) => ({ axis, size }))
    .filter(({ axis }) =>
      !draft.reductionAxes?.includes(axis) && !ordered.some((dim) => dim.axis === axis)
    );
  const space: readonly Dim[] = [...rest, ...ordered];
  const reductions = [...draft.reductions].sort((a, b) => a.id - b.id);
  const shape = contraction !== undefined ? "contraction" : over.length > 0 ? "row" : "map";
  const { rematerialised, path } = draft;
  return { shape, space, over, reductions, contraction, again: rematerialised, roots, path };
};

const scanKernel = (
  draft: KernelDraft,
  plan: ScanPlan,
  stored: ReadonlyMap<Node, Storage>,
  checkpoints: ReadonlyMap<Node, Checkpoints>,
): Kernel => {
  const scan = draft.scan!;
  const roots: ScanRoot[] = [];
  for (const node of draft.roots) {
    const [kind, name] = node.attributes.name!.split(/\.(.*)/s);
    if (kind === "prev") continue;
    const storage = stored.get(node)!;
    if (kind === "partial") {
      roots.push({
        kind: "out",
        name,
        storage,
        partial: { axis: partialAxisOf(plan).axis, reduction: plan.partial[name] },
      });
    } else roots.push({ kind: kind as "final" | "out", name, storage });
  }
  const {
    parallel,
    perLane,
    laneAxis,
    workgroupSize,
    cooperative,
  } = plan;
  const recomputes = plan.recomputes === undefined
    ? undefined
    : { scan: plan.recomputes, checkpoints: checkpoints.get(plan.recomputes)! };
  return {
    shape: "scan",
    scan,
    parallel: parallel,
    perLane: perLane,
    laneAxis: laneAxis,
    workgroupSize: workgroupSize,
    cooperative: cooperative,
    roots,
    checkpoints: checkpoints.get(scan),
    recomputes,
    again: draft.rematerialised,
    path: draft.path,
  };
};
