// Chunked scans: a scan with too few lanes to fill a device runs in chunks of time in parallel. The
// recurrence must be linear in its carry, h' = gate · h + input, so that a chunk maps its incoming
// carry to (product of gates) · h + (its result from zero). The first scan computes both for all
// chunks at once, a short second one runs from chunk to chunk, and the third runs the steps of all
// chunks from their right starts. Carries that only accumulate are summed over the chunks
// afterwards.
import { type Axes, sizeOf, volume } from "../../../dsl/axes.ts";
import { intern, type Node, rewrite, topologicalOrder, withScope } from "../../../dsl/node.ts";
import { apply, constantNode, float } from "../../../dsl/primitives.ts";
import { locals, type Nodes, part, roles, scanNode } from "../../../dsl/scan.ts";
import {
  expand,
  iota,
  isIdentity,
  merge,
  pad,
  reduce,
  slice,
  split,
} from "../../../dsl/structure.ts";
import { costOf, memoryCost } from "../cost_model.ts";
import { added, isZero, overAllSteps } from "./hoist.ts";
import { type Dim, dims, size } from "../kernel_ir.ts";
import { chunkSuffix, spaceOf } from "./plan.ts";
import type { Parallelism } from "../graph/split_reductions.ts";
import { crossLaneAxes } from "./cooperative.ts";
import { dependents } from "../graph/queries.ts";

/** The carries of a scan that can be chunked; the others keep their initial value. */
interface Form {
  /** The factors of carries that a step multiplies and adds to. */
  readonly gates: ReadonlyMap<string, Node>;
  /** Carries that only accumulate and are read by nothing else. */
  readonly sums: readonly string[];
}

/** A scan to be chunked, and the steps of a chunk. */
interface Choice {
  readonly form: Form;
  readonly length: number;
}

const isPrev = (node: Node): boolean =>
  node.op === "part" && node.attributes.name!.startsWith("prev.");

/**
 * The factor of `carry` in `of`, if `of` is linear in it, element by element; `carried` are the
 * values that depend on carries.
 */
const gateOf = (node: Node, carry: Node, carried: ReadonlySet<Node>): Node | undefined => {
  const done = new Map<Node, Node | undefined>();
  const at = (x: Node): Node | undefined => {
    if (!done.has(x)) done.set(x, x === carry ? float(1) : carried.has(x) ? through(x) : float(0));
    return done.get(x);
  };
  const both = (x: Node, y: Node, build: (a: Node, b: Node) => Node): Node | undefined => {
    const a = at(x), b = at(y);
    return a === undefined || b === undefined ? undefined : build(a, b);
  };
  const through = (x: Node): Node | undefined => {
    const [a, b, c] = x.args;
    switch (x.op) {
      case "add":
        return both(a, b, (a, b) => apply("add", a, b));
      case "neg":
        return both(a, a, (a) => apply("neg", a));
      case "mul": {
        const [node, factor] = carried.has(a) ? [a, b] : [b, a];
        return carried.has(factor)
          ? undefined
          : both(node, node, (node) => apply("mul", node, factor));
      }
      case "div":
        return carried.has(b) ? undefined : both(a, a, (a) => apply("div", a, b));
      case "select":
        return carried.has(a) ? undefined : both(b, c, (b, c) => apply("select", a, b, c));
      case "index": {
        const places = Object.entries(x.attributes.places!);
        return places.every(([axis, place]) => isIdentity(place, axis)) ? at(a) : undefined;
      }
      case "stop":
      case "recompute":
        return at(a);
      default:
        return undefined;
    }
  };
  return at(node);
};

const valuesOf = (scan: Node): readonly Node[] => {
  const { next, out } = scan.attributes.step!;
  return [...Object.values(next), ...Object.values(out)];
};

/** The values that the first of the three scans computes in a step. */
const endsOf = (scan: Node, { gates }: Form): readonly Node[] => [
  ...[...gates.keys()].map((name) => scan.attributes.step!.next[name]),
  ...gates.values(),
];

/** The inputs that values of a step depend on. */
const inputsOf = (scan: Node, values: readonly Node[]): readonly string[] => {
  const inside = new Set(topologicalOrder(values)), { each } = locals(scan);
  return Object.keys(each).filter((name) => inside.has(each[name]));
};

