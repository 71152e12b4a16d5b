// Shards: tar archives of recordings or spectrograms, as written by WebDataset, given by paths with
// braces, `train-{000..127}.tar`, or by their folder.
import * as E from "fp-ts/Either.js";
import { parseJson } from "../../../backends/runtime/json.ts";
import { ensureFolder, writeWhole } from "../../io/files.ts";
import type { Members, StoreSpec } from "./reader.ts";
import type { RecordingKind } from "./read_clip.ts";
import type { Pool } from "./reader_pool.ts";
import type { ShardIndex } from "./shard_index.ts";
import { printOf } from "./recordings.ts";
import type { DataError, Skipped } from "./source.ts";
import { contentKey } from "./spectrogram_cache.ts";
import { reasonOf } from "../../io/reason.ts";

/** Maximum number of paths of one pattern. */
const mostPaths = 1_000_000;

/**
 * Expands the braces of a pattern to paths: `{000..127}` counts, with as many digits as written;
 * `{a,b}` lists; both may be repeated and nested. On the left, what is wrong with the pattern.
 */
export const expandBraces = (pattern: string): E.Either<string, readonly string[]> => {
  const open = pattern.indexOf("{");
  if (open < 0) {
    return pattern.includes("}") ? E.left("a } has no {") : E.right([pattern]);
  }
  let depth = 0, close = open;
  const parts: string[] = [];
  for (let begin = open + 1; close < pattern.length; close++) {
    const sign = pattern[close];
    if (sign === "{") depth++;
    else if (sign === "}") depth--;
    if (depth === 0 || (depth === 1 && sign === ",")) {
      parts.push(pattern.slice(begin, close));
      begin = close + 1;
    }
    if (depth === 0) break;
  }
  if (depth > 0) return E.left("a { has no }");
  const counted = parts.length === 1 ? /^(\d+)\.\.(\d+)$/.exec(parts[0]) : null;
  if (parts.length === 1 && counted === null) {
    return E.left(`{${parts[0]}} should be a list, {a,b}, or a count, {000..127}`);
  }
  const [before, after] = [pattern.slice(0, open), pattern.slice(close + 1)];
  let middles: readonly string[] = parts;
  if (counted !== null) {
    const [from, to] = [Number(counted[1]), Number(counted[2])];
    if (to < from) return E.left(`{${parts[0]}} counts backwards`);
    if (to - from >= mostPaths) {
      return E.left(`{${parts[0]}} stands for more than ${mostPaths} paths`);
    }
    const digits = counted[1].startsWith("0") || counted[1].length === counted[2].length
      ? counted[1].length
      : 0;
    middles = Array.from({ length: to - from + 1 }, (_, k) => `${from + k}`.padStart(digits, "0"));
  }
  const paths: string[] = [];
  for (const middle of middles) {
    // The other braces are expanded recursively.
    const expanded = expandBraces(middle + after);
    if (E.isLeft(expanded)) return expanded;
    for (const rest of expanded.right) paths.push(before + rest);
    if (paths.length > mostPaths) return E.left(`it stands for more than ${mostPaths} paths`);
  }
  return E.right(paths);
};

/** The shards of patterns and folders, without duplicates. */
export const listShards = (
  patterns: readonly string[],
): E.Either<DataError, readonly string[]> => {
  const bad = (path: string, problem: string) =>
    E.left<DataError>({ _tag: "BadPlace", path, problem });
  const shards = new Set<string>();
  for (const pattern of patterns) {
    const expanded = expandBraces(pattern);
    if (E.isLeft(expanded)) return bad(pattern, expanded.left);
    for (const path of expanded.right) {
      if (/\.(tar\.(gz|bz2|xz|zst)|tgz)$/i.test(path)) {
        return bad(path, "is compressed, and cannot be read in any order; unpack it to a .tar");
      }
      let isFolder: boolean;
      try {
        isFolder = Deno.statSync(path).isDirectory;
      } catch (error) {
        const of = expanded.right.length === 1
          ? ""
          : `, one of the ${expanded.right.length} shards ` +
            `that ${pattern} names`;
        return bad(
          path,
          error instanceof Deno.errors.NotFound
            ? `is not there${of}`
            : `cannot be read: ${reasonOf(error)}`,
        );
      }
      if (!isFolder) {
        shards.add(path);
        continue;
      }
      const inside = [...Deno.readDirSync(path)].map(({ name }) => name)
        .filter((name) => name.endsWith(".tar")).sort();
      if (inside.length === 0) return bad(path, "is a folder without a .tar in it");
      inside.forEach((name) => shards.add(`${path.replace(/(?<=.)\/+$/, "")}/${name}`));
    }
  }
  return E.right([...shards]);
};

