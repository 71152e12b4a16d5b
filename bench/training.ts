// Training steps that are compared with PyTorch: four Transformer blocks, and the published tiny
// encoders at a batch of 8 clips of 250 patches and a class token. Everything that a step reads has a
// value here, so that the other side can be given the same.
import type { Precision, Program, Values } from "../backends/backend.ts";
import { encode, type TensorData } from "../backends/runtime/safetensors.ts";
import { leavesOf } from "../experiments/inspect/explain.ts";
import { initialValues } from "../experiments/encoders/initial_values.ts";
import { draw } from "../experiments/io/random.ts";
import { type AnyTensor, sizeOf, volume } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import { add, input, toFloat } from "../dsl/ops.ts";
import { parameters } from "../dsl/parameters.ts";
import { valueAndGrad } from "../dsl/grad.ts";
import { keyForName, randomKey } from "../dsl/random.ts";
import { faithful } from "../models/fidelity.ts";
import { randomMask } from "../models/masking.ts";
import { adamW, moments } from "../models/optimiser.ts";
import { gridOf, type Spectrogram } from "../models/patches.ts";
import { type FamilyName, publishedEncoder } from "../models/sizes.ts";
import { forward } from "../models/training.ts";
import { ADAMW, leavesOf as workloadLeaves, SIZES, valuesOf, WORKLOADS } from "./workloads.ts";

/** A training step with all that it reads. */
export interface Step {
  readonly name: string;
  readonly program: Program;
  /** First values of what stays on the device. Moments are zeros. */
  readonly parameters: Values;
  readonly inputs: Values;
  /** The parameters that are trained, whose gradients are compared. */
  readonly trained: readonly string[];
  /** Shapes of parameters and inputs, row-major as given. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

/**
 * What is compared: four blocks, or a family's encoder. Mamba is compared twice, as PyTorch has no
 * selective scan: with the plain loop of its equations, and with one that is written for speed.
 */
export type StepName = "blocks" | FamilyName | "mamba-by-index";

const isMoment = (name: string): boolean => name.startsWith("adamw.");

const shapesOf = ({ program }: { readonly program: Program }) =>
  Object.fromEntries(
    leavesOf(program).map(({ attributes, axes }) => [
      attributes.name!,
      Object.keys(axes).map((axis) => sizeOf(axes, axis)),
    ]),
  );

const blocks = (): Step => {
  const workload = WORKLOADS["training step"]();
  const { loss, ...updates } = workload.results;
  const program: Program = { outputs: { loss: { of: loss, order: [] } }, updates };
  const given = Object.entries(valuesOf(workload)).map(([name, { data }]) =>
    [name, isMoment(name) ? data.fill(0) : name === "given.step" ? data.fill(1) : data] as const
  );
  return {
    name: workload.name,
    program,
    parameters: Object.fromEntries(given),
    inputs: {},
    trained: workloadLeaves(workload).filter(({ trainable }) => trainable).map(({ name }) => name)
      .filter((name) => !isMoment(name)),
    shapes: shapesOf({ program }),
  };
};

const titles: Readonly<Record<FamilyName, string>> = {
  transformer: "SSAST tiny",
  mamba: "SSAM (Mamba) tiny",
  xlstm: "AxLSTM (xLSTM) tiny",
};

/** How a step differs from that of a tiny encoder at a batch of 8 in f32. */
export interface StepOptions {
  readonly batch?: number;
  readonly precision?: Precision;
  /** One narrow block and short clips, which compile soon: for rehearsals. */
  readonly small?: boolean;
  /** What is added to the name. */
  readonly beside?: string;
}

/** The step of an encoder as published: a mask token, the loss over all patches. */
export const encoderStep = (family: FamilyName, options: StepOptions = {}): Step => {
  const published = publishedEncoder(family, "tiny");
  const { batch = SIZES.batch, precision, small = false, beside = "" } = options;
  const of = small ? { ...published, dim: 12, depth: 1 } : published;
  const frames: number = small ? 16 : 200, mels: number = 80;
  const x: Spectrogram = input("spectrogram", { batch, time: frames, mel: mels });
  const step = input("step", {}, "u32"), rate = input("rate", {});
  const masking = { kind: "unstructured", ratio: 0.5 } as const;
  const mask = randomMask(keyForName(randomKey(0), "mask"), masking, gridOf(x, of.patch), batch);
  const model = {
    encoder: of,
    objective: { style: "ssast" },
    masking,
    fidelity: faithful,
  } as const;
  const { lossAll } = forward(model, x, mask);
  const all = parameters([lossAll]);
  const trained = all.filter(({ trainable }) => trainable);
  const wrt = Object.fromEntries(trained.map(({ name, tensor }) => [name, tensor]));
  const { value, gradients } = valueAndGrad(lossAll, wrt);
  const updates = adamW(ADAMW, trained, gradients, { rate, step: add(toFloat(step), 1) });
  const program: Program = {
    outputs: {
      loss: { of: value as AnyTensor, order: [] },
      mask: { of: mask, order: ["batch", "token"] },
    },
    updates,
    ...(precision === undefined ? {} : { precision }),
  };
  const zeros = trained.flatMap(({ name, axes }) =>
    Object.values(moments(name)).map((key) => [key, new Float32Array(volume(axes))] as const)
  );
  return {
    name: `training step, ${titles[family]}${beside}`,
    program,
    parameters: { ...initialValues(all, 0), ...Object.fromEntries(zeros) },
    inputs: {
      spectrogram: Float32Array.from(
        { length: volume(nodeOf(x).axes) },
        (_, k) => 4 * draw(0, k) - 2,
      ),
      step: Uint32Array.of(0),
      rate: Float32Array.of(1e-4),
    },
    trained: trained.map(({ name }) => name),
    shapes: shapesOf({ program }),
  };
};

/** All steps by name; each is made when it is asked for. */
export const STEPS: Readonly<Record<StepName, () => Step>> = {
  blocks,
  transformer: () => encoderStep("transformer"),
  "mamba-by-index": () => encoderStep("mamba", { beside: ", plain loop" }),
  mamba: () => encoderStep("mamba", { beside: ", loop written for speed" }),
  xlstm: () => encoderStep("xlstm"),
};

/** The file that PyTorch reads: what is trained, positions, and the batch under "given". */
export const fileOf = (step: Step, mask: Float32Array | undefined): Uint8Array => {
  const tensors = new Map<string, TensorData>();
  const put = (name: string, shape: readonly number[], data: Values[string]) => {
    if (data instanceof Float32Array) tensors.set(name, { dtype: "F32", shape, data });
  };
  for (const [name, data] of Object.entries(step.parameters)) {
    if (!isMoment(name)) put(name, step.shapes[name], data);
  }
  for (const [name, data] of Object.entries(step.inputs)) {
    put(`given.${name}`, step.shapes[name], data);
  }
  const { spectrogram } = step.shapes;
  if (mask !== undefined) put("given.mask", [spectrogram[0], mask.length / spectrogram[0]], mask);
  return encode(tensors);
};
