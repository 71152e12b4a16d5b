// A stand-in for `jsr:@std/assert`: the same names, signatures and behaviour, for those of its
// assertions that the tests here use. It exists because the machines that run them can not reach JSR;
// `deno.jsr.json` maps `@std/assert` to the package itself, and no test has to change for that.

/** What every assertion throws. */
export class AssertionError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "AssertionError";
  }
}

/** A sentence and, where the test gives one, its own: "what happened: of what." */
const sentence = (what: string, msg?: string): string =>
  msg === undefined || msg === "" ? `${what}.` : `${what}: ${msg}`;

/** A value in one line. */
const shown = (value: unknown): string => {
  const text = Deno.inspect(value, { depth: 2, iterableLimit: 10, breakLength: Infinity })
    .replace(/\s*\n\s*/g, " ");
  return text.length > 300 ? `${text.slice(0, 300)}...` : text;
};

/** The first place where two values differ, as in `.rows[3]`, and what they hold there. */
interface Difference {
  readonly path: string;
  readonly actual: unknown;
  readonly expected: unknown;
}

/** Pairs of objects that are equal unless a difference is found elsewhere, so that cycles end. */
type Pairs = Map<object, Set<object>>;

const below = (step: string, found: Difference | undefined): Difference | undefined =>
  found && { ...found, path: step + found.path };

const keysOf = (of: object): readonly PropertyKey[] => [
  ...Object.keys(of),
  ...Object.getOwnPropertySymbols(of).filter((key) =>
    Object.prototype.propertyIsEnumerable.call(of, key)
  ),
];

const step = (key: PropertyKey): string =>
  typeof key === "symbol"
    ? `[${String(key)}]`
    : /^[A-Za-z_$][\w$]*$/.test(String(key))
    ? `.${String(key)}`
    : `[${/^\d+$/.test(String(key)) ? String(key) : JSON.stringify(key)}]`;

/** `Object.create(null)` counts as a plain object. */
const prototypeOf = (of: object): unknown => Object.getPrototypeOf(of) ?? Object.prototype;

/** The bytes of a buffer or of a view of one that has no elements. */
const bytesOf = (of: object): Uint8Array | undefined =>
  of instanceof ArrayBuffer || of instanceof SharedArrayBuffer
    ? new Uint8Array(of)
    : of instanceof DataView
    ? new Uint8Array(of.buffer, of.byteOffset, of.byteLength)
    : undefined;

/** What says all of an object that has no keys of its own. */
const contentOf = (of: object): unknown =>
  of instanceof Date
    ? of.getTime()
    : of instanceof RegExp || of instanceof URL || of instanceof URLSearchParams
    ? String(of)
    : of instanceof Error
    ? `${of.name}: ${of.message}`
    : undefined;

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;

const ofNumbers = (
  actual: ArrayLike<unknown>,
  expected: ArrayLike<unknown>,
): Difference | undefined => {
  const { length } = actual;
  if (length !== expected.length) {
    return { path: ".length", actual: length, expected: expected.length };
  }
  for (let k = 0; k < length; k++) {
    const one = actual[k];
    const other = expected[k];
    // Not a number is equal to itself; 0 and -0 are equal.
    if (one !== other && (one === one || other === other)) {
      return { path: `[${k}]`, actual: one, expected: other };
    }
  }
};

const ofArrays = (
  actual: readonly unknown[],
  expected: readonly unknown[],
  pairs: Pairs,
): Difference | undefined => {
  const { length } = actual;
  if (length !== expected.length) {
    return { path: ".length", actual: length, expected: expected.length };
  }
  for (let k = 0; k < length; k++) {
    if (actual[k] === expected[k]) continue;
    const found = difference(actual[k], expected[k], pairs);
    if (found !== undefined) return below(`[${k}]`, found);
  }
  // Holes and keys that are not elements.
  return ofKeys(actual, expected, pairs, (key) => !/^\d+$/.test(String(key)));
};

