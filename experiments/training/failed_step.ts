// Saves the clips of a failed step, so that it can be examined and repeated.
import type * as E from "fp-ts/Either.js";
import { type FileError, writeWhole } from "../io/files.ts";
import { encode, type TensorData } from "../../backends/runtime/safetensors.ts";
import type { Spec } from "../specs/spec.ts";

/** A step with results that are not finite. */
export interface FailedStep {
  readonly step: number;
  readonly rate: number;
  readonly loss: number;
  /** The clips of the step, by part. */
  readonly parts: readonly Float32Array[];
  /** The clips of the step before, whose update may be the cause. */
  readonly before: readonly Float32Array[] | undefined;
}

/** Writes a failed step as safetensors: `spectrogram` and `previous`, clips × frames × mels. */
export const writeFailedStep = (
  path: string,
  spec: Spec,
  { step, rate, loss, parts, before }: FailedStep,
): Promise<E.Either<FileError, void>> => {
  const { frames } = spec.clip, { mels } = spec.frontEnd;
  const clips = (of: readonly Float32Array[]): TensorData => {
    const length = of.reduce((n, part) => n + part.length, 0);
    const data = new Float32Array(length);
    of.reduce((at, part) => (data.set(part, at), at + part.length), 0);
    return { dtype: "F32", shape: [length / (frames * mels), frames, mels], data };
  };
  const tensors = new Map([["spectrogram", clips(parts)]]);
  if (before !== undefined) tensors.set("previous", clips(before));
  const metadata = {
    step: `${step}`,
    learningRate: `${rate}`,
    loss: `${loss}`,
    spec: JSON.stringify(spec),
  };
  return writeWhole(path, encode(tensors, metadata))();
};
