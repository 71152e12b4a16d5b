// One pre-training run: from a source of clips and a spec to metrics, checkpoints and a report. All side
// effects of training are here; programs.ts makes the programs.
import * as E from "fp-ts/Either.js";
import { setImmediate } from "node:timers/promises";
import type { Backend, Machine } from "../../backends/backend.ts";
import { volume } from "../../dsl/axes.ts";
import { count, type Parameter } from "../../dsl/parameters.ts";
import { firstScale, lossScaling } from "../../models/loss_scale.ts";
import { average, moments } from "../../models/optimiser.ts";
import { learningRate } from "../../models/learning_rate.ts";
import { gradientSum } from "../../models/training.ts";
import { dataErrorText, type Source } from "../data/clips/source.ts";
import { fileErrorText, writeWhole } from "../io/files.ts";
import { initialValues } from "../encoders/initial_values.ts";
import { type Metric, metricsErrorText, type Timing } from "./metrics.ts";
import {
  agreeOnError,
  alone,
  findDifference,
  labelled,
  type Processes,
} from "../machines/processes.ts";
import { progress, silence, standardError } from "../io/progress.ts";
import { type Example, reportPage } from "./report.ts";
import { peakLearningRate, type Spec } from "../specs/spec.ts";
import { saveExamples } from "./examples.ts";
import { writeFailedStep } from "./failed_step.ts";
import {
  clear,
  folderErrorText,
  inspect,
  lock,
  type Prior,
  type RunRecord,
  writeRecord,
} from "./run_folder.ts";
import { openLog, silentLog } from "./log.ts";
import { programsOf } from "./programs.ts";
import { assembled, meanLoss, score, type Scores } from "./held_out.ts";
import { missingState, notFinite, saveState, stateNames } from "./checkpoints.ts";
import { batchProblem, type Division, makeStep, partsOf, readParts } from "./step.ts";
import version from "../../deno.json" with { type: "json" };

/** Arguments of a run. */
export interface Run {
  readonly spec: Spec;
  readonly backend: Backend;
  /** The clips; the caller closes the source. */
  readonly source: Source;
  readonly folder: string;
  /** Resumes from the latest checkpoint in the folder, if there is one. */
  readonly resume?: boolean;
  /** Whether the user has asked to stop. */
  readonly interrupted: () => boolean;
  /** Aborted at the same time; without it, scoring in progress is finished first. */
  readonly signal?: AbortSignal;
  /** The processes that share every batch; by default only this one. Only rank 0 writes files. */
  readonly processes?: Processes;
}

/** Why a run ended before its last step, in words. */
export interface RunError {
  readonly _tag: "RunError";
  readonly message: string;
}

/** The result of a finished run; with several processes that of rank 0, as others score nothing. */
export interface RunResult {
  readonly first: number;
  readonly last: number;
  readonly baseline: number;
}

const fail = (message: string): E.Either<RunError, never> => E.left({ _tag: "RunError", message });

/** Initialises everything that programs keep between steps. */
const begin = (
  machine: Machine,
  all: readonly Parameter[],
  trained: readonly Parameter[],
  seed: number,
): void => {
  const values = initialValues(all, seed);
  machine.write({
    ...values,
    [lossScaling.scale]: Float32Array.of(firstScale),
    [lossScaling.steps]: Float32Array.of(0),
  });
  for (const { name, axes } of trained) {
    const { mean, square } = moments(name), size = volume(axes);
    machine.write({
      [mean]: new Float32Array(size),
      [square]: new Float32Array(size),
      [gradientSum(name)]: new Float32Array(size),
      [average(name)]: values[name],
    });
  }
};

/** Why a checkpoint was not written, in words. */
interface Unsaved {
  /** False if a value to be saved is not finite. */
  readonly finite: boolean;
  readonly why: string;
}

const allFinite = (of: Pick<Metric, "heldOutLoss" | "averageHeldOutLoss">): boolean =>
  Object.values(of).every((loss) => loss === undefined || Number.isFinite(loss));

const notNumber = (step: number): string =>
  `the loss of the held-out clips after step ${step} is not a number`;

const goesOn = ", and --resume goes on from it";

/**
 * Trains, and writes `spec.json`, `run.json`, `metrics.jsonl`, `timing.jsonl`, `metrics.csv`,
 * `checkpoints`, `checkpoint.safetensors` and `report.html` into the run's folder, each atomically. On the
 * left, why it stopped early, in words.
 */
