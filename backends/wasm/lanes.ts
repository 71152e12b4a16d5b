// How integer expressions behave along the four lanes of a vector: the variable of the vector loop
// counts up by one from lane to lane, and begins each vector at a multiple of four.
import * as affine from "../lower/affine.ts";

/** Lanes of a vector. */
export const width = 4;

/** A position kept within 0 to `extent` - 1, as an atom whose text says how it is made. */
export interface Clamp {
  readonly of: affine.Int;
  readonly extent: number;
}

/** What atoms that are neither variables nor divisions stand for. */
export type Clamps = Map<string, Clamp>;

/** A multiple of four wherever the vector begins: apart from `name`, all counts in fours. */
const isAligned = (of: affine.Int, name: string): boolean =>
  of.constant % width === 0 &&
  of.terms.every(({ atom, times }) => atom.text === name || times % width === 0);

/** By how much an expression grows from lane to lane; undefined where that is not always the same. */
export const laneStride = (of: affine.Int, name: string | undefined): number | undefined => {
  if (name === undefined) return 0;
  let total = 0;
  for (const { atom, times } of of.terms) {
    if (!atom.depends.includes(name)) continue;
    if (atom.text === name) {
      total += times;
      continue;
    }
    const { cut } = atom;
    // Four neighbours that begin at a multiple of four are in one block of a multiple of four.
    const inner = cut === undefined ? undefined : laneStride(cut.of, name);
    if (inner === 0) continue;
    if (inner !== 1 || cut!.by % width !== 0 || !isAligned(cut!.of, name)) return undefined;
    if (cut!.remains) total += times;
  }
  return total;
};

/** The expression with `by` added to a variable. */
export const shifted = (
  of: affine.Int,
  name: string,
  by: number,
  clamps: Clamps,
): affine.Int => {
  if (by === 0) return of;
  let result = affine.int(of.constant);
  for (const { atom, times } of of.terms) {
    result = affine.sum(result, affine.times(shiftedAtom(atom, name, by, clamps), times));
  }
  return result;
};

const shiftedAtom = (
  atom: affine.Atom,
  name: string,
  by: number,
  clamps: Clamps,
): affine.Int => {
  const same = { constant: 0, terms: [{ atom, times: 1 }] };
  if (!atom.depends.includes(name)) return same;
  if (atom.text === name) return { ...same, constant: by };
  if (atom.cut !== undefined) {
    const of = shifted(atom.cut.of, name, by, clamps);
    return atom.cut.remains ? affine.remainder(of, atom.cut.by) : affine.quotient(of, atom.cut.by);
  }
  const clamp = clamps.get(atom.text);
  if (clamp === undefined) throw new Error(`'${atom.text}' depends on lanes in no known way`);
  return clamped(shifted(clamp.of, name, by, clamps), clamp.extent, clamps);
};

/** The nearest position from 0 to `extent` - 1. */
export const clamped = (of: affine.Int, extent: number, clamps: Clamps): affine.Int => {
  if (extent === 1) return affine.int(0);
  if (affine.low(of) >= 0 && affine.high(of) < extent) return of;
  const text = `clamp(${affine.show(of)}, 0, ${extent - 1})`;
  clamps.set(text, { of, extent });
  return {
    constant: 0,
    terms: [{
      atom: { text, low: 0, high: extent - 1, depends: affine.depends(of) },
      times: 1,
    }],
  };
};