const extensions: Readonly<Record<RecordingKind, string>> = {
  audio: "\\.(wav|flac|ogg|oga|mp3)$",
  "log-mel": "\\.npy$",
};

/**
 * What is in shards. Their headers are read once, by `pool`, and kept in the store if there is one; a
 * shard that is cut or damaged gives what precedes the damage, and is reported as skipped.
 */
export const shardMembers = async (
  patterns: readonly string[],
  form: RecordingKind,
  pool: Pool,
  store?: StoreSpec,
): Promise<E.Either<DataError, Members>> => {
  const listed = listShards(patterns);
  if (E.isLeft(listed)) return listed;
  const paths = listed.right;
  const indices = await Promise.all(paths.map((path) => indexOf(path, form, pool, store)));
  const skipped: Skipped[] = [], shards: Shard[] = [];
  let count = 0;
  for (const [k, index] of indices.entries()) {
    if (E.isLeft(index)) {
      return E.left({ _tag: "BadPlace", path: paths[k], problem: `cannot be read: ${index.left}` });
    }
    const { problem, ...of } = index.right;
    if (problem !== undefined) skipped.push({ path: paths[k], reason: problem });
    shards.push({ ...of, path: paths[k], first: count });
    count += of.offsets.length;
  }
  if (count === 0 && skipped.length === 0) {
    const kinds = form === "audio" ? "wav, flac, ogg, mp3" : ".npy";
    return E.left({
      _tag: "BadPlace",
      path: patterns.join(", "),
      problem: `${paths.length === 1 ? "has" : "have"} no members of the wanted kind (${kinds})`,
    });
  }
  const shardOf = (recording: number): Shard => {
    let [low, high] = [0, shards.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (shards[middle].first <= recording) low = middle;
      else high = middle - 1;
    }
    return shards[low];
  };
  return E.right({
    describe: `${paths.length === 1 ? "the shard" : `the ${paths.length} shards`} ` +
      patterns.join(", "),
    print: await printOf(shards.map(({ names, sizes }) => `${names}${sizes}`)),
    form,
    count,
    nameOf: (recording) => {
      const { path, names, first } = shardOf(recording);
      return `${path}/${names.split("\n")[recording - first]}`;
    },
    placeOf: (recording) => {
      const { path, offsets, sizes, first } = shardOf(recording), k = recording - first;
      return { path, stretch: { offset: offsets[k], size: sizes[k] } };
    },
    skipped,
  });
};

interface Shard extends Omit<ShardIndex, "problem"> {
  readonly path: string;
  /** The index of its first member. */
  readonly first: number;
}

// The cached index of an unchanged shard; otherwise a new one, which is cached if the shard is complete.
async function indexOf(
  path: string,
  form: RecordingKind,
  pool: Pool,
  store: StoreSpec | undefined,
): Promise<E.Either<string, ShardIndex>> {
  const ask = () =>
    pool.ask<E.Either<string, ShardIndex>>({ kind: "index", path, wanted: extensions[form] });
  if (store === undefined) return await ask();
  const { size, mtime } = Deno.statSync(path);
  const print = [await Deno.realPath(path), size, mtime?.getTime(), form].join(" ");
  const folder = `${store.path.replace(/(?<=.)\/+$/, "")}/index`;
  const kept = `${folder}/${(await contentKey(new TextEncoder().encode(print))).slice(0, 32)}.json`;
  const there = readIndex(kept);
  if (there !== undefined) return E.right(there);
  const index = await ask();
  if (E.isRight(index) && index.right.problem === undefined) {
    const { names, offsets, sizes } = index.right;
    // Failing to cache it costs time, not a run.
    if (E.isRight(await ensureFolder(folder)())) {
      await writeWhole(kept, JSON.stringify({ names, offsets: [...offsets], sizes: [...sizes] }))();
    }
  }
  return index;
}

function readIndex(path: string): ShardIndex | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
  const parsed = parseJson(text);
  if (E.isLeft(parsed)) return undefined;
  const { names, offsets, sizes } = parsed.right as Readonly<Record<string, unknown>>;
  return typeof names === "string" && Array.isArray(offsets) && Array.isArray(sizes)
    ? { names, offsets: Float64Array.from(offsets), sizes: Float64Array.from(sizes) }
    : undefined;
}
