// From expressions to kernels. Consumers are visited before producers, and each value is either
// computed inside the kernels that use it or stored by one kernel. A row kernel takes in reductions
// over its one set of axes, a contraction takes in what is done point-wise to its result, and values
// that several kernels need are stored by the one that computes them anyway, where no cycle forms.
import { absorb } from "../../dsl/absorb.ts";
import { known, sameAxes, volume } from "../../dsl/axes.ts";
import { type Node, node, reachable, rewrite } from "../../dsl/node.ts";
import { scalarRow } from "../../dsl/scalar.ts";
import { part, roles } from "../../dsl/scan.ts";
import { reduce } from "../../dsl/structure.ts";
import type { Program } from "../backend.ts";
import { storedLimit, withLoops } from "./loops.ts";
import {
  type Checkpoints,
  type Contraction,
  type Dim,
  dims,
  type Kernel,
  type Lowered,
  type Root,
  type ScanRoot,
  size,
  type Storage,
} from "./program.ts";
import { sinkRenames } from "./renames.ts";
import { partialAxis, planScans, type ScanPlan, segmentAxis } from "./scans.ts";

/**
 * Additions that take as long as moving one element to or from memory. A value is computed again in
 * every kernel that uses it where that is less work than writing it once and reading it there.
 */
const perElement = 16;
/** Additions that take as long as reading an element once more that was read just before. */
const perRepeat = 2;
/** Additions that take as long as starting one more kernel. */
const perKernel = 2 ** 20;
/** Addresses are 32-bit signed integers on devices. */
const indexLimit = 2 ** 31 - 1;
/** Reductions of at most this many terms are done in place, as part of an element. */
const smallReduction = 16;
/** From this size on a reduction with few results is done in two stages. */
const splitFrom = 1024;

/** A value that is used after so many products and scans may be computed again rather than kept. */
const patience = 8;
/** Values of fewer elements are kept however long. */
const worthKeeping = 2 ** 14;
/** Most additions in computing an element again, over all times that it is. */
const mostAgain = 160;

/** How a kernel uses a value. */
interface Use {
  /** At the kernel's own position, not at others. */
  direct: boolean;
  /** How many times it is computed in all, if it is computed there. */
  count: number;
}

/** A kernel in the making. */
interface Draft {
  readonly id: number;
  readonly scan?: Node;
  readonly roots: Node[];
  /** All axes of the iteration, those reduced over included. */
  full: ReadonlyMap<string, number>;
  over?: readonly string[];
  readonly reductions: Node[];
  contraction?: Node;
  /** Values that other kernels store, but that this one computes again. */
  readonly again: Set<Node>;
  readonly path: string;
}

const fullOf = (of: Node): ReadonlyMap<string, number> =>
  new Map(Object.keys(of.axes).map((axis) => [axis, known(of.axes, axis)]));

const costOf = (of: Node): number => {
  switch (of.op) {
    case "exp":
    case "log":
    case "log1p":
    case "sin":
    case "cos":
    case "tanh":
    case "erf":
      return 8;
    case "sqrt":
    case "recip":
      return 3;
    default:
      return 1;
  }
};

const isLeaf = (of: Node): boolean =>
  ["const", "literal", "iota", "input", "param", "local"].includes(of.op);

/** How often a product reads each element of an operand: once for every tile of the other one. */
const passes = (extent: number): number => 4 * Math.ceil(extent / 64);
/** Beyond this much work a value that several kernels use is stored in any case: code must end. */
const tooMuch = 32;

/**
 * Work in one element of a value, from what may well be stored up: leaves, scans and reductions are
 * read. What is shared counts once.
 */
const work = (of: Node): Work => {
  const seen = new Set<Node>();
  const leaves = new Set<Node>();
  let total = 0, reads = 0;
  const visit = (x: Node) => {
    if (seen.has(x) || total > tooMuch) return;
    seen.add(x);
    if (x.op === "const") return;
    if (isBound(x)) leaves.add(x);
    if (isLeaf(x) || x.op === "part" || x.op === "scan" || x.op === "reduce") {
      if (x.op !== "iota") reads += Math.min(1, volume(x.axes) / volume(of.axes));
    } else {
      total += scalarRow(x.op) === undefined ? 0 : costOf(x);
      x.args.forEach(visit);
    }
  };
  if (of.op !== "reduce") {
    visit(of);
    return { flops: total, reads, leaves };
  }
  const count = volume(of.args[0].axes) / volume(of.axes);
  if (count > smallReduction || contractionOf(of) !== undefined) {
    return { flops: 0, reads: 1, leaves };
  }
  visit(of.args[0]);
  return { flops: count * total, reads: count * reads, leaves };
};

