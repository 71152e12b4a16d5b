// Producer/consumer fusion into scans: point-wise producers of a scan's inputs, the contraction
// over the carry's own axes, and point-wise consumers move into its step. An array with both the
// scanned and the carried axes becomes one value per step. It runs before differentiation, so that
// the gradient of the fused scan is again one scan without large arrays, and before lowering, where
// it decides what one scan kernel reads and writes.
import { inPlaceOf, type Node, reachable } from "./node.ts";
import { apply, scalarRow } from "./primitives.ts";
import { reduce } from "./structure.ts";
import { locals, type Nodes, part, roles, scanNode, substitute } from "./scan.ts";

const has = (of: Node, axis: string) => axis in of.axes;
const rank = (of: Node) => Object.keys(of.axes).length;

const usersOf = (roots: readonly Node[]): ReadonlyMap<Node, readonly Node[]> => {
  const users = new Map<Node, Node[]>();
  for (const of of reachable(roots)) {
    for (const arg of new Set(of.args)) {
      const list = users.get(arg);
      if (list === undefined) users.set(arg, [of]);
      else list.push(of);
    }
  }
  return users;
};

/** Rebuilds a node on other arguments. Only scalar functions and reductions are fused. */
const again = (of: Node, args: readonly Node[]): Node => {
  const row = scalarRow(of.op);
  return inPlaceOf(
    of,
    () =>
      row !== undefined
        ? apply(of.op as Parameters<typeof apply>[0], ...args)
        : reduce(args[0], of.attributes.how!, of.attributes.over!),
  );
};

/** The scalar functions that produce the scan's inputs and move into its step. */
const producers = (
  inputs: readonly Node[],
  over: string,
  inside: ReadonlySet<Node>,
  users: ReadonlyMap<Node, readonly Node[]>,
  kept: ReadonlySet<Node>,
): ReadonlySet<Node> => {
  const taken = new Set<Node>();
  // Consumers come before producers, so "all its users are inside" is decided once.
  const order = [...reachable(inputs)].reverse();
  const wanted = new Set(inputs);
  for (const of of order) {
    if (!wanted.has(of) || kept.has(of) || scalarRow(of.op) === undefined || !has(of, over)) {
      continue;
    }
    const grows = of.args.every((arg) => rank(arg) < rank(of));
    const alone = (users.get(of) ?? []).every((user) => inside.has(user) || taken.has(user));
    if (!grows && !alone) continue;
    taken.add(of);
    of.args.forEach((arg) => wanted.add(arg));
  }
  return taken;
};

/** The consumers of the scan's outputs that move into its step, in topological order. */
const followers = (
  scan: Node,
  users: ReadonlyMap<Node, readonly Node[]>,
  kept: ReadonlySet<Node>,
  order: readonly Node[],
): readonly Node[] => {
  const over = scan.attributes.axis!;
  const carryAxes = [
    ...new Set(scan.attributes.carries!.flatMap((_, k) => Object.keys(scan.args[k].axes))),
  ];
  const isOut = (of: Node) =>
    of.op === "part" && of.args[0] === scan && of.attributes.name!.startsWith("out.");
  const below = new Set<Node>([scan]);
  for (const of of order) if (of.args.some((arg) => below.has(arg))) below.add(of);
  const taken: Node[] = [];
  const value = new Set<Node>(order.filter((of) => isOut(of) && !kept.has(of)));
  for (const of of order) {
    const ours = of.args.filter((arg) => value.has(arg));
    if (ours.length === 0 || value.has(of)) continue;
    if (of.args.some((arg) => below.has(arg) && !value.has(arg))) continue;
    const alone = ours.every((arg) =>
      (users.get(arg) ?? []).every((user) =>
        scalarRow(user.op) !== undefined || user.op === "reduce"
      )
    );
    if (!alone) continue;
    if (scalarRow(of.op) !== undefined) {
      const largest = Math.max(...ours.map(rank));
      if (rank(of) > largest || !has(of, over)) continue;
    } else if (of.op === "reduce") {
      // A contraction with an outside operand, over axes that only the carry has.
      const product = of.args[0];
      const large = carryAxes.every((axis) => has(product, axis));
      if (of.attributes.how !== "add" || of.attributes.over!.includes(over) || !large) continue;
      if (product.op !== "mul" || !product.args.some((arg) => !below.has(arg))) continue;
    } else continue;
    taken.push(of);
    if (!kept.has(of)) value.add(of);
  }
  return taken;
};

