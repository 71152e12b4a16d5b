// Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011), written in the language. There is no
// hidden state; the same key gives the same bits on every backend.
import type { Axes, Join, None, Plain, Tensor } from "./axes.ts";
import { type AnyKey, type Key, type Node, nodeOf, tensorOf } from "./node.ts";
import { apply, constantNode, float } from "./primitives.ts";
import { expand, iota } from "./structure.ts";
import { volume } from "./axes.ts";

const word = (value: number): Node => constantNode(value >>> 0, "u32");
const plus = (a: Node, b: Node) => apply("add", a, b);

const rotations = [[13, 15, 26, 6], [17, 29, 16, 24]];
const parity = 0x1bd11bda;

/** Threefry-2x32-20: a key of two u32 and a counter of two u32 to two random u32. */
export const threefry = (key: AnyKey, counter: readonly [Node, Node]): readonly [Node, Node] => {
  const high = nodeOf(key.high), low = nodeOf(key.low);
  const keys = [high, low, apply("xor", word(parity), apply("xor", high, low))];
  let a = plus(counter[0], keys[0]), b = plus(counter[1], keys[1]);
  for (let group = 0; group < 5; group++) {
    for (const by of rotations[group % 2]) {
      a = plus(a, b);
      const turned = plus(apply("shiftLeft", b, word(by)), apply("shiftRight", b, word(32 - by)));
      b = apply("xor", turned, a);
    }
    a = plus(a, keys[(group + 1) % 3]);
    b = plus(plus(b, keys[(group + 2) % 3]), word(group + 1));
  }
  return [a, b];
};

/** The key of a seed, an integer from 0 to 2^53. */
export const randomKey = (seed: number): Key => ({
  high: tensorOf(word(Math.floor(seed / 2 ** 32))),
  low: tensorOf(word(seed % 2 ** 32)),
});

/** A new key from a key and a u32: a step number, a layer, or a tensor of u32. */
export const foldIn = <A>(key: Key<A>, by: number | Tensor<None> | Tensor<A>): Key<A> => {
  const [high, low] = threefry(key, [
    typeof by === "number" ? word(by) : nodeOf(by),
    word(0x666f6c64),
  ]);
  return { ...key, high: tensorOf(high), low: tensorOf(low) };
};

/**
 * A key that draws one part of what `key` draws: if a tensor is cut along its first axis into equal
 * parts, the part with the number `part`, a u32. So a batch that is computed in parts, or on
 * several machines, gets the numbers of the whole batch.
 */
export const splitKey = <A>(key: Key<A>, part: Tensor<None>): Key<A> => ({ ...key, part });

/** The key for a name, for example that of a parameter (FNV-1a over its UTF-8 bytes). */
export const keyForName = <A>(key: Key<A>, name: string): Key<A> => {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 16777619);
  return foldIn(key, hash >>> 0);
};

/** Two independent random u32 for every element, numbered row-major in the order of `axes`. */
const words = (key: AnyKey, axes: Axes): readonly [Node, Node] => {
  // A part is one step of an axis before the first.
  let counter: Node = key.part === undefined ? word(0) : nodeOf(key.part);
  for (const axis of Object.keys(axes)) {
    counter = plus(apply("mul", counter, word(axes[axis] as number)), iota(axis, axes[axis]));
  }
  if (volume(axes) > 2 ** 32) throw new RangeError("more than 2^32 random numbers from one key");
  return threefry(key, [counter, word(0)]);
};

/** The upper 24 bits of a u32 as a float in [0, 1). */
const unit = (bits: Node): Node =>
  apply("mul", apply("toFloat", apply("shiftRight", bits, word(8))), float(2 ** -24));

/** Uniform floats in [low, high), independent for every element of `axes`. */
export const uniform = <const A extends Axes, B>(
  key: Key<B>,
  axes: A,
  low = 0,
  high = 1,
): Tensor<Join<Plain<A>["axes"], B>["axes"]> =>
  tensorOf(
    plus(apply("mul", expand(unit(words(key, axes)[0]), axes), float(high - low)), float(low)),
  );

/** Normal floats with mean 0 and the given standard deviation, by Box and Muller's transform. */
export const normal = <const A extends Axes, B>(
  key: Key<B>,
  axes: A,
  deviation = 1,
): Tensor<Join<Plain<A>["axes"], B>["axes"]> => {
  const [first, second] = words(key, axes).map(unit);
  // 1 - u is in (0, 1], so the logarithm is finite.
  const radius = apply(
    "sqrt",
    apply("mul", float(-2), apply("log", plus(float(1), apply("neg", first)))),
  );
  const angle = apply("cos", apply("mul", float(2 * Math.PI), second));
  return tensorOf(expand(apply("mul", apply("mul", radius, angle), float(deviation)), axes));
};