/** What it takes to compute an element of a value. */
interface Work {
  readonly flops: number;
  /** Elements that it reads, those of smaller values in part. */
  readonly reads: number;
  /** Leaves that it reads through bindings of their own. */
  readonly leaves: ReadonlySet<Node>;
}

/** Intermediate values can share one binding; inputs, parameters and literals can not. */
const isBound = (of: Node): boolean => ["input", "param", "literal"].includes(of.op);
/** Most bindings of leaves in a kernel that computes values again: devices have ten for all. */
const mostBound = 7;

/** The roles of the axes of a sum of products, when it is worth a tiled kernel. */
const contractionOf = (of: Node): Contraction | undefined => {
  if (of.op !== "reduce" || of.attributes.how !== "add" || of.args[0].op !== "mul") {
    return undefined;
  }
  const [left, right] = of.args[0].args;
  const over = dims(of.args[0].axes, of.attributes.over!);
  if (over.some((dim) => !(dim.axis in left.axes) || !(dim.axis in right.axes))) return undefined;
  const result = dims(of.axes);
  const batch = result.filter(({ axis }) => axis in left.axes && axis in right.axes);
  const rows = result.filter(({ axis }) => axis in left.axes && !(axis in right.axes));
  const columns = result.filter(({ axis }) => !(axis in left.axes) && axis in right.axes);
  const worth = size(rows) >= 4 && size(columns) >= 4 && size(over) >= 4 &&
    size(rows) * size(columns) * size(over) >= 2048;
  return worth ? { node: of, left, right, batch, rows, columns, over } : undefined;
};

/** True for what only says where in its argument a value is read. */
const isMovement = (of: Node): boolean => ["index", "stop", "recompute"].includes(of.op);
/** What a value is read from. */
const origin = (of: Node): Node => isMovement(of) ? origin(of.args[0]) : of;

/** How many terms a reduction sums; 1 for all else. */
const terms = (of: Node): number =>
  of.op === "reduce" ? volume(of.args[0].axes) / volume(of.axes) : 1;
/** A reduction that is done in place. */
const isSmall = (of: Node): boolean =>
  of.op === "reduce" && terms(of) <= smallReduction && contractionOf(of) === undefined;

/** A long reduction to few results becomes two, so that the first has parallel work. */
const inStages = (of: Node): Node => {
  if (of.op !== "reduce" || contractionOf(of) !== undefined) return of;
  const { how, over } = of.attributes;
  const sizes = over!.map((axis) => known(of.args[0].axes, axis));
  const total = sizes.reduce((a, b) => a * b, 1);
  if (total < splitFrom || over!.length < 2 || volume(of.axes) > 4 * splitFrom) return of;
  // The outer stage is the axis whose size is nearest to the square root of the whole.
  const distance = (k: number) => Math.abs(Math.log(sizes[k]) - Math.log(total) / 2);
  const outer = over![sizes.map((_, k) => k).sort((a, b) => distance(a) - distance(b))[0]];
  const inner = reduce(of.args[0], how!, over!.filter((axis) => axis !== outer));
  return reduce(inner, how!, [outer]);
};

