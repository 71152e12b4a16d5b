// The JSON Schema of specs and the tables of docs/specs.md, both generated from the codec, so that they
// cannot contradict it.
import { type Schema, schemaOf } from "../io/schema.ts";
import { specFields } from "./fields.ts";
import { studySchema } from "./sweep.ts";

/** The schema of spec files; with `extends`, all fields are optional. */
export type SpecSchema = Schema & { readonly $schema: string; readonly title: string };

// At any depth, a missing field may come from the extended spec.
const partial = ({ required: _, properties, items, anyOf, ...rest }: Schema): Schema => ({
  ...rest,
  ...(properties === undefined ? {} : {
    properties: Object.fromEntries(
      Object.entries(properties).map(([key, value]) => [key, partial(value)]),
    ),
  }),
  ...(items === undefined ? {} : { items: partial(items) }),
  ...(anyOf === undefined ? {} : { anyOf: anyOf.map(partial) }),
});

/** Fields of spec files that are not part of the experiment. */
const ofFiles: Readonly<Record<string, Schema>> = {
  $schema: { type: "string", description: "The address of this schema, for editors." },
  extends: {
    type: "string",
    description: "A spec to start from: a name, or a path relative to this file. Only what " +
      "differs from it is given here.",
  },
  ...studySchema,
};

/** The JSON Schema (draft 2020-12) of files that hold specs. */
export const specSchema = (): SpecSchema => {
  const whole = schemaOf(specFields);
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "An experiment of Formant",
    ...partial(whole),
    properties: { ...ofFiles, ...partial(whole).properties },
    anyOf: [{ required: ["extends"] }, { required: whole.required }],
  };
};

/** The schema as the text of its file. */
export const specSchemaText = (): string => `${JSON.stringify(specSchema(), null, 2)}\n`;

// ---------------------------------------------------------------- docs/specs.md

/** The possible values in words. */
const valueText = (of: Schema): string => {
  if (of.const !== undefined) return `\`${JSON.stringify(of.const)}\``;
  if (of.enum !== undefined) return of.enum.map((text) => `\`"${text}"\``).join(", ");
  if (of.anyOf !== undefined) {
    return of.anyOf.map(valueText).filter((text) => text !== "").join(" or ");
  }
  if (of.type === "object") return of.properties === undefined ? "an object" : "";
  if (of.type === "array") return `a list of ${valueText(of.items ?? {})}`;
  if (of.type === "string") return "text";
  const kind = of.type === "integer" ? "whole number" : "number";
  const multiple = of.multipleOf === undefined ? "" : `, a multiple of ${of.multipleOf}`;
  const low = of.minimum !== undefined
    ? ` ≥ ${of.minimum}`
    : of.exclusiveMinimum !== undefined
    ? ` > ${of.exclusiveMinimum}`
    : "";
  const high = of.maximum !== undefined
    ? `≤ ${of.maximum}`
    : of.exclusiveMaximum !== undefined
    ? `< ${of.exclusiveMaximum}`
    : "";
  return `${kind}${low}${high === "" ? "" : low === "" ? ` ${high}` : `, ${high}`}${multiple}`;
};

interface Row {
  readonly path: string;
  readonly value: string;
  readonly description: string;
}

const cell = (text: string): string => text.replaceAll("|", "\\|");

const table = (rows: readonly Row[]): string =>
  [
    "| field | value | what it is for |",
    "| ----- | ----- | -------------- |",
    ...rows.map(({ path, value, description }) =>
      `| \`${path}\` | ${cell(value)} | ${cell(description)} |`
    ),
  ].join("\n");

const objects = (of: Schema): readonly Schema[] => of.anyOf?.flatMap(objects) ?? [of];

