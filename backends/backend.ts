// The interface of every backend: programs made of expressions are opened on a device, which holds
// the parameters; a run takes the inputs, replaces parameters in place, and returns the requested
// values and nothing else. in_turn.ts keeps these promises for all backends.
import type { AnyTensor } from "../dsl/axes.ts";

/** A requested value, with the order of axes in which its elements are laid out (row-major). */
export interface Output {
  readonly of: AnyTensor;
  readonly order: readonly string[];
}

/**
 * How a program computes. `f16`: large values between kernels are stored as f16, and operands of
 * contractions are rounded to it, on devices that have `shader-f16`; sums, statistics of rows, carries
 * of scans, parameters and outputs stay f32. Other devices compute in f32.
 */
export type Precision = "f32" | "f16";

/**
 * One compiled unit: outputs by name, and updates, the new values of parameters by parameter name.
 * All updates read the parameters as they were before the run.
 */
export interface Program {
  readonly outputs: Readonly<Record<string, Output>>;
  readonly updates?: Readonly<Record<string, AnyTensor>>;
  /** `f32` unless said otherwise. */
  readonly precision?: Precision;
}

/** Elements by name, row-major; floats, or u32 (a bool is 0 or 1). */
export type Values = Readonly<Record<string, Float32Array | Uint32Array>>;

/**
 * Programs on a device with the parameters they share.
 *
 * Calls may overlap: `run`, `read`, `time` and `write` take effect one at a time, in the order in which
 * they were made, whatever programs they are about, and each is answered for itself. What a call is
 * given is its own from the moment of the call: arrays may be changed as soon as it has returned. A call
 * that fails, be it for what it was given or for a kernel that traps, changes nothing for those after it,
 * but for the parameters that a failed run was to update: they must be written again.
 *
 * After `close` each call is an error that says so, also each that was still waiting.
 */
export interface Machine {
  /**
   * Sets parameters by name; names that no program has are ignored. All parameters that a program
   * reads must have been set before it runs, here or by an update. Throws if the elements do not
   * fit the parameter.
   */
  readonly write: (parameters: Values) => void;
  /** Runs one program. Rejects if an input is missing or has the wrong number of elements. */
  readonly run: (program: string, inputs: Values) => Promise<Values>;
  /** Reads parameters back by name. */
  readonly read: (names: readonly string[]) => Promise<Values>;
  /** What was compiled, for `explain` and for tests. */
  readonly report: (program: string) => ProgramReport;
  /**
   * Runs one program and returns the device's own milliseconds of each kernel, in the order of the
   * report. Absent if the device has no timestamps.
   */
  readonly time?: (program: string, inputs: Values) => Promise<readonly number[]>;
  /**
   * Frees all memory of the programs, after the current call has been answered; again, does
   * nothing.
   */
  readonly close: () => void;
}

/** The report of a compiled program. The reference interpreter reports no kernels. */
export interface ProgramReport {
  readonly kernels: readonly KernelReport[];
  /** Distinct pieces of generated code. */
  readonly pipelines: number;
  /** Most bytes of intermediate values and outputs held at once; parameters and inputs not counted. */
  readonly peakBytes: number;
  /** Its precision on this device. */
  readonly precision: Precision;
}

/** One dispatch: its source, its shape, its bytes and flops. */
export interface KernelReport {
  readonly path: string;
  /** The shapes of its kernels, which run in parallel. */
  readonly shapes: readonly ("map" | "row" | "contraction" | "scan")[];
  readonly grid: readonly number[];
  readonly flops: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Bytes moved if every operation read its arguments from memory and wrote its result. */
  readonly unfusedBytes: number;
  readonly code: string;
  /** The tuning keys of its kernels; absent if there is nothing to tune. */
  readonly tuned?: readonly string[];
  /** Axes of every storage that it writes. */
  readonly writes: readonly Readonly<Record<string, number>>[];
}

/** Peak rates of a device on plain kernels, against which kernels are measured. */
export interface Peaks {
  /** Bytes read and written a second by a large copy. */
  readonly bytesPerSecond: number;
  /** Operations a second in f32 multiply-adds (two each) on registers. */
  readonly flopsPerSecond: number;
}

/** A device that programs can be opened on. */
export interface Backend {
  readonly name: "reference" | "webgpu" | "wasm";
  /** The device's description. */
  readonly device: string;
  /**
   * Compiles programs. Rejects with an `AxisError` if they use an input or a parameter in two ways,
   * if an update is unlike its parameter, or an output's order unlike its axes. A program that
   * cannot be opened leaves nothing behind.
   */
  readonly open: (programs: Readonly<Record<string, Program>>) => Promise<Machine>;
  /** Measures the device. Absent if it has no timestamps. */
  readonly peaks?: () => Promise<Peaks>;
  /** Closes the device and its machines; again, does nothing. */
  readonly close: () => void;
}
