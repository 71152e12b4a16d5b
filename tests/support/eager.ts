// A small eager float64 library of arrays with named axes: what the operations of the language mean,
// written apart from dsl/ and backends/, of which nothing is imported. Every result is an array; an
// operation is a loop over all elements with a table of where each of them lies in its arguments.

/** Sizes by axis name; the order is that of the elements, the last axis fastest. */
export type Axes = Readonly<Record<string, number>>;
export type Dtype = "f32" | "u32" | "bool";

/** An array: floats in float64, words as whole numbers below 2^32, booleans as 0 and 1. */
export interface Value {
  readonly axes: Axes;
  readonly dtype: Dtype;
  readonly data: Float64Array;
}

export const count = (axes: Axes): number => Object.values(axes).reduce((a, b) => a * b, 1);

/** Axes of both; sizes must agree. */
export const joined = (a: Axes, b: Axes): Axes => {
  for (const axis in b) {
    if (axis in a && a[axis] !== b[axis]) throw new Error(`${axis}: ${a[axis]} and ${b[axis]}`);
  }
  return { ...a, ...b };
};

export const without = (axes: Axes, names: readonly string[]): Axes =>
  Object.fromEntries(Object.entries(axes).filter(([axis]) => !names.includes(axis)));

const inOrder: Int32Array[] = [];
/** 0, 1, 2, ...; kept, as most arrays lie as they are read. */
const upwards = (size: number): Int32Array =>
  inOrder[size] ??= Int32Array.from({ length: size }, (_, k) => k);
const alike = (a: Axes, b: Axes): boolean => {
  const [x, y] = [Object.keys(a), Object.keys(b)];
  return x.length === y.length && x.every((axis, k) => axis === y[k]);
};

/** For every element of a space, in order, where it lies in an array that may lack axes. */
export const places = (space: Axes, of: Axes): Int32Array => {
  if (alike(space, of)) return upwards(count(space));
  const stride: Record<string, number> = {};
  let step = 1;
  for (const axis of Object.keys(of).reverse()) {
    stride[axis] = step;
    step *= of[axis];
  }
  let all = new Int32Array(1);
  for (const axis in space) {
    const next = new Int32Array(all.length * space[axis]), by = stride[axis] ?? 0;
    let k = 0;
    for (const from of all) for (let i = 0; i < space[axis]; i++) next[k++] = from + i * by;
    all = next;
  }
  return all;
};

export const scalarOf = (value: number, dtype: Dtype = "f32"): Value => ({
  axes: {},
  dtype,
  data: Float64Array.of(value),
});

export const iota = (axis: string, size: number): Value => ({
  axes: { [axis]: size },
  dtype: "u32",
  data: Float64Array.from({ length: size }, (_, k) => k),
});

/** The same values with the axes in another order, or along further ones. */
export const expand = (x: Value, axes: Axes): Value => {
  const all = joined(axes, x.axes);
  if (alike(all, x.axes)) return x;
  const at = places(all, x.axes), data = new Float64Array(at.length);
  for (let k = 0; k < at.length; k++) data[k] = x.data[at[k]];
  return { axes: all, dtype: x.dtype, data };
};

// ---- functions of numbers -----------------------------------------------------------------------

const rootOfPi = Math.sqrt(Math.PI);
/** The error function: its Taylor series near zero, beyond 3 the continued fraction of 1 - erf. */
const erf = (x: number): number => {
  const a = Math.abs(x);
  if (a < 3) {
    let power = x, sum = x;
    for (let n = 1; n < 100; n++) {
      power *= -x * x / n;
      sum += power / (2 * n + 1);
    }
    return sum * 2 / rootOfPi;
  }
  let rest = a;
  for (let n = 80; n > 0; n--) rest = a + n / 2 / rest;
  return x < 0 ? Math.exp(-a * a) / rest / rootOfPi - 1 : 1 - Math.exp(-a * a) / rest / rootOfPi;
};
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const softplus = (x: number) => x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x));
const bits = (x: number) => new Uint32Array(Float32Array.of(x).buffer)[0];

