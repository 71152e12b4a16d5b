// Streaming reductions, as in FlashAttention. Attention scores have tokens × tokens elements, many
// more than queries and keys. If storing them takes too much memory, every sum or maximum over them
// becomes a loop (a scan without outputs) that computes each element where it is used, forward and
// backward. A maximum and the sums of exponentials that depend on it share one loop: the online
// softmax.
import { volume } from "../../../dsl/axes.ts";
import { type Node, topologicalOrder, withPathOf } from "../../../dsl/node.ts";
import { apply, float, scalarRow } from "../../../dsl/primitives.ts";
import { part, scanNode, substitute } from "../../../dsl/scan.ts";
import { expand, reduce } from "../../../dsl/structure.ts";

/** Values up to this size, in bytes, are materialised as usual. */
export const storedLimit = 2 ** 26;
/** Least ratio of a product's size to its operands' for it to be worth recomputing. */
const growth = 8;

const isScalar = (node: Node): boolean => scalarRow(node.op) !== undefined;
/** True for comparisons of floats for equality: those are rounded once, and so stored. */
const isDecided = ({ op, args }: Node): boolean => op === "equal" && args[0].dtype === "f32";
const isSum = (node: Node): boolean => node.op === "reduce" && node.attributes.how === "add";

/** The values that are not materialised. */
interface Unmaterialised {
  /** Large products. */
  readonly products: ReadonlySet<Node>;
  /** Those, and what is computed from them element by element. */
  readonly all: ReadonlySet<Node>;
  readonly limit: number;
}

const isLargeProduct = (node: Node, limit: number): boolean => {
  if (!isSum(node) || node.args[0].op !== "mul" || 4 * volume(node.axes) <= limit) return false;
  const [a, b] = node.args[0].args;
  return volume(node.axes) > growth * (volume(a.axes) + volume(b.axes));
};

/** A sum or maximum over one axis of an unmaterialised value: it becomes a loop. */
const isLoop = (node: Node, { all }: Unmaterialised): boolean =>
  node.op === "reduce" && !all.has(node) && all.has(node.args[0]) &&
  node.attributes.over!.length === 1;

/** All values that need not be materialised; those with other users than loops must be. */
const unmaterialisedIn = (roots: readonly Node[], limit: number): Unmaterialised => {
  const order = topologicalOrder(roots);
  const stored = new Set<Node>();
  for (;;) {
    const products = new Set(
      order.filter((node) => !stored.has(node) && isLargeProduct(node, limit)),
    );
    // The products that each virtual value is made of.
    const from = new Map<Node, ReadonlySet<Node>>();
    for (const node of order) {
      if (products.has(node)) from.set(node, new Set([node]));
      else if (isScalar(node) && !isDecided(node)) {
        const above = node.args.flatMap((arg) => [...from.get(arg) ?? []]);
        if (above.length > 0) from.set(node, new Set(above));
      }
    }
    const virtual: Unmaterialised = { products, all: new Set(from.keys()), limit };
    const wrong = [
      ...roots.filter((node) => from.has(node)),
      ...order.filter((node) => !from.has(node) && !isLoop(node, virtual))
        .flatMap((node) => node.args.filter((arg) => from.has(arg))),
    ];
    if (wrong.length === 0) return virtual;
    for (const node of wrong) for (const product of from.get(node)!) stored.add(product);
  }
};

/**
 * True for a value that a loop computes itself when `above` reads it; false for the loop's inputs.
 */
const isInside = (
  node: Node,
  above: Node | undefined,
  { products, all, limit }: Unmaterialised,
): boolean =>
  all.has(node) ||
  // The factors of a product are read; the array of all of their products is no value.
  (node.op === "mul" && above !== undefined && products.has(above)) ||
  // Masks and the like: as large, and made from little.
  (isScalar(node) && !isDecided(node) && 4 * volume(node.axes) > limit);

/** The inputs of the loops' bodies. */
const inputsOf = (bodies: readonly Node[], virtual: Unmaterialised): readonly Node[] => {
  const edge = new Set<Node>(), seen = new Set<Node>();
  const visit = (node: Node, above: Node | undefined) => {
    if (!isInside(node, above, virtual)) edge.add(node);
    else if (!seen.has(node)) {
      seen.add(node);
      node.args.forEach((arg) => visit(arg, node));
    }
  };
  bodies.forEach((body) => visit(body, undefined));
  return [...edge].sort((a, b) => a.id - b.id);
};

/**
 * An online sum: weight · exp(score - top), where `top` is the maximum of the same scores over the
 * same axis. It need not wait for the maximum: a sum under a lower maximum is multiplied by
 * exp(lower - higher).
 */
interface OnlineSum {
  readonly top: Node;
  readonly weights: readonly Node[];
}

/** Online sums by their reduction node. */
type Cascades = ReadonlyMap<Node, OnlineSum>;

/** How a sum depends on one of some maxima, if it is an online sum. */
const cascadeOf = (
  node: Node,
  tops: readonly Node[],
  waiting: ReadonlySet<Node>,
  virtual: Unmaterialised,
): OnlineSum | undefined => {
  if (!isSum(node)) return undefined;
  const list = factors(node.args[0], virtual);
  const late = list.filter((factor) => waiting.has(factor));
  const [power] = late;
  if (late.length !== 1 || power.op !== "exp" || power.args[0].op !== "add") return undefined;
  const [a, b] = power.args[0].args;
  const top = tops.find((top) =>
    [[a, b], [b, a]].some(([score, lowered]) =>
      score === top.args[0] && lowered.op === "neg" && withoutStop(lowered.args[0]) === top
    )
  );
  return top && { top, weights: list.filter((factor) => factor !== power) };
};

