// Atomic files: a file is written under another name in the same folder and renamed when complete, so that
// neither an error nor a kill leaves a partial file or loses the previous one.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { reasonOf } from "./reason.ts";

/** Why a file or folder could not be written. */
export interface FileError {
  readonly _tag: "FileError";
  /** The operation. */
  readonly doing: "write the file" | "make the folder" | "write into the folder";
  readonly path: string;
  /** The reason in words. */
  readonly reason: string;
}

/**
 * Writes a file atomically: a reader of `path` sees the old content or the new one, nothing between.
 * The folder must exist. On an error the file is as it was, and nothing else is left. Writers of
 * one path must follow one another; a killed one's `.partial` file is replaced by the next.
 */
export const writeWhole =
  (path: string, content: Uint8Array | string): TaskEither<FileError, void> => () => {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const partial = `${path}.partial`;
    // Synchronous, so that no signal handler can end the process in between.
    return attempt("write the file", path, () => {
      try {
        writeSynced(partial, bytes);
        Deno.renameSync(partial, path);
      } catch (error) {
        removeIfThere(partial);
        throw error;
      }
    });
  };

/** A path without trailing slashes. */
export const withoutSlash = (path: string): string => path.replace(/\/+$/, "");

/**
 * Creates a folder and its missing parents, and makes sure that files can be written in it: a run should
 * fail before its work, not after.
 */
export const ensureFolder = (path: string): TaskEither<FileError, void> => async () => {
  const made = await attempt("make the folder", path, () => {
    Deno.mkdirSync(path, { recursive: true });
  });
  return E.isLeft(made) ? made : await attempt("write into the folder", path, () => {
    // One name for all, so that the next write replaces what a kill left between the two.
    const probe = `${path}/.writable`;
    Deno.writeTextFileSync(probe, "");
    removeIfThere(probe);
  });
};

/** Why a file or folder could not be written, in one sentence. */
export function fileErrorText(error: FileError): string {
  return `cannot ${error.doing} ${error.path}: ${error.reason}`;
}

function writeSynced(path: string, bytes: Uint8Array): void {
  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
  file.syncSync();
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // Never created, or not removable: the original error says more.
  }
}

function attempt(
  doing: FileError["doing"],
  path: string,
  act: () => void,
): Promise<E.Either<FileError, void>> {
  return Promise.resolve(E.tryCatch(act, (error): FileError => ({
    _tag: "FileError",
    doing,
    path,
    reason: reasonText(error),
  })));
}

/** Why something could not be written: common reasons say what to do, others are the system's message. */
export function reasonText(error: unknown): string {
  switch ((error as { readonly code?: string }).code) {
    case "EACCES":
    case "EPERM":
      return "permission denied; choose another folder, or change who may write there";
    case "EROFS":
      return "the file system is read-only; choose another folder";
    case "ENOSPC":
      return "the disk is full; make room or choose another folder";
    case "ENOENT":
      return "its folder does not exist";
    case "ENOTDIR":
      return "a part of the path is a file, not a folder";
    case "EISDIR":
      return "a folder has that name";
    case "EEXIST":
      return "a file has that name";
    default:
      return reasonOf(error);
  }
}
