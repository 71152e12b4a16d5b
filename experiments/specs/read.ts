// Reads a spec by name or from a file, merged onto the spec that it extends, with fields changed on the
// command line. The merged document is decoded, and saved with the run. A document with a sweep is a
// study, and gives the specs of all its runs.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { pathToFileURL } from "node:url";
import { loadEncoder, type ModuleError, moduleErrorText } from "../encoders/user_module.ts";
import { isObject, type JsonError, parseJson } from "../../backends/runtime/json.ts";
import { fieldsInCommon, fieldsOf, variantsOf } from "../io/schema.ts";
import { specFields } from "./fields.ts";
import type { Spec, SpecError } from "./spec.ts";
import { decodeSpec, specErrorText } from "./decode.ts";
import {
  type Combination,
  combinations,
  decodeStudyFields,
  type Study,
  type StudyFields,
  studyOf,
} from "./sweep.ts";
import { reasonOf } from "../io/reason.ts";

/** Why a spec could not be read. */
export type SpecReadError =
  | {
    readonly _tag: "NoSuchSpec";
    readonly asked: string;
    readonly known: readonly string[];
    /** The spec that extends it, if any. */
    readonly by?: string;
  }
  | { readonly _tag: "SpecUnreadable"; readonly path: string; readonly reason: string }
  | { readonly _tag: "SpecNotJson"; readonly path: string; readonly at: JsonError }
  | { readonly _tag: "SpecExtends"; readonly path: string; readonly problem: string }
  | { readonly _tag: "BadChange"; readonly change: string; readonly problem: string }
  | { readonly _tag: "SpecModule"; readonly path: string; readonly error: ModuleError }
  | { readonly _tag: "SpecSweep"; readonly path: string; readonly problems: readonly string[] }
  | { readonly _tag: "SpecIsStudy"; readonly path: string }
  | {
    readonly _tag: "SpecInvalid";
    readonly path: string;
    readonly errors: readonly SpecError[];
  };

type Json = Readonly<Record<string, unknown>>;

const folder = new URL("./presets/", import.meta.url);

/** The studies that come with Formant: the presets with a sweep. */
export const studyNames: readonly string[] = ["compare", "paper"];

const families = ["mamba", "transformer", "xlstm"];
const sizes = ["base", "huge", "large", "medium", "small", "tiny"];

// A published package is read over the network, where folders cannot be listed.
const published: readonly string[] = families
  .flatMap((family) => [family, ...sizes.map((size) => `${family}-${size}`)]);

/** The names that `readSpec` accepts: the presets without a sweep, sorted. */
export function specNames(): readonly string[] {
  if (folder.protocol !== "file:") return published;
  return [...Deno.readDirSync(folder)].map((entry) => entry.name)
    .filter((name) => name.endsWith(".json"))
    .map((name) => name.slice(0, -".json".length))
    .filter((name) => !studyNames.includes(name))
    .sort();
}

/** The same for messages, with specs that run in minutes on a CPU first. */
export const specNamesText = (): string => {
  const names = specNames();
  const small = names.filter((name) => !name.includes("-"));
  const others = names.length - small.length;
  return `${small.join(", ")}, or one of ${others} published sizes such as mamba-tiny`;
};

/** The location of a spec and its name in errors. */
interface Place {
  readonly place: string | URL;
  readonly shown: string;
}

/** In a file, `extends` is relative to the file. */
const placeOf = (nameOrPath: string, from?: Place): Place | undefined => {
  const isPath = /[/\\]|\.json$/.test(nameOrPath);
  if (!isPath) {
    if (![...studyNames, ...specNames()].includes(nameOrPath)) return undefined;
    const shown = `experiments/specs/presets/${nameOrPath}.json`;
    return { place: new URL(`${nameOrPath}.json`, folder), shown };
  }
  if (from === undefined || nameOrPath.startsWith("/")) {
    return { place: nameOrPath, shown: nameOrPath };
  }
  if (typeof from.place !== "string") {
    return { place: new URL(nameOrPath, from.place), shown: nameOrPath };
  }
  const beside = from.place.replace(/[^/\\]*$/, "");
  return { place: `${beside}${nameOrPath}`, shown: `${beside}${nameOrPath}` };
};

