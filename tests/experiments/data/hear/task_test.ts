// HEAR's task folders: whole ones are read as hear-eval-kit reads them, broken ones are refused with
// every problem at once, by file.
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotStrictEquals,
  assertStrictEquals,
  fail,
} from "@std/assert";
import fc from "fast-check";
import * as E from "fp-ts/Either.js";
import { knownTask, knownTasks } from "../../../../experiments/data/hear/published_tasks.ts";
import { decodeMetadata, partitions } from "../../../../experiments/data/hear/metadata.ts";
import { problemText } from "../../../../experiments/data/hear/problem.ts";
import {
  listTasks,
  readTask,
  readTasks,
  type Task,
  taskErrorText,
} from "../../../../experiments/data/hear/task.ts";
import { parseVocabulary } from "../../../../experiments/data/hear/vocabulary.ts";
import {
  filesOf,
  fourFolds,
  inFolder,
  type Made,
  metadataOf,
  threeSplits,
  wav,
  writeFiles,
} from "../../../support/hear/made.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left, null, 1));
  return result.right;
};

const whole = async (made: Made): Promise<Task> => {
  let task: Task | undefined;
  await inFolder(async (folder) => {
    writeFiles(`${folder}/made`, filesOf(made));
    task = right(await readTask(`${folder}/made/`)());
  });
  return task!;
};

// The lines of a task's problems; `change` breaks its files.
const problems = async (
  made: Made,
  change: (folder: string, files: Map<string, Uint8Array>) => void = () => {},
): Promise<readonly string[]> => {
  let lines: readonly string[] = [];
  await inFolder(async (folder) => {
    const files = filesOf(made);
    change(folder, files);
    writeFiles(folder, files);
    const read = await readTask(folder)();
    if (E.isLeft(read)) lines = read.left.problems.map(problemText);
  });
  return lines;
};

const text = (content: string) => new TextEncoder().encode(content);
const json = (value: unknown) => text(JSON.stringify(value));
const withMetadata = (changes: Record<string, unknown>, made = threeSplits): Made => ({
  ...made,
  metadata: { ...made.metadata, ...changes },
});

Deno.test("a task of three splits: labels by index, clips in the order of the file", async () => {
  const task = await whole(threeSplits);
  assertEquals(task.labels, ["bell", "drum, large", "42"]);
  assertEquals(task.splits.map(({ name }) => name), ["train", "test", "valid"]);
  const [train] = task.splits;
  assertEquals(
    train.clips.map(({ file, labels, samples }) => [file, labels, samples]),
    [["a.wav", [0], 800], ["b.wav", [1], 800], ["c.wav", [2], 800], ["3.wav", [0], 800]],
  );
  assertMatch(train.clips[0].path, /made\/16000\/train\/a\.wav$/);
  assertStrictEquals(task.metadata.sampleDuration, 0.05);
  assertStrictEquals(task.metadata.mode, "small");
  assertStrictEquals(task.known, undefined);
});

Deno.test("a multilabel task of folds: none, one and many labels", async () => {
  const task = await whole(fourFolds);
  assertEquals(task.labels, ["a", "b"]);
  const fold = task.splits.find(({ name }) => name === "fold00")!;
  assertEquals(fold.clips.map(({ labels }) => labels), [[], [1, 0]]);
});

Deno.test("partitions: one of three splits, k of k folds", () => {
  const of = (changes: Record<string, unknown>) =>
    partitions(right(decodeMetadata(metadataOf(changes))));
  assertEquals(of({}), [{ train: ["train"], valid: ["valid"], test: ["test"] }]);
  for (const split_mode of ["new_split_kfold", "presplit_kfold"]) {
    assertEquals(of({ split_mode, splits: ["f2", "f0", "f3", "f1"] }), [
      { train: ["f2", "f3"], valid: ["f1"], test: ["f0"] },
      { train: ["f0", "f3"], valid: ["f2"], test: ["f1"] },
      { train: ["f0", "f1"], valid: ["f3"], test: ["f2"] },
      { train: ["f1", "f2"], valid: ["f0"], test: ["f3"] },
    ]);
  }
});

