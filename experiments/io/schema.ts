// Codecs for documents that people write: io-ts types whose name is the text after "expected" in messages,
// and objects in which an unknown field is an error that suggests the nearest known name. Each codec has a
// JSON Schema, so that editors know a document's fields too.
import * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import { isObject } from "../../backends/runtime/json.ts";

/** One mistake in a document. `path` is the field's, e.g. `encoder.depth`; empty for the document. */
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
    /** The most similar known name here, or the path of one inside a field here. */
    readonly nearest?: string;
    readonly known: readonly string[];
    /** The variants that have such a field, by the value of `tag`, and its value here. */
    readonly variants?: {
      readonly tag: string;
      readonly having: readonly string[];
      readonly here: string;
    };
  };

/** A JSON Schema (draft 2020-12). */
export interface Schema {
  readonly description?: string;
  readonly type?: "object" | "array" | "string" | "number" | "integer";
  readonly const?: string | number;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly exclusiveMaximum?: number;
  readonly multipleOf?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: false;
}

/** The schema of a codec of this file; the empty schema for others. */
export const schemaOf = (codec: t.Any): Schema => "schema" in codec ? codec.schema as Schema : {};

/** The codecs of an object's fields, for a codec made by `fields`. */
export const fieldsOf = (codec: t.Any): Readonly<Record<string, t.Any>> =>
  "props" in codec ? codec.props as Readonly<Record<string, t.Any>> : {};

/** The objects that a codec of `tagged` takes, and the field that selects one. */
export interface Variants {
  readonly tag: string;
  readonly variants: Readonly<Record<string, t.Any>>;
}

/** The variants of a codec made by `tagged`, also if it is optional. */
export const variantsOf = (codec: t.Any): Variants | undefined =>
  "variants" in codec && "tag" in codec
    ? { tag: codec.tag as Variants["tag"], variants: codec.variants as Variants["variants"] }
    : undefined;

/**
 * The fields of variant `to` that all variants in `from` have with the same codec, so that their values
 * can be kept when the variant changes.
 */
export const fieldsInCommon = (
  { variants }: Variants,
  to: string,
  from: readonly string[],
): readonly string[] =>
  Object.entries(fieldsOf(variants[to]))
    .filter(([key, codec]) => from.every((name) => fieldsOf(variants[name])[key] === codec))
    .map(([key]) => key);

/** A codec with its own schema. */
export const withSchema = <A>(codec: t.Type<A>, schema: Schema): t.Type<A> =>
  Object.assign(codec, { schema });

const typeOf = <A>(expected: string, is: (u: unknown) => u is A, schema: Schema): t.Type<A> =>
  withSchema(
    new t.Type<A>(
      expected,
      is,
      (u, c) => is(u) ? t.success(u) : t.failure(u, c),
      t.identity,
    ),
    schema,
  );

/** A finite number for which `holds`; `expected` describes it in words. */
export const numberThat = (
  expected: string,
  holds: (n: number) => boolean,
  schema: Schema = { type: "number" },
): t.Type<number> =>
  typeOf(
    expected,
    (u): u is number => typeof u === "number" && Number.isFinite(u) && holds(u),
    schema,
  );
/** A whole number of at least `least`. */
export const wholeFrom = (least: number): t.Type<number> =>
  numberThat(
    `a whole number of at least ${least}`,
    (n) => Number.isSafeInteger(n) && n >= least,
    { type: "integer", minimum: least },
  );
/** A positive multiple of `step`. */
export const multipleOf = (step: number): t.Type<number> =>
  numberThat(`a positive multiple of ${step}`, (n) => n > 0 && n % step === 0, {
    type: "integer",
    minimum: step,
    multipleOf: step,
  });
/** A number above 0. */
export const above0: t.Type<number> = numberThat("a number above 0", (n) => n > 0, {
  type: "number",
  exclusiveMinimum: 0,
});
/** A number of at least 0. */
export const from0: t.Type<number> = numberThat("a number of at least 0", (n) => n >= 0, {
  type: "number",
  minimum: 0,
});
/** A number from 0 to below 1. */
export const from0below1: t.Type<number> = numberThat(
  "a number from 0 to below 1",
  (n) => n >= 0 && n < 1,
  { type: "number", minimum: 0, exclusiveMaximum: 1 },
);
/** A number from 0 to 1. */
export const from0to1: t.Type<number> = numberThat(
  "a number from 0 to 1",
  (n) => n >= 0 && n <= 1,
  { type: "number", minimum: 0, maximum: 1 },
);
/** A number between 0 and 1, both excluded. */
export const between0and1: t.Type<number> = numberThat(
  "a number between 0 and 1",
  (n) => n > 0 && n < 1,
  { type: "number", exclusiveMinimum: 0, exclusiveMaximum: 1 },
);

