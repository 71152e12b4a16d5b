// Each assertion against what the documentation of `@std/assert` says, where it passes and where it
// fails. It imports what the map of imports names, so that it tests the package as well:
// `deno test -A --config deno.jsr.json tests/support/std_assert_test.ts`.
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  AssertionError,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertNotMatch,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
  assertThrows,
  fail,
} from "@std/assert";

/** That an assertion fails, and that its message has some parts. It asserts by itself alone. */
const fails = (assertion: () => void, ...parts: readonly string[]): void => {
  let message: string | undefined;
  try {
    assertion();
  } catch (error) {
    if (!(error instanceof AssertionError)) throw error;
    message = error.message;
  }
  if (message === undefined) throw new Error(`it passes: ${assertion}`);
  for (const part of parts) {
    if (!message.includes(part)) throw new Error(`'${part}' is not in '${message}'`);
  }
};

const failsLater = async (
  assertion: () => Promise<unknown>,
  ...parts: readonly string[]
): Promise<void> => {
  const result = await assertion().then(() => undefined, (error: unknown) => error);
  if (result === undefined) throw new Error(`it passes: ${assertion}`);
  fails(() => {
    throw result;
  }, ...parts);
};

Deno.test("assert: what is truthy, and the type is narrower after it", () => {
  const value = [1, "a", {}][1] as string | undefined;
  assert(value);
  assertStrictEquals(value.length, 1);
  for (const falsy of [false, 0, "", null, undefined, NaN]) fails(() => assert(falsy));
  fails(() => assert(false, "the sentence"), "the sentence");
});

class Point {
  constructor(readonly x: number) {}
}
class Other {
  constructor(readonly x: number) {}
}
const cycle = (of: unknown): unknown => {
  const made: Record<string, unknown> = { of };
  made.self = made;
  return made;
};
const symbol = Symbol("key");

