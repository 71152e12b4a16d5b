// Operands and results of products that are read and written where they stand: which are matrices in
// memory, that no copy of them is made, and the values beside the reference's.
import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { type AnyTensor, volume } from "../../../../dsl/axes.ts";
import { nodeOf } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import * as affine from "../../../../backends/codegen/index_math.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import type { Dim, ExpressionKernel, Storage } from "../../../../backends/lower/kernel_ir.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import { printContraction } from "../../../../backends/wasm/simd/contraction.ts";
import { emitter } from "../../../../backends/wasm/simd/emit.ts";
import { matrixOf } from "../../../../backends/wasm/simd/strided_matrix.ts";
import { showFunc } from "../../../../backends/wasm/assembler/disassemble.ts";
import { wasm, wasmPlain, wasmWide } from "../../../support/device.ts";

const engine = { relaxed: true, wide: true };

const pitches = (of: AnyTensor, from: AnyTensor, rows: readonly Dim[], columns: readonly Dim[]) => {
  const dims = Object.entries(nodeOf(from).axes).map(([axis, size]) => ({
    axis,
    size: Number(size),
  }));
  const storage: Storage = { id: 0, dtype: "f32", dims, role: "input" };
  const emit = emitter(new Map([[nodeOf(from), storage]]), engine);
  // Of each axis that is neither, the second position.
  const outer = new Map(Object.keys(nodeOf(of).axes).map((axis) => [axis, affine.int(1)]));
  const matrix = matrixOf(emit, nodeOf(of), rows, columns, outer);
  return matrix === undefined ? undefined : [matrix.rowPitch, matrix.columnPitch];
};

Deno.test("a matrix is what stands in memory as rows that are equally far apart", () => {
  const x: AnyTensor = d.input("x", { batch: 4, token: 6, channel: 10 });
  const batch = { axis: "batch", size: 4 }, token = { axis: "token", size: 6 };
  const channel = { axis: "channel", size: 10 };
  assertEquals(pitches(x, x, [batch, token], [channel]), [10, 1]);
  assertEquals(pitches(x, x, [channel], [batch, token]), [1, 10]);
  // The terms of a sum over batch and channel are not evenly spread.
  assertEquals(pitches(x, x, [token], [batch, channel]), undefined);
  assertEquals(pitches(x, x, [token, batch], [channel]), undefined);

  const few: AnyTensor = d.slice(x as never, "token" as never, 1, 3);
  const three = { axis: "token", size: 3 };
  assertEquals(pitches(few, x, [three], [channel]), [10, 1]);
  assertEquals(pitches(few, x, [three], [batch]), [10, 60]);
  assertEquals(pitches(few, x, [batch, three], [channel]), undefined);
  const turned: AnyTensor = d.flip(x as never, "channel" as never);
  assertEquals(pitches(turned, x, [batch, token], [channel]), [10, -1]);
  const wider: AnyTensor = d.pad(x as never, "channel" as never, 1, 0);
  assertEquals(pitches(wider, x, [batch, token], [{ axis: "channel", size: 11 }]), undefined);
  assertEquals(pitches(d.mul(x, x) as AnyTensor, x, [batch, token], [channel]), undefined);
});

/** The bytes of the functions of a product, without those that are shared. */
const printed = (y: AnyTensor, order: readonly string[]): string => {
  const lowered = lower({ outputs: { y: { of: y, order } } });
  const kernel = lowered.kernels.find((one) => "contraction" in one) as ExpressionKernel;
  return showFunc(printContraction(kernel, lowered.stored, engine)[1].func);
};
const count = (text: string, what: string): number => text.split(what).length - 1;

Deno.test("nothing is copied where operand and result are matrices", () => {
  const a: AnyTensor = d.input("a", { row: 40, term: 30 }),
    b = d.input("b", { term: 30, column: 24 });
  const bare = printed(d.contract(a as never, b as never, "term" as never), ["row", "column"]);
  assertEquals([count(bare, "v128.store"), count(bare, "v128.load")], [0, 0]);
  assertGreater(count(bare, "call"), 0);
  // Something is done to the operand, or to the result.
  const squared = d.contract(d.mul(a, a) as never, b as never, "term" as never) as AnyTensor;
  assertGreater(count(printed(squared, ["row", "column"]), "v128.store"), 0);
  const product: AnyTensor = d.contract(a as never, b as never, "term" as never);
  assertGreater(count(printed(d.gelu(product) as AnyTensor, ["row", "column"]), "v128.store"), 0);
});

const value = (k: number): number => Math.sin(0.7 * k + 0.3 * (k % 13));

Deno.test("products of pieces of arrays, where these stand or not, are the reference's", async () => {
  for (const size of [8, 12, 13]) {
    const x: AnyTensor = d.input("x", { batch: 3, token: 21, head: 2, channel: size });
    const y: AnyTensor = d.input("y", { batch: 3, key: 17, head: 2, channel: size });
    const w: AnyTensor = d.input("w", { channel: size, token: 21 });
    const part = (of: AnyTensor, axis: string, from: number, length: number): AnyTensor =>
      d.slice(of as never, axis as never, from, length);
    const over = (a: AnyTensor, b: AnyTensor, axis: string): AnyTensor =>
      d.contract(a as never, b as never, axis as never);
    const scores = over(x, y, "channel");
    const outputs = {
      scores: { of: scores, order: ["batch", "token", "head", "key"] },
      turned: { of: over(y, x, "channel"), order: ["head", "key", "batch", "token"] },
      values: {
        of: over(
          part(x, "token", 2, 17),
          d.rename(y as never, "channel" as never, "out" as never),
          "head",
        ),
        order: ["batch", "token", "key", "channel", "out"],
      },
      piece: {
        of: over(part(x, "token", 3, 9), part(y, "key", 1, 16), "channel"),
        order: ["batch", "head", "token", "key"],
      },
      mirrored: {
        of: over(d.flip(x as never, "channel" as never), y, "channel"),
        order: ["batch", "head", "token", "key"],
      },
      slopes: { of: over(x, y, "batch"), order: ["head", "channel", "token", "key"] },
      summed: { of: over(x, w, "token"), order: ["batch", "head", "channel"] },
    };
    const inputs = Object.fromEntries(
      Object.entries({ x, y, w }).map(([name, leaf]) => {
        const length = volume(nodeOf(leaf).axes);
        return [name, Float32Array.from({ length }, (_, k) => value(k))];
      }),
    );
    const run = async (backend: typeof wasm) => {
      const machine = await backend.open({ main: { outputs } });
      const found = await machine.run("main", inputs);
      machine.close();
      return found as Record<string, Float32Array>;
    };
    const wanted = await run(referenceBackend());
    for (const backend of [wasm, wasmPlain, wasmWide]) {
      for (const [name, values] of Object.entries(await run(backend))) {
        values.forEach((one, k) =>
          assertLess(Math.abs(one - wanted[name][k]), 1e-5, `${name} of ${size}: ${k}`)
        );
      }
    }
  }
});
