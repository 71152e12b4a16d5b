// What WGSL is printed for: the device as printers see it, and the schedules that say how kernels are
// computed there. Types alone, and the limits that every device keeps.
import type { Breadth } from "../lower/graph/split_reductions.ts";

/** What the code is printed for. */
export interface Target {
  /** The driver runs shaders on a CPU: barriers are dear there, and memory is cached. */
  readonly onCpu: boolean;
  /** The driver unrolls loops of constant bounds, however long that takes it. */
  readonly unrolls?: boolean;
  /** Products of more bytes that are only summed up again are not stored. */
  readonly storedLimit?: number;
  /** The size of all subgroups, where each runs on a CPU's vector, consecutive invocations in one. */
  readonly subgroup?: number;
  /** Values between kernels of at least so many elements are stored as f16. */
  readonly halvesFrom?: number;
  /** What the device multiplies in one go, for products of this precision. */
  readonly matrices?: Matrices;
  /** Schedules that were found by measuring. */
  readonly tuning?: Tuning;
  /** What fills it, if that is not what {@linkcode breadthOf} thinks. */
  readonly breadth?: Breadth;
  /** Every kernel is a dispatch of its own, so that each can be measured. */
  readonly apart?: boolean;
}

/** How a contraction is computed. */
export interface ProductSchedule {
  /** Invocations of a workgroup along the rows of its tile: 4, 8 or 16. Those along the columns fill 64. */
  readonly side: number;
  /** Results that an invocation accumulates along the rows: 1, 2, 4 or 8. */
  readonly down: number;
  /** Results that an invocation accumulates along the columns: 1, 2, 4 or 8. */
  readonly across: number;
  /** Positions of the summed axes that are in workgroup memory at a time: 8, 16 or 32. */
  readonly depth: number;
  /**
   * Whether operands are summed from tiles in workgroup memory, from where they are, or from tiles by
   * units for small matrices; those have tiles of their own, whatever the other fields say.
   */
  readonly from: "tiles" | "memory" | "matrices";
}

/** How the reductions of rows are shared out. */
export interface RowSchedule {
  /** What does a row. */
  readonly by: "invocation" | "workgroup" | "subgroup";
  /** Invocations of a workgroup: 64, 128 or 256. */
  readonly threads: number;
}

/** Another value for some fields of a schedule. */
export type Edit = Partial<ProductSchedule & RowSchedule>;

/** Edits by the key of a kernel, made in order. */
export type Tuning = Readonly<Record<string, readonly Edit[]>>;

/** Bytes of workgroup memory that every device has. */
export const workgroupBytes = 16384;

/** Invocations of a workgroup that computes a product, a map, or rows where nothing else is said. */
export const threads = 64;

/** Fewer workgroups than this leave processors of a GPU without work. */
export const fewGroups = 128;

/** The sizes of the matrices of one multiplication. */
export interface MatrixSizes {
  readonly rows: number;
  readonly columns: number;
  /** Columns of the left matrix and rows of the right one. */
  readonly over: number;
}

/** What a device multiplies in one go, and how that is written. */
export interface Matrices extends MatrixSizes {
  /** The type of what is multiplied; it is summed in f32. */
  readonly component: "f16" | "f32";
  /** Invocations of every subgroup. */
  readonly subgroup: number;
  /** Products with fewer rows, columns or terms are computed without matrices. */
  readonly least: number;
  readonly spelling: MatrixSpelling;
}

/** A place in an array of workgroup memory: its first element, and the elements from row to row. */
export interface MatrixPlace {
  readonly area: string;
  readonly at: string;
  readonly stride: number;
}

/** How the steps of a multiplication are written: each gives lines of code. */
export interface MatrixSpelling {
  readonly enables: readonly string[];
  /** Parameters of the entry point. */
  readonly builtins: readonly string[];
  /** Says which subgroup of the workgroup an invocation belongs to: `subgroup`, a u32. */
  readonly begin: readonly string[];
  readonly zeros: (name: string) => string;
  /** A left matrix lies with its columns one after the other, a right one with its rows. */
  readonly load: (name: string, side: "left" | "right", from: MatrixPlace) => string;
  readonly multiplyAdd: (sum: string, left: string, right: string) => string;
  /** The rows of the sum one after the other. */
  readonly store: (sum: string, to: MatrixPlace) => string;
}