const ofKeys = (
  actual: object,
  expected: object,
  pairs: Pairs,
  isToCompare: (key: PropertyKey) => boolean = () => true,
): Difference | undefined => {
  const keys = keysOf(actual);
  const others = keysOf(expected);
  const known = new Set(others);
  if (keys.length !== others.length || keys.some((key) => !known.has(key))) {
    return { path: "", actual, expected };
  }
  for (const key of keys) {
    if (!isToCompare(key)) continue;
    const found = difference(Reflect.get(actual, key), Reflect.get(expected, key), pairs);
    if (found !== undefined) return below(step(key), found);
  }
};

/** Pairs for an attempt: what it supposes is forgotten where it fails. */
const copied = (pairs: Pairs): Pairs => new Map([...pairs].map(([one, of]) => [one, new Set(of)]));

/** Members in any order; those that are objects are equal by what they hold. */
const ofSets = (
  actual: ReadonlySet<unknown>,
  expected: ReadonlySet<unknown>,
  pairs: Pairs,
): Difference | undefined => {
  const other = { path: "", actual, expected };
  if (actual.size !== expected.size) return other;
  const free = new Set([...expected].filter((member) => !actual.has(member)));
  for (const member of actual) {
    if (expected.has(member)) continue;
    if (!isObject(member)) return other;
    const same = [...free].find((one) => difference(member, one, copied(pairs)) === undefined);
    if (same === undefined) return other;
    free.delete(same);
  }
};

/** Entries in any order; keys that are objects are equal by what they hold. */
const ofMaps = (
  actual: ReadonlyMap<unknown, unknown>,
  expected: ReadonlyMap<unknown, unknown>,
  pairs: Pairs,
): Difference | undefined => {
  const other = { path: "", actual, expected };
  if (actual.size !== expected.size) return other;
  const free = new Set([...expected].filter(([key]) => !actual.has(key)));
  for (const [key, value] of actual) {
    if (expected.has(key)) {
      const found = difference(value, expected.get(key), pairs);
      if (found !== undefined) return below(`.get(${shown(key)})`, found);
      continue;
    }
    if (!isObject(key)) return other;
    const same = [...free].find((one) =>
      difference([key, value], one, copied(pairs)) === undefined
    );
    if (same === undefined) return other;
    free.delete(same);
  }
};

const difference = (
  actual: unknown,
  expected: unknown,
  pairs: Pairs,
): Difference | undefined => {
  if (actual === expected || Object.is(actual, expected)) return undefined;
  const other = { path: "", actual, expected };
  if (!isObject(actual) || !isObject(expected)) return other;
  if (prototypeOf(actual) !== prototypeOf(expected)) return other;
  const bytes = [bytesOf(actual), bytesOf(expected)];
  if (bytes[0] && bytes[1]) return ofNumbers(bytes[0], bytes[1]);
  if (ArrayBuffer.isView(actual)) {
    return ofNumbers(actual as unknown as Uint8Array, expected as unknown as Uint8Array);
  }
  if (pairs.get(actual)?.has(expected)) return undefined;
  pairs.set(actual, (pairs.get(actual) ?? new Set()).add(expected));
  if (!Object.is(contentOf(actual), contentOf(expected))) return other;
  if (actual instanceof Set && expected instanceof Set) return ofSets(actual, expected, pairs);
  if (actual instanceof Map && expected instanceof Map) return ofMaps(actual, expected, pairs);
  return Array.isArray(actual) && Array.isArray(expected)
    ? ofArrays(actual, expected, pairs)
    : ofKeys(actual, expected, pairs);
};

/** A value in lines, to be compared line by line. */
const linesOf = (value: unknown): readonly string[] =>
  (typeof value === "string" && value.includes("\n") ? value : Deno.inspect(value, {
    depth: 8,
    compact: false,
    sorted: true,
    trailingComma: true,
    iterableLimit: 100,
    strAbbreviateSize: Infinity,
  })).split("\n");

const lineLimit = 20;
const contextLines = 3;

