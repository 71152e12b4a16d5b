// The schema and the page of specs: made from the codec, committed as they are made, and true.
import { assert, assertGreater, assertMatch, assertStrictEquals } from "@std/assert";
import { type Schema, schemaOf } from "../../../experiments/io/schema.ts";
import { specFields } from "../../../experiments/specs/fields.ts";
import { readSpec, specNames } from "../../../experiments/specs/read.ts";
import { specPage, specSchema, specSchemaText } from "../../../experiments/specs/schema.ts";
import * as E from "fp-ts/Either.js";

const docs = new URL("../../../docs/", import.meta.url);
const stale = "is not what the codec says: run deno task docs";

Deno.test("docs/spec.schema.json is made from the codec", () => {
  const text = Deno.readTextFileSync(new URL("spec.schema.json", docs));
  assert(text === specSchemaText(), `docs/spec.schema.json ${stale}`);
});

Deno.test("docs/specs.md is made from the codec", async () => {
  const formatter = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "md", "-"],
    cwd: new URL(".", docs),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = formatter.stdin.getWriter();
  await writer.write(new TextEncoder().encode(specPage()));
  await writer.close();
  const { stdout } = await formatter.output();
  const page = Deno.readTextFileSync(new URL("specs.md", docs));
  assert(page === new TextDecoder().decode(stdout), `docs/specs.md ${stale}`);
});

const places = (of: Schema, path: string): readonly (readonly [string, Schema])[] => [
  [path, of],
  ...Object.entries(of.properties ?? {}).flatMap(([key, value]) =>
    places(value, path === "" ? key : `${path}.${key}`)
  ),
  ...(of.anyOf ?? []).flatMap((one) => places(one, path)),
  ...(of.items === undefined ? [] : places(of.items, `${path}[]`)),
];

Deno.test("every field is described, and says what it takes", () => {
  for (const [path, of] of places(schemaOf(specFields), "")) {
    for (const [key, { description }] of Object.entries(of.properties ?? {})) {
      assertMatch(description ?? "", /[.!]$/, `${path}.${key} has no description`);
    }
    const { description: _, ...rest } = of;
    assertGreater(Object.keys(rest).length, 0, `${path} has no schema`);
  }
});

/** Why a value does not hold to a schema, if so: as much of the standard as the schemas use. */
const breach = (of: Schema, value: unknown, path: string): string | undefined => {
  const { type, properties, required, anyOf, items } = of;
  const is = {
    object: typeof value === "object" && value !== null && !Array.isArray(value),
    array: Array.isArray(value),
    string: typeof value === "string",
    number: typeof value === "number",
    integer: Number.isInteger(value),
  };
  const n = value as number;
  const wrong = (type !== undefined && !is[type]) ||
    (of.const !== undefined && value !== of.const) ||
    (of.enum !== undefined && !of.enum.includes(value as string)) ||
    (of.pattern !== undefined && is.string && !new RegExp(of.pattern).test(value as string)) ||
    (of.minimum !== undefined && n < of.minimum) || (of.maximum !== undefined && n > of.maximum) ||
    (of.exclusiveMinimum !== undefined && n <= of.exclusiveMinimum) ||
    (of.exclusiveMaximum !== undefined && n >= of.exclusiveMaximum) ||
    (of.multipleOf !== undefined && n % of.multipleOf !== 0);
  if (wrong) return `${path} is ${JSON.stringify(value)}`;
  if (anyOf !== undefined && anyOf.every((one) => breach(one, value, path) !== undefined)) {
    return `${path} is none of its kinds: ${
      anyOf.map((one) => breach(one, value, path)).join("; ")
    }`;
  }
  if (is.array && items !== undefined) {
    return (value as readonly unknown[]).map((one, k) => breach(items, one, `${path}[${k}]`))
      .find((one) => one !== undefined);
  }
  if (!is.object) return undefined;
  const object = value as Readonly<Record<string, unknown>>;
  const lost = required?.find((key) => !(key in object));
  if (lost !== undefined) return `${path}.${lost} is missing`;
  for (const [key, inner] of Object.entries(object)) {
    const known = properties?.[key];
    if (known === undefined) {
      if (of.additionalProperties === false) return `${path}.${key} is unknown`;
      continue;
    }
    const wrong = breach(known, inner, `${path}.${key}`);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
};

Deno.test("every spec holds to the schema as its file, and whole", async () => {
  const folder = new URL("../../../experiments/specs/presets/", import.meta.url);
  for (const name of specNames()) {
    const file = JSON.parse(Deno.readTextFileSync(new URL(`${name}.json`, folder)));
    assertStrictEquals(breach(specSchema(), file, name), undefined);
    const spec = await readSpec(name)();
    assert(E.isRight(spec));
    assertStrictEquals(breach(specSchema(), spec.right, name), undefined);
  }
});

Deno.test("the schema refuses what the codec refuses", () => {
  const refused: readonly (readonly [unknown, RegExp])[] = [
    [{ extends: "mamba", bacth: 8 }, /bacth is unknown/],
    [{ extends: "mamba", encoder: { depth: "six" } }, /encoder is none of its kinds/],
    [{ extends: "mamba", masking: { ratio: 1 } }, /masking is none of its kinds/],
    [{ extends: "mamba", optimiser: { beta1: 1 } }, /optimiser\.beta1 is 1/],
    [{ name: "half" }, /spec is none of its kinds/],
  ];
  for (const [json, sentence] of refused) {
    assertMatch(breach(specSchema(), json, "spec") ?? "accepted", sentence);
  }
});
