// Hoisting: moves work out of a scan's body that does not need the carry, or that the carry does
// not need (loop-invariant code motion and loop distribution). Inside, one workgroup works step by
// step; outside, an ordinary kernel uses the whole device. Sums that read no carry are computed
// before the scan for all steps at once, accumulations are summed after it, and an outer product,
// too large to be an output of every step, leaves as its factors. The gradient of a recurrent
// matrix becomes a contraction over time this way.
import { type Axes, sizeOf, volume } from "../../../dsl/axes.ts";
import { intern, type Node, topologicalOrder, withPathOf } from "../../../dsl/node.ts";
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
const again = (node: Node, args: readonly Node[]): Node => {
  if (args.every((arg, k) => arg === node.args[k])) return node;
  const { axis, how, over, places, fill } = node.attributes;
  return withPathOf(node, () => {
    if (scalarRow(node.op) !== undefined) return apply(node.op as ScalarName, ...args);
    switch (node.op) {
      case "reduce":
        return reduce(args[0], how!, over!);
      case "gather":
        return gather(args[0], axis!, args[1]);
      case "index": {
        const added = Object.entries(args[0].axes).filter(([name]) => !(name in node.args[0].axes));
        return index(args[0], { ...Object.fromEntries(added), ...node.axes }, places!, fill);
      }
      case "stop":
      case "recompute":
      case "materialise":
        return intern(node.op, node.dtype, args[0].axes, args);
      default:
        throw new Error(`${node.op} has no form over all steps`);
    }
  });
};

/** Values of a step for all steps at once, or for all chunks; `by` gives those of some nodes. */
export const overAllSteps = (
  roots: readonly Node[],
  by: ReadonlyMap<Node, Node>,
): readonly Node[] => {
  const done = new Map(by);
  for (const node of between(roots, by)) {
    done.set(node, again(node, node.args.map((arg) => done.get(arg)!)));
  }
  return roots.map((node) => done.get(node)!);
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
  if (next.op !== "add" || topologicalOrder(elsewhere).includes(leaf)) return undefined;
  const [a, b] = next.args;
  const term = a === leaf ? b : b === leaf ? a : undefined;
  return term === undefined || topologicalOrder([term]).includes(leaf) ? undefined : term;
};

export const isZero = (node: Node): boolean =>
  node.op === "const"
    ? node.attributes.value === 0
    : node.op === "index" && node.attributes.fill === 0 && isZero(node.args[0]);

/** The sum of a value over axes, term by term, since the sum of one product is a contraction. */
const sumOfTerms = (node: Node, over: Axes): Node => {
  if (node.op === "add" || node.op === "neg") {
    return apply(node.op, ...node.args.map((arg) => sumOfTerms(arg, over)));
  }
  return sumOver(node, over);
};

/**
 * The hoisted scan, as replacements of its results and of reductions of them; undefined if nothing
 * can be hoisted. `order` are all nodes of the program. Where a lane runs the scan `alone`, its
 * outputs per step are no larger than its inputs: its carries may be much larger.
 */
