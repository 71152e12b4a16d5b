// Compares a golden file: tensors read as expressions, tolerances, one row per tensor.
import type { Backend, Output, Values } from "../../../backends/backend.ts";
import type { AnyTensor, Tensor } from "../../../dsl/axes.ts";
import * as F from "../../../dsl/ops.ts";
import * as initialise from "../../../models/initialisers.ts";
import type { TensorData } from "../../../backends/runtime/safetensors.ts";

/** The comparison of one tensor of a golden file. */
export interface Row {
  readonly file: string;
  readonly tensor: string;
  /** Relative L2 error. */
  readonly rel: number;
  /** Largest absolute error. */
  readonly abs: number;
  readonly tolerance: string;
  readonly ok: boolean;
}

/** A mistake in a golden file, in one sentence. */
export class GoldenError extends Error {
  override name = "GoldenError";
}

export interface Golden {
  readonly file: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorData>;
  /** The JSON file of the same name next to it: the tiny models' checksums. */
  readonly companion?: TinyCompanion;
}

/** Tolerances: relative L2 unless stated. */
export interface Tolerance {
  readonly rel?: number;
  readonly abs?: number;
}

export type Asked = Readonly<
  Record<string, { readonly output: Output; readonly tolerance: Tolerance }>
>;

export const outputTolerance: Tolerance = { rel: 1e-5 };
export const gradientTolerance: Tolerance = { rel: 1e-4 };

export const floats = (data: TensorData): Float32Array =>
  data.data instanceof Float32Array ? data.data : Float32Array.from(data.data as ArrayLike<number>);

export const tensorOf = (golden: Golden, name: string): TensorData => {
  const found = golden.tensors.get(name);
  if (found === undefined) {
    throw new GoldenError(`${golden.file} has no tensor '${name}', which '${golden.kind}' needs`);
  }
  return found;
};

export const shapeOf = (golden: Golden, name: string): readonly number[] =>
  tensorOf(golden, name).shape;

/** An input with named axes for its shape. */
export const inputOf = <K extends string>(
  golden: Golden,
  name: string,
  axes: readonly K[],
): Tensor<{ [P in K]: number }> => {
  const shape = shapeOf(golden, name);
  if (shape.length !== axes.length) {
    throw new GoldenError(
      `${golden.file}: '${name}' has ${shape.length} axes, but ${axes.join(", ")} were expected`,
    );
  }
  const sizes = Object.fromEntries(axes.map((axis, k) => [axis, shape[k]]));
  return F.input(name, sizes) as unknown as Tensor<{ [P in K]: number }>;
};

/** A parameter that is used directly. */
export const paramOf = <K extends string>(
  golden: Golden,
  name: string,
  axes: readonly K[],
): Tensor<{ [P in K]: number }> => {
  const shape = shapeOf(golden, `param.${name}`);
  const sizes = Object.fromEntries(axes.map((axis, k) => [axis, shape[k]]));
  return F.param(name, sizes, initialise.zeros) as unknown as Tensor<{ [P in K]: number }>;
};

export const asked = (
  of: AnyTensor,
  order: readonly string[],
  tolerance: Tolerance = outputTolerance,
) => ({
  output: { of, order },
  tolerance,
});

export const numberFrom = (golden: Golden, key: string): number => {
  const value = Number(golden.metadata[key]);
  if (!Number.isFinite(value)) {
    throw new GoldenError(`${golden.file}: its metadata has no number '${key}'`);
  }
  return value;
};

/** README of the goldens: this gradient nearly cancels; it is compared at the scale of its neighbours. */
export const cancels = (name: string): boolean => name.endsWith("igate.bias");

/** The largest gradient of the same block. */
export const scaleBeside = (golden: Golden, key: string): number => {
  const block = key.match(/^grad\w*\.param\.(blocks\.\d+\.)?/)?.[0] ?? "grad.param.";
  return Math.max(
    0,
    ...[...golden.tensors].filter(([other]) => other.startsWith(block))
      .map(([, data]) => largest(floats(data))),
  );
};

const largest = (x: ArrayLike<number>): number => {
  let top = 0;
  for (let k = 0; k < x.length; k++) top = Math.max(top, Math.abs(x[k]));
  return top;
};

export const compare = (
  golden: Golden,
  tensor: string,
  found: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: Tolerance,
): Row => {
  let square = 0, norm = 0, abs = 0;
  const same = found.length === wanted.length;
  for (let k = 0; k < wanted.length && same; k++) {
    const d = found[k] - wanted[k];
    square += d * d;
    norm += wanted[k] * wanted[k];
    abs = Math.max(abs, Math.abs(d));
    if (Number.isNaN(d)) abs = Infinity;
  }
  const rel = square === 0 ? 0 : Math.sqrt(square / norm);
  const ok = same && Number.isFinite(abs) &&
    ((tolerance.rel !== undefined && rel <= tolerance.rel) ||
      (tolerance.abs !== undefined && abs <= tolerance.abs));
  const words = [
    tolerance.rel === undefined ? [] : [`rel ${tolerance.rel}`],
    tolerance.abs === undefined ? [] : [`abs ${tolerance.abs.toPrecision(2)}`],
  ].flat().join(" or ");
  return { file: golden.file, tensor, rel, abs, tolerance: words, ok };
};

export const paramValues = (golden: Golden): Values =>
  Object.fromEntries(
    [...golden.tensors].filter(([name]) => name.startsWith("param.")).map((
      [name, data],
    ) => [name.slice("param.".length), floats(data)]),
  );

export const inputValues = (golden: Golden): Values =>
  Object.fromEntries([...golden.tensors].map(([name, data]) => [name, floats(data)]));

export const runAsked = async (
  golden: Golden,
  backend: Backend,
  wanted: Asked,
): Promise<readonly Row[]> => {
  const outputs = Object.fromEntries(
    Object.entries(wanted).map(([name, { output }]) => [name, output]),
  );
  const machine = await backend.open({ main: { outputs } });
  try {
    machine.write(paramValues(golden));
    const found = await machine.run("main", inputValues(golden));
    return Object.entries(wanted).map(([name, { tolerance }]) =>
      compare(golden, name, found[name], floats(tensorOf(golden, name)), tolerance)
    );
  } finally {
    machine.close();
  }
};

export const list = (golden: Golden, key: string): readonly number[] => {
  const value = JSON.parse(golden.metadata[key] ?? "null");
  if (!Array.isArray(value)) {
    throw new GoldenError(`${golden.file}: its metadata has no list '${key}'`);
  }
  return value;
};

/** The content of `tiny_<family>.json`. */
export interface TinyCompanion {
  readonly seed: number;
  readonly config: Readonly<Record<string, number | boolean | readonly number[]>>;
  readonly input: Generated;
  readonly params: readonly Generated[];
  readonly pred: Checksum;
  readonly features: Checksum;
  readonly grads: Readonly<
    Record<
      string,
      { readonly sum_abs: number; readonly l2: number; readonly first4: readonly number[] }
    >
  >;
}

export interface Generated {
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly scale: number;
  readonly log_mod: number;
}

export interface Checksum {
  readonly sum_abs: number;
  readonly l2: number;
}
