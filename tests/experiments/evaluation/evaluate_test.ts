// The evaluation as a user meets it, from a checkpoint and folders of tasks to tables and a page; and its
// parts: what is kept of embeddings, tables, the plane.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertNotEquals,
  assertNotMatch,
  assertStrictEquals,
  fail,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import { parametersOf } from "../../../experiments/encoders/checkpoint.ts";
import type { EmbeddingModel } from "../../../experiments/encoders/embedder.ts";
import {
  type Evaluation,
  keepScores,
  keptScores,
} from "../../../experiments/evaluation/results.ts";
import { latex, scoresCsv, textTable } from "../../../experiments/evaluation/table.ts";
import { evaluationPage } from "../../../experiments/evaluation/page.ts";
import {
  embeddingsErrorText,
  embedTask,
} from "../../../experiments/evaluation/probe/embed_task.ts";
import { correctedProtocol } from "../../../experiments/evaluation/probe/probe.ts";
import { principalComponents } from "../../../experiments/evaluation/probe/projection.ts";
import {
  encoderScenes,
  logMelScenes,
  type Scenes,
} from "../../../experiments/evaluation/probe/pooled.ts";
import { readTask } from "../../../experiments/data/hear/task.ts";
import { wav16 } from "../../../experiments/formats/wav.ts";
import { initialValues } from "../../../experiments/encoders/initial_values.ts";
import { encode, type TensorData } from "../../../backends/runtime/safetensors.ts";
import type { Encoder } from "../../../models/encoder.ts";
import { corrected } from "../../../models/fidelity.ts";
import { publishedEncoder } from "../../../models/sizes.ts";
import { numbers } from "../../support/check.ts";
import { wasm } from "../../support/device.ts";
import { hasBrowser, lookAt } from "../../support/browser.ts";
import {
  filesOf,
  fourFolds,
  inFolder,
  type Made,
  metadataOf,
  writeFiles,
} from "../../support/hear/made.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const patch = { time: 2, frequency: 4 };
const model: EmbeddingModel = (() => {
  const frontEnd = {
    sampleRate: 16000,
    fft: 64,
    window: 64,
    hop: 32,
    mels: 8,
    fMin: 50,
    fMax: 8000,
  };
  const encoder = {
    ...publishedEncoder("mamba", "tiny"),
    dim: 8,
    depth: 1,
    state: 3,
    patch,
  } as Encoder;
  const values = initialValues(parametersOf({ encoder, frontEnd, frames: 8 }), 3);
  return { encoder, frontEnd, frames: 8, fidelity: corrected, values };
})();

const checkpoint = (): Uint8Array => {
  const { encoder, frontEnd, frames, values } = model;
  const tensors = new Map(
    parametersOf(model).map(({ name, axes }): [string, TensorData] => [name, {
      dtype: "F32",
      shape: Object.values(axes).map(Number),
      data: (values[name] as Float32Array).map((value) => 1.01 * value),
    }]),
  );
  return encode(tensors, {
    encoder: JSON.stringify(encoder),
    frontEnd: JSON.stringify(frontEnd),
    frames: `${frames}`,
    fidelity: JSON.stringify(corrected),
    spec: JSON.stringify({ name: "little", seed: 4 }),
  });
};

const range = (length: number) => Array.from({ length }, (_, k) => k);

/** Low and high tones. */
const tones: Made = {
  metadata: metadataOf({ task_name: "tones", evaluation: ["top1_acc"], version: "v1" }),
  vocabulary: "idx,label\n0,low\n1,high\n",
  splits: Object.fromEntries(
    [["train", 10], ["test", 5], ["valid", 6]].map(([split, clips]) => [
      split,
      Object.fromEntries(
        range(Number(clips)).map((k) => [`${split}${k}.wav`, [k % 2 ? "high" : "low"]]),
      ),
    ]),
  ),
};

