// Scans whose step mixes the carry (sLSTM and its kin): they run inside one kernel, a workgroup
// together, with what can leave the step outside of it; and they compute what the reference computes.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import { hoist } from "../../../../backends/lower/scans/hoist.ts";
import type { Kernel } from "../../../../backends/lower/kernel_ir.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import { crossLaneAxes } from "../../../../backends/lower/scans/cooperative.ts";
import { interpret, ordered } from "../../../../backends/reference/interpret.ts";
import { binder } from "../../../../backends/webgpu/wgsl/bindings.ts";
import { moduleOf } from "../../../../backends/webgpu/wgsl/module.ts";
import { printScan } from "../../../../backends/webgpu/wgsl/scan.ts";
import { type AnyTensor, type Axes, volume } from "../../../../dsl/axes.ts";
import { grad } from "../../../../dsl/grad.ts";
import { type Node, nodeOf, tensorOf, topologicalOrder } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { substitute } from "../../../../dsl/scan.ts";
import { flip, rename } from "../../../../dsl/structure.ts";
import { slstm, type Units } from "../../../../models/slstm.ts";
import { type Case, checkBackend, derived, numbers } from "../../../support/check.ts";
import { devices } from "../../../support/device.ts";

interface Shape {
  readonly batch: number;
  readonly head: number;
  readonly unit: number;
  readonly token: number;
}

/** An sLSTM cell from an empty state, and all that it can be differentiated for. */
const cell = ({ batch, head, unit, token }: Shape) => {
  const gate: number = 4;
  const wrt = {
    x: d.input("x", { batch, token, gate, head, unit }),
    recurrent: d.input("recurrent", { head, gate, unit, other: unit }),
    bias: d.input("bias", { gate, head, unit }),
  };
  const zero = d.expand(d.constant(0), { batch, head, unit }) as Units;
  return { ...slstm({ ...wrt, from: { y: zero, c: zero, n: zero, m: zero } }), wrt };
};

const filled = (
  axes: Readonly<Record<string, Axes>>,
  scale = 1,
): Record<string, Float32Array<ArrayBuffer>> =>
  Object.fromEntries(
    Object.entries(axes).map(([name, of], k) => {
      const data = numbers(k + 5, volume(of), -scale, scale);
      return [name, new Float32Array(data)];
    }),
  );

const made = (
  axes: Readonly<Record<string, Axes>>,
  build: (x: Readonly<Record<string, AnyTensor>>) => AnyTensor,
): Case => {
  const wrt = Object.fromEntries(
    Object.keys(axes).map((name) => [name, d.input(name, axes[name])]),
  );
  return { of: build(wrt), wrt, values: filled(axes) };
};

const renamed = (x: AnyTensor, from: string, to: string): AnyTensor =>
  tensorOf(rename(nodeOf(x), from, to));
const flipped = (x: AnyTensor, axis: string): AnyTensor => tensorOf(flip(nodeOf(x), axis));
const zeros = (axes: Axes): AnyTensor => d.expand(d.constant(0), axes) as AnyTensor;

/** Other steps that mix their carry: each in its own way. */
const kin: Record<string, Case> = {
  "a norm of the carry, and a carry without axes": made(
    { x: { t: 7, c: 70 }, w: { c: 70 }, n: {} },
    ({ x, w, n }) => {
      const { out, final } = d.scan(
        { over: "t", from: { h: w, n }, each: { x } },
        ({ h, n }, { x }) => {
          const next = d.tanh(d.add(h, x));
          const size = d.sqrt(d.add(d.mean(d.square(next), "c"), 0.1));
          return { next: { h: d.div(next, size), n: d.add(d.mul(n, size), n) }, out: { y: size } };
        },
      );
      return d.add(d.add(out.y, final.n), d.sum(final.h, "c"));
    },
  ),
  "a softmax of the carry, backwards in time": made(
    { x: { b: 3, t: 5, c: 67 } },
    ({ x }) =>
      d.scan(
        { over: "t", from: { h: zeros({ b: 3, c: 67 }) }, each: { x }, reverse: true },
        ({ h }, { x }) => {
          const next = d.mul(d.softmax(d.add(h, d.mul(x, 3)), "c"), 5);
          return { next: { h: next }, out: { y: next } };
        },
      ).out.y,
  ),
  "the carry read elsewhere while it is written": made(
    { x: { t: 6, b: 2, c: 81 }, mix: { c: 81, e: 3 } },
    ({ x, mix }) =>
      d.scan({ over: "t", from: { h: zeros({ b: 2, c: 81 }) }, each: { x } }, ({ h }, { x }) => {
        const some = d.contract(h, mix, "c");
        const back = d.contract(some, mix, "e");
        const next = d.add(d.tanh(d.add(flipped(h, "c"), x)), d.mul(back, 0.01));
        return { next: { h: next }, out: { y: d.mul(h, next) } };
      }).out.y,
  ),
  "two matrices, one of them used twice, and a projection of the output": made(
    { x: { t: 6, b: 2, c: 20 }, a: { c: 20, e: 20 }, z: { c: 20, e: 20 }, w: { c: 20, o: 9 } },
    ({ x, a, z, w }) => {
      const by = (h: AnyTensor, matrix: AnyTensor) =>
        d.mul(renamed(d.contract(h, matrix, "c"), "e", "c"), 0.2);
      const { out } = d.scan(
        { over: "t", from: { h: zeros({ b: 2, c: 20 }) }, each: { x } },
        ({ h }, { x }) => {
          const gate = d.sigmoid(d.add(by(h, z), x));
          const next = d.tanh(d.add(by(d.mul(gate, h), a), by(h, a)));
          const mixed = d.add(d.mul(gate, next), d.mul(d.sub(d.constant(1), gate), h));
          return { next: { h: d.add(mixed, x) }, out: { y: mixed } };
        },
      );
      return d.contract(out.y, w, "c");
    },
  ),
};

