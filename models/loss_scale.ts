// Loss scaling (Micikevicius et al., "Mixed precision training", 2018, section 3.2) as an expression: the
// loss is multiplied by a scale, so that small gradients do not underflow where values are stored as f16.
// When a gradient overflows, the update is skipped and the scale halved; after a while without overflow
// it is doubled. PyTorch's constants. The scale is a power of two, so it changes no digit of a result.
import type { AnyTensor } from "../dsl/axes.ts";
import { add, constant, equal, maximum, minimum, mul, named, param, select } from "../dsl/ops.ts";
import { filled, zeros } from "./initialisers.ts";
import type { Scalar } from "./objective.ts";

/** State of loss scaling between steps: the scale, and the finite steps since it last changed. */
export const lossScaling = { scale: "lossScale", steps: "lossScale.steps" } as const;

/** The initial scale. */
export const firstScale: number = 2 ** 16;
/** Finite steps after which the scale is doubled. */
const patience = 2000;
/** Bounds of the scale. */
const least = 1, most = 2 ** 24;

/** The scale, a scalar. */
export const lossScale = (): Scalar =>
  param(lossScaling.scale, {}, filled(firstScale), { trainable: false });

/** New values of the loss scaling state; `sound` is true where all gradients are finite. */
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
