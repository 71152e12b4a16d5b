// `deno task experiment NAME`: reads the spec and the clips, opens a device, trains, and says where
// the results are. Under mpirun or srun every process does so, and the first one speaks for all.
import * as E from "fp-ts/Either.js";
import { openBackend } from "./backend.ts";
import { openSource } from "./data/open.ts";
import { type DataError, dataErrorText, type Source } from "./data/source.ts";
import { evaluate, foldersOf } from "./evaluate.ts";
import { ensureFolder, fileErrorText } from "./files.ts";
import type { LastWords } from "./last_words.ts";
import { agree, openProcesses, type Processes, told } from "./parallel.ts";
import { progress, silence, standardError } from "./progress.ts";
import type { DeviceName, Spec } from "./spec.ts";
import { folderData } from "./spec/data.ts";
import { specList } from "./spec/list.ts";
import { readSpec, type SpecReadError, specReadErrorText } from "./spec/read.ts";
import { train } from "./train.ts";
import { examine, folderErrorText } from "./train/folder.ts";
import { indivisible } from "./train/step.ts";

/** What the command line says. */
export interface ExperimentOptions {
  /** The name of a spec, or the path of a file that holds one. */
  readonly spec: string;
  /** Fields of the spec with other values, `path=value`. */
  readonly changes: readonly string[];
  /** A folder of recordings in place of the spec's data. */
  readonly data?: string;
  /** Another device than the spec's. */
  readonly device?: string;
  readonly out?: string;
  /** Goes on with the run in that folder, where there is one. */
  readonly resume: boolean;
}

/** The spec that a command line means, its other options included. */
const specOf = async (
  { spec: name, changes, data, device }: Pick<
    ExperimentOptions,
    "spec" | "changes" | "data" | "device"
  >,
): Promise<E.Either<SpecReadError, Spec>> =>
  E.map((spec: Spec): Spec => ({
    ...spec,
    ...(data === undefined ? {} : { data: folderData(data, spec.data) }),
    ...(device === undefined ? {} : { device: device as DeviceName }),
  }))(await readSpec(name, changes)());

/** Prints a spec with all that it extends. Gives the exit status. */
export const printSpec = async (options: Parameters<typeof specOf>[0]): Promise<number> => {
  const spec = await specOf(options);
  if (E.isLeft(spec)) console.error(specReadErrorText(spec.left));
  else console.log(JSON.stringify(spec.right, null, 2));
  return E.isLeft(spec) ? 1 : 0;
};

/** Prints the specs that there are. Gives the exit status. */
export const printList = async (): Promise<number> => {
  const list = await specList();
  if (E.isLeft(list)) console.error(list.left);
  else console.log(list.right);
  return E.isLeft(list) ? 1 : 0;
};

// Data that is read before training is told of, as it may take minutes.
const openShown = async (
  spec: Spec,
  { share: { rank }, threads }: Processes,
): Promise<E.Either<DataError, Source>> => {
  const bar = progress(rank === 0 ? standardError() : silence), began = performance.now();
  let shown = false;
  const opened = await openSource(spec, {
    ...(threads === undefined ? {} : { threads: Math.max(1, threads - 1) }),
    onProgress: (step, steps) => {
      const elapsed = (performance.now() - began) / 1000;
      shown ||= elapsed > 1;
      if (shown) bar.update({ unit: "recordings", step, steps, from: 0, elapsed });
    },
  });
  if (shown) bar.finish();
  return opened;
};

/** What a run needs that can be found out before any work. */
interface Prepared {
  readonly spec: Spec;
  readonly folder: string;
}

