// Which changes are made, and in which order: the same for the same seed.
import type { Kind, Mutation } from "./mutations.ts";

/** Numbers in [0, 1), the same for the same seed (a linear congruential generator). */
const uniform = (seed: number): () => number => {
  let state = (Math.imul(seed + 1, 2654435761) ^ 0x9e3779b9) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
};

/** All changes in a random order in which the kinds take turns, as long as there are some of each. */
export const draw = (mutations: readonly Mutation[], seed: number): readonly Mutation[] => {
  const random = uniform(seed);
  const shuffled = [...mutations];
  for (let k = shuffled.length - 1; k > 0; k--) {
    const other = Math.floor(random() * (k + 1));
    [shuffled[k], shuffled[other]] = [shuffled[other], shuffled[k]];
  }
  const byKind = new Map<Kind, Mutation[]>();
  for (const one of shuffled) {
    if (!byKind.has(one.kind)) byKind.set(one.kind, []);
    byKind.get(one.kind)!.push(one);
  }
  const kinds = [...byKind.values()];
  const longest = Math.max(0, ...kinds.map((list) => list.length));
  return Array.from({ length: longest }, (_, k) => kinds.flatMap((list) => list.slice(k, k + 1)))
    .flat();
};
