// Checks that every test of an expression shares: derivatives against central differences in
// float64, and a device against the reference interpreter.
import { assert, fail } from "@std/assert";
import type { Backend, Output, Program, Values } from "../../backends/backend.ts";
import { interpret } from "../../backends/reference/interpret.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { type AnyTensor, volume } from "../../dsl/axes.ts";
import { grad, type Tensors } from "../../dsl/grad.ts";
import { nodeOf, tensorOf, topologicalOrder } from "../../dsl/node.ts";
import { apply, float } from "../../dsl/primitives.ts";
import { input, reduce } from "../../dsl/structure.ts";

/** An expression, the float inputs to differentiate it for, and what its inputs hold. */
export interface Case {
  readonly of: AnyTensor;
  readonly wrt: Tensors;
  readonly values: Values;
}

/** Numbers in [low, high), the same for the same seed (a linear congruential generator). */
export const numbers = (seed: number, count: number, low = -1, high = 1): Float32Array => {
  let state = (Math.imul(seed + 1, 2654435761) ^ 0x9e3779b9) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return low + (high - low) * ((state >>> 8) / 2 ** 24);
  });
};

/** Words below `below`, the same for the same seed. */
export const words = (seed: number, count: number, below = 2 ** 32): Uint32Array =>
  Uint32Array.from({ length: count }, (_, k) => {
    const [high, low] = numbers(seed + 7919 * k, 8, 0, 1).slice(6);
    return Math.floor((high + low * 2 ** -24) * below);
  });

/** The sum of a float expression under random weights, an input `weights.N`, so no term cancels. */
const weighted = (of: AnyTensor, seed: number): { readonly loss: AnyTensor; values: Values } => {
  const n = nodeOf(of);
  const name = `weights.${seed}`;
  const weights = input(name, n.axes, "f32");
  const loss = reduce(apply("mul", n, weights), "add", Object.keys(n.axes));
  return { loss: tensorOf(loss), values: { [name]: numbers(seed, volume(n.axes), 0.5, 1.5) } };
};

/** A scalar made of a case, and its gradients. A case that is not float has none. */
export const derived = (of: Case, seed = 1): { loss: AnyTensor; gradients: Tensors } & Case => {
  const { loss, values } = weighted(of.of, seed);
  return { ...of, loss, gradients: grad(loss, of.wrt), values: { ...of.values, ...values } };
};

/**
 * The derivative of a scalar along a random direction of all `wrt` at once, from its gradients and
 * from central differences in float64. Throws where they differ.
 */
const checkSlope = (
  name: string,
  loss: AnyTensor,
  gradients: Tensors,
  wrt: Tensors,
  values: Values,
): void => {
  const names = Object.keys(wrt);
  const directions = new Map(names.map((key, k) => {
    const n = nodeOf(wrt[key]);
    return [n.attributes.name!, numbers(99 + k, volume(n.axes))] as const;
  }));
  const at = (roots: readonly AnyTensor[], by: number) =>
    interpret(roots.map(nodeOf), (leaf) => {
      const base = values[leaf.attributes.name!];
      const direction = directions.get(leaf.attributes.name!);
      return direction === undefined || by === 0
        ? base
        : Float64Array.from(base, (x, k) => x + by * direction[k]);
    });
  const slopes = at(names.map((key) => gradients[key]), 0);
  let analytic = 0, size = 0;
  names.forEach((key, k) => {
    const given = gradients[key];
    // Gradients come with the axes of the input, maybe in another order.
    const from = Object.keys(nodeOf(given).axes), to = Object.keys(nodeOf(wrt[key]).axes);
    const direction = directions.get(nodeOf(wrt[key]).attributes.name!)!;
    const axes = nodeOf(wrt[key]).axes;
    slopes[k].forEach((slope, i) => {
      let rest = i, offset = 0;
      const place: Record<string, number> = {};
      for (const axis of [...from].reverse()) {
        place[axis] = rest % Number(axes[axis]);
        rest = Math.floor(rest / Number(axes[axis]));
      }
      for (const axis of to) offset = offset * Number(axes[axis]) + place[axis];
      analytic += slope * direction[offset];
      size += Math.abs(slope * direction[offset]);
    });
  });
  // A shorter step, which rounding spoils more, sees fewer of the kinks of max and of comparisons.
  const numeric = [[1e-5, 1e-6], [1e-6, 1e-5], [1e-7, 1e-4]].map(([step, tolerance]) => {
    const [[above]] = at([loss], step), [[below]] = at([loss], -step);
    const slope = (above - below) / (2 * step);
    return { slope, fits: Math.abs(analytic - slope) <= tolerance * (1 + size) };
  });
  assert(
    numeric.some(({ fits }) => fits),
    `${name}: the gradient says ${analytic}, central differences ${
      numeric.map(({ slope }) => slope).join(", ")
    }`,
  );
};

