// The `data` part of a spec: the kinds of sources and their fields. open.ts opens them.
import type * as t from "io-ts";
import {
  above0,
  between0and1,
  type Decoded,
  type Docs,
  fields,
  from0to1,
  listOf,
  oneOf,
  optional,
  tagged,
  textThat,
  wholeFrom,
} from "../io/schema.ts";
import type { StoreSpec } from "./clips/reader.ts";
import type { RecordingKind } from "./clips/read_clip.ts";

/** A synthesised corpus. */
export interface SyntheticData {
  readonly kind: "synthetic";
  readonly clips: number;
  readonly seconds: number;
  readonly heldOutFraction: number;
}

/** Fields of all data on disk. */
interface StoredData {
  readonly heldOutFraction: number;
  readonly skippedFraction: number;
  readonly store?: StoreSpec;
}

/** A folder of recordings. */
export interface FolderData extends StoredData {
  readonly kind: "folder";
  readonly path: string;
}

/** The audio of downstream tasks in HEAR's layout. */
export interface HearData extends StoredData {
  readonly kind: "hear";
  readonly tasks: readonly string[];
  readonly splits?: readonly string[];
}

/** Tar archives. */
export interface ShardsData extends StoredData {
  readonly kind: "shards";
  readonly paths: readonly string[];
  readonly members: RecordingKind;
}

/** The data of an experiment. */
export type DataSpec = SyntheticData | FolderData | HearData | ShardsData;

const kind = "Where clips come from; the other fields depend on it.";
const heldOutFraction = "Share of the recordings that is never trained on.";
const path = textThat("a path", /[^]/);

const synthetic: Docs<SyntheticData> = {
  kind,
  clips: "Sounds to make.",
  seconds: "Length of each in seconds.",
  heldOutFraction,
};

const stored: Docs<StoredData> = {
  heldOutFraction: `${heldOutFraction} Held-out clips stay in memory: 64 kB each at 200 × 80.`,
  skippedFraction: "The most that may be skipped because it cannot be used, as a share of the " +
    "recordings; more stops the run.",
  store:
    "Where spectrograms are kept, so that a recording is decoded once and not in every epoch " +
    "and run. Without it nothing is kept.",
};
const storedFields = {
  heldOutFraction: between0and1,
  skippedFraction: from0to1,
  store: optional(
    fields<StoreSpec>({ path, gigabytes: above0 }, {
      path: "A folder, which several runs may share. It may be removed at any time.",
      gigabytes: "No more is kept once so many gigabytes are in it.",
    }),
  ),
};

/** The field `data` of a spec. */
export const dataSpec: t.Type<DataSpec> = tagged("kind", {
  synthetic: fields<SyntheticData>({
    kind: oneOf("synthetic"),
    clips: wholeFrom(2),
    seconds: above0,
    heldOutFraction: between0and1,
  }, synthetic),
  folder: fields<Decoded<FolderData>>({ kind: oneOf("folder"), path, ...storedFields }, {
    kind,
    path: "A folder of recordings (wav, flac, ogg, mp3), with its sub-folders.",
    ...stored,
  }),
  hear: fields<Decoded<HearData>>({
    kind: oneOf("hear"),
    tasks: listOf(path, "a list of folders of tasks"),
    splits: optional(listOf(path, "a list of names of splits")),
    ...storedFields,
  }, {
    kind,
    tasks: "Folders of tasks in HEAR's layout; their labels are not looked at.",
    splits:
      'The splits whose audio is used; ["train"] if left out. Tasks with folds have no split ' +
      "that is not a test set once, so they are refused unless their folds are named.",
    ...stored,
  }),
  shards: fields<Decoded<ShardsData>>({
    kind: oneOf("shards"),
    paths: listOf(path, "a list of paths of shards"),
    members: oneOf("audio", "log-mel"),
    ...storedFields,
  }, {
    kind,
    paths: "Tar archives as WebDataset writes them, 'train-{000..127}.tar', or folders of them.",
    members: '"audio": recordings (wav, flac, ogg, mp3). "log-mel": .npy arrays, [frames, mels], ' +
      "of logarithms as the front end computes them, not standardised.",
    ...stored,
  }),
}) as t.Type<DataSpec>;

/** The data of `--data DIR`: a folder, with the held-out share of the spec's data. */
export const folderData = (path: string, { heldOutFraction }: DataSpec): FolderData => ({
  kind: "folder",
  path,
  heldOutFraction,
  skippedFraction: 0.5,
  store: { path: "runs/.features", gigabytes: 10 },
});