const codecs = fieldsOf(specFields);
/** Fields whose value selects a variant, and so the other fields of the object. */
const tags = new Set(Object.values(codecs).flatMap((codec) => variantsOf(codec)?.tag ?? []));

/** Mutually exclusive fields: setting one removes the other. */
const alternatives = ["peakLearningRate", "baseLearningRate"];

const ousted = (key: string, by: Json): boolean =>
  alternatives.includes(key) && !(key in by) && alternatives.some((other) => other in by);

/** Merges `over` onto `under`: objects field by field; other values and other variants replace. */
const merged = (under: unknown, over: unknown): unknown => {
  if (!isObject(under) || !isObject(over)) return over;
  if ([...tags].some((tag) => tag in under && tag in over && under[tag] !== over[tag])) {
    if (over.family !== "module") return over;
    const shell = Object.entries(under).filter(([key]) => shellFields.includes(key));
    return { ...Object.fromEntries(shell), ...over };
  }
  const kept = Object.keys(under).filter((key) => !ousted(key, over));
  const keys = new Set([...kept, ...Object.keys(over)]);
  return Object.fromEntries(
    [...keys].map((key) => [
      key,
      !(key in over) ? under[key] : key in under ? merged(under[key], over[key]) : over[key],
    ]),
  );
};

/** Maximum length of a chain of `extends`. */
const deepest = 8;

/** For an encoder from a module: makes its path absolute and adds the `family`. */
const located = (json: Json, { place }: Place): Json => {
  const { encoder } = json;
  if (!isObject(encoder) || typeof encoder.module !== "string") return json;
  const file = typeof place === "string" ? pathToFileURL(place) : place;
  const module = new URL(encoder.module, file);
  return {
    ...json,
    encoder: {
      family: "module",
      ...encoder,
      module: module.protocol === "file:" ? decodeURIComponent(module.pathname) : module.href,
    },
  };
};

/** Options of all encoders, which a module inherits from the extended spec. */
const shellFields = fieldsInCommon(
  variantsOf(codecs.encoder)!,
  "module",
  Object.keys(variantsOf(codecs.encoder)!.variants),
);

/** One document of a chain of `extends`, and its location. */
interface Layer {
  readonly json: unknown;
  readonly at: Place;
}

/** A document and all that it extends, the base first. */
const readLayers = async (
  nameOrPath: string,
  below: readonly Place[],
): Promise<E.Either<SpecReadError, readonly Layer[]>> => {
  const from = below.at(-1);
  const noSuch = E.left<SpecReadError>({
    _tag: "NoSuchSpec",
    ...(from === undefined ? {} : { by: from.shown }),
    asked: nameOrPath,
    known: [...specNames(), ...studyNames],
  });
  const at = placeOf(nameOrPath, from);
  if (at === undefined) return noSuch;
  const refused = (problem: string): E.Either<SpecReadError, never> =>
    E.left({ _tag: "SpecExtends", path: from!.shown, problem });
  if (below.some(({ place }) => `${place}` === `${at.place}`)) {
    return refused(
      at.shown === from!.shown
        ? "it extends itself"
        : `it extends ${at.shown}, which extends it in turn`,
    );
  }
  if (below.length > deepest) return refused(`more than ${deepest} specs extend each other`);
  let text: string;
  try {
    text = await readText(at.place);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return noSuch;
    return E.left({ _tag: "SpecUnreadable", path: at.shown, reason: reasonOf(error) });
  }
  const json = parseJson(text);
  if (E.isLeft(json)) return E.left({ _tag: "SpecNotJson", path: at.shown, at: json.left });
  if (!isObject(json.right)) return E.right([{ json: json.right, at }]);
  // `$schema` is for editors only.
  const { $schema: _, extends: base, ...rest } = json.right;
  const own: Layer = { json: located(rest, at), at };
  if (!("extends" in json.right)) return E.right([own]);
  if (typeof base !== "string") {
    return E.left({
      _tag: "SpecExtends",
      path: at.shown,
      problem: `'extends' is ${JSON.stringify(base)}, not the name or path of a spec`,
    });
  }
  const under = await readLayers(base, [...below, at]);
  return E.isLeft(under) ? under : E.right([...under.right, own]);
};

