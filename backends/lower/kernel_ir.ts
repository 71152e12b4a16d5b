// The lowered program: kernels with iteration spaces of named axes, and the storages between them.
// Code generators read nothing else; order of axes and storage exist only from here down.
import { type Axes, sizeOf } from "../../dsl/axes.ts";
import type { Dtype, Node } from "../../dsl/node.ts";

/** An axis with its size; in lists the last is the fastest. */
export interface Dim {
  readonly axis: string;
  readonly size: number;
}

/** Where a value lives: row-major in the order of `dims`. */
export interface Storage {
  readonly id: number;
  readonly dtype: Dtype;
  /** True when floats are stored in 16 bits. */
  readonly half?: boolean;
  readonly dims: readonly Dim[];
  /** Inputs, parameters and literals have a name or data; the others lie in the arena. */
  readonly role: "input" | "param" | "literal" | "temporary" | "output";
  readonly name?: string;
  readonly data?: Float32Array | Uint32Array;
}

/** A value that a kernel computes and stores. */
export interface KernelOutput {
  readonly node: Node;
  readonly storage: Storage;
}

/** Kernels that evaluate expressions over a space: element by element, by rows, or as a product. */
export interface ExpressionKernel {
  readonly shape: "map" | "row" | "contraction";
  /** The axes that are independent of each other. */
  readonly space: readonly Dim[];
  /** The axes that row reductions run over. */
  readonly over: readonly Dim[];
  /** The reductions over `over` that are computed inside, in topological order. */
  readonly reductions: readonly Node[];
  /** The contraction computed inside. */
  readonly contraction?: Contraction;
  /** Values that are stored as well, but computed again here. */
  readonly again: ReadonlySet<Node>;
  readonly roots: readonly KernelOutput[];
  readonly path: string;
}

/** A sum of products by the roles of its axes. */
export interface Contraction {
  readonly node: Node;
  readonly left: Node;
  readonly right: Node;
  readonly batch: readonly Dim[];
  readonly rows: readonly Dim[];
  readonly columns: readonly Dim[];
  readonly over: readonly Dim[];
}

/** How the carries that came into each step are supplied to the scan that runs back over them. */
export interface Checkpoints {
  /** Steps between stored carries; 1 stores all of them. */
  readonly every: number;
  readonly storage: Readonly<Record<string, Storage>>;
}

/** One scan: lanes over independent axes, time inside, axes that steps reduce held by each lane. */
export interface ScanKernel {
  readonly shape: "scan";
  readonly scan: Node;
  readonly parallel: readonly Dim[];
  readonly perLane: readonly Dim[];
  /** The lane axis that workgroups lie along, over which outputs may be summed across lanes. */
  readonly laneAxis: Dim | undefined;
  readonly workgroupSize: number;
  /** Each workgroup runs one position of the space, and its lanes hold the held axes together. */
  readonly cooperative: boolean;
  readonly roots: readonly ScanRoot[];
  readonly checkpoints?: Checkpoints;
  /** The scan whose incoming carries this one computes again, from its checkpoints. */
  readonly recomputes?: { readonly scan: Node; readonly checkpoints: Checkpoints };
  /** Values that are stored as well, but computed again here. */
  readonly again: ReadonlySet<Node>;
  readonly path: string;
}

/** A value that a scan stores: a last carry, or one output per step, perhaps as partial sums. */
export interface ScanRoot {
  readonly kind: "final" | "out";
  readonly name: string;
  readonly storage: Storage;
  /** Set when the output is a sum across lanes: the storage then has one more axis of partial sums. */
  readonly partial?: { readonly axis: string; readonly reduction: Node };
}

export type Kernel = ExpressionKernel | ScanKernel;

/** A program ready for a code generator. */
export interface LoweredProgram {
  readonly kernels: readonly Kernel[];
  readonly stored: ReadonlyMap<Node, Storage>;
  readonly inputs: readonly Storage[];
  readonly params: readonly Storage[];
  readonly literals: readonly Storage[];
  readonly outputs: Readonly<Record<string, Storage>>;
  /** Parameters whose new value must be copied from another storage at the end. */
  readonly copies: readonly { readonly from: Storage; readonly to: Storage }[];
}

export const dims = (axes: Axes, order: readonly string[] = Object.keys(axes)): readonly Dim[] =>
  order.map((axis) => ({ axis, size: sizeOf(axes, axis) }));

export const size = (of: readonly Dim[]): number => of.reduce((n, dim) => n * dim.size, 1);

export const axesOf = (of: readonly Dim[]): Readonly<Record<string, number>> =>
  Object.fromEntries(of.map((dim) => [dim.axis, dim.size]));

/** A kernel that copies a node's value, which is stored already, to another storage. */
export const copying = (node: Node, storage: Storage, path: string): ExpressionKernel => ({
  shape: "map",
  space: storage.dims,
  over: [],
  reductions: [],
  again: new Set(),
  roots: [{ node, storage }],
  path,
});
