// Resumable downloads, which may take hours: a file gets its name only when its size and checksum are
// right.
import { createHash } from "node:crypto";
import * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { type FileError, fileErrorText } from "../../io/files.ts";
import { reasonOf } from "../../io/reason.ts";

/** A file that can be fetched. */
export interface Remote {
  readonly url: string;
  readonly name: string;
  /** In bytes. */
  readonly size?: number;
  /** Checksum of its content, such as `md5:…` in hexadecimal. */
  readonly checksum?: string;
}

/** Why a file was not downloaded. */
export type DownloadError =
  | { readonly _tag: "BadAddress"; readonly url: string }
  | { readonly _tag: "Unreachable"; readonly host: string; readonly reason: string }
  | { readonly _tag: "Answered"; readonly url: string; readonly status: number }
  | { readonly _tag: "NotARecord"; readonly url: string; readonly problem: string }
  /** The connection failed repeatedly; the bytes so far are kept. */
  | {
    readonly _tag: "Broken";
    readonly name: string;
    readonly done: number;
    readonly size?: number;
    readonly reason: string;
  }
  | {
    readonly _tag: "WrongSize";
    readonly name: string;
    readonly expected: number;
    readonly found: number;
  }
  | {
    readonly _tag: "WrongChecksum";
    readonly name: string;
    readonly expected: string;
    readonly found: string;
  }
  | { readonly _tag: "Files"; readonly error: FileError };

/** Limits, and callbacks for progress. */
export interface DownloadOptions {
  readonly onProgress?: (done: number, size: number | undefined) => void;
  /** Attempts without progress before giving up. */
  readonly tries?: number;
  /** Milliseconds before the second attempt; doubled for each later one. */
  readonly pause?: number;
  /** Milliseconds without data after which a connection counts as broken. */
  readonly stall?: number;
}

const hashes = ["md5", "sha1", "sha256", "sha512"];

/**
 * Downloads a file to `path`; its folder must exist. Resumes from `path.partial` of an earlier attempt
 * if the server supports it.
 */
export const download =
  (remote: Remote, path: string, options: DownloadOptions = {}): TaskEither<DownloadError, void> =>
  async () => {
    const { name, size, checksum } = remote;
    const { tries = 5, pause = 1000 } = options;
    const partial = `${path}.partial`;
    const there = () => sizeOf(partial) ?? 0;
    if (size !== undefined && there() > size) discard(partial);
    for (let failed = 0; size === undefined || there() < size;) {
      const before = there();
      const got = await attempt(remote, partial, options);
      if (E.isRight(got)) break;
      if (got.left._tag === "Final") return E.left(got.left.error);
      failed = there() > before ? 1 : failed + 1;
      if (failed >= tries) {
        if (there() === 0) return E.left(got.left.error);
        const reason = got.left.reason;
        const known = size === undefined ? {} : { size };
        return E.left({ _tag: "Broken", name, done: there(), ...known, reason });
      }
      await new Promise((resolve) => setTimeout(resolve, pause * 2 ** (failed - 1)));
    }
    const found = there();
    if (size !== undefined && found !== size) {
      discard(partial);
      return E.left({ _tag: "WrongSize", name, expected: size, found });
    }
    if (checksum !== undefined) {
      const sum = checksumOf(partial, checksum.split(":")[0]);
      if (sum !== checksum.toLowerCase()) {
        discard(partial);
        return E.left({ _tag: "WrongChecksum", name, expected: checksum, found: sum });
      }
    }
    return writing(path, () => Deno.renameSync(partial, path));
  };

/** Why an attempt failed, and whether to retry. */
type Failure =
  | { readonly _tag: "Final"; readonly error: DownloadError }
  | { readonly _tag: "Passing"; readonly error: DownloadError; readonly reason: string };

const final = (error: DownloadError): E.Either<Failure, never> => E.left({ _tag: "Final", error });
const passing = (error: DownloadError, reason: string): E.Either<Failure, never> =>
  E.left({ _tag: "Passing", error, reason });

async function attempt(
  { url, size }: Remote,
  partial: string,
  { onProgress, stall = 60_000 }: DownloadOptions,
): Promise<E.Either<Failure, void>> {
  const from = sizeOf(partial) ?? 0;
  const aborter = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => aborter.abort(new Error(`no byte came for ${stall} ms`)), stall);
  };
  const broken = (error: unknown) => {
    const reason = networkReason(error);
    return passing({ _tag: "Unreachable", host: hostOf(url), reason }, reason);
  };
  let file: Deno.FsFile | undefined;
  try {
    alive();
    let response: Response;
    try {
      response = await fetch(url, {
        headers: {
          // No compression, so that offsets agree on both sides.
          "accept-encoding": "identity",
          ...(from > 0 ? { range: `bytes=${from}-` } : {}),
        },
        signal: aborter.signal,
      });
    } catch (error) {
      return URL.canParse(url) ? broken(error) : final({ _tag: "BadAddress", url });
    }
    const { status } = response;
    if (status === 416) {
      // The server has nothing beyond our offset: the file is complete, or the partial one is another file.
      await response.body?.cancel();
      const whole = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
      if (whole !== undefined && Number(whole) === from) return E.right(undefined);
      discard(partial);
      return passing({ _tag: "Answered", url, status }, "the server has another file");
    }
    if (status === 429 || status >= 500) {
      await response.body?.cancel();
      return passing({ _tag: "Answered", url, status }, `the server answered ${status}`);
    }
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      return final({ _tag: "Answered", url, status });
    }
    const start = status === 206
      ? Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1] ?? NaN)
      : 0;
    if (start !== 0 && start !== from) {
      await response.body.cancel();
      discard(partial);
      return passing({ _tag: "Answered", url, status }, "the server sent another part");
    }
    const opened = writing(partial, () => {
      const file = Deno.openSync(partial, { write: true, create: true, truncate: start === 0 });
      file.seekSync(start, Deno.SeekMode.Start);
      return file;
    });
    if (E.isLeft(opened)) {
      aborter.abort();
      return final(opened.left);
    }
    file = opened.right;
    const length = Number(response.headers.get("content-length") ?? NaN);
    const total = size ?? (Number.isNaN(length) ? undefined : start + length);
    let done = start;
    const chunks = response.body[Symbol.asyncIterator]();
    for (;;) {
      let next: IteratorResult<Uint8Array>;
      try {
        next = await chunks.next();
      } catch (error) {
        return broken(error);
      }
      if (next.done === true) break;
      alive();
      const bytes = next.value;
      const written = writing(partial, () => {
        for (let at = 0; at < bytes.length;) at += file!.writeSync(bytes.subarray(at));
      });
      if (E.isLeft(written)) {
        aborter.abort();
        return final(written.left);
      }
      done += bytes.length;
      onProgress?.(done, total);
    }
    return total !== undefined && done < total
      ? broken(new Error("the connection was closed"))
      : E.right(undefined);
  } finally {
    clearTimeout(timer);
    file?.close();
  }
}

