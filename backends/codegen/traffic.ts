// Memory traffic of a program without fusion: the bytes moved if every operation read its arguments
// from memory and wrote its result. Fusion is measured against it.
import { type AnyTensor, sizeOf, volume } from "../../dsl/axes.ts";
import { type Node, nodeOf, type Op, topologicalOrder } from "../../dsl/node.ts";
import { ascend } from "../../dsl/walk.ts";
import type { Program } from "../backend.ts";

/**
 * Operations without traffic: constants, values already in memory, other names for a value, and
 * views.
 */
const FREE: ReadonlySet<Op> = new Set<Op>([
  "const",
  "literal",
  "iota",
  "input",
  "param",
  "local",
  "part",
  "stop",
  "recompute",
  "materialise",
  "index",
]);

const bytes = (node: Node): number => 4 * volume(node.axes);

/** Bytes read for an argument; a view reads no more than its argument has. */
const reading = (node: Node, found: Map<Node, number>): number => {
  const isView = ({ op }: Node) => ["index", "stop", "recompute", "materialise"].includes(op);
  return ascend(node, found, (x) => isView(x) ? x.args : [], (x) => {
    if (x.op === "const" || x.op === "iota") return 0;
    return isView(x) ? Math.min(bytes(x), found.get(x.args[0])!) : bytes(x);
  });
};

const isProduct = (node: Node): boolean => node.op === "mul" && node.args.length === 2;

/** The nodes from `roots` up to those that `isGiven`; a root is never given. */
const between = (roots: readonly Node[], isGiven: (node: Node) => boolean): readonly Node[] => {
  const seen = new Set<Node>(roots);
  const stack = [...roots];
  for (let of = stack.pop(); of !== undefined; of = stack.pop()) {
    for (const arg of of.args) {
      if (seen.has(arg) || isGiven(arg)) continue;
      seen.add(arg);
      stack.push(arg);
    }
  }
  return [...seen];
};

const moved = (roots: readonly Node[], nodes: readonly Node[]): number => {
  // A product that is only summed is one operation with the sum, and is not stored.
  const summed = new Set(
    nodes.filter((node) =>
      node.op === "reduce" && node.attributes.how === "add" && isProduct(node.args[0])
    )
      .map((node) => node.args[0]),
  );
  for (const node of nodes) {
    if (node.op === "reduce" && node.attributes.how === "add") continue;
    node.args.forEach((arg) => summed.delete(arg));
  }
  roots.forEach((node) => summed.delete(node));
  let total = 0;
  const readings = new Map<Node, number>();
  for (const node of nodes) {
    if (FREE.has(node.op) || summed.has(node)) continue;
    if (node.op === "scan") {
      const { step, carries, axis } = node.attributes;
      const ends = [...Object.values(step!.next), ...Object.values(step!.out)];
      total += sizeOf(node.args[carries!.length].axes, axis!) * moved(ends, topologicalOrder(ends));
      continue;
    }
    const args = node.op === "reduce" && summed.has(node.args[0]) ? node.args[0].args : node.args;
    total += bytes(node) + args.reduce((sum, arg) => sum + reading(arg, readings), 0);
  }
  return total;
};

/**
 * Bytes moved if every operation from `roots` up to the values that are `isGiven` read its
 * arguments from memory and wrote its result. A sum of products counts as one operation, views are
 * free, and each operation of a scan's step counts once a step.
 */
export const unfusedBytes = (
  roots: readonly Node[],
  isGiven: (node: Node) => boolean = () => false,
): number => moved(roots, between(roots, isGiven));

/** {@linkcode unfusedBytes} of a whole program, as it was written. */
export const unfusedBytesOf = ({ outputs, updates }: Program): number => {
  const roots: AnyTensor[] = [
    ...Object.values(outputs).map((output) => output.of),
    ...Object.values(updates ?? {}),
  ];
  return unfusedBytes(roots.map(nodeOf));
};
