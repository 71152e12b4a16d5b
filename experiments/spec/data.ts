// Where a spec says that clips come from; each kind is opened in ../data/open.ts.
import type * as t from "io-ts";
import {
  above0,
  between0and1,
  type Docs,
  fields,
  from0to1,
  oneOf,
  tagged,
  textThat,
  wholeFrom,
} from "../codec.ts";

/** A corpus that is synthesised. */
export interface SyntheticData {
  readonly kind: "synthetic";
  readonly clips: number;
  readonly seconds: number;
  readonly heldOutFraction: number;
}

/** A folder of recordings. */
export interface FolderData {
  readonly kind: "folder";
  readonly path: string;
  readonly heldOutFraction: number;
  readonly skippedFraction: number;
}

/** Training and held-out clips. */
export type DataSpec = SyntheticData | FolderData;

const kind = "Where clips come from; the other fields depend on it.";
const heldOutFraction = "Share of the recordings that is never trained on.";
const path = textThat("a path", /[^]/);

const synthetic: Docs<SyntheticData> = {
  kind,
  clips: "Sounds to make.",
  seconds: "Length of each in seconds.",
  heldOutFraction,
};

const folder: Docs<FolderData> = {
  kind,
  path: "A folder of recordings (wav, flac, ogg, mp3), with its sub-folders.",
  heldOutFraction,
  skippedFraction: "The most that may be skipped because it cannot be read, as a share of the " +
    "recordings; more stops the run.",
};

/** The field `data` of a spec. */
export const dataSpec: t.Type<DataSpec> = tagged("kind", {
  synthetic: fields<SyntheticData>({
    kind: oneOf("synthetic"),
    clips: wholeFrom(2),
    seconds: above0,
    heldOutFraction: between0and1,
  }, synthetic),
  folder: fields<FolderData>({
    kind: oneOf("folder"),
    path,
    heldOutFraction: between0and1,
    skippedFraction: from0to1,
  }, folder),
});

/** What `--data DIR` puts in place of a spec's data: a folder that holds out as much. */
export const folderData = (path: string, { heldOutFraction }: DataSpec): FolderData => ({
  kind: "folder",
  path,
  heldOutFraction,
  skippedFraction: 0.5,
});
