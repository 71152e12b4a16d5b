// The schedules of products and rows on a GPU and on a CPU: which invocation does how much of them, from
// which sizes on, where operands are summed from, and which edits of a tuning table are left out.
import { assertEquals, assertStrictEquals } from "@std/assert";
import { contractionOf } from "../../../backends/lower/cost_model.ts";
import type { Contraction, ExpressionKernel } from "../../../backends/lower/kernel_ir.ts";
import {
  parallelismOf,
  productKey,
  productSchedule,
  rowKey,
  rowSchedule,
} from "../../../backends/webgpu/schedules.ts";
import type { Edit, Target } from "../../../backends/webgpu/target.ts";
import { nodeOf } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { plainMatrices } from "../../support/plain_matrices.ts";

const gpu: Target = { onCpu: false }, cpu: Target = { onCpu: true };
const product = (m: number, n: number, k: number, batch = 1): Contraction =>
  contractionOf(nodeOf(
    d.contract(d.input("x", { b: batch, m, k }), d.input("y", { b: batch, k, n }), "k"),
  ))!;
const shape = (of: Contraction, target: Target) => {
  const { side, down, across } = productSchedule(of, target);
  return [side, down, across];
};

Deno.test("an invocation computes more results where there are more of them", () => {
  const rows = [8, 9, 16, 17, 32, 33, 64].map((m) => shape(product(m, 8, 64), cpu));
  assertEquals(rows, [1, 2, 2, 4, 4, 8, 8].map((down) => [8, down, 1]));
  const columns = [8, 9, 16, 17, 32, 33, 64].map((n) => shape(product(8, n, 64), cpu));
  assertEquals(columns, [1, 2, 2, 4, 4, 8, 8].map((across) => [8, 1, across]));
  // Workgroups that are longer one way, for few rows or columns.
  assertEquals([4, 5].map((m) => shape(product(m, 100, 64), cpu)), [[4, 1, 8], [8, 1, 8]]);
  assertEquals([4, 5].map((n) => shape(product(100, n, 64), cpu)), [[16, 8, 1], [8, 8, 1]]);
  assertEquals(shape(product(4, 4, 200), cpu), [4, 1, 1]);
});

Deno.test("on a GPU it computes fewer where workgroups would be less than 128", () => {
  const gpuShapes = (sizes: readonly (readonly [number, number, number?])[]) =>
    sizes.map(([m, n, batch]) => shape(product(m, n, 64, batch), gpu));
  assertEquals(gpuShapes([[64, 64], [64, 64, 32], [64, 64, 127], [64, 64, 128]]), [
    ...[[8, 2, 2], [8, 4, 4], [8, 4, 8], [8, 8, 8]],
  ]);
  assertEquals(gpuShapes([[1024, 512], [1024, 448], [128, 128], [1000, 16], [16, 1000]]), [
    ...[[8, 8, 8], [8, 4, 8], [8, 2, 2], [8, 2, 2], [8, 2, 2]],
  ]);
  assertEquals(gpuShapes([[4, 4000], [4000, 4], [4, 9000]]), [[4, 1, 2], [16, 2, 1], [4, 1, 4]]);
});

Deno.test("operands are summed from tiles on a GPU, from memory on a CPU, by matrices where they are large", () => {
  const least = 24;
  const matrices = { ...plainMatrices("f32", { rows: 16, columns: 8, over: 8 }, 32), least };
  const from = (target: Target, ...sizes: Parameters<typeof product>) =>
    productSchedule(product(...sizes), target).from;
  assertEquals([from(gpu, 64, 64, 64), from(cpu, 64, 64, 64)], ["tiles", "memory"]);
  const with_ = { ...gpu, matrices };
  assertStrictEquals(from(with_, least, least, least), "matrices");
  for (const k of [0, 1, 2]) {
    const sizes = [least, least, least].map((size, n) => n === k ? size - 1 : size);
    assertStrictEquals(from(with_, ...sizes as [number, number, number]), "tiles", `${k}`);
  }
  assertStrictEquals(productSchedule(product(64, 64, 64), gpu).depth, 16);
});

