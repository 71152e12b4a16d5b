// A device as this backend takes it: where it computes, how to wait for it, and what tests may set.
import type { Breadth } from "../../lower/graph/split_reductions.ts";
import type { Matrices, Tuning } from "../target.ts";

/** A device and how to wait for it. */
export interface WebgpuDevice {
  readonly device: GPUDevice;
  /** The device in words. */
  readonly name: string;
  /** True when a software driver runs the shaders. */
  readonly onCpu: boolean;
  /** True when the driver unrolls loops of constant bounds, however long that takes it. */
  readonly unrolls?: boolean;
  /** Products of more bytes that are only summed up again are not stored; 64 MiB. */
  readonly storedLimit?: number;
  /** The size of all subgroups, where a software driver runs each on a vector. */
  readonly subgroup?: number;
  /** What the device multiplies in one go: of each precision one at most. */
  readonly matrices?: readonly Matrices[];
  /** Schedules that were measured to be better than the usual ones. */
  readonly tuning?: Tuning;
  /** Every kernel is a dispatch of its own, so that each can be measured. */
  readonly apart?: boolean;
  /** Values of fewer elements are never stored as f16; 4096. */
  readonly halvesFrom?: number;
  /** What fills the device, where that is known better. */
  readonly breadth?: Breadth;
  /** Settles a promise of the device without stalling. */
  readonly settle: <T>(promise: Promise<T>) => Promise<T>;
  /** Closes the device, and throws its errors that nobody has heard of. */
  readonly close: () => void;
  /** Opens the same device once more, where the two share what the driver compiles. */
  readonly another?: () => Promise<WebgpuDevice | undefined>;
}