export const train = async (run: Run): Promise<E.Either<RunError, RunResult>> => {
  const { spec, source, folder, processes = alone } = run;
  const uneven = batchProblem(spec, processes);
  if (uneven !== undefined) return fail(uneven);
  const claimed = processes.share.rank === 0 ? await lock(folder) : E.right(() => {});
  try {
    const prior = E.isLeft(claimed) ? claimed : inspect(folder, spec, run.resume ?? false);
    // Nothing is written before all processes have inspected the folder.
    const wrong = await agreeOnError(
      processes,
      E.isLeft(prior) ? labelled(processes, folderErrorText(prior.left)) : undefined,
    ) ??
      await findDifference(processes, {
        spec: JSON.stringify(spec),
        data: source.identity,
        checkpoint: `${E.isRight(prior) ? prior.right.saved?.step : ""}`,
      });
    return E.isLeft(prior) || wrong !== undefined
      ? fail(`${wrong}`)
      : await trainIn(run, prior.right);
  } finally {
    if (E.isRight(claimed)) claimed.right();
  }
};

const trainIn = async (run: Run, prior: Prior): Promise<E.Either<RunError, RunResult>> => {
  const { spec, backend, source, folder, interrupted, signal, processes = alone } = run;
  const { saved } = prior, { share } = processes;
  const division: Division = { processes, accumulate: spec.accumulate };
  const parts = partsOf(division), writes = share.rank === 0;
  const bar = progress(writes ? standardError() : silence);
  prior.notes.forEach(bar.note);
  /** Ends the run here; the reason is sent to the other processes in place of the next message. */
  const end = async (reason: string): Promise<E.Either<RunError, never>> => {
    await agreeOnError(processes, reason);
    return fail(reason);
  };

  const before = prior.record?.data;
  if (saved !== undefined && before !== undefined && before !== source.identity) {
    return await end(
      `the data is not what it was when the run in ${folder} began: then ${before}; ` +
        `now ${source.identity}; put back what was there, or start another run with --out`,
    );
  }
  let record: RunRecord = {
    state: "running",
    device: backend.device,
    data: source.identity,
    began: prior.record?.began ?? new Date().toISOString(),
    versions: { formant: version.version, deno: Deno.version.deno },
  };
  if (writes) {
    const cleared = saved === undefined ? clear(folder) : E.right(undefined);
    if (E.isLeft(cleared)) return await end(fileErrorText(cleared.left));
    const written = [
      await writeWhole(`${folder}/spec.json`, `${JSON.stringify(spec, null, 2)}\n`)(),
      await writeRecord(folder, record),
    ].find(E.isLeft);
    if (written !== undefined) return await end(fileErrorText(written.left));
  }

  const held = source.heldOut.map(({ frames }) => frames);
  const programs = programsOf(spec, parts);
  const { trained, all } = programs;
  const lacks = saved === undefined ? undefined : missingState(saved, programs, spec);
  if (lacks !== undefined) return await end(`${lacks}; the run cannot go on from it`);
  bar.note(`compiling for ${backend.device}`);
  const machine = await backend.open(programs.programs);
  record = { ...record, parameters: count(trained), ...stepCost(machine, spec.accumulate, parts) };
  const opened = writes ? openLog(folder, saved?.step) : E.right(silentLog());
  if (E.isLeft(opened)) {
    machine.close();
    return await end(metricsErrorText(opened.left));
  }
  const log = opened.right;

  let savedStep = saved?.step ?? 0;
  const where = () =>
    savedStep === 0
      ? "there is no checkpoint yet"
      : `the checkpoint of step ${savedStep} is in ${folder}`;
  /** Records the reason of an early end in run.json, if possible. */
  const recorded = async (message: string, resumable: boolean): Promise<string> => {
    const reason = `${message}; ${where()}${savedStep > 0 && resumable ? goesOn : ""}`;
    if (writes) await writeRecord(folder, { ...record, state: "stopped", reason });
    return reason;
  };
  /** Ends the run early, for a reason that the other processes do not know yet. */
  const stop = async (message: string, resumable = true) =>
    await end(await recorded(message, resumable));
  /** Writes the checkpoint of a step, unless it exists. */
  const save = async (step: number): Promise<E.Either<Unsaved, void>> => {
    if (!writes || step === savedStep) return E.right(undefined);
    const values = await machine.read(stateNames(programs, spec));
    const broken = notFinite(values);
    if (broken !== undefined) {
      return E.left({ finite: false, why: `'${broken}' is not finite after step ${step}` });
    }
    const written = await saveState(folder, programs, spec, step, values);
    if (E.isRight(written)) savedStep = step;
    const table = E.isRight(written) ? await log.table() : written;
    return E.isLeft(table) ? E.left({ finite: true, why: fileErrorText(table.left) }) : table;
  };
  /** Ends the run early between two steps, as all processes do, and saves a checkpoint. */
  const leave = async (step: number, message: string): Promise<E.Either<RunError, never>> => {
    const saved = await save(step);
    return fail(await recorded(E.isLeft(saved) ? `${message}; ${saved.left.why}` : message, true));
  };
  /** Scores the held-out clips, and again with the averages if kept, unless interrupted. */
  const scored = async () => {
    const scores = await score(machine, spec.batch / parts, held, signal);
    if (scores === undefined) return undefined;
    if (spec.optimiser.emaDecay === undefined) {
      return { scores, losses: { heldOutLoss: scores.loss } };
    }
    await machine.run("exchange", {});
    const averaged = await score(machine, spec.batch / parts, held, signal);
    if (averaged === undefined) return undefined;
    await machine.run("exchange", {});
    return {
      scores,
      losses: { heldOutLoss: scores.loss, averageHeldOutLoss: averaged.loss },
    };
  };

  let coming: ReturnType<typeof readParts> | undefined;
  try {
    begin(machine, all, trained, spec.seed);
    if (saved !== undefined) machine.write(saved.values);
    const began = performance.now(), before = log.timings.at(-1)?.elapsed ?? 0;
    const timing = (step: number, speed: Partial<Timing> = {}): Timing => ({
      step,
      elapsed: before + (performance.now() - began) / 1000,
      ...speed,
      memory: Deno.memoryUsage().rss,
    });
    const from = saved?.step ?? 0, { steps, warmupSteps } = spec.schedule;
    let shown: Scores | undefined;
    if (saved !== undefined) {
      bar.note(`going on from step ${from}`);
    } else if (writes) {
      const result = await scored();
      if (result === undefined) return await stop("interrupted before the first step");
      if (!allFinite(result.losses)) return await stop(notNumber(0), false);
      const logged = log.record({ step: 0, ...result.losses }, timing(0));
      if (E.isLeft(logged)) return await stop(metricsErrorText(logged.left));
    }
    let heldOutLoss = log.metrics.findLast((metric) => metric.heldOutLoss !== undefined)
      ?.heldOutLoss;
    const schedule = { peak: peakLearningRate(spec), least: 0, warmup: warmupSteps, total: steps };
    const started = performance.now();
    let since = started, counted = 0, waited = 0;
    const seen = new Set(source.skipped().map(({ path }) => path));
    let clipsBefore: readonly Float32Array[] | undefined;
    if (from < steps) coming = readParts(source, spec, division, from);
    for (let step = from; step < steps; step++) {
      // Signals are only handled between tasks of the event loop; an interpreter's step is one task.
      await setImmediate();
      const asked = performance.now();
      const clips = await coming!;
      waited += performance.now() - asked;
      for (const { path, reason } of source.skipped().filter(({ path }) => !seen.has(path))) {
        bar.note(`${path} is skipped: ${reason}`);
        seen.add(path);
      }
      const problem = await agreeOnError(
        processes,
        E.isLeft(clips) && clips.left._tag !== "Interrupted"
          ? labelled(processes, dataErrorText(clips.left))
          : E.isLeft(clips) || interrupted()
          ? `interrupted after step ${step}`
          : undefined,
      );
      if (E.isLeft(clips) || problem !== undefined) return await leave(step, `${problem}`);
      const rate = learningRate(schedule, step);
      const now = step + 1, last = now === steps;
      const making = makeStep(machine, trained, division, {
        step,
        rate,
        parts: clips.right,
      });
      // The next batch is read while the device computes this one.
      const reading = performance.now();
      coming = last ? undefined : readParts(source, spec, division, now);
      waited += performance.now() - reading;
      const { loss, gradientNorm, lossScale } = await making;
      const failed = async (what: string) => {
        const path = `${folder}/failed-step${writes ? "" : `-${share.rank}`}.safetensors`;
        const written = await writeFailedStep(path, spec, {
          step: now,
          rate,
          loss,
          parts: clips.right,
          before: clipsBefore,
        });
        const kept = E.isLeft(written) ? fileErrorText(written.left) : `its clips are in ${path}`;
        const advice = spec.optimiser.clipNorm === undefined
          ? "lower the learning rate or set optimiser.clipNorm"
          : "lower the learning rate";
        return await stop(`${what}; ${kept}; ${advice}`, false);
      };
      if (!Number.isFinite(loss)) return await failed(`the loss of step ${now} is not a number`);
      clipsBefore = clips.right;
      counted += spec.batch;
      const spent = (performance.now() - since) / 1000;
      const speed = { clipsPerSecond: counted / spent, dataWait: waited / 1000 / spent };
      const scoring = writes && (last || now % spec.evaluateEvery === 0);
      const result = scoring ? await scored() : undefined;
      if (scoring && result === undefined) return await stop(`interrupted after step ${now}`);
      if (result !== undefined) {
        if (!allFinite(result.losses)) return await failed(notNumber(now));
        shown = result.scores;
        heldOutLoss = shown.loss;
      }
      const logging = scoring || now % spec.logEvery === 0;
      if (logging) {
        const metric = {
          step: now,
          loss,
          ...result?.losses,
          learningRate: rate,
          ...(gradientNorm === undefined ? {} : { gradientNorm }),
          ...(lossScale === undefined ? {} : { lossScale }),
        };
        const logged = log.record(metric, timing(now, speed));
        if (E.isLeft(logged)) return await stop(metricsErrorText(logged.left));
      }
      const elapsed = (performance.now() - started) / 1000;
      const { clipsPerSecond } = speed;
      bar.update({ step: now, steps, from, elapsed, loss, heldOutLoss, clipsPerSecond });
      if (last || now % spec.checkpointEvery === 0) {
        const saved = await save(now);
        if (E.isLeft(saved)) return await (saved.left.finite ? stop : failed)(saved.left.why);
      }
      if (logging) {
        since = performance.now();
        counted = waited = 0;
      }
    }
    const problem = await agreeOnError(processes);
    if (problem !== undefined) return await leave(steps, problem);
    if (!writes) return E.right({ first: NaN, last: NaN, baseline: NaN });
    const scores = shown ?? (await scored())?.scores;
    if (scores === undefined) return fail(await recorded(`interrupted after step ${steps}`, true));
    const first = log.metrics[0]?.heldOutLoss ?? NaN;
    const baselines = held.map((clip, k) => meanLoss(clip, scores.masks[k], spec));
    const baseline = baselines.reduce((a, b) => a + b, 0) / held.length;
    const result: RunResult = { first, last: scores.loss, baseline };
    const examples = examplesOf(spec, source, scores);
    const page = reportPage({
      spec,
      device: backend.device,
      parameters: count(trained),
      clips: { source: source.describe, training: source.clips, heldOut: held.length },
      metrics: log.metrics,
      timings: log.timings,
      baselines: [{ label: "each clip's mean", loss: baseline }],
      examples,
      units: "standard deviations from the clip's mean",
      skipped: source.skipped(),
      notes: [],
      versions: record.versions,
    });
    const written = [
      await log.table(),
      await saveExamples(folder, examples)(),
      await writeWhole(`${folder}/report.html`, page)(),
    ].find(E.isLeft);
    if (written !== undefined) return fail(await recorded(fileErrorText(written.left), true));
    const ended = await writeRecord(folder, { ...record, state: "finished", baseline });
    return E.isLeft(ended) ? fail(fileErrorText(ended.left)) : E.right(result);
  } finally {
    // Wait for the read in progress before the source is closed.
    await coming;
    bar.finish();
    log.close();
    machine.close();
  }
};

/** The total cost of a step's kernels. */
const stepCost = (
  machine: Machine,
  accumulate: number,
  parts: number,
): Pick<RunRecord, "step"> => {
  const reports = (parts === 1 ? ["train"] : ["gradients", "update"]).map(machine.report);
  if (reports.some(({ kernels }) => kernels.length === 0)) return {};
  const flops = reports.map(({ kernels }) => kernels.reduce((sum, { flops }) => sum + flops, 0));
  return {
    step: {
      flops: flops[0] * accumulate + (flops[1] ?? 0),
      peakBytes: Math.max(...reports.map(({ peakBytes }) => peakBytes)),
    },
  };
};

const examplesOf = (spec: Spec, source: Source, scores: Scores): readonly Example[] => {
  const shape = { frames: spec.clip.frames, mels: spec.frontEnd.mels };
  return source.heldOut.slice(0, spec.report.examples).map(({ name, frames }, k) => ({
    name,
    original: { ...shape, values: frames },
    reconstructed: { ...shape, values: assembled(scores.predictions[k], spec) },
    mask: scores.masks[k],
  }));
};
