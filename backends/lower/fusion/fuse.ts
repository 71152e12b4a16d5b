// Fusion: divides the graph into kernels. Consumers are visited before producers, and each value is
// either computed in the kernels that use it or stored by one kernel. A row kernel takes in
// reductions over its row axes, a contraction takes in its point-wise epilogue, and a value with
// several users is stored by a kernel that computes it anyway, if no cycle forms.
import { volume } from "../../../dsl/axes.ts";
import { type Node, reachable } from "../../../dsl/node.ts";
import { scalarRow } from "../../../dsl/primitives.ts";
import { roles } from "../../../dsl/scan.ts";
import type { Program } from "../../backend.ts";
import { joinBeside } from "./horizontal.ts";
import { cutsOf } from "./cuts.ts";
import {
  contractionOf,
  costOf,
  isBound,
  isLeaf,
  isMovement,
  isSmall,
  mostBound,
  origin,
  passes,
  perElement,
  smallReduction,
  terms,
  tooMuch,
  type Work,
  work,
} from "../cost_model.ts";
import {
  type Draft,
  fills,
  fullOf,
  mostReductions,
  type Space,
  updatesOf,
  type Use,
} from "./kernel_draft.ts";
import { waiting } from "./reachability.ts";
import { dims, size } from "../kernel_ir.ts";
import type { ScanPlan } from "../scans/plan.ts";

/** Cost of reading an element again shortly after, in additions. */
const perRepeat = 2;
/** Cost of launching one more kernel, in additions. */
const perKernel = 2 ** 22;
/** Contractions and scans after which a value may be rematerialised in place of being kept. */
const patience = 8;
/** True if a kernel would compute each element of a value in more than one workgroup. */
const isRepeated = (of: Node, count: number): boolean => count > passes(1) * volume(of.axes);
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
  readonly drafts: readonly Draft[];
  /** The draft that stores a value. */
  readonly home: ReadonlyMap<Node, Draft>;
  readonly uses: ReadonlyMap<Node, ReadonlyMap<Draft, Use>>;
}

