/**
 * Formant: a small, typed, immutable tensor expression language with named axes and autodiff,
 * whose graphs compile to WGSL.
 *
 * @module
 */
export * from "./dsl/ops.ts";
export { bind, type BoundAxes, type Sizes } from "./dsl/bind.ts";
export { grad, type Tensors, valueAndGrad } from "./dsl/grad.ts";
export { count, type Parameter, parameters } from "./dsl/parameters.ts";
export { print } from "./dsl/print.ts";
export { foldKey, nameKey, normal, partKey, randomKey, uniform } from "./dsl/random.ts";
export {
  type Agree,
  type AnyTensor,
  type Axes,
  type axes,
  type AxesOf,
  AxisError,
  type Clash,
  type Drop,
  type Fitting,
  type Free,
  type Join,
  type Mismatch,
  type Plain,
  type Replace,
  type Show,
  type Size,
  type Tensor,
} from "./dsl/axes.ts";
export type { Dtype, Initialiser, Key } from "./dsl/node.ts";
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
