// Opens the data that a spec names.
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import { readRecordings } from "../audio.ts";
import type { Spec } from "../spec.ts";
import { synthesise } from "../synth.ts";
import { type ClipsOptions, clipsSource } from "./clips.ts";
import type { DataError, Source } from "./source.ts";

/** The source that a spec names; `backend` computes spectrograms where they are needed. */
export const openSource = async (
  { seed, frontEnd, clip, data }: Pick<Spec, "seed" | "frontEnd" | "clip" | "data">,
  backend: Backend,
): Promise<E.Either<DataError, Source>> => {
  const { heldOutFraction } = data;
  const common: Omit<ClipsOptions, "describe" | "skipped"> = {
    seed,
    frontEnd,
    frames: clip.frames,
    heldOutFraction,
  };
  switch (data.kind) {
    case "synthetic":
      return await clipsSource(backend, synthesise(seed, data.clips, data.seconds), {
        ...common,
        describe: "the synthesised corpus",
        skipped: [],
      });
    case "folder": {
      const { path, skippedFraction } = data;
      const read = await readRecordings(path)();
      if (E.isLeft(read)) return E.left({ _tag: "AudioError", error: read.left });
      const { clips, skipped } = read.right;
      const of = clips.length + skipped.length;
      if (skipped.length > skippedFraction * of) {
        return E.left({ _tag: "TooManySkipped", from: path, skipped, of, most: skippedFraction });
      }
      const named = clips.map((clip) => ({ name: clip.path, samples: clip.samples }));
      return await clipsSource(backend, named, {
        ...common,
        describe: `the recordings in ${path}`,
        skipped,
      });
    }
  }
};
