// One pre-training run: from a source of clips and a spec to metrics, checkpoints and a report. This
// is where the effects are; what is trained are the programs of train/programs.ts.
import * as E from "fp-ts/Either.js";
import type { Backend, Machine } from "../backends/backend.ts";
import { volume } from "../dsl/axes.ts";
import { count, type Parameter } from "../dsl/parameters.ts";
import { average, moments } from "../models/optimiser.ts";
import { inPublishedOrder } from "../models/published.ts";
import { learningRate } from "../models/schedule.ts";
import { gradientSum } from "../models/training.ts";
import { dataErrorText, type Source } from "./data/source.ts";
import { ensureFolder, fileErrorText, writeWhole } from "./files.ts";
import { initialValues } from "./initialise.ts";
import { type Metric, metricsErrorText, type MetricsFile, openMetrics } from "./metrics.ts";
import { fidelityOf } from "./model_codec.ts";
import { progress, standardError } from "./progress.ts";
import { type Example, reportPage } from "./report.ts";
import { encode, type TensorData } from "./safetensors.ts";
import { peakLearningRate, type Spec } from "./spec.ts";
import { encoderOf, programsOf } from "./train/programs.ts";
import { assembled, meanLoss, score } from "./train/score.ts";
import {
  type Division,
  makeStep,
  partsOf,
  readParts,
  type Reduce,
  type Share,
} from "./train/step.ts";
import version from "../deno.json" with { type: "json" };

/** What a run needs. */
export interface Run {
  readonly spec: Spec;
  readonly backend: Backend;
  /** The clips; whoever opened the source closes it. */
  readonly source: Source;
  readonly folder: string;
  /** True once the user has asked to stop. */
  readonly interrupted: () => boolean;
  /** Which share of every batch is computed here; all of it by default. Only share 0 writes files. */
  readonly share?: Share;
  /** Adds up gradients over all shares. */
  readonly reduce?: Reduce;
}

/** A run that ended before its last step, in words. */
export interface RunError {
  readonly _tag: "RunError";
  readonly message: string;
}

/** What a finished run reports. */
export interface RunResult {
  readonly first: number;
  readonly last: number;
  readonly baseline: number;
}

const fail = (message: string): E.Either<RunError, never> => E.left({ _tag: "RunError", message });

const unwritten: MetricsFile = { append: () => E.right(undefined), close: () => {} };

const checkpoint = async (
  machine: Machine,
  all: readonly Parameter[],
  spec: Spec,
  step: number,
): Promise<Uint8Array> => {
  const list = inPublishedOrder(all);
  const values = await machine.read(list.map(({ name }) => name));
  const tensors = new Map(list.map(({ name, axes }): [string, TensorData] => [
    name,
    { dtype: "F32", shape: Object.values(axes).map(Number), data: values[name] as Float32Array },
  ]));
  return encode(tensors, {
    format: "pt",
    step: `${step}`,
    spec: JSON.stringify(spec),
    // What another program needs to run the encoder on audio.
    encoder: JSON.stringify(encoderOf(spec)),
    frontEnd: JSON.stringify(spec.frontEnd),
    frames: `${spec.clip.frames}`,
    fidelity: JSON.stringify(fidelityOf(spec.fidelity)),
  });
};

