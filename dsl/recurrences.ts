// Recurrences along an axis, with axes in the types: scan, and what is made of it. A carry that a step
// gives other axes is a sentence in the editor and at run time (scan.ts has the untyped scan).
import type { AnyTensor, AxesOf, Clash, Drop, Fitting, Join, Same, Show, Tensor } from "./axes.ts";
import { drop, join, sizeOf } from "./axes.ts";
import { nodeOf, tensorOf } from "./node.ts";
import { apply, float } from "./primitives.ts";
import { type Nodes, part, scanNode } from "./scan.ts";
import * as structure from "./structure.ts";

/** Tensors by name. */
export type TensorRecord = { readonly [name: string]: AnyTensor };
/** One slice of each input, without the axis. */
export type Slices<E, K> = { readonly [N in keyof E]: Tensor<Drop<AxesOf<E[N]>, K>["axes"]> };
/** The size of the axis. */
export type Length<E, K> = E[keyof E] extends infer T
  ? AxesOf<T> extends infer A ? K extends keyof A ? A[K] : never : never
  : never;

/** The sentence for a carry `N` that starts with the axes `A` and has `B` after the step. */
export type Drifted<N, A, B> = [Exclude<keyof B, keyof A>] extends [never]
  ? [Exclude<keyof A, keyof B>] extends [never]
    ? Clash<A, B> extends infer K
      ? K extends keyof A & keyof B
        ? `axis '${Show<K>}' of the carry '${Show<N>}' is ${Show<A[K]>} at the start but ${Show<
          B[K]
        >} after the step`
      : never
    : never
  : `the step loses the axis '${Show<Exclude<keyof A, keyof B>>}' of the carry '${Show<N>}'`
  : `the step gives the carry '${Show<N>}' the axis '${Show<
    Exclude<keyof B, keyof A>
  >}', which it does not start with`;
/** True when a carry of the axes `A` may have `B` after a step. */
export type Continues<A, B> = Same<A, B> extends true ? true
  : string extends keyof A | keyof B ? true
  : [Exclude<keyof A, keyof B> | Exclude<keyof B, keyof A> | Clash<A, B>] extends [never] ? true
  : false;
/** What a step returns: every carry with the axes that it starts with, else the sentence. */
export type Carried<H, N> = [Exclude<keyof H, keyof N>] extends [never] ? {
    readonly [M in keyof H & keyof N]: Continues<AxesOf<H[M]>, AxesOf<N[M]>> extends true ? N[M]
      : Drifted<M, AxesOf<H[M]>, AxesOf<N[M]>>;
  }
  : `the step gives no next value for the carry '${Show<Exclude<keyof H, keyof N>>}'`;

/** The inputs whose slices have the axes `A`: such a slice, stacked, has the axes of the input. */
export type SlicedLike<E, K, A> = {
  [N in keyof E]: Same<Drop<AxesOf<E[N]>, K>["axes"], A> extends true ? N : never;
}[keyof E];
/** Values of all steps, stacked along the axis. */
export type Stacked<Y, E, K extends string> = {
  readonly [M in keyof Y]: Tensor<
    [SlicedLike<E, K, AxesOf<Y[M]>>] extends [never] ? {
        [P in keyof AxesOf<Y[M]> | K]: P extends K ? Length<E, K>
          : P extends keyof AxesOf<Y[M]> ? AxesOf<Y[M]>[P]
          : never;
      }
      : AxesOf<E[SlicedLike<E, K, AxesOf<Y[M]>>]>
  >;
};

/** What a recurrence runs over: the carries at the start, and inputs that have the axis. */
export interface Recurrence<K extends string, H, E> {
  /** The axis. */
  readonly over: K;
  /** The carries at the start, by name. */
  readonly from: H;
  /** Inputs that have the axis, by name. */
  readonly each: E;
  /** From the last position to the first. */
  readonly reverse?: boolean;
}

const traced = (
  { over, from, each, reverse = false }: Recurrence<string, TensorRecord, TensorRecord>,
  step: Parameters<typeof scanNode>[3],
): { readonly final: TensorRecord; readonly out: TensorRecord } => {
  const as = (record: TensorRecord) => record as unknown as Nodes;
  const made = scanNode(over, as(from), as(each), step, reverse);
  const collect = (kind: "final" | "out", keys: readonly string[]) =>
    Object.fromEntries(keys.map((key) => [key, tensorOf(part(made, kind, key))]));
  return {
    final: collect("final", Object.keys(from)),
    out: collect("out", Object.keys(made.attributes.step!.out)),
  };
};