Deno.test("every fold is tested once, chosen by once, and never trained on at the same time", () => {
  fc.assert(fc.property(fc.integer({ min: 3, max: 12 }), (k) => {
    const folds = Array.from({ length: k }, (_, i) => `fold${`${i}`.padStart(2, "0")}`);
    const all = partitions(right(decodeMetadata(metadataOf({
      split_mode: "presplit_kfold",
      splits: [...folds].reverse(),
    }))));
    assertEquals(all.flatMap(({ test }) => test), folds);
    assertEquals(all.flatMap(({ valid }) => valid).sort(), folds);
    for (const { train, valid, test } of all) {
      assertEquals([...train, ...valid, ...test].sort(), folds);
    }
  }));
});

Deno.test("metadata: each wrong field is told", async () => {
  const of = (changes: Record<string, unknown>) => problems(withMetadata(changes));
  assertEquals(await of({ split_mode: "new_split_stratified" }), [
    'task_metadata.json: split_mode: expected "trainvaltest", "presplit_kfold" or ' +
    '"new_split_kfold", found "new_split_stratified"',
  ]);
  assertEquals(
    await of({
      embedding_type: "event",
      evaluation: ["top1_acc", "top5_acc"],
      sample_duration: 0,
      version: undefined,
    }),
    [
      "task_metadata.json: version: missing; expected a text",
      'task_metadata.json: embedding_type: expected "scene", found "event"',
      "task_metadata.json: sample_duration: expected a number above 0 or null, found 0",
      'task_metadata.json: evaluation.1: expected "top1_acc", "pitch_acc", "chroma_acc", "mAP", ' +
      '"d_prime" or "aucroc", found "top5_acc"',
    ],
  );
  assertEquals(await of({ evaluation: [] }), [
    "task_metadata.json: evaluation: expected a list of names of scores, found []",
  ]);
  assertEquals(await of({ splits: ["train", "test"] }), [
    "task_metadata.json: splits should be train, valid and test as split_mode is trainvaltest, " +
    "found train, test",
  ]);
  assertEquals(await of({ splits: ["../x", "valid", "test"] }), [
    'task_metadata.json: splits names "../x", which cannot be the name of a folder and a file',
  ]);
});

Deno.test("metadata: folds that are too few, named twice, or not as many as promised", async () => {
  const of = (changes: Record<string, unknown>) => problems(withMetadata(changes, fourFolds));
  assertMatch((await of({ splits: ["fold00", "fold01"] }))[0], /at least 3 folds are needed/);
  assertMatch((await of({ splits: ["a", "b", "b"] }))[0], /splits names 'b' twice/);
  assertMatch((await of({ nfolds: 5 }))[0], /nfolds is 5, but splits names 4: fold02, fold00/);
});

Deno.test("all problems of a task come at once, each with its file", async () => {
  const found = await problems(threeSplits, (_, files) => {
    files.set(
      "train.json",
      json({ "a.wav": ["bell"], "b.wav": ["gong"], "c.wav": ["bell", "42"] }),
    );
    files.set("valid.json", json({}));
    files.set("test.json", json({ "f.wav": ["bell"], "a.wav": ["bell"] }));
    files.set("16000/train/a.wav", wav(0.05, 44100));
    files.set("16000/train/c.wav", wav(0.05).slice(0, 1000));
    files.set("16000/test/f.wav", wav(0.08));
    files.delete("16000/train/b.wav");
  });
  assertEquals(found, [
    "train.json: the label 'gong' of 'b.wav' is not in labelvocabulary.csv",
    "train.json: 'c.wav' should have one label, as the task is multiclass, and has 2: 'bell', '42'",
    "16000/train/a.wav: its sample rate is 44100 Hz, where 16000 Hz are expected",
    "16000/train/b.wav: there is no such file, and train.json names it",
    "16000/train/c.wav: it is cut: 1600 bytes of audio are promised, 956 are there",
    "16000/train/3.wav: train.json does not name it: name it there, or remove the file",
    "test.json: it names 'a.wav', which train.json names too",
    "16000/test/f.wav: it lasts 0.08 s, where sample_duration is 0.05 s",
    "16000/test/a.wav: there is no such file, and test.json names it",
    "valid.json: it names no clip",
    "16000/valid/d.wav: valid.json does not name it: name it there, or remove the file",
    "16000/valid/e.wav: valid.json does not name it: name it there, or remove the file",
  ]);
});

