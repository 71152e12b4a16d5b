// Embeddings in hear-eval-kit's layout, read back by the kit's rules: in TypeScript, and with NumPy
// where a Python has it.
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
  fail,
} from "@std/assert";
import fc from "fast-check";
import * as E from "fp-ts/Either.js";
import {
  layoutErrorText,
  writeEmbeddings,
} from "../../../../experiments/evaluation/probe/kit_layout.ts";
import { type Picklable, pickle } from "../../../../experiments/formats/pickle_write.ts";
import { kitOrder, pythonShuffles } from "../../../../experiments/evaluation/probe/shuffle.ts";
import { readTask, type Task } from "../../../../experiments/data/hear/task.ts";
import { unpickle, type Value } from "../../../../experiments/formats/pickle_read.ts";
import {
  filesOf,
  fourFolds,
  inFolder,
  type Made,
  threeSplits,
  writeFiles,
} from "../../../support/hear/made.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};

const taskIn = async (folder: string, made: Made): Promise<Task> => {
  writeFiles(folder, filesOf(made));
  return right(await readTask(folder)());
};

// Names in several scripts, and enough clips that their order matters.
const many: Made = {
  ...fourFolds,
  vocabulary: "idx,label\n0,a\n1,größe\n2,東京\n",
  splits: Object.fromEntries(
    ["fold00", "fold01", "fold02", "fold03"].map((fold, f) => [
      fold,
      Object.fromEntries(
        Array.from({ length: 3 + 7 * f }, (_, k) => [
          `${fold} é ${k}.wav`,
          ["a", "größe", "東京"].filter((_, label) => (k >> label) & 1),
        ]),
      ),
    ]),
  ),
};

// The first number tells the split, the second the clip.
const width = 3;
const embeddingsOf = (task: Task): readonly Float32Array[] =>
  task.splits.map(({ clips }, split) =>
    Float32Array.from(clips.flatMap((_, clip) => [split, clip, Math.fround(clip / 7 - split)]))
  );

interface Found {
  readonly split: string;
  readonly clips: readonly string[];
  readonly rows: readonly (readonly number[])[];
  readonly labels: readonly (readonly number[])[];
}

// What the kit's rules find must be the task, in the kit's order.
const check = (task: Task, found: readonly Found[]): void => {
  const orders = kitOrder(task), embeddings = embeddingsOf(task);
  assertEquals(found.map(({ split }) => split), task.splits.map(({ name }) => name));
  task.splits.forEach(({ clips }, k) => {
    const order = [...orders[k]];
    assertEquals(found[k].clips, order.map((clip) => clips[clip].file));
    assertEquals(found[k].labels, order.map((clip) => clips[clip].labels));
    assertSameNumbers(
      found[k].rows,
      order.map((clip) => [...embeddings[k].subarray(clip * width, (clip + 1) * width)]),
    );
  });
};

const nothing = {
  names: new Map<string, undefined>(),
  reference: () => E.left("there are no references"),
};
const plain = (value: Value<never>): unknown => {
  if (typeof value !== "object" || value === null) return value;
  if (value.kind === "list") return value.items.map(plain);
  if (value.kind === "dict") {
    return Object.fromEntries([...value.entries].map(([key, item]) => [plain(key), plain(item)]));
  }
  return fail(`a ${value.kind}`);
};

const readHere = (folder: string, task: Task): readonly Found[] => {
  const orders = kitOrder(task);
  return task.splits.map(({ name, clips }, k) => {
    const [count, wide] = JSON.parse(
      Deno.readTextFileSync(`${folder}/${name}.embedding-dimensions.json`),
    );
    const bytes = new Uint8Array(Deno.readFileSync(`${folder}/${name}.embeddings.npy`));
    assertStrictEquals(bytes.length, 4 * count * wide);
    const values = new Float32Array(bytes.buffer);
    const file = new Uint8Array(Deno.readFileSync(`${folder}/${name}.target-labels.pkl`));
    const labels = plain(right(unpickle<never>(file, nothing))) as readonly (readonly string[])[];
    assertStrictEquals(labels.length, count);
    return {
      split: name,
      clips: [...orders[k]].map((clip) => clips[clip].file),
      rows: Array.from({ length: count }, (_, r) => [...values.subarray(r * wide, (r + 1) * wide)]),
      labels: labels.map((of) => of.map((label) => task.labels.indexOf(label))),
    };
  });
};

const pythonWithNumpy = async (): Promise<string | undefined> => {
  for (const python of ["python3", "/usr/bin/python3"]) {
    try {
      const { success } = await new Deno.Command(python, {
        args: ["-c", "import numpy"],
        stdout: "null",
        stderr: "null",
      }).output();
      if (success) return python;
    } catch {
      // There is none of that name.
    }
  }
};

const tasks: Readonly<Record<string, Made>> = { threeSplits, fourFolds, many };

