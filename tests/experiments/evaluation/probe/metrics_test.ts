// HEAR's scores against scikit-learn's on fixed vectors (ties, missing classes, zeros of both signs),
// against their definitions on random ones, and the statistics over seeds against SciPy's.
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
  assertThrows,
  fail,
} from "@std/assert";
import fc from "fast-check";
import * as E from "fp-ts/Either.js";
import {
  aggregate,
  aggregateErrorText,
  placed,
} from "../../../../experiments/evaluation/probe/aggregate.ts";
import { type ScoreName, scoreNames } from "../../../../experiments/data/hear/metadata.ts";
import {
  areasUnderRoc,
  averagePrecisions,
  confusion,
  predicted,
  type Predictions,
  score,
} from "../../../../experiments/evaluation/probe/metrics.ts";
import {
  interval,
  normalQuantile,
  tQuantile,
} from "../../../../experiments/evaluation/probe/statistics.ts";
import vectors from "../../../support/hear/metrics_vectors.json" with { type: "json" };
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const numberOf = (written: number | string): number =>
  typeof written === "number" ? written : Number(written.replace("inf", "Infinity"));

const numbers = (written: string): readonly number[] =>
  written === "" ? [] : written.split(" ").map(Number);

const close = (found: number, expected: number, what: string, tolerance = 1e-12): void => {
  if (Object.is(found, expected) || found === expected) return;
  assertLessOrEqual(
    Math.abs(found - expected),
    tolerance * Math.max(1, Math.abs(expected)),
    `${what}: found ${found}, expected ${expected}`,
  );
};

Deno.test("scores are scikit-learn's", () => {
  assertGreaterOrEqual(vectors.cases.length, 10);
  for (const { name, classes, scores, labels, expected, confusion: counts } of vectors.cases) {
    const of: Predictions = {
      classes,
      scores: Float32Array.from(numbers(scores)),
      labels: labels.split(",").map(numbers),
    };
    for (const key of scoreNames) {
      const reference = numberOf(expected[key]);
      const tolerance = key === "d_prime" ? 1e-11 : 1e-13;
      close(score(key, of), reference, `${key} of '${name}'`, tolerance);
    }
    assertEquals(confusion(of), JSON.parse(counts), name);
  }
});

// Predictions for a few clips, with many equal scores.
const predictions: fc.Arbitrary<Predictions> = fc
  .record({ clips: fc.integer({ min: 1, max: 12 }), classes: fc.integer({ min: 1, max: 4 }) })
  .chain(({ clips, classes }) =>
    fc.record({
      classes: fc.constant(classes),
      scores: fc.array(fc.integer({ min: -3, max: 3 }), {
        minLength: clips * classes,
        maxLength: clips * classes,
      }).map((values) => Float32Array.from(values, (value) => value / 4)),
      labels: fc.array(
        fc.subarray(Array.from({ length: classes }, (_, k) => k)),
        { minLength: clips, maxLength: clips },
      ),
    })
  );

Deno.test("precision and area follow from their definitions", () => {
  fc.assert(fc.property(predictions, (of) => {
    const { classes, scores, labels } = of;
    const precisions = averagePrecisions(of), areas = areasUnderRoc(of);
    for (let label = 0; label < classes; label++) {
      const at = labels.map((_, clip) => scores[clip * classes + label]);
      const having = labels.map((of) => of.includes(label));
      const positives = having.filter((has) => has).length;
      // Every positive counts the precision among the clips that score no lower than it.
      const precision = at.map((value, k) => {
        if (!having[k]) return 0;
        const taken = at.flatMap((other, j) => other >= value ? [having[j]] : []);
        return taken.filter((has) => has).length / taken.length;
      }).reduce((sum, one) => sum + one, 0) / Math.max(1, positives);
      close(precisions[label], precision, "average precision");
      const pairs = at.flatMap((value, k) =>
        having[k]
          ? at.flatMap((other, j) =>
            having[j] ? [] : [value > other ? 1 : value === other ? 0.5 : 0]
          )
          : []
      );
      const area = pairs.length === 0
        ? NaN
        : pairs.reduce<number>((sum, one) => sum + one, 0) / pairs.length;
      close(areas[label], area, "area");
    }
  }));
});

