// Random numbers: the known answers of Threefry-2x32-20 (from the Random123 library's test vectors),
// the moments of both distributions, and the same bits on a device.
import { assert, assertEquals, assertLess, assertNotEquals } from "@std/assert";
import { interpret } from "../../backends/reference/interpret.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { type Key, nodeOf, tensorOf } from "../../dsl/node.ts";
import {
  foldIn,
  keyForName,
  normal,
  randomKey,
  splitKey,
  threefry,
  uniform,
} from "../../dsl/random.ts";
import { constantNode } from "../../dsl/primitives.ts";
import { constant } from "../../dsl/ops.ts";
import { devices } from "../support/device.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

const noLeaves = (): never => {
  throw new Error("random numbers read nothing");
};
const word = (value: number) => constantNode(value, "u32");
const keyOf = (high: number, low: number): Key => ({
  high: constant(high, "u32"),
  low: constant(low, "u32"),
});
const hex = (key: readonly (readonly number[] | Float64Array)[]) =>
  key.map(([value]) => value.toString(16).padStart(8, "0"));

const answers = [
  [[0, 0], [0, 0], ["6b200159", "99ba4efe"]],
  [[0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], ["1cb996fc", "bb002be7"]],
  [[0x243f6a88, 0x85a308d3], [0x13198a2e, 0x03707344], ["c4923a9c", "483df7a0"]],
] as const;

Deno.test("Threefry-2x32-20 gives its known answers", () => {
  for (const [counter, key, expected] of answers) {
    const words = threefry(keyOf(key[0], key[1]), [word(counter[0]), word(counter[1])]);
    assertEquals<readonly string[]>(hex(interpret(words, noLeaves)), expected);
  }
});

const draw = (of: Parameters<typeof nodeOf>[0]): Float64Array =>
  interpret([nodeOf(of)], noLeaves)[0];

const moment = (x: Float64Array, power: number): number =>
  x.reduce((sum, value) => sum + value ** power, 0) / x.length;

Deno.test("uniform numbers have the moments of the uniform distribution", () => {
  const x = draw(uniform(randomKey(5), { i: 300, j: 331 }));
  assert(x.every((value) => value >= 0 && value < 1));
  for (const power of [1, 2, 3, 4]) {
    // The moment's standard error, four times.
    const expected = 1 / (power + 1);
    const error = Math.sqrt((1 / (2 * power + 1) - expected ** 2) / x.length);
    assertLess(
      Math.abs(moment(x, power) - expected),
      4 * error,
      `moment ${power}: ${moment(x, power)}`,
    );
  }
  const y = draw(uniform(randomKey(5), { i: 300, j: 331 }, -3, 1));
  assert(y.every((value, k) => Math.abs(value - (4 * x[k] - 3)) < 1e-9));
});

Deno.test("normal numbers have the moments of the normal distribution", () => {
  const x = draw(normal(randomKey(6), { i: 300, j: 331 }));
  [0, 1, 0, 3, 0, 15].forEach((expected, k) => {
    const even = [1, 3, 15, 105, 945, 10395][k];
    const error = Math.sqrt((even - expected ** 2) / x.length);
    const found = moment(x, k + 1);
    assertLess(
      Math.abs(found - expected),
      4 * error,
      `moment ${k + 1}: ${found}, expected ${expected}`,
    );
  });
  const wide = draw(normal(randomKey(6), { i: 300, j: 331 }, 0.02));
  assert(wide.every((value, k) => Math.abs(value - 0.02 * x[k]) < 1e-12));
});

Deno.test("keys made from a key differ by seed, word and name, and are the same each time", () => {
  const of = (key: Key) => hex(interpret([nodeOf(key.high), nodeOf(key.low)], noLeaves));
  const keys = [
    randomKey(1),
    randomKey(2),
    randomKey(2 ** 32 + 1),
    foldIn(randomKey(1), 1),
    foldIn(randomKey(1), 2),
    foldIn(randomKey(2), 1),
    keyForName(randomKey(1), "norm.weight"),
    keyForName(randomKey(1), "norm.bias"),
  ].map(of);
  keys.forEach((key, k) => keys.slice(k + 1).forEach((other) => assertNotEquals(key, other)));
  assertEquals(of(keyForName(randomKey(1), "norm.bias")), keys[7]);
  // A word that is known only at run time gives the key of the number.
  assertEquals(of(foldIn(randomKey(1), constant(2, "u32"))), keys[4]);
});

for (const [device, backend] of devices) {
  Deno.test({
    name: `random words and uniform numbers are the same bits on ${device}`,
    ignore: backend === undefined,
    fn: async () => {
      const axes = { i: 31, j: 67 };
      const key = foldIn(randomKey(2 ** 40 + 3), 7);
      const [a, b] = threefry(key, [nodeOf(constant(12, "u32")), nodeOf(constant(0, "u32"))]);
      const order = ["i", "j"];
      const program = {
        outputs: {
          a: { of: tensorOf(a), order: [] },
          b: { of: tensorOf(b), order: [] },
          uniform: { of: uniform(key, axes), order },
          normal: { of: normal(key, axes), order },
        },
      };
      const [want, got] = await Promise.all([referenceBackend(), backend!].map(async (one) => {
        const machine = await one.open({ program });
        const values = await machine.run("program", {});
        machine.close();
        return values;
      }));
      for (const name of ["a", "b", "uniform"]) assertSameNumbers(got[name], want[name], name);
      // Logarithms and cosines may differ in the last bits.
      got.normal.forEach((value, k) => assertLess(Math.abs(value - want.normal[k]), 1e-5));
    },
  });
}

Deno.test("the parts of a tensor are drawn as the whole is", () => {
  const key = keyForName(randomKey(5), "parts");
  const whole = [...draw(uniform(foldIn(key, 3), { batch: 6, token: 5 }))];
  const parts = [0, 1, 2].flatMap((part) => {
    const of = foldIn(splitKey(key, constant(part, "u32")), 3);
    return [...draw(uniform(of, { batch: 2, token: 5 }))];
  });
  assertSameNumbers(parts, whole);
});