/** Steps with sums that no more than a few lanes' worth of carries mix: each lane runs for itself. */
const apart: Record<string, Case> = {
  "the mean of an input over what is carried": made(
    { x: { t: 5, c: 130 }, y: { t: 5, c: 130, e: 7 } },
    ({ x, y }) => {
      const { out, final } = d.scan(
        { over: "t", from: { h: zeros({ c: 130, e: 7 }) }, each: { x, y } },
        ({ h }, { x, y }) => {
          const centred = d.sub(x, d.mean(x, "c"));
          const next = d.tanh(d.add(d.mul(h, 0.5), d.mul(y, centred)));
          return { next: { h: next }, out: { y: d.sum(d.mul(next, next), "e") } };
        },
      );
      return d.add(out.y, d.sum(final.h, "e"));
    },
  ),
  "a sum of a small carry that a large one needs": made(
    { x: { t: 5, e: 11 }, y: { t: 5, c: 350, f: 3 } },
    ({ x, y }) => {
      const { out } = d.scan(
        { over: "t", from: { s: zeros({ e: 11 }), h: zeros({ c: 350, f: 3 }) }, each: { x, y } },
        ({ s, h }, { x, y }) => {
          const small = d.tanh(d.add(s, x));
          const large = d.add(d.mul(h, 0.5), d.mul(y, d.mean(small, "e")));
          return { next: { s: small, h: large }, out: { y: d.sin(large), z: d.mean(small, "e") } };
        },
      );
      return d.add(out.y, out.z);
    },
  ),
};

/** Shapes drawn at random, and one of each size that is odd to share out. */
const drawn = (k: number, low: number, high: number) =>
  Math.floor(numbers(300 + k, 1, low, high + 1)[0]);
const shapes: readonly Shape[] = [
  ...[0, 1].map((k) => ({
    batch: 2,
    head: drawn(4 * k, 2, 4),
    unit: drawn(4 * k + 1, 5, 64),
    token: drawn(4 * k + 2, 8, 10),
  })),
  { batch: 2, head: 2, unit: 64, token: 9 },
  { batch: 1, head: 2, unit: 72, token: 3 },
];

for (const [device, backend] of devices) {
  Deno.test({
    name: `steps with sums agree with the reference on ${device}, forward and backward`,
    ignore: backend === undefined,
    fn: () => {
      const cells = shapes.map((shape): [string, Case] => {
        const { out, wrt } = cell(shape);
        const axes = Object.fromEntries(Object.entries(wrt).map(([k, of]) => [k, nodeOf(of).axes]));
        return [JSON.stringify(shape), { of: out, wrt, values: filled(axes, 0.4) }];
      });
      return checkBackend(backend!, { ...Object.fromEntries(cells), ...kin, ...apart }, 5e-5);
    },
  });
}