/** A string that matches the pattern; `expected` describes it in words. */
export const textThat = (expected: string, pattern: RegExp): t.Type<string> =>
  typeOf(expected, (u): u is string => typeof u === "string" && pattern.test(u), {
    type: "string",
    pattern: pattern.source,
  });

/** One of the given strings. */
export const oneOf = <T extends string>(...texts: readonly T[]): t.Type<T> => {
  const quoted = texts.map((text) => `"${text}"`);
  const name = [quoted.slice(0, -1).join(", "), quoted.at(-1)].filter((part) => part !== "").join(
    " or ",
  );
  return typeOf(
    name,
    (u): u is T => texts.some((text) => text === u),
    texts.length === 1 ? { const: texts[0] } : { enum: texts },
  );
};

/** A list; `expected` describes its items in words. */
export const listOf = <A>(codec: t.Type<A>, expected: string): t.Type<readonly A[]> =>
  withSchema(t.readonlyArray(codec, expected), { type: "array", items: schemaOf(codec) });

// ---------------------------------------------------------------- objects

// The codec in an error's context for an unknown field.
interface NoField extends t.Type<never>, Pick<UnknownField, "nearest" | "known" | "variants"> {}
type UnknownField = Extract<FieldError, { readonly _tag: "UnknownField" }>;
const noField = (
  known: readonly string[],
  nearest?: string,
  variants?: UnknownField["variants"],
): NoField =>
  Object.assign(
    new t.Type<never>(
      "no such field",
      (_u): _u is never => false,
      (u, c) => t.failure(u, c),
      t.identity,
    ),
    { known, nearest, variants },
  );

/** The decoded form of a record with optional fields: absent ones are undefined. */
export type Decoded<A> = { readonly [K in keyof Required<A>]: A[K] };

/** A description of each field of an object, a sentence or two. */
export type Docs<A> = { readonly [K in keyof A]-?: string };

/**
 * An object with exactly these fields; the decoded object has them in this order. A misspelt field is one
 * mistake, not a missing and an unknown field. `docs` become descriptions in the schema.
 */
export const fields = <A>(
  props: { readonly [K in keyof A]: t.Type<A[K]> },
  docs?: Docs<A>,
): t.Type<A> => {
  const known = Object.keys(props);
  const codecs = props as Readonly<Record<string, t.Type<unknown>>>;
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
        context: t.appendContext(
          c,
          field.key,
          noField(known, field.nearest ?? fieldInside(field.key, codecs)),
          u[field.key],
        ),
      })),
    ];
    if (errors.length > 0) return t.failures(errors);
    const values = reads.flatMap(({ key, read }) =>
      E.isRight(read) && read.right !== undefined ? [[key, read.right] as const] : []
    );
    return t.success(Object.fromEntries(values) as A);
  };
  const described = (key: string): Schema => {
    const description = (docs as Readonly<Record<string, string>> | undefined)?.[key];
    return { ...(description === undefined ? {} : { description }), ...schemaOf(codecs[key]) };
  };
  const codec = withSchema(
    new t.Type(`an object with the fields ${known.join(", ")}`, is, validate, t.identity),
    {
      type: "object",
      properties: Object.fromEntries(known.map((key) => [key, described(key)])),
      required: known.filter((key) => !codecs[key].is(undefined)),
      additionalProperties: false,
    },
  );
  return Object.assign(codec, { props });
};

/** A codec of an optional field. */
export const optional = <A>(codec: t.Type<A>): t.Type<A | undefined> =>
  Object.assign(
    withSchema(
      new t.Type<A | undefined>(
        codec.name,
        (u): u is A | undefined => u === undefined || codec.is(u),
        (u, c) => u === undefined ? t.success(undefined) : codec.validate(u, c),
        t.identity,
      ),
      schemaOf(codec),
    ),
    variantsOf(codec) ?? {},
  );

