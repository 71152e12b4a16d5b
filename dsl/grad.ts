// Reverse-mode differentiation from graph to graph: one walk from a scalar to its dependencies. The
// result consists of ordinary expressions, so it can be differentiated again.
import { fuseIntoScans } from "./fuse_scans.ts";
import {
  type AnyTensor,
  type Axes,
  AxisError,
  drop,
  type None,
  showAxes,
  sizeOf,
  type Tensor,
} from "./axes.ts";
import { type Node, nodeOf, tensorOf, topologicalOrder, withPathOf } from "./node.ts";
import { vjpRules } from "./vjp.ts";
import { apply, float, scalarRow } from "./primitives.ts";
import { locals, type Nodes, part, roles, scanNode, substitute } from "./scan.ts";
import { expand, reduce } from "./structure.ts";

/** Sums a cotangent that stands for the axes `over` down to those of its argument and of `keep`. */
const sumToShape = (cotangent: Node, over: Axes, arg: Axes, keep: ReadonlySet<string>): Node => {
  const extra = Object.keys(over).filter((axis) => !(axis in arg));
  const present = extra.filter((axis) => axis in cotangent.axes && !keep.has(axis));
  const times = extra.filter((axis) => !(axis in cotangent.axes))
    .reduce((product, axis) => product * sizeOf(over, axis), 1);
  return apply("mul", reduce(cotangent, "add", present), float(times));
};

const nothing: ReadonlySet<string> = new Set();

/** Contributions to one cotangent by the axes that they still have to be summed over. */
type Apart = ReadonlyMap<string, Node>;

/**
 * Cotangents of `targets`, given those of some nodes. The walk stops at targets. Contributions to
 * targets in `deferred` keep the axes in `keep` in place of being summed over them; those that keep
 * different axes stay separate, since they cannot be added element by element.
 */
const walk = (
  seeds: ReadonlyMap<Node, Node>,
  targets: readonly Node[],
  deferred: ReadonlySet<Node> = new Set(),
  keep: ReadonlySet<string> = nothing,
): { readonly found: ReadonlyMap<Node, Node>; readonly apart: ReadonlyMap<Node, Apart> } => {
  const found = new Map<Node, Node>();
  const apart = new Map<Node, Map<string, Node>>();
  const isTarget = new Set(targets);
  const order = topologicalOrder([...seeds.keys()]);
  const active = new Set<Node>();
  for (const node of order) {
    if (node.op === "stop") continue;
    if (isTarget.has(node) || node.args.some((arg) => active.has(arg))) active.add(node);
  }
  const put = (arg: Node, cotangent: Node, over: Axes) => {
    if (!active.has(arg)) return;
    const isDeferred = deferred.has(arg);
    const settled = sumToShape(cotangent, over, arg.axes, isDeferred ? keep : nothing);
    const plus = (before: Node | undefined) =>
      before === undefined ? settled : apply("add", before, settled);
    if (!isDeferred) found.set(arg, plus(found.get(arg)));
    else {
      const kept = Object.keys(settled.axes).filter((axis) => !(axis in arg.axes)).sort().join();
      const own = apart.get(arg) ?? new Map<string, Node>();
      apart.set(arg, own.set(kept, plus(own.get(kept))));
    }
  };
  for (const [node, seed] of seeds) put(node, seed, node.axes);
  const parts = new Map<Node, Map<string, Node>>();
  const visit = (node: Node): void => {
    if (node.op === "scan") {
      const cotangents = parts.get(node);
      if (cotangents !== undefined) pullScan(node, cotangents, active, put);
      return;
    }
    const g = found.get(node);
    if (g === undefined || isTarget.has(node)) return;
    const row = scalarRow(node.op);
    if (row !== undefined) {
      const wanted = node.args.map((arg) => active.has(arg));
      row.vjp(g, node.args, node, wanted).forEach((cotangent, k) => {
        if (cotangent !== undefined) put(node.args[k], cotangent, node.axes);
      });
    } else if (node.op === "part") {
      const [scan] = node.args;
      if (!parts.has(scan)) parts.set(scan, new Map());
      parts.get(scan)!.set(node.attributes.name!, expand(g, node.axes));
    } else {
      const pull = vjpRules[node.op as keyof typeof vjpRules];
      for (const { arg, cotangent, over } of pull(g, node)) put(arg, cotangent, over);
    }
  };
  // A derivative has the path of the expression that it is the derivative of.
  for (const node of [...order].reverse()) {
    if (active.has(node)) {
      withPathOf(node, () => visit(node));
    }
  }
  return { found, apart };
};

