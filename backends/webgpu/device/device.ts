// The device as the backend takes it: where it computes, how to wait for it, and settings for
// tests.
import type { Parallelism } from "../../lower/graph/split_reductions.ts";
import type { Matrices, Tuning } from "../target.ts";

/** A device and how to wait for it. */
export interface WebgpuDevice {
  readonly device: GPUDevice;
  /** The device's description. */
  readonly name: string;
  /** True when a software driver runs the shaders. */
  readonly onCpu: boolean;
  /** True if the driver unrolls all loops with constant bounds, whatever the compile time. */
  readonly unrolls?: boolean;
  /** Products of more bytes that are only reduced again are not stored; 64 MiB. */
  readonly storedLimit?: number;
  /** The subgroup size, if a software driver runs each on a SIMD vector. */
  readonly subgroup?: number;
  /** Subgroup-matrix multiplications of the device: of each precision one at most. */
  readonly matrices?: readonly Matrices[];
  /** Schedules that were measured to be faster than the default ones. */
  readonly tuning?: Tuning;
  /** Every kernel is a dispatch of its own, so that each can be measured. */
  readonly apart?: boolean;
  /** Smaller values are never stored as f16; 4096. */
  readonly halvesFrom?: number;
  /** How much work fills the device, if not the estimate. */
  readonly parallelism?: Parallelism;
  /** Settles a promise of the device without stalling. */
  readonly settle: <T>(promise: Promise<T>) => Promise<T>;
  /** Closes the device, and throws errors of it that have not been reported. */
  readonly close: () => void;
  /** Opens the same device again, if both share the driver's cache of compiled shaders. */
  readonly another?: () => Promise<WebgpuDevice | undefined>;
}
