// Scans and their fusion: absorbing what is around a scan keeps its values, and nothing with both
// the time and the state axis is left outside; the number of kernels of the usual parts of models.
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import type { KernelReport, Program, ProgramReport } from "../../backends/backend.ts";
import { interpret, ordered } from "../../backends/reference/interpret.ts";
import { fuseIntoScans } from "../../dsl/fuse_scans.ts";
import { type AnyTensor, type Axes, AxisError, volume } from "../../dsl/axes.ts";
import { valueAndGrad } from "../../dsl/grad.ts";
import { type Node, nodeOf, topologicalOrder } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import { parameters } from "../../dsl/parameters.ts";
import { adamW } from "../../models/optimiser.ts";
import { zeros } from "../../models/initialisers.ts";
import { numbers } from "../support/check.ts";
import { webgpu } from "../support/device.ts";

const T = 37, C = 66, N = 5, B = 2;

/** A selective state space with everything around it that a block has. */
const selective = (reverse = false) => {
  const seq = { batch: B, time: T, channel: C } as const;
  const step = { batch: B, time: T, state: N } as const;
  const inputs = {
    u: d.input("u", seq),
    dt: d.input("dt", seq),
    z: d.input("z", seq),
    A: d.input("A", { channel: C, state: N }),
    B: d.input("B", step),
    C: d.input("C", step),
    D: d.input("D", { channel: C }),
  };
  const { u, dt, z } = inputs;
  const delta = d.softplus(dt);
  const a = d.exp(d.mul(delta, d.neg(d.exp(inputs.A))));
  const h = d.recurrence("time", a, d.mul(d.mul(delta, inputs.B), u), { reverse });
  const y = d.on.mul(d.on.add(d.contract(h, inputs.C, "state"), d.on.mul(u, inputs.D)), d.silu(z));
  return { y, inputs };
};

const leaves = (leaf: Node) => numbers(leaf.attributes.name!.charCodeAt(0), volume(leaf.axes));

const values = (of: Node): Float64Array =>
  ordered(interpret([of], leaves)[0], of, Object.keys(of.axes).sort());

for (const reverse of [false, true]) {
  Deno.test(`absorbing keeps the values${reverse ? ", in reverse" : ""}`, () => {
    const before = nodeOf(selective(reverse).y);
    const [after] = fuseIntoScans([before]).roots;
    assert(after !== before, "there was something to absorb");
    const want = values(before), got = values(after);
    want.forEach((x, k) =>
      assertLess(Math.abs(x - got[k]), 1e-12 * (1 + Math.abs(x)), `${x}, ${got[k]}`)
    );
  });

  Deno.test(`a node that is asked for stays${reverse ? ", in reverse" : ""}`, () => {
    const { y, inputs } = selective(reverse);
    const h = topologicalOrder([nodeOf(y)]).find((of) => of.op === "part")!;
    const { roots: [after], kept: [kept] } = fuseIntoScans([nodeOf(y)], [h]);
    assert(topologicalOrder([after, kept]).includes(kept));
    const want = values(h), got = values(kept);
    want.forEach((x, k) => assertLess(Math.abs(x - got[k]), 1e-12 * (1 + Math.abs(x))));
    assertStrictEquals(Object.keys(inputs).length, 7);
  });
}

const loss = () => {
  const { y, inputs } = selective();
  const total = d.sum(d.square(y), ["batch", "time", "channel"]);
  return valueAndGrad(total, inputs);
};

Deno.test("of a selective scan and its gradient, only carries within scans have time and state", () => {
  const { value, gradients } = loss();
  const all = topologicalOrder([value, ...Object.values(gradients)].map(nodeOf));
  const large = all.filter((of) => ["time", "state", "channel"].every((axis) => axis in of.axes));
  assertGreaterOrEqual(all.filter((of) => of.op === "scan").length, 2);
  for (const of of large) {
    assert(
      of.op === "part" && of.attributes.name!.startsWith("prev."),
      `${of.op} ${of.attributes.name ?? ""} has time, state and channel`,
    );
  }
});

Deno.test("a scan whose step is wrong is refused where it is made", () => {
  const x = d.input("x", { time: 5, channel: 3 });
  const start: AnyTensor = d.constant(0);
  assertStrictEquals(
    assertThrows(
      () =>
        d.scan({ over: "time", from: { h: start }, each: { x } }, ({ h }, { x }) => ({
          next: { h: d.add(h, x as AnyTensor) },
          out: {},
        })),
      AxisError,
    ).message,
    "the step gives the carry 'h' the axis 'channel', which it does not start with",
  );
  assertStrictEquals(
    assertThrows(
      () =>
        d.scan({ over: "tim" as "time", from: { h: start }, each: { x } }, ({ h }) => ({
          next: { h },
          out: {},
        })),
      AxisError,
    ).message,
    "'x' has no axis 'tim' to scan over",
  );
});

// ---- what is compiled ---------------------------------------------------------------------------

const out = (of: AnyTensor) => ({ of, order: Object.keys(nodeOf(of).axes) });

