// One run from its spec to its end: opens the device and the data, trains, and scores the encoder on the
// spec's downstream tasks, if any. Under mpirun or srun every process trains its share, and rank 0 logs
// and scores.
import * as E from "fp-ts/Either.js";
import { openBackend } from "../machines/device.ts";
import { openSource } from "../data/open.ts";
import { usualThreads } from "../data/clips/reader_pool.ts";
import { type DataError, dataErrorText, type Source } from "../data/clips/source.ts";
import { suiteErrorText, writeSuite } from "../data/synth/tasks/write_suite.ts";
import { syntheticTasks } from "../data/synth/tasks/suite.ts";
import { evaluate, tasksIn } from "../evaluation/evaluate.ts";
import { ensureFolder, fileErrorText } from "../io/files.ts";
import { listenForEnd, type Listening } from "../io/interrupt.ts";
import type { LastWords } from "./sigterm_notice.ts";
import { agreeOnError, labelled, type Processes } from "../machines/processes.ts";
import { progress, silence, standardError } from "../io/progress.ts";
import type { Spec } from "../specs/spec.ts";
import { train } from "../training/train.ts";
import { folderErrorText, inspect } from "../training/run_folder.ts";
import { batchProblem } from "../training/step.ts";

/** Where and how a run is made. */
export interface RunIn {
  readonly folder: string;
  /** Resumes the run in that folder, if there is one. */
  readonly resume: boolean;
  /** A cache folder of embeddings and scores for several runs; by default each run has its own. */
  readonly kept?: string;
  /** Aborted when an end is requested; the caller may listen for longer than the run lasts. */
  readonly signal?: AbortSignal;
  /** Does not print how the device was chosen, because an earlier run did. */
  readonly again?: boolean;
}

/** Checks everything that can be checked before any work; on the left, why the run cannot start, in words. */
const prepare = async (
  spec: Spec,
  { folder, resume }: RunIn,
  processes: Processes,
): Promise<E.Either<string, void>> => {
  const uneven = batchProblem(spec, processes);
  if (uneven !== undefined) return E.left(uneven);
  const writable = processes.share.rank === 0 ? await ensureFolder(folder)() : E.right(undefined);
  if (E.isLeft(writable)) return E.left(fileErrorText(writable.left));
  // Checked again once the folder is locked.
  const prior = inspect(folder, spec, resume);
  if (E.isLeft(prior)) return E.left(folderErrorText(prior.left));
  const { evaluation = { kind: "none" }, frontEnd: { sampleRate } } = spec;
  if (evaluation.kind !== "hear") return E.right(undefined);
  const tasks = await tasksIn(evaluation.tasks, evaluation.names ?? [], sampleRate);
  return E.isLeft(tasks) ? E.left(`evaluation: ${tasks.left}`) : E.right(undefined);
};

/** Trains; on the left, what was wrong, in words, the same for all processes. */
export const trainRun = async (
  spec: Spec,
  at: RunIn,
  processes: Processes,
): Promise<E.Either<string, void>> => {
  const own = await prepare(spec, at, processes);
  const wrong = await agreeOnError(
    processes,
    E.isLeft(own) ? labelled(processes, own.left) : undefined,
  );
  return wrong === undefined ? await trainNow(spec, at, processes) : E.left(wrong);
};

/**
 * Scores the encoder of a finished run on the tasks of its spec. Gives the exit status: 0, or 1 after
 * printing an error.
 */
export const evaluateRun = async (
  { device, evaluation = { kind: "none" } }: Spec,
  { folder, kept, signal }: RunIn,
): Promise<number> => {
  if (evaluation.kind === "none") return 0;
  const out = `${folder}/evaluation`, names = evaluation.names ?? [];
  const made = `${kept ?? out}/tasks`;
  if (evaluation.kind === "synthetic") {
    const tasks = syntheticTasks.filter(({ name }) => names.length === 0 || names.includes(name));
    const options = { seed: 0, clips: evaluation.clips };
    const written = await writeSuite(made, options, { tasks, signal })();
    if (E.isLeft(written)) {
      console.error(suiteErrorText(written.left));
      return 1;
    }
  }
  return await evaluate({
    checkpoints: [`${folder}/checkpoint.safetensors`],
    tasks: evaluation.kind === "synthetic" ? made : evaluation.tasks,
    names,
    seeds: evaluation.seeds,
    device,
    out,
    ...(kept === undefined ? {} : { kept }),
    signal,
    json: false,
  });
};

