// Specs: the published ones decode, and every kind of mistake is told in the sentence we promise.
import { assert, assertEquals, assertLess, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { fidelityOf } from "../../../experiments/encoders/config.ts";
import {
  patchGrid,
  peakLearningRate,
  type Spec,
  styleOf,
} from "../../../experiments/specs/spec.ts";
import { decodeSpec, specErrorText } from "../../../experiments/specs/decode.ts";
import {
  readSpec,
  specFrom,
  specNames,
  specReadErrorText,
  studyNames,
} from "../../../experiments/specs/read.ts";
import { syntheticTasks } from "../../../experiments/data/synth/tasks/suite.ts";
import { corrected, faithful } from "../../../models/fidelity.ts";
import { publishedEncoder, sizeNames } from "../../../models/sizes.ts";

type Json = Record<string, unknown>;

const text = Deno.readTextFileSync(
  new URL("../../../experiments/specs/presets/mamba.json", import.meta.url),
);

// The small spec with one place changed; `undefined` removes the field.
function changed(path: string, value: unknown, json: Json = JSON.parse(text)): Json {
  const [head, ...rest] = path.split(".");
  if (rest.length > 0) {
    return { ...json, [head]: changed(rest.join("."), value, json[head] as Json) };
  }
  const others = Object.fromEntries(Object.entries(json).filter(([key]) => key !== head));
  return value === undefined ? others : { ...json, [head]: value };
}

function complaints(json: unknown): readonly string[] {
  const read = decodeSpec(json);
  return E.isLeft(read) ? read.left.map(specErrorText) : [];
}

function sound(name: string, read: E.Either<unknown, Spec>): Spec {
  assert(E.isRight(read), `${name} does not decode`);
  return read.right;
}

async function whyNot(nameOrPath: string, changes: readonly string[] = []): Promise<string> {
  const read = await readSpec(nameOrPath, changes)();
  assert(E.isLeft(read), `${nameOrPath} was read`);
  return specReadErrorText(read.left);
}

Deno.test("every spec in the folder is called like its file, and decodes to itself when whole", async () => {
  assertStrictEquals(specNames().length, 21);
  for (const name of specNames()) {
    const spec = sound(name, await readSpec(name)());
    assertStrictEquals(spec.name, name);
    assertEquals(decodeSpec(JSON.parse(JSON.stringify(spec))), E.right(spec));
  }
  assertEquals(sound("mamba", await readSpec("mamba")()), JSON.parse(text));
});

Deno.test("the names that a published package offers are those of the folder", () => {
  const source = Deno.readTextFileSync(
    new URL("../../../experiments/specs/read.ts", import.meta.url),
  );
  const list = (name: string): readonly string[] =>
    JSON.parse(new RegExp(`const ${name} = (\\[[^\\]]*\\])`).exec(source)![1]);
  const names = list("families").flatMap((family) => [
    family,
    ...list("sizes").map((size) => `${family}-${size}`),
  ]);
  assertEquals(names.sort(), specNames());
});

Deno.test("the larger specs are the published recipe, faithful", async () => {
  for (const family of ["transformer", "mamba", "xlstm"] as const) {
    for (const size of sizeNames) {
      const spec = sound(size, await readSpec(`${family}-${size}`)());
      assertEquals({ ...spec.encoder, patch: spec.patch }, publishedEncoder(family, size));
      assertStrictEquals(spec.fidelity, "faithful");
      assertEquals(patchGrid(spec), { time: 50, frequency: 5, patches: 250, visible: 125 });
      assertEquals(spec.schedule, { warmupSteps: 10 * 2003, steps: 100 * 2003 });
      assertLess(Math.abs(peakLearningRate(spec) - 6e-4), 1e-18);
    }
  }
});

Deno.test("a wrong value is reported by path, expectation and finding", () => {
  const cases: readonly (readonly [string, unknown, string])[] = [
    ["encoder.depth", "twelve", 'a whole number of at least 1, found "twelve"'],
    ["encoder.depth", 0, "a whole number of at least 1, found 0"],
    ["encoder.depth", 2.5, "a whole number of at least 1, found 2.5"],
    ["encoder.dim", 90, "a positive multiple of 4, found 90"],
    ["encoder.family", "lstm", '"transformer", "mamba", "xlstm" or "module", found "lstm"'],
    [
      "encoder.order",
      "both",
      '"causal", "reversed", "alternating" or "bidirectional", found "both"',
    ],
    ["masking.kind", "random", '"unstructured", "time", "frequency" or "blocks", found "random"'],
    ["objective.style", "bert", '"ssast" or "mae", found "bert"'],
    ["objective", "mae", 'an object with the field style: "ssast" or "mae", found "mae"'],
    [
      "fidelity",
      "exact",
      '"faithful" or "corrected" or an object with \'from\' and the points that differ, found "exact"',
    ],
    ["masking.ratio", 1, "a number between 0 and 1, found 1"],
    ["optimiser.beta2", 1, "a number from 0 to below 1, found 1"],
    ["optimiser.epsilon", 0, "a number above 0, found 0"],
    ["optimiser.weightDecay", -0.1, "a number of at least 0, found -0.1"],
    ["version", 2, "1, found 2"],
    ["seed", null, "a whole number of at least 0, found null"],
    [
      "name",
      "../up",
      "a name of letters, digits, '-', '_' and '.' that starts with a letter or digit, " +
      'found "../up"',
    ],
    ["clip", 200, "an object with the fields frames, found 200"],
    ["patch", [4, 16], "an object with the fields time, frequency, found [4,16]"],
  ];
  for (const [path, value, sentence] of cases) {
    assertEquals(complaints(changed(path, value)), [`${path}: expected ${sentence}`]);
  }
});

Deno.test("a document that is no object, and a long value, are shown short", () => {
  assertMatch(complaints([])[0], /^expected an object with the fields version, .*, found \[\]$/);
  assertStrictEquals(
    complaints(changed("batch", "x".repeat(200)))[0],
    `batch: expected a whole number of at least 1, found "${"x".repeat(56)}...`,
  );
});

Deno.test("missing, misspelt and unknown fields", () => {
  assertEquals(complaints(changed("encoder.depth", undefined)), [
    "encoder.depth: missing; expected a whole number of at least 1",
  ]);
  const misspelt = changed("encoder.dpeth", 12, changed("encoder.depth", undefined));
  assertEquals(complaints(misspelt), [
    "encoder.dpeth: unknown field; did you mean 'depth'?",
  ]);
  assertEquals(complaints(changed("optimiser.WeightDecy", 0)), [
    "optimiser.WeightDecy: unknown field; did you mean 'weightDecay'?",
  ]);
  assertEquals(complaints(changed("patch.colour", "red")), [
    "patch.colour: unknown field; the fields here are time, frequency",
  ]);
  assertEquals(complaints(changed("constructor", 1)).length, 1);
});

Deno.test("fields that contradict each other", () => {
  const cases: readonly (readonly [string, unknown, string])[] = [
    ["clip.frames", 201, "clip.frames: 201 is not divisible by patch.time, 4"],
    ["patch.frequency", 15, "frontEnd.mels: 80 is not divisible by patch.frequency, 15"],
    ["schedule.warmupSteps", 9999, "schedule.warmupSteps: 9999 is more than schedule.steps, 150"],
    ["frontEnd.window", 401, "frontEnd.window: 401 is more than frontEnd.fft, 400"],
    ["frontEnd.fMin", 8000, "frontEnd.fMin: 8000 is not below frontEnd.fMax, 8000"],
    [
      "frontEnd.fMax",
      8001,
      "frontEnd.fMax: 8001 is more than half of frontEnd.sampleRate, 8000",
    ],
    [
      "masking.ratio",
      0.999,
      "masking.ratio: 0.999 of 250 patches leaves 0 visible; " +
      "at least one must be visible and one masked",
    ],
    [
      "data.seconds",
      0.01,
      "data.seconds: 0.01 s is not longer than half of frontEnd.fft, 0.0125 s",
    ],
  ];
  const xlstm = { ...publishedEncoder("xlstm", "tiny"), patch: undefined };
  const transformer = { ...publishedEncoder("transformer", "tiny"), patch: undefined };
  const families: readonly (readonly [object, Json, string])[] = [
    [transformer, { heads: 5 }, "encoder.heads: 192 channels are not divisible by 5 heads"],
    [
      xlstm,
      { heads: 5 },
      "encoder.heads: 384 inner channels (expand × dim) are not divisible by 5 heads",
    ],
    [xlstm, { slstm: [12] }, "encoder.slstm: block 12 is beyond the last, 11"],
    [xlstm, { slstm: [1, 1] }, "encoder.slstm: a block is named twice"],
    [
      xlstm,
      { positions: "rotary" },
      'encoder.positions: "rotary" turns queries and keys of attention, which xlstm blocks do not have',
    ],
  ];
  for (const [of, change, sentence] of families) {
    const encoder = JSON.parse(JSON.stringify({ ...of, ...change }));
    assertEquals(complaints(changed("encoder", encoder)), [sentence]);
  }
  const mae = { style: "mae", decoder: { dim: 64, depth: 1 } };
  assertEquals(
    complaints(
      changed("objective", mae, changed("encoder", JSON.parse(JSON.stringify(transformer)))),
    ),
    [
      "objective.decoder.dim: 64 channels of its blocks are not divisible by the encoder's 3 heads",
    ],
  );
  const spec = changed("schedule", { warmupSteps: 15, steps: 150 });
  for (const [path, value, sentence] of cases) {
    assertEquals(complaints(changed(path, value, spec)), [sentence]);
  }
});

Deno.test("all mistakes are reported at once, and no rule reads a wrong field", () => {
  const json = changed(
    "clip.frames",
    201,
    changed("patch.frequency", "wide", changed("encoder.depth", -1, changed("bacth", 8))),
  );
  assertEquals(complaints(json), [
    'patch.frequency: expected a whole number of at least 1, found "wide"',
    "encoder.depth: expected a whole number of at least 1, found -1",
    "bacth: unknown field; did you mean 'batch'?",
    "clip.frames: 201 is not divisible by patch.time, 4",
  ]);
});

Deno.test("visible patches are counted as published, without rounding slips", () => {
  const spec = sound("mamba", decodeSpec(JSON.parse(text)));
  for (const [ratio, visible] of [[0.5, 125], [0.8, 50], [0.75, 62], [0.1, 225], [0.7, 75]]) {
    const grid = patchGrid({ ...spec, masking: { kind: "unstructured", ratio } });
    assertStrictEquals(grid.visible, visible, `ratio ${ratio}`);
  }
});

Deno.test("fidelity: a name, or a name with points that differ", () => {
  assertEquals(fidelityOf("faithful"), faithful);
  const mixed = { from: "faithful", loss: "masked" } as const;
  assertEquals(complaints(changed("fidelity", mixed)), []);
  assertEquals(fidelityOf(mixed), { ...faithful, loss: "masked" });
  assertEquals(complaints(changed("fidelity", { ...mixed, lost: 1 })), [
    "fidelity.lost: unknown field; did you mean 'loss'?",
  ]);
  assertEquals(complaints(changed("fidelity", { from: "faithful", rows: "both" })), [
    'fidelity.rows: expected "frequency" or "time", found "both"',
  ]);
  // All points are mended but one, which is as it should be.
  const same = (Object.keys(faithful) as (keyof typeof faithful)[]).filter((point) =>
    faithful[point] === corrected[point]
  );
  assertEquals(same, ["loss"]);
});

Deno.test("the small specs end with an evaluation, the published ones do not", async () => {
  for (const name of specNames()) {
    const { evaluation } = sound(name, await readSpec(name)());
    assertStrictEquals(evaluation?.kind, name.includes("-") ? "none" : "synthetic", name);
  }
  const of = async (...changes: readonly string[]) =>
    sound("mamba", await readSpec("mamba", changes)()).evaluation;
  assertEquals(await of("evaluation.kind=none"), { kind: "none" });
  // The names of synthetic tasks are not looked for in another folder.
  assertEquals(await of("evaluation.kind=hear", "evaluation.tasks=hear"), {
    kind: "hear",
    tasks: "hear",
    seeds: 3,
  });
  assertStrictEquals(
    await whyNot("mamba", ["evaluation.clips=10", 'evaluation.names=["synthetic_drum"]']),
    "experiments/specs/presets/mamba.json has 2 mistakes:\n" +
      "  evaluation.clips: expected a whole number of at least 60, found 10\n" +
      "  evaluation.names.0: expected " +
      `${
        syntheticTasks.map(({ name }) => `"${name}"`).join(", ").replace(/, (?=[^,]*$)/, " or ")
      }` +
      ', found "synthetic_drum"',
  );
  assertStrictEquals(
    await whyNot("mamba", ["frontEnd.sampleRate=32000"]),
    "experiments/specs/presets/mamba.json has 1 mistake:\n" +
      "  evaluation: synthetic tasks are at 16000 Hz and frontEnd.sampleRate is 32000; set " +
      'evaluation.kind to "none", or to "hear" and name tasks at that rate',
  );
});

Deno.test("fields set on the command line", async () => {
  const spec = sound(
    "mamba",
    await readSpec("mamba", [
      "objective.style=mae",
      "fidelity.loss=masked",
      "seed=7",
      "name=mine",
      "masking.kind=time",
      "encoder.registers=2",
    ])(),
  );
  assertEquals(styleOf(spec), { style: "mae", decoder: { dim: 64, depth: 2 } });
  assertEquals(fidelityOf(spec.fidelity), { ...corrected, loss: "masked" });
  assertEquals([spec.seed, spec.name], [7, "mine"]);
  assertEquals(spec.masking, { kind: "time", ratio: 0.5 });
  assertStrictEquals(spec.encoder.registers, 2);
  assertStrictEquals(
    await whyNot("mamba", ["seed"]),
    "--set seed: expected field=value, such as seed=1 or objective.style=mae",
  );
  assertStrictEquals(await whyNot("mamba", ["seed.x=1"]), "--set seed.x=1: 'seed' has no fields");
  assertStrictEquals(
    await whyNot("mamba", ["encoder.dpeth=1"]),
    "experiments/specs/presets/mamba.json has 1 mistake:\n" +
      "  encoder.dpeth: unknown field; did you mean 'depth'?",
  );
});

Deno.test("a spec on top of another", async () => {
  const folder = await Deno.makeTempDir();
  const write = (name: string, json: unknown) =>
    Deno.writeTextFile(`${folder}/${name}.json`, JSON.stringify(json));
  try {
    await write("a", { extends: "mamba", name: "a", schedule: { steps: 30 } });
    await write("b", { extends: "a.json", name: "b", objective: { style: "mae" } });
    const spec = sound("b", await readSpec(`${folder}/b.json`)());
    assertEquals(spec.schedule, { warmupSteps: 12, steps: 30 });
    assertEquals([spec.name, spec.objective.style, spec.encoder.dim], ["b", "mae", 64]);
    await write("loop", { extends: "pool.json" });
    await write("pool", { extends: "loop.json" });
    assertStrictEquals(
      await whyNot(`${folder}/loop.json`),
      `${folder}/pool.json: it extends ${folder}/loop.json, which extends it in turn`,
    );
    await write("odd", { extends: 3 });
    assertStrictEquals(
      await whyNot(`${folder}/odd.json`),
      `${folder}/odd.json: 'extends' is 3, not the name or path of a spec`,
    );
    await write("lost", { extends: "mamba-tiniest" });
    assertMatch(await whyNot(`${folder}/lost.json`), /^there is no experiment 'mamba-tiniest'/);
    for (let k = 0; k < 12; k++) await write(`d${k}`, { extends: `d${k + 1}.json` });
    assertMatch(await whyNot(`${folder}/d0.json`), /more than 8 specs extend each other$/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("an unknown name lists the known ones", async () => {
  const names = [...specNames(), ...studyNames].join(", ");
  for (const asked of ["mambo", "no/such/file.json"]) {
    assertStrictEquals(
      await whyNot(asked),
      `there is no experiment '${asked}': give the path of a .json file or one of ${names}`,
    );
  }
});

Deno.test("files: a path is read, a folder and broken JSON are told", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const good = `${folder}/mine.json`;
    await Deno.writeTextFile(good, text);
    assertStrictEquals(sound(good, await readSpec(good)()).name, "mamba");

    const broken = `${folder}/broken.json`;
    await Deno.writeTextFile(broken, text.replace(/("depth": \d+),/, "$1"));
    const line = text.split("\n").findIndex((row) => row.includes('"depth"')) + 2;
    assertStrictEquals(
      await whyNot(broken),
      `${broken} is not JSON: line ${line}, column 5: expected ',' or '}', found "order"`,
    );

    await Deno.mkdir(`${folder}/folder.json`);
    assertMatch(await whyNot(`${folder}/folder.json`), /could not be read: it is a folder$/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("broken JSON is told by line, column and what was expected", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["", "line 1, column 1: expected a value, found the end of the text"],
    ["{\n  a: 1\n}", "line 2, column 3: expected a field name in double quotes, found 'a'"],
    [
      '{"a": 1,}',
      "line 1, column 9: expected something after the last comma, or no comma, found '}'",
    ],
    ["{'a': 1}", "line 1, column 2: expected a field name in double quotes, found a single quote"],
    [`{"a": 'b'}`, "line 1, column 7: expected a text in double quotes, found a single quote"],
    [
      '{\n  "a": 1, // one\n  "b": 2\n}',
      "line 2, column 11: expected no comment, which JSON does not have, found '/'",
    ],
    ['{"a" 1}', "line 1, column 6: expected ':' after the field name, found '1'"],
    ['{"a": [1 2]}', "line 1, column 10: expected ',' or ']', found '2'"],
    ['{"a": .5}', "line 1, column 7: expected a value, found '.5'"],
    ['{"a": "b\n"}', 'line 1, column 7: expected a text that is closed on its line, found "b'],
    ["{}\n{}", "line 2, column 1: expected nothing more, found '{'"],
    ['{"a": nul}', "line 1, column 7: expected a value, found 'nul'"],
  ];
  for (const [json, sentence] of cases) {
    const read = specFrom("x.json", json);
    assert(E.isLeft(read), json);
    assertStrictEquals(specReadErrorText(read.left), `x.json is not JSON: ${sentence}`);
  }
});

Deno.test("an invalid spec is one line for each mistake", () => {
  const read = specFrom("x.json", JSON.stringify(changed("seed", -1, changed("batch", 0))));
  assert(E.isLeft(read));
  assertStrictEquals(
    specReadErrorText(read.left),
    "x.json has 2 mistakes:\n" +
      "  seed: expected a whole number of at least 0, found -1\n" +
      "  batch: expected a whole number of at least 1, found 0",
  );
});

Deno.test("a field in the wrong place, or of another variant, is told where it belongs", () => {
  const told = (path: string, value: unknown) => complaints(changed(path, value));
  for (
    const [field, meant] of [
      ["steps", "schedule.steps"],
      ["learningRate", "optimiser.peakLearningRate"],
      ["weight_decay", "optimiser.weightDecay"],
      ["batchSize", "batch"],
      ["ratio", "masking.ratio"],
    ]
  ) {
    assertEquals(told(field, 3), [`${field}: unknown field; did you mean '${meant}'?`]);
  }
  assertMatch(told("epochs", 3)[0], /^epochs: unknown field; the fields here are version, name,/);
  assertEquals(told("encoder.heads", 4), [
    "encoder.heads: a field only where family is transformer or xlstm, and it is mamba; the fields " +
    "here are family, dim, depth, order, norm, positions, registers, stochasticDepth, state, conv, " +
    "expand, form",
  ]);
  assertEquals(told("data.path", "sounds"), [
    "data.path: a field only where kind is folder, and it is synthetic; the fields here are kind, " +
    "clips, seconds, heldOutFraction",
  ]);
  // Nothing is said of what a wrong kind leaves open.
  assertEquals(told("masking", { kind: "block" }), [
    'masking.kind: expected "unstructured", "time", "frequency" or "blocks", found "block"',
  ]);
});

Deno.test("what extends nothing, itself, what is not there or another family is led on", async () => {
  const folder = await Deno.makeTempDir();
  const told = async (json: unknown) => {
    await Deno.writeTextFile(`${folder}/x.json`, JSON.stringify(json));
    return (await whyNot(`${folder}/x.json`)).replaceAll(`${folder}/`, "");
  };
  try {
    assertMatch(
      await told({ seed: 3 }),
      /\na spec that extends another, "extends": "mamba", takes from it what it does not give$/,
    );
    assertStrictEquals(await told({ extends: "x.json" }), "x.json: it extends itself");
    assertMatch(
      await told({ extends: "y.json" }),
      /^there is no experiment 'y\.json', which x\.json extends: give the path of a \.json file or/,
    );
    assertMatch(
      await told({ extends: "mamba", encoder: { family: "transformer", dim: 32 } }),
      /^x\.json has 8 mistakes:\n(.*\n)+another family takes the place of the whole encoder, and nothing is taken over: give all its fields, or extend a spec that has them$/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
