// Goldens of the optimiser: AdamW steps on given gradients, and learning rates.
import type { Backend, Values } from "../../../backends/backend.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import * as F from "../../../dsl/ops.ts";
import * as initialise from "../../../models/initialisers.ts";
import { adamW, moments } from "../../../models/optimiser.ts";
import { learningRate } from "../../../models/learning_rate.ts";
import type { TensorData } from "../../../backends/runtime/safetensors.ts";
import {
  compare,
  floats,
  type Golden,
  outputTolerance,
  paramValues,
  type Row,
  shapeOf,
  tensorOf,
} from "./compare.ts";

export const runSchedule = (golden: Golden): readonly Row[] =>
  [...golden.tensors.keys()].filter((name) => name.endsWith(".config")).map((name) => {
    const prefix = name.slice(0, -".config".length);
    const [peak, warmup, total, least] = floats64(tensorOf(golden, name));
    const found = floats64(tensorOf(golden, `${prefix}.epoch`))
      .map((epoch) => learningRate({ peak, least, warmup, total }, epoch));
    return compare(golden, `${prefix}.lr`, found, floats64(tensorOf(golden, `${prefix}.lr`)), {
      rel: 1e-12,
    });
  });

const floats64 = (data: TensorData): Float64Array =>
  Float64Array.from(data.data as ArrayLike<number>);

export const runAdamW = async (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const names = [...golden.tensors.keys()].filter((name) => name.startsWith("param.")).map((name) =>
    name.slice(6)
  );
  const steps = shapeOf(golden, `input.grads.${names[0]}`)[0];
  const all = names.map((name) => {
    const shape = shapeOf(golden, `param.${name}`);
    const axes = Object.fromEntries(shape.map((size, k) => [`axis ${k}`, size]));
    return {
      name,
      axes,
      tensor: F.param(name, axes, initialise.zeros) as AnyTensor,
      init: initialise.zeros,
      trainable: true,
    };
  });
  const gradients = Object.fromEntries(
    all.map(({ name, axes }) => [name, F.input(`g.${name}`, axes) as AnyTensor]),
  );
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 };
  const updates = adamW(options, all, gradients, {
    rate: F.input("rate", {}),
    step: F.input("step", {}),
  });
  const machine = await backend.open({ main: { outputs: {}, updates } });
  try {
    machine.write(paramValues(golden));
    machine.write(zeroMoments(golden, names));
    const rows: Row[] = [];
    for (let step = 1; step <= steps; step++) {
      const given: Record<string, Float32Array> = {
        rate: Float32Array.of(1e-3),
        step: Float32Array.of(step),
      };
      for (const name of names) {
        const g = floats(tensorOf(golden, `input.grads.${name}`)), length = g.length / steps;
        given[`g.${name}`] = g.slice((step - 1) * length, step * length);
      }
      await machine.run("main", given);
      const values = await machine.read(names);
      for (const name of names) {
        const key = `output.after${step}.${name}`;
        rows.push(
          compare(golden, key, values[name], floats(tensorOf(golden, key)), outputTolerance),
        );
      }
    }
    return rows;
  } finally {
    machine.close();
  }
};

export const zeroMoments = (golden: Golden, names: readonly string[]): Values =>
  Object.fromEntries(names.flatMap((name) => {
    const length = floats(tensorOf(golden, `param.${name}`)).length;
    const { mean, square } = moments(name);
    return [[mean, new Float32Array(length)], [square, new Float32Array(length)]];
  }));
