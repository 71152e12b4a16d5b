// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) as an expression: new
// values of parameters and moments from gradients; before it, gradients may be clipped, and after it
// parameters averaged. Moments and averages are parameters that are not trained.
import type { AnyTensor } from "../dsl/axes.ts";
import { node } from "../dsl/node.ts";
import {
  add,
  div,
  exp,
  log,
  min,
  mul,
  named,
  neg,
  on,
  param,
  scalarOf,
  scale,
  shift,
  sqrt,
  square,
  sum,
} from "../dsl/ops.ts";
import type { Parameter } from "../dsl/parameters.ts";
import { zeros } from "./initialise.ts";
import type { Scalar } from "./objective.ts";

/** AdamW's numbers. */
export interface AdamW {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** AdamW with what may stand around it; nothing of that was published. */
export interface Optimiser extends AdamW {
  /**
   * The most that the root of the sum of squares of all gradients may be; larger ones are scaled down
   * to it (Pascanu et al. 2013).
   */
  readonly clipNorm?: number;
  /** Share of the old average in the exponential moving average of every parameter, below 1. */
  readonly emaDecay?: number;
}

/** As published: vectors, scalars and whatever is called a bias are not decayed. */
export const decays = ({ name, axes }: Parameter): boolean =>
  Object.keys(axes).length > 1 && !name.endsWith(".bias");

/** The names of a parameter's moments. */
export const moments = (name: string): { readonly mean: string; readonly square: string } => ({
  mean: `adamw.mean.${name}`,
  square: `adamw.square.${name}`,
});

/** The name of a parameter's moving average. */
export const average = (name: string): string => `ema.${name}`;

/** 1 - βᵗ */
const correction = (beta: number, step: AnyTensor): AnyTensor =>
  shift(neg(exp(mul(step, log(scalarOf(beta))) as AnyTensor)), 1);

/**
 * One step: the new values of all trainable parameters and their moments, by name. `step` counts
 * from 1; PyTorch's order of operations. `rate` and `step` may have axes that all parameters have.
 */
export const adamW = (
  options: AdamW,
  parameters: readonly Parameter[],
  gradients: Readonly<Record<string, AnyTensor>>,
  { rate, step }: { readonly rate: AnyTensor; readonly step: AnyTensor },
): Readonly<Record<string, AnyTensor>> => {
  const { beta1, beta2, epsilon, weightDecay } = options;
  const updates: Record<string, AnyTensor> = {};
  for (const parameter of parameters) {
    named(`AdamW > ${parameter.name}`, () => {
      const g = gradients[parameter.name], old = parameter.tensor;
      const names = moments(parameter.name);
      const mean = on.add(
        scale(param(names.mean, parameter.axes, zeros, { trainable: false }), beta1),
        scale(g, 1 - beta1),
      );
      const squares = on.add(
        scale(param(names.square, parameter.axes, zeros, { trainable: false }), beta2),
        scale(square(g), 1 - beta2),
      );
      const deviation = on.div(sqrt(squares), sqrt(correction(beta2, step)));
      const direction = on.div(mean, shift(deviation, epsilon));
      const size = div(rate, correction(beta1, step));
      const shrunk = decays(parameter) ? on.mul(old, shift(scale(rate, -weightDecay), 1)) : old;
      updates[names.mean] = mean;
      updates[names.square] = squares;
      updates[parameter.name] = on.sub(shrunk, on.mul(direction, size));
    });
  }
  return updates;
};

/** The root of the sum of squares of all gradients. */
const normOf = (gradients: readonly AnyTensor[]): Scalar =>
  sqrt(
    gradients.map((g): AnyTensor => {
      const axes = Object.keys(node(g).axes);
      return axes.length === 0 ? square(g) : sum(square(g), axes);
    }).reduce((a, b) => add(a, b) as AnyTensor),
  );

/** New values of everything that a step of training changes, and the norm of its gradients if used. */
export interface Step {
  readonly updates: Readonly<Record<string, AnyTensor>>;
  /** Norm of the gradients before clipping; only where they are clipped. */
  readonly gradientNorm?: Scalar;
}

/** One step of the whole optimiser: clipping, AdamW, averaging. `step` counts from 1. */
export const optimise = (
  { clipNorm, emaDecay, ...options }: Optimiser,
  parameters: readonly Parameter[],
  gradients: Readonly<Record<string, AnyTensor>>,
  at: { readonly rate: Scalar; readonly step: Scalar },
): Step => {
  const norm = clipNorm === undefined
    ? undefined
    : named("clipping", () => normOf(parameters.map(({ name }) => gradients[name])));
  const clipped = norm === undefined ? gradients : named("clipping", () => {
    // As PyTorch has it: a norm of 0 divides nothing by 0, and what is short enough stays as it is.
    const share = min(div(scalarOf(clipNorm!), shift(norm, 1e-6)), scalarOf(1));
    return Object.fromEntries(
      parameters.map(({ name }) => [name, on.mul(gradients[name], share as Scalar)]),
    );
  });
  const updates = adamW(options, parameters, clipped, at);
  const averages = emaDecay === undefined
    ? []
    : parameters.map(({ name, axes }) =>
      named(`average > ${name}`, () => {
        const old = param(average(name), axes, zeros, { trainable: false });
        return [
          average(name),
          on.add(scale(old, emaDecay), scale(updates[name], 1 - emaDecay)),
        ] as const;
      })
    );
  return {
    updates: { ...updates, ...Object.fromEntries(averages) },
    ...(norm === undefined ? {} : { gradientNorm: norm }),
  };
};
