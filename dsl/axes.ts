// Named axes: the types that let TypeScript check them, and the same checks with the same
// sentences at run time. Record types of results are built from key unions, never from `A & B`
// or `Omit`: intersections double the checker's work at every residual connection.

/** A size: a number, or the name of a size that is bound when a program is compiled. */
export type Size = number | string;

/** Axis names with their sizes, e.g. `{ batch: 8, time: 250, channel: 192 }`. Order means nothing. */
export type Axes = { readonly [axis: string]: Size };

/** The key under which the type of a tensor holds the names of its axes, for the checker only. */
export declare const names: unique symbol;
/** The key under which the type of a tensor holds the sizes of its axes, for the checker only. */
export declare const sizes: unique symbol;

/**
 * An expression whose value has the axes `A`. The type is invariant in the names of axes and
 * covariant in their sizes: a tensor with more axes is not a tensor with fewer, so an axis cannot get
 * lost by assignment; a tensor of 250 is a tensor of `number`, so a program that knows its sizes can
 * call a model that does not.
 */
export interface Tensor<A> {
  /** A parameter of a function: assignable only to the same names. No tensor has it at run time. */
  readonly [names]: (has: { readonly [P in keyof A]: unknown }) => void;
  /** Assignable where the sizes are. No tensor has it at run time. */
  readonly [sizes]: { readonly [P in keyof A]: A[P] };
}

/** No axes: those of a scalar. */
export type None = Record<never, never>;

/** Axes of which a generic function needs one: `<A extends Has<"token">>(x: Tensor<A>)`. */
export type Has<K extends string> = { readonly [P in K]: Size };

/** A tensor of any axes, where only the value matters (storage, walks over graphs). */
// deno-lint-ignore no-explicit-any
export type AnyTensor = Tensor<any>;

/** The axes of a tensor type. */
export type AxesOf<T> = T extends Tensor<infer A> ? A : never;

/**
 * True when two types are the same. Comparing generic functions settles at once also for type
 * parameters, where a conditional on them would wait.
 */
export type Same<X, Y> = (<T>() => T extends X ? 1 : 2) extends (<T>() => T extends Y ? 1 : 2)
  ? true
  : false;
/**
 * True when two sizes can be the same: equal, or one unknown to the checker (`any`, or a `number`
 * beside a literal, which the same check at run time compares). A `number` is no symbolic size.
 */
export type Agree<X, Y> = Same<X, Y> extends true ? true
  : 0 extends (1 & X) ? true
  : 0 extends (1 & Y) ? true
  : number extends X ? Y extends number ? true : false
  : number extends Y ? X extends number ? true : false
  : false;
/** The names of the axes on whose size two records disagree. */
export type Clash<A, B> = {
  [K in keyof A & keyof B]: Agree<A[K], B[K]> extends true ? never : K;
}[keyof A & keyof B];
/** A size as a sentence shows it. */
export type Show<T> = T extends string | number ? `${T}` : "?";

/** The sentence for two records that disagree about the size of an axis. */
export type Mismatch<A, B, K = Clash<A, B>> = K extends keyof A & keyof B
  ? `axis '${Show<K>}' is ${Show<A[K]>} on the left but ${Show<B[K]>} on the right`
  : never;

/**
 * The parameter type of a right operand: itself when the sizes agree, else the sentence. The same axes
 * agree whatever they are, so that generic functions can combine tensors of one `A`.
 */
export type Fitting<A, B> = Same<A, B> extends true ? Tensor<B>
  : [Clash<A, B>] extends [never] ? Tensor<B>
  : Mismatch<A, B>;

/** An operand: a tensor, or a number, which has no axes. */
export type Value = AnyTensor | number;
/** The axes of an operand. */
export type Of<T> = T extends Tensor<infer A> ? A : None;
/** The parameter type of a right operand `T` next to the axes `A`: itself, else the sentence. */
export type Operand<A, T> = T extends Tensor<infer B> ? Fitting<A, B> : T;

/** The sentence for an axis of `B` that `A` lacks. */
export type Foreign<A, B> = Exclude<keyof B, keyof A> extends infer P
  ? `axis '${Show<P>}' is on the right but not on the left`
  : never;

/**
 * The parameter type of an operand that is broadcast to the axes `A`: itself when its axes are among
 * them and the sizes agree, else the sentence. `K` are its axes where only their names are known.
 */
export type Within<A, K extends keyof A, B> = Same<B, { [P in K]: A[P] }> extends true
  ? Tensor<{ [P in K]: A[P] }> | number
  : string extends keyof B ? Tensor<B> | number
  : [Exclude<keyof B, keyof A>] extends [never]
    ? [Clash<A, B>] extends [never] ? Tensor<B> | number : Mismatch<A, B>
  : Foreign<A, B>;

