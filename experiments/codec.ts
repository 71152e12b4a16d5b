// Codecs for documents that people write: io-ts types whose name is the text that stands after
// "expected", and objects in which an unknown field is a mistake, told with the nearest known name.
import * as t from "io-ts";
import * as E from "fp-ts/Either.js";

/** One mistake in a document. `path` is the field's, e.g. `encoder.depth`; empty at the top. */
export type FieldError =
  | {
    readonly _tag: "WrongValue";
    readonly path: string;
    readonly expected: string;
    readonly found: string;
  }
  | { readonly _tag: "MissingField"; readonly path: string; readonly expected: string }
  | {
    readonly _tag: "UnknownField";
    readonly path: string;
    readonly nearest?: string;
    readonly known: readonly string[];
  };

/** A finite number for which `holds`; `expected` says so in words. */
export const numberThat = (expected: string, holds: (n: number) => boolean): t.Type<number> => {
  const is = (u: unknown): u is number => typeof u === "number" && Number.isFinite(u) && holds(u);
  return new t.Type(expected, is, (u, c) => is(u) ? t.success(u) : t.failure(u, c), t.identity);
};
/** A whole number of at least `least`. */
export const wholeFrom = (least: number): t.Type<number> =>
  numberThat(`a whole number of at least ${least}`, (n) => Number.isSafeInteger(n) && n >= least);
/** A positive multiple of `step`. */
export const multipleOf = (step: number): t.Type<number> =>
  numberThat(`a positive multiple of ${step}`, (n) => n > 0 && n % step === 0);
/** A number above 0. */
export const above0: t.Type<number> = numberThat("a number above 0", (n) => n > 0);
/** A number of at least 0. */
export const from0: t.Type<number> = numberThat("a number of at least 0", (n) => n >= 0);
/** A number from 0 to below 1. */
export const from0below1: t.Type<number> = numberThat(
  "a number from 0 to below 1",
  (n) => n >= 0 && n < 1,
);
/** A number between 0 and 1, both excluded. */
export const between0and1: t.Type<number> = numberThat(
  "a number between 0 and 1",
  (n) => n > 0 && n < 1,
);

/** A text that matches the pattern; `expected` says so in words. */
export const textThat = (expected: string, pattern: RegExp): t.Type<string> => {
  const is = (u: unknown): u is string => typeof u === "string" && pattern.test(u);
  return new t.Type(expected, is, (u, c) => is(u) ? t.success(u) : t.failure(u, c), t.identity);
};

/** One of the given texts. */
export const oneOf = <T extends string>(...texts: readonly T[]): t.Type<T> => {
  const is = (u: unknown): u is T => texts.some((text) => text === u);
  const quoted = texts.map((text) => `"${text}"`);
  const name = [quoted.slice(0, -1).join(", "), quoted.at(-1)].filter((part) => part !== "").join(
    " or ",
  );
  return new t.Type(name, is, (u, c) => is(u) ? t.success(u) : t.failure(u, c), t.identity);
};

// ---------------------------------------------------------------- objects

// The codec that stands in an error's context where a field is not known.
interface NoField extends t.Type<never> {
  readonly nearest?: string;
  readonly known: readonly string[];
}
const noField = (known: readonly string[], nearest?: string): NoField =>
  Object.assign(
    new t.Type<never>(
      "no such field",
      (_u): _u is never => false,
      (u, c) => t.failure(u, c),
      t.identity,
    ),
    { known, nearest },
  );

/**
 * An object with exactly these fields; the decoded one has them in this order. A misspelt field is
 * one mistake, not a missing field and an unknown one.
 */
