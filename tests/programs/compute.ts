// Terms computed at once with the eager library, which knows nothing of the language's graphs.
import * as eager from "../support/eager.ts";
import type { Value } from "../support/eager.ts";
import { type Language, type Term, translate } from "./terms.ts";

/** What inputs and parameters hold, row-major in the order of their axes. */
export type Leaves = Readonly<Record<string, ArrayLike<number>>>;

/** The least distance between the largest and another that is not equal to it; infinite if none. */
const gapOf = ({ op, over }: Term, args: readonly Value[], y: Value): number => {
  let least = Infinity;
  const see = (gap: number) => {
    if (gap > 0 && gap < least) least = gap;
  };
  if (op === "maximum") {
    const at = eager.places(args[0].axes, eager.without(args[0].axes, over!));
    args[0].data.forEach((x, k) => see(y.data[at[k]] - x));
  } else if (op === "max" || op === "min") {
    const [a, b] = args.map((arg) => eager.expand(arg, y.axes));
    const [x, z] = [a, b].map((one) => eager.places(y.axes, one.axes));
    for (let k = 0; k < x.length; k++) see(Math.abs(a.data[x[k]] - b.data[z[k]]));
  } else if (op === "relu") args[0].data.forEach((x) => see(Math.abs(x)));
  return least;
};

/** Operations whose results float32 holds exactly if it does their arguments. */
const exact = new Set([
  ...["max", "min", "neg", "relu", "select", "floor", "stop", "recompute", "toFloat", "maximum"],
  ...["rename", "split", "merge", "slice", "pad", "flip", "pick", "expand", "windows", "concat"],
  ...["gather"],
]);
const isPowerOfTwo = ({ op, value }: Term): boolean =>
  op === "const" && Number.isInteger(Math.log2(Math.abs(value!)));

/** A value as if its float32 had been rounded a little wrongly, each element in its own way. */
const rounded = (of: Term, x: Value): Value => {
  if (x.dtype !== "f32" || exact.has(of.op)) return x;
  if (of.op === "mul" && of.args.some(isPowerOfTwo)) return x;
  let state = of.id;
  const data = x.data.map((value) => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return value * (1 + (state >> 8) * 2 ** -45);
  });
  return { ...x, data };
};

const applied = (of: Term, args: readonly Value[], gap: (size: number) => void): Value => {
  const { op, axis, over, to, into, numbers, reverse } = of;
  const [a, b] = args;
  switch (op) {
    case "sum":
    case "mean":
      return eager[op](a, over!);
    case "contract":
      return eager.contract(a, b, over!);
    case "softmax":
      return eager.softmax(a, axis!);
    case "flip":
      return eager.flip(a, axis!);
    case "rename":
      return eager.rename(a, axis!, to!);
    case "merge":
      return eager.merge(a, over!, to!);
    case "split":
      return eager.split(a, axis!, into!);
    case "expand":
      return eager.expand(a, into!);
    case "slice":
      return eager.slice(a, axis!, numbers![0], numbers![1], numbers![2]);
    case "pad":
      return eager.pad(a, axis!, numbers![0], numbers![1], numbers![2]);
    case "pick":
      return eager.pick(a, axis!, numbers![0]);
    case "windows": {
      const [size, stride, dilation, before, after] = numbers!, [out, tap] = over!;
      return eager.windows(a, axis!, { out, tap, size }, { stride, dilation, before, after });
    }
    case "concat":
      return eager.concat(a, b, axis!);
    case "gather":
      return eager.gather(a, axis!, b);
    case "recurrence": {
      const zero = eager.expand(eager.scalarOf(0), eager.without(of.axes, [axis!]));
      const step = ({ h }: eager.Named, { a, b }: eager.Named) => {
        const next = eager.map("add", eager.map("mul", a, h), b);
        return { next: { h: next }, out: { h: next } };
      };
      return eager.scan(axis!, { h: zero }, { a, b }, step, reverse).out.h;
    }
    default: {
      const y = op === "maximum" ? eager.maximum(a, over!) : eager.map(op, ...args);
      gap(gapOf(of, args, y));
      return y;
    }
  }
};

const language = (
  leaves: Leaves,
  gap: (size: number) => void,
  round: (of: Term, x: Value) => Value,
): Language<Value> => ({
  leaf: (of) => {
    if (of.op === "const") return eager.scalarOf(of.value!, of.dtype);
    if (of.op === "iota") return eager.iota(of.axis!, of.axes[of.axis!]);
    const { axes, dtype } = of;
    return { axes, dtype, data: Float64Array.from(leaves[of.name!]) };
  },
  apply: (of, args) => round(of, applied(of, args, gap)),
  scan: ({ axis, reverse }, from, each, step) => eager.scan(axis!, from, each, step, reverse),
});

/** What was computed, and how near the nearest maximum came to be attained elsewhere. */
export interface Computed {
  readonly values: readonly Value[];
  readonly gap: number;
}

/** The values of some terms in float64. */
export const compute = (
  roots: readonly Term[],
  leaves: Leaves,
  round: (of: Term, x: Value) => Value = (_, x) => x,
): Computed => {
  let least = Infinity;
  const values = translate(roots, language(leaves, (gap) => least = Math.min(least, gap), round));
  return { values, gap: least };
};

/** The same with results of operations off by about as much as float32 rounds them. */
export const computeRounded = (roots: readonly Term[], leaves: Leaves): Computed =>
  compute(roots, leaves, rounded);
