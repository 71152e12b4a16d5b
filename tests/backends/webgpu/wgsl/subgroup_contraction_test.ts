// Products by units for small matrices. Nothing here has such units, so what the kernels do is checked
// in two halves: Dawn's validation accepts the real spelling on its backend without a device, and the
// values are right where the units are replaced by plain loops.
import { assert, assertEquals, assertGreater, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { Backend, Program } from "../../../../backends/backend.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import { webgpuBackend } from "../../../../backends/webgpu/backend.ts";
import type { WebgpuDevice } from "../../../../backends/webgpu/device/device.ts";
import { compile } from "../../../../backends/webgpu/compile.ts";
import { openDevice } from "../../../../backends/webgpu/discovery/discover.ts";
import {
  matricesOf,
  type MatrixConfig,
  soundMatrices,
} from "../../../../backends/webgpu/discovery/subgroup_matrix.ts";
import { matrixTiling } from "../../../../backends/webgpu/wgsl/subgroup_contraction.ts";
import type { Matrices, MatrixSizes } from "../../../../backends/webgpu/target.ts";
import { settler } from "../../../../backends/webgpu/device/settle.ts";
import * as d from "../../../../mod.ts";
import { disagreement, numbers } from "../../../support/check.ts";
import { plainMatrices } from "../../../support/plain_matrices.ts";
import { gpuLimits, tinyStep } from "../../../support/tiny_steps.ts";

/** Products of every kind of shape, with something done to operands and results. */
const program = (precision: "f32" | "f16"): Program => {
  const output = (of: d.AnyTensor, ...order: string[]) => ({ of, order });
  const rows = (n: number) => d.input(`x${n}`, { row: n, inner: 45 });
  const columns = (n: number) => d.input(`y${n}`, { inner: 45, column: n });
  const product = (m: number, n: number) =>
    d.contract(d.tanh(rows(m)), columns(n), "inner") as d.Tensor<{ row: number; column: number }>;
  const bias = d.input("bias", { column: 130 as number }),
    z = d.input("z", { item: 3, row: 20, inner: 33 });
  const large = product(70, 130);
  const gate = d.input("gate", { row: 70 as number, column: 130 as number });
  return {
    outputs: {
      tall: output(product(300, 8), "row", "column"),
      wide: output(d.exp(product(9, 200)), "column", "row"),
      square: output(d.mul(d.add(large, d.on(large, bias)), gate), "row", "column"),
      small: output(product(5, 13), "row", "column"),
      batched: output(
        d.contract(d.flip(z, "inner"), d.rename(z, "row", "column"), "inner"),
        "item",
        "row",
        "column",
      ),
    },
    precision,
  };
};

const inputs = {
  ...Object.fromEntries([300, 9, 70, 5].map((n) => [`x${n}`, numbers(n, 45 * n)])),
  ...Object.fromEntries([8, 200, 130, 13].map((n) => [`y${n}`, numbers(n, 45 * n, -0.2, 0.2)])),
  bias: numbers(1, 130),
  gate: numbers(2, 70 * 130),
  z: numbers(3, 3 * 20 * 33, -0.5, 0.5),
};

const run = async (backend: Backend, of: Program) => {
  const machine = await backend.open({ of });
  const values = await machine.run("of", inputs);
  const { kernels } = machine.report("of");
  machine.close();
  return { values, kernels };
};

const found = await openDevice("auto")();
const square = (n: number): MatrixSizes => ({ rows: n, columns: n, over: n });
const oblong: MatrixSizes = { rows: 8, columns: 16, over: 16 };

const shapes: readonly (readonly ["f16" | "f32", MatrixSizes, number])[] = [
  ["f32", { rows: 16, columns: 8, over: 32 }, 64],
  ["f16", square(16), 32],
  ["f16", oblong, 64],
  ["f16", square(16), 128],
];
for (const [component, sizes, subgroup] of shapes) {
  const words = `${sizes.rows} x ${sizes.columns} x ${sizes.over} ${component}`;
  Deno.test({
    name: `products by matrices of ${words}, ${subgroup} lanes, have the right values`,
    ignore: E.isLeft(found) || (component === "f16" && !found.right.features.shaderF16),
    fn: async () => {
      if (E.isLeft(found)) return;
      const of = program(component);
      const matrices = [plainMatrices(component, sizes, subgroup)];
      const got = await run(webgpuBackend({ ...found.right, matrices }), of);
      assertStrictEquals(got.kernels.filter(({ code }) => code.includes("results[e]")).length, 5);
      const want = await run(referenceBackend(), of);
      // Operands are rounded to f16; sums are not.
      const tolerance = component === "f16" ? 2e-3 : 1e-5;
      assertStrictEquals(disagreement(want.values, got.values, tolerance, 1), undefined);
    },
  });
}

/** Dawn without a device: it compiles and validates WGSL, and runs nothing. */
const nowhere = async (): Promise<WebgpuDevice & { readonly subgroup: number }> => {
  const { create } = await import("webgpu");
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = (await gpu.requestAdapter())!;
  const features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];
  const device = await adapter.requestDevice({
    requiredFeatures: features as GPUFeatureName[],
  });
  // Dawn's objects must outlive what is made from them.
  const kept = [gpu, adapter, device];
  return {
    device,
    name: "Dawn's null backend",
    onCpu: false,
    settle: settler(),
    subgroup: adapter.info.subgroupMaxSize,
    close: () => kept.forEach((one) => one === device && device.destroy()),
  };
};
const config = (M: number, N: number, K: number, type = "f16", result = "f32"): MatrixConfig => ({
  componentType: type,
  resultComponentType: result,
  M,
  N,
  K,
});