const rebuilt = (scan: Node, roots: readonly Node[], kept: ReadonlySet<Node>) => {
  const users = usersOf(roots);
  const order = reachable(roots);
  const over = scan.attributes.axis!;
  const below = followers(scan, users, kept, order);
  const inner = new Set<Node>([scan, ...below]);
  const { from, each } = roles(scan);
  const { carry, each: slices, rest } = locals(scan);
  const isOurs = (arg: Node) =>
    inner.has(arg) ||
    (arg.op === "part" && arg.args[0] === scan && !arg.attributes.name!.startsWith("final."));
  const outside = below.flatMap((of) => of.args.filter((arg) => !isOurs(arg) && has(arg, over)));
  const inputs = [...new Set([...Object.values(each), ...outside])];
  const above = producers(inputs, over, inner, users, kept);
  if (below.length === 0 && above.size === 0) return undefined;

  const frontier = new Set<Node>();
  const look = (arg: Node) => {
    if (has(arg, over) && !above.has(arg) && !isOurs(arg)) frontier.add(arg);
  };
  above.forEach((of) => of.args.forEach(look));
  inputs.forEach(look);
  const eachNodes = [...frontier].sort((a, b) => a.id - b.id);
  if (eachNodes.length === 0) return undefined;
  const outs = order.filter((of) =>
    of.op === "part" && of.args[0] === scan && of.attributes.name!.startsWith("out.")
  );
  const rootSet = new Set(roots);
  const needed = [...outs, ...below].filter((of) =>
    rootSet.has(of) || kept.has(of) || (users.get(of) ?? []).some((user) => !inner.has(user))
  );
  const step = (carried: Nodes, sliced: Nodes) => {
    const by = new Map<Node, Node>(eachNodes.map((of, k) => [of, sliced[`e${k}`]]));
    const value = (of: Node): Node => by.get(of) ?? of;
    const ordered = (of: Iterable<Node>) => [...of].sort((a, b) => a.id - b.id);
    for (const of of ordered(above)) by.set(of, again(of, of.args.map(value)));
    const bound = new Map<Node, Node>();
    Object.keys(carry).forEach((k) => bound.set(carry[k], carried[k]));
    Object.keys(slices).forEach((k) => bound.set(slices[k], value(each[k])));
    rest.forEach((leaf, k) => bound.set(leaf, roles(scan).rest[k]));
    const { next, out } = scan.attributes.step!;
    const names = Object.keys(next), outNames = Object.keys(out);
    const values = substitute(
      [...names.map((k) => next[k]), ...outNames.map((k) => out[k])],
      bound,
    );
    outNames.forEach((k, i) => {
      const of = outs.find((of) => of.attributes.name === `out.${k}`);
      if (of !== undefined) by.set(of, values[names.length + i]);
    });
    for (const of of below) by.set(of, again(of, of.args.map(value)));
    return {
      next: Object.fromEntries(names.map((k, i) => [k, values[i]])),
      out: Object.fromEntries(needed.map((of, k) => [`y${k}`, value(of)])),
    };
  };
  const inputsByName = Object.fromEntries(eachNodes.map((of, k) => [`e${k}`, of]));
  const made = inPlaceOf(
    scan,
    () => scanNode(over, from, inputsByName, step, scan.attributes.reverse!),
  );
  const replace = new Map<Node, Node>();
  needed.forEach((of, k) => replace.set(of, part(made, "out", `y${k}`)));
  for (const of of order) {
    if (of.op !== "part" || of.args[0] !== scan) continue;
    const [kind, name] = of.attributes.name!.split(/\.(.*)/s);
    if (kind === "final" || kind === "prev") replace.set(of, part(made, kind, name));
  }
  return replace;
};

/**
 * The same values with producers and consumers fused into every scan. Nodes in `kept` stay nodes of
 * the graph (they are differentiated for, or requested). Returns the new roots and kept nodes.
 */
export const absorb = (
  roots: readonly Node[],
  kept: readonly Node[] = [],
): { readonly roots: readonly Node[]; readonly kept: readonly Node[] } => {
  let now = roots, pinned = kept;
  const done = new Set<Node>();
  for (;;) {
    const scan = reachable(now).find((of) => of.op === "scan" && !done.has(of));
    if (scan === undefined) return { roots: now, kept: pinned };
    const replace = rebuilt(scan, now, new Set(pinned));
    if (replace === undefined) {
      done.add(scan);
      continue;
    }
    const all = substitute([...now, ...pinned], replace);
    now = all.slice(0, now.length);
    pinned = all.slice(now.length);
    const made = [...replace.values()][0];
    if (made !== undefined) done.add(made.args[0]);
  }
};