/** The parameter type of a tensor that is continued along the axis `K`: its other axes are those of `A`. */
export type Following<A, B, K> = Same<A, B> extends true ? Tensor<B>
  : string extends keyof A | keyof B ? Tensor<B>
  : [Exclude<keyof A, keyof B>] extends [never]
    ? [Exclude<keyof B, keyof A>] extends [never]
      ? Fitting<Drop<A, K>["axes"], Drop<B, K>["axes"]> extends Tensor<Drop<B, K>["axes"]>
        ? Tensor<B>
      : Mismatch<Drop<A, K>["axes"], Drop<B, K>["axes"]>
    : Foreign<A, B>
  : `axis '${Show<Exclude<keyof A, keyof B>>}' is on the left but not on the right`;

// Type functions from axes to axes. They are interfaces, read as `Join<A, B>["axes"]`, and not
// aliases: editors and messages then show the resulting axes.

/** The axes `A` as they are, writable. */
export interface Plain<A> {
  /** The result. */
  readonly axes: { -readonly [P in keyof A]: A[P] };
}

/**
 * The axes of an outer join: those of both sides. The same axes stay as they are, also where they are a
 * type parameter, so that residual connections do not nest mapped types.
 */
export interface Join<A, B> {
  /** The result. */
  readonly axes: Same<A, B> extends true ? A : {
    [P in keyof A | keyof B]: P extends keyof A ? A[P] : P extends keyof B ? B[P] : never;
  };
}

/** The axes of two operands, of which either may be a number. */
export interface Both<X, Y> {
  /** The result. */
  readonly axes: Y extends number ? Of<X> : X extends number ? Of<Y> : Join<Of<X>, Of<Y>>["axes"];
}

/** `A` without the axes `K`. */
export interface Drop<A, K> {
  /** The result. */
  readonly axes: { [P in Exclude<keyof A, K>]: A[P] };
}

/** `A` with the axes of `B` put in place of the axis `K`. */
export interface Replace<A, K, B> {
  /** The result. */
  readonly axes: {
    [P in Exclude<keyof A, K> | keyof B]: P extends keyof B ? B[P]
      : P extends keyof A ? A[P]
      : never;
  };
}

/** The parameter type of a new axis name: itself if it is free (or unknown), else the sentence. */
export type Free<A, T extends string> = string extends keyof A ? T
  : T extends keyof A ? `axis '${T}' already exists`
  : T;

/** A mistake in the use of axes or dtypes. It is thrown at the line that made it. */
export class AxisError extends Error {
  /** What the runtime prints before the message. */
  override name = "AxisError";
}

/** The sentence for the first axis on which two records disagree, if there is one. */
export const mismatch = (left: Axes, right: Axes): string | undefined => {
  for (const axis of Object.keys(left)) {
    if (axis in right && left[axis] !== right[axis]) {
      return `axis '${axis}' is ${left[axis]} on the left but ${right[axis]} on the right`;
    }
  }
};

/** The run-time side of `Join`: throws {@link AxisError} with the sentence that the types promise. */
export const join = (left: Axes, right: Axes): Axes => {
  const sentence = mismatch(left, right);
  if (sentence !== undefined) throw new AxisError(sentence);
  return { ...left, ...right };
};

/** The run-time side of `Drop`: throws if an axis to drop is missing. */
export const drop = (from: Axes, names: readonly string[]): Axes => {
  for (const name of names) requireAxis(from, name);
  return Object.fromEntries(Object.entries(from).filter(([axis]) => !names.includes(axis)));
};

/** Throws if `axis` is not one of the axes; the message lists the existing ones. */
export const requireAxis = (from: Axes, axis: string): void => {
  if (!(axis in from)) {
    const there = Object.keys(from).map((name) => `'${name}'`).join(", ") || "no axes";
    throw new AxisError(`axis '${axis}' does not exist here; there is ${there}`);
  }
};

/** Throws when `axis` is already one of the axes. */
export const requireFree = (from: Axes, axis: string): void => {
  if (axis in from) throw new AxisError(`axis '${axis}' already exists`);
};

/** A size that must be a number by now: movement along an axis needs to know how long it is. */
export const sizeOf = (from: Axes, axis: string): number => {
  requireAxis(from, axis);
  const size = from[axis];
  if (typeof size === "number") return size;
  throw new AxisError(
    `axis '${axis}' has the symbolic size ${size}; this operation moves along it and needs a number`,
  );
};

/** True when two records have the same axes with the same sizes, in whatever order. */
export const sameAxes = (left: Axes, right: Axes): boolean =>
  Object.keys(left).length === Object.keys(right).length &&
  Object.keys(left).every((axis) => left[axis] === right[axis]);

/** How many elements a value of these axes has. */
export const volume = (of: Axes): number =>
  Object.keys(of).reduce((product, axis) => product * sizeOf(of, axis), 1);

/** `{ batch: 8, time: 250 }`, as a person writes it. */
export const showAxes = (of: Axes): string => {
  const inside = Object.entries(of).map(([axis, size]) => `${axis}: ${size}`).join(", ");
  return inside === "" ? "{}" : `{ ${inside} }`;
};
