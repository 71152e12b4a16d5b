// Kernel drafts: kernels while fusion decides about them, before anything has a place in memory,
// and which draft uses which value.
import type { Program } from "../../backend.ts";
import { sizeOf } from "../../../dsl/axes.ts";
import type { Node } from "../../../dsl/node.ts";

/** How a kernel uses a value. */
export interface Use {
  /** True if every element is read at the kernel's own position. */
  aligned: boolean;
  /** How many elements are computed in all, if the value is computed there. */
  count: number;
}

/** What a kernel iterates over: axes with their sizes. */
export type Space = ReadonlyMap<string, number>;

/** Whether a value has exactly the axes of a space. */
export const fills = (node: Node, space: Space): boolean => {
  const axes = Object.keys(node.axes);
  return axes.length === space.size && axes.every((axis) => space.get(axis) === node.axes[axis]);
};

/** A kernel in the making. */
export interface KernelDraft {
  readonly id: number;
  readonly scan?: Node;
  readonly roots: Node[];
  /** All axes of the iteration, including reduced ones. */
  domain: Space;
  reductionAxes?: readonly string[];
  readonly reductions: Node[];
  contraction?: Node;
  /** Values that other kernels store but this one recomputes. */
  readonly rematerialised: Set<Node>;
  readonly path: string;
}

/** The axes of a value with their sizes. */
export const domainOf = (node: Node): Space =>
  new Map(Object.keys(node.axes).map((axis) => [axis, sizeOf(node.axes, axis)]));
/**
 * Most reductions of a row kernel. Each takes an array over the workgroup's lanes, at most 1 KiB,
 * of the 16 KiB of workgroup memory that every device has.
 */
export const mostReductions = 16;

/** The parameters that values become new values of; `roots` are the program's outputs and updates. */
export const updatesOf = (
  program: Program,
  roots: readonly Node[],
): ReadonlyMap<Node, readonly string[]> => {
  const updated = new Map<Node, string[]>();
  const first = Object.keys(program.outputs).length;
  Object.keys(program.updates ?? {}).forEach((name, k) => {
    const node = roots[first + k];
    updated.set(node, [...(updated.get(node) ?? []), name]);
  });
  return updated;
};