Deno.test("a clip that a file names twice is told, though JSON readers keep the last", async () => {
  const found = await problems(threeSplits, (_, files) => {
    files.set(
      "valid.json",
      text('{"d.wav": ["42"], "e.wav": ["bell"], "\\u0064.wav": ["bell"], "e.wav": [":"]}'),
    );
  });
  assertEquals(found, [
    "valid.json: it names 'd.wav' more than once",
    "valid.json: it names 'e.wav' more than once",
    "valid.json: the label ':' of 'e.wav' is not in labelvocabulary.csv",
  ]);
});

Deno.test("files of a split that are not as they should be", async () => {
  const of = async (content: string) =>
    (await problems(fourFolds, (_, files) => files.set("fold01.json", text(content))))
      .filter((line) => line.startsWith("fold01.json"));
  assertEquals(await of("[]"), [
    "fold01.json: it should be an object that gives names of files their labels",
  ]);
  assertEquals(await of('{"a1.wav": ["a"'), [
    "fold01.json: it is not JSON: line 1, column 16: expected ',' or ']', found the end of the text",
  ]);
  assertEquals(await of('{"a1.wav": "a", "../../a0.wav": ["a"], "": []}'), [
    "fold01.json: the labels of 'a1.wav' should be a list of texts or whole numbers",
    "fold01.json: '../../a0.wav' is not the name of a file in the folder of the split",
    "fold01.json: '' is not the name of a file in the folder of the split",
  ]);
  assertEquals(await of('{"a1.wav": [1.5, true]}'), [
    "fold01.json: the labels of 'a1.wav' should be a list of texts or whole numbers",
  ]);
});

Deno.test("missing files and folders", async () => {
  assertEquals(
    await problems(threeSplits, (_, files) => {
      for (const name of ["labelvocabulary.csv", "test.json", "16000/valid/d.wav"]) {
        files.delete(name);
      }
      files.delete("16000/valid/e.wav");
    }),
    [
      "labelvocabulary.csv: there is no such file",
      "test.json: there is no such file",
      "16000/valid: there is no such folder",
    ],
  );
  await inFolder(async (folder) => {
    writeFiles(folder, filesOf(threeSplits, 48000));
    writeFiles(folder, new Map([["8000/train/a.wav", wav(0.05, 8000)]]));
    const read = await readTask(folder)();
    assert(E.isLeft(read));
    assertEquals(read.left.problems.map(problemText), [
      "16000: there is no such folder, but audio at 8000, 48000 Hz, which must be resampled first",
    ]);
    assert(E.isRight(await readTask(folder, 48000)()));
    const nothing = await readTask(`${folder}/none`)();
    assert(E.isLeft(nothing));
    assertMatch(taskErrorText(nothing.left), /none: there is no such folder$/);
  });
});

Deno.test("audio that is no audio, or of two channels", async () => {
  const of = (bytes: Uint8Array) =>
    problems(threeSplits, (_, files) => files.set("16000/test/f.wav", bytes));
  const cases: readonly (readonly [Uint8Array, RegExp])[] = [
    [new Uint8Array(), /f\.wav: the file is empty$/],
    [text("fLaC and so on, long enough"), /f\.wav: it is not a wav file$/],
    [wav(0.05).slice(0, 40), /f\.wav: it holds no audio$/],
    [wav(0.05).slice(0, 20), /f\.wav: it does not say what it holds$/],
    [wav(0), /f\.wav: it holds no samples$/],
    [wav(0.05, 16000, 2), /f\.wav: it has 2 channels, where one is expected$/],
  ];
  for (const [bytes, pattern] of cases) {
    const found = await of(bytes);
    assertStrictEquals(found.length, 1, found.join("\n"));
    assertMatch(found[0], pattern);
  }
});