/** Sets all that programs keep between steps to what it is before the first. */
const begin = (
  machine: Machine,
  all: readonly Parameter[],
  trained: readonly Parameter[],
  seed: number,
): void => {
  const values = initialValues(all, seed);
  machine.write(values);
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

/**
 * Trains, and writes `spec.json`, `metrics.jsonl`, `checkpoint.safetensors` and `report.html` into
 * the run's folder, each whole or not at all. On the left, why it stopped early, in words.
 */
export const train = async (run: Run): Promise<E.Either<RunError, RunResult>> => {
  const { spec, backend, source, folder, interrupted, share = { rank: 0, of: 1 }, reduce } = run;
  const division: Division = { share, accumulate: spec.accumulate, reduce };
  const parts = partsOf(division), writes = share.rank === 0;
  if (spec.batch % parts !== 0) {
    return fail(
      `the batch, ${spec.batch}, is not divisible by ${share.of} processes × ${spec.accumulate} parts`,
    );
  }
  const bar = progress(standardError());
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const made = await ensureFolder(folder)();
  if (E.isLeft(made)) return fail(fileErrorText(made.left));
  const write = async (name: string, content: string | Uint8Array) => {
    const written = await writeWhole(`${folder}/${name}`, content)();
    return E.isLeft(written) ? fail(fileErrorText(written.left)) : undefined;
  };
  if (writes) {
    const failed = await write("spec.json", `${JSON.stringify(spec, null, 2)}\n`);
    if (failed !== undefined) return failed;
  }

  const held = source.heldOut.map(({ frames }) => frames);
  const { programs, trained, all } = programsOf(spec, parts);
  bar.note(`compiling for ${backend.device}`);
  const machine = await backend.open(programs);
  const metrics = writes ? openMetrics(`${folder}/metrics.jsonl`) : E.right(unwritten);
  if (E.isLeft(metrics)) return fail(metricsErrorText(metrics.left));
  const log: Metric[] = [];
  const record = (metric: Metric) => {
    log.push(metric);
    const written = metrics.right.append(metric);
    return E.isLeft(written) ? fail(metricsErrorText(written.left)) : undefined;
  };
  try {
    begin(machine, all, trained, spec.seed);
    let scores = await score(machine, spec.batch / parts, held);
    const first = scores.loss;
    const baselines = held.map((clip, k) => meanLoss(clip, scores.masks[k], spec));
    const baseline = baselines.reduce((a, b) => a + b, 0) / held.length;
    const failed = record({ step: 0, heldOutLoss: first, elapsed: elapsed() });
    if (failed !== undefined) return failed;
    const schedule = {
      peak: peakLearningRate(spec),
      least: 0,
      warmup: spec.schedule.warmupSteps,
      total: spec.schedule.steps,
    };
    const started = performance.now();
    let saved = 0, since = performance.now(), counted = 0, heldOutLoss = first;
    let coming = readParts(source, spec, division, 0);
    for (let step = 0; step < spec.schedule.steps; step++) {
      // Signals are heard between tasks of the event loop; an interpreter's step is only one task.
      await new Promise((resolve) => setTimeout(resolve, 0));
      const clips = await coming;
      if (E.isLeft(clips)) return fail(dataErrorText(clips.left));
      const rate = learningRate(schedule, step);
      const now = step + 1, last = now === spec.schedule.steps;
      // The next batch is read while the device computes this one.
      if (!last) coming = readParts(source, spec, division, now);
      const made = await makeStep(machine, trained, division, {
        step,
        rate,
        parts: clips.right,
        stopping: interrupted(),
      });
      if (E.isLeft(made)) return fail(made.left);
      const { loss, gradientNorm, stopped } = made.right;
      if (stopped) {
        return fail(
          `interrupted after step ${step}; ` +
            (saved === 0
              ? "there is no checkpoint yet"
              : `the checkpoint of step ${saved} is in ${folder}`),
        );
      }
      counted += spec.batch;
      if (!Number.isFinite(loss)) {
        return fail(
          `the loss of step ${now} is not a number; lower optimiser.peakLearningRate; ` +
            (saved === 0
              ? "there is no checkpoint yet"
              : `the checkpoint of step ${saved} is in ${folder}`),
        );
      }
      const clipsPerSecond = counted / ((performance.now() - since) / 1000);
      const scored = last || now % spec.evaluateEvery === 0;
      if (scored) {
        scores = await score(machine, spec.batch / parts, held);
        heldOutLoss = scores.loss;
      }
      if (last || scored || now % spec.logEvery === 0) {
        const failed = record({
          step: now,
          loss,
          learningRate: rate,
          clipsPerSecond,
          elapsed: elapsed(),
          ...(gradientNorm === undefined ? {} : { gradientNorm }),
          ...(scored ? { heldOutLoss } : {}),
        });
        if (failed !== undefined) return failed;
        since = performance.now();
        counted = 0;
      }
      bar.update({
        step: now,
        steps: spec.schedule.steps,
        from: 0,
        elapsed: (performance.now() - started) / 1000,
        loss,
        heldOutLoss,
        clipsPerSecond,
      });
      if (writes && (last || now % spec.checkpointEvery === 0)) {
        const failed = await write(
          "checkpoint.safetensors",
          await checkpoint(machine, all, spec, now),
        );
        if (failed !== undefined) return failed;
        saved = now;
      }
    }
    if (!writes) return E.right({ first, last: scores.loss, baseline });
    const shown = source.heldOut.slice(0, spec.report.examples);
    const examples = shown.map(({ name }, k): Example => {
      const shape = { frames: spec.clip.frames, mels: spec.frontEnd.mels };
      return {
        name,
        original: { ...shape, values: held[k] },
        reconstructed: { ...shape, values: assembled(scores.predictions[k], spec) },
        mask: scores.masks[k],
      };
    });
    const page = reportPage({
      spec,
      device: backend.device,
      parameters: count(trained),
      clips: { source: source.describe, training: source.clips, heldOut: held.length },
      metrics: log,
      baselines: [{ label: "each clip's mean", loss: baseline }],
      examples,
      units: "standard deviations from the clip's mean",
      skipped: source.skipped(),
      notes: [],
      versions: { formant: version.version, deno: Deno.version.deno },
    });
    const written = await write("report.html", page);
    if (written !== undefined) return written;
    return E.right({ first, last: scores.loss, baseline });
  } finally {
    bar.finish();
    metrics.right.close();
    machine.close();
  }
};