/** Pairs that are equal and are not one value. */
const equals: Readonly<Record<string, readonly [unknown, unknown]>> = {
  numbers: [NaN, NaN],
  zeros: [0, -0],
  nestedZeros: [[{ x: 0 }], [{ x: -0 }]],
  objects: [{ a: { b: [1, 2] }, c: "d" }, { c: "d", a: { b: [1, 2] } }],
  symbols: [{ [symbol]: 1 }, { [symbol]: 1 }],
  instances: [new Point(1), new Point(1)],
  withoutPrototype: [Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
  dates: [new Date(5), new Date(5)],
  noDates: [new Date(NaN), new Date(NaN)],
  regularExpressions: [/a+/g, /a+/g],
  addresses: [new URL("https://a.test/b"), new URL("https://a.test/b")],
  sets: [new Set([1, 2]), new Set([2, 1])],
  setsOfObjects: [new Set([{ a: 1 }, { b: 2 }]), new Set([{ b: 2 }, { a: 1 }])],
  maps: [new Map([["a", [1]], ["b", [2]]]), new Map([["b", [2]], ["a", [1]]])],
  mapsFromObjects: [
    new Map([[{ a: 1 }, 1], [{ a: 2 }, 2]]),
    new Map([[{ a: 2 }, 2], [{ a: 1 }, 1]]),
  ],
  floats: [Float32Array.of(0, NaN, 2), Float32Array.of(-0, NaN, 2)],
  bigWords: [BigUint64Array.of(1n), BigUint64Array.of(1n)],
  views: [new Uint8Array([9, 1, 2]).subarray(1), new Uint8Array([1, 2])],
  buffers: [Uint8Array.of(1, 2).buffer, Uint8Array.of(1, 2).buffer],
  cycles: [cycle(1), cycle(1)],
};

/** Pairs that differ, and what a message must show of them. */
const differs: Readonly<Record<string, readonly [unknown, unknown]>> = {
  numbers: [1, 2],
  kinds: [1, "1"],
  bigs: [1n, 1],
  nothing: [null, undefined],
  nothingAndObject: [null, {}],
  texts: ["a", "b"],
  values: [{ a: 1 }, { a: 2 }],
  keys: [{ a: undefined, b: undefined }, { a: undefined, c: undefined }],
  missing: [{ a: 1, b: undefined }, { a: 1 }],
  symbols: [{ [Symbol("key")]: 1 }, { [Symbol("key")]: 1 }],
  prototypes: [new Point(1), new Other(1)],
  plain: [new Point(1), { x: 1 }],
  arrayAndObject: [["a"], { 0: "a" }],
  lengths: [[1, 2], [1, 2, 3]],
  elements: [[1, [2]], [1, [3]]],
  // deno-lint-ignore no-sparse-arrays
  holes: [[, 1], [undefined, 1]],
  dates: [new Date(5), new Date(6)],
  noDate: [new Date(NaN), new Date(6)],
  regularExpressions: [/a/, /b/],
  flags: [/a/, /a/g],
  addresses: [new URL("https://a.test/b"), new URL("https://a.test/c")],
  sets: [new Set([1, 2]), new Set([1, 3])],
  sizes: [new Set([1]), new Set([1, 2])],
  setsOfObjects: [new Set([{ a: 1 }, { a: 1 }]), new Set([{ a: 1 }, { a: 2 }])],
  maps: [new Map([["a", 1]]), new Map([["a", 2]])],
  mapKeys: [new Map([["a", 1]]), new Map([["b", 1]])],
  mapsFromObjects: [new Map([[{ a: 1 }, 1]]), new Map([[{ a: 1 }, 2]])],
  mapAndSet: [new Map(), new Set()],
  floats: [Float32Array.of(1, 2), Float32Array.of(1, 3)],
  nan: [Float32Array.of(NaN), Float32Array.of(1)],
  floatLengths: [Float32Array.of(1), Float32Array.of(1, 0)],
  arrayKinds: [Float32Array.of(1), Float64Array.of(1)],
  typedAndPlain: [Float32Array.of(1), [1]],
  buffers: [Uint8Array.of(1, 2).buffer, Uint8Array.of(1, 3).buffer],
  cycles: [cycle(1), cycle(2)],
  functions: [() => 1, () => 1],
};

Deno.test("assertEquals and assertNotEquals: what is equal in structure", () => {
  for (const [name, [one, other]] of Object.entries(equals)) {
    assertEquals(one, other, name);
    assertEquals(other, one, name);
    assertEquals({ in: [one] }, { in: [other] }, name);
    fails(() => assertNotEquals(one, other, name), name);
  }
  for (const [name, [one, other]] of Object.entries(differs)) {
    assertNotEquals(one, other, name);
    assertNotEquals(other, one, name);
    assertNotEquals({ in: [one] }, { in: [other] }, name);
    fails(() => assertEquals(one, other, name), "Values are not equal", name);
  }
});

Deno.test("assertEquals: its message shows what differs", () => {
  fails(() => assertEquals({ a: 1, b: "same" }, { a: 2, b: "same" }), "a: 1", "a: 2");
  fails(() => assertEquals("one\ntwo\nthree", "one\n2\nthree"), "two", "2");
});

Deno.test("assertEquals: many elements take little time, equal or not", () => {
  const floats = new Float32Array(1e6).fill(0.5);
  const rows = Array.from({ length: 1e5 }, (_, k) => k);
  const start = performance.now();
  assertEquals(floats, floats.slice());
  assertEquals(rows, rows.slice());
  assertNotEquals(rows, rows.with(-1, -1));
  assertNotEquals(floats, floats.with(-1, -1));
  assert(performance.now() - start < 5000);
});

Deno.test("assertStrictEquals and assertNotStrictEquals: what is one value", () => {
  const object = {};
  for (const value of [1, NaN, -0, "a", null, undefined, object, symbol]) {
    assertStrictEquals(value, value);
    fails(() => assertNotStrictEquals(value, value, "the sentence"), "the sentence");
  }
  const pairs = [[0, -0], [1, 2], [1, "1"], [{}, {}], [[1], [1]], [null, undefined], ["a", "b"]];
  for (const [one, other] of pairs) {
    assertNotStrictEquals(one, other);
    fails(() => assertStrictEquals(one, other, "the sentence"), "the sentence");
  }
  fails(() => assertStrictEquals(`${1}23`, "321"), "123", "321");
  fails(() => assertStrictEquals("one\ntwo\nthree", "one\n2\nthree"), "two", "2");
  const narrower: unknown = "text";
  assertStrictEquals(narrower, "text" as string);
  assertStrictEquals(narrower.length, 4);
});

Deno.test("assertGreater, assertLess and those with equality", () => {
  assertGreater(2, 1);
  assertGreaterOrEqual(2, 1);
  assertGreaterOrEqual(2, 2);
  assertLess(1, 2);
  assertLessOrEqual(1, 2);
  assertLessOrEqual(2, 2);
  fails(() => assertGreater(2, 2), "2");
  fails(() => assertGreater(1, 2, "the sentence"), "1", "2", "the sentence");
  fails(() => assertGreaterOrEqual(1, 2, "the sentence"), "1", "2", "the sentence");
  fails(() => assertLess(2, 2), "2");
  fails(() => assertLess(2, 1, "the sentence"), "1", "2", "the sentence");
  fails(() => assertLessOrEqual(2, 1, "the sentence"), "1", "2", "the sentence");
  const orders = [assertGreater, assertGreaterOrEqual, assertLess, assertLessOrEqual];
  for (const order of orders) fails(() => order(NaN, 1));
});

Deno.test("assertMatch and assertNotMatch", () => {
  assertMatch("some text", /t.xt$/);
  assertNotMatch("some text", /^t.xt/);
  fails(
    () => assertMatch("some text", /^t.xt/, "the sentence"),
    "some text",
    "^t.xt",
    "the sentence",
  );
  fails(() => assertNotMatch("some text", /t.xt$/, "the sentence"), "some text", "the sentence");
});

Deno.test("assertInstanceOf: the type is narrower after it", () => {
  const value: unknown = new Point(3);
  assertInstanceOf(value, Point);
  assertStrictEquals(value.x, 3);
  assertInstanceOf(new RangeError(), Error);
  fails(() => assertInstanceOf(value, Other, "the sentence"), "Other", "Point", "the sentence");
  fails(() => assertInstanceOf(1, Number));
  fails(() => assertInstanceOf(null, Object));
});

Deno.test("fail", () => {
  fails(() => fail());
  fails(() => fail("the sentence"), "the sentence");
});

const throwing = (value: unknown) => (): never => {
  throw value;
};

Deno.test("assertThrows: what is thrown, its class and its message", () => {
  const error = new RangeError("the number is too large");
  assertStrictEquals(assertThrows(throwing(error)), error);
  assertStrictEquals(assertThrows(throwing(error), "the sentence"), error);
  assertStrictEquals(assertThrows(throwing(error), RangeError).message, error.message);
  assertStrictEquals(assertThrows(throwing(error), Error, "is too"), error);
  for (const value of ["text", 1, null, undefined]) {
    assertStrictEquals(assertThrows(throwing(value)), value);
    fails(() => assertThrows(throwing(value), Error), "A non-Error object was thrown");
  }
  fails(() => assertThrows(() => 1), "Expected function to throw");
  fails(() => assertThrows(() => 1, "the sentence"), "the sentence");
  fails(() => assertThrows(() => 1, Error, "", "the sentence"), "the sentence");
  fails(() => assertThrows(throwing(error), TypeError), "TypeError", "RangeError");
  fails(() => assertThrows(throwing(error), Error, "too small"), "too small", "too large");
  const wrong = () => assertThrows(throwing(error), Error, "too small", "the sentence");
  fails(wrong, "the sentence");
});

Deno.test("assertRejects: what is the reason, its class and its message", async () => {
  const error = new RangeError("the number is too large");
  const rejecting = () => Promise.reject(error);
  assertStrictEquals(await assertRejects(rejecting), error);
  assertStrictEquals(await assertRejects(rejecting, "the sentence"), error);
  assertStrictEquals((await assertRejects(rejecting, RangeError)).message, error.message);
  assertStrictEquals(await assertRejects(rejecting, Error, "is too"), error);
  for (const value of ["text", null, undefined]) {
    assertStrictEquals(await assertRejects(() => Promise.reject(value)), value);
    const rejected = () => assertRejects(() => Promise.reject(value), Error);
    await failsLater(rejected, "A non-Error object was rejected");
  }
  const resolving = () => Promise.resolve(1);
  await failsLater(() => assertRejects(resolving), "Expected function to reject");
  await failsLater(() => assertRejects(resolving, "the sentence"), "the sentence");
  await failsLater(() => assertRejects(resolving, Error, "", "the sentence"), "the sentence");
  await failsLater(() => assertRejects(rejecting, TypeError), "TypeError", "RangeError");
  await failsLater(() => assertRejects(rejecting, Error, "too small"), "too small", "too large");
  // A function that throws has rejected no promise, nor has one that returns none.
  await failsLater(() => assertRejects(throwing(error)), "Function throws when expected to reject");
  await failsLater(() => assertRejects((() => 1) as never));
});

Deno.test("an assertion that fails throws an AssertionError", () => {
  const error = assertThrows(() => fail("the sentence"), AssertionError);
  assertInstanceOf(error, Error);
  assertStrictEquals(error.name, "AssertionError");
});

Deno.test("assertAlmostEquals: within a tolerance, by default 1e-7 of what is expected", () => {
  assertAlmostEquals(0.1 + 0.2, 0.3);
  assertAlmostEquals(1000.00005, 1000);
  assertAlmostEquals(1.5, 1, 0.5);
  assertAlmostEquals(NaN, NaN);
  assertAlmostEquals(-Infinity, -Infinity);
  fails(() => assertAlmostEquals(1000.0002, 1000), "1000.0002", "1000");
  fails(() => assertAlmostEquals(1.5, 1, 0.4), "1.5", "0.5", "0.4");
  fails(() => assertAlmostEquals(1, 2, 0.5, "a word"), "a word");
  fails(() => assertAlmostEquals(NaN, 1), "NaN");
  fails(() => assertAlmostEquals(Infinity, -Infinity), "Infinity");
});