/**
 * A recurrence along an axis. `from` are the carries at the start; `each` the inputs that have the
 * axis; `step` maps the carries and one slice of each input to the next carries and one slice of
 * each output. Gives the last carries and the outputs stacked along the axis again.
 *
 * ```ts
 * import { add, input, mul, scan, constant } from "@formant/formant";
 * const x = input("x", { time: 5 });
 * const { out } = scan({ over: "time", from: { h: constant(0) }, each: { x } }, ({ h }, { x }) => {
 *   const next = add(mul(h, 0.9), x);
 *   return { next: { h: next }, out: { y: next } };
 * });
 * ```
 *
 * Throws `AxisError` when the step changes a carry's axes.
 */
export const scan = <
  // The axes that all inputs have, so that editors complete them.
  const K extends keyof AxesOf<E[keyof E]> & string,
  H extends TensorRecord,
  E extends TensorRecord,
  N extends TensorRecord,
  Y extends TensorRecord,
>(
  along: Recurrence<K, H, E>,
  step: (
    carry: H,
    each: Slices<E, K>,
  ) => { readonly next: N & Carried<H, N>; readonly out: Y },
): { readonly final: H; readonly out: Stacked<Y, E, K> } =>
  traced(along, (carry, each) => {
    const { next, out } = step(carry as unknown as H, each as unknown as Slices<E, K>);
    return { next: next as unknown as Nodes, out: out as unknown as Nodes };
  }) as unknown as { readonly final: H; readonly out: Stacked<Y, E, K> };

/**
 * The carries of a recurrence after every step, stacked along the axis: `scan` whose outputs are the
 * next carries.
 *
 * ```ts
 * import { add, input, mul, constant, states } from "@formant/formant";
 * const x = input("x", { time: 5 });
 * const { h } = states(
 *   { over: "time", from: { h: constant(0) }, each: { x } },
 *   ({ h }, { x }) => ({ h: add(mul(h, 0.9), x) }),
 * );
 * ```
 */
export const states = <
  const K extends keyof AxesOf<E[keyof E]> & string,
  H extends TensorRecord,
  E extends TensorRecord,
  N extends TensorRecord,
>(
  along: Recurrence<K, H, E>,
  step: (carry: H, each: Slices<E, K>) => N & Carried<H, N>,
): Stacked<H, E, K> =>
  traced(along, (carry, each) => {
    const next = step(carry as unknown as H, each as unknown as Slices<E, K>) as unknown as Nodes;
    return { next, out: next };
  }).out as unknown as Stacked<H, E, K>;

/**
 * The first-order linear recurrence h' = a · h + b from h = 0, at every step along `over`.
 * Both sides are joined; the result has `over` too.
 */
export const recurrence = <A, B, const K extends keyof A & keyof B & string>(
  over: K,
  a: Tensor<A>,
  b: Fitting<A, B>,
  { reverse = false }: { readonly reverse?: boolean } = {},
): Tensor<Join<A, B>["axes"]> => {
  const x = nodeOf(a), y = nodeOf(b as AnyTensor);
  const start = structure.expand(float(0), drop(join(x.axes, y.axes), [over]));
  const made = scanNode(over, { h: start }, { a: x, b: y }, ({ h }, { a, b }) => {
    const next = apply("add", apply("mul", a, h), b);
    return { next: { h: next }, out: { h: next } };
  }, reverse);
  return tensorOf(part(made, "out", "h"));
};

/** The sum of an element and of all before it along an axis. */
export const cumsum = <A, const K extends keyof A & string>(x: Tensor<A>, over: K): Tensor<A> => {
  const n = nodeOf(x);
  return recurrence(over, tensorOf<A>(structure.expand(float(1), n.axes)), x);
};

/** The element before, along an axis; `first` at the first position. */
export const previous = <A, const K extends keyof A & string>(
  x: Tensor<A>,
  axis: K,
  first = 0,
): Tensor<A> => {
  const n = nodeOf(x);
  return tensorOf(
    structure.slice(structure.pad(n, axis, 1, 0, first), axis, 0, sizeOf(n.axes, axis)),
  );
};