const tonesIn = (folder: string): void => {
  writeFiles(folder, filesOf(tones));
  let count = 0;
  for (const [split, clips] of Object.entries(tones.splits)) {
    Object.keys(clips).forEach((file, k) => {
      const pitch = k % 2 ? 2000 + 30 * count++ : 300 + 10 * count++;
      const samples = Float32Array.from(
        { length: 800 },
        (_, t) => 0.3 * Math.sin(2 * Math.PI * pitch * t / 16000),
      );
      Deno.writeFileSync(`${folder}/16000/${split}/${file}`, wav16(samples, 16000));
    });
  }
};

const cli = decodeURIComponent(
  new URL("../../../experiments/commands/main.ts", import.meta.url).pathname,
);

const ran = async (args: readonly string[], cwd: string, command = "evaluate") => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", cli, command, ...args],
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
};

const names = (folder: string): readonly string[] =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

Deno.test("evaluate: a table, files, the kit's layout, and nothing is done twice", async () => {
  await inFolder(async (folder) => {
    tonesIn(`${folder}/tasks/tones-v1-small`);
    writeFiles(`${folder}/tasks/folds`, filesOf(fourFolds));
    Deno.mkdirSync(`${folder}/run`);
    Deno.writeFileSync(`${folder}/run/checkpoint.safetensors`, checkpoint());
    const args = ["--checkpoint", "run/checkpoint.safetensors", "--tasks", "tasks"];
    const first = await ran([...args, "--seeds", "2", "--device", "wasm"], folder);
    assertStrictEquals(first.code, 0, first.err);
    const lines = first.out.split("\n");
    assertMatch(lines[0], /^task +score +little +little, untrained +log-mel statistics$/);
    assertMatch(lines[2], /^folds +top1_acc( +\d+\.\d ± \d+\.\d){3}$/);
    assertMatch(lines[3], /^tones-v1-small +top1_acc( +\d+\.\d ± \d+\.\d){3}$/);
    const out = `${folder}/run/evaluation`;
    assertEquals(names(out), [
      "cache",
      "embeddings",
      "evaluation.html",
      "evaluation.json",
      "scores",
      "scores.csv",
      "scores.tex",
    ]);
    // Two models, two tasks.
    assertEquals(names(`${out}/embeddings`), [
      "little",
      "little-untrained",
      "log-mel-statistics",
    ]);
    assert(names(`${out}/embeddings/little/tones-v1-small`).includes(".done.embeddings"));
    assertStrictEquals(names(`${out}/scores`).length, 6);
    const document = JSON.parse(Deno.readTextFileSync(`${out}/evaluation.json`));
    assertStrictEquals(document.results.length, 6);
    const tonesOf = (model: string) =>
      document.results.find((of: { model: string; task: string }) =>
        of.model === model && of.task === "tones-v1-small"
      );
    assertStrictEquals(tonesOf("log-mel statistics").mean, 1);
    assertEquals(tonesOf("log-mel statistics").confusion, [[3, 0], [0, 2]]);
    const page = Deno.readTextFileSync(`${out}/evaluation.html`);
    assertMatch(page, /<h2>tones-v1-small<\/h2>/);
    assertNotMatch(page, /NaN|undefined|Infinity/);

    // Where scores are kept they are not computed again, by what they are and not by what they are called.
    const again = await ran([...args, "--seeds", "2", "--device", "wasm", "--json"], folder);
    assertStrictEquals(again.code, 0, again.err);
    assertEquals(JSON.parse(again.out), document);
    assertStrictEquals(names(`${out}/scores`).length, 6);
    const one = await ran(
      [...args, "--seeds", "1", "--device", "wasm", "--task", "tones-v1-small"],
      folder,
    );
    assertStrictEquals(one.code, 0, one.err);
    assertNotMatch(one.out, /folds/);
    assertStrictEquals(names(`${out}/scores`).length, 6);
    // A seed more: those that are kept are as they were.
    const three = await ran(
      [...args, "--seeds", "3", "--device", "wasm", "--task", "tones-v1-small", "--json"],
      folder,
    );
    assertStrictEquals(three.code, 0, three.err);
    const seedsIn = (of: { results: { model: string; task: string; seeds: unknown[] }[] }) =>
      of.results.find(({ model, task }) => model === "little" && task === "tones-v1-small")!.seeds;
    assertStrictEquals(seedsIn(JSON.parse(three.out)).length, 3);
    assertEquals(seedsIn(JSON.parse(three.out)).slice(0, 2), seedsIn(document));
    assertStrictEquals(names(`${out}/scores`).length, 6);
  });
});

