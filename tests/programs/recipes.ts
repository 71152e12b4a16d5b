// A generator of random well-typed programs for fast-check. A recipe is a list of small numbers; each
// line of it makes something of what was made before (programs/makers.ts), so that a recipe without
// some of its lines is a program too, and shrinking leaves the few operations that matter. A program
// is data (programs/terms.ts), which is translated twice: into an expression of the language, and into
// what the eager library of the tests computes at once.
import fc from "fast-check";
import type { Program, Values } from "../../backends/backend.ts";
import type { AnyTensor } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import * as ops from "../../dsl/ops.ts";
import { type Case, numbers, words } from "../support/check.ts";
import type { Axes } from "../support/eager.ts";
import { express } from "./express.ts";
import { chained, everything, fitted, grow, type Line, type Made, special } from "./makers.ts";
import * as t from "./terms.ts";
import { map, reachable, scale, type Term, type Terms, volume } from "./terms.ts";

/** A program as a few numbers. */
export interface Recipe {
  /** Sizes of the axes a, b, c, d and of the scanned t; then others of a, b, c under the same names. */
  readonly sizes: readonly number[];
  readonly lines: readonly Line[];
  /** Which of what was made is asked for beside the last. */
  readonly asked: readonly number[];
  /** How often it is differentiated. */
  readonly order: number;
  /** 0: no parameter is updated; 1: some are, by values; 2: by their gradients too. */
  readonly updated: number;
  /** Whether outputs are laid out with their axes the other way round. */
  readonly turned: boolean;
  /** Steps of a chain behind it, in hundreds. */
  readonly chain: number;
  readonly special: boolean;
}

/** Mostly one of the newest values, so that one thing is done after the other. */
const pick: fc.Arbitrary<number> = fc.oneof(
  { weight: 2, arbitrary: fc.nat(2) },
  { weight: 1, arbitrary: fc.nat(11) },
);

const line = (depth: number): fc.Arbitrary<Line> =>
  fc.record({
    kind: fc.nat(2 ** 20),
    picks: fc.tuple(pick, pick, pick),
    flags: fc.nat(2 ** 16 - 1),
    step: depth === 0 ? fc.constant([]) : fc.array(line(depth - 1), { maxLength: 6, size: "max" }),
  });

const small = fc.constantFrom(3, 1, 2, 4, 5, 7, 8, 9);
const wide = fc.constantFrom(3, 2, 4, 5, 7, 8, 12, 13, 16, 17, 31, 33, 63, 65);
const mostly = <T>(value: T, weight: number, ...others: readonly T[]): fc.Arbitrary<T> =>
  fc.oneof(
    { weight, arbitrary: fc.constant(value) },
    { weight: 100 - weight, arbitrary: fc.constantFrom(...others) },
  );

/** Recipes of random programs. */
export const recipes: fc.Arbitrary<Recipe> = fc.record({
  sizes: fc.tuple(
    wide,
    small,
    wide,
    small,
    small,
    wide,
    small,
    wide,
    fc.constantFrom(20, 64, 255, 1000),
  ),
  lines: fc.array(line(1), { minLength: 1, maxLength: 9, size: "max" }),
  asked: fc.array(fc.nat(20), { maxLength: 3 }),
  order: mostly(0, 30, 1, 2),
  updated: mostly(0, 60, 1, 2),
  turned: fc.boolean(),
  chain: mostly(0, 83, 10, 13, 17, 20),
  special: mostly(false, 85, true),
});

/** A program with what its leaves hold. */
export interface Random {
  readonly outputs: Terms;
  /** New values of parameters by name. */
  readonly updates: Terms;
  /** Parameters that go against their gradient. */
  readonly descended: readonly Term[];
  /** Float leaves that the loss is differentiated for. */
  readonly wrt: readonly Term[];
  readonly order: number;
  /** What is differentiated; undefined where nothing is. */
  readonly loss: Term | undefined;
  readonly special: boolean;
  readonly turned: boolean;
  /** Whether a machine holds its parameters; otherwise they are inputs. */
  readonly holds: boolean;
  readonly params: Values;
  /** What inputs hold in one run or another. */
  readonly inputs: (run: number) => Values;
}

const hashOf = (name: string): number => [...name].reduce((h, c) => h * 31 + c.charCodeAt(0), 7);

/** Few distinct numbers, among them all that are special. */
const specials = (seed: number, count: number): Float32Array => {
  const some = [0, 1, -1, 0.5, 2, -0, NaN, Infinity, -Infinity, 1e-40, -1e-40, 1e30, -1e30, 3];
  return Float32Array.from(numbers(seed, count, 0, some.length), (x) => some[Math.floor(x)]);
};