Deno.test("Dawn accepts the code of products by matrices", async () => {
  const device = await nowhere();
  const offers = [config(16, 16, 16), config(8, 16, 16), config(8, 8, 8, "f32")];
  for (const offer of offers) {
    const matrices = matricesOf([offer], device.subgroup);
    const backend = webgpuBackend({
      ...device,
      matrices: matrices.map((m) => ({ ...m, least: 1 })),
    });
    const open = {
      products: program(offer.componentType as "f16" | "f32"),
      step: { ...tinyStep("transformer", "all", 1), precision: offer.componentType as "f16" },
    };
    const machine = await backend.open(open);
    const products = (name: string) => {
      const kernels = machine.report(name).kernels
        .filter(({ code }) => code.includes("subgroupMatrixMultiplyAccumulate"));
      return kernels.flatMap(({ shapes }) => shapes.filter((shape) => shape === "contraction"));
    };
    assertStrictEquals(products("products").length, 5);
    assertGreater(
      products("step").length,
      20,
      `${products("step").length} products of a training step`,
    );
    machine.close();
  }
  device.close();
});

Deno.test("what Dawn would not accept is found on its backend without a device", async () => {
  const device = await nowhere();
  const [matrices] = matricesOf([config(16, 16, 16)], device.subgroup);
  const wrong: Matrices = {
    ...matrices,
    spelling: {
      ...matrices.spelling,
      multiplyAdd: (sum, left, right) => matrices.spelling.multiplyAdd(sum, right, left),
    },
  };
  const { matrices: sound, refused } = await soundMatrices(device, [wrong]);
  assertStrictEquals(sound.length, 0);
  assertStrictEquals(refused.length, 1);
  assert(refused[0].startsWith("subgroup matrices of 16 x 16 x 16 f16 are not used: "), refused[0]);
  assert(refused[0].includes("does not compile"), refused[0]);
  device.close();
});

