// One training step: whole, or in parts whose gradients are accumulated and, if several processes share a
// batch, summed over all of them.
import * as E from "fp-ts/Either.js";
import type { Machine, Values } from "../../backends/backend.ts";
import type { Parameter } from "../../dsl/parameters.ts";
import { gradientSum } from "../../models/training.ts";
import type { DataError, Source } from "../data/clips/source.ts";
import type { Processes, Sums } from "../machines/processes.ts";
import type { Spec } from "../specs/spec.ts";

/** How a run's batches are divided. */
export interface Division {
  readonly processes: Processes;
  /** Parts that each process computes in sequence. */
  readonly accumulate: number;
}

/** Number of parts of a batch, over all processes. */
export const partsOf = ({ processes, accumulate }: Division): number =>
  processes.share.of * accumulate;

/** Why a spec's batch cannot be divided among processes, in words; undefined if it can. */
export const batchProblem = (
  { batch, accumulate }: Spec,
  { share: { of } }: Processes,
): string | undefined =>
  batch % (of * accumulate) === 0
    ? undefined
    : `the batch, ${batch}, is not divisible by ${of} processes × ${accumulate} ` +
      `${
        accumulate === 1 ? "part" : "parts"
      }; start another number of processes, or set another batch`;

/** The clips of this process's parts of a batch, in order; on the left, why they could not be read. */
export const readParts = async (
  source: Source,
  { batch }: Spec,
  division: Division,
  step: number,
): Promise<E.Either<DataError, readonly Float32Array[]>> => {
  const { processes: { share }, accumulate } = division;
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

/** What a step reports. */
export interface Stepped {
  /** Loss of the whole batch before the update. */
  readonly loss: number;
  /** Norm of its gradients before clipping; only with clipping. */
  readonly gradientNorm?: number;
  /** The loss scale; only with loss scaling. */
  readonly lossScale?: number;
}

/** Makes step `step` from this process's parts, together with the other processes. */
export const makeStep = async (
  machine: Machine,
  trained: readonly Parameter[],
  division: Division,
  at: {
    readonly step: number;
    readonly rate: number;
    readonly parts: readonly Float32Array[];
  },
): Promise<Stepped> => {
  const step = Uint32Array.of(at.step), rate = Float32Array.of(at.rate);
  const told = ({ gradientNorm, lossScale }: Values) => ({
    ...(gradientNorm === undefined ? {} : { gradientNorm: gradientNorm[0] }),
    ...(lossScale === undefined ? {} : { lossScale: lossScale[0] }),
  });
  if (partsOf(division) === 1) {
    const [spectrogram] = at.parts;
    const result = await machine.run("train", { spectrogram, step, rate });
    return { loss: result.loss[0], ...told(result) };
  }
  const { processes: { share, reduce }, accumulate } = division;
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
  if (share.of > 1) {
    const names = trained.map(({ name }) => gradientSum(name));
    const own = await machine.read(names) as Sums;
    const all = await reduce({ ...own, loss: Float32Array.of(loss) });
    machine.write(Object.fromEntries(names.map((name) => [name, all[name]])));
    loss = all.loss[0];
  }
  return { loss, ...told(await machine.run("update", { step, rate })) };
};