/** Sets of nodes as bits: `above(of)` are all that a node depends on. */
const ancestry = (order: readonly Node[]) => {
  const first = order[0]?.id ?? 0;
  const position = new Int32Array((order.at(-1)?.id ?? 0) - first + 1);
  order.forEach((of, k) => position[of.id - first] = k);
  const words = Math.ceil(order.length / 32);
  const rows = new Uint32Array(order.length * words);
  const has = (bits: Uint32Array, of: Node): boolean => {
    const k = position[of.id - first];
    return (bits[k >> 5] >>> (k & 31) & 1) === 1;
  };
  const add = (bits: Uint32Array, of: Node) => {
    const k = position[of.id - first];
    bits[k >> 5] |= 1 << (k & 31);
  };
  const join = (bits: Uint32Array, more: Uint32Array) => {
    for (let w = 0; w < words; w++) bits[w] |= more[w];
  };
  const above = (of: Node): Uint32Array => {
    const k = position[of.id - first];
    return rows.subarray(k * words, (k + 1) * words);
  };
  for (const of of order) {
    const own = above(of);
    for (const arg of of.args) {
      join(own, above(arg));
      add(own, arg);
    }
  }
  return { above, has, add, join, none: () => new Uint32Array(words) };
};

/**
 * Lowers a program: sizes must be numbers by now. Products of more than `limit` bytes that are only
 * summed up again are not stored.
 */
