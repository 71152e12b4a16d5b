// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) as an expression: new
// values of parameters and moments from gradients; before it, gradients may be clipped, and after it
// parameters averaged. Moments and averages are parameters that are not trained.
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import {
  add,
  constant,
  div,
  exp,
  isFinite,
  minimum,
  mul,
  named,
  neg,
  on,
  param,
  recip,
  select,
  sqrt,
  square,
  total,
} from "../dsl/ops.ts";
import type { Parameter } from "../dsl/parameters.ts";
import { zeros } from "./initialisers.ts";
import { lossScale, rescaled } from "./loss_scale.ts";
import type { Scalar } from "./objective.ts";

/** Hyperparameters of AdamW. */
export interface AdamW {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/** AdamW with optional clipping and averaging, neither of which the published code has. */
export interface Optimiser extends AdamW {
  /**
   * Upper bound on the norm over all gradients; larger gradients are scaled down to it (Pascanu et al.
   * 2013).
   */
  readonly clipNorm?: number;
  /** Decay of the exponential moving average of every parameter, below 1. */
  readonly emaDecay?: number;
}

/** The optimiser, optionally with loss scaling. */
export interface Scaling extends Optimiser {
  /** True when the gradients are those of the scaled loss, see {@linkcode lossScale}. */
  readonly lossScaling?: boolean;
}

/** Which parameters are decayed; as published, not vectors, scalars and anything called a bias. */
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
const correction = <A>(beta: number, step: Tensor<A>): Tensor<A> =>
  add(neg(exp(mul(step, Math.log(beta)))), 1);

/** The new values of a parameter and of its moments. `rate` and `step` may have some of its axes. */
const rule = <A, K extends keyof A>(
  { beta1, beta2, epsilon, weightDecay }: AdamW,
  old: Tensor<A>,
  g: Tensor<A>,
  before: { readonly mean: Tensor<A>; readonly square: Tensor<A> },
  { rate, step }: Progress<{ [P in K]: A[P] }>,
  isDecayed: boolean,
): { readonly value: Tensor<A>; readonly mean: Tensor<A>; readonly square: Tensor<A> } => {
  const mean = on.add(mul(before.mean, beta1), mul(g, 1 - beta1));
  const squares = on.add(mul(before.square, beta2), mul(square(g), 1 - beta2));
  const deviation = on.div(sqrt(squares), sqrt(correction(beta2, step)));
  const direction = on.div(mean, add(deviation, epsilon));
  const size = div(rate, correction(beta1, step));
  const shrunk = isDecayed ? on.mul(old, add(mul(rate, -weightDecay), 1)) : old;
  return { value: on.sub(shrunk, on.mul(direction, size)), mean, square: squares };
};

/** The learning rate, and the number of the step, which counts from 1. */
interface Progress<A> {
  readonly rate: Tensor<A>;
  readonly step: Tensor<A>;
}

/**
 * One step: the new values of all trainable parameters and their moments, by name; PyTorch's order of
 * operations. `rate` and `step` may have axes that all parameters have.
 */
export const adamW = (
  options: AdamW,
  parameters: readonly Parameter[],
  gradients: Readonly<Record<string, AnyTensor>>,
  // deno-lint-ignore no-explicit-any -- their axes are among those of every parameter
  progress: Progress<any>,
): Readonly<Record<string, AnyTensor>> => {
  const updates: Record<string, AnyTensor> = {};
  for (const parameter of parameters) {
    named(`AdamW > ${parameter.name}`, () => {
      const names = moments(parameter.name);
      const moment = (name: string) => param(name, parameter.axes, zeros, { trainable: false });
      const before = { mean: moment(names.mean), square: moment(names.square) };
      const g = gradients[parameter.name];
      const now = rule(options, parameter.tensor, g, before, progress, decays(parameter));
      updates[names.mean] = now.mean;
      updates[names.square] = now.square;
      updates[parameter.name] = now.value;
    });
  }
  return updates;
};

/** The L2 norm over all gradients. */
const normOf = (gradients: readonly AnyTensor[]): Scalar =>
  sqrt(gradients.map((g) => total(square(g))).reduce((a, b) => add(a, b)));

/** New values of everything that a training step updates, and the norm of its gradients if computed. */
export interface Step {
  readonly updates: Readonly<Record<string, AnyTensor>>;
  /** Norm of the gradients before clipping; only with clipping. */
  readonly gradientNorm?: Scalar;
  /** The loss scale of this step; only with loss scaling. */
  readonly lossScale?: Scalar;
}

/**
 * One step of the optimiser: clipping, AdamW, averaging. `step` counts from 1. With loss scaling, a
 * step whose gradients are not all finite changes only the scale.
 */
export const optimise = (
  { clipNorm, emaDecay, lossScaling = false, ...options }: Scaling,
  parameters: readonly Parameter[],
  gradients: Readonly<Record<string, AnyTensor>>,
  at: { readonly rate: Scalar; readonly step: Scalar },
): Step => {
  const scaling = lossScaling ? lossScale() : undefined;
  const scaledNorm = clipNorm === undefined && scaling === undefined
    ? undefined
    : named("norm of gradients", () => normOf(parameters.map(({ name }) => gradients[name])));
  const norm = scaledNorm === undefined || scaling === undefined
    ? scaledNorm
    : div(scaledNorm, scaling);
  const factors = [
    ...(scaling === undefined ? [] : [recip(scaling)]),
    // As in PyTorch: 1e-6 avoids a division by 0, and gradients within the bound are not scaled.
    ...(clipNorm === undefined
      ? []
      : [minimum(div(constant(clipNorm), add(norm!, 1e-6)), constant(1))]),
  ];
  const used = factors.length === 0 ? gradients : named("clipping", () => {
    const factor = factors.reduce((a, b) => mul(a, b));
    return Object.fromEntries(
      parameters.map(({ name }) => [name, on.mul(gradients[name], factor)]),
    );
  });
  const updates = adamW(options, parameters, used, at);
  const averages = emaDecay === undefined
    ? []
    : parameters.map(({ name, axes }) =>
      named(`average > ${name}`, () => {
        const old = param(average(name), axes, zeros, { trainable: false });
        return [
          average(name),
          on.add(mul(old, emaDecay), mul(updates[name], 1 - emaDecay)),
        ] as const;
      })
    );
  const told = clipNorm === undefined ? {} : { gradientNorm: norm };
  const all = { ...updates, ...Object.fromEntries(averages) };
  if (scaling === undefined) return { updates: all, ...told };
  const sound = isFinite(scaledNorm!);
  const kept = new Map(
    parameters.flatMap(({ name, axes, tensor }) => {
      const { mean, square } = moments(name);
      const state = (of: string) => param(of, axes, zeros, { trainable: false });
      return [
        [name, tensor],
        ...[mean, square, average(name)].map((of) => [of, state(of)] as const),
      ] as const;
    }),
  );
  const guarded = Object.entries(all).map(([name, value]) =>
    [name, select(sound, value, kept.get(name)!)] as const
  );
  return {
    updates: { ...Object.fromEntries(guarded), ...rescaled(sound) },
    ...told,
    lossScale: scaling,
  };
};