Deno.test("evaluate: what is wrong is told before any work", async () => {
  await inFolder(async (folder) => {
    tonesIn(`${folder}/tasks/tones-v1-small`);
    tonesIn(`${folder}/tasks/other`);
    Deno.writeFileSync(`${folder}/checkpoint.safetensors`, checkpoint());
    const args = ["--checkpoint", "checkpoint.safetensors", "--tasks", "tasks", "--device", "wasm"];
    const fails = async (
      more: readonly string[],
      status: number,
      ...patterns: readonly RegExp[]
    ) => {
      const { code, out, err } = await ran([...args, ...more], folder);
      assertStrictEquals(code, status, err);
      assertStrictEquals(out, "");
      for (const pattern of patterns) assertMatch(err, pattern);
      assertNotMatch(err, /\n {4}at /);
      assertEquals(names(folder), ["checkpoint.safetensors", "tasks"]);
    };
    const other = `${folder}/tasks/other`, nfc = "é東.wav".normalize("NFC");
    Deno.removeSync(`${other}/16000/test/test1.wav`);
    Deno.writeTextFileSync(`${other}/valid.json`, "{}");
    Deno.writeFileSync(`${other}/16000/train/train0.wav`, wav16(new Float32Array(800), 44100));
    const [train2, nfd] = ["train2.wav", nfc.normalize("NFD")].map((name) =>
      `${other}/16000/train/${name}`
    );
    Deno.renameSync(train2, nfd);
    const train = Deno.readTextFileSync(`${other}/train.json`);
    Deno.writeTextFileSync(
      `${other}/train.json`,
      train.replace("train2.wav", nfc).replace("{", '{"train1.wav": ["high"], '),
    );
    Deno.writeTextFileSync(`${folder}/tasks/tones-v1-small/valid.json`, '{"valid0.wav": ["loud"]}');
    await fails(
      [],
      1,
      /tasks\/other cannot be used/,
      /16000\/test\/test1\.wav: there is no such file/,
      /valid\.json: it names no clip/,
      /16000\/train\/train0\.wav: its sample rate is 44100 Hz, where 16000 Hz are expected/,
      /train\.json: it names 'train1\.wav' more than once/,
      /16000\/train\/é東\.wav: there is no such file; .*Unicode form NFC, the file's name in NFD/,
      /tasks\/tones-v1-small cannot be used/,
      /valid\.json: the label 'loud'/,
      /16000\/valid\/valid1\.wav: valid\.json does not name it/,
    );
    Deno.removeSync(`${other}/task_metadata.json`);
    await fails([], 1, /^tasks\/other: there is no task_metadata\.json in it, so it is no task/m);
    await fails(["--task", "nothing"], 1, /no task 'nothing' in tasks; there is tones-v1-small/);
    await fails(["--seeds", "0"], 2, /--seeds: expected a whole number from 1 to 1000, found '0'/);
    await fails(["--fidelity", "good"], 2, /expected faithful or corrected, found 'good'/);
    await fails(["--checkpoint", "none"], 1, /the checkpoint none cannot be read/);
    const empty = await ran(["--checkpoint", "checkpoint.safetensors", "--tasks", "."], folder);
    assertMatch(empty.err, /there is no task in \./);
    assertStrictEquals(empty.code, 1);
    assertStrictEquals((await ran(["--tasks", "tasks"], folder)).code, 2);
    assertStrictEquals((await ran(["--checkpoint", "checkpoint.safetensors"], folder)).code, 2);
  });
});