const compiled = async (program: Program): Promise<ProgramReport> => {
  const machine = await webgpu!.open({ it: program });
  const report = machine.report("it");
  machine.close();
  return report;
};

const shapes = (kernels: readonly KernelReport[]): readonly string[] =>
  kernels.map((kernel) => kernel.shapes.join("+"));

const compiles = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, ignore: webgpu === undefined, fn });

const large = (axes: Axes): boolean =>
  ["state", "channel"].every((axis) => axis in axes) && axes.time === T;

compiles(
  "a selective scan forward is one scan kernel and stores nothing but its result",
  async () => {
    const { kernels, peakBytes } = await compiled({ outputs: { y: out(selective().y) } });
    assertEquals(shapes(kernels), ["scan"]);
    assertEquals(kernels.flatMap((kernel) => kernel.writes), [
      { time: T, batch: B, channel: C },
    ]);
    assertLessOrEqual(peakBytes, 4 * (C * N + B * T * C) + 512, `${peakBytes} bytes`);
  },
);

compiles("no buffer of a selective scan's gradient has time, state and channel", async () => {
  const { value, gradients } = loss();
  const all = Object.entries({ value, ...gradients }).map(([name, of]) => [name, out(of)] as const);
  const { kernels, peakBytes } = await compiled({ outputs: Object.fromEntries(all) });
  for (const kernel of kernels) {
    assert(!kernel.writes.some(large), `${kernel.path} writes ${JSON.stringify(kernel.writes)}`);
  }
  assertStrictEquals(shapes(kernels).filter((shape) => shape === "scan").length, 2);
  // Six arrays of batch x time x channel at the most, three of them results; with the state each
  // would be five times as large.
  const one = 4 * B * T * C;
  assertLess(
    peakBytes,
    6 * one,
    `${peakBytes} bytes at once are ${(peakBytes / one).toFixed(1)} arrays`,
  );
});

compiles("softmax and layer norm are one kernel each", async () => {
  const x = d.input("x", { token: 50, channel: 192 });
  assertEquals(
    shapes((await compiled({ outputs: { y: out(d.softmax(x, "channel")) } })).kernels),
    [
      "row",
    ],
  );
  const centred = d.on.sub(x, d.mean(x, "channel"));
  const deviation = d.sqrt(d.add(d.mean(d.square(centred), "channel"), 1e-5));
  const weight = d.input("weight", { channel: 192 }), bias = d.input("bias", { channel: 192 });
  const normed = d.on.add(d.on.mul(d.on.div(centred, deviation), weight), bias);
  assertEquals(shapes((await compiled({ outputs: { y: out(normed) } })).kernels), ["row"]);
});

compiles("AdamW is one kernel for each parameter", async () => {
  const weights = [["a", { out: 7, channel: 13 }], ["b", { channel: 13 }], ["c", {
    out: 5,
  }]] as const;
  const params = weights.map(([name, axes]) => d.param(name, axes as Axes, zeros));
  const list = parameters(params);
  const gradients = Object.fromEntries(
    list.map(({ name, axes }) => [name, d.input(`g.${name}`, axes)]),
  );
  const updates = adamW(
    { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 },
    list,
    gradients,
    { rate: d.input("rate", {}), step: d.input("step", {}) },
  );
  assertStrictEquals(Object.keys(updates).length, 9);
  const { kernels } = await compiled({ outputs: {}, updates });
  assert(shapes(kernels).every((shape) => /^map(\+map)*$/.test(shape)), `${shapes(kernels)}`);
  // What depends on the rate and the step alone is computed once for all of them.
  const large = kernels.filter((kernel) => kernel.writes.some((axes) => volume(axes) > 1));
  assertEquals(large.map((kernel) => kernel.writes.length), [3, 3, 3]);
  assertLessOrEqual(kernels.length, 5, `${kernels.length} kernels`);
});

Deno.test("a scan made twice is one node, also with a scan inside, and after a step that throws", () => {
  const inner = (x: AnyTensor, h: AnyTensor): AnyTensor =>
    d.scan(
      { over: "state", from: { s: d.sum(h, "state") as AnyTensor }, each: { x } },
      ({ s }, { x }) => ({
        next: { s: d.add(d.mul(s, 0.5), x) as AnyTensor },
        out: {},
      }),
    ).final.s;
  const outer = (): Node => {
    const x: AnyTensor = d.input("x", { time: 5, state: 3 });
    const from: AnyTensor = d.input("from", { state: 3 });
    const { out } = d.scan({ over: "time", from: { h: from }, each: { x } }, ({ h }, { x }) => ({
      next: { h: d.tanh(d.add(h, x)) },
      out: { y: inner(x, h) },
    }));
    return nodeOf(out.y);
  };
  const before = outer();
  assertStrictEquals(outer(), before);
  const x: AnyTensor = d.input("x", { time: 5, state: 3 });
  const fails = () =>
    d.scan({ over: "time", from: { h: d.constant(0) as AnyTensor }, each: { x } }, () => {
      throw new AxisError("no step");
    });
  assertThrows(fails, Error, "no step");
  assertStrictEquals(outer(), before);
  const [data] = interpret([before], leaves);
  assertStrictEquals(data.length, 5);
});