// Reading data before training is announced, as it may take minutes.
const openShown = async (
  spec: Spec,
  { share: { rank, of }, threads }: Processes,
  signal: AbortSignal,
): Promise<E.Either<DataError, Source>> => {
  const bar = progress(rank === 0 ? standardError() : silence), began = performance.now();
  let shown = false;
  const opened = await openSource(spec, {
    ...(threads === undefined ? {} : { threads: usualThreads(threads) }),
    sharing: of,
    signal,
    onProgress: (step, steps) => {
      const elapsed = (performance.now() - began) / 1000;
      shown ||= elapsed > 1;
      if (shown) bar.update({ unit: "recordings", step, steps, from: 0, elapsed });
    },
  });
  if (shown) bar.finish();
  return opened;
};

/** Listens for signals that ask the run to end. */
const listen = (
  folder: string,
  { share }: Processes,
  also: AbortSignal | undefined,
): Listening => {
  const end = listenForEnd(also);
  const speaker = share.of > 1 && share.rank < 2
    ? new Worker(new URL("./sigterm_notice.ts", import.meta.url).href, { type: "module" })
    : undefined;
  speaker?.postMessage({ folder, ...share } satisfies LastWords);
  return {
    ...end,
    forget: () => {
      end.forget();
      speaker?.terminate();
    },
  };
};

/** The devices of all processes in words: `2 × WebAssembly (relaxed SIMD, 1 thread)`. */
const devicesText = (devices: readonly string[]): string =>
  [...new Set(devices)].map((device) => {
    const count = devices.filter((one) => one === device).length;
    return devices.length === 1 ? device : `${count} × ${device}`;
  }).join(", ");

const trainNow = async (
  spec: Spec,
  { folder, resume, signal, again = false }: RunIn,
  processes: Processes,
): Promise<E.Either<string, void>> => {
  const say = (text: string) => {
    if (processes.share.rank === 0) console.error(text);
  };
  const chosen = await openBackend(spec.device, processes.threads);
  const lacking = E.isLeft(chosen) ? labelled(processes, chosen.left) : undefined;
  const noDevice = await agreeOnError(processes, lacking);
  if (E.isLeft(chosen) || noDevice !== undefined) {
    if (E.isRight(chosen)) chosen.right.backend.close();
    return E.left(`${noDevice}`);
  }
  const { backend, notes } = chosen.right;
  const device = devicesText(await processes.gather(backend.device));
  if (!again) [...notes, `device: ${device}`].forEach(say);
  const end = listen(folder, processes, signal);
  const source = await openShown(spec, processes, end.signal);
  try {
    const noData = await agreeOnError(
      processes,
      E.isLeft(source) ? labelled(processes, dataErrorText(source.left)) : undefined,
    );
    if (E.isLeft(source) || noData !== undefined) return E.left(`${noData}`);
    const skipped = source.right.skipped();
    if (skipped.length > 0) {
      say(`${skipped.length} ${skipped.length === 1 ? "file was" : "files were"} skipped:`);
      skipped.forEach(({ path, reason }) => say(`  ${path}: ${reason}`));
    }
    const result = await train({
      spec,
      backend: { ...backend, device },
      folder,
      resume,
      interrupted: () => end.signal.aborted,
      signal: end.signal,
      source: source.right,
      processes,
    });
    if (E.isLeft(result)) return E.left(result.left.message);
    if (processes.share.rank === 0) {
      const { first, last, baseline } = result.right;
      console.log(
        `held-out loss ${first.toFixed(4)} at step 0, ${last.toFixed(4)} at the end; ` +
          `predicting each clip's mean gives ${baseline.toFixed(4)}`,
      );
      console.log(`report: ${folder}/report.html`);
    }
    return E.right(undefined);
  } finally {
    end.forget();
    if (E.isRight(source)) source.right.close();
    backend.close();
  }
};
