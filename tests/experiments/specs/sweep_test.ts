// Sweeps: one document as many specs, with names that can be read, and every mistake told in a sentence.
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import {
  type Experiment,
  readExperiment,
  readSpec,
  type SpecReadError,
  specReadErrorText,
} from "../../../experiments/specs/read.ts";
import type { Study } from "../../../experiments/specs/sweep.ts";
import { shared } from "../../../experiments/runs/study.ts";

/** Reads documents of a folder, of which the first is asked for. */
const read = async (
  documents: Readonly<Record<string, unknown>>,
  changes: readonly string[] = [],
): Promise<E.Either<string, Experiment>> => {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, document] of Object.entries(documents)) {
      Deno.writeTextFileSync(`${folder}/${name}.json`, JSON.stringify(document));
    }
    const [first] = Object.keys(documents);
    const found = await readExperiment(`${folder}/${first}.json`, changes)();
    return E.mapLeft((error: SpecReadError) =>
      specReadErrorText(error).replaceAll(`${folder}/`, "")
    )(found);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

const study = async (
  document: unknown,
  changes: readonly string[] = [],
  others: Readonly<Record<string, unknown>> = {},
): Promise<Study> => {
  const found = await read({ study: document, ...others }, changes);
  assert(E.isRight(found), E.isLeft(found) ? found.left : "");
  assert(found.right.kind === "study");
  return found.right.study;
};

const whyNot = async (document: unknown, changes: readonly string[] = []): Promise<string> => {
  const found = await read({ study: document }, changes);
  assert(E.isLeft(found), "it was read");
  return found.left;
};

const names = (of: Study) => of.runs.map(({ name }) => name);

Deno.test("a part's runs are all combinations of its values, named after them", async () => {
  const of = await study({
    extends: "mamba",
    name: "depths",
    sweep: [{ "encoder.depth": [2, 4], "seed": [0, 1] }],
    lengths: [250],
  });
  assertStrictEquals(of.name, "depths");
  assertEquals(names(of), [
    "depth-2_seed-0",
    "depth-2_seed-1",
    "depth-4_seed-0",
    "depth-4_seed-1",
  ]);
  assertEquals(of.runs.map(({ encoder, seed }) => [encoder.depth, seed]), [
    [2, 0],
    [2, 1],
    [4, 0],
    [4, 1],
  ]);
  // Seeds are one row.
  assertEquals(of.parts, [{
    title: "depth × seed",
    rows: [
      { label: "depth 2", runs: ["depth-2_seed-0", "depth-2_seed-1"] },
      { label: "depth 4", runs: ["depth-4_seed-0", "depth-4_seed-1"] },
    ],
  }]);
  assertEquals(of.lengths, [250]);
});

Deno.test("documents by name are laid over the study's, specs take the place of what it extends", async () => {
  const of = await study(
    {
      extends: "mamba",
      name: "patches",
      schedule: { warmupSteps: 1, steps: 7 },
      sweep: [{
        title: "Patches",
        extends: ["transformer", "./own.json"],
        patch: {
          "4x8": { patch: { time: 4, frequency: 8 } },
          "8x16": { patch: { time: 8, frequency: 16 }, batch: 4 },
        },
      }],
    },
    ["seed=5"],
    { own: { extends: "xlstm", name: "own", encoder: { depth: 2 } } },
  );
  assertEquals(names(of), [
    "transformer_patch-4x8",
    "transformer_patch-8x16",
    "own_patch-4x8",
    "own_patch-8x16",
  ]);
  assertEquals(
    of.runs.map(({ encoder, patch, batch }) => [encoder.family, encoder.depth, patch.time, batch]),
    [["transformer", 3, 4, 8], ["transformer", 3, 8, 4], ["xlstm", 2, 4, 8], ["xlstm", 2, 8, 4]],
  );
  // What the study says itself goes over the specs, and the command line over all.
  assert(of.runs.every(({ schedule, seed }) => schedule.steps === 7 && seed === 5));
  assertStrictEquals(of.parts[0].rows[1].label, "transformer, patch 8x16");
});

Deno.test("a run that several parts show is made once, whatever they call it", async () => {
  const of = await study({
    extends: "mamba",
    name: "parts",
    sweep: [
      { "extends": ["mamba", "transformer"] },
      { "extends": ["mamba"], "masking.ratio": [0.5, 0.75] },
    ],
  });
  assertEquals(names(of), ["mamba", "transformer", "mamba_ratio-0.75"]);
  assertEquals(of.parts[1].rows, [
    { label: "mamba, ratio 0.5", runs: ["mamba"] },
    { label: "mamba, ratio 0.75", runs: ["mamba_ratio-0.75"] },
  ]);
});

