// Whole evaluations of embeddings by probes: against PyTorch's scores, and what the procedure promises.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import type { Task } from "../../../../experiments/data/hear/task.ts";
import {
  correctedProtocol,
  faithfulProtocol,
  probeTask,
  type TaskEmbeddings,
} from "../../../../experiments/evaluation/probe/probe.ts";
import { interval } from "../../../../experiments/evaluation/probe/statistics.ts";
import { trainersOn } from "../../../../experiments/evaluation/probe/trials.ts";
import { wasm } from "../../../support/device.ts";
import { pythonWithTorch, runPython } from "../../../support/torch.ts";
import reference from "../../../support/hear/probe_reference.json" with { type: "json" };
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const trainers = trainersOn(wasm);

const folds = ["fold00", "fold01", "fold02"];

const taskOf = (
  splits: readonly (readonly (readonly number[])[])[],
  classes: number,
  changes: Partial<Task["metadata"]> = {},
): Task => ({
  folder: "made",
  metadata: {
    name: "made",
    version: "v1",
    prediction: "multiclass",
    splitMode: "new_split_kfold",
    splits: folds,
    sampleDuration: null,
    evaluation: ["top1_acc"],
    ...changes,
  },
  labels: Array.from({ length: classes }, (_, k) => `class ${k}`),
  splits: splits.map((labels, split) => ({
    name: (changes.splits ?? folds)[split],
    clips: labels.map((of, k) => ({ file: `${k}.wav`, path: "", labels: of })),
  })),
  rate: 16000,
});

type Reference = typeof reference;

/** Our scores of the reference's embeddings, which both tests compare. */
const probed = (() => {
  let found: ReturnType<typeof probeTask> | undefined;
  return () => {
    const { classes, features, hidden, folds, scores } = reference.scores;
    const task = taskOf(folds.map(({ labels }) => labels.map((label) => [label])), classes);
    const embeddings: TaskEmbeddings = {
      width: features,
      splits: folds.map(({ embeddings }) => Float32Array.from(embeddings.flat())),
    };
    const seeds = scores.map((_, k) => k), protocol = { ...faithfulProtocol, hidden };
    return found ??= probeTask(trainers, task, embeddings, { seeds, protocol });
  };
})();

/** Compares them with what PyTorch came to. */
const holds = async (scores: readonly number[]) => {
  const found = await probed();
  assert(found !== undefined);
  const ours = interval(found.map(({ scores }) => scores.top1_acc!));
  const theirs = interval(scores);
  console.log(
    `PyTorch ${theirs.mean.toFixed(4)} ± ${theirs.halfWidth!.toFixed(4)}, ` +
      `ours ${ours.mean.toFixed(4)} ± ${ours.halfWidth!.toFixed(4)}`,
  );
  assertLessOrEqual(Math.abs(ours.mean - theirs.mean), theirs.halfWidth!);
};

Deno.test("scores are those of PyTorch's runs of the published probe, within their spread", async () => {
  const { folds, scores } = reference.scores;
  await holds(scores);
  const truth = folds.flatMap(({ labels }) => labels);
  for (const { folds, confusion } of (await probed())!) {
    assertEquals(folds.map(({ test }) => test), [["fold00"], ["fold01"], ["fold02"]]);
    for (const { epoch } of folds) assert(epoch % 3 === 0 && epoch > 0 && epoch <= 498);
    // Rows of the confusion are the true classes: each clip is tested once.
    confusion!.forEach((row, label) => {
      const count = truth.filter((of) => of === label).length;
      assertStrictEquals(row.reduce((a, b) => a + b, 0), count);
    });
  }
});

const python = pythonWithTorch();
Deno.test({
  name: "and of its runs on this machine" +
    (python === undefined ? " (ignored: no python3 here has torch)" : ""),
  ignore: python === undefined,
  fn: async () => {
    const script = new URL("../../../support/hear/probe_reference.py", import.meta.url).pathname;
    const made: Reference = JSON.parse(runPython(python!, [script]));
    // The embeddings come from Python's own random numbers, which no version changes.
    assertEquals(made.scores.folds, reference.scores.folds);
    made.steps.forEach(({ losses }, k) =>
      losses.forEach((loss, step) =>
        assertLess(Math.abs(loss - reference.steps[k].losses[step]), 1e-4)
      )
    );
    const there = interval(reference.scores.scores), here = interval(made.scores.scores);
    assertLessOrEqual(Math.abs(here.mean - there.mean), there.halfWidth! + here.halfWidth!);
    await holds(made.scores.scores);
  },
});

