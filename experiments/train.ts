// One pre-training run: from clips and a spec to metrics, checkpoints and a report. This is where the
// effects are; what is trained is a program made in models/training.ts.
import * as E from "fp-ts/Either.js";
import type { Backend, Machine } from "../backends/backend.ts";
import { count, type Parameter, parameters } from "../dsl/parameters.ts";
import type { Encoder } from "../models/encoder.ts";
import { moments } from "../models/optimiser.ts";
import { inPublishedOrder } from "../models/published.ts";
import { learningRate } from "../models/schedule.ts";
import { evaluation, type Pretraining, trainingStep } from "../models/training.ts";
import { volume } from "../dsl/axes.ts";
import { dataErrorText, type Source } from "./data/source.ts";
import { ensureFolder, fileErrorText, writeWhole } from "./files.ts";
import { initialValues } from "./initialise.ts";
import { type Metric, metricsErrorText, openMetrics } from "./metrics.ts";
import { progress, standardError } from "./progress.ts";
import { type Example, reportPage } from "./report.ts";
import { encode, type TensorData } from "./safetensors.ts";
import { fidelityOf } from "./model_codec.ts";
import { type Spec, styleOf } from "./spec.ts";
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

/** The spec's encoder as models take it. */
export const encoderOf = ({ encoder, patch }: Spec): Encoder => ({ ...encoder, patch });

/** The spec as what the training program is made from. */
export const pretrainingOf = (spec: Spec): Pretraining => ({
  encoder: encoderOf(spec),
  objective: styleOf(spec),
  masking: spec.masking,
  fidelity: fidelityOf(spec.fidelity),
  batch: spec.batch,
  frames: spec.clip.frames,
  mels: spec.frontEnd.mels,
  seed: spec.seed,
});

/** The programs of a run: one step of training, and the scoring of held-out clips. */
export const programsOf = (spec: Spec) => {
  const of = pretrainingOf(spec);
  const { beta1, beta2, epsilon, weightDecay } = spec.optimiser;
  const step = trainingStep(of, { beta1, beta2, epsilon, weightDecay });
  const held = evaluation(of);
  return {
    trained: step.trained,
    all: parameters([held.perClip]),
    programs: {
      train: { outputs: { loss: { of: step.loss, order: [] } }, updates: step.updates },
      evaluate: {
        outputs: {
          loss: { of: held.perClip, order: ["batch"] },
          prediction: { of: held.prediction, order: ["batch", "token", "pixel"] },
          mask: { of: held.mask, order: ["batch", "token"] },
        },
      },
    },
  };
};

/** Puts predicted patches back in their places. */
const assembled = (patches: Float32Array, spec: Spec): Float32Array => {
  const { time, frequency } = spec.patch;
  const { mels } = spec.frontEnd;
  const columns = mels / frequency;
  const values = new Float32Array(patches.length);
  for (let k = 0; k < patches.length; k++) {
    const pixel = k % (time * frequency), token = Math.floor(k / (time * frequency));
    const frame = Math.floor(token / columns) * time + Math.floor(pixel / frequency);
    values[frame * mels + (token % columns) * frequency + pixel % frequency] = patches[k];
  }
  return values;
};

/** How well the mean of each clip would do, over the patches that the loss is over. */
const meanLoss = (clip: Float32Array, mask: ArrayLike<number>, spec: Spec): number => {
  let total = 0;
  for (const value of clip) total += value;
  const mean = total / clip.length;
  const { time, frequency } = spec.patch, { mels } = spec.frontEnd;
  let squares = 0, counted = 0;
  for (let k = 0; k < clip.length; k++) {
    const token = Math.floor(Math.floor(k / mels) / time) * (mels / frequency) +
      Math.floor((k % mels) / frequency);
    if (fidelityOf(spec.fidelity).loss === "masked" && mask[token] === 0) continue;
    squares += (clip[k] - mean) ** 2;
    counted++;
  }
  return squares / counted;
};

interface Scores {
  readonly loss: number;
  readonly predictions: readonly Float32Array[];
  readonly masks: readonly Float32Array[];
}

