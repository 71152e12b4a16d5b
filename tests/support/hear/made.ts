// Small tasks in HEAR's layout, made for tests: whole ones, and ways to break them.

/** What a made task has: for each split the labels of its clips by their names. */
export interface Made {
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The text of labelvocabulary.csv. */
  readonly vocabulary: string;
  readonly splits: Readonly<Record<string, Readonly<Record<string, readonly (string | number)[]>>>>;
}

/** Metadata of a small task of three splits, with changes. */
export const metadataOf = (
  changes: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> => ({
  task_name: "made",
  version: "v1",
  embedding_type: "scene",
  prediction_type: "multiclass",
  split_mode: "trainvaltest",
  splits: ["train", "test", "valid"],
  sample_duration: 0.05,
  evaluation: ["top1_acc", "mAP"],
  default_mode: "small",
  mode: "small",
  tmp_dir: "_workdir",
  ...changes,
});

/** A whole task of three splits and three classes. */
export const threeSplits: Made = {
  metadata: metadataOf(),
  vocabulary: 'idx,label\n0,bell\n1,"drum, large"\n2,42\n',
  splits: {
    train: { "a.wav": ["bell"], "b.wav": ["drum, large"], "c.wav": [42], "3.wav": ["bell"] },
    valid: { "d.wav": ["42"], "e.wav": ["bell"] },
    test: { "f.wav": ["drum, large"] },
  },
};

/** A whole multilabel task of four folds. */
export const fourFolds: Made = {
  metadata: metadataOf({
    prediction_type: "multilabel",
    split_mode: "new_split_kfold",
    splits: ["fold02", "fold00", "fold03", "fold01"],
    nfolds: 4,
    sample_duration: null,
  }),
  vocabulary: "label,idx\r\nb,1\r\na,0\r\n",
  splits: {
    fold00: { "a0.wav": [], "b0.wav": ["b", "a"] },
    fold01: { "a1.wav": ["a"] },
    fold02: { "a2.wav": ["a"], "b2.wav": ["b"] },
    fold03: { "a3.wav": ["b"] },
  },
};

/** A wav file of 16 bit: a tone whose pitch is the seed's. */
export const wav = (seconds: number, rate = 16000, channels = 1, seed = 1): Uint8Array => {
  const frames = Math.round(seconds * rate), bytes = new Uint8Array(44 + 2 * frames * channels);
  const view = new DataView(bytes.buffer);
  const words = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
  words(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  words(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate * channels, true);
  view.setUint16(32, 2 * channels, true);
  view.setUint16(34, 16, true);
  words(36, "data");
  view.setUint32(40, bytes.length - 44, true);
  for (let k = 0; k < frames * channels; k++) {
    const time = Math.floor(k / channels) / rate;
    view.setInt16(44 + 2 * k, 9000 * Math.sin(2 * Math.PI * (300 + 40 * seed) * time), true);
  }
  return bytes;
};

/** The files of a task by their paths in it. */
export const filesOf = (task: Made, rate = 16000, seconds = 0.05): Map<string, Uint8Array> => {
  const text = (content: string) => new TextEncoder().encode(content);
  const files = new Map<string, Uint8Array>([
    ["task_metadata.json", text(JSON.stringify(task.metadata, null, 1))],
    ["labelvocabulary.csv", text(task.vocabulary)],
  ]);
  let seed = 0;
  for (const [split, clips] of Object.entries(task.splits)) {
    files.set(`${split}.json`, text(JSON.stringify(clips, null, 1)));
    for (const clip of Object.keys(clips)) {
      files.set(`${rate}/${split}/${clip}`, wav(seconds, rate, 1, seed++));
    }
  }
  return files;
};

/** Writes files into a folder that need not be there. */
export const writeFiles = (folder: string, files: ReadonlyMap<string, Uint8Array>): void => {
  for (const [path, content] of files) {
    Deno.mkdirSync(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    Deno.writeFileSync(`${folder}/${path}`, content);
  }
};

/** Runs with a folder that is removed afterwards. */
export const inFolder = async (act: (folder: string) => Promise<void> | void): Promise<void> => {
  const folder = await Deno.makeTempDir();
  try {
    await act(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};