Deno.test("rankings do not change when all scores of a class pass through a rising function", () => {
  const rising = fc.constantFrom<(x: number) => number>(
    (x) => 8 * x - 100,
    (x) => Math.fround(Math.exp(5 * x)),
    (x) => x ** 3 / 1e20,
    (x) => Math.fround(1 / (1 + Math.exp(-x))),
  );
  fc.assert(fc.property(predictions, rising, (of, change) => {
    const changed = { ...of, scores: of.scores.map(change) };
    assertSameNumbers(averagePrecisions(changed), averagePrecisions(of));
    assertSameNumbers(areasUnderRoc(changed), areasUnderRoc(of));
  }));
});

Deno.test("the order of clips is of no matter, reversed scores reverse the area", () => {
  fc.assert(fc.property(predictions, fc.infiniteStream(fc.nat()), (of, stream) => {
    const keys = of.labels.map(() => stream.next().value);
    const order = of.labels.map((_, k) => k).sort((a, b) => keys[a] - keys[b]);
    const moved: Predictions = {
      classes: of.classes,
      labels: order.map((k) => of.labels[k]),
      scores: Float32Array.from(
        order.flatMap((k) => [...of.scores.subarray(k * of.classes, (k + 1) * of.classes)]),
      ),
    };
    for (const name of scoreNames) close(score(name, moved), score(name, of), name);
    const reversed = areasUnderRoc({ ...of, scores: of.scores.map((value) => -value) });
    areasUnderRoc(of).forEach((area, k) => close(reversed[k], 1 - area, "area"));
  }));
});

Deno.test("the confusion matrix counts every clip, its diagonal the accuracy", () => {
  fc.assert(fc.property(predictions, (of) => {
    const counts = confusion(of);
    const sum = counts.flat().reduce((a, b) => a + b, 0);
    assertStrictEquals(sum, of.labels.length);
    const right = counts.reduce((total, row, k) => total + row[k], 0);
    close(right / sum, score("top1_acc", of), "accuracy");
  }));
});

Deno.test("a true label with the highest score is right, in another octave for chroma only", () => {
  const one = (guess: number, label: number): Predictions => ({
    classes: 30,
    scores: Float32Array.from({ length: 30 }, (_, k) => k === guess ? 2 : k > guess ? 1 : 0),
    labels: [[label]],
  });
  assertStrictEquals(score("pitch_acc", one(7, 7)), 1);
  assertStrictEquals(score("pitch_acc", one(7, 19)), 0);
  assertStrictEquals(score("chroma_acc", one(7, 19)), 1);
  assertStrictEquals(score("chroma_acc", one(7, 20)), 0);
  assertEquals([...predicted(one(7, 0))], [7]);
});

Deno.test("a prediction that is not a number makes every score so; sizes that do not fit throw", () => {
  const of = { classes: 2, scores: Float32Array.of(1, 0, NaN, 1), labels: [[0], [1]] };
  for (const name of scoreNames) assert(Number.isNaN(score(name, of)));
  assertThrows(
    () => score("mAP", { ...of, classes: 3 }),
    Error,
    "4 scores are not those of 2 clips",
  );
  assertThrows(() => score("mAP", { classes: 2, scores: new Float32Array(), labels: [] }));
});

Deno.test("mAP over 200 classes and 4000 clips takes a fraction of a second", () => {
  const clips = 4000, classes = 200;
  let state = 1;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const of: Predictions = {
    classes,
    scores: Float32Array.from({ length: clips * classes }, next),
    labels: Array.from({ length: clips }, (_, k) => [k % classes]),
  };
  const began = performance.now();
  const value = score("mAP", of);
  assertLess(performance.now() - began, 5000, "slower than any reason but a quadratic one");
  // By chance: a little above the share of clips that have a class.
  assert(value > 1 / classes && value < 3 / classes, `${value}`);
});