/** All values read by the nodes in `order`; an input that a step does not use is not read. */
const readIn = (order: readonly Node[]): ReadonlySet<Node> =>
  new Set(order.flatMap((node) => {
    if (node.op !== "scan") return node.args;
    const { from, each, rest } = roles(node);
    return [
      ...Object.values(from),
      ...inputsOf(node, valuesOf(node)).map((name) => each[name]),
      ...rest,
    ];
  }));

/** The form of a scan that can be chunked; `read` are all values that the program reads. */
const formOf = (scan: Node, read: ReadonlySet<Node>): Form | undefined => {
  const { next, out } = scan.attributes.step!;
  const inner = topologicalOrder(valuesOf(scan));
  if (crossLaneAxes(scan) !== undefined || inner.some((node) => node.op === "scan")) {
    return undefined;
  }
  const { carry } = locals(scan);
  const isRead = (name: string) => read.has(part(scan, "prev", name));
  const changing = Object.entries(next)
    .filter(([name, node]) => node !== carry[name] || isRead(name));
  const carried = dependents(inner, changing.map(([name]) => carry[name]));
  const gates = new Map<string, Node>(), sums: string[] = [];
  for (const [name, node] of changing) {
    const others = Object.keys(next).filter((other) => other !== name).map((other) => next[other]);
    const isSum = node.dtype === "f32" && !isRead(name) &&
      added(node, carry[name], [...others, ...Object.values(out)]) !== undefined;
    const gate = isSum || node.dtype !== "f32" ? undefined : gateOf(node, carry[name], carried);
    if (isSum) sums.push(name);
    else if (gate === undefined) return undefined;
    else gates.set(name, gate);
  }
  const form = { gates, sums };
  // Carries that another scan recomputes for the third scan here would have to be stored for the
  // first.
  const { each } = roles(scan);
  const waits = inputsOf(scan, endsOf(scan, form)).some((name) => isPrev(each[name]));
  return waits ? undefined : form;
};

const stepsOf = (scan: Node): number => {
  const [some] = Object.values(roles(scan).each);
  return sizeOf(some.axes, scan.attributes.axis!);
};

/** Work of one lane of `space` for values of a step and their inputs, in additions. */
const workOf = (values: readonly Node[], space: readonly Dim[]): number => {
  const lanes = new Set(space.map(({ axis }) => axis));
  return topologicalOrder(values).reduce((sum, node) => {
    const isRead = node.op === "local" && node.attributes.name!.startsWith("each.");
    const held = dims((node.op === "reduce" ? node.args[0] : node).axes)
      .filter(({ axis }) => !lanes.has(axis));
    return sum + (isRead ? memoryCost : costOf(node)) * size(held);
  }, 0);
};

/** Steps of a chunk, if chunks are estimated to be enough faster than one sequence. */
const lengthOf = (scan: Node, form: Form, parallelism: Parallelism): number | undefined => {
  const steps = stepsOf(scan), { from } = roles(scan);
  const idle = (lanes: number) => Math.max(1, parallelism.lanes / lanes);
  const stage = (values: readonly Node[], space: readonly Dim[]) => {
    const lanes = size(space), work = lanes * workOf(values, space);
    return (steps: number, chunks: number) => steps * chunks * work * idle(lanes * chunks);
  };
  const bodies = stage(valuesOf(scan), spaceOf(scan));
  // One lane for every element of the carry: nothing is summed over them.
  const carried = Object.assign({}, ...[...form.gates.keys()].map((name) => from[name].axes));
  const ends = stage(endsOf(scan, form), dims(carried));
  const elements = (names: Iterable<string>) =>
    [...names].reduce((sum, name) => sum + volume(from[name].axes), 0);
  // From chunk to chunk, two numbers are read for each carried one, and one is written.
  const between = 3 * memoryCost * elements(form.gates.keys()) * idle(volume(carried));
  const summed = 2 * memoryCost * elements(form.sums);
  const time = (length: number): number => {
    const count = Math.ceil(steps / length);
    return ends(length, count) + bodies(length, count) + (between + summed) * count +
      2 * parallelism.launchCost;
  };
  const lengths: number[] = [];
  // Powers of two, since places in time are divided by them.
  for (let length = 2; 2 * length <= steps; length *= 2) lengths.push(length);
  const [best] = lengths.sort((a, b) => time(a) - time(b));
  return best !== undefined && parallelism.gain * time(best) <= bodies(steps, 1) ? best : undefined;
};

