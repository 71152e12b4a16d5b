// Kernels beside each other: those of the same loops are one kernel, others that do not wait for each
// other are one dispatch; values stay what they were.
import { assertEquals, assertLess, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import type { Program } from "../../../../backends/backend.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import type { Storage } from "../../../../backends/lower/kernel_ir.ts";
import { dispatchesOf } from "../../../../backends/webgpu/dispatches.ts";
import { compile, programReport } from "../../../../backends/webgpu/compile.ts";
import { NEEDED_LIMITS } from "../../../../backends/webgpu/discovery/adapter.ts";
import { type AnyTensor, volume } from "../../../../dsl/axes.ts";
import { nodeOf } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { parameters } from "../../../../dsl/parameters.ts";
import { adamW } from "../../../../models/optimiser.ts";
import { zeros } from "../../../../models/initialisers.ts";
import { interpret, ordered } from "../../../../backends/reference/interpret.ts";
import { numbers } from "../../../support/check.ts";
import { webgpuAsGpu } from "../../../support/device.ts";

const storage = (id: number): Storage => ({ id, dtype: "f32", dims: [], role: "temporary" });

Deno.test("a kernel joins an earlier dispatch only where the order of all that meet is kept", () => {
  const storages = Array.from({ length: 6 }, (_, id) => storage(id));
  const kernel = fc.record({
    writes: fc.uniqueArray(fc.constantFrom(...storages), { minLength: 1, maxLength: 2 }),
    reads: fc.uniqueArray(fc.constantFrom(...storages), { maxLength: 3 }),
  });
  fc.assert(fc.property(fc.array(kernel, { maxLength: 20 }), (list) => {
    const kernels = list.map(({ writes, reads }) => ({
      writes: new Set(writes),
      all: new Set([...writes, ...reads]),
    }));
    const dispatches = dispatchesOf(kernels, () => true);
    const place = new Map(dispatches.flatMap((of, at) => of.map((k) => [k, at] as const)));
    assertStrictEquals(place.size, kernels.length);
    kernels.forEach((later, b) =>
      kernels.slice(0, b).forEach((earlier, a) => {
        const meet = [...earlier.writes].some((of) => later.all.has(of)) ||
          [...later.writes].some((of) => earlier.all.has(of));
        if (meet) assertLess(place.get(a)!, place.get(b)!, `${a} runs before ${b}`);
      })
    );
  }));
});

const place = (limits: Readonly<Record<string, number>>, oneForParams: boolean) => ({
  name: "a GPU",
  limits: {
    ...NEEDED_LIMITS,
    maxStorageBufferBindingSize: 1 << 27,
    minStorageBufferOffsetAlignment: 256,
    ...limits,
  } as unknown as GPUSupportedLimits,
  target: { onCpu: false },
  oneForParams,
});

const output = (of: AnyTensor) => ({ of, order: Object.keys(nodeOf(of).axes) });
const weight = (name: string, axes: Readonly<Record<string, number>>): AnyTensor =>
  d.param(name, axes, zeros);

/** A map, a row, a product and a pick of words, of sizes that have nothing to do with each other. */
const mixed = (): Program => ({
  outputs: {
    map: output(d.exp(weight("a", { time: 37, channel: 5 }))),
    row: output(d.softmax(weight("b", { row: 1100, key: 33 }), "key")),
    few: output(d.softmax(weight("c", { row: 3, key: 300 }), "key")),
    product: output(
      d.contract(weight("e", { m: 70, k: 20 }), weight("f", { k: 20, n: 9 }), "k"),
    ),
  },
});

Deno.test("kernels of all shapes start together, and their values are their own", async () => {
  const program = mixed();
  const together = programReport(compile(program, place({}, true)));
  assertEquals(together.kernels.map(({ shapes }) => shapes.toSorted()), [
    ["contraction", "map", "row", "row"],
  ]);
  if (webgpuAsGpu === undefined) return;
  const machine = await webgpuAsGpu.open({ program });
  assertStrictEquals(machine.report("program").kernels.length, 1);
  const list = parameters(Object.values(program.outputs).map(({ of }) => of));
  const values = Object.fromEntries(
    list.map(({ name, axes }, k) => [name, numbers(k, volume(axes))]),
  );
  machine.write(values);
  const found = await machine.run("program", {});
  for (const [name, { of, order }] of Object.entries(program.outputs)) {
    const [exact] = interpret([nodeOf(of)], (leaf) => values[leaf.attributes.name!]);
    const wanted = ordered(exact, nodeOf(of), order);
    found[name].forEach((x, k) =>
      assertLessOrEqual(Math.abs(x - wanted[k]), 1e-5, `${name}[${k}]`)
    );
  }
  machine.close();
});

Deno.test("kernels start together only as far as a device has bindings for them", () => {
  for (const oneForParams of [true, false]) {
    const limits = { maxStorageBuffersPerShaderStage: oneForParams ? 2 : 4 };
    for (const { code } of compile(mixed(), place(limits, oneForParams)).steps) {
      const bound = code.wgsl.match(/var<storage/g)!.length;
      assertLessOrEqual(bound, limits.maxStorageBuffersPerShaderStage, code.wgsl);
    }
  }
  const apart = programReport(compile(mixed(), place({}, false)));
  assertLess(apart.kernels.length, 4, "values that are not packed are bound each by itself");
});

Deno.test("kernels start together up to the last binding of a device", () => {
  // What is packed is one binding however much it is; inputs are one each.
  const x: AnyTensor = d.input("x", { i: 40 }), y: AnyTensor = d.input("y", { j: 50 });
  const program = {
    outputs: {
      a: output(d.exp(d.mul(x, weight("a", { i: 40 })))),
      b: output(d.sin(d.sub(weight("b", { j: 50 }), y))),
      c: output(d.softmax(weight("c", { row: 30, key: 33 }), "key")),
    },
  };
  const starts = (most: number, oneForParams: boolean) =>
    compile(program, place({ maxStorageBuffersPerShaderStage: most }, oneForParams)).steps.length;
  // Two inputs, the arena, and the parameters: in one buffer, or three.
  assertEquals([4, 3].map((most) => starts(most, true)), [1, 2]);
  assertEquals([6, 5].map((most) => starts(most, false)), [1, 2]);
});

Deno.test("kernels that lie too far apart for what a device binds start each by itself", () => {
  // The largest result fills a binding: the others are reached through a second one.
  const limits = { maxStorageBuffersPerShaderStage: 2, maxStorageBufferBindingSize: 145200 };
  assertStrictEquals(compile(mixed(), place(limits, true)).steps.length, 4);
  const one = { ...limits, maxStorageBuffersPerShaderStage: 3 };
  assertStrictEquals(compile(mixed(), place(one, true)).steps.length, 1);
});

Deno.test("the optimiser is a few dispatches, however many parameters there are", () => {
  const params = Array.from({ length: 24 }, (_, k) => weight(`p${k}`, { out: 3 + k, in: 7 }));
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
  const { kernels } = programReport(compile({ outputs: {}, updates }, place({}, true)));
  assertLessOrEqual(kernels.length, 8, `${kernels.length} dispatches`);
});

Deno.test("reductions over the same axes that read different values are one kernel", () => {
  const x = d.input("x", { time: 300, channel: 40 }), y = d.input("y", { time: 300, channel: 40 });
  const sums = { a: output(d.sum(x, "time")), b: output(d.sum(d.mul(x, y), "time")) };
  assertStrictEquals(lower({ outputs: sums }).kernels.length, 1);
  // One that waits for the other is another kernel.
  const b = d.sum(d.mul(y, d.sum(x, "time")), "time");
  assertLessOrEqual(lower({ outputs: { a: sums.a, b: output(b) } }).kernels.length, 2);
});