/** Divides a program into kernels. */
export const fuse = ({ program, roots, plans }: Prepared): Fused => {
  const order = reachable(roots);
  const users = new Map<Node, number>();
  for (const of of order) {
    for (const arg of new Set(of.args)) users.set(arg, (users.get(arg) ?? 0) + 1);
  }
  const isRoot = new Set(roots);

  const works = new Map<Node, Work>();
  const cuts = cutsOf(order, users);
  for (const of of order) works.set(of, work(of, cuts));
  const bound = new Map<Draft, Set<Node>>();

  const drafts: Draft[] = [];
  const uses = new Map<Node, Map<Draft, Use>>();
  const forced = new Set<Node>();
  const home = new Map<Node, Draft>();
  const waits = waiting(home);
  const use = (of: Node, draft: Draft, direct: boolean, count: number) => {
    if (isBound(of)) bound.set(draft, (bound.get(draft) ?? new Set()).add(of));
    if (!uses.has(of)) uses.set(of, new Map());
    const seen = uses.get(of)!.get(draft);
    if (seen === undefined) {
      uses.get(of)!.set(draft, { direct, count });
      waits.reads(draft, of);
    } else {
      seen.direct &&= direct;
      seen.count = Math.max(seen.count, count);
    }
  };
  const begin = (fields: Omit<Draft, "id" | "reductions" | "again" | "path">, of: Node): Draft => {
    const draft = {
      id: drafts.length,
      reductions: [],
      again: new Set<Node>(),
      path: [...of.path, of.op].join(" > "),
      ...fields,
    };
    drafts.push(draft);
    return draft;
  };

  const rowSpace = (draft: Draft): Space =>
    new Map([...draft.full].filter(([axis]) => !draft.over?.includes(axis)));
  /** True when `draft` could store `of` as well: it iterates over the right axes. */
  const spans = (of: Node, draft: Draft) =>
    fills(of, draft.full) || (draft.over !== undefined && fills(of, rowSpace(draft)));
  /** True when `draft` can run `of`, a reduction, as one of its row reductions. */
  const takesReduction = (of: Node, draft: Draft) => {
    if (draft.scan !== undefined || draft.contraction !== undefined) return false;
    if (draft.reductions.length >= mostReductions) return false;
    const { over } = of.attributes;
    if (!fills(of.args[0], draft.full)) return false;
    if (draft.over !== undefined) return draft.over.join() === over!.join();
    return draft.roots.every((root) => fills(root, draft.full));
  };
  /** True if `draft`, a map, may become the row kernel that computes `of` and then the map. */
  const becomesRow = (of: Node, draft: Draft) =>
    draft.scan === undefined && draft.contraction === undefined && draft.over === undefined &&
    fills(of, draft.full);
  /** Cached answers of `isRowValue` for a draft; valid while the draft does not change. */
  const rowValues = new Map<
    Draft,
    { readonly state: string; readonly found: Map<Node, boolean> }
  >();
  const rowValuesOf = (draft: Draft, missing: string): Map<Node, boolean> => {
    const { full, over, roots, contraction } = draft;
    const state = `${missing} | ${[
      ...full.keys(),
    ]} | ${over} | ${roots.length} | ${contraction?.id}`;
    const before = rowValues.get(draft);
    if (before?.state === state) return before.found;
    const found = new Map<Node, boolean>();
    rowValues.set(draft, { state, found });
    return found;
  };
  /** True for a value of a whole row, made of row reductions that `draft` has or can take in. */
  const isRowValue = (of: Node, draft: Draft): boolean => {
    const missing = [...draft.full.keys()].filter((axis) => !(axis in of.axes)).sort().join();
    if (missing === "" || !Object.keys(of.axes).every((axis) => draft.full.has(axis))) return false;
    const found = rowValuesOf(draft, missing);
    const isRow = (x: Node) =>
      x.attributes.over!.join() === missing && takesReduction(x, draft) &&
      contractionOf(x) === undefined && volume(x.args[0].axes) / volume(x.axes) > smallReduction;
    const made = (x: Node): boolean => {
      // A cut value is stored, so this kernel does not compute it.
      if (x !== of && cuts.has(x)) return false;
      const known = found.get(x);
      if (known !== undefined) return known;
      const value = x.op === "reduce"
        ? isRow(x)
        : scalarRow(x.op) !== undefined && x.args.some(made);
      found.set(x, value);
      return value;
    };
    return made(of);
  };
  /** Kernels whose first root is a reduction, by the operands of what it reduces. */
  const sumsNear = new Map<Node, Draft[]>();
  const near = ({ args: [x] }: Node): readonly Node[] =>
    [...new Set([...x.args, ...x.args.flatMap((arg) => arg.args)])].filter((x) => x.op !== "const");
  const addRoot = (of: Node, draft: Draft) => {
    if (of.op === "reduce" && draft.roots.length === 0) {
      for (const x of near(of)) {
        const there = sumsNear.get(x);
        if (there === undefined) sumsNear.set(x, [draft]);
        else there.push(draft);
      }
    }
    draft.roots.push(of);
  };
  /**
   * True if storing `of` in `draft` makes no kernel depend on itself, directly or through others.
   */
  const acyclic = (of: Node, draft: Draft) => !waits.isBehindUser(draft, of);

  /** Computes a value in a kernel, `count` times: its arguments are used there. */
  const place = (of: Node, draft: Draft, direct: boolean, count: number) => {
    if (of.op === "reduce") {
      const [x] = of.args;
      if (draft.contraction === of) {
        const { left, right, rows, columns } = contractionOf(of)!;
        use(left, draft, false, volume(left.axes) * passes(size(columns)));
        use(right, draft, false, volume(right.axes) * passes(size(rows)));
      } else if (draft.reductions.includes(of)) use(x, draft, direct, volume(x.axes));
      else use(x, draft, false, count * volume(x.axes) / volume(of.axes));
      return;
    }
    // A materialised value is stored by a kernel of its own, so that no reader computes it as well.
    const moved = ["index", "gather", "materialise"].includes(of.op);
    of.args.forEach((arg) => use(arg, draft, direct && !moved, count));
  };

  /** Stores a value: in a kernel that computes it anyway, or in a new one. */
  const store = (of: Node) => {
    const mine = cuts.has(of) ? [] : [...(uses.get(of) ?? [])];
    const contraction = contractionOf(of);
    const isRow = of.op === "reduce" && contraction === undefined &&
      volume(of.args[0].axes) / volume(of.axes) > smallReduction;
    for (const [draft, { direct }] of mine) {
      if (!direct || draft.scan !== undefined || isLeaf(of)) continue;
      if (draft.roots.length >= 4) continue;
      if (contraction !== undefined) {
        if (draft.contraction !== undefined || draft.over !== undefined) continue;
        if (!fills(of, draft.full) || !acyclic(of, draft)) continue;
        draft.contraction = of;
      } else if (isRow) {
        if (!takesReduction(of, draft) || !acyclic(of, draft)) continue;
        draft.over = of.attributes.over;
        draft.reductions.push(of);
      } else if (spans(of, draft)) {
        if (!acyclic(of, draft)) continue;
      } else {
        if (draft.contraction !== undefined || !isRowValue(of, draft)) continue;
        if (!acyclic(of, draft)) continue;
        draft.over = [...draft.full.keys()].filter((axis) => !(axis in of.axes)).sort();
      }
      addRoot(of, draft);
      home.set(of, draft);
      place(of, draft, true, volume(of.axes));
      return;
    }
    if (isRow) {
      const close = new Set(near(of).flatMap((x) => sumsNear.get(x)?.slice(-mostFriends) ?? []));
      const friend = [...close].sort((a, b) => a.id - b.id).find((draft) =>
        draft.scan === undefined && draft.over !== undefined && draft.roots.length < 4 &&
        draft.roots.every((root) => root.op === "reduce") && takesReduction(of, draft) &&
        !waits.isUser(draft, of) && acyclic(of, draft)
      );
      const draft = friend ??
        begin({ roots: [], full: fullOf(of.args[0]), over: of.attributes.over }, of);
      addRoot(of, draft);
      draft.reductions.push(of);
      home.set(of, draft);
      place(of, draft, true, volume(of.axes));
      return;
    }
    const draft = begin({ roots: [], full: fullOf(of) }, of);
    addRoot(of, draft);
    if (contraction !== undefined) draft.contraction = of;
    home.set(of, draft);
    place(of, draft, true, volume(of.axes));
  };

  // Time counts contractions and scans: kernels run about in the order of their first values.
  const time = new Map<Node, number>();
  order.reduce((before, of) => {
    time.set(of, before);
    return before + (of.op === "scan" || contractionOf(of) !== undefined ? 1 : 0);
  }, 0);
  const when = ({ scan, roots, contraction, reductions }: Draft): number =>
    Math.min(
      ...[scan, contraction, ...roots, ...reductions].flatMap((of) =>
        of === undefined ? [] : [time.get(of)!]
      ),
    );
  /**
   * Cost of rematerialising one element of a value in `draft` from values that are in memory then,
   * or that could be kept in its place. Infinite where those would take more memory than the value.
   */
  const workAgain = (of: Node, draft: Draft): number => {
    const seen = new Set<Node>();
    const late = when(draft) - patience / 2;
    let total = 0, reads = 0, instead = 0;
    const share = (x: Node) => Math.min(1, volume(x.axes) / volume(of.axes));
    const read = (x: Node, times: number) => {
      reads += times * share(x);
    };
    const visit = (x: Node, times: number) => {
      if (seen.has(x) || total > mostOnce) return;
      seen.add(x);
      if (isLeaf(x)) return x.op === "iota" ? undefined : read(x, times);
      if (x !== of && cuts.has(x)) {
        instead += volume(x.axes);
        return read(x, times);
      }
      const isScalar = scalarRow(x.op) !== undefined || isSmall(x);
      const isMoved = isMovement(x);
      if (x !== of) {
        const from = origin(x);
        const { flops, reads } = works.get(from)!;
        const isCheap = scalarRow(from.op) !== undefined && flops <= tooMuch && reads <= 1.25;
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
    visit(of, 1);
    return instead > 1.25 * volume(of.axes) ? Infinity : total + perRepeat * Math.max(0, reads - 1);
  };
  /**
   * Rematerialisation: a value that a kernel uses long after it was computed, as the backward pass
   * does, is recomputed there if that is little work from values in memory. This lowers peak
   * memory.
   */
  const repeatLate = (of: Node, mine: Map<Draft, Use>) => {
    if (scalarRow(of.op) === undefined && !isSmall(of) || volume(of.axes) < worthKeeping) return;
    const late = [...mine].filter(([draft]) => when(draft) - time.get(of)! > patience);
    const affordable = late.every(([draft, { count }]) => {
      const often = isRepeated(of, count) && !isRowValue(of, draft);
      return workAgain(of, draft) <= (often ? mostRepeated : mostOnce);
    });
    const isChain = late.some(([draft]) =>
      [...draft.again].filter((x) => x.op === of.op && volume(x.axes) >= volume(of.axes)).length >=
        mostAlike
    );
    if (!affordable || isChain) return;
    for (const [draft, { direct, count }] of late) {
      draft.again.add(of);
      mine.delete(draft);
      place(of, draft, direct, count);
    }
  };

  const draftOf = new Map<Node, Draft>();
  for (const of of [...order].reverse()) {
    const mine = uses.get(of) ?? new Map<Draft, Use>();
    if (of.op === "scan") {
      const draft = draftOf.get(of);
      if (draft === undefined) continue;
      const { space } = plans.get(of)!;
      const across = new Set(space.map((dim) => dim.axis));
      of.args.forEach((arg) => {
        // Each lane reads its part of an argument, once a step or once before the first step.
        const count = size(space) * size(dims(arg.axes).filter((dim) => !across.has(dim.axis)));
        const isPrev = arg.op === "part" && arg.attributes.name!.startsWith("prev.");
        if (isPrev && plans.get(of)!.recomputes === arg.args[0]) {
          const { each, rest } = roles(arg.args[0]);
          [...Object.values(each), ...rest].forEach((input) => use(input, draft, false, count));
        }
        use(arg, draft, false, count);
      });
      continue;
    }
    if (of.op === "part") {
      const [scan] = of.args;
      if (!draftOf.has(scan)) {
        draftOf.set(scan, begin({ scan, roots: [], full: new Map() }, scan));
      }
      const draft = draftOf.get(scan)!;
      addRoot(of, draft);
      home.set(of, draft);
      continue;
    }
    if (isLeaf(of)) continue;
    if (!forced.has(of) && !cuts.has(of)) repeatLate(of, mine);
    if (isRoot.has(of) || forced.has(of)) {
      store(of);
      continue;
    }
    if (mine.size === 0) continue;
    if (cuts.has(of)) {
      store(of);
      continue;
    }
    const only = mine.size === 1 ? [...mine][0] : undefined;
    const repeats = (draft: Draft) =>
      isRowValue(of, draft) ? 1 : mine.get(draft)!.count / volume(of.axes);
    const { flops, reads, leaves } = works.get(of)!;
    const more = (draft: Draft) => Math.max(0, repeats(draft) - 1);
    const once = flops + perElement * reads;
    const again = [...mine.keys()].reduce(
      (total, draft) => total + once + (flops + perRepeat * reads) * more(draft),
      0,
    );
    const stored = [...mine.keys()].reduce(
      (total, draft) => total + perElement + perRepeat * more(draft),
      once + perElement,
    );
    const fits = [...mine.keys()].every((draft) =>
      leaves.size === 0 || new Set([...bound.get(draft) ?? [], ...leaves]).size <= mostBound
    );
    const worth = (only !== undefined && repeats(only[0]) <= 1) ||
      (fits && flops <= tooMuch &&
        again * volume(of.axes) <= stored * volume(of.axes) + perKernel);
    if (of.op === "index" || of.op === "recompute") {
      mine.forEach(({ direct, count }, draft) => place(of, draft, direct, count));
    } else if (of.op === "gather" || of.op === "materialise") {
      forced.add(of.args[0]);
      mine.forEach(({ direct, count }, draft) => place(of, draft, direct, count));
    } else if (of.op === "reduce") {
      const contraction = contractionOf(of);
      const small = volume(of.args[0].axes) / volume(of.axes) <= smallReduction;
      if (only === undefined) store(of);
      else if (contraction !== undefined) {
        const [draft, { direct }] = only;
        const fits = direct && draft.scan === undefined && draft.contraction === undefined &&
          draft.over === undefined && fills(of, draft.full);
        if (fits) {
          draft.contraction = of;
          place(of, draft, true, only[1].count);
        } else store(of);
      } else if (small) {
        if (worth) place(of, only[0], false, only[1].count);
        else store(of);
      } else if (only[1].direct && (takesReduction(of, only[0]) || becomesRow(of, only[0]))) {
        const [draft] = only;
        if (draft.over === undefined) draft.full = fullOf(of.args[0]);
        draft.over = of.attributes.over;
        draft.reductions.push(of);
        place(of, draft, true, only[1].count);
      } else store(of);
    } else if (worth) {
      mine.forEach(({ direct, count }, draft) => place(of, draft, direct, count));
    } else store(of);
  }

  // Row kernels that took in no reduction become maps.
  for (const draft of [...drafts]) {
    if (draft.over === undefined || draft.reductions.length > 0) continue;
    if (draft.scan !== undefined || draft.contraction !== undefined) continue;
    const ofRows = draft.roots.filter((root) => fills(root, rowSpace(draft)));
    const others = draft.roots.filter((root) => !ofRows.includes(root));
    draft.over = undefined;
    if (ofRows.length === 0) continue;
    if (others.length === 0) {
      draft.full = fullOf(ofRows[0]);
      continue;
    }
    const first = begin({ roots: [], full: fullOf(ofRows[0]) }, ofRows[0]);
    draft.again.forEach((of) => first.again.add(of));
    // A value without the row axes depends on no value with them except through a reduction.
    for (const of of waits.readBy(draft)) {
      const by = uses.get(of)!, seen = by.get(draft);
      if (seen !== undefined && !others.includes(of)) by.set(first, { ...seen });
    }
    draft.roots.splice(0, Infinity, ...others);
    for (const of of ofRows) {
      first.roots.push(of);
      if (home.get(of) === draft) home.set(of, first);
      use(of, draft, true, volume(others[0].axes));
    }
  }

  const updated = updatesOf(program, roots);
  const isUpdate = (draft: Draft) =>
    draft.scan === undefined &&
    draft.roots.every((root) => home.get(root) === draft && updated.has(root));
  return { drafts: joinBeside({ drafts, home, uses, when, isUpdate }), home, uses };
};
