// Random numbers on the host, for crops and shuffles. A number is a function of the seed and its purpose,
// so that a run draws the same numbers whatever happened before.

/** A number in [0, 1) for a seed and counters. */
export const draw = (seed: number, ...counters: readonly number[]): number => {
  let hash = 0x9e3779b9;
  for (const word of [seed, Math.floor(seed / 2 ** 32), ...counters]) {
    hash = Math.imul(hash ^ (word >>> 0), 0x85ebca6b);
    hash ^= hash >>> 13;
    hash = Math.imul(hash, 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return (hash >>> 0) / 2 ** 32;
};

/** The numbers below `count`, shuffled by a seed and counters. */
export const shuffled = (
  count: number,
  seed: number,
  ...counters: readonly number[]
): readonly number[] => {
  const order = Array.from({ length: count }, (_, k) => k);
  for (let k = count - 1; k > 0; k--) {
    const other = Math.floor(draw(seed, ...counters, k) * (k + 1));
    [order[k], order[other]] = [order[other], order[k]];
  }
  return order;
};
