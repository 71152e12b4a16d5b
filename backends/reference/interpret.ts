// The oracle: evaluates expressions in float64, node by node, as obviously as possible. Every other
// backend is compared with it. Values are row-major in the order of a node's axes.
import { sizeOf } from "../../dsl/axes.ts";
import { type AffineIndex, type Node, topologicalOrder } from "../../dsl/node.ts";
import { scalarRow } from "../../dsl/primitives.ts";
import { locals, roles } from "../../dsl/scan.ts";

type Numbers = Float64Array;
/** The values of a graph's leaves: inputs and parameters. */
export type Leaves = (leaf: Node) => ArrayLike<number>;

const sizes = (node: Node): readonly number[] =>
  Object.keys(node.axes).map((axis) => sizeOf(node.axes, axis));
const length = (node: Node): number => sizes(node).reduce((a, b) => a * b, 1);

/** The stride of every axis of a row-major value. */
const strides = (node: Node): Readonly<Record<string, number>> => {
  let stride = length(node);
  return Object.fromEntries(
    Object.keys(node.axes).map((axis) => {
      stride /= sizeOf(node.axes, axis);
      return [axis, stride];
    }),
  );
};

/**
 * Calls `row` for every run along the last axis, in row-major order, with the number of its first
 * element, its length, and the offset of that element in each argument. `steps[a]` are the strides
 * of argument `a` along the axes; along a row it moves by the last of them.
 */
const walk = (
  extents: readonly number[],
  steps: readonly (readonly number[])[],
  row: (first: number, count: number, offsets: Int32Array) => void,
): void => {
  const outer = extents.length - 1;
  const count = extents[outer] ?? 1;
  const total = extents.reduce((a, b) => a * b, 1);
  const at = new Int32Array(Math.max(0, outer));
  const offsets = new Int32Array(steps.length);
  for (let first = 0; first < total; first += count) {
    row(first, count, offsets);
    for (let k = outer - 1; k >= 0; k--) {
      at[k]++;
      for (let a = 0; a < steps.length; a++) offsets[a] += steps[a][k];
      if (at[k] < extents[k]) break;
      for (let a = 0; a < steps.length; a++) offsets[a] -= steps[a][k] * extents[k];
      at[k] = 0;
    }
  }
};

const stepsOf = (node: Node, arg: Node): readonly number[] => {
  const stride = strides(arg);
  return Object.keys(node.axes).map((axis) => stride[axis] ?? 0);
};

const lastOf = (steps: readonly number[] | undefined): number => steps?.at(-1) ?? 0;

const evaluateScalar = (node: Node, args: readonly Numbers[]): Numbers => {
  const row = scalarRow(node.op)!;
  const words = node.args[node.args.length - 1].dtype === "u32" && node.dtype !== "f32";
  const meaning = words && row.u32 !== undefined ? row.u32 : row.meaning;
  const f = meaning as (...args: readonly number[]) => number;
  const result = new Float64Array(length(node));
  const [x, y, z] = args;
  const steps = node.args.map((arg) => stepsOf(node, arg));
  const [i, j, l] = [lastOf(steps[0]), lastOf(steps[1]), lastOf(steps[2])];
  walk(sizes(node), steps, (first, count, [a, b, c]) => {
    if (args.length === 1) {
      for (let k = 0; k < count; k++) result[first + k] = f(x[a + k * i]);
    } else if (args.length === 2) {
      for (let k = 0; k < count; k++) result[first + k] = f(x[a + k * i], y[b + k * j]);
    } else {
      for (let k = 0; k < count; k++) {
        result[first + k] = f(x[a + k * i], y[b + k * j], z[c + k * l]);
      }
    }
  });
  return result;
};

const evaluateReduce = (node: Node, x: Numbers): Numbers => {
  const [arg] = node.args;
  const isSum = node.attributes.how === "add";
  const result = new Float64Array(length(node)).fill(isSum ? 0 : -Infinity);
  const stride = strides(node);
  const steps = Object.keys(arg.axes).map((axis) => stride[axis] ?? 0);
  const step = lastOf(steps);
  walk(sizes(arg), [steps], (first, count, [to]) => {
    if (isSum) { for (let k = 0; k < count; k++) result[to + k * step] += x[first + k]; }
    else {
      for (let k = 0; k < count; k++) {
        result[to + k * step] = Math.max(result[to + k * step], x[first + k]);
      }
    }
  });
  return result;
};

/** A sum of products without the array of products. */
const evaluateContraction = (node: Node, a: Numbers, b: Numbers): Numbers => {
  const [product] = node.args;
  const [left, right] = product.args;
  const result = new Float64Array(length(node));
  const order = [...Object.keys(node.axes), ...node.attributes.over!];
  const steps = [left, right, node].map((one) => {
    const stride = strides(one);
    return order.map((axis) => stride[axis] ?? 0);
  });
  const [i, j] = [lastOf(steps[0]), lastOf(steps[1])];
  walk(order.map((axis) => sizeOf(product.axes, axis)), steps, (_, count, [x, y, to]) => {
    // The last axis is summed over.
    let sum = 0;
    for (let k = 0; k < count; k++) sum += a[x + k * i] * b[y + k * j];
    result[to] += sum;
  });
  return result;
};