export const lower = (program: Program, limit = storedLimit): Lowered => {
  const outputs = Object.entries(program.outputs);
  const updates = Object.entries(program.updates ?? {});
  const asked = [
    ...outputs.map(([, output]) => node(output.of)),
    ...updates.map(([, of]) => node(of)),
  ];
  const absorbed = absorb(rewrite(sinkRenames(withLoops(asked, limit)), inStages)).roots;
  const { roots, plans } = planScans(absorbed);
  const order = reachable(roots);
  const bits = ancestry(order);
  const users = new Map<Node, number>();
  for (const of of order) {
    for (const arg of new Set(of.args)) users.set(arg, (users.get(arg) ?? 0) + 1);
  }
  const isRoot = new Set(roots);

  const works = new Map<Node, Work>();
  for (const of of order) works.set(of, work(of));
  const bound = new Map<Draft, Set<Node>>();

  const drafts: Draft[] = [];
  const uses = new Map<Node, Map<Draft, Use>>();
  const forced = new Set<Node>();
  const use = (of: Node, draft: Draft, direct: boolean, count: number) => {
    if (isBound(of)) bound.set(draft, (bound.get(draft) ?? new Set()).add(of));
    if (!uses.has(of)) uses.set(of, new Map());
    const seen = uses.get(of)!.get(draft);
    if (seen === undefined) uses.get(of)!.set(draft, { direct, count });
    else {
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
  const home = new Map<Node, Draft>();

  const rowAxes = (draft: Draft) =>
    [...draft.full.keys()].filter((axis) => !draft.over?.includes(axis));
  const sameKeys = (of: Node, keys: readonly string[]) =>
    Object.keys(of.axes).length === keys.length && keys.every((axis) => axis in of.axes);
  /** True when `draft` could store `of` as well: it iterates over the right axes. */
  const spans = (of: Node, draft: Draft) =>
    sameKeys(of, [...draft.full.keys()]) ||
    (draft.over !== undefined && sameKeys(of, rowAxes(draft)));
  /** True when `draft` can run `of`, a reduction, as one of its row reductions. */
  const takesReduction = (of: Node, draft: Draft) => {
    if (draft.scan !== undefined || draft.contraction !== undefined) return false;
    const { over } = of.attributes;
    if (!sameKeys(of.args[0], [...draft.full.keys()])) return false;
    if (draft.over !== undefined) return draft.over.join() === over!.join();
    return draft.roots.every((root) => sameKeys(root, [...draft.full.keys()]));
  };
  /** True when `draft`, a map, may become the row kernel that does `of` and the map at its end. */
  const becomesRow = (of: Node, draft: Draft) =>
    draft.scan === undefined && draft.contraction === undefined && draft.over === undefined &&
    sameKeys(of, [...draft.full.keys()]);
  /** True for a value of a whole row, made of row reductions that `draft` has or can take in. */
  const isRowValue = (of: Node, draft: Draft): boolean => {
    const missing = [...draft.full.keys()].filter((axis) => !(axis in of.axes)).sort().join();
    const isRow = (x: Node) =>
      x.attributes.over!.join() === missing && takesReduction(x, draft) &&
      contractionOf(x) === undefined && volume(x.args[0].axes) / volume(x.axes) > smallReduction;
    const seen = new Set<Node>();
    const made = (x: Node): boolean => {
      if (seen.has(x)) return false;
      seen.add(x);
      return x.op === "reduce" ? isRow(x) : scalarRow(x.op) !== undefined && x.args.some(made);
    };
    return missing !== "" && Object.keys(of.axes).every((axis) => draft.full.has(axis)) && made(of);
  };
  /** What the roots of each kernel depend on. */
  const needed = new Map<Draft, Uint32Array>();
  const addRoot = (of: Node, draft: Draft) => {
    draft.roots.push(of);
    if (!needed.has(draft)) needed.set(draft, bits.none());
    bits.join(needed.get(draft)!, bits.above(of));
  };
  /** True when storing `of` in `draft` makes no kernel wait for itself, through whatever others. */
  const acyclic = (of: Node, draft: Draft) => {
    const before = (needed.get(draft) ?? bits.none()).slice();
    for (let grown = true; grown;) {
      grown = false;
      for (const other of drafts) {
        if (other === draft || !other.roots.some((root) => bits.has(before, root))) continue;
        const below = needed.get(other)!;
        if (bits.has(below, of)) return false;
        if (other.roots.every((root) => bits.has(before, root))) continue;
        bits.join(before, below);
        other.roots.forEach((root) => bits.add(before, root));
        grown = true;
      }
    }
    return true;
  };

  /** Puts a value into a kernel, `count` times: its arguments are used there. */
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
    const moved = of.op === "index" || of.op === "gather";
    of.args.forEach((arg) => use(arg, draft, direct && !moved, count));
  };

  /** Gives a value a kernel that stores it: one that computes it anyway, or a new one. */
  const store = (of: Node) => {
    const mine = [...(uses.get(of) ?? [])];
    const contraction = contractionOf(of);
    const isRow = of.op === "reduce" && contraction === undefined &&
      volume(of.args[0].axes) / volume(of.axes) > smallReduction;
    for (const [draft, { direct }] of mine) {
      if (!direct || draft.scan !== undefined || isLeaf(of)) continue;
      if (draft.roots.length >= 4 || !acyclic(of, draft)) continue;
      if (contraction !== undefined) {
        if (draft.contraction !== undefined || draft.over !== undefined) continue;
        if (!sameKeys(of, [...draft.full.keys()])) continue;
        draft.contraction = of;
      } else if (isRow) {
        if (!takesReduction(of, draft)) continue;
        draft.over = of.attributes.over;
        draft.reductions.push(of);
      } else if (!spans(of, draft)) {
        if (draft.contraction !== undefined || !isRowValue(of, draft)) continue;
        draft.over = [...draft.full.keys()].filter((axis) => !(axis in of.axes)).sort();
      }
      addRoot(of, draft);
      home.set(of, draft);
      place(of, draft, true, volume(of.axes));
      return;
    }
    if (isRow) {
      const near = (x: Node) => new Set([...x.args, ...x.args.flatMap((arg) => arg.args)]);
      const around = near(of.args[0]);
      const friend = drafts.find((draft) =>
        draft.scan === undefined && draft.over !== undefined && draft.roots.length < 4 &&
        draft.roots.every((root) => root.op === "reduce") && takesReduction(of, draft) &&
        [...near(draft.roots[0].args[0])].some((x) => x.op !== "const" && around.has(x)) &&
        !draft.roots.some((root) => bits.has(bits.above(root), of)) && acyclic(of, draft)
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

  // Time is counted in products and scans: kernels run about in the order of their first values.
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
   * Work in one element of a value from what is in memory anyway while `draft` runs, or could be in
   * place of the value. Infinite where that would take more memory than the value.
   */
  const workAgain = (of: Node, draft: Draft): number => {
    const seen = new Set<Node>();
    const late = when(draft) - patience / 2;
    let total = 0, instead = 0;
    const visit = (x: Node) => {
      if (seen.has(x) || total > tooMuch) return;
      seen.add(x);
      if (isLeaf(x)) return;
      const isScalar = scalarRow(x.op) !== undefined || isSmall(x);
      const isMoved = isMovement(x);
      if (x !== of) {
        const from = origin(x);
        const isCheap = scalarRow(from.op) !== undefined && works.get(from)!.flops <= tooMuch;
        const isKept = [...uses.get(x)?.keys() ?? []].some((user) => when(user) >= late);
        if (isKept && !isCheap) return;
        if (!isMoved && (!isScalar || users.get(x)! > 1)) {
          instead += volume(x.axes);
          return;
        }
      }
      total += isMoved ? 0 : isScalar ? costOf(x) * terms(x) : Infinity;
      x.args.forEach(visit);
    };
    visit(of);
    return instead > 1.25 * volume(of.axes) ? Infinity : total;
  };
  /**
   * What a kernel uses long after it was computed, as the backward pass does, is computed there again
   * where that is little work from what is in memory anyway: peak memory is what it saves.
   */
  const repeatLate = (of: Node, mine: Map<Draft, Use>) => {
    if (scalarRow(of.op) === undefined && !isSmall(of) || volume(of.axes) < worthKeeping) return;
    const late = [...mine].filter(([draft]) => when(draft) - time.get(of)! > patience);
    const affordable = late.every(([draft, { count }]) => {
      const times = isRowValue(of, draft) ? 1 : Math.max(1, count / volume(of.axes));
      return workAgain(of, draft) * times <= mostAgain;
    });
    if (!affordable) return;
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
        // Each lane reads its part of an argument, once a step or once before the first.
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
    repeatLate(of, mine);
    if (isRoot.has(of) || forced.has(of)) {
      store(of);
      continue;
    }
    if (mine.size === 0) continue;
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
    } else if (of.op === "gather") {
      forced.add(of.args[0]);
      mine.forEach(({ direct, count }, draft) => place(of, draft, direct, count));
    } else if (of.op === "reduce") {
      const contraction = contractionOf(of);
      const small = volume(of.args[0].axes) / volume(of.axes) <= smallReduction;
      if (only === undefined) store(of);
      else if (contraction !== undefined) {
        const [draft, { direct }] = only;
        const fits = direct && draft.scan === undefined && draft.contraction === undefined &&
          draft.over === undefined && sameKeys(of, [...draft.full.keys()]);
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

  return assemble(program, roots, drafts, home, uses, plans);
};

/** Orders the drafts, gives every stored value its storage, and decides what is updated in place. */
const assemble = (
  program: Program,
  roots: readonly Node[],
  drafts: readonly Draft[],
  home: ReadonlyMap<Node, Draft>,
  uses: ReadonlyMap<Node, ReadonlyMap<Draft, Use>>,
  plans: ReadonlyMap<Node, ScanPlan>,
): Lowered => {
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
  const leaf = (of: Node) => {
    const role = of.op as "input" | "param" | "literal";
    const { name, data } = of.attributes;
    const made = storage({ dtype: of.dtype, dims: dims(of.axes), role, name, data });
    stored.set(of, made);
    ({ input: inputs, param: params, literal: literals })[role].push(made);
  };
  const outputs = Object.entries(program.outputs);
  const updates = Object.entries(program.updates ?? {});
  for (const of of reachable(roots)) {
    if (["input", "param", "literal"].includes(of.op)) leaf(of);
  }

  const readers = new Map<Node, Set<Draft>>();
  const needs = new Map<Draft, Set<Draft>>(drafts.map((draft) => [draft, new Set()]));
  for (const [of, by] of uses) {
    readers.set(of, new Set(by.keys()));
    const from = home.get(of);
    if (from === undefined) continue;
    for (const draft of by.keys()) if (draft !== from) needs.get(draft)!.add(from);
  }
  for (const draft of drafts) {
    // A kernel that only copies a value out reads it from where it is.
    for (const root of draft.roots) {
      const from = home.get(root);
      if (from !== undefined && from !== draft) needs.get(draft)!.add(from);
    }
  }

  // A draft of nothing but new parameter values may overwrite them once all others have read them.
  const updated = new Map<Node, string[]>();
  updates.forEach(([name], k) => {
    const of = roots[outputs.length + k];
    updated.set(of, [...(updated.get(of) ?? []), name]);
  });
  const outputNodes = new Set(roots.slice(0, outputs.length));
  const paramByName = new Map<string, Node>();
  for (const of of stored.keys()) if (of.op === "param") paramByName.set(of.attributes.name!, of);
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
  for (const draft of updating) {
    for (const root of draft.roots) {
      const [name, ...others] = updated.get(root)!;
      const param = paramByName.get(name);
      if (param === undefined || others.length > 0) continue;
      const by = [...(uses.get(param) ?? [])];
      const safe = by.every(([reader, { direct }]) =>
        reader === draft ? direct : !updating.has(reader)
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
    const of = roots[outputs.length + k];
    const param = paramByName.get(name);
    if (!wantedOrder.has(of) && param !== undefined) wantedOrder.set(of, Object.keys(param.axes));
  });

  const checkpoints = new Map<Node, Checkpoints>();
  const scanStorage = (draft: Draft) => {
    const scan = draft.scan!;
    const plan = plans.get(scan)!;
    const prevs = draft.roots.filter((of) => of.attributes.name!.startsWith("prev."));
    if (prevs.length > 0) {
      const { from } = roles(scan);
      const steps = known(prevs[0].axes, scan.attributes.axis!);
      const segments = Math.ceil(steps / plan.every);
      // All carries are stored where steps are computed again from them; else those asked for.
      const names = plan.every > 1
        ? scan.attributes.carries!
        : prevs.map((of) => of.attributes.name!.slice("prev.".length));
      const entries = names.map((name) => {
        const made = storage({
          dtype: from[name].dtype,
          dims: [
            { axis: plan.every > 1 ? segmentAxis : scan.attributes.axis!, size: segments },
            ...dims(from[name].axes),
          ],
          role: "temporary",
        });
        if (plan.every === 1) stored.set(part(scan, "prev", name), made);
        return [name, made] as const;
      });
      checkpoints.set(scan, { every: plan.every, storage: Object.fromEntries(entries) });
    }
    for (const of of draft.roots) {
      if (of.attributes.name!.startsWith("prev.")) continue;
      const order = wantedOrder.get(of) ?? Object.keys(of.axes);
      const role = outputNodes.has(of) ? "output" : "temporary";
      stored.set(of, storage({ dtype: of.dtype, dims: dims(of.axes, order), role }));
    }
  };
  for (const draft of sequence) {
    if (draft.scan !== undefined) {
      scanStorage(draft);
      continue;
    }
    for (const root of draft.roots) {
      if (home.get(root) !== draft) continue;
      const place = inPlace.get(root);
      const order = wantedOrder.get(root) ?? Object.keys(root.axes);
      stored.set(
        root,
        place ?? storage({
          dtype: root.dtype,
          dims: dims(root.axes, order),
          role: outputNodes.has(root) ? "output" : "temporary",
        }),
      );
    }
  }

  const extra: Kernel[] = [];
  const sameOrder = (storage: Storage, order: readonly string[]) =>
    storage.dims.map((dim) => dim.axis).join() === order.join();
  const copyOut = (of: Node, order: readonly string[], role: "output" | "temporary"): Storage => {
    const made = storage({ dtype: of.dtype, dims: dims(of.axes, order), role });
    extra.push({
      shape: "map",
      space: dims(of.axes, order),
      over: [],
      reductions: [],
      again: new Set(),
      roots: [{ node: of, storage: made }],
      path: [...of.path, "copy"].join(" > "),
    });
    return made;
  };
  outputs.forEach(([name, output], k) => {
    const of = roots[k];
    const own = stored.get(of);
    const usable = own !== undefined && own.role === "output" && sameOrder(own, output.order);
    outputStorage[name] = usable ? own : copyOut(of, output.order, "output");
  });
  updates.forEach(([name], k) => {
    const of = roots[outputs.length + k];
    const param = paramByName.get(name);
    const to = param === undefined ? undefined : stored.get(param);
    if (inPlace.has(of) && inPlace.get(of) === to) return;
    const order = param === undefined ? Object.keys(of.axes) : Object.keys(param.axes);
    const target = to ??
      storage({ dtype: of.dtype, dims: dims(of.axes, order), role: "param", name });
    if (to === undefined) params.push(target);
    const own = stored.get(of);
    const from =
      own !== undefined && own.role !== "param" && own.role !== "input" && sameOrder(own, order)
        ? own
        : copyOut(of, order, "temporary");
    copies.push({ from, to: target });
  });

  // What is copied out of a leaf is its value before the run, which an update may overwrite.
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
  return { kernels, stored, inputs, params, literals, outputs: outputStorage, copies };
};

/** An order in which all that a draft needs comes before it. Updates come as soon as they can. */
const topological = (
  drafts: readonly Draft[],
  needs: ReadonlyMap<Draft, ReadonlySet<Draft>>,
  updating: ReadonlySet<Draft>,
): readonly Draft[] => {
  const done = new Set<Draft>(), open = new Set<Draft>();
  const result: Draft[] = [];
  const visit = (draft: Draft) => {
    if (done.has(draft)) return;
    if (open.has(draft)) throw new Error(`kernels wait for each other at ${draft.path}`);
    open.add(draft);
    [...needs.get(draft)!].sort((a, b) => b.id - a.id).forEach(visit);
    done.add(draft);
    result.push(draft);
  };
  // Later drafts are earlier in the graph.
  [...drafts].sort((a, b) => b.id - a.id).forEach(visit);
  // Nothing waits for an update but the end, so it stands right behind the last thing it needs.
  const place = new Map(
    result.filter((draft) => !updating.has(draft)).map((draft, k) => [draft, k]),
  );
  const when = (draft: Draft): number =>
    place.get(draft) ??
      Math.max(-1, ...[...needs.get(draft)!].map((need) => place.get(need) ?? -1));
  return result
    .map((draft, k) => ({ draft, at: when(draft), isUpdate: updating.has(draft) ? 1 : 0, k }))
    .sort((a, b) => a.at - b.at || a.isUpdate - b.isUpdate || a.k - b.k)
    .map(({ draft }) => draft);
};

const expressionKernel = (
  draft: Draft,
  home: ReadonlyMap<Node, Draft>,
  stored: ReadonlyMap<Node, Storage>,
): Kernel | undefined => {
  const roots: Root[] = draft.roots.filter((root) => home.get(root) === draft)
    .map((root) => ({ node: root, storage: stored.get(root)! }));
  if (roots.length === 0) return undefined;
  const over = (draft.over ?? []).map((axis) => ({ axis, size: draft.full.get(axis)! }));
  const contraction = draft.contraction === undefined
    ? undefined
    : contractionOf(draft.contraction);
  const widest = [...roots].sort((a, b) => size(b.storage.dims) - size(a.storage.dims))[0];
  const ordered = widest.storage.dims.filter((dim) => !draft.over?.includes(dim.axis));
  const rest = [...draft.full].map(([axis, size]) => ({ axis, size }))
    .filter(({ axis }) => !draft.over?.includes(axis) && !ordered.some((dim) => dim.axis === axis));
  const space: readonly Dim[] = [...rest, ...ordered];
  const reductions = [...draft.reductions].sort((a, b) => a.id - b.id);
  const shape = contraction !== undefined ? "contraction" : over.length > 0 ? "row" : "map";
  const { again, path } = draft;
  return { shape, space, over, reductions, contraction, again, roots, path };
};

const scanKernel = (
  draft: Draft,
  plan: ScanPlan,
  stored: ReadonlyMap<Node, Storage>,
  checkpoints: ReadonlyMap<Node, Checkpoints>,
): Kernel => {
  const scan = draft.scan!;
  const roots: ScanRoot[] = [];
  for (const of of draft.roots) {
    const [kind, name] = of.attributes.name!.split(/\.(.*)/s);
    if (kind === "prev") continue;
    const storage = stored.get(of)!;
    if (kind === "partial") {
      roots.push({
        kind: "out",
        name,
        storage,
        partial: { axis: partialAxis, reduction: plan.partial[name] },
      });
    } else roots.push({ kind: kind as "final" | "out", name, storage });
  }
  const { space, held, lanes, width, together } = plan;
  const recomputes = plan.recomputes === undefined
    ? undefined
    : { scan: plan.recomputes, checkpoints: checkpoints.get(plan.recomputes)! };
  return {
    shape: "scan",
    scan,
    space,
    held,
    lanes,
    width,
    together,
    roots,
    checkpoints: checkpoints.get(scan),
    recomputes,
    again: draft.again,
    path: draft.path,
  };
};