/** What a leaf holds in a run. */
const valueOf = ({ name, axes, dtype }: Term, run: number): Float32Array | Uint32Array => {
  const seed = hashOf(name!) + 1009 * run, size = Object.values(axes).reduce((a, b) => a * b, 1);
  if (dtype === "u32") return words(seed, size, 60);
  if (name!.startsWith("weights")) return numbers(seed, size, 0.5, 1.5);
  return name!.startsWith("special") ? specials(seed, size) : numbers(seed, size);
};

/**
 * The program of a recipe; undefined where it makes nothing. Its axes end with `suffix`: with one of
 * their own, nothing that was made for another program in this process can be part of it.
 */
export const generate = (recipe: Recipe, suffix = ""): Random | undefined => {
  const [a, b, c, d, time, a2, b2, c2, long] = recipe.sizes;
  const named = (axes: Axes): Axes =>
    Object.fromEntries(Object.entries(axes).map(([axis, size]) => [axis + suffix, size]));
  const exact = (of: Term): Made => ({ of, bound: 1, exact: true });
  const word = (of: Term): Made => ({ of, bound: Infinity, exact: true });
  const leaf = (name: string, axes: Axes) => exact(t.input(name, named(axes)));
  const held = (name: string, axes: Axes) => exact(t.param(name, named(axes)));
  const counts = (name: string, axes: Axes) => word(t.input(name, named(axes), "u32"));
  const specialLeaves = [
    leaf("special.u", { a }),
    leaf("special.v", { b, c }),
    leaf("special.w", { a, b }),
    leaf("special.x", { b, c: c2 }),
  ];
  const floats = [
    leaf("l", { n: 7, k: long }),
    leaf("r", { m: 9, k: long }),
    leaf("u", {}),
    leaf("v2", { a: a2 }),
    leaf("w2", { a: a2, b: b2 }),
    leaf("x2", { b, c: c2 }),
    leaf("g", { q: 12 }),
    leaf("i", { t: time }),
    leaf("j", { t: time, c }),
    held("P", { a, b }),
    held("Q", { c }),
    held("R", { b, d }),
    leaf("v", { a }),
    leaf("w", { a, b }),
    leaf("x", { b, c }),
    leaf("y", { c, d, b }),
    leaf("z", { d, b }),
    leaf("s", { t: time, a, b }),
  ];
  const ints = [
    counts("o", { c: c2 }),
    counts("p", { a }),
    counts("q", { b, d }),
    counts("f", {}),
    word(t.iota(`c${suffix}`, c)),
  ];
  const { all } = recipe.special
    ? grow({ floats: specialLeaves, words: ints, truths: [] }, recipe.lines, special)
    : grow({ floats, words: ints, truths: [] }, recipe.lines, everything);
  if (all.length === 0) return undefined;

  // The last float, the last words, and some others; each once.
  const last = (dtype: string) => all.filter(({ of }) => of.dtype === dtype).slice(-1);
  const asked = recipe.asked.map((k) => all[k % all.length]);
  const terms = [
    ...new Set([...last("f32"), ...last("u32"), ...last("bool"), ...asked].map(({ of }) => of)),
  ];
  if (recipe.chain > 0 && !recipe.special) {
    const k = terms.findIndex((of) => of.dtype === "f32" && volume(of) <= 2000);
    if (k >= 0) {
      const beside = floats.find(({ of }) =>
        Object.keys(of.axes).every((axis) => of.axes[axis] === terms[k].axes[axis])
      )!;
      terms[k] = chained(terms[k], beside.of, 100 * recipe.chain, recipe.lines[0].flags);
    }
  }
  const outputs = Object.fromEntries(terms.map((of, k) => [`value ${k}`, of]));

  const isFloat = terms.some((of) => of.dtype === "f32") && !recipe.special;
  // Derivatives of long chains take long; the first of some is enough.
  const most = recipe.chain === 0 ? 2 : recipe.chain > 10 ? 0 : 1;
  const order = isFloat ? Math.min(recipe.order, most) : 0;
  const params = floats.filter(({ of }) => of.op === "param").map(({ of }) => of);
  const leaves = new Set(reachable(terms));
  const read = params.filter((of) => leaves.has(of));
  const updates: Record<string, Term> = {};
  if (recipe.updated > 0 && isFloat) {
    const values = all.filter(({ of }) => of.dtype === "f32").map(({ of }) => of).reverse();
    (read.length > 0 ? read : params.slice(0, 1)).forEach((of, k) => {
      const towards = map("sin", fitted(values[k % values.length], of.axes));
      updates[of.name!] = map("add", scale(of, 0.75), scale(towards, 0.25));
    });
  }
  const descended = recipe.updated === 2 && order > 0 ? read.slice(0, 1) : [];
  for (const of of descended) delete updates[of.name!];
  const wrt = reachable(terms).filter(({ op, dtype }) =>
    (op === "input" || op === "param") && dtype === "f32"
  );
  const loss = order > 0 && wrt.length > 0 ? lossOf(terms) : undefined;
  const roots = [...terms, ...Object.values(updates), ...(loss === undefined ? [] : [loss])];
  const inputs = reachable(roots).filter(({ op }) => op === "input");
  const known = reachable(roots).filter(({ op }) => op === "param");
  return {
    outputs,
    updates,
    descended,
    wrt,
    order: loss === undefined ? 0 : order,
    loss,
    special: recipe.special,
    turned: recipe.turned,
    holds: true,
    params: Object.fromEntries(known.map((of) => [of.name!, valueOf(of, 0)])),
    inputs: (run) => Object.fromEntries(inputs.map((of) => [of.name!, valueOf(of, run)])),
  };
};