const marked = (mark: string, lines: readonly string[]): readonly string[] => [
  ...lines.slice(0, lineLimit).map((line) => `  ${mark} ${line}`),
  ...(lines.length > lineLimit ? [`  ${mark} ... ${lines.length - lineLimit} more lines`] : []),
];

/** Two values from the first line that differs to the last, with some lines around them. */
const comparison = (actual: unknown, expected: unknown): string => {
  const one = linesOf(actual);
  const other = linesOf(expected);
  const limit = Math.min(one.length, other.length);
  let start = 0;
  while (start < limit && one[start] === other[start]) start++;
  let end = 0;
  while (end < limit - start && one.at(-1 - end) === other.at(-1 - end)) end++;
  if (start === one.length && start === other.length) return "";
  return [
    "",
    "  - actual, + expected",
    ...marked(" ", one.slice(Math.max(0, start - contextLines), start)),
    ...marked("-", one.slice(start, one.length - end)),
    ...marked("+", other.slice(start, other.length - end)),
    ...marked(" ", one.slice(one.length - end).slice(0, contextLines)),
  ].join("\n");
};

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg === "" ? `${shown(expr)} is not truthy.` : msg);
}

/** Fails always. */
export function fail(msg?: string): never {
  throw new AssertionError(sentence("Failed assertion", msg));
}

/**
 * Fails unless two values are equal in structure: keys, elements, members and entries, dates, regular
 * expressions and bytes, of the same prototypes. NaN is equal to NaN, and 0 to -0.
 */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  const found = difference(actual, expected, new Map());
  if (found === undefined) return;
  const place = found.path === ""
    ? ""
    : `\n  at ${found.path}: ${shown(found.actual)}, expected ${shown(found.expected)}`;
  throw new AssertionError(
    sentence("Values are not equal", msg) + place + comparison(actual, expected),
  );
}

/** Fails where `assertEquals` does not. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  if (difference(actual, expected, new Map()) !== undefined) return;
  throw new AssertionError(sentence(`Expected another value than ${shown(expected)}`, msg));
}

/** Fails unless two values are one, by `Object.is`. */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T {
  if (Object.is(actual, expected)) return;
  const what = difference(actual, expected, new Map()) === undefined && isObject(actual)
    ? "Values have the same structure but are not reference-equal"
    : "Values are not strictly equal";
  const text = `${shown(actual)}, expected ${shown(expected)}`;
  const isShort = typeof actual !== "string" || !actual.includes("\n");
  throw new AssertionError(
    `${sentence(what, msg)}${isShort ? `\n  ${text}` : ""}${
      isShort && !isObject(actual) ? "" : comparison(actual, expected)
    }`,
  );
}

/** Fails where two values are one, by `Object.is`. */
export function assertNotStrictEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!Object.is(actual, expected)) return;
  throw new AssertionError(sentence(`Expected another value than ${shown(expected)}`, msg));
}

type Compared = "greater than" | "at least" | "less than" | "at most";
const failOrder = (actual: unknown, than: Compared, expected: unknown, msg?: string): never => {
  throw new AssertionError(
    sentence(`Expected a value ${than} ${shown(expected)}, but got ${shown(actual)}`, msg),
  );
};

/** Fails unless `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual > expected)) failOrder(actual, "greater than", expected, msg);
}

/** Fails unless `actual >= expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual >= expected)) failOrder(actual, "at least", expected, msg);
}

/** Fails unless `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual < expected)) failOrder(actual, "less than", expected, msg);
}

/** Fails unless `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (!(actual <= expected)) failOrder(actual, "at most", expected, msg);
}

/** Fails unless a regular expression matches a text. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  if (expected.test(actual)) return;
  throw new AssertionError(
    sentence(`Expected a text that matches ${expected}, but got ${Deno.inspect(actual)}`, msg),
  );
}

/** Fails where a regular expression matches a text. */
export function assertNotMatch(actual: string, expected: RegExp, msg?: string): void {
  if (!expected.test(actual)) return;
  throw new AssertionError(
    sentence(`Expected no text that matches ${expected}, but got ${Deno.inspect(actual)}`, msg),
  );
}

