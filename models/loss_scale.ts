// Loss scaling (Micikevicius et al., "Mixed precision training", 2018, section 3.2) as an expression: the
// loss is multiplied by a scale, so that small gradients are not lost where values are stored as f16.
// When a gradient overflows, nothing is updated and the scale is halved; when none has for a while, it
// is doubled. PyTorch's numbers. The scale is a power of two, so it changes no digit of a result.
import type { AnyTensor } from "../dsl/axes.ts";
import { add, constant, equal, maximum, minimum, mul, named, param, select } from "../dsl/ops.ts";
import { filled, zeros } from "./initialisers.ts";
import type { Scalar } from "./objective.ts";

/** The names of what loss scaling keeps between steps: the scale, and the sound steps since it changed. */
export const lossScaling = { scale: "lossScale", steps: "lossScale.steps" } as const;

/** The scale at first. */
export const firstScale: number = 2 ** 16;
/** The scale is doubled after so many sound steps. */
const patience = 2000;
/** The scale stays between these. */
const least = 1, most = 2 ** 24;

/** The scale, without axes. */
export const lossScale = (): Scalar =>
  param(lossScaling.scale, {}, filled(firstScale), { trainable: false });

/** The new values of what loss scaling keeps; `sound` holds where all gradients are finite. */
export const rescaled = (sound: Scalar): Readonly<Record<string, AnyTensor>> =>
  named("loss scale", () => {
    const now = lossScale(), steps = param(lossScaling.steps, {}, zeros, { trainable: false });
    const counted = add(steps, 1);
    const isLong = equal(counted, constant(patience));
    const grown = select(isLong, minimum(mul(now, 2), constant(most)), now);
    const shrunk = maximum(mul(now, 0.5), constant(least));
    return {
      [lossScaling.scale]: select(sound, grown, shrunk),
      [lossScaling.steps]: select(sound, select(isLong, constant(0), counted), constant(0)),
    };
  });
