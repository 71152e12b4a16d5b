// Gradients of maxima: who attained a maximum is decided by values that were rounded once, so no
// element's share is lost or doubled where two kernels would round a product differently.
import { assertEquals, assertLess, assertStrictEquals } from "@std/assert";
import type { Backend } from "../../../../backends/backend.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import type { AnyTensor } from "../../../../dsl/axes.ts";
import { grad } from "../../../../dsl/grad.ts";
import * as d from "../../../../dsl/ops.ts";
import { numbers } from "../../../support/check.ts";
import { devices, webgpuAsGpu } from "../../../support/device.ts";

const output = (of: AnyTensor, ...order: string[]) => ({ of, order });
const all: readonly (readonly [string, Backend | undefined])[] = [
  ["the reference", referenceBackend()],
  ...devices,
  ["WebGPU with a GPU's kernels", webgpuAsGpu],
];

/** The slope of the mean of w · max over c of p_qkc · s_c for s, where s is a scaled sum of x. */
const products = () => {
  const size = { t: 4, c: 12, z: 7 } as const;
  const x = d.input("x", size), w = d.input("w", { q: 9, k: 9 });
  const p = d.input("p", { q: 9, k: 9, c: 12 });
  const s = d.mul(d.sum(x, ["t", "z"]), 0.047);
  const loss = d.mean(d.mul(d.max(d.mul(p, s), "c"), w), ["q", "k"]);
  const inputs = { x: numbers(1, 336), w: numbers(2, 81), p: numbers(3, 972) };
  const at = (c: number) => {
    let sum = 0;
    for (let t = 0; t < 4; t++) {
      for (let z = 0; z < 7; z++) sum += inputs.x[(t * 12 + c) * 7 + z];
    }
    return 0.047 * sum;
  };
  const sums = Array.from({ length: 12 }, (_, c) => at(c));
  const slope = new Float64Array(12);
  for (let i = 0; i < 81; i++) {
    const own = sums.map((s, c) => s * inputs.p[12 * i + c]);
    const best = own.indexOf(Math.max(...own));
    slope[best] += 0.047 * inputs.w[i] * inputs.p[12 * i + best] / 81;
  }
  const right = Float64Array.from({ length: 336 }, (_, n) => slope[Math.floor(n / 7) % 12]);
  return { outputs: { g: output(grad(loss, { x }).x, "t", "c", "z") }, inputs, right };
};

/** The shares of two sides whose values differ by roundings at most: together they are the whole. */
const sides = () => {
  const a = d.input("a", { i: 40 }),
    b = d.input("b", { j: 30 }),
    c = d.input("c", { i: 40, j: 30 });
  const x = d.mul(d.mul(a, 0.37), d.mul(b, c)), y = d.mul(d.mul(a, d.mul(b, 0.37)), c);
  // Their gradients leave the program apart from each other.
  const left = d.input("left", { i: 40, j: 30 }), right = d.input("right", { i: 40, j: 30 });
  const loss = d.sum(d.maximum(d.add(x, left), d.add(y, right)), ["i", "j"]);
  const g = grad(loss, { left, right });
  const inputs = {
    a: numbers(4, 40),
    b: numbers(5, 30),
    c: numbers(6, 1200),
    left: new Float32Array(1200),
    right: new Float32Array(1200),
  };
  const outputs = { left: output(g.left, "i", "j"), right: output(d.exp(g.right), "j", "i") };
  return { outputs, inputs };
};

/** The same within the step of a scan: what a maximum over `c` of products gives back to h. */
const inSteps = () => {
  const x = d.input("x", { t: 3, c: 6 }), h = d.input("h", { b: 5, c: 6 });
  const { final } = d.scan({ over: "t", from: { h }, each: { x } }, ({ h }, { x }) => {
    const top = d.max(d.mul(d.mul(h, 0.9), x), "c");
    return { next: { h: d.add(d.mul(h, 0.5), d.on(h, top)) }, out: {} };
  });
  const inputs = { x: numbers(7, 18), h: numbers(8, 30) };
  const total = (start: readonly number[]) => {
    let now = [...start];
    for (let t = 0; t < 3; t++) {
      now = now.map((v, n) => {
        const row = Math.floor(n / 6) * 6;
        const of = Array.from({ length: 6 }, (_, c) => 0.9 * now[row + c] * inputs.x[6 * t + c]);
        return 0.5 * v + Math.max(...of);
      });
    }
    return now.reduce((a, b) => a + b, 0);
  };
  const right = Float64Array.from(inputs.h, (_, n) => {
    const by = (e: number) => total([...inputs.h].map((v, k) => k === n ? v + e : v));
    return (by(1e-6) - by(-1e-6)) / 2e-6;
  });
  const g = grad(d.sum(final.h, ["b", "c"]), { h }).h;
  return { outputs: { g: output(g, "b", "c") }, inputs, right };
};

for (const [name, backend] of all) {
  Deno.test({
    name: `gradients of maxima of computed values on ${name}`,
    ignore: backend === undefined,
    fn: async () => {
      const programs = { products: products(), sides: sides(), inSteps: inSteps() };
      const machine = await backend!.open(programs);
      for (const [key, one] of [["products", products()], ["inSteps", inSteps()]] as const) {
        const { g } = await machine.run(key, one.inputs);
        const largest = Math.max(...one.right.map(Math.abs));
        const wrong = one.right.findIndex((v, k) => !(Math.abs(g[k] - v) <= 2e-5 * largest));
        assertLess(wrong, 0, `${key}: ${g[wrong]} at ${wrong}, not ${one.right[wrong]}`);
      }
      const { left, right } = await machine.run("sides", sides().inputs);
      const shares = [...left].map((share, n) => {
        const i = Math.floor(n / 30), j = n % 30;
        return share + Math.log(right[40 * j + i]);
      });
      const lost = shares.findIndex((share) => Math.abs(share - 1) > 1e-5);
      assertLess(lost, 0, `the shares of element ${lost} are ${shares[lost]} in all`);
      machine.close();
    },
  });
}

Deno.test("what is compared for equality is stored by a kernel before those that compare", () => {
  const { outputs } = products();
  const { kernels, stored } = lower({ outputs });
  const materialised = [...stored.keys()].filter(({ op, axes }) =>
    op === "mul" && Object.keys(axes).sort().join() === "c,k,q"
  );
  assertStrictEquals(materialised.length, 1);
  const homes = kernels.filter(({ roots }) =>
    roots.some((root) => "node" in root && root.node === materialised[0])
  );
  assertEquals(homes.map(({ roots }) => roots.length), [1]);
  // What is compared with a constant is not: nobody shares its gradient.
  const x = d.input("x", { a: 64 });
  const slope = grad(d.sum(d.relu(d.mul(x, d.mul(x, 0.3))), "a"), { x }).x;
  const { kernels: few } = lower({ outputs: { slope: output(slope, "a") } });
  assertStrictEquals(few.length, 1);
});
