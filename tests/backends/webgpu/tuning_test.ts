// Schedules from a tuning table: whatever they say, values stay as they are, and what a device could
// not run is left out.
import { assert, assertEquals, assertGreater, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { Program } from "../../../backends/backend.ts";
import { lower } from "../../../backends/lower/pipeline.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { webgpuBackend } from "../../../backends/webgpu/backend.ts";
import { compile } from "../../../backends/webgpu/compile.ts";
import { openDevice } from "../../../backends/webgpu/discovery/discover.ts";
import { productSchedule } from "../../../backends/webgpu/schedules.ts";
import type { Edit, Target, Tuning } from "../../../backends/webgpu/target.ts";
import { candidates } from "../../../experiments/inspect/tune.ts";
import * as d from "../../../mod.ts";
import { disagreement, numbers } from "../../support/check.ts";
import { gpuLimits, tinyStep } from "../../support/tiny_steps.ts";

/** Products of odd sizes with something done to operands and results, and rows, few and many. */
const program = (): Program => {
  const x = d.input("x", { row: 37, inner: 45 }), y = d.input("y", { inner: 45, column: 70 });
  const z = d.input("z", { item: 3, row: 5, inner: 200 });
  const rows = d.input("rows", { row: 1100, inner: 36 });
  const product = d.exp(d.contract(d.tanh(x), y, "inner"));
  const batched = d.contract(z, d.rename(z, "row", "column"), "inner");
  const output = (of: d.AnyTensor, ...order: string[]) => ({ of, order });
  return {
    outputs: {
      product: output(product, "row", "column"),
      batched: output(batched, "item", "row", "column"),
      softmax: output(d.softmax(z, "inner"), "item", "row", "inner"),
      sums: output(d.sum(d.square(rows), ["inner"]), "row"),
    },
  };
};
const inputs = {
  x: numbers(1, 37 * 45),
  y: numbers(2, 45 * 70, -0.2, 0.2),
  z: numbers(3, 3000),
  rows: numbers(4, 1100 * 36),
};

const found = await openDevice("auto")();

Deno.test({
  name: "every schedule gives the same values",
  ignore: E.isLeft(found),
  fn: async () => {
    if (E.isLeft(found)) return;
    const reference = await referenceBackend().open({ program: program() });
    const want = await reference.run("program", inputs);
    // Alone, and after summing from tiles, which a software driver does not by itself.
    const lists: readonly (readonly Edit[])[] = [
      ...candidates.map((edit) => [edit]),
      ...candidates.map((edit) => [{ from: "tiles" as const }, edit]),
    ];
    const codes = new Set<string>();
    let tuning: Tuning = {};
    for (const edits of [[], ...lists]) {
      // The keys are those of the first, untuned program.
      tuning = Object.fromEntries(Object.keys(tuning).map((key) => [key, edits]));
      const machine = await webgpuBackend({ ...found.right, tuning }).open({ program: program() });
      const { kernels } = machine.report("program");
      if (edits.length === 0) {
        tuning = Object.fromEntries(
          kernels.flatMap(({ tuned }) => tuned ?? []).map((k) => [k, []]),
        );
        assertStrictEquals(Object.keys(tuning).length, 4);
      }
      kernels.forEach(({ code }) => codes.add(code));
      const said = disagreement(want, await machine.run("program", inputs));
      assert(said === undefined, `${JSON.stringify(edits)}: ${said}`);
      machine.close();
    }
    assertGreater(codes.size, 40, `only ${codes.size} kernels differ`);
    found.right.close();
  },
});

Deno.test("an edit that a device could not run is left out, and the others are not", () => {
  const [kernel] = lower({ outputs: { product: program().outputs.product } }).kernels;
  const of = kernel.shape === "contraction" ? kernel.contraction! : undefined;
  assert(of !== undefined);
  const key = "product 1 x 37 x 70 over 45";
  const tuned = (...edits: Edit[]) => {
    const target: Target = { onCpu: false, tuning: { [key]: edits } };
    return productSchedule(of, target);
  };
  assertStrictEquals(tuned({ depth: 32 }).depth, 32);
  // Tiles of 128 rows and 32 columns, 32 deep, are 20 KiB.
  const large = tuned({ side: 16 }, { down: 8, across: 8 }, { depth: 32 }, { depth: 8 });
  assertStrictEquals(large.down, 8);
  assertStrictEquals(large.depth, 8);
  assertStrictEquals(tuned({ side: 16 }, { down: 8, across: 8 }, { depth: 32 }).depth, 16);
});

Deno.test("kernels with workgroups of different sizes are not joined", () => {
  const step = tinyStep("mamba", "all", 2);
  const place = (target: Target) => ({
    name: "a GPU",
    limits: gpuLimits,
    target,
    oneForParams: true,
  });
  const keys = compile(step, place({ onCpu: false, apart: true })).steps
    .flatMap(({ code }) => code.tuned).filter((key) => key.includes("rows of"));
  assertGreater(keys.length, 5);
  const tuning = Object.fromEntries(keys.map((key) => [key, [{ threads: 256 }]]));
  for (const { code } of compile(step, place({ onCpu: false, tuning })).steps) {
    assertStrictEquals(code.wgsl.match(/@workgroup_size\((\d+)\)/)![1], `${code.workgroup}`);
    assert(code.tuned.every((key) => !keys.includes(key) || code.workgroup === 256), code.wgsl);
  }
});

Deno.test("on a GPU small products have small tiles, so that there are more of them", () => {
  const tiles = (rows: number, columns: number, onCpu: boolean) => {
    const x = d.input("x", { row: rows, inner: 96 });
    const y = d.input("y", { inner: 96, column: columns });
    const of = d.contract(x, y, "inner");
    const [kernel] = lower({ outputs: { of: { of, order: ["row", "column"] } } }).kernels;
    assert(kernel.shape === "contraction");
    const { side, down, across } = productSchedule(kernel.contraction!, { onCpu });
    return [side * down, 64 / side * across];
  };
  assertEquals(tiles(2048, 2048, false), [64, 64]);
  assertEquals(tiles(192, 768, false), [32, 32]);
  assertEquals(tiles(64, 64, false), [16, 16]);
  assertEquals(tiles(8, 3000, false), [8, 16]);
  assertEquals(tiles(192, 768, true), [64, 64]);
});