/**
 * The scans to be chunked. A scan that runs back over another one recomputes its carries: both have
 * the same chunks, or neither has any.
 */
const chosen = (roots: readonly Node[], parallelism: Parallelism): ReadonlyMap<Node, Choice> => {
  const order = topologicalOrder(roots);
  const read = readIn(order);
  const scans = order.filter((node) => node.op === "scan");
  const sourcesOf = (scan: Node) => scan.args.filter(isPrev).map((node) => node.args[0]);
  const found = new Map<Node, Choice>();
  for (const scan of scans) {
    const form = formOf(scan, read), [source] = sourcesOf(scan);
    if (form === undefined) continue;
    const length = source === undefined
      ? lengthOf(scan, form, parallelism)
      : found.get(source)?.length;
    if (length !== undefined) found.set(scan, { form, length });
  }
  for (let before = -1; before !== found.size;) {
    before = found.size;
    for (const scan of scans) {
      const related = [scan, ...sourcesOf(scan)];
      const lengths = new Set(related.map((node) => found.get(node)?.length));
      if (lengths.size > 1) related.forEach((node) => found.delete(node));
    }
  }
  return found;
};

const record = (names: readonly string[], of: (name: string, k: number) => Node): Nodes =>
  Object.fromEntries(names.map((name, k) => [name, of(name, k)]));

/**
 * The results of a chunked scan, by name. `joined` maps values over all of time to their chunked
 * form, which a scan that runs back over this one reads.
 */
