// Programs as data: terms name operations of the language with their arguments, and know the axes and
// the dtype of what they stand for. A term can be translated into an expression (express.ts) or
// computed at once (compute.ts); `translate` walks it for both.
import { type Axes, count, type Dtype, dtypeOf, joined, without } from "../support/eager.ts";

export type { Axes, Dtype };

/** A scan's step: leaves for carries and slices, and what is made of them. */
export interface Step {
  readonly carry: Terms;
  readonly each: Terms;
  readonly next: Terms;
  readonly out: Terms;
  /** What the step computes with, in an order in which arguments come first. */
  readonly inside: readonly Term[];
  /** What it uses from outside. */
  readonly outside: readonly Term[];
}

export interface Term {
  /** Grows with creation: arguments have smaller ones. */
  readonly id: number;
  readonly op: string;
  readonly axes: Axes;
  readonly dtype: Dtype;
  readonly args: readonly Term[];
  readonly name?: string;
  readonly value?: number;
  readonly axis?: string;
  readonly over?: readonly string[];
  readonly to?: string;
  readonly into?: Axes;
  /** Whole numbers that the operation takes beside its arguments, in the order in which it does. */
  readonly numbers?: readonly number[];
  readonly reverse?: boolean;
  readonly step?: Step;
}
export type Terms = Readonly<Record<string, Term>>;

let nextId = 0;
const term = (
  op: string,
  dtype: Dtype,
  axes: Axes,
  args: readonly Term[],
  more: Partial<Term> = {},
): Term => ({ id: nextId++, op, dtype, axes, args, ...more });

export const input = (name: string, axes: Axes, dtype: Dtype = "f32") =>
  term("input", dtype, axes, [], { name });
export const param = (name: string, axes: Axes) => term("param", "f32", axes, [], { name });
export const local = (name: string, axes: Axes, dtype: Dtype) =>
  term("local", dtype, axes, [], { name });
export const constant = (value: number, dtype: Dtype = "f32") =>
  term("const", dtype, {}, [], { value });
export const iota = (axis: string, size: number) =>
  term("iota", "u32", { [axis]: size }, [], { axis });

/** A function of numbers, element by element. */
export const map = (op: string, ...args: readonly Term[]): Term =>
  term(
    op,
    dtypeOf(op, args),
    args.map((arg) => arg.axes).reduce(joined, {}),
    args,
  );
export const scale = (x: Term, by: number): Term => by === 1 ? x : map("mul", x, constant(by));

export const reduce = (op: "sum" | "maximum" | "mean", x: Term, over: readonly string[]): Term =>
  over.length === 0 ? x : term(op, "f32", without(x.axes, over), [x], { over });
export const contract = (a: Term, b: Term, over: readonly string[]): Term =>
  term("contract", "f32", without(joined(a.axes, b.axes), over), [a, b], { over });
export const softmax = (x: Term, axis: string): Term =>
  term("softmax", "f32", x.axes, [x], { axis });

const replaced = (x: Term, axis: string, into: Axes): Axes => ({
  ...without(x.axes, [axis]),
  ...into,
});
export const rename = (x: Term, axis: string, to: string): Term =>
  axis === to
    ? x
    : term("rename", x.dtype, replaced(x, axis, { [to]: x.axes[axis] }), [x], { axis, to });
export const split = (x: Term, axis: string, into: Axes): Term =>
  term("split", x.dtype, replaced(x, axis, into), [x], { axis, into });
export const merge = (x: Term, over: readonly string[], to: string): Term => {
  const size = over.reduce((product, axis) => product * x.axes[axis], 1);
  return term("merge", x.dtype, { ...without(x.axes, over), [to]: size }, [x], { over, to });
};
export const slice = (x: Term, axis: string, start: number, length: number, step = 1): Term =>
  term("slice", x.dtype, { ...x.axes, [axis]: length }, [x], {
    axis,
    numbers: [start, length, step],
  });
export const pad = (x: Term, axis: string, before: number, after: number, fill = 0): Term =>
  term("pad", x.dtype, { ...x.axes, [axis]: before + x.axes[axis] + after }, [x], {
    axis,
    numbers: [before, after, fill],
  });
