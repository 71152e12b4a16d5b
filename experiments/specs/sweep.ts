// Sweeps: one document describes many runs. A sweep is a list of parts; a part's runs are all combinations
// of its dimensions, and the study has all runs of all parts, each made once even if several parts show
// it. This file opens no files; read.ts makes each combination a spec.
import type * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import {
  fieldError,
  fieldErrorText,
  listOf,
  type Schema,
  schemaOf,
  wholeFrom,
} from "../io/schema.ts";
import type { Spec } from "./spec.ts";
import { isObject } from "../../backends/runtime/json.ts";

/** Values of a field, or documents by name that are merged onto the study's. */
export type Dimension =
  | { readonly kind: "values"; readonly path: string; readonly values: readonly unknown[] }
  | {
    readonly kind: "variants";
    readonly name: string;
    readonly variants: readonly (readonly [string, Readonly<Record<string, unknown>>])[];
  };

/** A part of a study: the content of one table and one plot. */
export interface Part {
  readonly title: string;
  readonly dimensions: readonly Dimension[];
}

/** The fields of a study that a spec does not have. */
export interface StudyFields {
  readonly sweep: readonly Part[];
  /** Lengths in patches at which time and memory of the first part's encoders are measured. */
  readonly lengths: readonly number[];
}

/** One change of the study's document for a run. */
export type Change =
  | { readonly kind: "value"; readonly path: readonly string[]; readonly value: unknown }
  | { readonly kind: "variant"; readonly fields: Readonly<Record<string, unknown>> };

/** A run, identified by its part and its values of the dimensions. */
export interface Combination {
  readonly part: number;
  /** `mamba_depth-4_seed-1`. */
  readonly name: string;
  /** `mamba, depth 4`: runs that differ only in their seeds have the same label and share a row. */
  readonly label: string;
  /** Replaces the spec that the study extends. */
  readonly extended?: string;
  readonly changes: readonly Change[];
}

/** A row of a part's table: runs that differ only in their seeds. */
export interface StudyRow {
  readonly label: string;
  /** Names of runs. */
  readonly runs: readonly string[];
}

/** Many runs, and how to compare them. */
export interface Study {
  readonly name: string;
  /** Each with a unique name, which is also its folder within the study's. */
  readonly runs: readonly Spec[];
  readonly parts: readonly { readonly title: string; readonly rows: readonly StudyRow[] }[];
  readonly lengths: readonly number[];
}

const tokens: t.Type<readonly number[]> = listOf(wholeFrom(1), "a list of numbers of patches");

/** The JSON Schema of `sweep` and `lengths`. */
export const studySchema: Readonly<Record<keyof StudyFields, Schema>> = {
  sweep: {
    description: "Makes the document a study of many runs: a list of parts. A part gives fields " +
      "(`encoder.depth`) lists of values, or names of its own documents by name that are laid " +
      "over this one; its runs are all combinations. `extends` with a list runs over specs. " +
      "`title` heads the part's table.",
    type: "array",
    minItems: 1,
    items: { type: "object" },
  },
  lengths: {
    description: "Numbers of patches at which a study measures the time and memory of the " +
      "encoders of its first part. Without it none is measured.",
    ...schemaOf(tokens),
  },
};

/** The sweep and lengths of a study's document; on the left, everything that is wrong with them. */
export const decodeStudyFields = (document: unknown): E.Either<readonly string[], StudyFields> => {
  const { sweep, lengths = [] } = document as { sweep: unknown; lengths?: unknown };
  const read = tokens.decode(lengths);
  const wrong = E.isLeft(read)
    ? read.left.map((error) => `lengths: ${fieldErrorText(fieldError(error))}`)
    : [];
  if (!Array.isArray(sweep) || sweep.length === 0) {
    return E.left([
      ...wrong,
      `sweep: expected a list of parts, such as [{ "seed": [0, 1, 2] }], found ${shown(sweep)}`,
    ]);
  }
  const parts = sweep.map((part, k) => decodePart(part, `sweep.${k}`));
  const problems = [...wrong, ...parts.flatMap((part) => E.isLeft(part) ? part.left : [])];
  return problems.length > 0 || E.isLeft(read) ? E.left(problems) : E.right({
    sweep: parts.flatMap((part) => E.isRight(part) ? [part.right] : []),
    lengths: read.right,
  });
};

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
};

const decodePart = (part: unknown, at: string): E.Either<readonly string[], Part> => {
  if (!isObject(part)) {
    return E.left([
      `${at}: expected an object of fields with lists of values, found ${shown(part)}`,
    ]);
  }
  const { title, ...rest } = part;
  const problems: string[] = [];
  if (title !== undefined && typeof title !== "string") {
    problems.push(`${at}.title: expected text, found ${shown(title)}`);
  }
  const entries = Object.entries(rest);
  if (entries.length === 0) {
    problems.push(`${at}: expected a field with a list of values, such as "seed": [0, 1]`);
  }
  const dimensions = entries.flatMap(([key, value]): readonly Dimension[] => {
    const wrong = dimensionProblem(key, value);
    if (wrong !== undefined) problems.push(`${at}.${key}: ${wrong}`);
    else if (Array.isArray(value)) return [{ kind: "values", path: key, values: value }];
    else if (isObject(value)) {
      const variants = Object.entries(value) as [string, Readonly<Record<string, unknown>>][];
      return [{ kind: "variants", name: key, variants }];
    }
    return [];
  });
  return problems.length > 0 ? E.left(problems) : E.right({
    title: `${title ?? entries.map(([key]) => lastOf(key)).join(" × ")}`,
    dimensions,
  });
};

