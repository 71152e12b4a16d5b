// Address verification: devices run without bounds checks (docs/decisions/0003 and 0015), so every
// address is checked while kernels are printed. Either the ranges of its terms show that it lies
// within the storage, or it is a mistake of the printer and throws, or, where neither can be shown,
// the printed code clamps it.
import * as affine from "./index_math.ts";
import { size, type Storage } from "../lower/kernel_ir.ts";

/** A storage or array: its number of elements, and its name in messages. */
export interface Place {
  readonly elements: number;
  readonly words: () => string;
}

/** A storage as a place. */
export const placeOf = (storage: Storage): Place => ({
  elements: size(storage.dims),
  words: () => {
    const { role, name, dims } = storage;
    const axes = dims.map(({ axis, size }) => `${axis} ${size}`).join(" x ");
    return `the ${role}${name === undefined ? "" : ` '${name}'`} of ${axes || "one element"}`;
  },
});

/** An address outside of its storage: a mistake of the compiler. */
export class OutsideError extends Error {}

const complaint = (at: affine.IndexExpr, { elements, words }: Place): OutsideError =>
  new OutsideError(
    `internal error: an access lies outside of ${words()}, which has the elements 0 to ${
      elements - 1
    }: element ${affine.show(at)} is from ${affine.low(at)} to ${affine.high(at)}`,
  );

/**
 * Whether the ranges of its terms show that an address lies inside; with vectors, in all lanes.
 * Throws an {@linkcode OutsideError} if they show that it does not: all of it lies outside, or its
 * terms are loop variables that take all their values.
 */
export const isShownInside = (at: affine.IndexExpr, place: Place): boolean => {
  const low = affine.low(at), high = affine.high(at), last = place.elements - 1;
  if (low >= 0 && high <= last) return true;
  if (low > last || high < 0 || at.terms.every(({ atom }) => atom.free)) throw complaint(at, place);
  return false;
};

/** Throws an {@linkcode OutsideError} if an address cannot be shown to lie inside. */
export const mustBeInside = (at: affine.IndexExpr, place: Place): void => {
  if (!isShownInside(at, place)) throw complaint(at, place);
};

/** Prints a kernel; errors in its addresses name the kernel's path. */
export const inKernel = <T>(path: string, print: () => T): T => {
  try {
    return print();
  } catch (cause) {
    if (!(cause instanceof OutsideError)) throw cause;
    throw new OutsideError(`${cause.message}, in the kernel '${path}'`, { cause });
  }
};