export const flip = (x: Term, axis: string): Term => term("flip", x.dtype, x.axes, [x], { axis });
export const pick = (x: Term, axis: string, position: number): Term =>
  term("pick", x.dtype, without(x.axes, [axis]), [x], { axis, numbers: [position] });
export const expand = (x: Term, axes: Axes): Term =>
  Object.keys(axes).every((axis) => axis in x.axes)
    ? x
    : term("expand", x.dtype, joined(axes, x.axes), [x], { into: axes });
/** Undefined where no window fits. */
export const windows = (
  x: Term,
  axis: string,
  out: string,
  tap: string,
  size: number,
  stride: number,
  dilation: number,
  before: number,
  after: number,
): Term | undefined => {
  const room = x.axes[axis] + before + after - (size - 1) * dilation - 1;
  if (room < 0) return undefined;
  return term(
    "windows",
    x.dtype,
    replaced(x, axis, { [out]: Math.floor(room / stride) + 1, [tap]: size }),
    [x],
    { axis, over: [out, tap], numbers: [size, stride, dilation, before, after] },
  );
};
export const concat = (a: Term, b: Term, axis: string): Term =>
  term(
    "concat",
    a.dtype,
    {
      ...joined(without(a.axes, [axis]), without(b.axes, [axis])),
      [axis]: a.axes[axis] + b.axes[axis],
    },
    [a, b],
    { axis },
  );
export const gather = (x: Term, axis: string, positions: Term): Term =>
  term("gather", x.dtype, joined(without(x.axes, [axis]), positions.axes), [x, positions], {
    axis,
  });
export const recurrence = (over: string, a: Term, b: Term, reverse: boolean): Term =>
  term("recurrence", "f32", joined(a.axes, b.axes), [a, b], { axis: over, reverse });

/** All that some terms are made of, arguments first; steps are not entered. */
export const reachable = (
  roots: readonly Term[],
  stopAt: (of: Term) => boolean = () => false,
): readonly Term[] => {
  const seen = new Set<Term>(), stack = [...roots];
  while (stack.length > 0) {
    const top = stack.pop()!;
    if (seen.has(top)) continue;
    seen.add(top);
    if (!stopAt(top)) stack.push(...top.args);
  }
  return [...seen].sort((a, b) => a.id - b.id);
};

/** The same with all that steps compute. */
export const everything = (roots: readonly Term[]): readonly Term[] => {
  const all = reachable(roots);
  return [...all, ...all.flatMap((of) => of.step?.inside ?? [])];
};

/** A scan; `step` is called once, with leaves. */
export const scan = (
  over: string,
  from: Terms,
  each: Terms,
  step: (carry: Terms, each: Terms) => { readonly next: Terms; readonly out: Terms },
  reverse: boolean,
): Term => {
  const leaves = (of: Terms, axes: (of: Term) => Axes) =>
    Object.fromEntries(
      Object.entries(of).map(([name, one]) => [name, local(name, axes(one), one.dtype)]),
    );
  const carry = leaves(from, (of) => of.axes), now = leaves(each, (of) => without(of.axes, [over]));
  const { next, out } = step(carry, now);
  const own = new Set<Term>([...Object.values(carry), ...Object.values(now)]);
  const roots = [...Object.values(next), ...Object.values(out)];
  const all = reachable(roots);
  for (const of of all) if (of.args.some((arg) => own.has(arg))) own.add(of);
  const outside = new Set<Term>();
  for (const of of all) {
    if (own.has(of)) { for (const arg of of.args) if (!own.has(arg)) outside.add(arg); }
  }
  for (const root of roots) if (!own.has(root)) outside.add(root);
  const inside = all.filter((of) => own.has(of) && of.op !== "local");
  return term(
    "scan",
    "f32",
    {},
    [...Object.values(from), ...Object.values(each), ...outside],
    {
      axis: over,
      reverse,
      step: { carry, each: now, next, out, inside, outside: [...outside] },
      numbers: [Object.values(each)[0].axes[over]],
    },
  );
};

/** A part of a scan: what a carry is in the end, or an output of all steps. */
export const final = (of: Term, name: string): Term => {
  const next = of.step!.carry[name];
  return term("final", next.dtype, next.axes, [of], { name });
};
export const out = (of: Term, name: string): Term => {
  const one = of.step!.out[name];
  return term("out", one.dtype, { [of.axis!]: of.numbers![0], ...one.axes }, [of], { name });
};