const withoutStop = (node: Node): Node => node.op === "stop" ? withoutStop(node.args[0]) : node;

/**
 * One scan for loops over the same axis that depend on each other only as online sums; gives the
 * replacements of the loops.
 */
const scanOf = (
  loops: readonly Node[],
  cascades: Cascades,
  virtual: Unmaterialised,
): ReadonlyMap<Node, Node> => {
  const [axis] = loops[0].attributes.over!;
  const bodies = loops.flatMap((node) => cascades.get(node)?.weights ?? [node.args[0]]);
  const each = inputsOf(bodies, virtual).filter((node) => axis in node.axes);
  const name = new Map(loops.map((node, k) => [node, `sum${k}`]));
  const start = (node: Node) => expand(float(isSum(node) ? 0 : -Infinity), node.axes);
  const from = Object.fromEntries(loops.map((node, k) => [`sum${k}`, start(node)]));
  const inputs = Object.fromEntries(each.map((node, k) => [`e${k}`, node]));
  const made = withPathOf(loops[0], () =>
    scanNode(axis, from, inputs, (carry, now) => {
      const done = new Map<Node, Node>(each.map((node, k) => [node, now[`e${k}`]]));
      const at = (node: Node, above: Node | undefined): Node => {
        const known = done.get(node);
        if (known !== undefined) return known;
        if (!isInside(node, above, virtual)) return node;
        const args = node.args.map((arg) => at(arg, node));
        const value = withPathOf(
          node,
          () =>
            node.op === "reduce"
              ? reduce(args[0], node.attributes.how!, node.attributes.over!)
              : apply(node.op as Parameters<typeof apply>[0], ...args),
        );
        done.set(node, value);
        return value;
      };
      const next: Record<string, Node> = {};
      // With only -Infinity so far, subtracting it would give NaN.
      const below = (node: Node, top: Node) => {
        const finite = apply("max", next[name.get(top)!], float(-3.4028234663852886e38));
        return apply("exp", apply("add", node, apply("neg", finite)));
      };
      // Maxima come before the sums that depend on them.
      for (const node of loops) {
        const own = carry[name.get(node)!], cascaded = cascades.get(node);
        if (cascaded === undefined) {
          next[name.get(node)!] = apply(
            isSum(node) ? "add" : "max",
            own,
            at(node.args[0], undefined),
          );
        } else {
          const { top, weights } = cascaded;
          const now = weights.map((node) => at(node, undefined))
            .reduce((a, b) => apply("mul", a, b), below(at(top.args[0], undefined), top));
          const before = apply("mul", own, below(carry[name.get(top)!], top));
          next[name.get(node)!] = expand(apply("add", before, now), node.axes);
        }
      }
      return { next, out: {} };
    }, false));
  return new Map(loops.map((node) => [node, part(made, "final", name.get(node)!)]));
};

/** The factors of a product, with unmaterialised products expanded. */
const factors = (node: Node, virtual: Unmaterialised): readonly Node[] =>
  node.op === "mul" && virtual.all.has(node)
    ? node.args.flatMap((arg) => factors(arg, virtual))
    : [node];

/**
 * Moves factors without the summed axis out of a sum: attention's normaliser leaves the sum over
 * values, and the two sums share one loop.
 */
const withoutFactors = (node: Node, virtual: Unmaterialised): Node | undefined => {
  if (!isSum(node) || !isLoop(node, virtual)) return undefined;
  const [axis] = node.attributes.over!;
  const list = factors(node.args[0], virtual);
  const inside = list.filter((factor) => axis in factor.axes);
  const outside = list.filter((factor) => !(axis in factor.axes));
  if (outside.length === 0 || inside.length === 0) return undefined;
  const product = (of: readonly Node[]) => of.reduce((a, b) => apply("mul", a, b));
  return withPathOf(node, () => {
    const sum = reduce(product(inside), "add", [axis]);
    return expand(product([sum, ...outside]), node.axes);
  });
};

/**
 * The same values without materialised products larger than `limit` bytes, where loops can replace
 * them.
 */
export const streamProducts = (roots: readonly Node[], limit: number): readonly Node[] => {
  let now = roots;
  for (;;) {
    const virtual = unmaterialisedIn(now, limit);
    const found = topologicalOrder(now).flatMap((node) => {
      const better = withoutFactors(node, virtual);
      return better === undefined ? [] : [[node, better] as const];
    });
    if (found.length === 0) break;
    // One at a time: those below it may change with it.
    now = substitute(now, new Map([found[0]]));
  }
  for (;;) {
    const virtual = unmaterialisedIn(now, limit);
    const order = topologicalOrder(now);
    const first = order.find((node) => isLoop(node, virtual));
    if (first === undefined) return now;
    const wide = new Set([...virtual.products].flatMap((node) => Object.keys(node.axes)));
    // Loops share a scan if they have the same axis and the same lanes.
    const lanes = (node: Node): string =>
      `${node.attributes.over} ${Object.keys(node.axes).filter((axis) => wide.has(axis)).sort()}`;
    const waiting = new Set<Node>([first]);
    const together = [first], cascades = new Map<Node, OnlineSum>();
    for (const node of order) {
      const waits = node.args.some((arg) => waiting.has(arg));
      const fits = node !== first && isLoop(node, virtual) && lanes(node) === lanes(first);
      const tops = together.filter((node) => !isSum(node));
      const cascaded = fits && waits ? cascadeOf(node, tops, waiting, virtual) : undefined;
      if (cascaded !== undefined) cascades.set(node, cascaded);
      if (fits && (!waits || cascaded !== undefined)) together.push(node);
      if (fits || waits) waiting.add(node);
    }
    now = substitute(now, scanOf(together, cascades, virtual));
  }
};
