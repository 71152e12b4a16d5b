// First values of parameters, as expressions of the random key made for each one's name.
import { type Axes, volume } from "../dsl/axes.ts";
import type { Initialiser } from "../dsl/node.ts";
import { constant, expand, literal, log } from "../dsl/ops.ts";
import { add, exp, iota, maximum, neg, sub, toFloat } from "../dsl/ops.ts";
import { normal, uniform } from "../dsl/random.ts";

/**
 * Memoises initialisers, so that equal arguments give the same object: a parameter used in two places,
 * such as in a block that runs in both directions, is then one leaf with one gradient.
 */
const once = <P extends readonly (number | string)[]>(
  make: (...of: P) => Initialiser,
): (...of: P) => Initialiser => {
  const made = new Map<string, Initialiser>();
  return (...of) => {
    const key = of.join(" ");
    if (!made.has(key)) made.set(key, make(...of));
    return made.get(key)!;
  };
};

/** The same number everywhere. */
export const filled: (value: number) => Initialiser = once((value: number) => (_, axes) =>
  expand(constant(value), axes)
);
/** Zero everywhere. */
export const zeros: Initialiser = filled(0);
/** One everywhere. */
export const ones: Initialiser = filled(1);

/** Uniform between -bound and bound. */
export const within: (bound: number) => Initialiser = once((bound: number) => (key, axes) =>
  uniform(key, axes, -bound, bound)
);

/** Normal with mean 0. */
export const spread: (deviation: number) => Initialiser = once((deviation: number) => (key, axes) =>
  normal(key, axes, deviation)
);

/** PyTorch's default for weights and biases of linear maps and convolutions: ±1/√fan-in. */
export const fanIn = (inputs: number): Initialiser => within(1 / Math.sqrt(inputs));

/** Xavier (Glorot and Bengio 2010), uniform: ±√(6 / (fan-in + fan-out)). */
export const xavier = (inputs: number, outputs: number): Initialiser =>
  within(Math.sqrt(6 / (inputs + outputs)));

/** log 1, log 2, ... along the state axis: S4D-real, Mamba section 3.6. */
export const logPositions: (axis: string) => Initialiser = once((axis: string) => (_, axes) =>
  expand(log(add(toFloat(iota(axis, axes[axis])), 1)), axes)
);

/** The inverse of softplus at step sizes log-uniform in [low, high], not below `least` (Mamba 3.6). */
export const stepSizes: (low: number, high: number, least: number) => Initialiser = once(
  (low: number, high: number, least: number) => (key, axes: Axes) => {
    const chosen = exp(uniform(key, axes, Math.log(low), Math.log(high)));
    const size = maximum(chosen, constant(least));
    // softplus⁻¹(x) = x + log(1 - e^-x)
    const rest = log(sub(constant(1), exp(neg(size))));
    return expand(add(sub(size, neg(rest)), 0), axes);
  },
);

/** Evenly spaced numbers from `low` to `high` along the single axis. */
export const ramp: (low: number, high: number) => Initialiser = once(
  (low: number, high: number) => (_, axes) => {
    const length = volume(axes);
    return literal(
      axes,
      Float32Array.from({ length }, (_, k) => low + (high - low) * k / Math.max(1, length - 1)),
    );
  },
);

/**
 * Biases of the sLSTM gates i, f, z, o of heads of `units`: zero except for the forget gate, which
 * falls from 5 to -7 within a head by a power that grows with the block's position in the stack
 * (0 to 1), as in the published xLSTM code.
 */
export const gateBias: (units: number, place: number) => Initialiser = once((
  units: number,
  place: number,
) =>
(_, axes) => {
  const length = volume(axes), wide = length / 4;
  const forget = (k: number) =>
    5 - 12 * ((k % units) / Math.max(1, units - 1)) ** (0.3 + 1.3 * place);
  return literal(
    axes,
    Float32Array.from({ length }, (_, k) => Math.floor(k / wide) === 1 ? forget(k) : 0),
  );
});
