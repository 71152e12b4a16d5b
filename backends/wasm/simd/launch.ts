// A compiled kernel: functions and the memory they need. Each is called for ranges of its units of
// work, which are independent.
import type { Storage } from "../../lower/kernel_ir.ts";
import { OutsideError } from "../../codegen/verify_addresses.ts";
import type { Func } from "../assembler/encode.ts";
import type { Emitter } from "./emitter.ts";

/** One function over its units of work. */
export interface Launch {
  readonly func: Func;
  /** The storages whose addresses are its arguments, in order. */
  readonly storages: readonly Storage[];
  readonly units: number;
  /** Bytes of scratch memory that each thread needs. */
  readonly scratch: number;
  /** Approximate additions and multiplications of all units. */
  readonly flops: number;
}

/** The launch that an emitter has printed. */
export const launchOf = (
  emit: Emitter,
  units: number,
  scratch = 0,
  flops: number = 4 * emit.make.work(),
): Launch => {
  const reached = emit.scratchBytes();
  if (reached > scratch) {
    throw new OutsideError(
      `internal error: ${reached} bytes of scratch memory are reached, of ${scratch}`,
    );
  }
  return { func: emit.func(), storages: emit.storages(), units, scratch, flops };
};