Deno.test("what is written is read back by the kit's rules", () =>
  inFolder(async (folder) => {
    for (const [name, made] of Object.entries(tasks)) {
      const task = await taskIn(`${folder}/tasks/${name}`, made);
      const out = right(
        await writeEmbeddings(`${folder}/embeddings/`, task, width, embeddingsOf(task))(),
      );
      assertStrictEquals(out, `${folder}/embeddings/${name}`);
      check(task, readHere(out, task));
      const names = [...Deno.readDirSync(out)].map(({ name }) => name).sort();
      const perSplit = task.splits.flatMap(({ name }) =>
        ["json", "embeddings.npy", "embedding-dimensions.json", "target-labels.pkl"]
          .map((kind) => `${name}.${kind}`)
      );
      assertEquals(
        names,
        [".done.embeddings", "labelvocabulary.csv", "task_metadata.json", ...perSplit].sort(),
      );
      for (const file of ["task_metadata.json", "labelvocabulary.csv"]) {
        assertEquals(Deno.readFileSync(`${out}/${file}`), filesOf(made).get(file));
      }
    }
    assertEquals(
      [...Deno.readDirSync(`${folder}/embeddings`)].map(({ name }) => name).sort(),
      Object.keys(tasks).sort(),
    );
  }));

Deno.test("NumPy and Python's pickle read it too, in the order that Python shuffles to", async () => {
  const python = await pythonWithNumpy();
  if (python === undefined) return console.log("skipped: no python3 here has NumPy");
  const script = decodeURIComponent(
    new URL("../../../support/hear/read_embeddings.py", import.meta.url).pathname,
  );
  await inFolder(async (folder) => {
    for (const [name, made] of Object.entries(tasks)) {
      const task = await taskIn(`${folder}/tasks/${name}`, made);
      const out = right(await writeEmbeddings(folder, task, width, embeddingsOf(task))());
      const { success, stdout, stderr } = await new Deno.Command(python, {
        args: [script, out],
        stdout: "piped",
        stderr: "piped",
        env: { PYTHONUTF8: "1" },
      }).output();
      assert(success, new TextDecoder().decode(stderr));
      check(task, JSON.parse(new TextDecoder().decode(stdout)));
    }
  });
});

Deno.test("Python's shuffles", () => {
  // random.Random(0), then shuffle(list(range(10))) and shuffle(list(range(1000))).
  const [ten, thousand] = pythonShuffles(0, [10, 1000]);
  assertEquals([...ten], [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]);
  assertEquals([...thousand.slice(0, 8)], [391, 933, 207, 558, 54, 410, 632, 295]);
  assertEquals([...thousand.slice(-3)], [913, 597, 366]);
  assertEquals(pythonShuffles(5, [0, 1]).map((order) => [...order]), [[], [0]]);
  fc.assert(fc.property(fc.nat(), fc.nat(200), (seed, length) => {
    const [order] = pythonShuffles(seed, [length]);
    assertEquals([...order].sort((a, b) => a - b), Array.from({ length }, (_, k) => k));
  }));
});

Deno.test("whatever is pickled is unpickled", () => {
  const { value } = fc.letrec<{ value: Picklable }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.string({ unit: "grapheme" }),
      fc.maxSafeInteger(),
      fc.double({ noNaN: true }),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie("value")),
      fc.dictionary(fc.string(), tie("value"), { noNullPrototype: true }),
    ),
  }));
  fc.assert(fc.property(value, (value) => {
    assertSameNumbers(plain(right(unpickle<never>(pickle(value), nothing))), value);
  }));
  assertThrows(() => pickle("\ud800"), Error, "has no UTF-8");
});

Deno.test("written again it replaces what was there, scores of the kit included", () =>
  inFolder(async (folder) => {
    const task = await taskIn(`${folder}/tasks/made`, threeSplits);
    const out = right(await writeEmbeddings(folder, task, width, embeddingsOf(task))());
    Deno.writeTextFileSync(`${out}/prediction-done.json`, "{}");
    const doubled = embeddingsOf(task).map((values) => values.map((value) => 2 * value));
    right(await writeEmbeddings(folder, task, width, doubled)());
    assert(![...Deno.readDirSync(out)].some(({ name }) => name === "prediction-done.json"));
    assertStrictEquals(readHere(out, task)[1].rows[0][0], 2);
  }));

Deno.test("what cannot be written leaves what was there", () =>
  inFolder(async (folder) => {
    const task = await taskIn(`${folder}/tasks/made`, threeSplits);
    const embeddings = embeddingsOf(task);
    const text = async (of: readonly Float32Array[], into: string) => {
      const written = await writeEmbeddings(into, task, width, of)();
      return E.isLeft(written) ? layoutErrorText(written.left) : fail("it was written");
    };
    // What is not finite is refused by its clip.
    const bad = embeddings.map((values) => values.slice());
    bad[0][2 * width + 1] = NaN;
    assertStrictEquals(
      await text(bad, folder),
      "the embedding of 'c.wav' in train is not finite at 1, and hear-eval-kit takes only finite " +
        "ones",
    );
    // Another folder of that name is not removed; nor is anything put beside it.
    assertMatch(
      await text(embeddings, `${folder}/tasks`),
      /made is there and holds no embeddings/,
    );
    assert(E.isRight(await readTask(`${folder}/tasks/made`)()));
    Deno.writeTextFileSync(`${folder}/file`, "");
    assertMatch(await text(embeddings, `${folder}/file`), /^cannot make the folder .*file/);
    // The task's files are gone meanwhile.
    Deno.removeSync(`${folder}/tasks/made/test.json`);
    assertMatch(await text(embeddings, folder), /^cannot write into the folder /);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), [
      "file",
      "tasks",
    ]);
    await assertRejects(
      () => writeEmbeddings(folder, task, width + 1, embeddings)(),
      Error,
      "embeddings of 4 numbers do not fit its clips",
    );
  }));