/**
 * The gradient of a scan is a scan in the opposite direction. It carries the cotangent of the
 * carry, and the steps' contributions to the arguments that all of them share; it reads `prev`, the
 * incoming carry of each step, which a backend recomputes or stores.
 */
const pullScan = (
  scan: Node,
  given: ReadonlyMap<string, Node>,
  active: ReadonlySet<Node>,
  put: (arg: Node, cotangent: Node, over: Axes) => void,
): void => {
  const { axis, reverse, carries, eachs, step } = scan.attributes;
  const { from, each, rest } = roles(scan);
  const leaves = locals(scan);
  const floats = carries!.filter((name) => from[name].dtype === "f32");
  const wantedEach = eachs!.filter((name) => active.has(each[name]));
  const wantedRest = rest.map((_, k) => k).filter((k) => active.has(rest[k]));
  const carryAxes = new Set(floats.flatMap((name) => Object.keys(from[name].axes)));

  const inputs: Record<string, Node> = {};
  for (const name of carries!) inputs[`prev.${name}`] = part(scan, "prev", name);
  for (const name of eachs!) inputs[`each.${name}`] = each[name];
  for (const [name, g] of given) if (!name.startsWith("final.")) inputs[`g.${name}`] = g;

  const back = (now: Nodes) => {
    const by = new Map<Node, Node>();
    carries!.forEach((name) => by.set(leaves.carry[name], now[`prev.${name}`]));
    eachs!.forEach((name) => by.set(leaves.each[name], now[`each.${name}`]));
    leaves.rest.forEach((leaf, k) => by.set(leaf, rest[k]));
    const nextNames = carries!, outNames = Object.keys(step!.out);
    const values = substitute(
      [...nextNames.map((k) => step!.next[k]), ...outNames.map((k) => step!.out[k])],
      by,
    );
    return (carried: Nodes) => {
      const seeds = new Map<Node, Node>();
      const seed = (node: Node, g: Node) => {
        const before = seeds.get(node);
        seeds.set(node, before === undefined ? g : apply("add", before, g));
      };
      floats.forEach((name) => seed(values[nextNames.indexOf(name)], carried[`g.${name}`]));
      outNames.forEach((name, k) => {
        const g = now[`g.out.${name}`];
        if (g !== undefined) seed(values[nextNames.length + k], g);
      });
      const targets = [
        ...floats.map((name) => now[`prev.${name}`]),
        ...wantedEach.map((name) => now[`each.${name}`]),
        ...wantedRest.map((k) => rest[k]),
      ];
      return walk(seeds, targets, new Set(wantedRest.map((k) => rest[k])), carryAxes);
    };
  };

  const start: Record<string, Node> = {};
  for (const name of floats) {
    start[`g.${name}`] = expand(given.get(`final.${name}`) ?? float(0), from[name].axes);
  }
  // A first tracing finds the axes of the shared arguments' contributions.
  const shared = new Map<
    string,
    { readonly k: number; readonly kept: string; readonly axes: Axes }
  >();
  const gradients = new Map<string, true>();
  scanNode(axis!, start, inputs, (carried, now) => {
    const { found, apart } = back(now)(carried);
    for (const k of wantedRest) {
      [...apart.get(rest[k]) ?? []].forEach(([kept, g], n) => {
        shared.set(`rest.${k}.${n}`, { k, kept, axes: { ...rest[k].axes, ...g.axes } });
      });
    }
    for (const name of wantedEach) if (found.has(now[`each.${name}`])) gradients.set(name, true);
    return { next: carried, out: {} };
  }, !reverse);
  for (const [name, { axes }] of shared) start[name] = expand(float(0), axes);

  const made = scanNode(axis!, start, inputs, (carried, now) => {
    const { found, apart } = back(now)(carried);
    const next: Record<string, Node> = {}, out: Record<string, Node> = {};
    for (const name of floats) {
      const through = found.get(now[`prev.${name}`]) ?? float(0);
      const direct = now[`g.prev.${name}`];
      const sum = direct === undefined ? through : apply("add", through, direct);
      next[`g.${name}`] = expand(sum, from[name].axes);
    }
    for (const [name, { k, kept, axes }] of shared) {
      next[name] = apply("add", carried[name], expand(apart.get(rest[k])!.get(kept)!, axes));
    }
    for (const name of gradients.keys()) {
      out[name] = expand(found.get(now[`each.${name}`])!, drop(each[name].axes, [axis!]));
    }
    return { next, out };
  }, !reverse);

  for (const name of floats) put(from[name], part(made, "final", `g.${name}`), from[name].axes);
  for (const name of gradients.keys()) put(each[name], part(made, "out", name), each[name].axes);
  for (const [name, { k, axes }] of shared) put(rest[k], part(made, "final", name), axes);
};