/** Rows for an object's fields, nested ones after it; optional fields are marked. */
const rowsOf = (of: Schema, path: string): readonly Row[] =>
  Object.entries(of.properties ?? {}).flatMap(([key, value]): readonly Row[] => {
    const at = path === "" ? key : `${path}.${key}`;
    const given = of.required?.includes(key) ? "" : "May be left out. ";
    const row = {
      path: at,
      value: valueText(value),
      description: given + (value.description ?? ""),
    };
    const inside = objects(value).filter((one) => one.properties !== undefined);
    // Variants are listed in a section of their own.
    return inside.length === 1 ? [row, ...rowsOf(inside[0], at)] : [row];
  });

/** The value of the field that selects a variant. */
const tagOf = (of: Schema): string =>
  Object.entries(of.properties ?? {}).flatMap(([key, { const: one, enum: several }]) =>
    ["family", "kind", "style"].includes(key)
      ? [`\`${key}\`: ${(several ?? [`${one}`]).map((text) => `\`"${text}"\``).join(", ")}`]
      : []
  )[0] ?? "";

/** docs/specs.md: every field, its values and its description. */
export const specPage = (): string => {
  const whole = schemaOf(specFields);
  const variants = Object.entries(whole.properties ?? {}).flatMap(([key, value]) => {
    const inside = objects(value).filter((one) => one.properties !== undefined);
    return inside.length < 2
      ? []
      : inside.map((one) => `### \`${key}\` with ${tagOf(one)}\n\n${table(rowsOf(one, key))}`);
  });
  return `# Specs

An experiment is one JSON document. \`deno task experiment my.json\` runs it, and
\`deno task experiment my.json --print\` shows it with everything that it extends.

\`\`\`json
{
  "$schema": "docs/spec.schema.json",
  "extends": "mamba",
  "name": "mamba-deep",
  "encoder": { "depth": 6 },
  "optimiser": { "baseLearningRate": 0.00015, "clipNorm": 1 }
}
\`\`\`

\`extends\` names a spec to start from, by its name (\`deno task experiment --list\`) or its path;
objects are laid over each other field by field, but one of another kind (another \`family\`, \`kind\` or
\`style\`) takes the place of the whole. A spec that extends nothing gives every field, but for those
that may be left out. \`$schema\` is for editors, which complete and check fields with
[spec.schema.json](spec.schema.json); give its path, or what \`deno task experiment --schema\` prints.
A field on the command line, \`--set encoder.depth=6\`, goes over all.

## Sweeps

A document with a \`sweep\` is a study: many runs, made one after the other, and a page that compares
them.

\`\`\`json
{
  "extends": "mamba",
  "name": "depths",
  "sweep": [
    { "title": "Depth", "encoder.depth": [2, 4], "seed": [0, 1, 2] },
    {
      "title": "Patches of each family",
      "extends": ["transformer", "mamba", "xlstm"],
      "patch": {
        "small": { "patch": { "time": 4, "frequency": 8 } },
        "large": { "patch": { "time": 8, "frequency": 16 } }
      }
    }
  ],
  "lengths": [250, 500, 1000]
}
\`\`\`

A sweep is a list of parts, each a table and a plot of the report. A part's runs are all combinations
of what it gives: a field with a list of values, or a name of its own with documents by name, which
are laid over the study's. \`extends\` with a list puts each of those specs in place of what the study
extends. Runs are called after their values, \`depth-2_seed-0\` and \`mamba_patch-small\`, and lie in
runs/depths; a run that two parts share is made once. Runs that differ in their \`seed\` alone are one
row, with the interval over them. \`lengths\` are numbers of patches at which time and memory of the
first part's encoders are measured.

A study that was stopped goes on with \`--resume\`, which keeps finished runs. \`--shard 2/8\` makes the
second of eight shares of the runs, for several machines that see one folder; each reports on all
runs that are finished by then. \`deno task experiment compare\` is a small study for two processors,
\`paper\` the comparison at the published sizes and settings.

## Tables

They are made from the code that reads specs (\`deno task docs\`), so they say all that there is.

## Fields

${table(rowsOf(whole, ""))}

## Fields that depend on a kind

${variants.join("\n\n")}
`;
};
