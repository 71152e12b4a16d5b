// The order in which a row kernel computes its reductions.
import type { Node } from "../../dsl/node.ts";
import { ascend } from "../../dsl/walk.ts";
import type { ExpressionKernel } from "../lower/kernel_ir.ts";

/** The stages of row reductions: each needs only those of earlier stages. */
export const rowStages = (kernel: ExpressionKernel): readonly (readonly Node[])[] => {
  const stage = new Map<Node, number>();
  const known = new Map<Node, number>();
  const first = kernel.reductions.reduce((low, { id }) => Math.min(low, id), Infinity);
  const below = (node: Node) => stage.has(node) || node.id < first ? [] : node.args;
  const lists: Node[][] = [];
  for (const reduction of kernel.reductions) {
    const at = ascend(
      reduction.args[0],
      known,
      below,
      (node) => stage.get(node) ?? Math.max(0, ...below(node).map((arg) => known.get(arg)!)),
    );
    stage.set(reduction, at + 1);
    (lists[at] ??= []).push(reduction);
  }
  return lists.filter((list) => list !== undefined);
};
