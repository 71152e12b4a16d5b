// What a peer is: a library that runs our workloads on the same device, from the same values.
import type { Device } from "./device.ts";

/** A value given to both sides: elements row-major in the order of `shape`. */
export interface Value {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Values by name. */
export type Values = Readonly<Record<string, Value>>;

/** One workload on one side, compiled or ready to be. */
export interface Running {
  /** Runs once, until the device is done. */
  readonly run: () => Promise<void>;
  /** Reads what the last run gave, by the names of our results. */
  readonly read: () => Promise<Readonly<Record<string, Float32Array>>>;
  readonly close: () => void;
}

/** A library to compare with. */
export interface Peer {
  readonly name: string;
  /** Takes the values to the device. Undefined when the library has no such workload. */
  readonly prepare: (workload: string, values: Values) => Promise<Running | undefined>;
  readonly close: () => void;
}

/** Loads a peer and gives it the device. Throws when it is not installed or does not start. */
export type LoadPeer = (device: Pick<Device, "target" | "settle">) => Promise<Peer>;