Deno.test("an experiment ends with the scores of its encoder on the tasks that its spec names", async () => {
  await inFolder(async (folder) => {
    const spec = {
      extends: "mamba",
      name: "little",
      clip: { frames: 40 },
      encoder: { dim: 16, depth: 1, state: 4 },
      schedule: { warmupSteps: 1, steps: 2 },
      batch: 2,
      data: { clips: 4, seconds: 1 },
      evaluation: { clips: 60, names: ["synthetic_keyword"], seeds: 1 },
      report: { examples: 1 },
    };
    Deno.writeTextFileSync(`${folder}/little.json`, JSON.stringify(spec));
    const args = ["little.json", "--device", "wasm"];

    // Broken tasks are told before the training and not after it.
    tonesIn(`${folder}/tasks/tones-v1-small`);
    Deno.removeSync(`${folder}/tasks/tones-v1-small/16000/test/test1.wav`);
    const on = ["--set", "evaluation.kind=hear", "--set", "evaluation.tasks=tasks"];
    const broken = await ran([...args, ...on], folder, "experiment");
    assertStrictEquals(broken.code, 1);
    assertMatch(broken.err, /^evaluation: the task tasks\/tones-v1-small cannot be used/);
    assertMatch(broken.err, /16000\/test\/test1\.wav: there is no such file/);
    assertEquals(names(`${folder}/runs/little`), []);

    const { code, out, err } = await ran(args, folder, "experiment");
    assertStrictEquals(code, 0, err);
    assertMatch(out, /^synthetic_keyword +top1_acc( +\d+\.\d){3}$/m);
    const run = `${folder}/runs/little`, link = "evaluation/evaluation.html";
    assertMatch(out, new RegExp(`^page: runs/little/${link}$`, "m"));
    assert(Deno.readTextFileSync(`${run}/report.html`).includes(`href="${link}"`));
    assertMatch(Deno.readTextFileSync(`${run}/${link}`), /<h2>synthetic_keyword<\/h2>/);
    assertEquals(names(`${run}/evaluation/tasks`), ["synthetic_keyword"]);
  });
});

// ---------------------------------------------------------------- what is kept of embeddings

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};

Deno.test("embeddings are kept by content, and an interrupted task goes on", async () => {
  await inFolder(async (folder) => {
    tonesIn(`${folder}/tones`);
    const task = right(await readTask(`${folder}/tones`)()), cache = `${folder}/cache`;
    const whole = async (scenes: Scenes, cache: string) => {
      const { computed, splits } = right(await embedTask(scenes, task, { cache }));
      return { computed, splits };
    };
    for (const scenes of [await encoderScenes(wasm, model), logMelScenes()]) {
      const apart = await whole(scenes, `${folder}/another`);
      assertStrictEquals(apart.computed, 21);
      let asked = 0;
      const interrupted = () => ++asked > 11;
      const stopped = await embedTask(scenes, task, { cache, interrupted });
      assert(E.isLeft(stopped));
      assertMatch(embeddingsErrorText(stopped.left), /^interrupted/);
      const files = () =>
        names(`${cache}/${scenes.key.slice(0, 32)}`).map((name) =>
          `${cache}/${scenes.key.slice(0, 32)}/${name}`
        );
      // A kill in the middle of writing leaves half a record.
      const [file] = files();
      Deno.truncateSync(file, Deno.statSync(file).size - 5);
      const rest = await whole(scenes, cache);
      assertStrictEquals(rest.computed, 11);
      assertSameNumbers(rest.splits, apart.splits);
      assertStrictEquals((await whole(scenes, cache)).computed, 0);
      // Other audio under the same name is other audio.
      const { path } = task.splits[0].clips[3], before = Deno.readFileSync(path);
      Deno.writeFileSync(path, wav16(Float32Array.from(numbers(5, 800), (x) => x / 4), 16000));
      const changed = await whole(scenes, cache);
      assertStrictEquals(changed.computed, 1);
      assertNotEquals(changed.splits, apart.splits);
      Deno.writeFileSync(path, before);
      assertSameNumbers(await whole(scenes, cache), { computed: 0, splits: apart.splits });
      // Neither is a file of something else taken for one of embeddings.
      Deno.writeTextFileSync(files()[0], "something else");
      assertSameNumbers(await whole(scenes, cache), { computed: 21, splits: apart.splits });
      scenes.close();
    }
    const values = { ...model.values, "encoder_norm.bias": new Float32Array(8).fill(0.5) };
    const other = await encoderScenes(wasm, { ...model, values });
    assertStrictEquals((await whole(other, cache)).computed, 21);
    other.close();
  });
});

