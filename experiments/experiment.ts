// `deno task experiment NAME`: reads the spec and the clips, opens a device, trains, and says where
// the results are.
import * as E from "fp-ts/Either.js";
import { audioErrorText, readRecordings } from "./audio.ts";
import { openBackend } from "./backend.ts";
import { type Clip, clipsSource } from "./data/clips.ts";
import { dataErrorText, type Skipped } from "./data/source.ts";
import { ensureFolder, fileErrorText } from "./files.ts";
import type { Spec } from "./spec.ts";
import { readSpec, specReadErrorText } from "./spec/read.ts";
import { synthesise } from "./synth.ts";
import { train } from "./train.ts";

/** What the command line says. */
export interface ExperimentOptions {
  /** The name of a spec, or the path of a file that holds one. */
  readonly spec: string;
  /** Fields of the spec with other values, `path=value`. */
  readonly changes: readonly string[];
  readonly data?: string;
  readonly device: string;
  readonly out?: string;
}

interface Recordings {
  readonly clips: readonly Clip[];
  readonly describe: string;
  readonly skipped: readonly Skipped[];
}

const recordingsOf = async (
  spec: Spec,
  folder: string | undefined,
): Promise<E.Either<string, Recordings>> => {
  if (folder === undefined) {
    const { clips, seconds } = spec.data.synthetic;
    return E.right({
      clips: synthesise(spec.seed, clips, seconds),
      describe: "the synthesised corpus",
      skipped: [],
    });
  }
  console.error(`reading ${folder}`);
  const read = await readRecordings(folder)();
  if (E.isLeft(read)) return E.left(audioErrorText(read.left));
  const { clips, skipped } = read.right;
  return E.right({
    clips: clips.map(({ path, samples }) => ({ name: path, samples })),
    describe: `the recordings in ${folder}`,
    skipped,
  });
};

/** Runs an experiment. Gives the exit status: 0, or 1 after one message that says what was wrong. */
export const experiment = async (options: ExperimentOptions): Promise<number> => {
  const complain = (message: string): number => {
    console.error(message);
    return 1;
  };
  const spec = await readSpec(options.spec, options.changes)();
  if (E.isLeft(spec)) return complain(specReadErrorText(spec.left));
  const folder = options.out ?? `runs/${spec.right.name}`;
  const writable = await ensureFolder(folder)();
  if (E.isLeft(writable)) return complain(fileErrorText(writable.left));
  const recordings = await recordingsOf(spec.right, options.data);
  if (E.isLeft(recordings)) return complain(recordings.left);
  const { clips, describe, skipped } = recordings.right;
  if (skipped.length > 0) {
    console.error(`${skipped.length} ${skipped.length === 1 ? "file was" : "files were"} skipped:`);
    skipped.forEach(({ path, reason }) => console.error(`  ${path}: ${reason}`));
  }
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) return complain(chosen.left);
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);
  let stop = false;
  const onInterrupt = () => {
    stop = true;
  };
  Deno.addSignalListener("SIGINT", onInterrupt);
  console.error(`log-mel spectrograms of ${clips.length} clips`);
  const source = await clipsSource(backend, clips, {
    seed: spec.right.seed,
    frontEnd: spec.right.frontEnd,
    frames: spec.right.clip.frames,
    heldOutFraction: spec.right.data.heldOutFraction,
    describe,
    skipped,
  });
  try {
    if (E.isLeft(source)) return complain(dataErrorText(source.left));
    const result = await train({
      spec: spec.right,
      backend,
      folder,
      interrupted: () => stop,
      source: source.right,
    });
    if (E.isLeft(result)) return complain(result.left.message);
    const { first, last, baseline } = result.right;
    console.log(
      `held-out loss ${first.toFixed(4)} at step 0, ${last.toFixed(4)} at the end; ` +
        `predicting each clip's mean gives ${baseline.toFixed(4)}`,
    );
    console.log(`report: ${folder}/report.html`);
    return 0;
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
    if (E.isRight(source)) source.right.close();
    backend.close();
  }
};
