// Unpacks a task from its archive: the files under its folder, with audio resampled to 16000 Hz. The
// folder appears complete or not at all.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { decodeRecording, recordingRate } from "../audio/recording.ts";
import { type RecordingError, recordingErrorText } from "../audio/errors.ts";
import { type FileError, fileErrorText } from "../../io/files.ts";
import { quoted } from "../../../backends/runtime/text.ts";
import { openRegular } from "../../io/regular_files.ts";
import { decimate } from "./decimate.ts";
import { type TarError, tarErrorText, tarFiles } from "../../formats/tar.ts";
import { pcm16, wav16 } from "../../formats/wav.ts";
import { reasonOf } from "../../io/reason.ts";

/** The result of unpacking. */
export interface Unpacked {
  readonly clips: number;
  /** Number of clips that were resampled, and their rate in Hz. */
  readonly resampled: number;
  readonly rate?: number;
}

/** Why an archive was not unpacked. */
export type UnpackError =
  | { readonly _tag: "Unreadable"; readonly archive: string; readonly reason: string }
  | { readonly _tag: "Tar"; readonly archive: string; readonly error: TarError }
  | {
    readonly _tag: "NoTask";
    readonly archive: string;
    readonly folder: string;
    readonly first?: string;
  }
  | {
    readonly _tag: "BadClip";
    readonly archive: string;
    readonly path: string;
    readonly reason: string;
  }
  | { readonly _tag: "Files"; readonly error: FileError };

/**
 * Unpacks the task `folder` of a .tar.gz archive to `out/folder`, which must not be there. Clips at
 * another rate become 16 bit at 16000 Hz, mono. `onProgress` gets how many bytes of the archive
 * are read.
 */
export const unpackTask = (
  archive: string,
  folder: string,
  out: string,
  onProgress: (bytes: number) => void = () => {},
): TaskEither<UnpackError, Unpacked> =>
async () => {
  const target = `${out}/${folder}`, partial = unpacking(out, folder);
  let file: Deno.FsFile;
  try {
    file = openRegular(archive);
  } catch (error) {
    return E.left({ _tag: "Unreadable", archive, reason: reasonOf(error) });
  }
  const bad = (error: unknown): E.Either<UnpackError, never> => {
    const reason = reasonOf(error);
    const doing = "write into the folder" as const;
    return E.left({ _tag: "Files", error: { _tag: "FileError", doing, path: target, reason } });
  };
  let read = 0, first: string | undefined, found = false, clips = 0, resampled = 0;
  let rate: number | undefined;
  const counted = file.readable.pipeThrough(
    new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform: (chunk, controller) => {
        onProgress(read += chunk.length);
        controller.enqueue(chunk);
      },
    }),
  );
  const entries = tarFiles(counted.pipeThrough(new DecompressionStream("gzip")));
  try {
    remove(partial);
    Deno.mkdirSync(partial, { recursive: true });
    for await (const entry of entries) {
      if (E.isLeft(entry)) return E.left({ _tag: "Tar", archive, error: entry.left });
      const { path, content } = entry.right;
      first ??= path;
      const parts = path.split("/"), at = parts.indexOf(folder);
      if (at < 0 || at === parts.length - 1) continue;
      found = true;
      const inside = parts.slice(at + 1);
      const isClip = inside.length === 3 && /^\d+$/.test(inside[0]);
      if (!isClip || inside[0] === `${recordingRate}`) {
        put(`${partial}/${inside.join("/")}`, content);
        if (isClip) clips++;
        continue;
      }
      const target = `${partial}/${recordingRate}/${inside[1]}/${inside[2]}`;
      const decoded = await resampled16(content);
      if (E.isLeft(decoded)) {
        const reason = recordingErrorText(decoded.left);
        return E.left({ _tag: "BadClip", archive, path, reason });
      }
      put(target, decoded.right);
      clips++;
      resampled++;
      rate = Number(inside[0]);
    }
    if (!found) {
      const known = first === undefined ? {} : { first };
      return E.left({ _tag: "NoTask", archive, folder, ...known });
    }
    Deno.renameSync(partial, target);
    return E.right({ clips, resampled, ...(rate === undefined ? {} : { rate }) });
  } catch (error) {
    return bad(error);
  } finally {
    await entries.return(undefined);
    try {
      file.close();
    } catch {
      // The stream closed it at its end.
    }
    try {
      remove(partial);
    } catch {
      // The error that led here has been reported.
    }
  }
};

/** The folder of a task while it is being unpacked. */
const unpacking = (out: string, folder: string): string => `${out}/.${folder}.unpacking`;

/** Removes a partially unpacked task. */
export const discardUnpacking = (folder: string, out: string): void => {
  try {
    remove(unpacking(out, folder));
  } catch {
    // It is hidden, and is removed the next time.
  }
};

/** Why an archive was not unpacked, in one sentence. */
export const unpackErrorText = (error: UnpackError): string => {
  switch (error._tag) {
    case "Unreadable":
      return `${error.archive} cannot be read: ${error.reason}`;
    case "Tar":
      return `${error.archive} cannot be unpacked: ${tarErrorText(error.error)}`;
    case "NoTask":
      return `${error.archive} holds no folder ${error.folder}` +
        (error.first === undefined
          ? "; it is empty"
          : `; the first that it holds is ${quoted(error.first)}`);
    case "BadClip":
      return `${error.archive}: ${quoted(error.path)} cannot be resampled: ${error.reason}`;
    case "Files":
      return fileErrorText(error.error);
  }
};

// A clip as a 16-bit wav file at the task rate. HEAR's archives are 16-bit at a multiple of it, which
// has a fast path; creating the general resampler takes longer than resampling most clips.
async function resampled16(
  content: Uint8Array<ArrayBuffer>,
): Promise<E.Either<RecordingError, Uint8Array>> {
  const plain = pcm16(content), factor = (plain?.rate ?? 0) / recordingRate;
  if (plain !== undefined && Number.isInteger(factor) && factor > 0) {
    return E.right(wav16(decimate(plain.samples, factor), recordingRate));
  }
  const decoded = await decodeRecording(content, { shortest: 0 })();
  return E.map((samples: Float32Array) => wav16(samples, recordingRate))(decoded);
}

function put(path: string, content: Uint8Array): void {
  Deno.mkdirSync(path.replace(/\/[^/]*$/, ""), { recursive: true });
  Deno.writeFileSync(path, content);
}

function remove(folder: string): void {
  try {
    Deno.removeSync(folder, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
