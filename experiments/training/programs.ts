// From a spec to the programs of its run. A batch that is computed whole needs one program per step; one
// that is computed in parts, here or on several machines, needs two: gradients, and the update.
import type { Output, Program } from "../../backends/backend.ts";
import type { AnyTensor } from "../../dsl/axes.ts";
import { withFreshTable } from "../../dsl/node.ts";
import { type Parameter, parameters } from "../../dsl/parameters.ts";
import type { Encoder } from "../../models/encoder.ts";
import {
  evaluation,
  gradientStep,
  type Pretraining,
  swapAverages,
  trainingStep,
  updateStep,
} from "../../models/training.ts";
import { withBlock } from "../encoders/user_module.ts";
import { fidelityOf } from "../encoders/config.ts";
import { type Spec, styleOf } from "../specs/spec.ts";

/** The spec's encoder as an argument of models. */
export const encoderOf = ({ encoder, patch }: Spec): Encoder => ({ ...withBlock(encoder), patch });

/** The spec as arguments of the training program. */
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

/** The programs of a run and their parameters. */
export interface Programs {
  readonly programs: Readonly<Record<string, Program>>;
  /** Trained parameters. */
  readonly trained: readonly Parameter[];
  /** All parameters of the model, including fixed tables. */
  readonly all: readonly Parameter[];
}

const scalars = (
  of: Readonly<Record<string, AnyTensor | undefined>>,
): Readonly<Record<string, Output>> =>
  Object.fromEntries(
    Object.entries(of).flatMap(([name, of]) => of === undefined ? [] : [[name, { of, order: [] }]]),
  );

/**
 * The programs of a run whose batches are computed in `parts` parts: `train` or, for more than one part,
 * `gradients` and `update`; `evaluate`; and `exchange` if averages are kept.
 */
export const programsOf = (spec: Spec, parts = 1): Programs =>
  // A run resumed in another process, or made after other runs of a study, must have the same program.
  withFreshTable(() => programsHere(spec, parts));

const programsHere = (spec: Spec, parts: number): Programs => {
  const { precision } = spec;
  // Even if the device does not compute in f16: the loss scale changes no digit.
  const optimiser = { ...spec.optimiser, lossScaling: precision === "f16" };
  const of = { ...pretrainingOf(spec), batch: spec.batch / parts };
  const held = evaluation(of);
  const scored = {
    evaluate: {
      outputs: {
        loss: { of: held.perClip, order: ["batch"] },
        prediction: { of: held.prediction, order: ["batch", "token", "pixel"] },
        mask: { of: held.mask, order: ["batch", "token"] },
      },
      precision,
    },
  };
  const stepped = (): { trained: readonly Parameter[]; programs: Programs["programs"] } => {
    if (parts === 1) {
      const { trained, loss, gradientNorm, lossScale, updates } = trainingStep(of, optimiser);
      return {
        trained,
        programs: {
          train: { outputs: scalars({ loss, gradientNorm, lossScale }), updates, precision },
        },
      };
    }
    const { trained, loss, updates } = gradientStep(of, parts, optimiser.lossScaling);
    const update = updateStep(trained, optimiser);
    const { gradientNorm, lossScale } = update;
    return {
      trained,
      programs: {
        gradients: { outputs: scalars({ loss }), updates, precision },
        update: {
          outputs: scalars({ gradientNorm, lossScale }),
          updates: update.updates,
          precision,
        },
      },
    };
  };
  const { trained, programs } = stepped();
  const averaged: Programs["programs"] = spec.optimiser.emaDecay === undefined
    ? {}
    : { exchange: { outputs: {}, updates: swapAverages(trained) } };
  return {
    trained,
    all: parameters([held.perClip]),
    programs: { ...programs, ...scored, ...averaged },
  };
};