Deno.test("embeddings that are not finite, and audio that is not there any more, are errors", async () => {
  await inFolder(async (folder) => {
    tonesIn(`${folder}/tones`);
    const task = right(await readTask(`${folder}/tones`)()), cache = `${folder}/cache`;
    const values = { ...model.values, "encoder_norm.bias": new Float32Array(8).fill(NaN) };
    const scenes = await encoderScenes(wasm, { ...model, values });
    const found = await embedTask(scenes, task, { cache });
    assert(E.isLeft(found));
    assertMatch(embeddingsErrorText(found.left), /train0\.wav is not finite/);
    scenes.close();
    Deno.removeSync(task.splits[1].clips[0].path);
    const gone = await embedTask(logMelScenes(), task, { cache });
    assert(E.isLeft(gone));
    assertMatch(embeddingsErrorText(gone.left), /test0\.wav cannot be embedded/);
  });
});

// ---------------------------------------------------------------- tables and figures

const made: Evaluation = {
  device: "none",
  fidelity: "corrected",
  seeds: [0, 1],
  protocol: correctedProtocol,
  models: [
    { name: "a, b", kind: "pre-trained", width: 4 },
    { name: "50%_of", kind: "untrained", width: 4 },
  ],
  tasks: [
    { name: "one", folder: "one", labels: ["<x>", "y"], clips: 4, score: "top1_acc" },
    { name: "two", folder: "two", labels: ["x", "y"], clips: 4, score: "d_prime" },
  ],
  results: [["a, b", [0.5, 0.7], [1, 2]], ["50%_of", [0.2, 0.4], [2.5, 2.5]]].flatMap(
    ([model, one, two]) =>
      [["one", one, "top1_acc"], ["two", two, "d_prime"]].map(([task, values, score]) => ({
        model: model as string,
        task: task as string,
        seeds: (values as number[]).map((value, seed) => ({
          seed,
          point: correctedProtocol.grid[0],
          folds: [],
          scores: { [score as string]: value },
          ...(task === "one"
            ? { confusion: [[2 * seed, 2 - 2 * seed], [0, 2]] }
            : { precisions: [0.5 * seed, 0.5] }),
          epochs: 3,
        })),
        picture: {
          points: Float64Array.of(0, 1, 2, 3),
          explained: [0.5, 0.25] as const,
          labels: [0, undefined],
        },
      })),
  ),
};

Deno.test("tables: for terminals, as CSV, in LaTeX", () => {
  // t(0.975, 1) is 12.706, and the standard error of two numbers half of their distance.
  assertStrictEquals(
    textTable(made),
    `task  score             a, b        50%_of
----  --------  ------------  ------------
one   top1_acc  60.0 ± 127.1  30.0 ± 127.1
two   d_prime      1.5 ± 6.4     2.5 ± 0.0
all   s(m)      50.0 ± 529.4  50.0 ± 211.8`,
  );
  assertStrictEquals(
    scoresCsv(made),
    `model,task,score,seed,value
"a, b",one,top1_acc,0,0.5
"a, b",one,top1_acc,1,0.7
50%_of,one,top1_acc,0,0.2
50%_of,one,top1_acc,1,0.4
"a, b",two,d_prime,0,1
"a, b",two,d_prime,1,2
50%_of,two,d_prime,0,2.5
50%_of,two,d_prime,1,2.5
`,
  );
  const lines = latex(made).split("\n");
  assertStrictEquals(lines[2], " & one & two & $s(m)$ \\\\");
  assertStrictEquals(
    lines[5],
    "50\\%\\_of & 30.0 $\\pm$ 127.1 & \\textbf{2.5 $\\pm$ 0.0} & \\textbf{50.0 $\\pm$ 211.8} \\\\",
  );
  const [first] = made.models;
  const alone = { ...made, models: [first], seeds: [0] };
  assertMatch(textTable(alone), /s\(m\) compares models: at least 2 are needed, found 1$/);
});