const dimensionProblem = (key: string, value: unknown): string | undefined => {
  if (Array.isArray(value)) {
    const odd = value.find((one) => isObject(one) || Array.isArray(one) || one === null);
    return value.length === 0
      ? "expected at least one value"
      : odd !== undefined
      ? `${shown(odd)} gives a run no readable name; give such values names, as in ` +
        `"${lastOf(key)}": { "NAME": { ${JSON.stringify(key)}: ... } }`
      : key === "extends" && value.some((one) => typeof one !== "string")
      ? "expected names or paths of specs"
      : new Set(value.map(valueText)).size < value.length
      ? "two values have the same name"
      : undefined;
  }
  if (!isObject(value)) {
    return `expected a list of values, or documents by name, found ${shown(value)}`;
  }
  const entries = Object.entries(value);
  const odd = entries.find(([, fields]) => !isObject(fields));
  const extending = entries.find(([, fields]) => isObject(fields) && "extends" in fields);
  return entries.length === 0
    ? "expected at least one document by name"
    : odd !== undefined
    ? `${odd[0]}: expected an object of fields, found ${shown(odd[1])}`
    : extending !== undefined
    ? `${extending[0]}: 'extends' can not stand here; give the part "extends": [...] instead`
    : undefined;
};

const lastOf = (path: string): string => path.split(".").at(-1)!;

/** A value as part of a run's name: of a path only the file's name. */
const valueText = (value: unknown): string =>
  `${value}`.replace(/^.*[/\\]/, "").replace(/\.json$/, "").replace(/[^A-Za-z0-9.-]+/g, "-");

interface Choice {
  readonly key: string;
  /** As part of a run's name, and in a table. */
  readonly text: string;
  readonly label: string;
  readonly extended?: string;
  readonly change?: Change;
}

const choices = (of: Dimension): readonly Choice[] => {
  if (of.kind === "variants") {
    return of.variants.map(([name, fields]) => ({
      key: of.name,
      text: `${lastOf(of.name)}-${valueText(name)}`,
      label: `${lastOf(of.name)} ${name}`,
      change: { kind: "variant", fields },
    }));
  }
  return of.values.map((value) => {
    const text = valueText(value);
    return of.path === "extends" ? { key: of.path, text, label: text, extended: `${value}` } : {
      key: of.path,
      text: `${lastOf(of.path)}-${text}`,
      label: `${lastOf(of.path)} ${value}`,
      change: { kind: "value", path: of.path.split("."), value },
    };
  });
};

/** All runs of a sweep, part by part; the last dimension varies fastest. */
export const combinations = ({ sweep }: Pick<StudyFields, "sweep">): readonly Combination[] =>
  sweep.flatMap(({ dimensions }, part) => {
    const all = dimensions.reduce<readonly (readonly Choice[])[]>(
      (lists, of) => lists.flatMap((list) => choices(of).map((choice) => [...list, choice])),
      [[]],
    );
    return all.map((list): Combination => {
      const extended = list.find((choice) => choice.extended !== undefined)?.extended;
      return {
        part,
        name: list.map(({ text }) => text).join("_"),
        label: list.filter(({ key }) => key !== "seed").map(({ label }) => label).join(", "),
        ...(extended === undefined ? {} : { extended }),
        changes: list.flatMap(({ change }) => change === undefined ? [] : [change]),
      };
    });
  });

/**
 * Combinations with their specs as a study: runs that are the same but for their names are one. On the
 * left, which runs cannot be distinguished.
 */
export const studyOf = (
  name: string,
  { sweep, lengths }: StudyFields,
  specs: ReadonlyMap<Combination, Spec>,
): E.Either<string, Study> => {
  const runs = new Map<string, Spec>();
  const rows = sweep.map(() => new Map<string, string[]>());
  for (const [{ part, label }, spec] of specs) {
    const { name: _, ...rest } = spec;
    const content = JSON.stringify(rest);
    const run = runs.get(content) ?? spec;
    runs.set(content, run);
    const row = rows[part].get(label) ?? [];
    if (!row.includes(run.name)) row.push(run.name);
    rows[part].set(label, row);
  }
  const names = [...runs.values()].map(({ name }) => name);
  const twice = names.find((name, k) => names.indexOf(name) < k);
  if (twice !== undefined) {
    return E.left(`two different runs are called ${twice}; rename a document in one of the parts`);
  }
  return E.right({
    name,
    runs: [...runs.values()],
    parts: sweep.map(({ title }, k) => ({
      title,
      rows: [...rows[k]].map(([label, runs]) => ({ label: label === "" ? name : label, runs })),
    })),
    lengths,
  });
};