/** Things by name. */
type Record_<T> = Readonly<Record<string, T>>;

/** What a translation has to know: leaves, operations, and scans of a step. */
export interface Language<T> {
  readonly leaf: (of: Term) => T;
  readonly apply: (of: Term, args: readonly T[]) => T;
  readonly scan: (
    of: Term,
    from: Record_<T>,
    each: Record_<T>,
    step: (carry: Record_<T>, each: Record_<T>) => {
      readonly next: Record_<T>;
      readonly out: Record_<T>;
    },
  ) => { readonly final: Record_<T>; readonly out: Record_<T> };
}

/** What some terms are in a language. */
export const translate = <T>(roots: readonly Term[], language: Language<T>): readonly T[] => {
  const values = new Map<Term, T>();
  const scans = new Map<Term, ReturnType<Language<T>["scan"]>>();
  const one = (of: Term, values: Map<Term, T>): void => {
    if (of.op === "input" || of.op === "param" || of.op === "const" || of.op === "iota") {
      values.set(of, language.leaf(of));
    } else if (of.op === "final" || of.op === "out") {
      values.set(of, scans.get(of.args[0])![of.op][of.name!]);
    } else if (of.op === "scan") {
      const { carry, each, next, out, inside, outside } = of.step!;
      const args = of.args.map((arg) => values.get(arg)!);
      const named = (names: Terms, start: number) =>
        Object.fromEntries(Object.keys(names).map((name, k) => [name, args[start + k]]));
      const from = named(carry, 0), slices = named(each, Object.keys(carry).length);
      scans.set(
        of,
        language.scan(of, from, slices, (carried, now) => {
          const within = new Map<Term, T>(outside.map((arg) => [arg, values.get(arg)!]));
          for (const name in carry) within.set(carry[name], carried[name]);
          for (const name in each) within.set(each[name], now[name]);
          for (const term of inside) one(term, within);
          const got = (terms: Terms) =>
            Object.fromEntries(
              Object.entries(terms).map(([name, term]) => [name, within.get(term)!]),
            );
          return { next: got(next), out: got(out) };
        }),
      );
    } else values.set(of, language.apply(of, of.args.map((arg) => values.get(arg)!)));
  };
  for (const of of reachable(roots)) one(of, values);
  return roots.map((root) => values.get(root)!);
};

/** A few terms as lines of text. */
export const show = (roots: readonly Term[]): string => {
  const lines: string[] = [];
  const names = new Map<Term, string>();
  const nameOf = (of: Term) => names.get(of) ?? of.name ?? "?";
  const axes = (of: Term) => JSON.stringify(of.axes).replaceAll('"', "");
  const line = (of: Term, indent: string) => {
    names.set(of, of.op === "input" || of.op === "param" ? of.name! : `t${of.id}`);
    const { value, axis, over, to, into, numbers, reverse, name } = of;
    const more = JSON.stringify({ name, value, axis, over, to, into, numbers, reverse });
    lines.push(
      `${indent}${nameOf(of)} = ${of.op}(${of.args.map(nameOf)}) ${more} : ${of.dtype} ${axes(of)}`,
    );
    if (of.step === undefined) return;
    for (const [kind, leaves] of [["carry", of.step.carry], ["each", of.step.each]] as const) {
      for (const [key, leaf] of Object.entries(leaves)) {
        names.set(leaf, `${kind}.${key}`);
        lines.push(`${indent}  ${kind}.${key} : ${leaf.dtype} ${axes(leaf)}`);
      }
    }
    for (const inner of of.step.inside) line(inner, `${indent}  `);
    const list = (terms: Terms) =>
      Object.entries(terms).map(([key, term]) => `${key}: ${nameOf(term)}`).join(", ");
    lines.push(`${indent}  next ${list(of.step.next)}; out ${list(of.step.out)}`);
  };
  for (const of of reachable(roots)) line(of, "");
  return [...lines, `roots ${roots.map(nameOf).join(", ")}`].join("\n");
};

/** How many elements a term has. */
export const volume = (of: Term): number => count(of.axes);
