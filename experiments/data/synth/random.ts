// Random numbers of the synthesised corpus: a hash of a key and a counter, so that the numbers of a sound
// do not depend on the sounds before it.

/** A stream of random numbers. Each call draws the next; the same key gives the same stream. */
export interface Dice {
  /** Uniform from `least` to below `most`. */
  readonly between: (least: number, most: number) => number;
  /** Log-uniform from `least` to below `most`: for pitch and loudness. */
  readonly scaled: (least: number, most: number) => number;
  /** A whole number from `least` to `most`, both included. */
  readonly whole: (least: number, most: number) => number;
  /** One of a list. */
  readonly pick: <A>(list: readonly A[]) => A;
  /** True with a probability. */
  readonly chance: (probability: number) => boolean;
  /** White noise: a function of n with independent values from -1 to 1. */
  readonly noise: () => (n: number) => number;
}

/** The stream of a key, a whole number. */
export function dice(key: number): Dice {
  let counter = 0;
  const next = (): number => uniform(key, counter++);
  const between = (least: number, most: number) => least + (most - least) * next();
  const whole = (least: number, most: number) => least + Math.floor((most - least + 1) * next());
  return {
    between,
    scaled: (least, most) => least * (most / least) ** next(),
    whole,
    pick: (list) => list[whole(0, list.length - 1)],
    chance: (probability) => next() < probability,
    noise: () => {
      const own = subkey(key, counter++);
      return (n) => uniform(own, n) * 2 - 1;
    },
  };
}

/** A derived key for part `index`. */
export const subkey = (key: number, index: number): number =>
  hash(hash(key | 0) + Math.imul(index | 0, 0x9e3779b9));

/** A list in random order. */
export function shuffled<A>(list: readonly A[], { whole }: Dice): readonly A[] {
  const order = [...list];
  for (let i = order.length - 1; i > 0; i--) {
    const j = whole(0, i);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

const uniform = (key: number, counter: number): number =>
  (hash(key + Math.imul(counter, 0x9e3779b9)) >>> 0) / 2 ** 32;

// A bijection of 32 bits in which each bit of the input flips about half of the output's.
function hash(n: number): number {
  let x = n | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return x ^ (x >>> 15);
}