Deno.test("a study may be extended: its sweep stays, other fields change", async () => {
  const found = await read({
    mine: { extends: "./study.json", name: "mine", schedule: { steps: 20 }, lengths: [] },
    study: { extends: "mamba", name: "study", sweep: [{ seed: [0, 1] }], lengths: [250] },
  });
  assert(E.isRight(found) && found.right.kind === "study");
  const { name, runs, lengths } = found.right.study;
  assertEquals([name, lengths], ["mine", []]);
  assertEquals(runs.map(({ schedule }) => schedule.steps), [20, 20]);
});

Deno.test("mistakes in a sweep are told by place, what was expected and what to do", async () => {
  const of = (sweep: unknown, more = {}) => ({ extends: "mamba", name: "study", sweep, ...more });
  const cases: readonly (readonly [unknown, string])[] = [
    [
      of({ seed: [0] }),
      'study.json: sweep: expected a list of parts, such as [{ "seed": [0, 1, 2] }], ' +
      'found {"seed":[0]}',
    ],
    [
      of([]),
      'study.json: sweep: expected a list of parts, such as [{ "seed": [0, 1, 2] }], found []',
    ],
    [of([3]), "study.json: sweep.0: expected an object of fields with lists of values, found 3"],
    [
      of([{ title: "Nothing" }]),
      'study.json: sweep.0: expected a field with a list of values, such as "seed": [0, 1]',
    ],
    [
      of([{ seed: 1 }]),
      "study.json: sweep.0.seed: expected a list of values, or documents by name, found 1",
    ],
    [of([{ seed: [] }]), "study.json: sweep.0.seed: expected at least one value"],
    [of([{ seed: [1, 1] }]), "study.json: sweep.0.seed: two values have the same name"],
    [
      of([{ patch: [{ time: 4, frequency: 8 }] }]),
      'study.json: sweep.0.patch: {"time":4,"frequency":8} gives a run no readable name; give such ' +
      'values names, as in "patch": { "NAME": { "patch": ... } }',
    ],
    [
      of([{ family: { mamba: { extends: "mamba" } } }]),
      "study.json: sweep.0.family: mamba: 'extends' can not stand here; give the part " +
      '"extends": [...] instead',
    ],
    [
      of([{ size: { small: 3 } }]),
      "study.json: sweep.0.size: small: expected an object of fields, found 3",
    ],
    [
      of([{ seed: [0] }], { lengths: [0] }),
      "study.json: lengths: 0: expected a whole number of at least 1, found 0",
    ],
    [
      of([{ "encoder.depth": [0, -1] }]),
      "study.json, run depth-0 and 1 more, has 1 mistake:\n" +
      "  encoder.depth: expected a whole number of at least 1, found 0",
    ],
    [
      of([{ "encoder.dept": [1] }]),
      "study.json, run dept-1, has 1 mistake:\n  encoder.dept: unknown field; did you mean 'depth'?",
    ],
    [
      of([{ "encoder.depth.more": [1] }]),
      "study.json: run more-1: encoder.depth.more: 'encoder.depth' has no fields",
    ],
    [
      of([
        { size: { small: { encoder: { dim: 32 } } } },
        { size: { small: { encoder: { dim: 16 } } } },
      ]),
      "study.json: two different runs are called size-small; rename a document in one of the parts",
    ],
  ];
  for (const [document, sentence] of cases) {
    assertStrictEquals(await whyNot(document), sentence);
  }
  assertMatch(
    await whyNot(of([{ extends: ["mambo"] }])),
    /^there is no experiment .mambo., which study\.json extends: give the path of a \.json file or one of /,
  );
});

Deno.test("what takes one spec refuses a study", async () => {
  const found = await readSpec("compare")();
  assert(E.isLeft(found));
  assertStrictEquals(
    specReadErrorText(found.left),
    "experiments/specs/presets/compare.json is a study of several runs; this command takes the spec of one",
  );
});

Deno.test("the studies that come with Formant are whole: all families, each run its own", async () => {
  for (const [name, least] of [["compare", 9], ["paper", 40]] as const) {
    const found = await readExperiment(name)();
    assert(E.isRight(found) && found.right.kind === "study");
    const { study } = found.right;
    assertGreaterOrEqual(study.runs.length, least, `${name}: ${study.runs.length} runs`);
    assertStrictEquals(new Set(names(study)).size, study.runs.length);
    for (const family of ["transformer", "mamba", "xlstm"]) {
      assert(study.runs.some(({ encoder }) => encoder.family === family));
    }
    const known = new Set(names(study));
    for (const { rows } of study.parts) {
      for (const { runs } of rows) assert(runs.every((run) => known.has(run)));
    }
  }
});

Deno.test("shares of a study are all of its runs, each once", async () => {
  const { runs } = await study({
    extends: "mamba",
    name: "seeds",
    sweep: [{ seed: [0, 1, 2, 3, 4] }],
  });
  const shares = [1, 2, 3].map((index) => shared(runs, { index, of: 3 }));
  assertEquals(shares.map((of) => of.length), [2, 2, 1]);
  assertEquals(new Set(shares.flat()), new Set(runs));
  assertEquals(shared(runs), runs);
});
