// Hoisting: moves work out of a scan's body that does not need the carry, or that the carry does
// not need (loop-invariant code motion and loop distribution). Inside, one workgroup works step by
// step; outside, an ordinary kernel uses the whole device. Sums that read no carry are computed
// before the scan for all steps at once, accumulations are summed after it, and an outer product,
// too large to be an output of every step, leaves as its factors. The gradient of a recurrent
// matrix becomes a contraction over time this way.
import { type Axes, known, volume } from "../../../dsl/axes.ts";
import { inPlaceOf, intern, type Node, reachable } from "../../../dsl/node.ts";
import { apply, scalarRow } from "../../../dsl/primitives.ts";
import type { ScalarName } from "../../../dsl/node.ts";
import { locals, type Nodes, part, roles, scanNode, substitute } from "../../../dsl/scan.ts";
import { expand, gather, index, reduce, sumOver } from "../../../dsl/structure.ts";
import { dependents } from "../graph/queries.ts";

/**
 * How many times smaller than its product a factor must be to leave a scan whatever its own size.
 */
const muchLarger = 8;

/** Rebuilds a node on other arguments, which may have one more axis. */
const again = (of: Node, args: readonly Node[]): Node => {
  if (args.every((arg, k) => arg === of.args[k])) return of;
  const { axis, how, over, places, fill } = of.attributes;
  return inPlaceOf(of, () => {
    if (scalarRow(of.op) !== undefined) return apply(of.op as ScalarName, ...args);
    switch (of.op) {
      case "reduce":
        return reduce(args[0], how!, over!);
      case "gather":
        return gather(args[0], axis!, args[1]);
      case "index": {
        const added = Object.entries(args[0].axes).filter(([name]) => !(name in of.args[0].axes));
        return index(args[0], { ...Object.fromEntries(added), ...of.axes }, places!, fill);
      }
      case "stop":
      case "recompute":
      case "materialise":
        return intern(of.op, of.dtype, args[0].axes, args);
      default:
        throw new Error(`${of.op} has no form over all steps`);
    }
  });
};

/** Values of a step for all steps at once, or for all chunks; `by` gives those of some nodes. */
export const lifted = (roots: readonly Node[], by: ReadonlyMap<Node, Node>): readonly Node[] => {
  const done = new Map(by);
  for (const of of between(roots, by)) {
    done.set(of, again(of, of.args.map((arg) => done.get(arg)!)));
  }
  return roots.map((of) => done.get(of)!);
};

/** The nodes from `roots` up to those in `known`, in topological order. */
const between = (roots: readonly Node[], known: ReadonlyMap<Node, Node>): readonly Node[] => {
  const seen = new Set<Node>();
  const stack = [...roots];
  for (let of = stack.pop(); of !== undefined; of = stack.pop()) {
    if (known.has(of) || seen.has(of)) continue;
    seen.add(of);
    stack.push(...of.args);
  }
  return [...seen].sort((a, b) => a.id - b.id);
};

/** The term that the step adds to a carry and does nothing else with; undefined if it does more. */
export const added = (next: Node, leaf: Node, elsewhere: readonly Node[]): Node | undefined => {
  if (next.op !== "add" || reachable(elsewhere).includes(leaf)) return undefined;
  const [a, b] = next.args;
  const term = a === leaf ? b : b === leaf ? a : undefined;
  return term === undefined || reachable([term]).includes(leaf) ? undefined : term;
};

export const isZero = (of: Node): boolean =>
  of.op === "const"
    ? of.attributes.value === 0
    : of.op === "index" && of.attributes.fill === 0 && isZero(of.args[0]);

/** The sum of a value over axes, term by term, since the sum of one product is a contraction. */
const sumOfTerms = (of: Node, over: Axes): Node => {
  if (of.op === "add" || of.op === "neg") {
    return apply(of.op, ...of.args.map((arg) => sumOfTerms(arg, over)));
  }
  return sumOver(of, over);
};

