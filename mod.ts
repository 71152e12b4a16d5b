/**
 * Formant: a small, typed, immutable tensor expression language with named axes and autodiff,
 * whose graphs compile to WGSL.
 *
 * @module
 */
export * from "./dsl/ops.ts";
export { bind } from "./dsl/bind.ts";
export { grad, valueAndGrad } from "./dsl/grad.ts";
export { foldKey, nameKey, normal, randomKey, uniform } from "./dsl/random.ts";
