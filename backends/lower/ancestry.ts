// What each value of a program depends on, as sets of bits.
import type { Node } from "../../dsl/node.ts";

/** Sets of nodes as bits: `above(of)` are all that a node depends on. */
export const ancestry = (order: readonly Node[]) => {
  const first = order[0]?.id ?? 0;
  const position = new Int32Array((order.at(-1)?.id ?? 0) - first + 1);
  order.forEach((of, k) => position[of.id - first] = k);
  const words = Math.ceil(order.length / 32);
  const rows = new Uint32Array(order.length * words);
  const has = (bits: Uint32Array, of: Node): boolean => {
    const k = position[of.id - first];
    return (bits[k >> 5] >>> (k & 31) & 1) === 1;
  };
  const add = (bits: Uint32Array, of: Node) => {
    const k = position[of.id - first];
    bits[k >> 5] |= 1 << (k & 31);
  };
  const join = (bits: Uint32Array, more: Uint32Array) => {
    for (let w = 0; w < words; w++) bits[w] |= more[w];
  };
  const above = (of: Node): Uint32Array => {
    const k = position[of.id - first];
    return rows.subarray(k * words, (k + 1) * words);
  };
  for (const of of order) {
    const own = above(of);
    for (const arg of of.args) {
      join(own, above(arg));
      add(own, arg);
    }
  }
  return { above, has, add, join, none: () => new Uint32Array(words) };
};