export const hoist = (
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
    order.filter((node) => node.op === "part" && node.args[0] === scan)
      .map((node) => [node.attributes.name!, node]),
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
  const chain = new Set(topologicalOrder(stay.map((name) => next[name])));
  const inner = topologicalOrder([...Object.values(next), ...Object.values(out)]);
  const carried = dependents(inner, stay.map((name) => leaves.carry[name]));

  // A value that depends on a carry is computed outside if it is a sum or an outer product that no
  // carry needs.
  const outside = (node: Node): boolean => {
    if (!carried.has(node) || chain.has(node)) return false;
    const growing = node.op === "mul" &&
      node.args.every((arg) => volume(arg.axes) < volume(node.axes));
    if (growing) return true;
    if (node.op === "reduce") {
      return node.attributes.how === "add" &&
        (outside(node.args[0]) || node.attributes.over!.some((name) => !mixed.has(name)));
    }
    return ["mul", "div", "add", "neg", "index"].includes(node.op) && node.args.some(outside);
  };
  const piecesOf = (node: Node): readonly Node[] =>
    !carried.has(node) ? [] : outside(node) ? node.args.flatMap(piecesOf) : [node];
  // An output of every step must be no larger than the step's other inputs and outputs, or much
  // smaller than the product it is a factor of.
  const largest = Math.max(
    ...Object.values(leaves.each).map((node) => volume(node.axes)),
    ...(alone ? [] : [
      ...stay.map((name) => volume(from[name].axes)),
      ...Object.values(out).filter((node) => !outside(node)).map((node) => volume(node.axes)),
    ]),
  );
  const small = (node: Node) =>
    piecesOf(node).every((piece) =>
      volume(piece.axes) <= Math.max(largest, volume(node.axes) / muchLarger)
    );
  const moved = new Map([...terms].filter(([, node]) => small(node)));
  const sunk = Object.keys(out).filter((name) => outside(out[name]) && small(out[name]));
  const pieces = [
    ...new Set([...moved.values(), ...sunk.map((name) => out[name])].flatMap(piecesOf)),
  ];
  const ends = [
    ...Object.keys(next).filter((name) => !moved.has(name)).map((name) => next[name]),
    ...Object.keys(out).filter((name) => !sunk.includes(name)).map((name) => out[name]),
    ...pieces,
  ];
  const bound = dependents(inner, Object.values(leaves.carry));
  // A materialised value would be computed both inside and outside.
  const rounded = dependents(inner, inner.filter(({ op }) => op === "materialise"));
  const ready = topologicalOrder(ends).filter((node) =>
    node.op === "reduce" && !bound.has(node) && !rounded.has(node) && volume(node.axes) <= largest
  );
  const hoisted = ready.filter((node) =>
    !ready.some((other) => other !== node && topologicalOrder([other]).includes(node))
  );
  if (moved.size === 0 && sunk.length === 0 && hoisted.length === 0) return undefined;

  // Each leaf for all steps: the scan's arguments.
  const given = new Map<Node, Node>();
  for (const name of Object.keys(each)) given.set(leaves.each[name], each[name]);
  leaves.rest.forEach((leaf, k) => given.set(leaf, rest[k]));
  const ahead = overAllSteps(hoisted, given);

  const kept = Object.keys(next).filter((name) => !moved.has(name));
  const outNames = Object.keys(out).filter((name) => !sunk.includes(name));
  const outOf = (piece: Node): string =>
    outNames.find((name) => out[name] === piece) ?? `piece.${piece.id}`;
  const inputs: Record<string, Node> = { ...each };
  const precomputed = (node: Node) => `early.${node.id}`;
  ahead.forEach((node, k) => inputs[precomputed(hoisted[k])] = node);
  const build = (inputs: Nodes) =>
    withPathOf(scan, () =>
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
          hoisted.filter((node) => precomputed(node) in now).forEach((node) =>
            by.set(node, now[precomputed(node)])
          );
          const named: Record<string, Node> = {};
          outNames.forEach((name) => named[name] = out[name]);
          pieces.forEach((node) => named[outOf(node)] = node);
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
    topologicalOrder([
      ...Object.values(all.attributes.step!.next),
      ...Object.values(all.attributes.step!.out),
    ]),
  );
  const used = Object.keys(inputs).filter((name) => read.has(locals(all).each[name]));
  const names = used.length > 0 ? used : Object.keys(inputs).slice(0, 1);
  const made = build(Object.fromEntries(names.map((name) => [name, inputs[name]])));

  pieces.forEach((node) => given.set(node, part(made, "out", outOf(node))));
  const replace = new Map<Node, Node>();
  for (const [name, node] of parts) {
    const [kind, own] = name.split(/\.(.*)/s) as ["final" | "prev" | "out", string];
    if (kind === "out" && sunk.includes(own)) {
      replace.set(node, overAllSteps([out[own]], given)[0]);
    } else if (kind === "final" && moved.has(own)) {
      const [term] = overAllSteps([moved.get(own)!], given);
      const steps = { [time]: sizeOf(Object.values(each)[0].axes, time) };
      const start = from[own];
      const total = sumOfTerms(term, steps);
      replace.set(node, expand(isZero(start) ? total : apply("add", start, total), node.axes));
      // A sum of the sum becomes one sum.
      if (!isZero(start)) continue;
      for (const user of order) {
        if (user.op !== "reduce" || user.args[0] !== node || user.attributes.how !== "add") {
          continue;
        }
        const over = user.attributes.over!.map((name) => [name, sizeOf(node.axes, name)] as const);
        const whole = sumOfTerms(term, { ...steps, ...Object.fromEntries(over) });
        replace.set(user, expand(whole, user.axes));
      }
    } else replace.set(node, part(made, kind, own));
  }
  return replace;
};