const ofOne: Readonly<Record<string, (x: number) => number>> = {
  neg: (x) => -x,
  recip: (x) => 1 / x,
  exp: Math.exp,
  log: Math.log,
  log1p: Math.log1p,
  sin: Math.sin,
  cos: Math.cos,
  sqrt: Math.sqrt,
  tanh: Math.tanh,
  erf,
  floor: Math.floor,
  square: (x) => x * x,
  sigmoid,
  softplus,
  logSigmoid: (x) => -softplus(-x),
  silu: (x) => x * sigmoid(x),
  gelu: (x) => x * (1 + erf(x / Math.SQRT2)) / 2,
  relu: (x) => Math.max(x, 0),
  toFloat: (x) => x,
  toWord: Math.trunc,
  bits,
  isFinite: (x) => Number.isFinite(x) ? 1 : 0,
  stop: (x) => x,
  recompute: (x) => x,
};
const ofTwoFloats: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  max: Math.max,
  min: Math.min,
  less: (a, b) => a < b ? 1 : 0,
  equal: (a, b) => a === b ? 1 : 0,
};
const ofTwoWords: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => (a + b) % 2 ** 32,
  mul: (a, b) => Number(BigInt(a) * BigInt(b) % (1n << 32n)),
  max: Math.max,
  less: (a, b) => a < b ? 1 : 0,
  equal: (a, b) => a === b ? 1 : 0,
  xor: (a, b) => (a ^ b) >>> 0,
  shiftLeft: (a, b) => (a << b) >>> 0,
  shiftRight: (a, b) => a >>> b,
  quotient: (a, b) => Math.floor(a / b),
  remainder: (a, b) => a % b,
};

const dtypes: Readonly<Record<string, Dtype>> = {
  less: "bool",
  equal: "bool",
  isFinite: "bool",
  toFloat: "f32",
  toWord: "u32",
  bits: "u32",
};
/** The dtype of what a function of numbers gives. */
export const dtypeOf = (op: string, args: readonly { readonly dtype: Dtype }[]): Dtype =>
  dtypes[op] ?? args[op === "select" ? 1 : 0].dtype;

/** A function of numbers, element by element, by its name in the language. */
export const map = (op: string, ...args: readonly Value[]): Value => {
  const axes = args.map((arg) => arg.axes).reduce(joined, {});
  const [a, b, c] = args.map((arg) => ({ data: arg.data, at: places(axes, arg.axes) }));
  const data = new Float64Array(count(axes));
  if (op === "select") {
    for (let k = 0; k < data.length; k++) {
      data[k] = a.data[a.at[k]] !== 0 ? b.data[b.at[k]] : c.data[c.at[k]];
    }
    return { axes, dtype: dtypeOf(op, args), data };
  }
  if (args.length === 1) {
    const f = ofOne[op];
    for (let k = 0; k < data.length; k++) data[k] = f(a.data[a.at[k]]);
  } else {
    const f = (args[0].dtype === "f32" ? ofTwoFloats : ofTwoWords)[op];
    for (let k = 0; k < data.length; k++) data[k] = f(a.data[a.at[k]], b.data[b.at[k]]);
  }
  return { axes, dtype: dtypeOf(op, args), data };
};

// ---- reductions ---------------------------------------------------------------------------------

export const sum = (x: Value, over: readonly string[]): Value => {
  const axes = without(x.axes, over), to = places(x.axes, axes);
  const data = new Float64Array(count(axes));
  for (let k = 0; k < to.length; k++) data[to[k]] += x.data[k];
  return { axes, dtype: "f32", data };
};

export const maximum = (x: Value, over: readonly string[]): Value => {
  const axes = without(x.axes, over), to = places(x.axes, axes);
  const data = new Float64Array(count(axes)).fill(-Infinity);
  for (let k = 0; k < to.length; k++) data[to[k]] = Math.max(data[to[k]], x.data[k]);
  return { axes, dtype: "f32", data };
};

export const mean = (x: Value, over: readonly string[]): Value => {
  const total = sum(x, over), size = x.data.length / total.data.length;
  return { ...total, data: total.data.map((value) => value / size) };
};

export const contract = (a: Value, b: Value, over: readonly string[]): Value => {
  const space = joined(a.axes, b.axes), axes = without(space, over);
  const x = places(space, a.axes), y = places(space, b.axes), to = places(space, axes);
  const data = new Float64Array(count(axes));
  for (let k = 0; k < to.length; k++) data[to[k]] += a.data[x[k]] * b.data[y[k]];
  return { axes, dtype: "f32", data };
};

export const softmax = (x: Value, axis: string): Value => {
  const e = map("exp", map("sub", x, maximum(x, [axis])));
  return map("div", e, sum(e, [axis]));
};

// ---- movement -----------------------------------------------------------------------------------

/**
 * An axis replaced by others: for each of their elements, in order, which position of the axis is
 * read; -1 reads `fill`.
 */