/** Several tensors under the names of a record. */
export type Tensors = Readonly<Record<string, AnyTensor>>;

/**
 * A parameter that is created in two places is two leaves, and each would get its own part of the
 * gradient.
 */
const refuseTwins = (root: Node, wrt: readonly Node[]): void => {
  const leaves = new Map(
    wrt.flatMap((node) => node.op === "param" ? [[node.attributes.name!, node] as const] : []),
  );
  for (const node of topologicalOrder([root])) {
    const name = node.op === "param" ? node.attributes.name! : "";
    const other = leaves.get(name);
    if (other === undefined || other === node) continue;
    throw new AxisError(
      `the parameter '${name}' is made in two places with different initialisers, and would have ` +
        "two gradients; make it once, or give both places the same initialiser",
    );
  }
};

/** The parameter type of what is differentiated: a scalar, else the sentence. */
export type Reduced<A> = string extends keyof A ? Tensor<A>
  : symbol extends keyof A ? Tensor<A>
  : [keyof A] extends [never] ? Tensor<A>
  : "only a scalar has a gradient; this has axes: reduce it first";

/**
 * A scalar and its derivative with respect to each of `wrt`, as expressions with the axes of each.
 * The value returned is the one to compile beside the gradients: it shares all their work.
 *
 * Throws `AxisError` when `loss` has axes: reduce it first.
 */
export const valueAndGrad = <A, W extends Tensors>(
  loss: Reduced<A>,
  wrt: W,
): { readonly value: Tensor<None>; readonly gradients: { readonly [K in keyof W]: W[K] } } => {
  const root = nodeOf(loss as AnyTensor);
  if (Object.keys(root.axes).length > 0) {
    throw new AxisError(
      `only a scalar has a gradient; this has ${showAxes(root.axes)}: reduce it first`,
    );
  }
  const names = Object.keys(wrt);
  refuseTwins(root, names.map((name) => nodeOf(wrt[name])));
  const absorbed = fuseIntoScans([root], names.map((name) => nodeOf(wrt[name])));
  const [value] = absorbed.roots;
  const { found } = walk(new Map([[value, float(1)]]), absorbed.kept);
  const gradients = names.map((name, k) => {
    const g = found.get(absorbed.kept[k]) ?? float(0);
    return [name, tensorOf(expand(g, nodeOf(wrt[name]).axes))];
  });
  return { value: tensorOf(value), gradients: Object.fromEntries(gradients) };
};

/**
 * The derivative of a scalar with respect to each of `wrt`.
 *
 * ```ts
 * import { grad, input, mul, sum } from "@formant/formant";
 * const x = input("x", { time: 4 });
 * const { x: twoX } = grad(sum(mul(x, x), "time"), { x });
 * ```
 */
export const grad = <A, W extends Tensors>(
  loss: Reduced<A>,
  wrt: W,
): { readonly [K in keyof W]: W[K] } => valueAndGrad<A, W>(loss, wrt).gradients;
