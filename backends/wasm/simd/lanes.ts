// Integer expressions across the four lanes of a vector: the variable of the vector loop increases
// by one from lane to lane and begins each vector at a multiple of four. Its range, and that of all
// expressions of it, covers all lanes.
import * as affine from "../../codegen/index_math.ts";

/** Lanes of a vector. */
export const width = 4;

/** An expression clamped to 0 to `extent` - 1. */
interface Clamp {
  readonly of: affine.IndexExpr;
  readonly extent: number;
}

/** An atom for a clamped expression. */
interface Clamped extends affine.IndexVar {
  readonly clamp?: Clamp;
}

/** The clamp that an atom stands for, if it does. */
export const clampOf = (atom: affine.IndexVar): Clamp | undefined => (atom as Clamped).clamp;

/** True if four neighbours that begin at a multiple of four are clamped together. */
export const isKeptTogether = (
  { of, extent }: Clamp,
  name: string | undefined,
  stride = laneStride(of, name),
): boolean => name !== undefined && extent % width === 0 && stride === 1 && isAligned(of, name);

/** Whether an atom is a multiple of four in the first lane of every vector. */
const isAlignedAtom = (atom: affine.IndexVar, name: string): boolean => {
  if (atom.text === name) return true;
  const { cut, is } = atom, clamp = clampOf(atom);
  if (is !== undefined) return isAligned(is, name);
  if (clamp !== undefined) return clamp.extent % width === 0 && isAligned(clamp.of, name);
  return cut !== undefined && cut.remains && cut.by % width === 0 && isAligned(cut.of, name);
};

/** Whether an expression is a multiple of four in the first lane of every vector. */
const isAligned = (of: affine.IndexExpr, name: string): boolean =>
  of.constant % width === 0 &&
  of.terms.every(({ atom, times }) => times % width === 0 || isAlignedAtom(atom, name));

/** The stride of an expression from lane to lane; undefined if it is not constant. */
export const laneStride = (of: affine.IndexExpr, name: string | undefined): number | undefined => {
  if (name === undefined) return 0;
  let total = 0;
  for (const { atom, times } of of.terms) {
    if (!atom.depends.includes(name)) continue;
    if (atom.text === name) {
      total += times;
      continue;
    }
    const { cut, is } = atom, clamp = clampOf(atom);
    if (is !== undefined) {
      const inner = laneStride(is, name);
      if (inner === undefined) return undefined;
      total += times * inner;
      continue;
    }
    const kept = clamp === undefined ? 0 : laneStride(clamp.of, name);
    if (clamp !== undefined && kept !== 0) {
      // Passed on, so that nested clamps are not analysed twice at each level.
      if (kept === undefined || !isKeptTogether(clamp, name, kept)) return undefined;
      total += times;
      continue;
    }
    // Four neighbours that begin at a multiple of four are in one block of a multiple of four.
    const inner = cut === undefined ? clamp && 0 : laneStride(cut.of, name);
    if (inner === 0) continue;
    if (inner !== 1 || cut!.by % width !== 0 || !isAligned(cut!.of, name)) return undefined;
    if (cut!.remains) total += times;
  }
  return total;
};

/** The expression in lane `lane` of `count`, given the variable's value in the first. */
export const shifted = (
  of: affine.IndexExpr,
  name: string,
  lane: number,
  count: number,
): affine.IndexExpr => {
  if (lane === 0) return of;
  let result = affine.int(of.constant);
  for (const { atom, times } of of.terms) {
    result = affine.sum(result, affine.times(shiftedAtom(atom, name, lane, count), times));
  }
  return result;
};

const shiftedAtom = (
  atom: affine.IndexVar,
  name: string,
  lane: number,
  count: number,
): affine.IndexExpr => {
  const { cut, is, low, high } = atom;
  if (!atom.depends.includes(name)) return { constant: 0, terms: [{ atom, times: 1 }] };
  if (atom.text === name) {
    // The range covers all lanes: the first leaves room for the others.
    const first = { ...atom, high: high - (count - 1) };
    return { constant: lane, terms: [{ atom: first, times: 1 }] };
  }
  const inside = (of: affine.IndexExpr) => shifted(of, name, lane, count);
  if (is !== undefined) return affine.within(inside(is), low, high);
  if (cut !== undefined) {
    const of = inside(cut.of);
    return cut.remains ? affine.remainder(of, cut.by) : affine.quotient(of, cut.by);
  }
  const clamp = clampOf(atom);
  if (clamp === undefined) throw new Error(`'${atom.text}' depends on lanes in no known way`);
  return clamped(inside(clamp.of), clamp.extent);
};

/** The nearest position from 0 to `extent` - 1. */
export const clamped = (of: affine.IndexExpr, extent: number): affine.IndexExpr => {
  if (extent === 1) return affine.int(0);
  if (affine.low(of) >= 0 && affine.high(of) < extent) return of;
  const atom: Clamped = {
    text: `clamp(${affine.show(of)}, 0, ${extent - 1})`,
    low: 0,
    high: extent - 1,
    depends: affine.depends(of),
    clamp: { of, extent },
  };
  return { constant: 0, terms: [{ atom, times: 1 }] };
};