const mergedLayers = (layers: readonly Layer[]): unknown =>
  layers.map(({ json }) => json).reduce(merged);

/** The fields of an object that are kept when its tag becomes `to`; undefined for an unknown variant. */
const staying = (name: string, from: Json, to: unknown): readonly string[] | undefined => {
  const found = Object.hasOwn(codecs, name) ? variantsOf(codecs[name]) : undefined;
  if (found === undefined) return undefined;
  const { tag, variants } = found, was = `${from[tag]}`;
  if (!Object.hasOwn(variants, `${to}`) || !Object.hasOwn(variants, was)) return undefined;
  return [tag, ...fieldsInCommon(found, `${to}`, [was])];
};

/** Sets one field: `optimiser.peakLearningRate=0.001`. A value that is not JSON is a string. */
const changedBy = (json: unknown, change: string): E.Either<SpecReadError, unknown> => {
  const bad = (problem: string): E.Either<SpecReadError, never> =>
    E.left({ _tag: "BadChange", change, problem });
  const at = change.indexOf("=");
  if (at < 1) return bad("expected field=value, such as seed=1 or objective.style=mae");
  const text = change.slice(at + 1), parsed = parseJson(text);
  const changed = withField(
    json,
    change.slice(0, at).split("."),
    E.isRight(parsed) ? parsed.right : text,
  );
  return E.isLeft(changed) ? bad(changed.left) : changed;
};

/** Sets a field of a document and adjusts fields that depend on it; on the left, why not. */
const withField = (
  json: unknown,
  path: readonly string[],
  value: unknown,
): E.Either<string, unknown> => {
  const set = (under: unknown, rest: readonly string[], above: string): unknown => {
    if (rest.length === 0) return value;
    // Setting one point of `fidelity: "faithful"` turns it into an object that starts from that preset.
    const object = above === "fidelity" && typeof under === "string" ? { from: under } : under;
    if (!isObject(object)) return undefined;
    const [key, ...more] = rest;
    const inner = set(object[key], more, key);
    const kept = tags.has(key) && more.length === 0 ? staying(above, object, value) : undefined;
    const others = Object.entries(object).filter(([name]) =>
      (kept === undefined || kept.includes(name)) && !ousted(name, { [key]: inner })
    );
    return { ...Object.fromEntries(others), [key]: inner };
  };
  const parents = path.slice(0, -1);
  let inside: unknown = json;
  for (const [k, key] of parents.entries()) {
    inside = isObject(inside) ? inside[key] : undefined;
    if (!isObject(inside) && !(k === 0 && key === "fidelity")) {
      return E.left(`'${parents.slice(0, k + 1).join(".")}' has no fields`);
    }
  }
  return E.right(set(json, path, ""));
};

/** An experiment: one run, or a study of several. */
export type Experiment =
  | { readonly kind: "run"; readonly spec: Spec }
  | { readonly kind: "study"; readonly study: Study };

/**
 * Reads an experiment: a spec from `specNames()`, a study from `studyNames` or, if the argument contains a
 * slash or ends in `.json`, either from a file. `changes` are new values of fields, `path=value`, applied
 * last, in every run of a study. Lazy: nothing is read before the task is started.
 */
