// Studies as a user meets them: all runs made once, kept when the study goes on, shared out among machines,
// and a page and tables that say what is there.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotMatch,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import { deleteRun } from "../../../experiments/commands/runs.ts";
import { readExperiment } from "../../../experiments/specs/read.ts";
import type { Study } from "../../../experiments/specs/sweep.ts";
import { runStudy } from "../../../experiments/runs/study.ts";
import {
  aggregateOf,
  lossesOf,
  readStudy,
  type Row,
  type RunResult,
  scoreOf,
} from "../../../experiments/runs/results.ts";
import { latexTables, scoresTable, textTable } from "../../../experiments/runs/table.ts";
import { scoreText } from "../../../experiments/evaluation/table.ts";
import { interval } from "../../../experiments/evaluation/probe/statistics.ts";
import { processesOf } from "../../../experiments/machines/processes.ts";
import { readRecord } from "../../../experiments/training/run_folder.ts";
import { hasBrowser, lookAt } from "../../support/browser.ts";
import { inFolder } from "../../support/hear/made.ts";
import { worlds } from "../../support/worlds.ts";

const document = (changes: Readonly<Record<string, unknown>> = {}) => ({
  extends: "mamba",
  name: "little",
  device: "wasm",
  clip: { frames: 40 },
  encoder: { dim: 16, depth: 1 },
  schedule: { warmupSteps: 1, steps: 4 },
  batch: 2,
  data: { kind: "synthetic", clips: 6, seconds: 1, heldOutFraction: 0.3 },
  evaluation: { kind: "none" },
  evaluateEvery: 2,
  checkpointEvery: 2,
  report: { examples: 1 },
  sweep: [
    { title: "Families & seeds", extends: ["mamba", "transformer"], seed: [0, 1] },
    { title: "Width", extends: ["mamba"], "encoder.dim": [8, 16] },
  ],
  ...changes,
});

const studyOf = async (folder: string, of: unknown = document()): Promise<Study> => {
  Deno.writeTextFileSync(`${folder}/study.json`, JSON.stringify(of));
  const read = await readExperiment(`${folder}/study.json`)();
  assert(E.isRight(read) && read.right.kind === "study", JSON.stringify(read));
  return read.right.study;
};

/** What a call writes to the terminal, and what it gives. */
const heard = async <A>(
  act: () => Promise<A>,
): Promise<{ readonly of: A; readonly out: string; readonly err: string }> => {
  const said: { out: string[]; err: string[] } = { out: [], err: [] };
  const { log, error } = console;
  console.log = (text: string) => said.out.push(text);
  console.error = (text: string) => said.err.push(text);
  try {
    const of = await act();
    return { of, out: said.out.join("\n"), err: said.err.join("\n") };
  } finally {
    Object.assign(console, { log, error });
  }
};

const checkpoint = (run: string): Uint8Array => Deno.readFileSync(`${run}/checkpoint.safetensors`);

const text = (path: string): string => Deno.readTextFileSync(path);

/** Lines of a table without its columns of time. */
const timeless = (csv: string): readonly string[] =>
  csv.trim().split("\n").map((line) => line.split(",").slice(0, 13).join(","));

