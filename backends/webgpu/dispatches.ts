// Merges dispatches. A dispatch waits for all earlier ones, and small kernels leave most of a
// device idle; so a kernel that depends on nothing in an earlier dispatch joins it with workgroups
// of its own, whatever its shape. The order of all others stays.
import type { Storage } from "../lower/kernel_ir.ts";

/** Most kernels in one dispatch. */
const most = 4;
/** How many dispatches back a kernel may move. */
const reach = 6;

/** All storages that a kernel reads or writes. */
export interface Touches {
  readonly writes: ReadonlySet<Storage>;
  /** Including those that it writes. */
  readonly all: ReadonlySet<Storage>;
}

const meets = (a: ReadonlySet<Storage>, b: ReadonlySet<Storage>): boolean =>
  [...a].some((storage) => b.has(storage));

const conflict = (a: Touches, b: Touches): boolean =>
  meets(a.writes, b.all) || meets(b.writes, a.all);

/**
 * Dispatches as lists of kernel numbers. A kernel may join an earlier dispatch if nothing that it
 * reads is written in or after it, nothing that it writes is read or written there, and `fits`.
 */
export const dispatchesOf = (
  kernels: readonly Touches[],
  fits: (together: readonly number[]) => boolean,
): readonly (readonly number[])[] => {
  const dispatches: number[][] = [];
  kernels.forEach((kernel, k) => {
    for (let back = 1; back <= Math.min(reach, dispatches.length); back++) {
      const other = dispatches[dispatches.length - back];
      if (other.some((n) => conflict(kernels[n], kernel))) break;
      if (other.length < most && fits([...other, k])) {
        other.push(k);
        return;
      }
    }
    dispatches.push([k]);
  });
  return dispatches;
};
