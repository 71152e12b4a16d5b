// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) as an expression: new
// values of parameters and moments from gradients. The moments are parameters that are not trained.
import type { AnyTensor } from "../dsl/axes.ts";
import {
  div,
  exp,
  log,
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

/** As published: vectors, scalars and whatever is called a bias are not decayed. */
export const decays = ({ name, axes }: Parameter): boolean =>
  Object.keys(axes).length > 1 && !name.endsWith(".bias");

/** The names of a parameter's moments. */
export const moments = (name: string): { readonly mean: string; readonly square: string } => ({
  mean: `adamw.mean.${name}`,
  square: `adamw.square.${name}`,
});

/** 1 - βᵗ */
const correction = (beta: number, step: Scalar): Scalar =>
  shift(neg(exp(mul(step, log(scalarOf(beta))))), 1);

/**
 * One step: the new values of all trainable parameters and their moments, by name. `step` counts
 * from 1; PyTorch's order of operations.
 */
export const adamW = (
  options: AdamW,
  parameters: readonly Parameter[],
  gradients: Readonly<Record<string, AnyTensor>>,
  { rate, step }: { readonly rate: Scalar; readonly step: Scalar },
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