const prepare = async (
  options: ExperimentOptions,
  processes: Processes,
): Promise<E.Either<string, Prepared>> => {
  const read = await specOf(options);
  if (E.isLeft(read)) return E.left(specReadErrorText(read.left));
  const spec = read.right;
  const uneven = indivisible(spec, processes);
  if (uneven !== undefined) return E.left(uneven);
  const folder = options.out ?? `runs/${spec.name}`;
  const writable = processes.share.rank === 0 ? await ensureFolder(folder)() : E.right(undefined);
  if (E.isLeft(writable)) return E.left(fileErrorText(writable.left));
  // The run asks again once the folder is its own.
  const prior = examine(folder, spec, options.resume);
  if (E.isLeft(prior)) return E.left(folderErrorText(prior.left));
  const { evaluation } = spec;
  const tasks = evaluation === undefined
    ? E.right([])
    : foldersOf(evaluation.tasks, evaluation.names ?? []);
  return E.isLeft(tasks) ? E.left(`evaluation: ${tasks.left}`) : E.right({ spec, folder });
};

/** Runs an experiment. Gives the exit status: 0, or 1 after one message that says what was wrong. */
export const experiment = async (options: ExperimentOptions): Promise<number> => {
  const found = await openProcesses();
  if (E.isLeft(found)) {
    console.error(found.left);
    return 1;
  }
  const processes = found.right;
  const ran = await trainTogether(options, processes).catch((error) => {
    // A mistake of ours, or a device that was lost. The others wait for this process: they must end too.
    if (processes.share.of > 1) console.error(told(processes, `${error?.message ?? error}`));
    processes.abort();
    throw error;
  });
  if (E.isLeft(ran) && processes.share.rank === 0) console.error(ran.left);
  await processes.finish();
  if (E.isLeft(ran)) return 1;
  const { spec: { evaluation, device }, folder } = ran.right;
  if (evaluation === undefined || processes.share.rank !== 0) return 0;
  return await evaluate({
    checkpoints: [`${folder}/checkpoint.safetensors`],
    tasks: evaluation.tasks,
    names: evaluation.names ?? [],
    seeds: evaluation.seeds,
    device,
    out: `${folder}/evaluation`,
    json: false,
  });
};

const trainTogether = async (
  options: ExperimentOptions,
  processes: Processes,
): Promise<E.Either<string, Prepared>> => {
  const own = await prepare(options, processes);
  const wrong = await agree(processes, E.isLeft(own) ? told(processes, own.left) : undefined);
  if (E.isLeft(own) || wrong !== undefined) return E.left(`${wrong}`);
  const { spec, folder } = own.right;
  const trained = await trainNow(spec, folder, options.resume, processes);
  return E.isLeft(trained) ? trained : own;
};

/** Calls `stop` when the user, or what started the processes, wants an end; gives what stops listening. */
const listen = (folder: string, { share }: Processes, stop: () => void): () => void => {
  const signals: readonly Deno.Signal[] = share.of === 1 ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  signals.forEach((signal) => Deno.addSignalListener(signal, stop));
  const speaker = share.of > 1 && share.rank < 2
    ? new Worker(new URL("./last_words.ts", import.meta.url).href, { type: "module" })
    : undefined;
  speaker?.postMessage({ folder, ...share } satisfies LastWords);
  return () => {
    signals.forEach((signal) => Deno.removeSignalListener(signal, stop));
    speaker?.terminate();
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
  folder: string,
  resume: boolean,
  processes: Processes,
): Promise<E.Either<string, void>> => {
  const say = (text: string) => {
    if (processes.share.rank === 0) console.error(text);
  };
  const chosen = await openBackend(spec.device, processes.threads);
  const lacking = E.isLeft(chosen) ? told(processes, chosen.left) : undefined;
  const noDevice = await agree(processes, lacking);
  if (E.isLeft(chosen) || noDevice !== undefined) {
    if (E.isRight(chosen)) chosen.right.backend.close();
    return E.left(`${noDevice}`);
  }
  const { backend, notes } = chosen.right;
  notes.forEach(say);
  const device = devicesText(await processes.gather(backend.device));
  say(`device: ${device}`);
  let stop = false;
  const unlisten = listen(folder, processes, () => {
    stop = true;
  });
  const source = await openShown(spec, processes);
  try {
    const noData = await agree(
      processes,
      E.isLeft(source) ? told(processes, dataErrorText(source.left)) : undefined,
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
      interrupted: () => stop,
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
    unlisten();
    if (E.isRight(source)) source.right.close();
    backend.close();
  }
};
