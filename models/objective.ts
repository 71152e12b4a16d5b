// The objective of pre-training: the mean squared error of predicted patches.
import type { Tensor } from "../dsl/axes.ts";
import { contract, div, mean, square, sub, sum } from "../dsl/ops.ts";
import type { PerToken } from "./masking.ts";
import type { Patches } from "./patches.ts";

/** A tensor without axes, such as a loss. */
export type Scalar = Tensor<Record<never, never>>;

/** Mean squared error of every patch. */
const errors = (prediction: Patches, target: Patches): PerToken =>
  mean(square(sub(prediction, target)), "pixel");

/** Mean squared error over the hidden patches of each clip. */
export const lossPerClip = (
  prediction: Patches,
  target: Patches,
  mask: PerToken,
): Tensor<{ batch: number }> =>
  div(contractTokens(errors(prediction, target), mask), sum(mask, "token"));

const contractTokens = (a: PerToken, b: PerToken): Tensor<{ batch: number }> =>
  contract(a, b, "token");

/** Mean squared error over all patches: what the published training uses. */
export const lossOverAll = (prediction: Patches, target: Patches): Scalar =>
  mean(errors(prediction, target), ["batch", "token"]);

/** Mean squared error over the hidden patches. */
export const lossOverMasked = (prediction: Patches, target: Patches, mask: PerToken): Scalar =>
  div(
    contract(errors(prediction, target), mask, ["batch", "token"]),
    sum(mask, ["batch", "token"]),
  );