Deno.test("what leaves a step is computed outside of it to the same values", () => {
  const shape = { batch: 2, head: 2, unit: 11, token: 5 };
  const { out, wrt } = cell(shape);
  const axes = Object.fromEntries(Object.entries(wrt).map(([k, of]) => [k, nodeOf(of).axes]));
  const cases: Record<string, Case> = { cell: { of: out, wrt, values: filled(axes) }, ...kin };
  for (const [name, of] of Object.entries(cases)) {
    const { gradients, values } = derived(of);
    const before = [of.of, ...Object.values(gradients)].map(nodeOf);
    let now: readonly Node[] = before, moved = 0;
    const done = new Set<Node>();
    for (;;) {
      const order = topologicalOrder(now);
      const scan = order.find((of) => of.op === "scan" && !done.has(of));
      if (scan === undefined) break;
      done.add(scan);
      const mixed = crossLaneAxes(scan);
      assert(mixed !== undefined, `${name}: the carry is mixed`);
      const found = hoist(scan, order, mixed);
      if (found === undefined) continue;
      now = substitute(now, found);
      moved++;
    }
    assertGreater(moved, 0, `${name}: something leaves a step`);
    const results = [before, now].map((roots) =>
      interpret(roots, (leaf) => values[leaf.attributes.name!]).map((data, k) =>
        ordered(data, roots[k], Object.keys(before[k].axes))
      )
    );
    results[0].forEach((want, k) => {
      const largest = want.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      want.forEach((x, i) => {
        const found = results[1][k][i];
        assertLessOrEqual(Math.abs(x - found), 1e-11 * largest, `${name}: ${found}, expected ${x}`);
      });
    });
  }
});

const output = (of: AnyTensor) => ({ of, order: Object.keys(nodeOf(of).axes) });

const kernelsOf = (outputs: Readonly<Record<string, AnyTensor>>) => {
  const wanted = Object.entries(outputs).map(([name, of]) => [name, output(of)] as const);
  const lowered = lower({ outputs: Object.fromEntries(wanted) });
  return { kernels: lowered.kernels, stored: lowered.stored };
};

const shapesOf = (kernels: readonly Kernel[]) => kernels.map((kernel) => kernel.shape);

const sizes = (wgsl: string, pattern: RegExp) =>
  [...wgsl.matchAll(pattern)].map((match) => Number(match[1]));

for (const unit of [48, 64, 96]) {
  Deno.test(`an sLSTM cell of ${unit} units: one kernel forward, a workgroup for each head`, () => {
    const { out, wrt } = cell({ batch: 2, head: 4, unit, token: 9 });
    const forward = kernelsOf({ out });
    assertEquals(shapesOf(forward.kernels), ["scan"]);

    // Backward: what the recurrent matrix gave at all steps at once, the scan, and sums over time.
    const loss = d.total(d.square(out));
    const both = kernelsOf(grad(loss, wrt));
    const shapes = shapesOf(both.kernels);
    assertEquals(shapes.slice(0, 3), ["scan", "contraction", "scan"]);
    assertEquals(shapes.slice(3).toSorted(), ["contraction", "row"]);

    for (const { kernels, stored } of [forward, both]) {
      for (const kernel of kernels) {
        if (kernel.shape !== "scan") continue;
        assert(kernel.cooperative, "the units are spread over a workgroup");
        const bound = binder();
        const { wgsl, grid, flops } = moduleOf([printScan(kernel, stored, bound)], bound);
        assertGreater(flops, 2 * 9 * 2 * 4 * 4 * unit ** 2, `${flops} operations`);
        assertStrictEquals(grid.reduce((a, b) => a * b, 1), 2 * 4);
        const own = sizes(wgsl, /var \w+: array<\w+, (\d+)>;/g);
        assertLessOrEqual(Math.max(0, ...own), 192, `a lane has an array of ${Math.max(...own)}`);
        const shared = sizes(wgsl, /var<workgroup> \w+: array<\w+, (\d+)>;/g);
        assertLessOrEqual(
          4 * shared.reduce((a, b) => a + b, 0),
          16384,
          "it fits into workgroup memory",
        );
      }
    }
  });
}

Deno.test("a lane holds no more than a few values, whatever its step sums", () => {
  for (const [name, { of, wrt }] of Object.entries(apart)) {
    const loss = d.sum(d.square(of), Object.keys(nodeOf(of).axes) as never);
    for (const { kernels, stored } of [kernelsOf({ of }), kernelsOf(grad(loss, wrt))]) {
      for (const kernel of kernels) {
        if (kernel.shape !== "scan" || kernel.cooperative) continue;
        const bound = binder();
        const { wgsl } = moduleOf([printScan(kernel, stored, bound)], bound);
        const own = sizes(wgsl, /var \w+: array<\w+, (\d+)>;/g);
        assertLessOrEqual(
          Math.max(0, ...own),
          64,
          `${name}: a lane has an array of ${Math.max(...own)}`,
        );
      }
    }
  }
});

Deno.test("a recurrence that mixes nothing is still run by lanes alone", () => {
  const x = d.input("x", { b: 2, t: 9, c: 130 });
  const { kernels } = kernelsOf({ y: d.recurrence("t", d.sigmoid(x), x) });
  assertEquals(shapesOf(kernels), ["scan"]);
  assert(kernels.every((kernel) => kernel.shape === "scan" && !kernel.cooperative));
});
