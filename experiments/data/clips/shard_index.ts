// Indexes a tar archive by reading headers and seeking over contents, so that members can be read in any
// order afterwards. A truncated or damaged shard gives the members before the damage, and is reported.
import * as E from "fp-ts/Either.js";
import { plain, quoted } from "../../../backends/runtime/text.ts";
import { irregular } from "../../io/regular_files.ts";
import { parseHeader, paxPath, tarErrorText, text } from "../../formats/tar.ts";
import { reasonOf } from "../../io/reason.ts";

/** The members of a shard. */
export interface ShardIndex {
  /** Their names, each followed by a newline. */
  readonly names: string;
  /** Offset in bytes of each member's content. */
  readonly offsets: Float64Array<ArrayBuffer>;
  readonly sizes: Float64Array<ArrayBuffer>;
  /** What is wrong from some offset on, to follow the shard's path. */
  readonly problem?: string;
}

/** Maximum length of a name in bytes. */
const longest = 2 ** 16;

/** The members of a shard whose names match, or why it cannot be read. */
export const indexShard = (path: string, wanted: RegExp): E.Either<string, ShardIndex> => {
  const why = irregular(path);
  if (why !== undefined) {
    return E.right({
      names: "",
      offsets: new Float64Array(),
      sizes: new Float64Array(),
      problem: why,
    });
  }
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    return E.left(reasonOf(error));
  }
  try {
    return E.right(indexed(file, file.statSync().size, wanted));
  } catch (error) {
    return E.left(reasonOf(error));
  } finally {
    file.close();
  }
};

function indexed(file: Deno.FsFile, end: number, wanted: RegExp): ShardIndex {
  const offsets: number[] = [], sizes: number[] = [];
  let names = "";
  const found = (problem?: string): ShardIndex => ({
    names,
    offsets: Float64Array.from(offsets),
    sizes: Float64Array.from(sizes),
    ...(problem === undefined ? {} : { problem }),
  });
  const header = new Uint8Array(512);
  let longName: string | undefined;
  for (let at = 0;;) {
    if (at === 0 && end === 0) return found("the file is empty");
    if (at + 512 > end) {
      return found(
        `it is cut after ${offsets.length} ${offsets.length === 1 ? "recording" : "recordings"}`,
      );
    }
    readAt(file, at, header);
    if (header.every((byte) => byte === 0)) return found();
    const parsed = parseHeader(header);
    if (E.isLeft(parsed)) {
      return found(
        at === 0 ? "it is no tar archive" : `at byte ${at}, ${tarErrorText(parsed.left)}`,
      );
    }
    const { size, kind } = parsed.right, name = longName ?? parsed.right.path;
    const begin = at + 512;
    at = begin + Math.ceil(size / 512) * 512;
    if (begin + size > end) {
      return found(
        `it is cut in ${quoted(name)}, which should have ${size} bytes, but ${
          end - begin
        } are there`,
      );
    }
    if (kind === "x" || kind === "L") {
      if (size > longest) {
        return found(`at byte ${begin - 512}, a name has ${size} bytes, where ${longest} are read`);
      }
      const content = new Uint8Array(size);
      readAt(file, begin, content);
      longName = (kind === "L" ? text(content) : paxPath(content)) ?? longName;
      continue;
    }
    if (kind === "g") continue;
    longName = undefined;
    const isFile = kind === "0" || kind === "\0" || kind === "7";
    if (!isFile || !wanted.test(name)) continue;
    names += `${plain(name)}\n`;
    offsets.push(begin);
    sizes.push(size);
  }
}

function readAt(file: Deno.FsFile, at: number, into: Uint8Array): void {
  file.seekSync(at, Deno.SeekMode.Start);
  for (let done = 0; done < into.length;) {
    const count = file.readSync(into.subarray(done));
    if (count === null) throw new Error("it became shorter while it was read");
    done += count;
  }
}
