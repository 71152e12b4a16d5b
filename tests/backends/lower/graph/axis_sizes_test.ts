// One axis name in several sizes in one program: kernels, rows and the steps of scans run over what
// has the same axes of the same sizes. Values are those found by hand.
import { assert, assertEquals, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import type { Backend, Program, Values } from "../../../../backends/backend.ts";
import { unifyAxisSizes, withSteps } from "../../../../backends/lower/graph/axis_sizes.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import type { AnyTensor } from "../../../../dsl/axes.ts";
import { grad } from "../../../../dsl/grad.ts";
import { nodeOf } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { devices, webgpuAsGpu } from "../../../support/device.ts";

const count = (n: number) => Float32Array.from({ length: n }, (_, k) => k + 1);
const output = (of: AnyTensor, ...order: string[]) => ({ of, order });
const anyScan = d.scan as unknown as (
  spec: unknown,
  step: (carry: Record<string, AnyTensor>, now: Record<string, AnyTensor>) => unknown,
) => {
  readonly out: Record<string, AnyTensor>;
  readonly final: Record<string, AnyTensor>;
};

interface Known {
  readonly program: Program;
  readonly inputs: Values;
  readonly right: Readonly<Record<string, ArrayLike<number>>>;
}

const reductions = (): Known => {
  const w1 = d.input("w1", { out: 16, channel: 8 }), w2 = d.input("w2", { out: 4, channel: 8 });
  const squares = (x: AnyTensor, over: string[]) => d.sum(d.square(x), over as never);
  const a = d.input("a", { batch: 8, token: 10 }), b = d.input("b", { batch: 8, token: 6 });
  const loss = (x: AnyTensor) => d.mean(d.square(x), ["batch", "token"] as never);
  const x = d.input("x", { n: 16, c: 4 });
  const top = (length: number) => d.max(d.slice(x, "n", 0, length), ["n", "c"]);
  return {
    program: {
      outputs: {
        norm: output(d.add(squares(w1, ["out", "channel"]), squares(w2, ["out", "channel"]))),
        losses: output(d.add(loss(a), loss(b))),
        long: output(top(12)),
        short: output(top(5)),
      },
    },
    inputs: {
      w1: new Float32Array(128).fill(1),
      w2: new Float32Array(32).fill(1),
      a: count(80),
      b: count(48),
      x: count(64),
    },
    right: { norm: [160], losses: [2173.5 + 792.1667], long: [48], short: [20] },
  };
};

const sliced = (): Known => {
  const h = d.input("h", { b: 7 }), e = d.input("e", { t: 2 });
  const { out } = anyScan({ over: "t", from: { h }, each: { e } }, ({ h }, { e }) => ({
    next: { h },
    out: { y: d.mul(d.sum(d.slice(h, "b" as never, 4, 2), "b" as never), e) },
  }));
  return {
    program: { outputs: { y: output(out.y, "t") } },
    inputs: { h: count(7), e: count(2) },
    right: { y: [11, 22] },
  };
};

const padded = (): Known => {
  const x = d.input("x", { t: 2, b: 3 }), h = d.input("h", { b: 3 });
  const { out } = anyScan({ over: "t", from: { h }, each: { x } }, ({ h }, { x }) => ({
    next: { h: d.add(h, x) },
    out: { y: d.pad(x, "b" as never, 1, 1) },
  }));
  return {
    program: { outputs: { y: output(out.y, "t", "b") } },
    inputs: { x: count(6), h: new Float32Array(3) },
    right: { y: [0, 1, 2, 3, 0, 0, 4, 5, 6, 0] },
  };
};

/** Two sums over `k`, of 9 and of 7 positions, in one step; the gradient for `h` by differences. */
const twoSums = (): Known => {
  const wave = (n: number, s: number) =>
    Float32Array.from({ length: n }, (_, k) => Math.sin(k * 12.9 + s * 7.1));
  const x = d.input("x", { t: 2, k: 9 }), w = d.input("w", { k: 7, a: 31 });
  const h = d.input("h", { q: 12 });
  const { final } = anyScan({ over: "t", from: { h }, each: { x } }, ({ h }, { x }) => {
    const total = d.sum(h, "q" as never);
    const first = d.mean(d.tanh(d.mul(x, total)), "k" as never);
    const second = d.mean(d.tanh(d.mul(w, total)), ["k", "a"] as never);
    return { next: { h: d.add(d.mul(h, 0.5), d.add(first, second)) }, out: {} };
  });
  const xs = wave(18, 1), ws = wave(217, 2), hs = wave(12, 3);
  const byHand = (start: readonly number[]) => {
    let now = [...start];
    for (let t = 0; t < 2; t++) {
      const total = now.reduce((a, b) => a + b, 0);
      const mean = (of: readonly number[]) =>
        of.reduce((sum, v) => sum + Math.tanh(v * total), 0) / of.length;
      const more = mean([...xs.slice(9 * t, 9 * t + 9)]) + mean([...ws]);
      now = now.map((v) => 0.5 * v + more);
    }
    return now;
  };
  const sum = (of: readonly number[]) => of.reduce((a, b) => a + b, 0);
  const slope = [...hs].map((_, k) => {
    const at = (by: number) => sum(byHand([...hs].map((v, n) => n === k ? v + by : v)));
    return (at(1e-6) - at(-1e-6)) / 2e-6;
  });
  return {
    program: {
      outputs: {
        h: output(final.h, "q"),
        slope: output(grad(d.sum(final.h, "q" as never), { h }).h, "q"),
      },
    },
    inputs: { x: xs, w: ws, h: hs },
    right: { h: byHand([...hs]), slope },
  };
};

const cases: Readonly<Record<string, () => Known>> = {
  "reductions of two sizes": reductions,
  "a sum over a part of the carry": sliced,
  "a step that pads its input": padded,
  "sums over two sizes in a step": twoSums,
};

const all: readonly (readonly [string, Backend | undefined])[] = [
  ["the reference", referenceBackend()],
  ...devices,
  ["WebGPU with a GPU's kernels", webgpuAsGpu],
];
for (const [name, backend] of all) {
  Deno.test({
    name: `one axis name in several sizes: values on ${name}`,
    ignore: backend === undefined,
    fn: async () => {
      const made = Object.entries(cases).map(([name, build]) => [name, build()] as const);
      const machine = await backend!.open(
        Object.fromEntries(made.map(([name, { program }]) => [name, program])),
      );
      for (const [name, { inputs, right }] of made) {
        const found = await machine.run(name, inputs);
        for (const [key, expected] of Object.entries(right)) {
          const largest = Math.max(...Array.from(expected, Math.abs));
          for (let k = 0; k < expected.length; k++) {
            const off = Math.abs(found[key][k] - expected[k]);
            assertLessOrEqual(
              off,
              1e-5 * largest,
              `${name}, ${key}[${k}]: ${found[key][k]}, not ${expected[k]}`,
            );
          }
        }
      }
      machine.close();
    },
  });
}

Deno.test("an axis name with several sizes gets a name for each, in steps too", () => {
  const { program } = twoSums();
  const { roots, order } = unifyAxisSizes([
    nodeOf(program.outputs.h.of),
    nodeOf(d.input("k", { k: 9 })),
  ]);
  const sizes = new Map<string, Set<unknown>>();
  for (const { axes } of withSteps(roots)) {
    for (const [axis, size] of Object.entries(axes)) {
      sizes.set(axis, (sizes.get(axis) ?? new Set()).add(size));
    }
  }
  assert([...sizes.values()].every((of) => of.size === 1));
  assert(sizes.has("k") && [...sizes.keys()].some((axis) => /^k:[79]$/.test(axis)));
  assertEquals(order(0, ["q"]), ["q"]);
  assertStrictEquals(order(1, ["k"])[0], Object.keys(roots[1].axes)[0]);
  const plain = [nodeOf(d.mul(d.input("x", { a: 2 }), d.input("y", { a: 2, b: 3 })))];
  assertStrictEquals(unifyAxisSizes(plain).roots, plain);
});

Deno.test("a parameter that two places make is one value", () => {
  const twice = () => d.param("p", { a: 3 }, () => d.constant(1));
  const [p, q] = [d.param("p", { a: 3 }, () => d.constant(1)), twice()];
  const { params } = lower({
    outputs: { y: output(d.add(d.exp(p), q), "a") },
    updates: { p: d.mul(p, q) },
  });
  assertStrictEquals(params.length, 1);
});