const replaced = (
  x: Value,
  axis: string,
  into: Axes,
  positions: readonly number[],
  fill = 0,
): Value => {
  const rest = without(x.axes, [axis]);
  // The axis first, so that one of its positions is one block of memory.
  const turned = expand(x, { [axis]: x.axes[axis], ...rest }), block = count(rest);
  const data = new Float64Array(positions.length * block).fill(fill);
  positions.forEach((from, k) => {
    if (from >= 0 && from < x.axes[axis]) {
      data.set(turned.data.subarray(from * block, (from + 1) * block), k * block);
    }
  });
  return { axes: { ...into, ...rest }, dtype: x.dtype, data };
};
const upTo = (size: number) => Array.from({ length: size }, (_, k) => k);

export const rename = (x: Value, from: string, to: string): Value =>
  replaced(x, from, { [to]: x.axes[from] }, upTo(x.axes[from]));
export const split = (x: Value, axis: string, into: Axes): Value =>
  replaced(x, axis, into, upTo(x.axes[axis]));
export const slice = (x: Value, axis: string, start: number, length: number, step = 1): Value =>
  replaced(x, axis, { [axis]: length }, upTo(length).map((k) => start + k * step));
export const flip = (x: Value, axis: string): Value =>
  replaced(x, axis, { [axis]: x.axes[axis] }, upTo(x.axes[axis]).reverse());
export const pick = (x: Value, axis: string, position: number): Value =>
  replaced(x, axis, {}, [position]);
export const pad = (x: Value, axis: string, before: number, after: number, fill = 0): Value => {
  const length = before + x.axes[axis] + after;
  return replaced(x, axis, { [axis]: length }, upTo(length).map((k) => k - before), fill);
};
export const windows = (
  x: Value,
  axis: string,
  into: { readonly out: string; readonly tap: string; readonly size: number },
  { stride = 1, dilation = 1, before = 0, after = 0 },
): Value => {
  const padded = pad(x, axis, before, after);
  const starts: number[] = [];
  const reach = (into.size - 1) * dilation;
  for (let at = 0; at + reach < padded.axes[axis]; at += stride) starts.push(at);
  const positions = starts.flatMap((at) => upTo(into.size).map((tap) => at + tap * dilation));
  return replaced(padded, axis, { [into.out]: starts.length, [into.tap]: into.size }, positions);
};
export const merge = (x: Value, names: readonly string[], to: string): Value => {
  const rest = without(x.axes, names);
  const first = Object.fromEntries(names.map((name) => [name, x.axes[name]]));
  const turned = expand(x, { ...first, ...rest });
  return { axes: { [to]: count(first), ...rest }, dtype: x.dtype, data: turned.data };
};
export const concat = (a: Value, b: Value, axis: string): Value => {
  const rest = joined(without(a.axes, [axis]), without(b.axes, [axis]));
  const [x, y] = [a, b].map((one) => expand(one, { [axis]: one.axes[axis], ...rest }));
  return {
    axes: { [axis]: a.axes[axis] + b.axes[axis], ...rest },
    dtype: a.dtype,
    data: Float64Array.of(...x.data, ...y.data),
  };
};

/** Positions beyond the end read the last element. */
export const gather = (x: Value, axis: string, positions: Value): Value => {
  const rest = without(x.axes, [axis]);
  const axes = joined(rest, positions.axes);
  const turned = expand(x, { [axis]: x.axes[axis], ...rest }), block = count(rest);
  const within = places(axes, rest), at = places(axes, positions.axes);
  const data = Float64Array.from(within, (from, k) => {
    const position = Math.min(positions.data[at[k]], x.axes[axis] - 1);
    return turned.data[position * block + from];
  });
  return { axes, dtype: x.dtype, data };
};

// ---- scan ---------------------------------------------------------------------------------------

export type Named = Readonly<Record<string, Value>>;

/** A recurrence along an axis, forwards or backwards. */
export const scan = (
  over: string,
  from: Named,
  each: Named,
  step: (carry: Named, each: Named) => { readonly next: Named; readonly out: Named },
  reverse = false,
): { readonly final: Named; readonly out: Named } => {
  const length = Object.values(each)[0].axes[over];
  const outs: Named[] = [];
  let carry = from;
  for (let s = 0; s < length; s++) {
    const t = reverse ? length - 1 - s : s;
    const now = Object.fromEntries(
      Object.entries(each).map(([name, x]) => [name, pick(x, over, t)]),
    );
    const { next, out } = step(carry, now);
    carry = next;
    outs[t] = out;
  }
  const stacked = Object.keys(outs[0]).map((name) => {
    const { axes, dtype } = outs[0][name];
    const data = new Float64Array(length * count(axes));
    outs.forEach((out, t) => data.set(expand(out[name], axes).data, t * count(axes)));
    return [name, { axes: { [over]: length, ...axes }, dtype, data }];
  });
  return { final: carry, out: Object.fromEntries(stacked) };
};