/** First and second derivatives of a case against central differences. */
export const checkDerivatives = (name: string, of: Case): void => {
  const { loss, gradients, wrt, values } = derived(of);
  checkSlope(name, loss, gradients, wrt, values);
  const parts = Object.keys(wrt).map((key, k) => weighted(gradients[key], 100 + k));
  const total = parts.map((one) => nodeOf(one.loss)).reduce((a, b) => apply("add", a, b), float(0));
  const all = Object.assign({}, values, ...parts.map((one) => one.values));
  const second = tensorOf(total);
  checkSlope(`${name}, second derivative`, second, grad(second, wrt), wrt, all);
};

const output = (of: AnyTensor): Output => ({ of, order: Object.keys(nodeOf(of).axes) });

/** The value of a case and its gradients as one program; without gradients for words. */
export const program = (of: Case): { readonly program: Program; readonly values: Values } => {
  if (nodeOf(of.of).dtype !== "f32" || Object.keys(of.wrt).length === 0) {
    return { program: { outputs: { value: output(of.of) } }, values: of.values };
  }
  const { gradients, values } = derived(of);
  const slopes = Object.entries(gradients).map(([key, g]) => [`d ${key}`, output(g)] as const);
  return { program: { outputs: { value: output(of.of), ...Object.fromEntries(slopes) } }, values };
};

/**
 * The first disagreement of two results, in words. Floats may differ by `tolerance` of the largest,
 * or of `least` if that is more; words not at all. Infinities and NaN stand where they are expected.
 */
export const disagreement = (
  expected: Values,
  found: Values,
  tolerance = 2e-5,
  least = 1e-3,
): string | undefined => {
  for (const name of Object.keys(expected)) {
    const want = expected[name], got = found[name];
    if (want.constructor !== got.constructor || want.length !== got.length) {
      return `${name}: ${got.constructor.name} of ${got.length}, expected ${want.constructor.name} of ${want.length}`;
    }
    const exact = want instanceof Uint32Array;
    let largest = 0;
    for (const x of want) if (Number.isFinite(x)) largest = Math.max(largest, Math.abs(x));
    const allowed = exact ? 0 : tolerance * Math.max(largest, least);
    for (let k = 0; k < want.length; k++) {
      if (want[k] === got[k] || Number.isNaN(want[k]) && Number.isNaN(got[k])) continue;
      if (!Number.isFinite(want[k]) || !(Math.abs(want[k] - got[k]) <= allowed)) {
        return `${name}[${k}] of ${want.length} is ${got[k]}, expected ${
          want[k]
        }; the largest is ${largest}`;
      }
    }
  }
};

/** What the inputs of a program hold: only those that it reads, as a run wants them. */
export const read = (of: Program, values: Values): Values => {
  const roots = Object.values(of.outputs).map(({ of }) => nodeOf(of));
  const names = topologicalOrder(roots).filter((n) => n.op === "input").map((n) =>
    n.attributes.name!
  );
  return Object.fromEntries(names.map((name) => [name, values[name]]));
};

/** Runs cases on a device and on the reference, all in one machine; fails with every disagreement. */
export const checkBackend = async (
  backend: Backend,
  cases: Readonly<Record<string, Case>>,
  tolerance = 2e-5,
): Promise<void> => {
  const made = Object.entries(cases).map(([name, of]) => ({ name, ...program(of) }));
  const programs = Object.fromEntries(made.map((one) => [one.name, one.program]));
  const [expected, found] = await Promise.all(
    [referenceBackend(), backend].map((one) => one.open(programs)),
  );
  const wrong: string[] = [];
  for (const one of made) {
    const values = read(one.program, one.values);
    const said = disagreement(
      await expected.run(one.name, values),
      await found.run(one.name, values),
      tolerance,
    );
    if (said !== undefined) wrong.push(`${one.name}: ${said}`);
  }
  expected.close();
  found.close();
  if (wrong.length > 0) fail(`${wrong.length} of ${made.length} disagree:\n${wrong.join("\n")}`);
};
