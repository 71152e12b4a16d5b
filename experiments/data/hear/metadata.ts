// A HEAR task's `task_metadata.json`: the fields on prediction type, splits and scores. Other fields
// (download locations, how the data was made) are ignored.
import * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import {
  above0,
  type FieldError,
  fieldError,
  fields,
  oneOf,
  optional,
  wholeFrom,
} from "../../io/schema.ts";

/** How a task is split. In both k-fold modes every fold is the test set once. */
export type SplitMode = "trainvaltest" | "presplit_kfold" | "new_split_kfold";

/** Names of scores with one prediction per clip, as in the metadata. */
export type ScoreName = "top1_acc" | "pitch_acc" | "chroma_acc" | "mAP" | "d_prime" | "aucroc";

/** All supported scores. */
export const scoreNames: readonly ScoreName[] = [
  "top1_acc",
  "pitch_acc",
  "chroma_acc",
  "mAP",
  "d_prime",
  "aucroc",
];

/** The metadata of a task. */
export interface TaskMetadata {
  readonly name: string;
  readonly version: string;
  /** The variant of the task: `full`, `5h`, `small`. */
  readonly mode?: string;
  /** One label per clip, or any number of them. */
  readonly prediction: "multiclass" | "multilabel";
  readonly splitMode: SplitMode;
  /** Names of the splits or folds. */
  readonly splits: readonly string[];
  /** Seconds of each clip; null if clips differ in length. */
  readonly sampleDuration: number | null;
  /** Scores to compute; the first selects models and is reported. */
  readonly evaluation: readonly [ScoreName, ...ScoreName[]];
  /** Number of folds that the metadata states. */
  readonly folds?: number;
}

const text: t.Type<string> = new t.Type(
  "a text",
  (u): u is string => typeof u === "string",
  (u, c) => typeof u === "string" ? t.success(u) : t.failure(u, c),
  t.identity,
);

const orNull = <A>(codec: t.Type<A>): t.Type<A | null> =>
  new t.Type<A | null>(
    `${codec.name} or null`,
    (u): u is A | null => u === null || codec.is(u),
    (u, c) => u === null ? t.success(null) : codec.validate(u, c),
    t.identity,
  );

// A list with at least one item; a mistake is reported with the item's path.
const listOf = <A>(what: string, codec: t.Type<A>): t.Type<readonly [A, ...A[]]> => {
  const list = t.array(codec);
  return new t.Type<readonly [A, ...A[]]>(
    what,
    (u): u is readonly [A, ...A[]] => list.is(u) && u.length > 0,
    (u, c) =>
      Array.isArray(u) && u.length > 0
        ? list.validate(u, c) as t.Validation<readonly [A, ...A[]]>
        : t.failure(u, c),
    t.identity,
  );
};

interface Document {
  readonly task_name: string;
  readonly version: string;
  readonly mode: string | undefined;
  readonly embedding_type: "scene";
  readonly prediction_type: "multiclass" | "multilabel";
  readonly split_mode: SplitMode;
  readonly splits: readonly [string, ...string[]];
  readonly sample_duration: number | null;
  readonly evaluation: readonly [ScoreName, ...ScoreName[]];
  readonly nfolds: number | undefined;
}

const document: t.Type<Document> = fields<Document>({
  task_name: text,
  version: text,
  mode: optional(text),
  embedding_type: oneOf("scene"),
  prediction_type: oneOf("multiclass", "multilabel"),
  split_mode: oneOf("trainvaltest", "presplit_kfold", "new_split_kfold"),
  splits: listOf("a list of names of splits", text),
  sample_duration: orNull(above0),
  evaluation: listOf("a list of names of scores", oneOf(...scoreNames)),
  nfolds: optional(wholeFrom(1)),
});

const known = [
  "task_name",
  "version",
  "mode",
  "embedding_type",
  "prediction_type",
  "split_mode",
  "splits",
  "sample_duration",
  "evaluation",
  "nfolds",
];

/** The metadata in a parsed `task_metadata.json`, or all fields that are missing or wrong. */
export const decodeMetadata = (json: unknown): E.Either<readonly FieldError[], TaskMetadata> => {
  const picked = t.UnknownRecord.is(json) && !Array.isArray(json)
    ? Object.fromEntries(Object.entries(json).filter(([key]) => known.includes(key)))
    : json;
  const decoded = document.decode(picked);
  if (E.isLeft(decoded)) return E.left(decoded.left.map(fieldError));
  const { right } = decoded;
  return E.right({
    name: right.task_name,
    version: right.version,
    ...(right.mode === undefined ? {} : { mode: right.mode }),
    prediction: right.prediction_type,
    splitMode: right.split_mode,
    splits: right.splits,
    sampleDuration: right.sample_duration,
    evaluation: right.evaluation,
    ...(right.nfolds === undefined ? {} : { folds: right.nfolds }),
  });
};

/** What is wrong with the metadata's splits, to follow the file's name; undefined if nothing. */
export const splitsProblem = (metadata: TaskMetadata): string | undefined => {
  const { splitMode, splits, folds } = metadata;
  const repeated = splits.find((name, k) => splits.indexOf(name) !== k);
  if (repeated !== undefined) return `splits names '${repeated}' twice`;
  const strange = splits.find((name) => name.startsWith(".") || !/^[^/\\\0]+$/.test(name));
  if (strange !== undefined) {
    return `splits names ${
      JSON.stringify(strange)
    }, which cannot be the name of a folder and a file`;
  }
  if (splitMode === "trainvaltest") {
    const wanted = ["train", "valid", "test"];
    return splits.length === 3 && wanted.every((name) => splits.includes(name))
      ? undefined
      : `splits should be train, valid and test as split_mode is trainvaltest, found ` +
        splits.join(", ");
  }
  if (splits.length < 3) {
    return `at least 3 folds are needed, one each for training, validation and test; found ` +
      splits.join(", ");
  }
  return folds !== undefined && folds !== splits.length
    ? `nfolds is ${folds}, but splits names ${splits.length}: ${splits.join(", ")}`
    : undefined;
};

/** The splits that a model is trained, validated and tested on. */
export interface Partition {
  readonly train: readonly string[];
  readonly valid: readonly string[];
  readonly test: readonly string[];
}

/**
 * The partitions that a task is evaluated on, as in hear-eval-kit: one for `trainvaltest`; for k folds,
 * sorted by name, k of them, where fold i is the test set, the next one the validation set, and the
 * others, in order, the training set.
 */
export const partitions = (metadata: TaskMetadata): readonly Partition[] => {
  if (metadata.splitMode === "trainvaltest") {
    return [{ train: ["train"], valid: ["valid"], test: ["test"] }];
  }
  const folds = [...metadata.splits].sort();
  return folds.map((test, k) => {
    const valid = folds[(k + 1) % folds.length];
    return {
      train: folds.filter((fold) => fold !== test && fold !== valid),
      valid: [valid],
      test: [test],
    };
  });
};
