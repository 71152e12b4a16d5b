// Fusion: divides the graph into kernels. Consumers are visited before producers, and each value is
// either computed in the kernels that use it or stored by one kernel. A row kernel takes in
// reductions over its row axes, a contraction takes in its point-wise epilogue, and a value with
// several users is stored by a kernel that computes it anyway, if no cycle forms.
import { volume } from "../../../dsl/axes.ts";
import { type Node, topologicalOrder } from "../../../dsl/node.ts";
import { scalarRow } from "../../../dsl/primitives.ts";
import { roles } from "../../../dsl/scan.ts";
import type { Program } from "../../backend.ts";
import { fuseHorizontally } from "./horizontal.ts";
import { cutsOf } from "./cuts.ts";
import {
  contractionOf,
  costOf,
  isBound,
  isLeaf,
  isMovement,
  isSmall,
  maxInlineWork,
  memoryCost,
  mostBound,
  operandReads,
  origin,
  smallReduction,
  terms,
  type Work,
  work,
} from "../cost_model.ts";
import {
  domainOf,
  fills,
  type KernelDraft,
  mostReductions,
  type Space,
  updatesOf,
  type Use,
} from "./kernel_draft.ts";
import { waiting } from "./reachability.ts";
import { dims, size } from "../kernel_ir.ts";
import type { ScanPlan } from "../scans/plan.ts";

/** Cost of reading an element again shortly after, in additions. */
const rereadCost = 2;
/** Cost of launching one more kernel, in additions. */
const launchCost = 2 ** 22;
/** Contractions and scans after which a value may be rematerialised in place of being kept. */
const rematDistance = 8;
/** True if a kernel would compute each element of a value in more than one workgroup. */
const isRepeated = (node: Node, count: number): boolean =>
  count > operandReads(1) * volume(node.axes);
/** Smaller values are never rematerialised. */
const worthKeeping = 2 ** 14;
/** Most reduction kernels, the nearest ones, that are tried for taking in one more reduction. */
const mostFriends = 64;
/** Most additions to recompute an element. */
const mostOnce = 48;
/** The same if a kernel recomputes it more than once. */
const mostRepeated = 8;
/**
 * Most values of one operation that a kernel recomputes. A chain of sums, such as the gradient of a
 * residual stream, is cheap link by link, but all its terms would be read.
 */
const mostAlike = 8;

/** A program after the graph passes, before fusion. */
export interface Prepared {
  /** The program, whose outputs have their orders in the axis names of `roots`. */
  readonly program: Program;
  /** The values of the outputs and of the updates, in their order. */
  readonly roots: readonly Node[];
  readonly plans: ReadonlyMap<Node, ScanPlan>;
}

/** A program divided into kernels, each a draft. */
export interface Fused {
  readonly drafts: readonly KernelDraft[];
  /** The draft that stores a value. */
  readonly home: ReadonlyMap<Node, KernelDraft>;
  readonly uses: ReadonlyMap<Node, ReadonlyMap<KernelDraft, Use>>;
}