Deno.test("quantiles are SciPy's", () => {
  for (const [level, degrees, expected] of vectors.t) {
    close(tQuantile(level, degrees), expected, `t of ${level}, ${degrees}`, 1e-12);
  }
  for (const [probability, written] of vectors.normal) {
    const found = normalQuantile(Number(probability));
    close(found, numberOf(written), `normal of ${probability}`, 1e-12);
  }
  // A Cauchy variable is within 1 half of the time.
  close(tQuantile(0.5, 1), 1, "t of a half and one degree", 1e-15);
  assert(Number.isNaN(normalQuantile(NaN)));
  assert(Number.isNaN(normalQuantile(1.1)));
  assertThrows(() => tQuantile(0.95, 0), RangeError);
  assertThrows(() => tQuantile(1, 3), RangeError);
});

Deno.test("intervals are SciPy's; one run has none", () => {
  for (const { values: written, mean, halfWidth } of vectors.intervals) {
    const values = numbers(written), found = interval(values);
    close(found.mean, mean, "mean");
    close(found.halfWidth!, halfWidth, "half width", 1e-11);
    assertStrictEquals(found.runs, values.length);
  }
  assertEquals(interval([0.5]), { mean: 0.5, runs: 1 });
  assertStrictEquals(interval([0.5, 0.5, 0.5]).halfWidth, 0);
  assertThrows(() => interval([]), RangeError);
});

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};

Deno.test("the aggregate: worst 0, best 100, with what it is relative to", () => {
  const scores = {
    mel: { a: 0.2, b: 0.5, c: 0.7 },
    mamba: { a: 0.6, b: 0.75, c: 0.7 },
    xlstm: { a: 0.4, b: 1, c: 0.7 },
  };
  const found = right(aggregate(scores));
  assertEquals(found.tasks, [
    { task: "a", min: 0.2, max: 0.6, worst: "mel", best: "mamba" },
    { task: "b", min: 0.5, max: 1, worst: "mel", best: "xlstm" },
  ]);
  assertEquals(found.undecided, ["c"]);
  assertEquals(found.models.map(({ model }) => model), ["mel", "mamba", "xlstm"]);
  [0, 75, 75].forEach((expected, k) => close(found.models[k].score, expected, "s(m)"));
  close(placed(found.tasks, { a: 0.8, b: 0.5 }), 75, "outside of the range");
});

Deno.test("the aggregate lies in 0 to 100 and does not see shifts and scales of a task", () => {
  const table = fc.array(
    fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 3, maxLength: 3 }),
    {
      minLength: 2,
      maxLength: 6,
    },
  );
  const named = (rows: readonly (readonly number[])[]) =>
    Object.fromEntries(rows.map((row, k) => [
      `m${k}`,
      Object.fromEntries(row.map((value, t) => [`t${t}`, value])),
    ]));
  fc.assert(fc.property(table, fc.integer({ min: 1, max: 9 }), fc.integer(), (rows, by, shift) => {
    const found = aggregate(named(rows));
    if (E.isLeft(found)) return assertStrictEquals(found.left._tag, "AllTheSame");
    const moved = right(aggregate(named(rows.map(([a, b, c]) => [by * a + shift, b, c]))));
    found.right.models.forEach(({ score }, k) => {
      assert(score >= 0 && score <= 100 + 1e-9);
      close(moved.models[k].score, score, "moved", 1e-9);
    });
  }));
});

Deno.test("no aggregate without scores of all models on all tasks", () => {
  const text = (scores: Record<string, Record<string, number>>) => {
    const found = aggregate(scores);
    assert(E.isLeft(found));
    return aggregateErrorText(found.left);
  };
  assertMatch(text({ one: { a: 1 } }), /at least 2 are needed, found 1/);
  assertMatch(text({ one: { a: 1, b: 2 }, two: { a: 2 } }), /two has none on b/);
  assertMatch(text({ one: { a: 1 }, two: { a: NaN } }), /two has none on a/);
  assertMatch(text({ one: { a: 1 }, two: { a: 1 } }), /all models score the same/);
});

const named: readonly ScoreName[] = scoreNames;
Deno.test("every score that metadata may name is computed", () => {
  const of: Predictions = { classes: 2, scores: Float32Array.of(1, 0, 0, 1), labels: [[0], [1]] };
  for (const name of named) assertGreaterOrEqual(score(name, of), 1, name);
});