Deno.test("edits are made in order, but for those that a device has no room for", () => {
  const of = product(64, 64, 64), key = productKey(of, gpu);
  assertStrictEquals(key, "product 1 x 64 x 64 over 64");
  assertStrictEquals(productKey(product(9, 20, 64, 3), gpu), "product 3 x 9 x 20 over 64");
  assertStrictEquals(productKey(of, { ...gpu, halvesFrom: 1 }), `${key} f16`);
  const edited = (...edits: readonly Edit[]) => {
    const { side, down, across, depth, from } = productSchedule(of, {
      ...gpu,
      tuning: { [key]: edits, "product 2 x 64 x 64 over 64": [{ depth: 32 }] },
    });
    return [side, down, across, depth, from].join(" ");
  };
  assertStrictEquals(edited(), "8 2 2 16 tiles");
  assertStrictEquals(edited({ down: 8 }, { across: 8 }), "8 8 8 16 tiles");
  assertStrictEquals(edited({ down: 8 }, { across: 16 }, { depth: 32 }), "8 8 2 32 tiles");
  assertStrictEquals(edited({ from: "matrices" }), "8 2 2 16 tiles");
  assertStrictEquals(edited({ from: "memory" }, { from: "tiles" }), "8 2 2 16 tiles");
  // Tiles of 16 KiB, and one of more: 4 · 32 · (8 · 8 + 8 · 8), and (16 · 8 + 4 · 8).
  assertStrictEquals(edited({ down: 8, across: 8, depth: 32 }), "8 8 8 32 tiles");
  assertStrictEquals(edited({ side: 16, down: 8, across: 8, depth: 32 }), "8 2 2 16 tiles");
  assertStrictEquals(
    edited({ side: 16, down: 8, across: 8, depth: 32, from: "memory" }),
    "16 8 8 32 memory",
  );
  assertStrictEquals(edited({ side: 4, down: 4, across: 8, depth: 32 }), "8 2 2 16 tiles");
  assertStrictEquals(edited({ side: 4, down: 4, across: 8, depth: 16 }), "4 4 8 16 tiles");
});

Deno.test("a row is done by an invocation where there are many or they are short", () => {
  const kernel = (rows: number, over: number, reductions = 1) => ({
    space: [{ axis: "r", size: rows }],
    over: [{ axis: "c", size: over }],
    reductions: Array(reductions).fill(undefined),
  } as unknown as ExpressionKernel);
  assertStrictEquals(rowKey(kernel(12, 34, 2)), "12 rows of 34, 2 reductions");
  const by = (target: Target, along = true) =>
    [[1023, 32], [1024, 32], [1023, 31], [5, 5000], [5000, 5000]]
      .map(([rows, over]) => rowSchedule(kernel(rows, over), along, target).by);
  const [invocation, workgroup, subgroup] = ["invocation", "workgroup", "subgroup"];
  assertEquals(by(gpu), [workgroup, invocation, invocation, workgroup, invocation]);
  assertEquals(by({ ...cpu, subgroup: 8 }), [
    subgroup,
    subgroup,
    invocation,
    subgroup,
    subgroup,
  ]);
  assertEquals(by({ ...cpu, subgroup: 8 }, false), by(gpu));
  assertStrictEquals(rowSchedule(kernel(9000, 31), true, { ...cpu, subgroup: 8 }).by, invocation);
  assertStrictEquals(rowSchedule(kernel(9000, 32), true, { ...cpu, subgroup: 8 }).by, subgroup);
  const edit = (target: Target, edits: readonly Edit[]) =>
    rowSchedule(kernel(9, 40), true, {
      ...target,
      tuning: { "9 rows of 40, 1 reductions": edits },
    });
  assertEquals(edit(gpu, []), { by: "workgroup", threads: 64 });
  assertEquals(edit(gpu, [{ by: "subgroup" }, { threads: 256 }]), {
    ...{ by: "workgroup", threads: 256 },
  });
  assertEquals(edit({ ...cpu, subgroup: 64 }, [{ by: "subgroup" }]).by, "subgroup");
});

Deno.test("a GPU is filled by 128 workgroups, a CPU by four, or by what is said", () => {
  assertEquals(parallelismOf(gpu), { groups: 128, lanes: 8192, launchCost: 2 ** 27, gain: 1.75 });
  assertEquals(parallelismOf(cpu), { groups: 4, lanes: 1, launchCost: 2 ** 22, gain: 1.75 });
  const parallelism = { groups: 1, lanes: 2, launchCost: 3, gain: 4 };
  assertStrictEquals(parallelismOf({ onCpu: true, parallelism }), parallelism);
});
