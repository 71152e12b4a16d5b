// Every row of the table of scalar primitives, over axes that divide nothing: derivatives against
// central differences, devices against the reference. The table is iterated: a new row is tested.
import type { Dtype } from "../../dsl/node.ts";
import { nodeOf, tensorOf } from "../../dsl/node.ts";
import { apply, scalar } from "../../dsl/primitives.ts";
import type { ScalarName } from "../../dsl/node.ts";
import { input } from "../../dsl/structure.ts";
import { type Case, checkBackend, checkDerivatives, numbers, words } from "../support/check.ts";
import { devices } from "../support/device.ts";
import { type Axes, volume } from "../../dsl/axes.ts";

/** Where a function is tested, if not on [0.3, 1.9), where nearly all are smooth. */
const domains: Partial<Record<ScalarName, readonly [number, number]>> = {
  add: [-2, 2],
  mul: [-2, 2],
  neg: [-2, 2],
  exp: [-3, 2],
  log1p: [-0.7, 3],
  sin: [-3, 3],
  cos: [-3, 3],
  tanh: [-4, 4],
  erf: [-3, 3],
  less: [-2, 2],
  equal: [-2, 2],
  select: [-2, 2],
  toWord: [0, 9],
};

/** Axes of the arguments, so that every kind of join occurs. */
const shapes: readonly (readonly Axes[])[] = [
  [{ i: 1 }, { i: 1 }, { i: 1 }],
  [{ i: 7, j: 13 }, { j: 13, k: 3 }, { i: 7 }],
  [{ i: 66 }, { i: 66, j: 5 }, {}],
  [{}, { i: 131 }, { i: 131 }],
];

const dtypes: readonly Dtype[] = ["f32", "u32", "bool"];
const tuples = (length: number): readonly (readonly Dtype[])[] =>
  length === 0
    ? [[]]
    : tuples(length - 1).flatMap((before) => dtypes.map((one) => [...before, one]));

const cases: Record<string, Case> = {};
for (const op of Object.keys(scalar) as ScalarName[]) {
  const row = scalar[op];
  for (const args of tuples(row.arity)) {
    if (row.dtype(args) === undefined) continue;
    shapes.forEach((shape, s) => {
      const values: Record<string, Float32Array | Uint32Array> = {};
      const leaves = args.map((dtype, k) => {
        const name = `x${k}`, count = volume(shape[k]);
        const seed = 31 * s + k;
        if (dtype === "f32") {
          // Steps of 1/64, shifted by an amount of each argument's own: no ties, no whole numbers.
          const [low, high] = domains[op] ?? [0.3, 1.9];
          values[name] = numbers(seed, count, low, high)
            .map((x) => Math.floor(x * 64) / 64 + (k + 1) / 256);
        } else if (dtype === "bool") values[name] = words(seed, count, 2);
        else {
          // Small words make ties and shifts beyond 31; a divisor is never zero.
          const below = op === "less" || op === "equal" ? 3 : k === 1 ? 40 : 2 ** 32;
          values[name] = words(seed, count, below).map((x) =>
            op === "quotient" || op === "remainder" ? Math.max(x, 1) : x
          );
        }
        return input(name, shape[k], dtype);
      });
      const wrt = leaves.filter((leaf) => leaf.dtype === "f32")
        .map((leaf) => [leaf.attributes.name!, tensorOf(leaf)]);
      cases[`${op}(${args.join(", ")}) on axes ${s}`] = {
        of: tensorOf(apply(op, ...leaves)),
        wrt: Object.fromEntries(wrt),
        values,
      };
    });
  }
}

Deno.test("derivatives of every scalar row agree with central differences", () => {
  for (const [name, of] of Object.entries(cases)) {
    if (nodeOf(of.of).dtype === "f32" && Object.keys(of.wrt).length > 0) checkDerivatives(name, of);
  }
});

for (const [device, backend] of devices) {
  Deno.test({
    name: `every scalar row on ${device} agrees with the reference, words to the bit`,
    ignore: backend === undefined,
    fn: () => checkBackend(backend!, cases),
  });
}
