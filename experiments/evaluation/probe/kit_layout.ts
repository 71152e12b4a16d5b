// Writes a task's embeddings in the layout of hear-eval-kit's predictions runner, so that scores can be
// checked with the original tool. For each split: SPLIT.embeddings.npy, which despite its name is raw
// float32 without a header; SPLIT.embedding-dimensions.json, [rows, width]; and SPLIT.target-labels.pkl,
// a list of labels for each row. The task's own files are copied next to them. Rows are in the kit's
// order.
import { basename, resolve } from "node:path";
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { ensureFolder, type FileError, fileErrorText } from "../../io/files.ts";
import { quoted } from "../../../backends/runtime/text.ts";
import { pickle } from "../../formats/pickle_write.ts";
import { kitOrder } from "./shuffle.ts";
import type { Task } from "../../data/hear/task.ts";
import { reasonOf } from "../../io/reason.ts";

/** Why embeddings could not be written. */
export type LayoutError =
  /** Not finite, which the kit rejects too. `column` counts from 0. */
  | {
    readonly _tag: "NotFinite";
    readonly split: string;
    readonly clip: string;
    readonly column: number;
  }
  /** The folder exists with other content. */
  | { readonly _tag: "Occupied"; readonly folder: string }
  | { readonly _tag: "Files"; readonly error: FileError };

/** The empty file that the kit's embeddings runner writes last. */
export const doneFile = ".done.embeddings";

/**
 * Writes the embeddings of all splits, `[clip, width]` in the order of the split's clips, to a folder in
 * `folder` named like the task's, and returns it. Earlier output for the same task, including scores that
 * the kit wrote, is replaced once everything is written. Throws if embeddings have other sizes.
 */
export const writeEmbeddings =
  (folder: string, task: Task, width: number, embeddings: readonly Float32Array[]): TaskEither<
    LayoutError,
    string
  > =>
  async () => {
    const { splits } = task;
    if (
      splits.length !== embeddings.length ||
      splits.some(({ clips }, k) => clips.length * width !== embeddings[k].length)
    ) throw new RangeError(`${task.folder}: embeddings of ${width} numbers do not fit its clips`);
    for (const [k, { name, clips }] of splits.entries()) {
      const wrong = embeddings[k].findIndex((value) => !Number.isFinite(value));
      if (wrong >= 0) {
        const clip = clips[Math.floor(wrong / width)].file;
        return E.left({ _tag: "NotFinite", split: name, clip, column: wrong % width });
      }
    }

    const made = await ensureFolder(folder)();
    if (E.isLeft(made)) return E.left({ _tag: "Files", error: made.left });
    const out = `${folder.replace(/(?<=.)\/+$/, "")}/${basename(resolve(task.folder))}`;
    const partial = `${out}.partial`;
    if (isOccupied(out)) return E.left({ _tag: "Occupied", folder: out });
    try {
      remove(partial);
      Deno.mkdirSync(partial);
      writeInto(partial, task, width, embeddings);
      remove(out);
      Deno.renameSync(partial, out);
      return E.right(out);
    } catch (error) {
      const reason = reasonOf(error);
      const doing = "write into the folder" as const;
      return E.left({ _tag: "Files", error: { _tag: "FileError", doing, path: out, reason } });
    } finally {
      remove(partial);
    }
  };

/** Why embeddings could not be written, in one sentence. */
export const layoutErrorText = (error: LayoutError): string => {
  switch (error._tag) {
    case "NotFinite":
      return `the embedding of ${quoted(error.clip)} in ${error.split} is not finite at ` +
        `${error.column}, and hear-eval-kit takes only finite ones`;
    case "Occupied":
      return `${error.folder} is there and holds no embeddings of a task; move it, or choose ` +
        "another folder";
    case "Files":
      return fileErrorText(error.error);
  }
};

function writeInto(
  folder: string,
  task: Task,
  width: number,
  embeddings: readonly Float32Array[],
): void {
  const copied = [
    "task_metadata.json",
    "labelvocabulary.csv",
    ...task.splits.map(({ name }) => `${name}.json`),
  ];
  for (const file of copied) Deno.copyFileSync(`${task.folder}/${file}`, `${folder}/${file}`);
  const orders = kitOrder(task);
  for (const [k, { name, clips }] of task.splits.entries()) {
    const rows = new Float32Array(clips.length * width);
    orders[k].forEach((clip, row) =>
      rows.set(embeddings[k].subarray(clip * width, (clip + 1) * width), row * width)
    );
    const labels = Array.from(orders[k], (clip) => clips[clip].labels.map((k) => task.labels[k]));
    Deno.writeFileSync(`${folder}/${name}.embeddings.npy`, new Uint8Array(rows.buffer));
    Deno.writeTextFileSync(
      `${folder}/${name}.embedding-dimensions.json`,
      JSON.stringify([clips.length, width]),
    );
    Deno.writeFileSync(`${folder}/${name}.target-labels.pkl`, pickle(labels));
  }
  Deno.writeFileSync(`${folder}/${doneFile}`, new Uint8Array());
}

// Whether the folder exists and does not hold embeddings, so that it must not be removed.
function isOccupied(folder: string): boolean {
  try {
    return ![...Deno.readDirSync(folder)].some(({ name }) => name === doneFile);
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound);
  }
}

function remove(folder: string): void {
  try {
    Deno.removeSync(folder, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