const positionOf = (place: AffineIndex, terms: readonly number[], extent: number): number => {
  let value = place.offset;
  for (let k = 0; k < place.terms.length; k++) value += place.terms[k].times * terms[k];
  if (place.exact && ((value % place.divisor) + place.divisor) % place.divisor !== 0) return -1;
  value = Math.floor(value / place.divisor);
  if (place.modulo > 0) value = ((value % place.modulo) + place.modulo) % place.modulo;
  return value >= 0 && value < extent ? value : -1;
};

const evaluateIndex = (node: Node, x: Numbers): Numbers => {
  const [arg] = node.args;
  const result = new Float64Array(length(node));
  const axes = Object.keys(node.axes), extents = sizes(node);
  const stride = strides(arg);
  const places = Object.entries(node.attributes.places!).map(([axis, place]) => ({
    place,
    stride: stride[axis],
    extent: sizeOf(arg.axes, axis),
    from: place.terms.map((term) => axes.indexOf(term.axis)),
  }));
  const at = new Int32Array(axes.length);
  const terms: number[] = [];
  for (let k = 0; k < result.length; k++) {
    let offset = 0;
    for (const { place, stride, extent, from } of places) {
      for (let i = 0; i < from.length; i++) terms[i] = at[from[i]];
      const position = positionOf(place, terms, extent);
      if (position < 0) {
        offset = -1;
        break;
      }
      offset += position * stride;
    }
    result[k] = offset < 0 ? node.attributes.fill! : x[offset];
    for (let d = axes.length - 1; d >= 0; d--) {
      if (++at[d] < extents[d]) break;
      at[d] = 0;
    }
  }
  return result;
};

const evaluateGather = (node: Node, x: Numbers, positions: Numbers): Numbers => {
  const [arg, where] = node.args;
  const { axis } = node.attributes;
  const stride = strides(arg)[axis!];
  const last = sizeOf(arg.axes, axis!) - 1;
  const result = new Float64Array(length(node));
  const rest = Object.keys(node.axes).map((name) => name === axis ? 0 : strides(arg)[name] ?? 0);
  const steps = [rest, stepsOf(node, where)];
  const [i, j] = steps.map(lastOf);
  walk(sizes(node), steps, (first, count, [from, at]) => {
    for (let k = 0; k < count; k++) {
      result[first + k] = x[from + k * i + Math.min(positions[at + k * j], last) * stride];
    }
  });
  return result;
};

/** The requested results of a scan. */
const evaluateScan = (
  scan: Node,
  args: readonly Numbers[],
  wanted: readonly Node[],
): ReadonlyMap<Node, Numbers> => {
  const { axis, reverse, carries, eachs, step } = scan.attributes;
  const { from, each, rest } = roles(scan);
  const leaves = locals(scan);
  const steps = sizeOf(scan.args[carries!.length].axes, axis!);
  const values = new Map<Node, Numbers>();
  carries!.forEach((name, k) => {
    values.set(leaves.carry[name], reordered(args[k], from[name], leaves.carry[name]));
  });
  leaves.rest.forEach((leaf, k) => {
    values.set(leaf, reordered(args[carries!.length + eachs!.length + k], rest[k], leaf));
  });
  const asked = new Set(wanted.map((node) => node.attributes.name!));
  const outs = Object.keys(step!.out).filter((name) => asked.has(`out.${name}`));
  const result = new Map<string, Numbers>();
  for (const name of outs) {
    result.set(`out.${name}`, new Float64Array(steps * length(step!.out[name])));
  }
  const prevs = carries!.filter((name) => asked.has(`prev.${name}`));
  for (const name of prevs) {
    result.set(`prev.${name}`, new Float64Array(steps * length(from[name])));
  }
  const roots = [
    ...carries!.map((name) => step!.next[name]),
    ...outs.map((name) => step!.out[name]),
  ];
  const slicers = eachs!.map((name, k) => {
    const node = each[name];
    const stride = strides(node);
    const leaf = leaves.each[name];
    const data = args[carries!.length + k];
    const steps = Object.keys(leaf.axes).map((name) => stride[name]);
    const step = lastOf(steps);
    return (t: number) => {
      const slice = new Float64Array(length(leaf));
      walk(sizes(leaf), [steps], (first, count, [at]) => {
        const from = at + t * stride[axis!];
        for (let k = 0; k < count; k++) slice[first + k] = data[from + k * step];
      });
      values.set(leaf, slice);
    };
  });
  for (let s = 0; s < steps; s++) {
    const t = reverse ? steps - 1 - s : s;
    slicers.forEach((slice) => slice(t));
    for (const name of prevs) {
      result.get(`prev.${name}`)!.set(values.get(leaves.carry[name])!, t * length(from[name]));
    }
    const found = evaluate(roots, (leaf) => values.get(leaf)!);
    // The first axis of a stacked value is the scanned one, so a step is contiguous in it.
    outs.forEach((name, k) => {
      result.get(`out.${name}`)!.set(found[carries!.length + k], t * length(step!.out[name]));
    });
    carries!.forEach((name, k) => {
      const next = step!.next[name];
      values.set(leaves.carry[name], reordered(found[k], next, leaves.carry[name]));
    });
  }
  for (const name of carries!) result.set(`final.${name}`, values.get(leaves.carry[name])!);
  // A stacked value has the scanned axis first; each part has its own order.
  const layout = (node: Node): Node => {
    const [kind, name] = node.attributes.name!.split(/\.(.*)/s);
    const one = kind === "out" ? step!.out[name] : leaves.carry[name];
    return kind === "final" ? one : { ...one, axes: { [axis!]: steps, ...one.axes } };
  };
  return new Map(
    wanted.map((node) => [node, reordered(result.get(node.attributes.name!)!, layout(node), node)]),
  );
};

