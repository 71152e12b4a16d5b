// The structural primitives on nodes: leaves, reduction, gather, and the single affine `index` node
// behind every movement (rename, split, merge, slice, pad, flip, windows, pick, expand). They check
// at run time and build; ops.ts gives them types.
import {
  type Axes,
  AxisError,
  drop,
  join,
  requireAxis,
  requireFree,
  sameAxes,
  showAxes,
  sizeOf,
  volume,
} from "./axes.ts";
import { type AffineIndex, type Dtype, type Initialiser, intern, type Node } from "./node.ts";
import { apply, float } from "./primitives.ts";

/** The place that reads an axis unchanged, or under another name. */
export const at = (axis: string, times = 1, plus = 0): AffineIndex => ({
  terms: [{ axis, times }],
  offset: plus,
  divisor: 1,
  exact: false,
  modulo: 0,
});

/** The place that always reads one position. */
export const fixed = (plus: number): AffineIndex => ({
  terms: [],
  offset: plus,
  divisor: 1,
  exact: false,
  modulo: 0,
});

/** An index node: elements read at other places; positions outside of the input give `fill`. */
export const index = (
  x: Node,
  axes: Axes,
  places: Readonly<Record<string, AffineIndex>>,
  fill = 0,
): Node => {
  const all: Record<string, AffineIndex> = {};
  for (const axis of Object.keys(x.axes)) all[axis] = places[axis] ?? at(axis);
  const still = Object.keys(all).every((axis) => isIdentity(all[axis], axis)) &&
    sameAxes(axes, x.axes);
  if (still) return x;
  // Only floats can be padded with anything but zero; u32 and bool read 0 outside.
  return intern("index", x.dtype, axes, [x], { places: all, fill });
};

/** True for the place that reads `axis` unchanged. */
export const isIdentity = (place: AffineIndex, axis: string): boolean =>
  place.terms.length === 1 && place.terms[0].axis === axis && place.terms[0].times === 1 &&
  place.offset === 0 && place.divisor === 1 && place.modulo === 0;

const replaced = (of: Axes, from: string, by: Axes): Axes => {
  const rest = drop(of, [from]);
  for (const axis of Object.keys(by)) requireFree(rest, axis);
  const entries = Object.entries(of).flatMap(([axis, size]) =>
    axis === from ? Object.entries(by) : [[axis, size] as const]
  );
  return Object.fromEntries(entries);
};

export const rename = (x: Node, from: string, to: string): Node => {
  requireAxis(x.axes, from);
  if (from === to) return x;
  requireFree(x.axes, to);
  return index(x, replaced(x.axes, from, { [to]: x.axes[from] }), { [from]: at(to) });
};

export const split = (x: Node, axis: string, into: Axes): Node => {
  const size = sizeOf(x.axes, axis);
  const names = Object.keys(into);
  if (volume(into) !== size) {
    const product = names.map((name) => `${name} ${into[name]}`).join(" x ");
    throw new AxisError(`cannot split '${axis}' (${size}) into ${product} = ${volume(into)}`);
  }
  let times = size;
  const terms = names.map((name) => {
    times /= sizeOf(into, name);
    return { axis: name, times };
  });
  return index(x, replaced(x.axes, axis, into), {
    [axis]: { terms, offset: 0, divisor: 1, exact: false, modulo: 0 },
  });
};

export const merge = (x: Node, names: readonly string[], to: string): Node => {
  const total = names.reduce((product, name) => product * sizeOf(x.axes, name), 1);
  const rest = drop(x.axes, names);
  requireFree(rest, to);
  let over = total;
  const places: Record<string, AffineIndex> = {};
  for (const name of names) {
    const size = sizeOf(x.axes, name);
    over /= size;
    places[name] = {
      terms: [{ axis: to, times: 1 }],
      offset: 0,
      divisor: over,
      exact: false,
      modulo: size,
    };
  }
  const entries = Object.entries(x.axes).flatMap(([axis, size]) =>
    axis === names[0] ? [[to, total] as const] : axis in rest ? [[axis, size] as const] : []
  );
  return index(x, Object.fromEntries(entries), places);
};

export const slice = (x: Node, axis: string, start: number, length: number, step = 1): Node => {
  const size = sizeOf(x.axes, axis);
  const last = start + (length - 1) * step;
  if (start < 0 || length < 1 || last >= size || last < 0) {
    throw new AxisError(
      `cannot take ${length} from ${start} by steps of ${step} along '${axis}', which has ${size}`,
    );
  }
  return index(x, { ...x.axes, [axis]: length }, { [axis]: at(axis, step, start) });
};