Deno.test("chunks before the audio, of odd size too, are passed over", async () => {
  const plain = wav(0.05);
  const chunk = text("LIST\u0005\0\0\0abcde\0");
  const bytes = new Uint8Array([...plain.slice(0, 36), ...chunk, ...plain.slice(36)]);
  new DataView(bytes.buffer).setUint32(4, bytes.length - 8, true);
  assertEquals(
    await problems(threeSplits, (_, files) => files.set("16000/test/f.wav", bytes)),
    [],
  );
});

Deno.test("names in any script work; another Unicode form of the same letters is told", async () => {
  const nfc = "größe é 한글 東京 🥁.wav".normalize("NFC"), nfd = nfc.normalize("NFD");
  assertNotStrictEquals(nfc, nfd);
  const named = (name: string): Made => ({
    ...threeSplits,
    splits: { ...threeSplits.splits, test: { [name]: ["bell"] } },
  });
  for (const name of [nfc, nfd]) {
    const task = await whole(named(name));
    assertStrictEquals(task.splits[1].clips[0].file, name);
  }
  const swapped = (from: string, to: string) =>
    problems(named(from), (_, files) => {
      files.set(`16000/test/${to}`, files.get(`16000/test/${from}`)!);
      files.delete(`16000/test/${from}`);
    });
  assertEquals(await swapped(nfc, nfd), [
    `16000/test/${nfc}: there is no such file; test.json writes its letters in Unicode form NFC, ` +
    "the file's name in NFD: rename the file",
  ]);
  assertMatch((await swapped(nfd, nfc))[0], /in Unicode form NFD, the file's name in NFC/);
  const label = "é".normalize("NFD");
  const labelled = { ...threeSplits.splits, test: { "f.wav": [label] } };
  const vocabulary = `${threeSplits.vocabulary}3,${label.normalize("NFC")}\n`;
  assertEquals(await problems({ ...threeSplits, vocabulary, splits: labelled }), [
    `test.json: the label '${label}' of 'f.wav' is not in labelvocabulary.csv, which writes its ` +
    "letters in Unicode form NFC, and this file in NFD",
  ]);
  // Both forms beside each other are two files.
  const both = await whole({
    ...threeSplits,
    splits: { ...threeSplits.splits, test: { [nfc]: ["bell"], [nfd]: ["42"] } },
  });
  assertEquals(both.splits[1].clips.map(({ labels }) => labels), [[0], [2]]);
});

Deno.test("vocabularies", () => {
  assertEquals(right(parseVocabulary("\ufeffidx,label\n1,b\n0,a\n\n")), ["a", "b"]);
  assertEquals(right(parseVocabulary('idx,label,more\n0,"say ""a"",\nb",\n')), ['say "a",\nb']);
  const wrong = (csv: string) => {
    const parsed = parseVocabulary(csv);
    assert(E.isLeft(parsed), csv);
    return parsed.left.map(({ line, problem }) => `${line}: ${problem}`);
  };
  assertEquals(wrong(""), ["1: the file is empty"]);
  assertEquals(wrong("label\na\n"), ["1: the columns should be idx and label, found 'label'"]);
  assertEquals(wrong("idx,label\n"), ["1: no label follows the header"]);
  assertEquals(wrong("idx,label\n0,a\n2,b\n0,c\n3,a\n1"), [
    "4: idx 0 is given twice, to 'a' and to 'c'",
    "5: the label 'a' stands on line 2 already",
    "6: 2 cells are expected, found 1",
  ]);
  assertEquals(wrong("idx,label\n1,a\n2,b\n"), [
    "3: idx should be a whole number from 0 to 1, found '2'",
  ]);
  assertEquals(wrong('idx,label\n0,"a\n'), ["2: a quoted cell is not closed"]);
});

Deno.test("a vocabulary of any labels comes back", () => {
  const cell = (label: string) => `"${label.replaceAll('"', '""')}"`;
  const label = fc.string({ minLength: 1, unit: "grapheme" });
  fc.assert(fc.property(fc.uniqueArray(label, { minLength: 1 }), fc.boolean(), (labels, crlf) => {
    const rows = labels.map((label, k) => `${k},${cell(label)}`);
    const csv = ["idx,label", ...rows.reverse()].join(crlf ? "\r\n" : "\n");
    assertEquals(right(parseVocabulary(csv)), labels);
  }));
});

Deno.test("long lists of problems are cut by kind", async () => {
  const clips = Object.fromEntries(
    Array.from({ length: 50 }, (_, k) => [`t${k}.wav`, ["bell"]] as const),
  );
  const made = { ...threeSplits, splits: { ...threeSplits.splits, test: clips } };
  await inFolder(async (folder) => {
    const files = filesOf(made);
    for (let k = 0; k < 50; k++) files.delete(`16000/test/t${k}.wav`);
    files.set("16000/test/x.wav", wav(0.05, 8000));
    writeFiles(folder, files);
    const read = await readTask(folder)();
    assert(E.isLeft(read));
    assertStrictEquals(read.left.problems.length, 51);
    const lines = taskErrorText(read.left, 3).split("\n");
    assertStrictEquals(lines.length, 6);
    assertMatch(lines[0], /^the task .* cannot be used; it has 51 problems:$/);
    assertStrictEquals(lines[4], "  and 47 more like that");
    assertMatch(lines[5], /x\.wav: test\.json does not name it/);
  });
});

Deno.test("the ten tasks are known by name, and a part of one is not taken for it", async () => {
  assertStrictEquals(knownTasks.length, 10);
  for (const task of knownTasks) {
    assertStrictEquals(knownTask(task.short.toUpperCase()), task);
    assertStrictEquals(knownTask(task.folder), task);
  }
  assertStrictEquals(knownTask("esc50")?.classes, 50);
  assertStrictEquals(knownTask("esc"), undefined);
  const found = await problems(withMetadata({
    task_name: "speech_commands",
    version: "v0.0.2",
    mode: "5h",
    evaluation: ["mAP"],
    sample_duration: 0.05,
  }));
  const start = "SC-5h (Speech Commands, 5 hours) as published has";
  assertEquals(found, [
    `labelvocabulary.csv: ${start} 12 classes, this one has 3`,
    `task_metadata.json: ${start} top1_acc as main score, this one has mAP`,
    `task_metadata.json: ${start} 1 as sample_duration, this one has 0.05`,
    `train.json, test.json, valid.json: ${start} 22890 clips, this one has 7`,
  ]);
});

Deno.test("several tasks: all broken ones are told, folders that are no tasks are named", () =>
  inFolder(async (folder) => {
    writeFiles(`${folder}/one`, filesOf(threeSplits));
    writeFiles(`${folder}/two`, filesOf(fourFolds));
    Deno.mkdirSync(`${folder}/notes`);
    Deno.writeTextFileSync(`${folder}/README`, "");
    const listed = right(listTasks(folder));
    assertEquals(listed, {
      tasks: [`${folder}/one`, `${folder}/two`],
      others: ["notes"],
    });
    assertStrictEquals(right(await readTasks(listed.tasks)()).length, 2);
    Deno.removeSync(`${folder}/one/16000/test/f.wav`);
    Deno.removeSync(`${folder}/two/fold02.json`);
    const broken = await readTasks(listed.tasks)();
    assert(E.isLeft(broken));
    assertEquals(broken.left.map(({ problems }) => problems.map(problemText)), [
      ["16000/test/f.wav: there is no such file, and test.json names it"],
      ["fold02.json: there is no such file"],
    ]);
    assert(E.isLeft(listTasks(`${folder}/none`)));
  }));

Deno.test("the tasks of the development corpus are whole", async () => {
  const url = new URL("../../../../../shared/corpus/tasks", import.meta.url);
  const folder = decodeURIComponent(url.pathname);
  const listed = listTasks(folder);
  if (E.isLeft(listed)) return console.log("skipped: there is no ../shared/corpus");
  const tasks = right(await readTasks(listed.right.tasks)());
  const counts = tasks.map(({ metadata, labels, splits }) => [
    metadata.name,
    labels.length,
    splits.map(({ clips }) => clips.length).join("/"),
  ]);
  assertEquals(counts, [
    ["drum_stroke", 7, "50/45/65/87/84"],
    ["mix_tags", 8, "144/32/64"],
    ["note_pitch", 36, "612/108/180"],
    ["prompt_language", 5, "220/50/120"],
    ["sound_kind", 6, "175/47/94"],
  ]);
});