/** The same value in the axis order of another node. */
const reordered = (x: Numbers, from: Node, to: Node): Numbers => {
  if (Object.keys(from.axes).join() === Object.keys(to.axes).join()) return x;
  const result = new Float64Array(x.length);
  const steps = stepsOf(to, from), step = lastOf(steps);
  walk(sizes(to), [steps], (first, count, [at]) => {
    for (let k = 0; k < count; k++) result[first + k] = x[at + k * step];
  });
  return result;
};

const evaluate = (roots: readonly Node[], leaves: Leaves): readonly Numbers[] => {
  const order = topologicalOrder(roots);
  const uses = new Map<Node, number>();
  const fused = new Set<Node>();
  for (const node of order) {
    for (const arg of node.args) uses.set(arg, (uses.get(arg) ?? 0) + 1);
  }
  for (const root of roots) uses.set(root, Infinity);
  // A product that is only summed, over axes that both factors have, is not materialised.
  for (const node of order) {
    const [arg] = node.args;
    if (node.op !== "reduce" || node.attributes.how !== "add" || arg.op !== "mul") continue;
    if (uses.get(arg) === 1) fused.add(arg);
  }
  const wanted = new Map<Node, Node[]>();
  for (const node of order) {
    if (node.op === "part") wanted.set(node.args[0], [...(wanted.get(node.args[0]) ?? []), node]);
  }
  const values = new Map<Node, Numbers>();
  const parts = new Map<Node, ReadonlyMap<Node, Numbers>>();
  const release = (node: Node) => {
    const left = uses.get(node)! - 1;
    uses.set(node, left);
    if (left === 0) {
      values.delete(node);
      parts.delete(node);
    }
  };
  for (const node of order) {
    if (fused.has(node)) continue;
    const args = node.args.map((arg) => values.get(arg)!);
    const [x, y] = args;
    if (scalarRow(node.op) !== undefined) values.set(node, evaluateScalar(node, args));
    else {
      switch (node.op) {
        case "const":
          values.set(node, Float64Array.of(node.attributes.value!));
          break;
        case "literal":
          values.set(node, Float64Array.from(node.attributes.data!));
          break;
        case "iota":
          values.set(node, Float64Array.from({ length: length(node) }, (_, k) => k));
          break;
        case "input":
        case "param":
        case "local":
          values.set(node, Float64Array.from(leaves(node)));
          break;
        case "reduce": {
          const [arg] = node.args;
          if (fused.has(arg)) {
            const [left, right] = arg.args;
            values.set(node, evaluateContraction(node, values.get(left)!, values.get(right)!));
            arg.args.forEach(release);
          } else values.set(node, evaluateReduce(node, x));
          break;
        }
        case "index":
          values.set(node, evaluateIndex(node, x));
          break;
        case "gather":
          values.set(node, evaluateGather(node, x, y));
          break;
        case "stop":
        case "recompute":
          // A pass may have replaced the argument by a value with another order of axes.
          values.set(node, reordered(x, node.args[0], node));
          break;
        case "scan":
          parts.set(node, evaluateScan(node, args, wanted.get(node) ?? []));
          break;
        case "part":
          values.set(node, parts.get(node.args[0])!.get(node)!);
          break;
      }
    }
    for (const arg of node.args) if (!fused.has(arg)) release(arg);
  }
  return roots.map((root) => values.get(root)!);
};

/** The values of some nodes in float64, row-major in the order of each node's axes. */
export const interpret = (roots: readonly Node[], leaves: Leaves): readonly Numbers[] =>
  evaluate(roots, leaves);

/** A value in another order of its axes. */
export const ordered = (x: Numbers, node: Node, order: readonly string[]): Numbers => {
  const axes = Object.fromEntries(order.map((axis) => [axis, node.axes[axis]]));
  return reordered(x, node, { ...node, axes });
};
