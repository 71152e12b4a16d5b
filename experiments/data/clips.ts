// A source whose recordings are all in memory: spectrograms are computed once, on the run's device,
// and every use of a clip is a crop of one of them.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import type { FrontEnd } from "../../models/frontend.ts";
import { draw, shuffled } from "../draw.ts";
import { crop, logMels, standardised } from "../features.ts";
import type { DataError, Skipped, Source } from "./source.ts";

/** A recording in memory. */
export interface Clip {
  readonly name: string;
  /** Mono samples at the front end's rate. */
  readonly samples: Float32Array;
}

/** What a source of clips is made from. */
export interface ClipsOptions {
  readonly seed: number;
  readonly frontEnd: FrontEnd;
  /** Frames of a crop. */
  readonly frames: number;
  /** Share of the clips that is never trained on, between 0 and 1; at least one is held out. */
  readonly heldOutFraction: number;
  /** Where the clips come from, to be read after "from". */
  readonly describe: string;
  readonly skipped: readonly Skipped[];
}

/** The source that some recordings are; `backend` computes their spectrograms. */
export const clipsSource = async (
  backend: Backend,
  clips: readonly Clip[],
  { seed, frontEnd, frames, heldOutFraction, describe, skipped }: ClipsOptions,
): Promise<E.Either<DataError, Source>> => {
  if (clips.length < 2) {
    return E.left({ _tag: "TooFewClips", from: describe, clips: clips.length });
  }
  const spectrograms = (await logMels(backend, frontEnd, clips.map((clip) => clip.samples)))
    .map(standardised);
  const order = shuffled(clips.length, seed, 0);
  const heldCount = Math.min(
    clips.length - 1,
    Math.max(1, Math.round(clips.length * heldOutFraction)),
  );
  const training = order.slice(heldCount).map((k) => spectrograms[k]);
  const size = frames * frontEnd.mels;
  let last: { readonly pass: number; readonly order: readonly number[] } | undefined;
  const orderOf = (pass: number): readonly number[] => {
    if (last?.pass !== pass) last = { pass, order: shuffled(training.length, seed, 2, pass) };
    return last.order;
  };
  return E.right({
    describe,
    clips: training.length,
    heldOut: order.slice(0, heldCount).map((k) => ({
      name: clips[k].name,
      frames: crop(spectrograms[k], 0, frames),
    })),
    skipped: () => skipped,
    batch: (first, count) => {
      const values = new Float32Array(count * size);
      for (let k = 0; k < count; k++) {
        const use = first + k;
        const clip = training[orderOf(Math.floor(use / training.length))[use % training.length]];
        // As published: the last possible start is never drawn.
        const starts = Math.max(1, clip.frames - frames);
        values.set(crop(clip, Math.floor(draw(seed, 1, use) * starts), frames), k * size);
      }
      return Promise.resolve(E.right(values));
    },
    close: () => {},
  });
};