const inChunks = (
  scan: Node,
  { form: { gates, sums }, length }: Choice,
  joined: Map<Node, Node>,
): (part: string) => Node => {
  const { axis, reverse, step } = scan.attributes, { next, out } = step!;
  const time = axis!, chunk = time + chunkSuffix, place = `${time}.step`;
  const { from, each, rest } = roles(scan), own = locals(scan);
  const steps = stepsOf(scan), count = Math.ceil(steps / length), filled = count * length;

  const cut = (x: Node): Node => {
    const before = joined.get(x);
    if (before?.axes[place] === length) return before;
    return split(pad(x, time, 0, filled - steps), time, { [chunk]: count, [place]: length });
  };
  const join = (x: Node): Node => {
    const all = slice(merge(x, [chunk, place], time), time, 0, steps);
    joined.set(all, x);
    return all;
  };
  const inAll = (node: Node, axes: Axes = {}): Node => expand(node, { [chunk]: count, ...axes });

  // Padding of the last chunk is no step: carries keep their values.
  const isStep = "is a step";
  const first = apply("mul", iota(chunk, count), constantNode(length, "u32"));
  const there = apply("less", apply("add", first, iota(place, length)), constantNode(steps, "u32"));
  const kept = (now: Nodes, after: Node, before: Node): Node =>
    expand(isStep in now ? apply("select", now[isStep], after, before) : after, before.axes);

  /**
   * A scan over the steps of all chunks in parallel, which computes values of the step for its own.
   */
  const overSteps = (
    start: Nodes,
    wanted: Nodes,
    use: (values: Nodes, carry: Nodes) => { readonly next: Nodes; readonly out: Nodes },
  ): Node => {
    const read = inputsOf(scan, Object.values(wanted));
    // At least one input, which gives the number of steps.
    const some = read.length > 0 ? read : Object.keys(each).slice(0, 1);
    const inputs = {
      ...record(some, (name) => cut(each[name])),
      ...filled === steps ? {} : { [isStep]: there },
    };
    return scanNode(place, start, inputs, (carry, now) => {
      const by = new Map<Node, Node>(rest.map((x, k) => [own.rest[k], x]));
      for (const name in from) by.set(own.carry[name], carry[name] ?? from[name]);
      for (const name in each) if (name in now) by.set(own.each[name], now[name]);
      const values = overAllSteps(Object.values(wanted), by);
      const made = use(record(Object.keys(wanted), (_, k) => values[k]), carry);
      const next = record(Object.keys(carry), (name) => kept(now, made.next[name], carry[name]));
      return { next, out: made.out };
    }, reverse!);
  };

  const names = [...gates.keys()];
  // A gate of 1 needs no product.
  const gated = names.filter((name) => gates.get(name) !== float(1));
  const products = Object.fromEntries(gated.map((name) => [`gates.${name}`, gates.get(name)!]));
  const ends = () =>
    overSteps(
      {
        ...record(names, (name) => inAll(float(0), from[name].axes)),
        ...record(Object.keys(products), (name) => inAll(float(1), products[name].axes)),
      },
      { ...record(names, (name) => next[name]), ...products },
      (values, carry) => {
        const through = (name: string) =>
          name in products ? apply("mul", carry[name], values[name]) : values[name];
        return { next: record(Object.keys(values), through), out: {} };
      },
    );
  const between = (ends: Node) =>
    scanNode(
      chunk,
      record(names, (name) => from[name]),
      record([...names, ...Object.keys(products)], (name) => part(ends, "final", name)),
      (carry, now) => {
        const after = (name: string): Node => {
          const h = carry[name], made = now[name], gate = now[`gates.${name}`];
          if (gate === undefined) return apply("add", h, made);
          // A product of gates may be infinite where h is 0.
          const isNothing = apply("equal", h, float(0));
          return apply("select", isNothing, made, apply("add", apply("mul", gate, h), made));
        };
        return { next: record(names, after), out: {} };
      },
      reverse!,
    );
  const bodies = (starts: Nodes) => {
    const outs = Object.keys(out), start = (name: string) => inAll(float(0), from[name].axes);
    const wanted = Object.fromEntries([
      ...Object.keys(next).map((name) => [`next.${name}`, next[name]] as const),
      ...outs.map((name) => [`out.${name}`, out[name]] as const),
    ]);
    return overSteps({ ...record(sums, start), ...starts }, wanted, (values) => ({
      next: record(Object.keys(next), (name) => values[`next.${name}`]),
      out: record(outs, (name) => inAll(values[`out.${name}`])),
    }));
  };

  const across = (): Node => {
    const first = withScope(`ends of ${count} chunks`, ends);
    return withScope("from chunk to chunk", () => between(first));
  };
  const middle = names.length === 0 ? undefined : across();
  const starts = record(names, (name) => part(middle!, "prev", name));
  const last = withScope(`${count} chunks`, () => bodies(starts));
  return (full) => {
    const [kind, name] = full.split(/\.(.*)/s) as ["final" | "prev" | "out", string];
    const isKept = !gates.has(name) && !sums.includes(name);
    if (kind === "prev") {
      return isKept ? expand(from[name], { [time]: steps }) : join(part(last, "prev", name));
    }
    if (kind === "out") {
      const { dtype, axes } = last.attributes.step!.out[name];
      // In the order of time, so that joining chunks moves nothing.
      const all = { [chunk]: count, [place]: length, ...axes };
      return join(intern("part", dtype, all, [last], { name: full }));
    }
    if (gates.has(name)) return part(middle!, "final", name);
    if (isKept) return from[name];
    const total = reduce(part(last, "final", name), "add", [chunk]);
    return isZero(from[name]) ? total : apply("add", from[name], total);
  };
};

/** The same values, with scans chunked where that is estimated to be faster. */
export const chunkScans = (roots: readonly Node[], parallelism: Parallelism): readonly Node[] => {
  const choices = chosen(roots, parallelism);
  const made = new Map<Node, (part: string) => Node>(), joined = new Map<Node, Node>();
  return choices.size === 0 ? roots : rewrite(roots, (node, was) => {
    const choice = node.op === "part" ? choices.get(was.args[0]) : undefined;
    if (choice === undefined) return node;
    const [scan] = node.args;
    if (!made.has(scan)) made.set(scan, inChunks(scan, choice, joined));
    return expand(made.get(scan)!(node.attributes.name!), node.axes);
  });
};