export function readExperiment(
  nameOrPath: string,
  changes: readonly string[] = [],
): TaskEither<SpecReadError, Experiment> {
  return async () => {
    const layers = await readLayers(nameOrPath, []);
    if (E.isLeft(layers)) return layers;
    const { shown } = placeOf(nameOrPath)!;
    const at = layers.right.findLastIndex(({ json }) => isObject(json) && "sweep" in json);
    if (at < 0) {
      const spec = await completed(shown, mergedLayers(layers.right), changes);
      return E.map((spec: Spec): Experiment => ({ kind: "run", spec }))(spec);
    }
    const wrong = (problems: readonly string[]): E.Either<SpecReadError, never> =>
      E.left({ _tag: "SpecSweep", path: shown, problems });
    const fields = decodeStudyFields(mergedLayers(layers.right));
    if (E.isLeft(fields)) return wrong(fields.left);
    const plain = layers.right.map(({ json, at }): Layer => ({ json: withoutStudy(json), at }));
    const { name } = mergedLayers(plain) as { readonly name?: unknown };
    const specs = new Map<Combination, Spec>();
    const failed: { readonly name: string; readonly error: SpecReadError }[] = [];
    for (const combination of combinations(fields.right)) {
      const { name } = combination;
      const json = await combined(plain, at, combination);
      const spec = E.isLeft(json) ? json : await completed(
        shown,
        isObject(json.right) ? { ...json.right, name } : json.right,
        changes,
      );
      if (E.isRight(spec)) specs.set(combination, spec.right);
      else failed.push({ name, error: spec.left });
    }
    if (failed.length > 0) {
      // Most runs share their mistakes, so the first one's are shown.
      const [{ name, error }, ...others] = failed;
      const path = `${shown}, run ${name}${others.length > 0 ? ` and ${others.length} more` : ""},`;
      return E.left(
        error._tag === "SpecInvalid" || error._tag === "SpecModule" ? { ...error, path } : error,
      );
    }
    const study = studyOf(`${name}`, fields.right, specs);
    return E.isLeft(study) ? wrong([study.left]) : E.right({ kind: "study", study: study.right });
  };
}

/** Reads a spec like `readExperiment`; a study is an error. */
export function readSpec(
  nameOrPath: string,
  changes: readonly string[] = [],
): TaskEither<SpecReadError, Spec> {
  return async () => {
    const read = await readExperiment(nameOrPath, changes)();
    if (E.isLeft(read)) return read;
    return read.right.kind === "run"
      ? E.right(read.right.spec)
      : E.left({ _tag: "SpecIsStudy", path: placeOf(nameOrPath)!.shown });
  };
}

const withoutStudy = (json: unknown): unknown => {
  if (!isObject(json)) return json;
  const { sweep: _, lengths: __, ...rest } = json satisfies Partial<
    Record<keyof StudyFields, unknown>
  >;
  return rest;
};

/** The document of one run: the layers, with its own on top of layer `at`, which has the sweep. */
const combined = async (
  layers: readonly Layer[],
  at: number,
  { extended, name, changes }: Combination,
): Promise<E.Either<SpecReadError, unknown>> => {
  const place = layers[at].at;
  // A run may replace the spec that the sweep's document extends.
  const under = extended === undefined
    ? E.right(layers.slice(0, at))
    : await readLayers(extended, [place]);
  if (E.isLeft(under)) return under;
  let json = mergedLayers([...under.right.map(plainLayer), ...layers.slice(at)]);
  for (const change of changes) {
    if (change.kind === "variant") {
      json = merged(json, located(change.fields, place));
      continue;
    }
    const changed = withField(json, change.path, change.value);
    if (E.isLeft(changed)) {
      const problems = [`run ${name}: ${change.path.join(".")}: ${changed.left}`];
      return E.left({ _tag: "SpecSweep", path: place.shown, problems });
    }
    json = changed.right;
  }
  return E.right(json);
};

const plainLayer = ({ json, at }: Layer): Layer => ({ json: withoutStudy(json), at });

