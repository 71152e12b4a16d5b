// Streaming reductions, as in FlashAttention. Attention scores have tokens × tokens elements, many
// more than queries and keys. If storing them takes too much memory, every sum or maximum over them
// becomes a loop (a scan without outputs) that computes each element where it is used, forward and
// backward. A maximum and the sums of exponentials that depend on it share one loop: the online
// softmax.
import { volume } from "../../../dsl/axes.ts";
import { inPlaceOf, type Node, reachable } from "../../../dsl/node.ts";
import { apply, float, scalarRow } from "../../../dsl/primitives.ts";
import { part, scanNode, substitute } from "../../../dsl/scan.ts";
import { expand, reduce } from "../../../dsl/structure.ts";

/** Values up to this size, in bytes, are materialised as usual. */
export const storedLimit = 2 ** 26;
/** Least ratio of a product's size to its operands' for it to be worth recomputing. */
const growth = 8;

const isScalar = (of: Node): boolean => scalarRow(of.op) !== undefined;
/** True for comparisons of floats for equality: those are rounded once, and so stored. */
const isDecided = ({ op, args }: Node): boolean => op === "equal" && args[0].dtype === "f32";
const isSum = (of: Node): boolean => of.op === "reduce" && of.attributes.how === "add";

/** The values that are not materialised. */
interface Virtual {
  /** Large products. */
  readonly products: ReadonlySet<Node>;
  /** Those, and what is computed from them element by element. */
  readonly all: ReadonlySet<Node>;
  readonly limit: number;
}

const isLargeProduct = (of: Node, limit: number): boolean => {
  if (!isSum(of) || of.args[0].op !== "mul" || 4 * volume(of.axes) <= limit) return false;
  const [a, b] = of.args[0].args;
  return volume(of.axes) > growth * (volume(a.axes) + volume(b.axes));
};

/** A sum or maximum over one axis of an unmaterialised value: it becomes a loop. */
const isLoop = (of: Node, { all }: Virtual): boolean =>
  of.op === "reduce" && !all.has(of) && all.has(of.args[0]) && of.attributes.over!.length === 1;

/** All values that need not be materialised; those with other users than loops must be. */
const virtualIn = (roots: readonly Node[], limit: number): Virtual => {
  const order = reachable(roots);
  const stored = new Set<Node>();
  for (;;) {
    const products = new Set(order.filter((of) => !stored.has(of) && isLargeProduct(of, limit)));
    // The products that each virtual value is made of.
    const from = new Map<Node, ReadonlySet<Node>>();
    for (const of of order) {
      if (products.has(of)) from.set(of, new Set([of]));
      else if (isScalar(of) && !isDecided(of)) {
        const above = of.args.flatMap((arg) => [...from.get(arg) ?? []]);
        if (above.length > 0) from.set(of, new Set(above));
      }
    }
    const virtual: Virtual = { products, all: new Set(from.keys()), limit };
    const wrong = [
      ...roots.filter((of) => from.has(of)),
      ...order.filter((of) => !from.has(of) && !isLoop(of, virtual))
        .flatMap((of) => of.args.filter((arg) => from.has(arg))),
    ];
    if (wrong.length === 0) return virtual;
    for (const of of wrong) for (const product of from.get(of)!) stored.add(product);
  }
};

/**
 * True for a value that a loop computes itself when `above` reads it; false for the loop's inputs.
 */
const isInside = (of: Node, above: Node | undefined, { products, all, limit }: Virtual): boolean =>
  all.has(of) ||
  // The factors of a product are read; the array of all of their products is no value.
  (of.op === "mul" && above !== undefined && products.has(above)) ||
  // Masks and the like: as large, and made from little.
  (isScalar(of) && !isDecided(of) && 4 * volume(of.axes) > limit);