Deno.test("a study makes its runs once, compares them, and goes on where it was", () =>
  inFolder(async (place) => {
    const study = await studyOf(place), folder = `${place}/whole`;
    const first = await heard(() => runStudy(study, { folder, resume: false }));
    assertStrictEquals(first.of, 0, first.err);
    const names = ["mamba_seed-0", "mamba_seed-1", "transformer_seed-0", "transformer_seed-1"];
    // The wider model of the second part is the first of the first.
    assertEquals(study.runs.map(({ name }) => name), [...names, "mamba_dim-8"]);
    for (const { name } of study.runs) {
      assertStrictEquals(readRecord(`${folder}/${name}`)?.state, "finished");
    }
    assertMatch(first.out, /^Families & seeds\n +parameters .*\nmamba \(2 seeds\) .* ± /m);
    assertMatch(first.out, /^mamba, dim 8 /m);
    const page = text(`${folder}/report.html`);
    assertMatch(page, /<h2>Families &#38; seeds<\/h2>/);
    assertMatch(page, /5 runs of 5\. /);
    assertNotMatch(page, /NaN|undefined|Infinity|https?:/);
    // Both families fill in the same clip.
    assertStrictEquals(page.match(/squared error in masked patches/g)?.length, 2);
    if (hasBrowser) {
      assertEquals((await lookAt(`${folder}/report.html`)).flatMap((of) => of.problems), []);
    }
    const csv = text(`${folder}/runs.csv`);
    assertStrictEquals(csv.trim().split("\n").length, 1 + 4 + 2);
    assertMatch(csv, /^Width,"mamba, dim 16",mamba_seed-0,0,mamba,\d+,\d/m);
    assertMatch(
      text(`${folder}/tables.tex`),
      /^% Families & seeds\n\\begin\{tabular\}\{lrrrrrrr\}/,
    );

    const again = await heard(() => runStudy(study, { folder, resume: false }));
    assertStrictEquals(again.of, 1);
    assertMatch(again.err, /holds 5 of the 5 runs; add --resume to go on with the study/);

    // What is finished is kept; what is not there is made, with the same bits.
    const lost = `${folder}/${names[3]}`, kept = `${folder}/${names[0]}/checkpoint.safetensors`;
    const bits = checkpoint(lost), written = Deno.statSync(kept).mtime;
    Deno.removeSync(lost, { recursive: true });
    const resumed = await heard(() => runStudy(study, { folder, resume: true }));
    assertStrictEquals(resumed.of, 0, resumed.err);
    assertStrictEquals(resumed.err.match(/finished before/g)?.length, 4);
    assertEquals(checkpoint(lost), bits);
    assertEquals(Deno.statSync(kept).mtime, written);
    assertEquals(timeless(text(`${folder}/runs.csv`)), timeless(csv));

    const other = { ...study, runs: study.runs.map((spec) => ({ ...spec, batch: 4 })) };
    const refused = await heard(() => runStudy(other, { folder, resume: true }));
    assertStrictEquals(refused.of, 1);
    assertMatch(refused.err, /cannot go on with another spec\n {2}batch: 2 there, 4 here/);

    // Two machines that see one folder, one after the other, leave what one leaves.
    const halves = `${place}/halves`;
    const one = await heard(() =>
      runStudy(study, { folder: halves, resume: false, shard: { index: 1, of: 2 } })
    );
    assertStrictEquals(one.of, 0, one.err);
    assertMatch(text(`${halves}/report.html`), /Not finished: mamba_seed-1; transformer_seed-1\./);
    const two = await heard(() =>
      runStudy(study, { folder: halves, resume: false, shard: { index: 2, of: 2 } })
    );
    assertStrictEquals(two.of, 0, two.err);
    assertEquals(timeless(text(`${halves}/runs.csv`)), timeless(csv));
    assertEquals(checkpoint(`${halves}/${names[1]}`), checkpoint(`${folder}/${names[1]}`));

    const gone = deleteRun("halves", place);
    assertEquals(gone, E.right(halves));
    assertThrows(() => Deno.statSync(halves), Deno.errors.NotFound);
  }));

Deno.test("a run that breaks down is told, and the others are made", () =>
  inFolder(async (place) => {
    const study = await studyOf(
      place,
      document({ sweep: [{ extends: ["mamba"], "optimiser.peakLearningRate": [1e30, 0.001] }] }),
    );
    const folder = `${place}/study`;
    const { of, err, out } = await heard(() => runStudy(study, { folder, resume: false }));
    assertStrictEquals(of, 1);
    assertMatch(err, /stopped early: mamba_peakLearningRate-1e-30$/);
    assertMatch(out, /^mamba, peakLearningRate 1e\+30 \(not finished\) /m);
    assertMatch(
      text(`${folder}/report.html`),
      /Not finished: .* \(the loss of (step \d|the held-out clips after step \d) is not a number/,
    );
    assertStrictEquals(readRecord(`${folder}/${study.runs[1].name}`)?.state, "finished");
  }));

Deno.test("processes that share the runs of a study agree, and the first one reports", () =>
  inFolder(async (place) => {
    const study = await studyOf(place, document({ sweep: [{ extends: ["mamba"], seed: [0, 1] }] }));
    const at = (name: string) => ({ folder: `${place}/${name}`, resume: false });
    const one = await heard(() => runStudy(study, at("one")));
    assertStrictEquals(one.of, 0, one.err);
    const both = await heard(() =>
      Promise.all(worlds(2).map((world) => runStudy(study, at("both"), processesOf(world))))
    );
    assertEquals(both.of, [0, 0], both.err);
    assertStrictEquals(both.err.match(/^run 2 of 2, mamba_seed-1:$/gm)?.length, 1);
    for (const { name } of study.runs) {
      const [own, shared] = ["one", "both"].map((of) =>
        readStudy(study, `${place}/${of}`).runs.find(({ spec }) => spec.name === name)!.metrics
      );
      own.forEach(({ heldOutLoss, loss }, k) => {
        const near = (a = 0, b = 0) => assertLess(Math.abs(a - b), 1e-5, `${a} and ${b}`);
        near(heldOutLoss, shared[k].heldOutLoss);
        near(loss, shared[k].loss);
      });
    }
    // The first finds what is there for all.
    const again = await heard(() =>
      Promise.all(worlds(2).map((world) => runStudy(study, at("both"), processesOf(world))))
    );
    assertEquals(again.of, [1, 1]);
    assertStrictEquals(again.err.match(/add --resume/g)?.length, 1);
  }));

Deno.test("what keeps every run from beginning ends a study at once", () =>
  inFolder(async (place) => {
    const data = {
      kind: "folder",
      path: `${place}/none`,
      heldOutFraction: 0.1,
      skippedFraction: 0,
    };
    const study = await studyOf(place, document({ data }));
    const folder = `${place}/study`;
    const { of, err } = await heard(() => runStudy(study, { folder, resume: false }));
    assertStrictEquals(of, 1);
    assertStrictEquals(err.match(/none/g)?.length, 1, err);
    assertNotMatch(err, /run 2 of/);
  }));

// ---------------------------------------------------------------- numbers

const runOf = (name: string, last: number, scores: RunResult["scores"] = []): RunResult =>
  ({
    spec: { name },
    record: { baseline: 1 },
    metrics: [{ step: 0, heldOutLoss: 2 }, { step: 1, loss: 1 }, { step: 2, heldOutLoss: last }],
    seconds: 1,
    scores,
    examples: [],
  }) as unknown as RunResult;

const scored = (kind: "pre-trained" | "untrained", values: readonly number[]) => ({
  model: kind,
  kind,
  task: "tones",
  score: "top1_acc",
  values,
});

Deno.test("intervals are over seeds of pre-training where there are several, else over the probe's", () => {
  const one: Row = {
    label: "one",
    runs: [runOf("a", 0.5, [scored("pre-trained", [0.6, 0.8])])],
    missing: [],
  };
  assertEquals(lossesOf(one).last, { mean: 0.5, runs: 1 });
  assertEquals(scoreOf(one, "tones"), interval([0.6, 0.8]));
  const two: Row = {
    ...one,
    runs: [...one.runs, runOf("b", 0.7, [scored("pre-trained", [0.9, 1])])],
  };
  assertEquals(lossesOf(two).last, interval([0.5, 0.7]));
  assertEquals(lossesOf(two).first, interval([2, 2]));
  assertEquals(scoreOf(two, "tones"), interval([(0.6 + 0.8) / 2, (0.9 + 1) / 2]));
  assertStrictEquals(scoreOf(two, "tones", "untrained"), undefined);
  const ranges = [{ task: "tones", min: 0.5, max: 1, worst: "", best: "" }];
  const aggregates = aggregateOf(two, ranges)!;
  assertLess(Math.abs(aggregates.mean - (40 + 90) / 2), 1e-9);
  assertStrictEquals(aggregateOf(two, undefined), undefined);
});

Deno.test("a score that is below 0 by rounding alone is 0", () => {
  assertStrictEquals(scoreText({ mean: -1e-9, halfWidth: 1e-9, runs: 2 }, 1), "0.0 ± 0.0");
  assertStrictEquals(scoreText({ mean: -0.06, runs: 1 }, 1), "-0.1");
});

Deno.test("scores of a study are compared with the untrained encoders' and the statistics'", () =>
  inFolder(async (folder) => {
    const study = await studyOf(folder, document({ sweep: [{ extends: ["mamba", "xlstm"] }] }));
    for (const [k, { name }] of study.runs.entries()) {
      const run = `${folder}/${name}`;
      Deno.mkdirSync(`${run}/evaluation`, { recursive: true });
      Deno.writeTextFileSync(
        `${run}/run.json`,
        JSON.stringify({ state: "finished", versions: {} }),
      );
      const models = [
        { name, kind: "pre-trained", values: [0.8 + 0.1 * k, 0.8] },
        { name: `${name}, untrained`, kind: "untrained", values: [0.5, 0.5] },
        { name: "log-mel statistics", kind: "log-mel statistics", values: [0.7, 0.7] },
      ];
      const evaluation = {
        models,
        tasks: [{ name: "tones", score: "top1_acc" }],
        results: models.map(({ name, values }) => ({
          model: name,
          task: "tones",
          seeds: values.map((value) => ({ scores: { top1_acc: value } })),
        })),
      };
      Deno.writeTextFileSync(`${run}/evaluation/evaluation.json`, JSON.stringify(evaluation));
    }
    const result = readStudy(study, folder);
    const table = scoresTable(result.parts[0], result)!;
    assertEquals(table.head, ["", "tones", "s(m)"]);
    assertEquals(table.rows.map(([label, score, s]) => [label, score, s.split(" ")[0]]), [
      ["mamba", "80.0 ± 0.0", "85.7"],
      ["mamba, untrained", "50.0 ± 0.0", "0.0"],
      ["xlstm", `85.0 ± ${(100 * interval([0.9, 0.8]).halfWidth!).toFixed(1)}`, "100.0"],
      ["xlstm, untrained", "50.0 ± 0.0", "0.0"],
      ["log-mel statistics", "70.0 ± 0.0", "57.1"],
    ]);
    assertEquals(table.best, [undefined, 2, 2]);
    assertMatch(latexTables([table]), /^xlstm & \\textbf\{85\.0 \$\\pm\$/m);
    assertMatch(textTable(table), /^log-mel statistics +70\.0 ± 0\.0 +57\.1 ± 0\.0$/m);
  }));
