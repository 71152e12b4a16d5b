// How sums and maxima that several vectors hold become one: vector by vector, then lane by lane.
import type { Node } from "../../../dsl/node.ts";
import type { Value } from "../assembler/builder.ts";
import { type Emitter, parameters } from "./emitter.ts";

/** Vectors that are added to at the same time, so that no addition waits for the one before. */
export const sumsAtOnce = 4;

/** Two terms of a reduction joined. */
const joining = ({ make, math }: Emitter, { attributes }: Node) => (a: Value, b: Value): Value =>
  attributes.how === "add" ? make.op("f32x4.add", a, b) : math.max(a, b);

/** All lanes of a vector joined, in every lane. */
export const acrossLanes = (emit: Emitter, reduction: Node, of: Value): Value => {
  const join = joining(emit, reduction);
  const { shuffle } = emit.make;
  const two = join(of, shuffle(of, of, [2, 3, 0, 1]));
  return { ...join(two, shuffle(two, two, [1, 0, 3, 2])), varies: false };
};

/** Neighbours joined, until one is left. */
const byHalves = (of: readonly Value[], join: (a: Value, b: Value) => Value): Value =>
  of.length === 1 ? of[0] : byHalves(
    Array.from(
      { length: Math.ceil(of.length / 2) },
      (_, k) => 2 * k + 1 < of.length ? join(of[2 * k], of[2 * k + 1]) : of[2 * k],
    ),
    join,
  );

/**
 * Vectors joined. With an `offset` they go there in scratch memory first: an engine that pairs vectors
 * begins at those that are written beside each other.
 */
export const joinVectors = (
  emit: Emitter,
  reduction: Node,
  of: readonly Value[],
  offset?: number,
): Value => {
  const { make, reachScratch } = emit;
  const join = (list: readonly Value[]) => byHalves(list, joining(emit, reduction));
  if (offset === undefined || of.length === 1) return join(of);
  const at = make.parameter(parameters.scratch);
  reachScratch(offset + 16 * of.length);
  of.forEach((_, n) => {
    const k = of.length - 1 - n;
    make.store("v128.store", at, offset + 16 * k, of[k]);
  });
  return join(of.map((_, k) => make.loadNow("v128.load", at, offset + 16 * k)));
};
