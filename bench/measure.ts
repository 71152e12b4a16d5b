// Two programs measured side by side: one run of ours, one of the peer's, and so on, because on a
// machine that others use only neighbouring runs are alike. Ratios are of neighbours, then medians.

/** What running both sides in turns gave; milliseconds. */
export interface Pairs {
  readonly ours: readonly number[];
  readonly peer: readonly number[];
}

/** The middle value, or the mean of the two in the middle. Throws `RangeError` on none. */
export const median = (values: readonly number[]): number => {
  if (values.length === 0) throw new RangeError("there is no median of no values");
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/**
 * How many times faster ours is than the peer: the median over runs of ours of the peer's time beside
 * it. Beside it are the peer's run before and the one after, where there are both their mean.
 */
export const ratioOf = ({ ours, peer }: Pairs): number =>
  median(ours.map((ms, k) => (k === 0 ? peer[k] : (peer[k - 1] + peer[k]) / 2) / ms));

/** How often to run both sides, once each, to take about `budget` milliseconds: an odd number. */
export const repetitions = (once: number, budget: number): number => {
  const fitting = Math.floor(budget / Math.max(once, 1e-6));
  const odd = fitting % 2 === 0 ? fitting + 1 : fitting;
  return Math.min(31, Math.max(3, odd));
};

const timed = async (run: () => Promise<void>): Promise<number> => {
  const began = performance.now();
  await run();
  return performance.now() - began;
};

/** Runs both in turns, after one run of each that does not count, for about `budget` milliseconds. */
export const interleave = async (
  ours: () => Promise<void>,
  peer: () => Promise<void>,
  budget: number,
): Promise<Pairs> => {
  const once = await timed(ours) + await timed(peer);
  const pairs = { ours: [] as number[], peer: [] as number[] };
  for (let k = repetitions(once, budget); k > 0; k--) {
    pairs.ours.push(await timed(ours));
    pairs.peer.push(await timed(peer));
  }
  return pairs;
};

/** The largest difference, as a share of the largest magnitude in `expected`. Infinite if not finite. */
export const disagreement = (found: Float32Array, expected: Float32Array): number => {
  if (found.length !== expected.length) return Infinity;
  let most = 0, scale = 0;
  for (let k = 0; k < found.length; k++) {
    const apart = Math.abs(found[k] - expected[k]);
    if (!Number.isFinite(apart)) return Infinity;
    most = Math.max(most, apart);
    scale = Math.max(scale, Math.abs(expected[k]));
  }
  return most === 0 ? 0 : most / scale;
};