// The package takes constructors with any parameters and abstract ones.
// deno-lint-ignore no-explicit-any
type ErrorClass<E> = abstract new (...args: any[]) => E;

/** Fails unless a value is made by a class. */
// deno-lint-ignore no-explicit-any
export function assertInstanceOf<T extends abstract new (...args: any[]) => any>(
  actual: unknown,
  expectedType: T,
  msg = "",
): asserts actual is InstanceType<T> {
  if (actual instanceof expectedType) return;
  throw new AssertionError(
    sentence(`Expected an instance of ${expectedType.name}, but got ${shown(actual)}`, msg),
  );
}

const mustBe = (
  thrown: unknown,
  how: "thrown" | "rejected",
  kind: ErrorClass<Error>,
  msgIncludes: string | undefined,
  msg: string | undefined,
): void => {
  const failWith = (what: string): never => {
    throw new AssertionError(sentence(what, msg), { cause: thrown });
  };
  if (!(thrown instanceof Error)) {
    return failWith(`A non-Error object was ${how}: ${shown(thrown)}`);
  }
  const { name } = thrown.constructor;
  if (!(thrown instanceof kind)) {
    return failWith(
      `Expected error to be instance of "${kind.name}", but was "${name}": ${thrown}`,
    );
  }
  if (!thrown.message.includes(msgIncludes ?? "")) {
    failWith(
      `Expected error message to include ${JSON.stringify(msgIncludes)}, but got ${
        JSON.stringify(thrown.message)
      }`,
    );
  }
};

/** The arguments after the function, of either overload. */
const wanted = (
  first: string | ErrorClass<Error> | undefined,
  msgIncludes: string | undefined,
  msg: string | undefined,
) =>
  typeof first === "function"
    ? { kind: first, msgIncludes, msg }
    : { kind: undefined, msgIncludes: undefined, msg: first };

/** Fails unless a function throws; returns what it throws. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
/** Fails unless a function throws an error of a class whose message includes a text; returns it. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  first?: string | ErrorClass<Error>,
  includes?: string,
  last?: string,
): unknown {
  const { kind, msgIncludes, msg } = wanted(first, includes, last);
  try {
    fn();
  } catch (thrown) {
    if (kind !== undefined) mustBe(thrown, "thrown", kind, msgIncludes, msg);
    return thrown;
  }
  throw new AssertionError(sentence("Expected function to throw", msg));
}

/** Fails unless the promise that a function returns is rejected; resolves to the reason. */
export function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
/** Fails unless it is rejected with an error of a class whose message includes a text. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: ErrorClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  first?: string | ErrorClass<Error>,
  includes?: string,
  last?: string,
): Promise<unknown> {
  const { kind, msgIncludes, msg } = wanted(first, includes, last);
  let isPromised = false;
  try {
    const promise = fn();
    isPromised = isObject(promise) && typeof promise.then === "function";
    if (isPromised) await promise;
  } catch (thrown) {
    if (!isPromised) {
      throw new AssertionError(sentence("Function throws when expected to reject", msg), {
        cause: thrown,
      });
    }
    if (kind !== undefined) mustBe(thrown, "rejected", kind, msgIncludes, msg);
    return thrown;
  }
  throw new AssertionError(
    sentence(
      isPromised
        ? "Expected function to reject"
        : "Expected function to reject, but it returned no promise",
      msg,
    ),
  );
}

/**
 * Two numbers are equal within a tolerance, by default a hundred thousandth of a per cent of `expected`;
 * infinities and NaN are equal to themselves.
 */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance?: number,
  msg?: string,
): void {
  if (Object.is(actual, expected)) return;
  const delta = Math.abs(expected - actual);
  const most = tolerance ?? (Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7);
  if (delta <= most) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to be close to "${expected}": delta "${delta}" is greater than "${most}"${
      msg === undefined ? "." : `: ${msg}`
    }`,
  );
}