/** Divides a program into kernels. */
export const fuse = ({ program, roots, plans }: Prepared): Fused => {
  const order = topologicalOrder(roots);
  const users = new Map<Node, number>();
  for (const node of order) {
    for (const arg of new Set(node.args)) users.set(arg, (users.get(arg) ?? 0) + 1);
  }
  const isRoot = new Set(roots);

  const works = new Map<Node, Work>();
  const cuts = cutsOf(order, users);
  for (const node of order) works.set(node, work(node, cuts));
  const bound = new Map<KernelDraft, Set<Node>>();

  const drafts: KernelDraft[] = [];
  const uses = new Map<Node, Map<KernelDraft, Use>>();
  const forced = new Set<Node>();
  const home = new Map<Node, KernelDraft>();
  const waits = waiting(home);
  const use = (node: Node, draft: KernelDraft, aligned: boolean, count: number) => {
    if (isBound(node)) bound.set(draft, (bound.get(draft) ?? new Set()).add(node));
    if (!uses.has(node)) uses.set(node, new Map());
    const seen = uses.get(node)!.get(draft);
    if (seen === undefined) {
      uses.get(node)!.set(draft, { aligned, count });
      waits.reads(draft, node);
    } else {
      seen.aligned &&= aligned;
      seen.count = Math.max(seen.count, count);
    }
  };
  const begin = (
    fields: Omit<KernelDraft, "id" | "reductions" | "rematerialised" | "path">,
    node: Node,
  ): KernelDraft => {
    const draft = {
      id: drafts.length,
      reductions: [],
      rematerialised: new Set<Node>(),
      path: [...node.path, node.op].join(" > "),
      ...fields,
    };
    drafts.push(draft);
    return draft;
  };

  const rowSpace = (draft: KernelDraft): Space =>
    new Map([...draft.domain].filter(([axis]) => !draft.reductionAxes?.includes(axis)));
  /** True when `draft` could store `of` as well: it iterates over the right axes. */
  const spans = (node: Node, draft: KernelDraft) =>
    fills(node, draft.domain) ||
    (draft.reductionAxes !== undefined && fills(node, rowSpace(draft)));
  /** True when `draft` can run `of`, a reduction, as one of its row reductions. */
  const takesReduction = (node: Node, draft: KernelDraft) => {
    if (draft.scan !== undefined || draft.contraction !== undefined) return false;
    if (draft.reductions.length >= mostReductions) return false;
    const { over } = node.attributes;
    if (!fills(node.args[0], draft.domain)) return false;
    if (draft.reductionAxes !== undefined) return draft.reductionAxes.join() === over!.join();
    return draft.roots.every((root) => fills(root, draft.domain));
  };
  /** True if `draft`, a map, may become the row kernel that computes `of` and then the map. */
  const becomesRow = (node: Node, draft: KernelDraft) =>
    draft.scan === undefined && draft.contraction === undefined &&
    draft.reductionAxes === undefined &&
    fills(node, draft.domain);
  /** Cached answers of `isRowValue` for a draft; valid while the draft does not change. */
  const rowValues = new Map<
    KernelDraft,
    { readonly state: string; readonly found: Map<Node, boolean> }
  >();
  const rowValuesOf = (draft: KernelDraft, missing: string): Map<Node, boolean> => {
    const { domain, reductionAxes, roots, contraction } = draft;
    const state = `${missing} | ${[
      ...domain.keys(),
    ]} | ${reductionAxes} | ${roots.length} | ${contraction?.id}`;
    const before = rowValues.get(draft);
    if (before?.state === state) return before.found;
    const found = new Map<Node, boolean>();
    rowValues.set(draft, { state, found });
    return found;
  };
  /** True for a value of a whole row, made of row reductions that `draft` has or can take in. */
  const isRowValue = (node: Node, draft: KernelDraft): boolean => {
    const missing = [...draft.domain.keys()].filter((axis) => !(axis in node.axes)).sort().join();
    if (missing === "" || !Object.keys(node.axes).every((axis) => draft.domain.has(axis))) {
      return false;
    }
    const found = rowValuesOf(draft, missing);
    const isRow = (x: Node) =>
      x.attributes.over!.join() === missing && takesReduction(x, draft) &&
      contractionOf(x) === undefined && volume(x.args[0].axes) / volume(x.axes) > smallReduction;
    const made = (x: Node): boolean => {
      // A cut value is stored, so this kernel does not compute it.
      if (x !== node && cuts.has(x)) return false;
      const known = found.get(x);
      if (known !== undefined) return known;
      const value = x.op === "reduce"
        ? isRow(x)
        : scalarRow(x.op) !== undefined && x.args.some(made);
      found.set(x, value);
      return value;
    };
    return made(node);
  };
  /** Kernels whose first root is a reduction, by the operands of what it reduces. */
  const sumsNear = new Map<Node, KernelDraft[]>();
  const near = ({ args: [x] }: Node): readonly Node[] =>
    [...new Set([...x.args, ...x.args.flatMap((arg) => arg.args)])].filter((x) => x.op !== "const");
  const addRoot = (node: Node, draft: KernelDraft) => {
    if (node.op === "reduce" && draft.roots.length === 0) {
      for (const x of near(node)) {
        const there = sumsNear.get(x);
        if (there === undefined) sumsNear.set(x, [draft]);
        else there.push(draft);
      }
    }
    draft.roots.push(node);
  };
  /**
   * True if storing `of` in `draft` makes no kernel depend on itself, directly or through others.
   */
  const acyclic = (node: Node, draft: KernelDraft) => !waits.isBehindUser(draft, node);

  /** Computes a value in a kernel, `count` times: its arguments are used there. */
  const place = (node: Node, draft: KernelDraft, aligned: boolean, count: number) => {
    if (node.op === "reduce") {
      const [x] = node.args;
      if (draft.contraction === node) {
        const { left, right, rows, columns } = contractionOf(node)!;
        use(left, draft, false, volume(left.axes) * operandReads(size(columns)));
        use(right, draft, false, volume(right.axes) * operandReads(size(rows)));
      } else if (draft.reductions.includes(node)) use(x, draft, aligned, volume(x.axes));
      else use(x, draft, false, count * volume(x.axes) / volume(node.axes));
      return;
    }
    // A materialised value is stored by a kernel of its own, so that no reader computes it as well.
    const moved = ["index", "gather", "materialise"].includes(node.op);
    node.args.forEach((arg) => use(arg, draft, aligned && !moved, count));
  };

  /** Stores a value: in a kernel that computes it anyway, or in a new one. */
  const store = (node: Node) => {
    const mine = cuts.has(node) ? [] : [...(uses.get(node) ?? [])];
    const contraction = contractionOf(node);
    const isRow = node.op === "reduce" && contraction === undefined &&
      volume(node.args[0].axes) / volume(node.axes) > smallReduction;
    for (const [draft, { aligned }] of mine) {
      if (!aligned || draft.scan !== undefined || isLeaf(node)) continue;
      if (draft.roots.length >= 4) continue;
      if (contraction !== undefined) {
        if (draft.contraction !== undefined || draft.reductionAxes !== undefined) continue;
        if (!fills(node, draft.domain) || !acyclic(node, draft)) continue;
        draft.contraction = node;
      } else if (isRow) {
        if (!takesReduction(node, draft) || !acyclic(node, draft)) continue;
        draft.reductionAxes = node.attributes.over;
        draft.reductions.push(node);
      } else if (spans(node, draft)) {
        if (!acyclic(node, draft)) continue;
      } else {
        if (draft.contraction !== undefined || !isRowValue(node, draft)) continue;
        if (!acyclic(node, draft)) continue;
        draft.reductionAxes = [...draft.domain.keys()].filter((axis) => !(axis in node.axes))
          .sort();
      }
      addRoot(node, draft);
      home.set(node, draft);
      place(node, draft, true, volume(node.axes));
      return;
    }
    if (isRow) {
      const close = new Set(near(node).flatMap((x) => sumsNear.get(x)?.slice(-mostFriends) ?? []));
      const friend = [...close].sort((a, b) => a.id - b.id).find((draft) =>
        draft.scan === undefined && draft.reductionAxes !== undefined && draft.roots.length < 4 &&
        draft.roots.every((root) => root.op === "reduce") && takesReduction(node, draft) &&
        !waits.isUser(draft, node) && acyclic(node, draft)
      );
      const draft = friend ??
        begin(
          { roots: [], domain: domainOf(node.args[0]), reductionAxes: node.attributes.over },
          node,
        );
      addRoot(node, draft);
      draft.reductions.push(node);
      home.set(node, draft);
      place(node, draft, true, volume(node.axes));
      return;
    }
    const draft = begin({ roots: [], domain: domainOf(node) }, node);
    addRoot(node, draft);
    if (contraction !== undefined) draft.contraction = node;
    home.set(node, draft);
    place(node, draft, true, volume(node.axes));
  };

  // Time counts contractions and scans: kernels run about in the order of their first values.
  const time = new Map<Node, number>();
  order.reduce((before, node) => {
    time.set(node, before);
    return before + (node.op === "scan" || contractionOf(node) !== undefined ? 1 : 0);
  }, 0);
  const when = ({ scan, roots, contraction, reductions }: KernelDraft): number =>
    Math.min(
      ...[scan, contraction, ...roots, ...reductions].flatMap((of) =>
        of === undefined ? [] : [time.get(of)!]
      ),
    );
  /**
   * Cost of rematerialising one element of a value in `draft` from values that are in memory then,
   * or that could be kept in its place. Infinite where those would take more memory than the value.
   */
  const rematCost = (node: Node, draft: KernelDraft): number => {
    const seen = new Set<Node>();
    const late = when(draft) - rematDistance / 2;
    let total = 0, reads = 0, instead = 0;
    const share = (x: Node) => Math.min(1, volume(x.axes) / volume(node.axes));
    const read = (x: Node, times: number) => {
      reads += times * share(x);
    };
    const visit = (x: Node, times: number) => {
      if (seen.has(x) || total > mostOnce) return;
      seen.add(x);
      if (isLeaf(x)) return x.op === "iota" ? undefined : read(x, times);
      if (x !== node && cuts.has(x)) {
        instead += volume(x.axes);
        return read(x, times);
      }
      const isScalar = scalarRow(x.op) !== undefined || isSmall(x);
      const isMoved = isMovement(x);
      if (x !== node) {
        const from = origin(x);
        const { flops, reads } = works.get(from)!;
        const isCheap = scalarRow(from.op) !== undefined && flops <= maxInlineWork && reads <= 1.25;
        const isKept = [...uses.get(x) ?? []].some(([user, { count }]) =>
          when(user) >= late && (!isCheap || isRepeated(x, count) && flops > mostRepeated)
        );
        if (isKept) return read(from, times);
        if (!isMoved && !isCheap && (!isScalar || users.get(x)! > 1)) {
          instead += volume(x.axes);
          return read(x, times);
        }
      }
      total += isMoved || isScalar ? costOf(x) * times * terms(x) * share(x) : Infinity;
      x.args.forEach((arg) => visit(arg, times * terms(x)));
    };
    visit(node, 1);
    return instead > 1.25 * volume(node.axes)
      ? Infinity
      : total + rereadCost * Math.max(0, reads - 1);
  };
  /**
   * Rematerialisation: a value that a kernel uses long after it was computed, as the backward pass
   * does, is recomputed there if that is little work from values in memory. This lowers peak
   * memory.
   */
  const rematerialise = (node: Node, mine: Map<KernelDraft, Use>) => {
    if (scalarRow(node.op) === undefined && !isSmall(node) || volume(node.axes) < worthKeeping) {
      return;
    }
    const late = [...mine].filter(([draft]) => when(draft) - time.get(node)! > rematDistance);
    const affordable = late.every(([draft, { count }]) => {
      const often = isRepeated(node, count) && !isRowValue(node, draft);
      return rematCost(node, draft) <= (often ? mostRepeated : mostOnce);
    });
    const isChain = late.some(([draft]) =>
      [...draft.rematerialised].filter((x) =>
        x.op === node.op && volume(x.axes) >= volume(node.axes)
      ).length >=
        mostAlike
    );
    if (!affordable || isChain) return;
    for (const [draft, { aligned, count }] of late) {
      draft.rematerialised.add(node);
      mine.delete(draft);
      place(node, draft, aligned, count);
    }
  };

  const draftOf = new Map<Node, KernelDraft>();
  for (const node of [...order].reverse()) {
    const mine = uses.get(node) ?? new Map<KernelDraft, Use>();
    if (node.op === "scan") {
      const draft = draftOf.get(node);
      if (draft === undefined) continue;
      const { parallel } = plans.get(node)!;
      const across = new Set(parallel.map((dim) => dim.axis));
      node.args.forEach((arg) => {
        // Each lane reads its part of an argument, once a step or once before the first step.
        const count = size(parallel) * size(dims(arg.axes).filter((dim) => !across.has(dim.axis)));
        const isPrev = arg.op === "part" && arg.attributes.name!.startsWith("prev.");
        if (isPrev && plans.get(node)!.recomputes === arg.args[0]) {
          const { each, rest } = roles(arg.args[0]);
          [...Object.values(each), ...rest].forEach((input) => use(input, draft, false, count));
        }
        use(arg, draft, false, count);
      });
      continue;
    }
    if (node.op === "part") {
      const [scan] = node.args;
      if (!draftOf.has(scan)) {
        draftOf.set(scan, begin({ scan, roots: [], domain: new Map() }, scan));
      }
      const draft = draftOf.get(scan)!;
      addRoot(node, draft);
      home.set(node, draft);
      continue;
    }
    if (isLeaf(node)) continue;
    if (!forced.has(node) && !cuts.has(node)) rematerialise(node, mine);
    if (isRoot.has(node) || forced.has(node)) {
      store(node);
      continue;
    }
    if (mine.size === 0) continue;
    if (cuts.has(node)) {
      store(node);
      continue;
    }
    const only = mine.size === 1 ? [...mine][0] : undefined;
    const repeats = (draft: KernelDraft) =>
      isRowValue(node, draft) ? 1 : mine.get(draft)!.count / volume(node.axes);
    const { flops, reads, leaves } = works.get(node)!;
    const more = (draft: KernelDraft) => Math.max(0, repeats(draft) - 1);
    const once = flops + memoryCost * reads;
    const again = [...mine.keys()].reduce(
      (total, draft) => total + once + (flops + rereadCost * reads) * more(draft),
      0,
    );
    const stored = [...mine.keys()].reduce(
      (total, draft) => total + memoryCost + rereadCost * more(draft),
      once + memoryCost,
    );
    const fits = [...mine.keys()].every((draft) =>
      leaves.size === 0 || new Set([...bound.get(draft) ?? [], ...leaves]).size <= mostBound
    );
    const worth = (only !== undefined && repeats(only[0]) <= 1) ||
      (fits && flops <= maxInlineWork &&
        again * volume(node.axes) <= stored * volume(node.axes) + launchCost);
    if (node.op === "index" || node.op === "recompute") {
      mine.forEach(({ aligned, count }, draft) => place(node, draft, aligned, count));
    } else if (node.op === "gather" || node.op === "materialise") {
      forced.add(node.args[0]);
      mine.forEach(({ aligned, count }, draft) => place(node, draft, aligned, count));
    } else if (node.op === "reduce") {
      const contraction = contractionOf(node);
      const small = volume(node.args[0].axes) / volume(node.axes) <= smallReduction;
      if (only === undefined) store(node);
      else if (contraction !== undefined) {
        const [draft, { aligned }] = only;
        const fits = aligned && draft.scan === undefined && draft.contraction === undefined &&
          draft.reductionAxes === undefined && fills(node, draft.domain);
        if (fits) {
          draft.contraction = node;
          place(node, draft, true, only[1].count);
        } else store(node);
      } else if (small) {
        if (worth) place(node, only[0], false, only[1].count);
        else store(node);
      } else if (only[1].aligned && (takesReduction(node, only[0]) || becomesRow(node, only[0]))) {
        const [draft] = only;
        if (draft.reductionAxes === undefined) draft.domain = domainOf(node.args[0]);
        draft.reductionAxes = node.attributes.over;
        draft.reductions.push(node);
        place(node, draft, true, only[1].count);
      } else store(node);
    } else if (worth) {
      mine.forEach(({ aligned, count }, draft) => place(node, draft, aligned, count));
    } else store(node);
  }

  // Row kernels that took in no reduction become maps.
  for (const draft of [...drafts]) {
    if (draft.reductionAxes === undefined || draft.reductions.length > 0) continue;
    if (draft.scan !== undefined || draft.contraction !== undefined) continue;
    const ofRows = draft.roots.filter((root) => fills(root, rowSpace(draft)));
    const others = draft.roots.filter((root) => !ofRows.includes(root));
    draft.reductionAxes = undefined;
    if (ofRows.length === 0) continue;
    if (others.length === 0) {
      draft.domain = domainOf(ofRows[0]);
      continue;
    }
    const first = begin({ roots: [], domain: domainOf(ofRows[0]) }, ofRows[0]);
    draft.rematerialised.forEach((node) => first.rematerialised.add(node));
    // A value without the row axes depends on no value with them except through a reduction.
    for (const node of waits.readBy(draft)) {
      const by = uses.get(node)!, seen = by.get(draft);
      if (seen !== undefined && !others.includes(node)) by.set(first, { ...seen });
    }
    draft.roots.splice(0, Infinity, ...others);
    for (const node of ofRows) {
      first.roots.push(node);
      if (home.get(node) === draft) home.set(node, first);
      use(node, draft, true, volume(others[0].axes));
    }
  }

  const updated = updatesOf(program, roots);
  const isUpdate = (draft: KernelDraft) =>
    draft.scan === undefined &&
    draft.roots.every((root) => home.get(root) === draft && updated.has(root));
  return { drafts: fuseHorizontally({ drafts, home, uses, when, isUpdate }), home, uses };
};
