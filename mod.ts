/**
 * Formant: a small, typed, immutable tensor expression language with named axes and autodiff,
 * whose graphs compile to WGSL.
 *
 * @module
 */
export * from "./dsl/ops.ts";
export { bind, type BoundAxes, type Sizes } from "./dsl/bind.ts";
export { grad, type Reduced, type Tensors, valueAndGrad } from "./dsl/grad.ts";
export { count, type Parameter, parameters } from "./dsl/parameters.ts";
export { print } from "./dsl/print.ts";
export { foldIn, keyForName, normal, randomKey, splitKey, uniform } from "./dsl/random.ts";
export {
  type Agree,
  type AnyTensor,
  type Axes,
  type AxesOf,
  AxisError,
  type Both,
  type Clash,
  type Drop,
  type Fitting,
  type Following,
  type Foreign,
  type Free,
  type Has,
  type Join,
  type Mismatch,
  type names,
  type None,
  type Of,
  type Operand,
  type Plain,
  type Replace,
  type Same,
  type Show,
  type Size,
  type sizes,
  type Tensor,
  type Value,
  type Within,
} from "./dsl/axes.ts";
export type { AnyKey, Dtype, Initialiser, Key } from "./dsl/node.ts";
export type { WindowOptions } from "./dsl/structure.ts";
export {
  causalConv,
  channels,
  linear,
  type Norm,
  norm,
  type Scope,
  scope,
  type Sequence,
  tokens,
} from "./models/layers.ts";
export type { CustomBlock, CustomOptions, Settings } from "./models/stack.ts";