/** The inputs of the loops' bodies. */
const edgeOf = (bodies: readonly Node[], virtual: Virtual): readonly Node[] => {
  const edge = new Set<Node>(), seen = new Set<Node>();
  const visit = (of: Node, above: Node | undefined) => {
    if (!isInside(of, above, virtual)) edge.add(of);
    else if (!seen.has(of)) {
      seen.add(of);
      of.args.forEach((arg) => visit(arg, of));
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
interface Cascaded {
  readonly top: Node;
  readonly weights: readonly Node[];
}

/** Online sums by their reduction node. */
type Cascades = ReadonlyMap<Node, Cascaded>;

/** How a sum depends on one of some maxima, if it is an online sum. */
const cascadeOf = (
  of: Node,
  tops: readonly Node[],
  waiting: ReadonlySet<Node>,
  virtual: Virtual,
): Cascaded | undefined => {
  if (!isSum(of)) return undefined;
  const list = factors(of.args[0], virtual);
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

const withoutStop = (of: Node): Node => of.op === "stop" ? withoutStop(of.args[0]) : of;

/**
 * One scan for loops over the same axis that depend on each other only as online sums; gives the
 * replacements of the loops.
 */
const scanOf = (
  loops: readonly Node[],
  cascades: Cascades,
  virtual: Virtual,
): ReadonlyMap<Node, Node> => {
  const [axis] = loops[0].attributes.over!;
  const bodies = loops.flatMap((of) => cascades.get(of)?.weights ?? [of.args[0]]);
  const each = edgeOf(bodies, virtual).filter((of) => axis in of.axes);
  const name = new Map(loops.map((of, k) => [of, `sum${k}`]));
  const start = (of: Node) => expand(float(isSum(of) ? 0 : -Infinity), of.axes);
  const from = Object.fromEntries(loops.map((of, k) => [`sum${k}`, start(of)]));
  const inputs = Object.fromEntries(each.map((of, k) => [`e${k}`, of]));
  const made = inPlaceOf(loops[0], () =>
    scanNode(axis, from, inputs, (carry, now) => {
      const done = new Map<Node, Node>(each.map((of, k) => [of, now[`e${k}`]]));
      const at = (of: Node, above: Node | undefined): Node => {
        const known = done.get(of);
        if (known !== undefined) return known;
        if (!isInside(of, above, virtual)) return of;
        const args = of.args.map((arg) => at(arg, of));
        const value = inPlaceOf(
          of,
          () =>
            of.op === "reduce"
              ? reduce(args[0], of.attributes.how!, of.attributes.over!)
              : apply(of.op as Parameters<typeof apply>[0], ...args),
        );
        done.set(of, value);
        return value;
      };
      const next: Record<string, Node> = {};
      // With only -Infinity so far, subtracting it would give NaN.
      const below = (of: Node, top: Node) => {
        const finite = apply("max", next[name.get(top)!], float(-3.4028234663852886e38));
        return apply("exp", apply("add", of, apply("neg", finite)));
      };
      // Maxima come before the sums that depend on them.
      for (const of of loops) {
        const own = carry[name.get(of)!], cascaded = cascades.get(of);
        if (cascaded === undefined) {
          next[name.get(of)!] = apply(isSum(of) ? "add" : "max", own, at(of.args[0], undefined));
        } else {
          const { top, weights } = cascaded;
          const now = weights.map((of) => at(of, undefined))
            .reduce((a, b) => apply("mul", a, b), below(at(top.args[0], undefined), top));
          const before = apply("mul", own, below(carry[name.get(top)!], top));
          next[name.get(of)!] = expand(apply("add", before, now), of.axes);
        }
      }
      return { next, out: {} };
    }, false));
  return new Map(loops.map((of) => [of, part(made, "final", name.get(of)!)]));
};

/** The factors of a product, with unmaterialised products expanded. */
const factors = (of: Node, virtual: Virtual): readonly Node[] =>
  of.op === "mul" && virtual.all.has(of) ? of.args.flatMap((arg) => factors(arg, virtual)) : [of];

/**
 * Moves factors without the summed axis out of a sum: attention's normaliser leaves the sum over
 * values, and the two sums share one loop.
 */
const withoutFactors = (of: Node, virtual: Virtual): Node | undefined => {
  if (!isSum(of) || !isLoop(of, virtual)) return undefined;
  const [axis] = of.attributes.over!;
  const list = factors(of.args[0], virtual);
  const inside = list.filter((factor) => axis in factor.axes);
  const outside = list.filter((factor) => !(axis in factor.axes));
  if (outside.length === 0 || inside.length === 0) return undefined;
  const product = (of: readonly Node[]) => of.reduce((a, b) => apply("mul", a, b));
  return inPlaceOf(of, () => {
    const sum = reduce(product(inside), "add", [axis]);
    return expand(product([sum, ...outside]), of.axes);
  });
};

/**
 * The same values without materialised products larger than `limit` bytes, where loops can replace
 * them.
 */
export const withLoops = (roots: readonly Node[], limit: number): readonly Node[] => {
  let now = roots;
  for (;;) {
    const virtual = virtualIn(now, limit);
    const found = reachable(now).flatMap((of) => {
      const better = withoutFactors(of, virtual);
      return better === undefined ? [] : [[of, better] as const];
    });
    if (found.length === 0) break;
    // One at a time: those below it may change with it.
    now = substitute(now, new Map([found[0]]));
  }
  for (;;) {
    const virtual = virtualIn(now, limit);
    const order = reachable(now);
    const first = order.find((of) => isLoop(of, virtual));
    if (first === undefined) return now;
    const wide = new Set([...virtual.products].flatMap((of) => Object.keys(of.axes)));
    // Loops share a scan if they have the same axis and the same lanes.
    const lanes = (of: Node): string =>
      `${of.attributes.over} ${Object.keys(of.axes).filter((axis) => wide.has(axis)).sort()}`;
    const waiting = new Set<Node>([first]);
    const together = [first], cascades = new Map<Node, Cascaded>();
    for (const of of order) {
      const waits = of.args.some((arg) => waiting.has(arg));
      const fits = of !== first && isLoop(of, virtual) && lanes(of) === lanes(first);
      const tops = together.filter((of) => !isSum(of));
      const cascaded = fits && waits ? cascadeOf(of, tops, waiting, virtual) : undefined;
      if (cascaded !== undefined) cascades.set(of, cascaded);
      if (fits && (!waits || cascaded !== undefined)) together.push(of);
      if (fits || waits) waiting.add(of);
    }
    now = substitute(now, scanOf(together, cascades, virtual));
  }
};
