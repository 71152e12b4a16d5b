// Products of sizes that do not fit blocks, tiles and vectors, with operands whose terms are
// neighbours in memory or not, beside sums in float64.
import { assert, assertLess } from "@std/assert";
import { add, contract, gelu, input, mul, param, sub } from "../../../../dsl/ops.ts";
import type { AnyTensor } from "../../../../dsl/axes.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import { zeros } from "../../../../models/initialisers.ts";
import { wasm, wasmPlain, wasmWide } from "../../../support/device.ts";

const value = (k: number): number => Math.sin(0.7 * k + 0.3 * (k % 13));
const filled = (count: number): Float32Array =>
  Float32Array.from({ length: count }, (_, k) => value(k));

interface Case {
  readonly rows: number;
  readonly terms: number;
  readonly columns: number;
  /** Whether rows, or columns, are the last axis of their operand. */
  readonly turned: readonly [left: boolean, right: boolean];
}

const sizes: readonly (readonly [rows: number, terms: number, columns: number])[] = [
  [1, 3, 5],
  [2, 9, 1],
  [4, 37, 21],
  [19, 40, 4],
  [7, 260, 17],
  [41, 5, 3],
  [83, 513, 12],
  [203, 31, 521],
];

const cases: readonly Case[] = sizes.flatMap(([rows, terms, columns]) =>
  [[false, false], [true, false], [false, true], [true, true]].map((turned) => ({
    rows,
    terms,
    columns,
    turned: turned as [boolean, boolean],
  }))
);

for (
  const [name, backend] of [["fused", wasm], ["plain", wasmPlain], ["in pairs", wasmWide]] as const
) {
  Deno.test(`products of all kinds of sizes, ${name}`, async () => {
    for (const { rows, terms, columns, turned: [left, right] } of cases) {
      const axes = (swap: boolean, a: Record<string, number>, b: Record<string, number>) =>
        swap ? { ...b, ...a } : { ...a, ...b };
      const a: AnyTensor = input("a", axes(left, { row: rows }, { term: terms }));
      const b: AnyTensor = input("b", axes(right, { term: terms }, { column: columns }));
      const c: AnyTensor = input("c", { column: columns });
      // Something before the product and something after it.
      const product: AnyTensor = contract(mul(a, a) as AnyTensor, b, "term");
      const y = gelu(add(product, c)) as AnyTensor;
      const plain: AnyTensor = contract(a, b, "term");
      const machine = await backend.open({
        main: {
          outputs: {
            y: { of: y, order: ["row", "column"] },
            plain: { of: plain, order: ["column", "row"] },
          },
        },
      });
      const inputs = {
        a: filled(rows * terms),
        b: filled(terms * columns),
        c: filled(columns),
      };
      const found = await machine.run("main", inputs);
      machine.close();
      const what = `${rows} x ${terms} x ${columns}, ${left ? "turned" : "plain"} left, ${
        right ? "turned" : "plain"
      } right`;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          let squares = 0, sum = 0, scale = 1;
          for (let k = 0; k < terms; k++) {
            const x = inputs.a[left ? k * rows + i : i * terms + k];
            const w = inputs.b[right ? j * terms + k : k * columns + j];
            squares += x * x * w;
            sum += x * w;
            scale += Math.abs(x * w);
          }
          const z = squares + inputs.c[j];
          const near = (a: number, b: number) => Math.abs(a - b) <= 2e-6 * scale;
          assert(near(found.plain[j * rows + i], sum), `${what}: ${i}, ${j}`);
          assert(near(found.y[i * columns + j], z * half(z)), `${what} with more: ${i}, ${j}`);
        }
      }
    }
  });
}

Deno.test("products with four rows or columns, in groups, that update what they are added to", async () => {
  for (const [group, row, column] of [[1, 4, 21], [6, 4, 4], [3, 24, 4]]) {
    const a: AnyTensor = input("a", { batch: 2, term: 37, group, row });
    const b: AnyTensor = input("b", { batch: 2, term: 37, group, column });
    const leaf = (name: string): AnyTensor => param(name, { group, row, column }, zeros);
    const slope: AnyTensor = contract(a, b, ["batch", "term"] as never[]);
    const mean: AnyTensor = add(mul(leaf("mean"), 0.9), mul(slope, 0.1));
    const updates = { mean, weight: sub(leaf("weight"), mul(mean, 0.5)) as AnyTensor };
    const results = [];
    for (const backend of [wasm, referenceBackend()]) {
      const machine = await backend.open({ main: { outputs: {}, updates } });
      const count = group * row * column;
      machine.write({ mean: filled(count), weight: filled(count) });
      await machine.run("main", {
        a: filled(2 * 37 * group * row),
        b: filled(2 * 37 * group * column),
      });
      results.push(Object.values(await machine.read(["mean", "weight"])) as Float32Array[]);
      machine.close();
    }
    const [found, expected] = results;
    found.forEach((values, k) =>
      values.forEach((x, i) =>
        assertLess(Math.abs(x - expected[k][i]), 1e-5, `${group} ${row} ${i}: ${x}`)
      )
    );
  }
});

/** The share of a normal distribution below z, by Simpson's rule. */
const half = (z: number): number => {
  const x = Math.max(-9, Math.min(9, z)), steps = 64, h = x / steps;
  const density = (t: number) => Math.exp(-t * t / 2) / Math.sqrt(2 * Math.PI);
  let sum = 0;
  for (let k = 0; k < steps; k += 2) {
    sum += density(k * h) + 4 * density((k + 1) * h) + density((k + 2) * h);
  }
  return 0.5 + sum * h / 3;
};
