// Horizontal reduction: several vectors of partial sums or maxima become one value, vector by
// vector and then lane by lane.
import type { Node } from "../../../dsl/node.ts";
import type { Value } from "../assembler/builder.ts";
import { type Emitter, parameters } from "./emitter.ts";

/** Parallel accumulators, so that no addition waits for the one before. */
export const sumsAtOnce = 4;

/** Combines two terms of a reduction. */
const joining = ({ make, math }: Emitter, { attributes }: Node) => (a: Value, b: Value): Value =>
  attributes.how === "add" ? make.op("f32x4.add", a, b) : math.max(a, b);

/** The reduction of a vector's lanes, in every lane. */
export const acrossLanes = (emit: Emitter, reduction: Node, of: Value): Value => {
  const join = joining(emit, reduction);
  const { shuffle } = emit.make;
  const two = join(of, shuffle(of, of, [2, 3, 0, 1]));
  return { ...join(two, shuffle(two, two, [1, 0, 3, 2])), varies: false };
};

/** Combines neighbours pairwise until one is left. */
const byHalves = (of: readonly Value[], join: (a: Value, b: Value) => Value): Value =>
  of.length === 1 ? of[0] : byHalves(
    Array.from(
      { length: Math.ceil(of.length / 2) },
      (_, k) => 2 * k + 1 < of.length ? join(of[2 * k], of[2 * k + 1]) : of[2 * k],
    ),
    join,
  );

/**
 * Combines vectors. With an `offset` they are first stored there in scratch memory: an engine that
 * fuses vectors starts from adjacent stores.
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
  return join(of.map((_, k) => make.loadUnhoisted("v128.load", at, offset + 16 * k)));
};