export const pad = (x: Node, axis: string, before: number, after: number, fill = 0): Node => {
  const size = sizeOf(x.axes, axis);
  if (before < 0 || after < 0) throw new AxisError(`cannot pad '${axis}' by a negative amount`);
  return index(
    x,
    { ...x.axes, [axis]: size + before + after },
    { [axis]: at(axis, 1, -before) },
    fill,
  );
};

export const flip = (x: Node, axis: string): Node =>
  index(x, x.axes, { [axis]: at(axis, -1, sizeOf(x.axes, axis) - 1) });

export const windows = (
  x: Node,
  axis: string,
  into: { readonly out: string; readonly tap: string; readonly size: number },
  { stride = 1, dilation = 1, before = 0, after = 0 }: WindowOptions,
): Node => {
  const span = (into.size - 1) * dilation + 1;
  const count = Math.floor((sizeOf(x.axes, axis) + before + after - span) / stride) + 1;
  if (count < 1) {
    throw new AxisError(
      `a window of ${span} does not fit into '${axis}', which has ${sizeOf(x.axes, axis)}` +
        ` and padding ${before} + ${after}`,
    );
  }
  const terms = [{ axis: into.out, times: stride }, { axis: into.tap, times: dilation }];
  return index(x, replaced(x.axes, axis, { [into.out]: count, [into.tap]: into.size }), {
    [axis]: { terms, offset: -before, divisor: 1, exact: false, modulo: 0 },
  });
};

/** How windows slide: padding counts positions of zeros before and after the axis. */
export interface WindowOptions {
  /** Positions from one window to the next; 1. */
  readonly stride?: number;
  /** Positions from one tap to the next; 1. */
  readonly dilation?: number;
  /** Zeros before the axis; none. */
  readonly before?: number;
  /** Zeros after the axis; none. */
  readonly after?: number;
}

export const pick = (x: Node, axis: string, position: number): Node => {
  const size = sizeOf(x.axes, axis);
  if (!(Number.isInteger(position) && position >= 0 && position < size)) {
    throw new AxisError(`cannot pick ${position} along '${axis}', which has ${size}`);
  }
  return index(x, drop(x.axes, [axis]), { [axis]: fixed(position) });
};

/** The same values along further axes. */
export const expand = (x: Node, axes: Axes): Node => index(x, join(axes, x.axes), {});

export const reduce = (x: Node, how: "add" | "max", over: readonly string[]): Node => {
  if (x.dtype !== "f32") throw new AxisError(`reduce takes an f32, but got ${x.dtype}`);
  const axes = drop(x.axes, over);
  return over.length === 0
    ? x
    : intern("reduce", "f32", axes, [x], { how, over: [...over].sort() });
};

/** Sum over all named axes whether or not `x` has them: an axis that it lacks counts its size. */
export const sumOver = (x: Node, axes: Axes): Node => {
  const there = Object.keys(axes).filter((axis) => axis in x.axes);
  const times = Object.keys(axes).filter((axis) => !(axis in x.axes))
    .reduce((product, axis) => product * sizeOf(axes, axis), 1);
  return apply("mul", reduce(x, "add", there), float(times));
};

export const iota = (axis: string, size: number | string): Node =>
  intern("iota", "u32", { [axis]: size }, [], { axis });

export const gather = (x: Node, axis: string, positions: Node): Node => {
  requireAxis(x.axes, axis);
  if (positions.dtype !== "u32") {
    throw new AxisError(`positions must be u32, not ${positions.dtype}`);
  }
  if (axis in positions.axes) {
    throw new AxisError(`axis '${axis}' is looked up; the positions can not have it as well`);
  }
  return intern("gather", x.dtype, join(drop(x.axes, [axis]), positions.axes), [x, positions], {
    axis,
  });
};

export const input = (name: string, axes: Axes, dtype: Dtype): Node =>
  intern("input", dtype, axes, [], { name });

export const param = (name: string, axes: Axes, init: Initialiser, trainable: boolean): Node =>
  intern("param", "f32", axes, [], { name, init, trainable });

export const literal = (axes: Axes, data: Float32Array | Uint32Array): Node => {
  if (data.length !== volume(axes)) {
    throw new AxisError(`${showAxes(axes)} has ${volume(axes)} elements, but got ${data.length}`);
  }
  return intern("literal", data instanceof Float32Array ? "f32" : "u32", axes, [], { data });
};
