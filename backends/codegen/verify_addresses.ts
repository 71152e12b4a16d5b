// No address outside: devices run without checks of their own (docs/decisions/0003 and 0015), so every
// address is looked at while kernels are printed. By the ranges of what it is made of it lies inside, or
// it is a mistake of the printer and says so, or, where neither can be shown, code keeps it inside.
import * as affine from "./index_math.ts";
import { size, type Storage } from "../lower/kernel_ir.ts";

/** What is read or written: so many elements, and its name in words. */
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

/** An address that is no element of what it is meant to reach: a mistake of the compiler. */
export class OutsideError extends Error {}

const complaint = (at: affine.Int, { elements, words }: Place): OutsideError =>
  new OutsideError(
    `internal error: an access lies outside of ${words()}, which has the elements 0 to ${
      elements - 1
    }: element ${affine.show(at)} is from ${affine.low(at)} to ${affine.high(at)}`,
  );

/**
 * Whether an address is shown to lie inside by the ranges of its terms; with vectors, those of all
 * lanes. Throws an {@linkcode OutsideError} where it is shown not to: all of it lies outside, or its
 * terms are variables of loops that take all their values.
 */
export const isShownInside = (at: affine.Int, place: Place): boolean => {
  const low = affine.low(at), high = affine.high(at), last = place.elements - 1;
  if (low >= 0 && high <= last) return true;
  if (low > last || high < 0 || at.terms.every(({ atom }) => atom.free)) throw complaint(at, place);
  return false;
};

/** Throws an {@linkcode OutsideError} where an address cannot be shown to lie inside. */
export const mustBeInside = (at: affine.Int, place: Place): void => {
  if (!isShownInside(at, place)) throw complaint(at, place);
};

/** Prints a kernel; what is wrong with its addresses is said with its path. */
export const inKernel = <T>(path: string, print: () => T): T => {
  try {
    return print();
  } catch (cause) {
    if (!(cause instanceof OutsideError)) throw cause;
    throw new OutsideError(`${cause.message}, in the kernel '${path}'`, { cause });
  }
};