/** Three splits of clips whose labels can be told from their embeddings. */
const easy = (prediction: "multiclass" | "multilabel") => {
  const sizes = [40, 17, 23], classes = 3, width = 6;
  const labels = sizes.map((size, split) =>
    Array.from(
      { length: size },
      (_, k) =>
        prediction === "multiclass" ? [(k * 7 + split) % 3] : [0, 1, 2].filter((of) => k >> of & 1),
    )
  );
  const splits = labels.map((of) =>
    Float32Array.from({ length: of.length * width }, (_, k) => {
      const own = of[Math.floor(k / width)], feature = k % width;
      return 0.3 * Math.sin(k * k) + +own.includes(feature % classes);
    })
  );
  const task = taskOf(labels, classes, {
    prediction,
    splitMode: "trainvaltest",
    splits: ["train", "valid", "test"],
    evaluation: prediction === "multiclass" ? ["top1_acc", "aucroc"] : ["mAP"],
  });
  return { task, embeddings: { width, splits } };
};

const quick = { ...faithfulProtocol, hidden: 32, epochs: 60, patience: 3 };

Deno.test("batches smaller than a split, orders of their own, and multilabel tasks", async () => {
  for (const prediction of ["multiclass", "multilabel"] as const) {
    const { task, embeddings } = easy(prediction);
    const [main] = task.metadata.evaluation;
    const grid = [{ layers: 1, dropout: 0.1, rate: 3e-3 }, {
      layers: 2,
      dropout: 0,
      rate: 1e-2,
    }] as const;
    const protocol = { ...quick, ...{ shuffled: correctedProtocol.shuffled }, batch: 16, grid };
    const ends: number[] = [];
    const found = await probeTask(trainers, task, embeddings, {
      seeds: [0, 1, 2],
      protocol,
      onProgress: ({ ended, trials }) => {
        assertStrictEquals(trials, 6);
        ends.push(ended);
      },
    });
    assertStrictEquals(ends.at(-1), 6);
    assertEquals(ends, ends.toSorted((a, b) => a - b));
    found!.forEach(({ seed, scores, folds, point, confusion, precisions }, k) => {
      assertStrictEquals(seed, k);
      assert(grid.includes(point as typeof grid[number]));
      assertStrictEquals(folds.length, 1);
      assertGreater(scores[main]!, 0.95, `${prediction}: ${scores[main]}`);
      assertStrictEquals(confusion === undefined, prediction === "multilabel");
      assertStrictEquals(precisions === undefined, prediction === "multiclass");
    });
    // The same again is the same to the bit.
    assertSameNumbers(
      await probeTask(trainers, task, embeddings, { seeds: [0, 1, 2], protocol }),
      found,
    );
    // And a seed is what it is without the others.
    const one = await probeTask(trainers, task, embeddings, { seeds: [1], protocol });
    assertSameNumbers(one![0], found![1]);
  }
});

Deno.test("training stops where it is told to, and where it does not get better", async () => {
  const { task, embeddings } = easy("multiclass");
  const epochs = async (changes: Partial<typeof quick>) =>
    (await probeTask(trainers, task, embeddings, {
      seeds: [0],
      protocol: { ...quick, grid: [{ layers: 1, dropout: 0, rate: 0 }], ...changes },
    }))![0].epochs;
  // A rate of 0 never gets better than at the first validation, but running moments settle.
  assertStrictEquals(await epochs({ epochs: 10, patience: 100 }), 9);
  const stopped = await epochs({ epochs: 500, patience: 4 });
  assert(stopped < 400 && stopped >= 15, `${stopped}`);
  // No accuracy is above 1, so that training ends where it is reached: 20 validations would follow.
  const rate = 1e-2, epochsOf = { grid: [{ layers: 1, dropout: 0, rate }], patience: 20 } as const;
  const perfect = await probeTask(trainers, task, embeddings, {
    seeds: [0],
    protocol: { ...quick, ...epochsOf },
  });
  const [{ folds: [{ validation, epoch }], epochs: trained }] = perfect!;
  assertStrictEquals(validation, 1);
  assertStrictEquals(trained, epoch);
  // Sums of these overflow: there is nothing to wait for, and no score.
  const splits = embeddings.splits.map((of) => of.slice().fill(1e38));
  const options = { seeds: [0], protocol: quick };
  const found = await probeTask(trainers, task, { ...embeddings, splits }, options);
  assertStrictEquals(found![0].epochs, 2 * quick.every);
  assert(Number.isNaN(found![0].scores.top1_acc));
});

Deno.test("an interrupted evaluation gives nothing", async () => {
  const { task, embeddings } = easy("multiclass");
  let rounds = 0;
  const options = { seeds: [0], protocol: quick, interrupted: () => ++rounds === 2 };
  assertStrictEquals(await probeTask(trainers, task, embeddings, options), undefined);
  assertStrictEquals(rounds, 2);
});
