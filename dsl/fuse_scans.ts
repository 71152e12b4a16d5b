// Producer/consumer fusion into scans: point-wise producers of a scan's inputs, the contraction
// over the carry's own axes, and point-wise consumers move into its step. An array with both the
// scanned and the carried axes becomes one value per step. It runs before differentiation, so that
// the gradient of the fused scan is again one scan without large arrays, and before lowering, where
// it decides what one scan kernel reads and writes.
import { type Node, topologicalOrder, withPathOf } from "./node.ts";
import { apply, scalarRow } from "./primitives.ts";
import { reduce } from "./structure.ts";
import { locals, type Nodes, part, roles, scanNode, substitute } from "./scan.ts";

const has = (node: Node, axis: string) => axis in node.axes;
const rank = (node: Node) => Object.keys(node.axes).length;

const usersOf = (roots: readonly Node[]): ReadonlyMap<Node, readonly Node[]> => {
  const users = new Map<Node, Node[]>();
  for (const node of topologicalOrder(roots)) {
    for (const arg of new Set(node.args)) {
      const list = users.get(arg);
      if (list === undefined) users.set(arg, [node]);
      else list.push(node);
    }
  }
  return users;
};

/** Rebuilds a node on other arguments. Only scalar functions and reductions are fused. */
const again = (node: Node, args: readonly Node[]): Node => {
  const row = scalarRow(node.op);
  return withPathOf(
    node,
    () =>
      row !== undefined
        ? apply(node.op as Parameters<typeof apply>[0], ...args)
        : reduce(args[0], node.attributes.how!, node.attributes.over!),
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
  const order = [...topologicalOrder(inputs)].reverse();
  const wanted = new Set(inputs);
  for (const node of order) {
    if (
      !wanted.has(node) || kept.has(node) || scalarRow(node.op) === undefined || !has(node, over)
    ) {
      continue;
    }
    const grows = node.args.every((arg) => rank(arg) < rank(node));
    const alone = (users.get(node) ?? []).every((user) => inside.has(user) || taken.has(user));
    if (!grows && !alone) continue;
    taken.add(node);
    node.args.forEach((arg) => wanted.add(arg));
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
  const isOut = (node: Node) =>
    node.op === "part" && node.args[0] === scan && node.attributes.name!.startsWith("out.");
  const below = new Set<Node>([scan]);
  for (const node of order) if (node.args.some((arg) => below.has(arg))) below.add(node);
  const taken: Node[] = [];
  const value = new Set<Node>(order.filter((node) => isOut(node) && !kept.has(node)));
  for (const node of order) {
    const ours = node.args.filter((arg) => value.has(arg));
    if (ours.length === 0 || value.has(node)) continue;
    if (node.args.some((arg) => below.has(arg) && !value.has(arg))) continue;
    const alone = ours.every((arg) =>
      (users.get(arg) ?? []).every((user) =>
        scalarRow(user.op) !== undefined || user.op === "reduce"
      )
    );
    if (!alone) continue;
    if (scalarRow(node.op) !== undefined) {
      const largest = Math.max(...ours.map(rank));
      if (rank(node) > largest || !has(node, over)) continue;
    } else if (node.op === "reduce") {
      // A contraction with an outside operand, over axes that only the carry has.
      const product = node.args[0];
      const large = carryAxes.every((axis) => has(product, axis));
      if (node.attributes.how !== "add" || node.attributes.over!.includes(over) || !large) continue;
      if (product.op !== "mul" || !product.args.some((arg) => !below.has(arg))) continue;
    } else continue;
    taken.push(node);
    if (!kept.has(node)) value.add(node);
  }
  return taken;
};

const rebuilt = (scan: Node, roots: readonly Node[], kept: ReadonlySet<Node>) => {
  const users = usersOf(roots);
  const order = topologicalOrder(roots);
  const over = scan.attributes.axis!;
  const below = followers(scan, users, kept, order);
  const inner = new Set<Node>([scan, ...below]);
  const { from, each } = roles(scan);
  const { carry, each: slices, rest } = locals(scan);
  const isOurs = (arg: Node) =>
    inner.has(arg) ||
    (arg.op === "part" && arg.args[0] === scan && !arg.attributes.name!.startsWith("final."));
  const outside = below.flatMap((node) =>
    node.args.filter((arg) => !isOurs(arg) && has(arg, over))
  );
  const inputs = [...new Set([...Object.values(each), ...outside])];
  const above = producers(inputs, over, inner, users, kept);
  if (below.length === 0 && above.size === 0) return undefined;

  const frontier = new Set<Node>();
  const look = (arg: Node) => {
    if (has(arg, over) && !above.has(arg) && !isOurs(arg)) frontier.add(arg);
  };
  above.forEach((node) => node.args.forEach(look));
  inputs.forEach(look);
  const eachNodes = [...frontier].sort((a, b) => a.id - b.id);
  if (eachNodes.length === 0) return undefined;
  const outs = order.filter((node) =>
    node.op === "part" && node.args[0] === scan && node.attributes.name!.startsWith("out.")
  );
  const rootSet = new Set(roots);
  const needed = [...outs, ...below].filter((node) =>
    rootSet.has(node) || kept.has(node) || (users.get(node) ?? []).some((user) => !inner.has(user))
  );
  const step = (carried: Nodes, sliced: Nodes) => {
    const by = new Map<Node, Node>(eachNodes.map((node, k) => [node, sliced[`e${k}`]]));
    const value = (node: Node): Node => by.get(node) ?? node;
    const ordered = (of: Iterable<Node>) => [...of].sort((a, b) => a.id - b.id);
    for (const node of ordered(above)) by.set(node, again(node, node.args.map(value)));
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
      const of = outs.find((node) => node.attributes.name === `out.${k}`);
      if (of !== undefined) by.set(of, values[names.length + i]);
    });
    for (const node of below) by.set(node, again(node, node.args.map(value)));
    return {
      next: Object.fromEntries(names.map((k, i) => [k, values[i]])),
      out: Object.fromEntries(needed.map((node, k) => [`y${k}`, value(node)])),
    };
  };
  const inputsByName = Object.fromEntries(eachNodes.map((node, k) => [`e${k}`, node]));
  const made = withPathOf(
    scan,
    () => scanNode(over, from, inputsByName, step, scan.attributes.reverse!),
  );
  const replace = new Map<Node, Node>();
  needed.forEach((node, k) => replace.set(node, part(made, "out", `y${k}`)));
  for (const node of order) {
    if (node.op !== "part" || node.args[0] !== scan) continue;
    const [kind, name] = node.attributes.name!.split(/\.(.*)/s);
    if (kind === "final" || kind === "prev") replace.set(node, part(made, kind, name));
  }
  return replace;
};

/**
 * The same values with producers and consumers fused into every scan. Nodes in `kept` stay nodes of
 * the graph (they are differentiated for, or requested). Returns the new roots and kept nodes.
 */
export const fuseIntoScans = (
  roots: readonly Node[],
  kept: readonly Node[] = [],
): { readonly roots: readonly Node[]; readonly kept: readonly Node[] } => {
  let now = roots, pinned = kept;
  const done = new Set<Node>();
  for (;;) {
    const scan = topologicalOrder(now).find((node) => node.op === "scan" && !done.has(node));
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
