// The target of WGSL: the device as printers see it, the schedules by which kernels are computed,
// and limits that every device has. Types and constants only.
import type { Parallelism } from "../lower/graph/split_reductions.ts";

/** The target that code is printed for. */
export interface Target {
  /** The driver runs shaders on a CPU: barriers are expensive, and memory is cached. */
  readonly onCpu: boolean;
  /** The driver unrolls all loops with constant bounds, whatever the compile time. */
  readonly unrolls?: boolean;
  /** Products of more bytes that are only reduced again are not stored. */
  readonly storedLimit?: number;
  /**
   * The subgroup size, if each subgroup runs on a CPU's SIMD vector with consecutive invocations.
   */
  readonly subgroup?: number;
  /** Least number of elements from which values between kernels are stored as f16. */
  readonly halvesFrom?: number;
  /** Subgroup-matrix multiplication for contractions of this precision. */
  readonly matrices?: Matrices;
  /** Tuned schedules. */
  readonly tuning?: Tuning;
  /** How much work fills it, if not the estimate of {@linkcode parallelismOf}. */
  readonly parallelism?: Parallelism;
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
  /** Positions of the summed axes in workgroup memory at a time: 8, 16 or 32. */
  readonly depth: number;
  /**
   * Whether operands are read from tiles in workgroup memory, directly from their storages, or from
   * tiles by subgroup-matrix units; those have tiles of their own, whatever the other fields say.
   */
  readonly from: "tiles" | "memory" | "matrices";
}

/** How the reductions of rows are divided among invocations. */
export interface RowSchedule {
  /** What computes a row. */
  readonly by: "invocation" | "workgroup" | "subgroup";
  /** Invocations of a workgroup: 64, 128 or 256. */
  readonly threads: number;
}

/** Other values for some fields of a schedule. */
export type Edit = Partial<ProductSchedule & RowSchedule>;

/** Edits by the key of a kernel, applied in order. */
export type Tuning = Readonly<Record<string, readonly Edit[]>>;

/** Bytes of workgroup memory that every device has. */
export const workgroupBytes = 16384;

/** Invocations of a workgroup that computes a contraction, a map, or rows without a schedule. */
export const threads = 64;

/** Fewer workgroups than this leave processors of a GPU idle. */
export const fewGroups = 128;

/** The sizes of the matrices of one multiplication. */
export interface MatrixSizes {
  readonly rows: number;
  readonly columns: number;
  /** Columns of the left matrix and rows of the right one. */
  readonly over: number;
}

/** Subgroup-matrix multiplication of a device, and its spelling. */
export interface Matrices extends MatrixSizes {
  /** The type of the operands; sums are f32. */
  readonly component: "f16" | "f32";
  /** Invocations of every subgroup. */
  readonly subgroup: number;
  /** Contractions with fewer rows, columns or terms are computed without matrices. */
  readonly least: number;
  readonly spelling: MatrixSpelling;
}

/** A place in an array of workgroup memory: its first element, and the elements from row to row. */
export interface MatrixPlace {
  readonly area: string;
  readonly at: string;
  readonly stride: number;
}

/** The spelling of a multiplication's steps: each gives lines of code. */
export interface MatrixSpelling {
  readonly enables: readonly string[];
  /** Parameters of the entry point. */
  readonly builtins: readonly string[];
  /** Defines the subgroup of an invocation in its workgroup: `subgroup`, a u32. */
  readonly begin: readonly string[];
  readonly zeros: (name: string) => string;
  /** The left matrix is column-major, the right one row-major. */
  readonly load: (name: string, side: "left" | "right", from: MatrixPlace) => string;
  readonly multiplyAdd: (sum: string, left: string, right: string) => string;
  /** The sum is row-major. */
  readonly store: (sum: string, to: MatrixPlace) => string;
}