export const fields = <A>(props: { readonly [K in keyof A]: t.Type<A[K]> }): t.Type<A> => {
  const known = Object.keys(props);
  const codecs = props as Readonly<Record<string, t.Type<unknown>>>;
  const isObject = (u: unknown): u is Readonly<Record<string, unknown>> =>
    typeof u === "object" && u !== null && !Array.isArray(u);
  const is = (u: unknown): u is A =>
    isObject(u) && known.every((key) => codecs[key].is(u[key])) &&
    Object.keys(u).every((key) => known.includes(key));
  const validate: t.Validate<unknown, A> = (u, c) => {
    if (!isObject(u)) return t.failure(u, c);
    const missing = known.filter((key) => !Object.hasOwn(u, key) && !codecs[key].is(undefined));
    const strange = Object.keys(u).filter((key) => !known.includes(key))
      .map((key) => ({ key, nearest: nearest(key, missing) ?? nearest(key, known) }));
    const misspelt = strange.map((field) => field.nearest);
    const reads = known
      .filter((key) => !misspelt.includes(key) || Object.hasOwn(u, key))
      .map((key) => ({
        key,
        read: codecs[key].validate(u[key], t.appendContext(c, key, codecs[key], u[key])),
      }));
    const errors = [
      ...reads.flatMap(({ read }) => E.isLeft(read) ? read.left : []),
      ...strange.map((field) => ({
        value: u[field.key],
        context: t.appendContext(c, field.key, noField(known, field.nearest), u[field.key]),
      })),
    ];
    if (errors.length > 0) return t.failures(errors);
    const values = reads.flatMap(({ key, read }) =>
      E.isRight(read) && read.right !== undefined ? [[key, read.right] as const] : []
    );
    return t.success(Object.fromEntries(values) as A);
  };
  return new t.Type(`an object with the fields ${known.join(", ")}`, is, validate, t.identity);
};

/** A codec that a field may also be without. */
export const optional = <A>(codec: t.Type<A>): t.Type<A | undefined> =>
  new t.Type(
    codec.name,
    (u): u is A | undefined => u === undefined || codec.is(u),
    (u, c) => u === undefined ? t.success(undefined) : codec.validate(u, c),
    t.identity,
  );

/** One of several objects, told apart by the text in the field `tag`. */
export const tagged = <V extends Readonly<Record<string, t.Any>>>(
  tag: string,
  variants: V,
): t.Type<t.TypeOf<V[keyof V]>> => {
  type A = t.TypeOf<V[keyof V]>;
  const names = oneOf(...Object.keys(variants));
  const of = (u: unknown): t.Type<A> | undefined => {
    const name = t.UnknownRecord.is(u) ? u[tag] : undefined;
    return names.is(name) ? variants[name] : undefined;
  };
  return new t.Type<A>(
    `an object with the field ${tag}: ${names.name}`,
    (u): u is A => of(u)?.is(u) ?? false,
    (u, c) => {
      const codec = of(u);
      if (codec !== undefined) return codec.validate(u, c);
      if (!t.UnknownRecord.is(u) || Array.isArray(u)) return t.failure(u, c);
      return t.failures([{ value: u[tag], context: t.appendContext(c, tag, names, u[tag]) }]);
    },
    t.identity,
  );
};

/** An io-ts error of these codecs as a `FieldError`. */
export function fieldError(error: t.ValidationError): FieldError {
  const path = error.context.map((entry) => entry.key).filter((key) => key !== "").join(".");
  const { type, actual } = error.context[error.context.length - 1];
  if ("known" in type) {
    const { known, nearest } = type as NoField;
    return { _tag: "UnknownField", path, known, ...(nearest === undefined ? {} : { nearest }) };
  }
  return actual === undefined
    ? { _tag: "MissingField", path, expected: type.name }
    : { _tag: "WrongValue", path, expected: type.name, found: shown(actual) };
}

// A value as JSON, cut where it would fill the line.
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

/** One mistake as one line: `encoder.depth: expected a whole number of at least 1, found 0`. */
export function fieldErrorText(error: FieldError): string {
  const at = error.path === "" ? "" : `${error.path}: `;
  switch (error._tag) {
    case "WrongValue":
      return `${at}expected ${error.expected}, found ${error.found}`;
    case "MissingField":
      return `${at}missing; expected ${error.expected}`;
    case "UnknownField":
      return error.nearest === undefined
        ? `${at}unknown field; the fields here are ${error.known.join(", ")}`
        : `${at}unknown field; did you mean '${error.nearest}'?`;
  }
}

// The name that a misspelt one most likely stands for, if any is near.
function nearest(name: string, names: readonly string[]): string | undefined {
  const best = names
    .map((known) => ({ known, edits: edits(name.toLowerCase(), known.toLowerCase()) }))
    .reduce<{ known: string; edits: number } | undefined>(
      (a, b) => a === undefined || b.edits < a.edits ? b : a,
      undefined,
    );
  return best !== undefined && best.edits <= Math.max(1, Math.floor(best.known.length / 3))
    ? best.known
    : undefined;
}

// Least number of insertions, deletions, replacements and swaps of neighbours from a to b.
function edits(a: string, b: string): number {
  let older: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
        ? older[j - 2] + 1
        : Infinity;
      row.push(Math.min(replaced, swapped, above[j] + 1, row[j - 1] + 1));
    }
    older = above;
    above = row;
  }
  return above[b.length];
}
