// The order in which hear-eval-kit writes the embeddings of a task: Python's `random.Random(0).shuffle` of
// the clips of each split in turn. It is part of the protocol, because the published probe never shuffles
// again: it determines which clips share a batch.
import type { Task } from "../../data/hear/task.ts";

/**
 * For each split of a task, in the order of its metadata, the clip of each row of the embeddings that
 * hear-eval-kit writes.
 */
export const kitOrder = (task: Task): readonly Uint32Array[] =>
  pythonShuffles(0, task.splits.map(({ clips }) => clips.length));

/**
 * The permutations that Python applies to lists of these lengths when one `random.Random(seed)` shuffles
 * them in turn; the seed is a whole number below 2^32.
 */
export const pythonShuffles = (
  seed: number,
  lengths: readonly number[],
): readonly Uint32Array[] => {
  const next = mersenneTwister(seed);
  const below = (n: number): number => {
    const bits = 32 - Math.clz32(n);
    for (;;) {
      const word = next() >>> (32 - bits);
      if (word < n) return word;
    }
  };
  return lengths.map((length) => {
    const order = Uint32Array.from({ length }, (_, k) => k);
    for (let k = length - 1; k > 0; k--) {
      const j = below(k + 1);
      [order[k], order[j]] = [order[j], order[k]];
    }
    return order;
  });
};

// MT19937 (Matsumoto and Nishimura, 1998), seeded with a one-element array as in Python.
function mersenneTwister(seed: number): () => number {
  const size = 624, offset = 397;
  const words = new Uint32Array(size);
  words[0] = 19650218;
  for (let k = 1; k < size; k++) {
    words[k] = Math.imul(1812433253, words[k - 1] ^ (words[k - 1] >>> 30)) + k;
  }
  let at = 1;
  const mix = (factor: number, add: (at: number) => number): void => {
    const before = words[at - 1];
    words[at] = (words[at] ^ Math.imul(before ^ (before >>> 30), factor)) + add(at);
    if (++at === size) {
      words[0] = words[size - 1];
      at = 1;
    }
  };
  for (let k = 0; k < size; k++) mix(1664525, () => seed);
  for (let k = 0; k < size - 1; k++) mix(1566083941, (at) => -at);
  words[0] = 0x80000000;

  let used = size;
  return () => {
    if (used === size) {
      for (let k = 0; k < size; k++) {
        const joined = (words[k] & 0x80000000) | (words[(k + 1) % size] & 0x7fffffff);
        words[k] = words[(k + offset) % size] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
      }
      used = 0;
    }
    let word = words[used++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  };
}
