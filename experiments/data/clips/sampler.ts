// The sampler: which recordings are held out, a shuffle for each pass, and a crop for each use. All of
// it is a function of the seed and the index of the use, never of earlier reads, so that a run can
// resume anywhere and several processes read their shares of the same batches. A recording that turns
// out to be unusable is replaced by another, chosen by seed and use.
import * as E from "fp-ts/Either.js";
import { draw, shuffled } from "../../io/random.ts";
import type { Recordings } from "./recordings.ts";
import type { DataError, HeldOut, Skipped, Source } from "./source.ts";

/** Options of the sampler. */
export interface OrderOptions {
  readonly seed: number;
  /** Size of a crop: frames × mels. */
  readonly size: number;
  /** Share of the recordings that is held out, between 0 and 1; at least one is. */
  readonly heldOutFraction: number;
  /** Maximum share of all recordings that may be skipped. */
  readonly skippedFraction: number;
  /** Called with the number of recordings read before the first batch, and how many there are to read. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Up to this many recordings are all read before training, so that errors are reported at once. */
export const readFirst = 4096;

// The purpose of a random number, which its key depends on in addition to the seed.
const purposes = { heldOut: 0, crop: 1, pass: 2, replacement: 3 };

// Recordings read at once before training.
const stretch = 64;

/** Recordings as a source. Closing it closes them; an error here closes them too. */
export const orderedSource = async (
  recordings: Recordings,
  options: OrderOptions,
): Promise<E.Either<DataError, Source>> => {
  const opened = await open(recordings, options);
  if (E.isLeft(opened)) recordings.close();
  return opened;
};

async function open(
  recordings: Recordings,
  { seed, size, heldOutFraction, skippedFraction, onProgress = () => {} }: OrderOptions,
): Promise<E.Either<DataError, Source>> {
  const { describe, count, nameOf, read } = recordings;
  const bad = new Map<number, string>();
  const skipped = (): readonly Skipped[] => [
    ...recordings.skipped,
    ...[...bad].sort(([a], [b]) => a - b).map(([recording, reason]) => ({
      path: nameOf(recording),
      reason,
    })),
  ];
  const tooMany = (): DataError | undefined => {
    const of = count + recordings.skipped.length;
    return bad.size + recordings.skipped.length > skippedFraction * of
      ? { _tag: "TooManySkipped", from: describe, skipped: skipped(), of, most: skippedFraction }
      : undefined;
  };
  const tooFew = (): E.Either<DataError, never> =>
    E.left({
      _tag: "TooFewClips",
      from: describe,
      clips: count - bad.size,
      skipped: skipped(),
    });

  // ---------------------------------------------------------------- held out

  const order = shuffled(count, seed, purposes.heldOut);
  const heldCount = Math.max(1, Math.min(count - 1, Math.round(count * heldOutFraction)));
  const heldOut: HeldOut[] = [];
  const all = count <= readFirst, looked = all ? count : heldCount;
  let next = 0;
  while (next < count && (all || heldOut.length < heldCount)) {
    const few = all ? stretch : Math.min(stretch, heldCount - heldOut.length);
    const wanted = order.slice(next, next + few);
    const values = await read(wanted.map((recording) => ({ recording, at: 0 })));
    if (E.isLeft(values)) return values;
    for (const [k, value] of values.right.entries()) {
      if (E.isLeft(value)) bad.set(wanted[k], value.left);
      else if (heldOut.length < heldCount) {
        heldOut.push({ name: nameOf(wanted[k]), frames: value.right });
      }
    }
    next += wanted.length;
    onProgress(Math.min(next, looked), looked);
    if (!all) {
      const error = tooMany();
      if (error !== undefined) return E.left(error);
    }
  }
  const held = new Set<number>();
  for (const recording of order) {
    if (held.size < heldOut.length && !bad.has(recording)) held.add(recording);
  }
  // Recordings known to be unusable are in no pass.
  const training = order.filter((recording) => !held.has(recording) && !bad.has(recording));
  if (heldOut.length === 0 || training.length === 0) return tooFew();
  const error = tooMany();
  if (error !== undefined) return E.left(error);

  // ---------------------------------------------------------------- training

  let last: { readonly pass: number; readonly order: readonly number[] } | undefined;
  const orderOf = (pass: number): readonly number[] => {
    if (last?.pass !== pass) {
      last = { pass, order: shuffled(training.length, seed, purposes.pass, pass) };
    }
    return last.order;
  };
  // The first attempt of a use is its position in the pass; later ones replace an unusable recording.
  const choice = (use: number, attempt: number): number => {
    const n = training.length;
    return training[
      attempt === 0
        ? orderOf(Math.floor(use / n))[use % n]
        : Math.floor(draw(seed, purposes.replacement, use, attempt) * n)
    ];
  };

  const batch = async (
    first: number,
    uses: number,
  ): Promise<E.Either<DataError, Float32Array>> => {
    const values = new Float32Array(uses * size);
    const attempts = new Array<number>(uses).fill(0);
    let open = Array.from({ length: uses }, (_, k) => k);
    while (open.length > 0) {
      if (bad.size >= training.length && training.every((one) => bad.has(one))) return tooFew();
      const wanted = open.map((k) => {
        while (bad.has(choice(first + k, attempts[k]))) attempts[k]++;
        const at = draw(seed, purposes.crop, first + k);
        return { recording: choice(first + k, attempts[k]), at };
      });
      const got = await read(wanted);
      if (E.isLeft(got)) return got;
      const failed: number[] = [];
      for (const [n, value] of got.right.entries()) {
        if (E.isRight(value)) values.set(value.right, open[n] * size);
        else {
          bad.set(wanted[n].recording, value.left);
          failed.push(open[n]);
        }
      }
      open = failed;
      if (open.length > 0) {
        const error = tooMany();
        if (error !== undefined) return E.left(error);
      }
    }
    return E.right(values);
  };

  return E.right({
    describe,
    identity: `${training.length} clips to train on and ${heldOut.length} held out, ` +
      recordings.print,
    clips: training.length,
    heldOut,
    skipped,
    batch,
    close: recordings.close,
  });
}