Deno.test("scores are kept as they are, also where they are no finite numbers", async () => {
  await inFolder(async (folder) => {
    const [{ seeds: [seed] }] = made.results;
    const odd = {
      ...seed,
      // A split may be called like a number that is none.
      folds: seed.folds.map((fold) => ({ ...fold, test: ["NaN"] })),
      scores: { top1_acc: 0.5, d_prime: Infinity, aucroc: NaN },
    };
    right(await keepScores(folder, "key", [seed, odd]));
    assertEquals(keptScores(folder, "key"), [seed, odd]);
    assertEquals(keptScores(folder, "other"), []);
  });
});

Deno.test("the page shows confusions, precisions and planes, with names escaped", () => {
  const page = evaluationPage(made);
  assertMatch(page, /<title>&#60;x&#62;, taken for y: 1 of 2<\/title>/);
  assertMatch(page, /<th>y<\/th><td><span style="width: 50%">/);
  assertStrictEquals([...page.matchAll(/class="projection"/g)].length, 4);
  assertMatch(page, /75% of the variance/);
  assertNotMatch(page, /<x>|NaN|undefined/);
});

Deno.test({
  name: "Chromium shows the page whole, readable and quiet, on a desk and a phone, light and dark",
  ignore: !hasBrowser,
  fn: () =>
    inFolder(async (folder) => {
      await Deno.writeTextFile(`${folder}/evaluation.html`, evaluationPage(made));
      for (const { width, scheme, problems } of await lookAt(`${folder}/evaluation.html`)) {
        assertEquals(problems, [], `${width} ${scheme}`);
      }
    }),
});

Deno.test("principal components are those of a known shape", () => {
  // Two orthogonal directions in five dimensions, with variances 9 and 1, and a little of a third.
  const rows = 400, width = 5;
  const [first, second, third] = [1, 2, 3].map((seed) => numbers(seed, rows));
  const directions = [[3, 4, 0, 0, 0], [0, 0, -5, 0, 0], [0, 0, 0, 3, 4]].map((of) =>
    of.map((value) => value / 5)
  );
  const values = Float32Array.from({ length: rows * width }, (_, k) => {
    const row = Math.floor(k / width), at = k % width;
    return 7 + 3 * first[row] * directions[0][at] + second[row] * directions[1][at] +
      0.1 * third[row] * directions[2][at];
  });
  const { points, explained } = principalComponents(values, width);
  const correlation = (axis: number, of: ArrayLike<number>) => {
    const mean = Array.from(of).reduce((a, b) => a + b, 0) / rows;
    let both = 0, own = 0, other = 0;
    for (let row = 0; row < rows; row++) {
      const x = points[2 * row + axis], y = of[row] - mean;
      both += x * y;
      own += x * x;
      other += y * y;
    }
    return both / Math.sqrt(own * other);
  };
  // The largest weight of a component is positive: of the second it is that of the third number.
  assertGreater(correlation(0, first), 0.99, `${correlation(0, first)}`);
  assertLess(correlation(1, second), -0.99, `${correlation(1, second)}`);
  assert(Math.abs(explained[0] + explained[1] - 1) < 0.005 && explained[0] > 0.85);
  const flat = principalComponents(new Float32Array(8).fill(3), 4);
  assertSameNumbers([...flat.points, ...flat.explained], [0, 0, 0, 0, 0, 0]);
  assertStrictEquals(principalComponents(Float32Array.of(1, 2, 4), 1).explained[1], 0);
});