/**
 * The hoisted scan, as replacements of its results and of reductions of them; undefined if nothing
 * can be hoisted. `order` are all nodes of the program. Where a lane runs the scan `alone`, its
 * outputs per step are no larger than its inputs: its carries may be much larger.
 */
export const loosen = (
  scan: Node,
  order: readonly Node[],
  mixed: ReadonlySet<string>,
  alone = false,
): ReadonlyMap<Node, Node> | undefined => {
  const { axis, reverse, step } = scan.attributes;
  const time = axis!;
  const { from, each, rest } = roles(scan);
  const leaves = locals(scan);
  const { next, out } = step!;
  const parts = new Map(
    order.filter((of) => of.op === "part" && of.args[0] === scan)
      .map((of) => [of.attributes.name!, of]),
  );

  const terms = new Map<string, Node>();
  for (const name of Object.keys(next)) {
    if (parts.has(`prev.${name}`) || next[name].dtype !== "f32") continue;
    const others = Object.keys(next).filter((other) => other !== name).map((other) => next[other]);
    const term = added(next[name], leaves.carry[name], [...others, ...Object.values(out)]);
    if (term !== undefined) terms.set(name, term);
  }
  const stay = Object.keys(next).filter((name) => !terms.has(name));
  if (stay.length === 0) return undefined;
  const chain = new Set(reachable(stay.map((name) => next[name])));
  const inner = reachable([...Object.values(next), ...Object.values(out)]);
  const carried = dependents(inner, stay.map((name) => leaves.carry[name]));

  // A value that depends on a carry is computed outside if it is a sum or an outer product that no
  // carry needs.
  const outside = (of: Node): boolean => {
    if (!carried.has(of) || chain.has(of)) return false;
    const growing = of.op === "mul" && of.args.every((arg) => volume(arg.axes) < volume(of.axes));
    if (growing) return true;
    if (of.op === "reduce") {
      return of.attributes.how === "add" &&
        (outside(of.args[0]) || of.attributes.over!.some((name) => !mixed.has(name)));
    }
    return ["mul", "div", "add", "neg", "index"].includes(of.op) && of.args.some(outside);
  };
  const piecesOf = (of: Node): readonly Node[] =>
    !carried.has(of) ? [] : outside(of) ? of.args.flatMap(piecesOf) : [of];
  // An output of every step must be no larger than the step's other inputs and outputs, or much
  // smaller than the product it is a factor of.
  const largest = Math.max(
    ...Object.values(leaves.each).map((of) => volume(of.axes)),
    ...(alone ? [] : [
      ...stay.map((name) => volume(from[name].axes)),
      ...Object.values(out).filter((of) => !outside(of)).map((of) => volume(of.axes)),
    ]),
  );
  const small = (of: Node) =>
    piecesOf(of).every((piece) =>
      volume(piece.axes) <= Math.max(largest, volume(of.axes) / muchLarger)
    );
  const moved = new Map([...terms].filter(([, of]) => small(of)));
  const expelled = Object.keys(out).filter((name) => outside(out[name]) && small(out[name]));
  const pieces = [
    ...new Set([...moved.values(), ...expelled.map((name) => out[name])].flatMap(piecesOf)),
  ];
  const ends = [
    ...Object.keys(next).filter((name) => !moved.has(name)).map((name) => next[name]),
    ...Object.keys(out).filter((name) => !expelled.includes(name)).map((name) => out[name]),
    ...pieces,
  ];
  const bound = dependents(inner, Object.values(leaves.carry));
  // A materialised value would be computed both inside and outside.
  const rounded = dependents(inner, inner.filter(({ op }) => op === "materialise"));
  const ready = reachable(ends).filter((of) =>
    of.op === "reduce" && !bound.has(of) && !rounded.has(of) && volume(of.axes) <= largest
  );
  const tops = ready.filter((of) =>
    !ready.some((other) => other !== of && reachable([other]).includes(of))
  );
  if (moved.size === 0 && expelled.length === 0 && tops.length === 0) return undefined;

  // Each leaf for all steps: the scan's arguments.
  const given = new Map<Node, Node>();
  for (const name of Object.keys(each)) given.set(leaves.each[name], each[name]);
  leaves.rest.forEach((leaf, k) => given.set(leaf, rest[k]));
  const ahead = lifted(tops, given);

  const kept = Object.keys(next).filter((name) => !moved.has(name));
  const outNames = Object.keys(out).filter((name) => !expelled.includes(name));
  const outOf = (piece: Node): string =>
    outNames.find((name) => out[name] === piece) ?? `piece.${piece.id}`;
  const inputs: Record<string, Node> = { ...each };
  const early = (of: Node) => `early.${of.id}`;
  ahead.forEach((of, k) => inputs[early(tops[k])] = of);
  const build = (inputs: Nodes) =>
    inPlaceOf(scan, () =>
      scanNode(
        time,
        Object.fromEntries(kept.map((name) => [name, from[name]])),
        inputs,
        (carry, now) => {
          const by = new Map<Node, Node>();
          kept.forEach((name) => by.set(leaves.carry[name], carry[name]));
          Object.keys(each).filter((name) => name in now)
            .forEach((name) => by.set(leaves.each[name], now[name]));
          leaves.rest.forEach((leaf, k) => by.set(leaf, rest[k]));
          tops.filter((of) => early(of) in now).forEach((of) => by.set(of, now[early(of)]));
          const named: Record<string, Node> = {};
          outNames.forEach((name) => named[name] = out[name]);
          pieces.forEach((of) => named[outOf(of)] = of);
          const names = Object.keys(named);
          const values = substitute(
            [...kept.map((name) => next[name]), ...names.map((name) => named[name])],
            by,
          );
          return {
            next: Object.fromEntries(kept.map((name, k) => [name, values[k]])),
            out: Object.fromEntries(names.map((name, k) => [name, values[kept.length + k]])),
          };
        },
        reverse!,
      ));
  // Inputs that the step no longer reads are dropped; one stays, as it gives the number of steps.
  const all = build(inputs);
  const read = new Set(
    reachable([
      ...Object.values(all.attributes.step!.next),
      ...Object.values(all.attributes.step!.out),
    ]),
  );
  const used = Object.keys(inputs).filter((name) => read.has(locals(all).each[name]));
  const names = used.length > 0 ? used : Object.keys(inputs).slice(0, 1);
  const made = build(Object.fromEntries(names.map((name) => [name, inputs[name]])));

  pieces.forEach((of) => given.set(of, part(made, "out", outOf(of))));
  const replace = new Map<Node, Node>();
  for (const [name, of] of parts) {
    const [kind, own] = name.split(/\.(.*)/s) as ["final" | "prev" | "out", string];
    if (kind === "out" && expelled.includes(own)) {
      replace.set(of, lifted([out[own]], given)[0]);
    } else if (kind === "final" && moved.has(own)) {
      const [term] = lifted([moved.get(own)!], given);
      const steps = { [time]: known(Object.values(each)[0].axes, time) };
      const start = from[own];
      const total = sumOfTerms(term, steps);
      replace.set(of, expand(isZero(start) ? total : apply("add", start, total), of.axes));
      // A sum of the sum becomes one sum.
      if (!isZero(start)) continue;
      for (const user of order) {
        if (user.op !== "reduce" || user.args[0] !== of || user.attributes.how !== "add") continue;
        const over = user.attributes.over!.map((name) => [name, known(of.axes, name)] as const);
        const whole = sumOfTerms(term, { ...steps, ...Object.fromEntries(over) });
        replace.set(user, expand(whole, user.axes));
      }
    } else replace.set(of, part(made, kind, own));
  }
  return replace;
};
