// Scaling with clip length: memory of a tiny encoder's forward pass and training step, known without
// running them, and their time on a device.
import * as E from "fp-ts/Either.js";
import type { Backend, Machine, Program } from "../../backends/backend.ts";
import { compile, type Place, programReport } from "../../backends/webgpu/compile.ts";
import { nodeOf } from "../../dsl/node.ts";
import { input } from "../../dsl/ops.ts";
import { type Encoder, features } from "../../models/encoder.ts";
import { corrected } from "../../models/fidelity.ts";
import { type FamilyName, publishedEncoder } from "../../models/sizes.ts";
import { trainingStep } from "../../models/training.ts";
import { filled, leavesOf } from "./explain.ts";
import { reasonOf } from "../io/reason.ts";

/** The program: features of a clip, or a step of pre-training on it (SSAST style, AdamW). */
export type Pass = "forward" | "training";

/** Measurements of a pass. */
export interface Found {
  /** Number of kernels, launched in sequence. */
  readonly kernels: number;
  /** Peak bytes of intermediate values; parameters and inputs not counted. */
  readonly peakBytes: number;
  /** Milliseconds, the minimum over `runs`; absent if nothing was run. */
  readonly time?: { readonly ms: number; readonly runs: number };
}

/** Why there are no measurements: the device is too small for the pass, or the run failed. */
export interface Trouble {
  readonly _tag: "Refused" | "Failed";
  /** The reason in words. */
  readonly why: string;
}

/** A family's pass over one clip of `tokens` patches. */
export interface Point {
  readonly family: FamilyName;
  readonly pass: Pass;
  /** Patches of the clip; the encoder adds its class token. */
  readonly tokens: number;
  readonly found: E.Either<Trouble, Found>;
}

const MELS = 80;

/** Lengths must be multiples of this: the number of 16-band patches per time step. */
export const TOKENS_PER_STEP = 5;

/**
 * The published tiny encoder with `depth` blocks. xLSTM's mLSTM cell is the chunkwise form, because the
 * published parallel form takes quadratic time.
 */
export const tinyEncoder = (family: FamilyName, depth: number): Encoder => {
  const of = { ...publishedEncoder(family, "tiny"), depth };
  return of.family === "xlstm" ? { ...of, form: "chunkwise" } : of;
};

/** A pass over one clip of `mels` bands and `tokens` patches as a program. */
export const passProgram = (
  encoder: Encoder,
  pass: Pass,
  tokens: number,
  mels: number = MELS,
): Program => {
  const frames = tokens * encoder.patch.time * encoder.patch.frequency / mels;
  if (pass === "forward") {
    const clip = input("spectrogram", {
      batch: 1 as number,
      time: frames as number,
      mel: mels,
    });
    const of = features(encoder, corrected.rows)(clip);
    return { outputs: { features: { of, order: Object.keys(nodeOf(of).axes) } } };
  }
  const { loss, updates } = trainingStep({
    encoder,
    objective: { style: "ssast" },
    masking: { kind: "unstructured", ratio: 0.5 },
    fidelity: corrected,
    batch: 1,
    frames,
    mels,
    seed: 0,
  }, { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 });
  return { outputs: { loss: { of: loss, order: [] } }, updates };
};

/** A hypothetical GPU without memory limits. */
const unlimited: Place = {
  name: "a GPU without limits",
  limits: {
    maxStorageBuffersPerShaderStage: 10,
    maxStorageBufferBindingSize: Infinity,
    maxBufferSize: Infinity,
    minStorageBufferOffsetAlignment: 256,
  } as unknown as GPUSupportedLimits,
  target: { onCpu: false },
  oneForParams: true,
};

/** The first line of an exception. A RangeError means that the device is too small. */
const troubleOf = (error: unknown): Trouble => ({
  _tag: error instanceof RangeError ? "Refused" : "Failed",
  why: reasonOf(error).split("\n")[0],
});

/** What a program needs at a place, without running it. Left if the place is too small. */
export const planned = (program: Program, at: Place = unlimited): E.Either<Trouble, Found> => {
  try {
    const { kernels, peakBytes } = programReport(compile(program, at));
    return E.right({ kernels: kernels.length, peakBytes });
  } catch (error) {
    // Any other exception is a bug in lowering.
    if (!(error instanceof RangeError)) throw error;
    return E.left(troubleOf(error));
  }
};

/** Whether to stop timing: few runs if they are long, many if they are short. */
const enough = (runs: readonly number[]): boolean => {
  const total = runs.reduce((sum, ms) => sum + ms, 0);
  return runs.length >= 15 || (runs.length >= 5 && total > 3000) ||
    (runs.length >= 3 && total > 15_000);
};

const timed = async (machine: Machine, program: Program): Promise<Found["time"]> => {
  const leaves = leavesOf(program);
  const inputs = filled(leaves.filter(({ op }) => op === "input"));
  machine.write(filled(leaves.filter(({ op }) => op === "param")));
  // The first run may compile.
  await machine.run("pass", inputs);
  const runs: number[] = [];
  while (!enough(runs)) {
    const began = performance.now();
    await machine.run("pass", inputs);
    runs.push(performance.now() - began);
  }
  return { ms: Math.min(...runs), runs: runs.length };
};

/**
 * A program on a device: what it needs, and the time from passing the clip to having its result, the
 * minimum of a few runs after a warm-up, since other work on a machine only adds to it. Parameters stay
 * on the device.
 */
export const measured = async (
  backend: Backend,
  program: Program,
): Promise<E.Either<Trouble, Found>> => {
  try {
    const machine = await backend.open({ pass: program });
    try {
      const { kernels, peakBytes } = machine.report("pass");
      return E.right({ kernels: kernels.length, peakBytes, time: await timed(machine, program) });
    } finally {
      machine.close();
    }
  } catch (error) {
    return E.left(troubleOf(error));
  }
};