const score = async (
  machine: Machine,
  spec: Spec,
  held: readonly Float32Array[],
): Promise<Scores> => {
  const losses: number[] = [], predictions: Float32Array[] = [], masks: Float32Array[] = [];
  const size = held[0].length;
  for (let start = 0; start < held.length; start += spec.batch) {
    const now = held.slice(start, start + spec.batch);
    const spectrogram = new Float32Array(spec.batch * size);
    // A last batch that is not full repeats its first clip; the repeats are not counted.
    for (let k = 0; k < spec.batch; k++) spectrogram.set(now[k] ?? now[0], k * size);
    const step = Uint32Array.of(start / spec.batch);
    const { loss, prediction, mask } = await machine.run("evaluate", { spectrogram, step });
    const cut = (x: Float32Array | Uint32Array, k: number) =>
      (x as Float32Array).slice(k * x.length / spec.batch, (k + 1) * x.length / spec.batch);
    now.forEach((_, k) => {
      losses.push(loss[k]);
      predictions.push(cut(prediction, k));
      masks.push(cut(mask, k));
    });
  }
  return { loss: losses.reduce((a, b) => a + b, 0) / losses.length, predictions, masks };
};

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

/**
 * Trains, and writes `spec.json`, `metrics.jsonl`, `checkpoint.safetensors` and `report.html` into
 * the run's folder, each whole or not at all. On the left, why it stopped early, in words.
 */
export const train = async (run: Run): Promise<E.Either<RunError, RunResult>> => {
  const { spec, backend, source, folder, interrupted } = run;
  const bar = progress(standardError());
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const made = await ensureFolder(folder)();
  if (E.isLeft(made)) return fail(fileErrorText(made.left));
  const write = async (name: string, content: string | Uint8Array) => {
    const written = await writeWhole(`${folder}/${name}`, content)();
    return E.isLeft(written) ? fail(fileErrorText(written.left)) : undefined;
  };
  const specFailed = await write("spec.json", `${JSON.stringify(spec, null, 2)}\n`);
  if (specFailed !== undefined) return specFailed;

  const held = source.heldOut.map(({ frames }) => frames);
  const { programs, trained, all } = programsOf(spec);
  bar.note(`compiling for ${backend.device}`);
  const machine = await backend.open(programs);
  const metrics = openMetrics(`${folder}/metrics.jsonl`);
  if (E.isLeft(metrics)) return fail(metricsErrorText(metrics.left));
  const log: Metric[] = [];
  const record = (metric: Metric) => {
    log.push(metric);
    const written = metrics.right.append(metric);
    return E.isLeft(written) ? fail(metricsErrorText(written.left)) : undefined;
  };
  try {
    machine.write(initialValues(all, spec.seed));
    for (const { name, axes } of trained) {
      const names = moments(name), size = volume(axes);
      machine.write({
        [names.mean]: new Float32Array(size),
        [names.square]: new Float32Array(size),
      });
    }
    let scores = await score(machine, spec, held);
    const first = scores.loss;
    const baselines = held.map((clip, k) => meanLoss(clip, scores.masks[k], spec));
    const baseline = baselines.reduce((a, b) => a + b, 0) / held.length;
    const failed = record({ step: 0, heldOutLoss: first, elapsed: elapsed() });
    if (failed !== undefined) return failed;
    const schedule = {
      peak: spec.optimiser.peakLearningRate,
      least: 0,
      warmup: spec.schedule.warmupSteps,
      total: spec.schedule.steps,
    };
    const started = performance.now();
    let saved = 0, since = performance.now(), counted = 0, heldOutLoss = first;
    for (let step = 0; step < spec.schedule.steps; step++) {
      // Signals are heard between tasks of the event loop; an interpreter's step is only one task.
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (interrupted()) {
        return fail(
          `interrupted after step ${step}; ` +
            (saved === 0
              ? "there is no checkpoint yet"
              : `the checkpoint of step ${saved} is in ${folder}`),
        );
      }
      const rate = learningRate(schedule, step);
      const batch = await source.batch(step * spec.batch, spec.batch);
      if (E.isLeft(batch)) return fail(dataErrorText(batch.left));
      const { loss: [loss] } = await machine.run("train", {
        spectrogram: batch.right,
        step: Uint32Array.of(step),
        rate: Float32Array.of(rate),
      });
      counted += spec.batch;
      const now = step + 1, last = now === spec.schedule.steps;
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
        scores = await score(machine, spec, held);
        heldOutLoss = scores.loss;
      }
      if (last || scored || now % spec.logEvery === 0) {
        const failed = record({
          step: now,
          loss,
          learningRate: rate,
          clipsPerSecond,
          elapsed: elapsed(),
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
      if (last || now % spec.checkpointEvery === 0) {
        const failed = await write(
          "checkpoint.safetensors",
          await checkpoint(machine, all, spec, now),
        );
        if (failed !== undefined) return failed;
        saved = now;
      }
    }
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
