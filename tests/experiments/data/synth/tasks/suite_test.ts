// The synthetic suite: the same for the same seed, whole tasks in HEAR's layout, and tasks that can be
// learnt and are not trivial.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertNotEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import {
  suiteErrorText,
  writeSuite,
} from "../../../../../experiments/data/synth/tasks/write_suite.ts";
import {
  fewestClips,
  splitsOf,
  syntheticTasks,
  taskClips,
} from "../../../../../experiments/data/synth/tasks/suite.ts";
import { readTask, taskErrorText } from "../../../../../experiments/data/hear/task.ts";
import { inFolder } from "../../../../support/hear/made.ts";
import { bandStatistics, logisticRegression } from "../../../../support/baseline.ts";
import { assertSameNumbers } from "../../../../support/same_numbers.ts";

Deno.test("the same seed gives the same clips, however many are made; another seed others", () => {
  for (const task of syntheticTasks) {
    const clips = [...taskClips(task, { seed: 3, clips: 7 })];
    assertSameNumbers([...taskClips(task, { seed: 3, clips: 9 })].slice(0, 7), clips);
    const others = [...taskClips(task, { seed: 4, clips: 7 })];
    clips.forEach(({ samples }, k) => assertNotEquals(others[k].samples, samples));
  }
  assertStrictEquals(new Set(syntheticTasks.map(({ name }) => name)).size, 10);
  assertThrows(
    () => taskClips(syntheticTasks[0], { seed: 0.5, clips: 1 }).next(),
    Error,
    "the seed 0.5 is not a whole number",
  );
});

Deno.test("clips are finite, heard and of the stated length; every split has every class alike", () => {
  for (const task of syntheticTasks) {
    const counts = new Map<string, number>();
    for (const { split, labels, samples } of taskClips(task, { seed: 1, clips: fewestClips })) {
      const peak = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      assert(peak > 0.09 && peak < 0.91, `${task.name} ${labels}: ${peak}`);
      if (task.seconds !== null) {
        assertStrictEquals(samples.length, Math.round(task.seconds * 16000));
      }
      assert(labels.length === 1 || task.prediction === "multilabel");
      assertEquals(labels, task.labels.filter((label) => labels.includes(label)));
      for (const label of labels) {
        counts.set(`${split} ${label}`, (counts.get(`${split} ${label}`) ?? 0) + 1);
      }
    }
    for (const split of splitsOf(task)) {
      for (const label of task.labels) {
        assertGreater(counts.get(`${split} ${label}`) ?? 0, 0, `${task.name} ${split} ${label}`);
      }
    }
  }
});

Deno.test("a suite is written as whole tasks, kept when it is there, and never half there", async () => {
  await inFolder(async (folder) => {
    // What a killed run left is replaced.
    Deno.mkdirSync(`${folder}/.synthetic_pitch.partial/16000/train`, { recursive: true });
    Deno.writeTextFileSync(`${folder}/.synthetic_pitch.partial/16000/train/x.wav`, "");
    const options = { seed: 0, clips: fewestClips };
    const written = await writeSuite(folder, options)();
    assert(E.isRight(written));
    assertEquals(
      [...Deno.readDirSync(folder)].map(({ name }) => name).sort(),
      syntheticTasks.map(({ name }) => name).sort(),
    );
    for (const task of syntheticTasks) {
      const read = await readTask(`${folder}/${task.name}`)();
      assert(E.isRight(read), E.isLeft(read) ? taskErrorText(read.left) : "");
      assertEquals(read.right.labels, task.labels);
      const all = read.right.splits.flatMap(({ clips }) => clips);
      assertStrictEquals(all.length, fewestClips);
      const [first] = taskClips(task, options);
      const there = all.find(({ file }) => file === first.file)!;
      assertEquals(there.labels.map((k) => task.labels[k]), first.labels);
      assertStrictEquals(there.samples, first.samples.length);
    }
    const again = await writeSuite(folder, options)();
    assert(E.isRight(again) && again.right.every(({ wasThere }) => wasThere));
    const other = await writeSuite(folder, { ...options, seed: 1 })();
    assert(E.isLeft(other));
    assertMatch(
      suiteErrorText(other.left),
      /synthetic_stroke is there already, and was made with/,
    );
    // In the place of a folder there is a file.
    const blocked = await writeSuite(`${folder}/synthetic_pitch/train.json`, options)();
    assert(E.isLeft(blocked));
    assertMatch(suiteErrorText(blocked.left), /train\.json/);
  });
});

Deno.test("every task can be learnt by a plain baseline, and none is trivial", () => {
  for (const task of syntheticTasks) {
    const clips = [...taskClips(task, { seed: 2, clips: 120 })].map(({ samples, ...clip }) => ({
      ...clip,
      row: bandStatistics(samples),
      of: task.labels.indexOf(clip.labels[0]),
    }));
    const tested = (split: string) => ["fold03", "fold04", "valid", "test"].includes(split);
    const train = clips.filter(({ split }) => !tested(split));
    const test = clips.filter(({ split }) => tested(split));
    const score = logisticRegression(
      train.map(({ row }) => row),
      train.map(({ of }) => of),
      task.labels.length,
    );
    const right = test.filter(({ row, labels }) => {
      const scores = score(row);
      return labels.includes(task.labels[scores.indexOf(Math.max(...scores))]);
    }).length / test.length;
    const guess = test.reduce((sum, { labels }) => sum + labels.length, 0) / test.length /
      task.labels.length;
    // Two and a half standard errors above chance.
    const least = guess + 2.5 * Math.sqrt(guess * (1 - guess) / test.length);
    assertGreater(right, least, `${task.name}: ${right} where a guess gives ${guess}`);
    assertLess(right, 0.98, `${task.name}: ${right} is too easy`);
  }
});
