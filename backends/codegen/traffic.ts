// Memory traffic of a program without fusion: the bytes moved if every operation read its arguments
// from memory and wrote its result. Fusion is measured against it.
import { type AnyTensor, known, volume } from "../../dsl/axes.ts";
import { type Node, node, type Op, reachable } from "../../dsl/node.ts";
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

const bytes = (of: Node): number => 4 * volume(of.axes);

/** Bytes read for an argument; a view reads no more than its argument has. */
const reading = (of: Node, found: Map<Node, number>): number => {
  const isView = ({ op }: Node) => ["index", "stop", "recompute", "materialise"].includes(op);
  return ascend(of, found, (x) => isView(x) ? x.args : [], (x) => {
    if (x.op === "const" || x.op === "iota") return 0;
    return isView(x) ? Math.min(bytes(x), found.get(x.args[0])!) : bytes(x);
  });
};

const isProduct = (of: Node): boolean => of.op === "mul" && of.args.length === 2;

/** The nodes from `roots` up to those that `isGiven`; a root is never given. */
const between = (roots: readonly Node[], isGiven: (of: Node) => boolean): readonly Node[] => {
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
    nodes.filter((of) => of.op === "reduce" && of.attributes.how === "add" && isProduct(of.args[0]))
      .map((of) => of.args[0]),
  );
  for (const of of nodes) {
    if (of.op === "reduce" && of.attributes.how === "add") continue;
    of.args.forEach((arg) => summed.delete(arg));
  }
  roots.forEach((of) => summed.delete(of));
  let total = 0;
  const readings = new Map<Node, number>();
  for (const of of nodes) {
    if (FREE.has(of.op) || summed.has(of)) continue;
    if (of.op === "scan") {
      const { step, carries, axis } = of.attributes;
      const ends = [...Object.values(step!.next), ...Object.values(step!.out)];
      total += known(of.args[carries!.length].axes, axis!) * moved(ends, reachable(ends));
      continue;
    }
    const args = of.op === "reduce" && summed.has(of.args[0]) ? of.args[0].args : of.args;
    total += bytes(of) + args.reduce((sum, arg) => sum + reading(arg, readings), 0);
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
  isGiven: (of: Node) => boolean = () => false,
): number => moved(roots, between(roots, isGiven));

/** {@linkcode unfusedBytes} of a whole program, as it was written. */
export const unfusedBytesOf = ({ outputs, updates }: Program): number => {
  const roots: AnyTensor[] = [
    ...Object.values(outputs).map((output) => output.of),
    ...Object.values(updates ?? {}),
  ];
  return unfusedBytes(roots.map(node));
};