// ---------------------------------------------------------------- Zenodo records

const record = t.type({
  files: t.array(t.type({
    key: t.string,
    size: t.number,
    checksum: t.string,
    links: t.type({ self: t.string }),
  })),
});

/** The files of a Zenodo record, by the URL of its JSON. */
export const recordFiles =
  (url: string): TaskEither<DownloadError, readonly Remote[]> => async () => {
    if (!URL.canParse(url)) return E.left({ _tag: "BadAddress", url });
    let json: unknown;
    try {
      const response = await fetch(url, {
        headers: { accept: "application/json" },
        signal: AbortSignal.timeout(60_000),
      });
      if (!response.ok) {
        await response.body?.cancel();
        return E.left({ _tag: "Answered", url, status: response.status });
      }
      const body = await response.text();
      try {
        json = JSON.parse(body);
      } catch {
        return E.left({ _tag: "NotARecord", url, problem: "it is not JSON" });
      }
    } catch (error) {
      return E.left({ _tag: "Unreachable", host: hostOf(url), reason: networkReason(error) });
    }
    const decoded = record.decode(json);
    if (E.isLeft(decoded)) {
      const problem = "it does not list files with key, size, checksum and links.self";
      return E.left({ _tag: "NotARecord", url, problem });
    }
    const { files } = decoded.right;
    const strange = files.find(({ checksum }) => !hashes.includes(checksum.split(":")[0]));
    if (strange !== undefined) {
      const problem = `the checksum of ${strange.key} is of an unknown kind: ${strange.checksum}`;
      return E.left({ _tag: "NotARecord", url, problem });
    }
    return E.right(files.map(({ key, size, checksum, links }): Remote => ({
      url: new URL(links.self, url).href,
      name: key,
      size,
      checksum,
    })));
  };

/** Why a file was not downloaded, in one sentence. */
export const downloadErrorText = (error: DownloadError): string => {
  switch (error._tag) {
    case "BadAddress":
      return `${JSON.stringify(error.url)} is not an address of the net`;
    case "Unreachable":
      return `${error.host} cannot be reached: ${error.reason}`;
    case "Answered":
      return `${error.url} answered ${error.status}` +
        (error.status === 404 ? ", there is no such file" : "");
    case "NotARecord":
      return `${error.url} is not a record of Zenodo: ${error.problem}`;
    case "Broken":
      return `${error.name}: the connection broke after ${megabytes(error.done)}` +
        (error.size === undefined ? "" : ` of ${megabytes(error.size)}`) +
        `: ${error.reason}; the same command goes on from there`;
    case "WrongSize":
      return `${error.name} has ${error.found} bytes, where ${error.expected} are expected; it was ` +
        "removed, so the same command fetches it anew";
    case "WrongChecksum":
      return `${error.name} is damaged: its checksum is ${error.found}, where ${error.expected} is ` +
        "expected; it was removed, so the same command fetches it anew";
    case "Files":
      return fileErrorText(error.error);
  }
};

/** A number of bytes in words. */
export const megabytes = (bytes: number): string =>
  bytes < 1e5 ? `${bytes} bytes` : `${(bytes / 1e6).toFixed(1)} MB`;

// ---------------------------------------------------------------- files and reasons

const sizeOf = (path: string): number | undefined => {
  try {
    return Deno.statSync(path).size;
  } catch {
    return undefined;
  }
};

const discard = (path: string): void => {
  try {
    Deno.removeSync(path);
  } catch {
    // It does not exist.
  }
};

function writing<A>(path: string, act: () => A): E.Either<DownloadError, A> {
  return E.tryCatch(act, (error): DownloadError => {
    const reason = reasonOf(error);
    return { _tag: "Files", error: { _tag: "FileError", doing: "write the file", path, reason } };
  });
}

function checksumOf(path: string, algorithm: string): string {
  const hash = createHash(algorithm);
  using file = Deno.openSync(path);
  const buffer = new Uint8Array(2 ** 20);
  for (;;) {
    const count = file.readSync(buffer);
    if (count === null) return `${algorithm}:${hash.digest("hex")}`;
    hash.update(buffer.subarray(0, count));
  }
}

const hostOf = (url: string): string => URL.canParse(url) ? new URL(url).host : url;

// The innermost cause has the reason; outer errors only say that something failed.
function networkReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof Error) return networkReason(error.cause);
  return error.message.replace(/^error sending request for url \(.*?\): /, "");
}