/** Applies the command line's changes and decodes. `shown` is the document's name in errors. */
const completed = async (
  shown: string,
  json: unknown,
  changes: readonly string[],
): Promise<E.Either<SpecReadError, Spec>> => {
  let all: E.Either<SpecReadError, unknown> = E.right(json);
  for (const change of changes) {
    if (E.isRight(all)) all = changedBy(all.right, change);
  }
  if (E.isLeft(all)) return all;
  const here = { place: `${Deno.cwd()}/`, shown };
  const spec = decoded(shown, isObject(all.right) ? located(all.right, here) : all.right);
  if (E.isLeft(spec)) return spec;
  const loaded = await loadEncoder(spec.right.encoder);
  return E.isLeft(loaded) ? E.left({ _tag: "SpecModule", path: shown, error: loaded.left }) : spec;
};

const decoded = (path: string, json: unknown): E.Either<SpecReadError, Spec> => {
  const spec = decodeSpec(json);
  return E.isLeft(spec) ? E.left({ _tag: "SpecInvalid", path, errors: spec.left }) : spec;
};

async function readText(place: string | URL): Promise<string> {
  if (typeof place === "string" || place.protocol === "file:") {
    return await Deno.readTextFile(place);
  }
  const answer = await fetch(place);
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return await answer.text();
}

/** The spec in a JSON text that extends no other; `path` is only its name in errors. */
export function specFrom(path: string, text: string): E.Either<SpecReadError, Spec> {
  const json = parseJson(text);
  return E.isLeft(json)
    ? E.left({ _tag: "SpecNotJson", path, at: json.left })
    : decoded(path, json.right);
}

const tagOf: Readonly<Record<string, string>> = {
  encoder: "family",
  masking: "kind",
  objective: "style",
  data: "kind",
  evaluation: "kind",
};

/** A suggestion when many fields are missing. */
const missingText = (errors: readonly SpecError[]): readonly string[] => {
  const missing = errors.flatMap(({ _tag, path }) => _tag === "MissingField" ? [path] : []);
  if (missing.filter((path) => !path.includes(".")).length > 4) {
    return ['a spec that extends another, "extends": "mamba", takes from it what it does not give'];
  }
  return Object.keys(tagOf).flatMap((field) =>
    missing.filter((path) => path.startsWith(`${field}.`)).length > 1
      ? [
        `another ${
          tagOf[field]
        } takes the place of the whole ${field}, and nothing is taken over: ` +
        "give all its fields, or extend a spec that has them",
      ]
      : []
  );
};

/** Why a spec could not be read: one line, or one line per mistake of an invalid spec. */
export function specReadErrorText(error: SpecReadError): string {
  switch (error._tag) {
    case "NoSuchSpec": {
      const by = error.by === undefined ? "" : `, which ${error.by} extends`;
      return `there is no experiment '${error.asked}'${by}: give the path of a .json file or one of ` +
        error.known.join(", ");
    }
    case "SpecUnreadable":
      return `${error.path} could not be read: ${error.reason}`;
    case "SpecNotJson":
      return `${error.path} is not JSON: line ${error.at.line}, column ${error.at.column}: ` +
        error.at.problem;
    case "SpecExtends":
      return `${error.path}: ${error.problem}`;
    case "BadChange":
      return `--set ${error.change}: ${error.problem}`;
    case "SpecSweep":
      return error.problems.length === 1
        ? `${error.path}: ${error.problems[0]}`
        : [`${error.path} is wrong:`, ...error.problems.map((one) => `  ${one}`)].join("\n");
    case "SpecIsStudy":
      return `${error.path} is a study of several runs; this command takes the spec of one`;
    case "SpecModule":
      return `${error.path}: encoder.module: ${moduleErrorText(error.error)}`;
    case "SpecInvalid": {
      const count = error.errors.length === 1 ? "1 mistake" : `${error.errors.length} mistakes`;
      return [
        `${error.path} has ${count}:`,
        ...error.errors.map((e) => `  ${specErrorText(e)}`),
        ...missingText(error.errors),
      ].join("\n");
    }
  }
}