// ---- losses and gradients -----------------------------------------------------------------------

/** The sum of a value under random weights, which are an input. */
const weighted = (of: Term, k: number): Term => {
  const weights = t.input(`weights.${k}`, of.axes);
  const sum = t.reduce("sum", map("mul", of, weights), Object.keys(of.axes));
  return scale(sum, 1 / Math.sqrt(volume(of)));
};

/** A number made of all float outputs, so that no term cancels; undefined without any. */
const lossOf = (terms: readonly Term[]): Term | undefined => {
  const parts = terms.filter((of) => of.dtype === "f32").map(weighted);
  return parts.length === 0 ? undefined : parts.reduce((a, b) => map("add", a, b));
};

/** The direction along which first derivatives are differentiated again. */
export const direction = (of: Term): Float32Array => numbers(hashOf(of.name!) + 5, volume(of));

/** In which order a value of these axes is laid out. */
export const orderOf = ({ turned }: Random, axes: Axes): readonly string[] =>
  turned ? Object.keys(axes).reverse() : Object.keys(axes);

/** The same without updates, its parameters given as inputs. */
export const frozen = (of: Random): Random => ({
  ...of,
  updates: {},
  descended: [],
  holds: false,
  params: {},
  inputs: (run) => ({ ...of.params, ...of.inputs(run) }),
});

/** The program for a backend; names of parameters begin with `prefix`. */
export const programOf = (of: Random, prefix = ""): Program => {
  const terms = Object.values(of.outputs), updates = Object.values(of.updates);
  const { loss } = of;
  const made = express(
    [...terms, ...updates, ...of.wrt, ...(loss === undefined ? [] : [loss])],
    of.holds ? prefix : undefined,
  );
  const named = (list: readonly Term[], from: number) =>
    Object.fromEntries(list.map((one, k) => [one.name!, made[from + k]]));
  const wrt = named(of.wrt, terms.length + updates.length);
  const outputs: Record<string, AnyTensor> = Object.fromEntries(
    Object.keys(of.outputs).map((name, k) => [name, made[k]]),
  );
  const news: Record<string, AnyTensor> = Object.fromEntries(
    Object.keys(of.updates).map((name, k) => [`${prefix}${name}`, made[terms.length + k]]),
  );
  if (loss !== undefined) {
    const first = grad(made.at(-1)!, wrt);
    for (const name in wrt) outputs[`d ${name}`] = first[name];
    for (const { name } of of.descended) {
      news[`${prefix}${name}`] = ops.sub(wrt[name!], ops.mul(first[name!], 0.01));
    }
    if (of.order > 1) {
      const slope = of.wrt.map((leaf) => {
        // deno-lint-ignore no-explicit-any
        const d = ops as any, axes = Object.keys(leaf.axes);
        return d.sum(d.mul(first[leaf.name!], d.literal(leaf.axes, direction(leaf))), axes);
      }).reduce((x, y) => ops.add(x, y));
      const second = grad(slope, wrt);
      for (const name in wrt) outputs[`dd ${name}`] = second[name];
    }
  }
  const axes = (name: string): Axes =>
    of.outputs[name]?.axes ?? of.wrt.find((leaf) => name.endsWith(` ${leaf.name}`))!.axes;
  return {
    outputs: Object.fromEntries(
      Object.entries(outputs).map(([name, x]) => [name, { of: x, order: orderOf(of, axes(name)) }]),
    ),
    ...(Object.keys(news).length > 0 ? { updates: news } : {}),
  };
};

/** The outputs of a recipe's program without its chain, each with the leaves to differentiate it for. */
export const programs = (recipe: Recipe): readonly Case[] => {
  const made = generate({ ...recipe, chain: 0 });
  if (made === undefined || made.special) return [];
  const values = { ...made.params, ...made.inputs(0) };
  return Object.values(made.outputs).map((of) => {
    const wrt = reachable([of]).filter(({ op, dtype }) =>
      (op === "input" || op === "param") && dtype === "f32"
    );
    const [tensor, ...leaves] = express([of, ...wrt]);
    return {
      of: tensor,
      wrt: Object.fromEntries(wrt.map((leaf, k) => [leaf.name!, leaves[k]])),
      values,
    };
  });
};