/** One of several objects, selected by the text in the field `tag`. */
export const tagged = <V extends Readonly<Record<string, t.Any>>>(
  tag: string,
  variants: V,
): t.Type<t.TypeOf<V[keyof V]>> => {
  type A = t.TypeOf<V[keyof V]>;
  const names = oneOf(...Object.keys(variants));
  const nameOf = (u: unknown): string | undefined => {
    const name = t.UnknownRecord.is(u) ? u[tag] : undefined;
    return names.is(name) ? name : undefined;
  };
  const of = (u: unknown): t.Type<A> | undefined => {
    const name = nameOf(u);
    return name === undefined ? undefined : variants[name];
  };
  /** For an unknown field, whether other variants have it. */
  const ofOthers = (u: unknown, depth: number) => (error: t.ValidationError): t.ValidationError => {
    const { key, type, actual } = error.context[error.context.length - 1];
    if (error.context.length !== depth + 1 || !("known" in type)) return error;
    const having = Object.keys(variants)
      .filter((name) => Object.hasOwn(schemaOf(variants[name]).properties ?? {}, key));
    if (having.length === 0) return error;
    const other = noField((type as NoField).known, undefined, { tag, having, here: nameOf(u)! });
    return { ...error, context: t.appendContext(error.context.slice(0, -1), key, other, actual) };
  };
  const codec = withSchema(
    new t.Type<A>(
      `an object with the field ${tag}: ${names.name}`,
      (u): u is A => of(u)?.is(u) ?? false,
      (u, c) => {
        const codec = of(u);
        if (codec !== undefined) {
          return E.mapLeft((errors: t.Errors) => errors.map(ofOthers(u, c.length)))(
            codec.validate(u, c),
          );
        }
        if (!t.UnknownRecord.is(u) || Array.isArray(u)) return t.failure(u, c);
        return t.failures([{ value: u[tag], context: t.appendContext(c, tag, names, u[tag]) }]);
      },
      t.identity,
    ),
    { anyOf: [...new Set(Object.values(variants))].map(schemaOf) },
  );
  return Object.assign(codec, { tag, variants });
};

/** An io-ts error of these codecs as a `FieldError`. */
export function fieldError(error: t.ValidationError): FieldError {
  const path = error.context.map((entry) => entry.key).filter((key) => key !== "").join(".");
  const { type, actual } = error.context[error.context.length - 1];
  if ("known" in type) {
    const { known, nearest, variants } = type as NoField;
    return {
      _tag: "UnknownField",
      path,
      known,
      ...(nearest === undefined ? {} : { nearest }),
      ...(variants === undefined ? {} : { variants }),
    };
  }
  return actual === undefined
    ? { _tag: "MissingField", path, expected: type.name }
    : { _tag: "WrongValue", path, expected: type.name, found: shown(actual) };
}

// A value as JSON, truncated if long.
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
      if (error.variants !== undefined) {
        const { tag, having, here } = error.variants;
        return `${at}a field only where ${tag} is ${having.join(" or ")}, and it is ${here}; ` +
          `the fields here are ${error.known.join(", ")}`;
      }
      return error.nearest === undefined
        ? `${at}unknown field; the fields here are ${error.known.join(", ")}`
        : `${at}unknown field; did you mean '${error.nearest}'?`;
  }
}

const plainName = (name: string): string => name.toLowerCase().replace(/[_-]/g, "");

// Whether one name is a prefix or suffix of the other.
const isPart = (one: string, other: string): boolean => {
  const [short, long] = [plainName(one), plainName(other)].sort((a, b) => a.length - b.length);
  return short === long || short.length >= 4 && (long.startsWith(short) || long.endsWith(short));
};

// The known name most similar to a misspelt one, if any is similar.
function nearest(name: string, names: readonly string[]): string | undefined {
  const best = names
    .map((known) => ({ known, edits: edits(plainName(name), plainName(known)) }))
    .reduce<{ known: string; edits: number } | undefined>(
      (a, b) => a === undefined || b.edits < a.edits ? b : a,
      undefined,
    );
  return best !== undefined && best.edits <= Math.max(1, Math.floor(best.known.length / 3))
    ? best.known
    : names.find((known) => isPart(name, known));
}

// The path of a similar field inside one of the objects here.
function fieldInside(
  name: string,
  codecs: Readonly<Record<string, t.Any>>,
): string | undefined {
  const paths = Object.keys(codecs).flatMap((key) => {
    const schema = schemaOf(codecs[key]);
    return [schema, ...schema.anyOf ?? []]
      .flatMap(({ properties }) => Object.keys(properties ?? {}))
      .map((inner) => ({ inner, path: `${key}.${inner}` }));
  });
  const same = paths.find(({ inner }) => plainName(inner) === plainName(name));
  return (same ?? paths.find(({ inner }) => isPart(name, inner)))?.path;
}

// Edit distance: insertions, deletions, replacements and swaps of neighbours.
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
