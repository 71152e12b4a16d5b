// A spectrogram as a sequence of patches: cutting, embedding, and the fixed encoding of their positions.
import type { Tensor } from "../dsl/axes.ts";
import { sizeOf } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import { contract, literal, merge, named, on, param, split, take } from "../dsl/ops.ts";
import { spread, xavier, zeros } from "./initialisers.ts";
import type { Scope, Sequence } from "./layers.ts";
import type { Grid } from "./masking.ts";

/** Log-mel spectrograms of clips, time in frames. */
export type Spectrogram = Tensor<{ batch: number; time: number; mel: number }>;
/** Patches of clips: the values of one patch in the order time, then frequency. */
export type Patches = Tensor<{ batch: number; token: number; pixel: number }>;

/** Frames and mel bands of a patch. */
export interface PatchSize {
  readonly time: number;
  readonly frequency: number;
}

/** Which axis is the slower one, in the sequence of tokens and inside a patch. */
export type TokenOrder = "time first" | "frequency first";

/** Rows and columns of the grid of patches. */
export const gridOf = (
  x: Spectrogram,
  patch: PatchSize,
): Grid => ({
  time: sizeOf(nodeOf(x).axes, "time") / patch.time,
  frequency: sizeOf(nodeOf(x).axes, "mel") / patch.frequency,
});

/**
 * Cuts a spectrogram into patches. Published configurations put time first: token = t · F' + f.
 * Throws `AxisError` when the patch size does not divide the spectrogram's.
 */
export const patchify = (
  x: Spectrogram,
  patch: PatchSize,
  order: TokenOrder = "time first",
): Patches => {
  const grid = gridOf(x, patch);
  const byTime = split(x, "time", { row: grid.time, frame: patch.time });
  const cut = split(byTime, "mel", { column: grid.frequency, band: patch.frequency });
  return order === "time first"
    ? merge(merge(cut, ["frame", "band"], "pixel"), ["row", "column"], "token")
    : merge(merge(cut, ["band", "frame"], "pixel"), ["column", "row"], "token");
};

/** Each patch as a vector: the published convolution with kernel and stride of one patch. */
export const embedPatches = (at: Scope, patch: PatchSize, dim: number) => (x: Patches): Sequence =>
  named("patch embed", () => {
    const { time, frequency } = patch;
    const pixels = time * frequency;
    const weight = param(
      at("weight"),
      { channel: dim, plane: 1, frame: time, band: frequency },
      xavier(pixels, pixels * dim),
    );
    const matrix = merge(take(weight, "plane", 0), ["frame", "band"], "pixel");
    return on.add(contract(x, matrix, "pixel"), param(at("bias"), { channel: dim }, zeros));
  });

/**
 * The 2-D sine-cosine position encoding (He et al. 2022): a row of zeros for the class token, then a
 * row per token. The first half of the channels encodes the frequency index, the second the time index;
 * each half is sines, then cosines, of position / 10000^(k / (dim / 4)).
 */
export const positionTable = (
  dim: number,
  grid: Grid,
): Float32Array => {
  const quarter = dim / 4;
  if (!Number.isInteger(quarter)) {
    throw new RangeError(
      `the width ${dim} is not a multiple of 4, which a sine-cosine position code needs`,
    );
  }
  const table = new Float32Array((1 + grid.time * grid.frequency) * dim);
  for (let t = 0; t < grid.time; t++) {
    for (let f = 0; f < grid.frequency; f++) {
      const row = (1 + t * grid.frequency + f) * dim;
      for (let k = 0; k < quarter; k++) {
        const omega = 10000 ** (-k / quarter);
        table[row + k] = Math.sin(f * omega);
        table[row + quarter + k] = Math.cos(f * omega);
        table[row + 2 * quarter + k] = Math.sin(t * omega);
        table[row + 3 * quarter + k] = Math.cos(t * omega);
      }
    }
  }
  return table;
};

/** The position encoding as a parameter that is stored in checkpoints and not trained. */
export const positions = (
  at: Scope,
  dim: number,
  grid: Grid,
): Tensor<{ token: number; channel: number }> => {
  const axes = { one: 1, token: 1 + grid.time * grid.frequency, channel: dim };
  const table = param(at("pos_embed"), axes, () => literal(axes, positionTable(dim, grid)), {
    trainable: false,
  });
  return take(table, "one", 0);
};

/** A trained table of positions: a row for the class token, then one per patch. */
export const learntPositions = (
  at: Scope,
  dim: number,
  grid: Grid,
): Tensor<{ token: number; channel: number }> => {
  const axes = { one: 1, token: 1 + grid.time * grid.frequency, channel: dim };
  return take(param(at("pos_embed"), axes, spread(0.02)), "one", 0);
};