Deno.test("of what a device offers, the largest with sums in f32 is used", () => {
  const offered = [
    config(16, 16, 16, "f16", "f16"),
    config(8, 8, 16),
    config(16, 8, 16),
    config(64, 16, 16),
    config(16, 16, 32, "i8", "i32"),
    config(8, 8, 8, "f32"),
  ];
  for (const list of [offered, offered.toReversed()]) {
    const found = matricesOf(list, 32);
    assertEquals(
      found.map(({ component, rows, columns, over }) => [component, rows, columns, over]),
      [["f16", 16, 8, 16], ["f32", 8, 8, 8]],
    );
  }
  assertEquals(matricesOf([], 32), []);
});

Deno.test({
  name: "matrices that compute something else are refused, and ordinary kernels do the work",
  ignore: E.isLeft(found),
  fn: async () => {
    if (E.isLeft(found)) return;
    const good = plainMatrices("f32", square(16), 64);
    const { spelling } = good;
    const wrongs: readonly Partial<typeof spelling>[] = [
      // Neighbouring rows, too few terms, sums rounded on the way, results in another's place.
      {
        load: (name, side, from) => spelling.load(name, side, { ...from, stride: from.stride - 1 }),
      },
      { multiplyAdd: (...names) => `if (k0 < 32) { ${spelling.multiplyAdd(...names)} }` },
      {
        multiplyAdd: (sum, ...names) =>
          `${
            spelling.multiplyAdd(sum, ...names)
          } ${sum}[1] = bitcast<f32>(bitcast<u32>(${sum}[1]) & 0xfffff000u);`,
      },
      { store: (sum, to) => spelling.store(sum, { ...to, at: "0" }) },
    ];
    const bad = wrongs.map((wrong) => ({ ...good, spelling: { ...spelling, ...wrong } }));
    const { matrices, refused } = await soundMatrices(found.right, [...bad, good]);
    assertStrictEquals(matrices.length, 1, refused.join("\n"));
    assertStrictEquals(matrices[0], good);
    assertStrictEquals(refused.length, bad.length);
    assert(refused.every((why) => why.includes("a product came out as")), refused.join("\n"));
  },
});

Deno.test("tiles fit what they compute and the memory of a workgroup", () => {
  const [matrices] = matricesOf([config(16, 16, 16)], 32);
  const of = (rows: number, columns: number) => {
    const x = d.input("x", { row: rows, inner: 96 }),
      y = d.input("y", { inner: 96, column: columns });
    const z = d.contract(x, y, "inner");
    const [kernel] = lower({ outputs: { z: { of: z, order: ["row", "column"] } } }).kernels;
    if (kernel.shape !== "contraction") throw new Error("no product");
    return matrixTiling(kernel.contraction!, matrices);
  };
  const tile = (rows: number, columns: number) => {
    const { groupRows, groupColumns, down, across } = of(rows, columns);
    return [16 * groupRows * down, 16 * groupColumns * across];
  };
  assertEquals(tile(2008, 768), [64, 64]);
  assertEquals(tile(20000, 16), [128, 16]);
  assertEquals(tile(16, 20000), [16, 128]);
  // Few large tiles would leave processors without work.
  assertEquals(tile(192, 192), [32, 32]);
  assertEquals(of(512, 512).depth, 32);
});

Deno.test("a training step uses matrices for its products, and only where there are units", () => {
  const [matrices] = matricesOf([config(16, 16, 16)], 32);
  for (const halvesFrom of [undefined, 4096]) {
    const target = { onCpu: false, halvesFrom, ...(halvesFrom === undefined ? {} : { matrices }) };
    const { steps } = compile(tinyStep("transformer", "all", 2), {
      name: "a GPU",
      limits: gpuLimits,
      target,
      oneForParams: true,
    });
    const used = steps.filter(({ code }) => code.wgsl.includes("subgroup_matrix_result")).length;
    const products = steps.filter(({ kernels }) =>
      kernels.some(({ shape }) => shape === "contraction")
    ).length;
    if (halvesFrom === undefined) assertStrictEquals(used, 0);
    else assertGreater(used, 0.8 * products, `${used} of ${products} products`);
  }
});
