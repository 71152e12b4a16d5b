// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) as an expression: new
// values of parameters and moments from gradients, with optional gradient clipping and averaging of the
// parameters. Moments and averages are parameters that are not trained.
import type { AnyTensor } from "../dsl/axes.ts";
import { nodeOf } from "../dsl/node.ts";
import {
  add,
  div,
  exp,
  isFinite,
  log,
  min,
  mul,
  named,
  neg,
  on,
  param,
  recip,
  scalarOf,
  scale,
  select,
  shift,
  sqrt,
  square,
  sum,
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

/** The L2 norm over all gradients. */
const normOf = (gradients: readonly AnyTensor[]): Scalar =>
  sqrt(
    gradients.map((g): AnyTensor => {
      const axes = Object.keys(nodeOf(g).axes);
      return axes.length === 0 ? square(g) : sum(square(g), axes);
    }).reduce((a, b) => add(a, b) as AnyTensor),
  );

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
    : div(scaledNorm, scaling) as Scalar;
  const factors = [
    ...(scaling === undefined ? [] : [recip(scaling)]),
    // As in PyTorch: 1e-6 avoids a division by 0, and gradients within the bound are not scaled.
    ...(clipNorm === undefined
      ? []
      : [min(div(scalarOf(clipNorm), shift(norm!, 1e-6)), scalarOf(1)) as Scalar]),
  ];
  const used = factors.length === 0 ? gradients : named("clipping", () => {
    const factor = factors.reduce((a, b) => mul(a, b) as Scalar);
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
          on.add(scale(old, emaDecay), scale(updates[name], 1 - emaDecay)),
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
    [name, select(sound, value, kept.get(name)!) as AnyTensor] as const
  );
  return {
    updates: { ...Object.fromEntries(guarded), ...rescaled(sound) },
    ...told,
    lossScale: scaling,
  };
};
