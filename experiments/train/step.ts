// One step of training on a machine: whole, or in parts whose gradients are added up here and, where
// several processes share a batch, over all of them.
import * as E from "fp-ts/Either.js";
import type { Machine, Values } from "../../backends/backend.ts";
import type { Parameter } from "../../dsl/parameters.ts";
import { gradientSum } from "../../models/training.ts";
import type { DataError, Source } from "../data/source.ts";
import type { Spec } from "../spec.ts";

/** Which share of every batch this process computes: share `rank`, from 0, `of` so many. */
export interface Share {
  readonly rank: number;
  readonly of: number;
}

/** Float32 numbers by name. */
export type Sums = Readonly<Record<string, Float32Array>>;

/**
 * Adds up, over all processes that share a batch, the numbers that each of them gives; all give the
 * same names and sizes and get the same bits. On the left, why not, in words.
 */
export type Reduce = (own: Sums) => Promise<E.Either<string, Sums>>;

/** How a run's batches are divided. */
export interface Division {
  readonly share: Share;
  /** Parts that this process computes one after the other. */
  readonly accumulate: number;
  readonly reduce?: Reduce;
}

/** Parts of a batch, over all processes. */
export const partsOf = ({ share, accumulate }: Division): number => share.of * accumulate;

/** The clips of this process's parts of a batch, in order; on the left, why they could not be read. */
export const readParts = async (
  source: Source,
  { batch }: Spec,
  division: Division,
  step: number,
): Promise<E.Either<DataError, readonly Float32Array[]>> => {
  const { share, accumulate } = division;
  const size = batch / partsOf(division);
  const read = await source.batch(
    step * batch + share.rank * accumulate * size,
    accumulate * size,
  );
  return E.map((clips: Float32Array) => {
    const length = clips.length / accumulate;
    return Array.from(
      { length: accumulate },
      (_, k) => clips.subarray(k * length, (k + 1) * length),
    );
  })(read);
};

/** What a step tells. */
export interface Stepped {
  /** Loss of the whole batch before the update. */
  readonly loss: number;
  /** Norm of its gradients before clipping, where they are clipped. */
  readonly gradientNorm?: number;
  /** What the loss was multiplied by, where it is scaled. */
  readonly lossScale?: number;
  /** True when some process was asked to stop; then nothing was updated. */
  readonly stopped: boolean;
}

/**
 * Makes step number `step` from its parts. `stopping` says that this process was asked to stop; where
 * processes share a batch they all stop in the same step.
 */
export const makeStep = async (
  machine: Machine,
  trained: readonly Parameter[],
  division: Division,
  at: {
    readonly step: number;
    readonly rate: number;
    readonly parts: readonly Float32Array[];
    readonly stopping: boolean;
  },
): Promise<E.Either<string, Stepped>> => {
  const step = Uint32Array.of(at.step), rate = Float32Array.of(at.rate);
  const told = ({ gradientNorm, lossScale }: Values) => ({
    ...(gradientNorm === undefined ? {} : { gradientNorm: gradientNorm[0] }),
    ...(lossScale === undefined ? {} : { lossScale: lossScale[0] }),
  });
  const stopped = { loss: NaN, stopped: true };
  if (partsOf(division) === 1) {
    if (at.stopping) return E.right(stopped);
    const [spectrogram] = at.parts;
    const result = await machine.run("train", { spectrogram, step, rate });
    return E.right({ loss: result.loss[0], stopped: false, ...told(result) });
  }
  const { share, accumulate, reduce } = division;
  if (at.stopping && reduce === undefined) return E.right(stopped);
  let loss = 0;
  for (const [k, spectrogram] of at.parts.entries()) {
    const result = await machine.run("gradients", {
      spectrogram,
      step,
      part: Uint32Array.of(share.rank * accumulate + k),
      first: Float32Array.of(k === 0 ? 1 : 0),
    });
    loss += result.loss[0] / partsOf(division);
  }
  if (reduce !== undefined) {
    const names = trained.map(({ name }) => gradientSum(name));
    const own = await machine.read(names) as Sums;
    const all = await reduce({
      ...own,
      loss: Float32Array.of(loss),
      stopping: Float32Array.of(at.stopping ? 1 : 0),
    });
    if (E.isLeft(all)) return all;
    if (all.right.stopping[0] > 0) return E.right(stopped);
    machine.write(Object.fromEntries(names.map((name) => [name, all.right[name]])));
    loss = all.right.loss[0];
  }
  return E.right({ loss, stopped: false, ...told(await machine.run("update", { step, rate })) });
};
