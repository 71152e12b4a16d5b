// No address outside, seen from outside: products run in a memory in which one of their arrays after the
// other stands at the very beginning and at the very end, and words that nobody may touch between all of
// them. A read beyond either end of the memory is a trap, and a write anywhere else shows in the words.
import { assert, assertEquals } from "@std/assert";
import { type AnyTensor, volume } from "../../../dsl/axes.ts";
import { nodeOf, topologicalOrder } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { size, type Storage } from "../../../backends/lower/kernel_ir.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { assemble, memoryOf } from "../../../backends/wasm/assembler/encode.ts";
import { byteLength, compile } from "../../../backends/wasm/compile.ts";
import type { Engine } from "../../../backends/wasm/engine.ts";
import { helpers } from "../../../backends/wasm/simd/micro_kernel.ts";
import { wasm, wasmPlain, wasmWide, webgpu } from "../../support/device.ts";

type Outputs = Readonly<Record<string, { readonly of: AnyTensor; readonly order: string[] }>>;
type Kernel = (args: number, from: number, to: number, scratch: number) => void;

const engines: readonly Engine[] = [
  { relaxed: true, wide: false },
  { relaxed: false, wide: false },
  { relaxed: true, wide: true },
];
const value = (k: number): number => Math.sin(0.7 * k + 0.3 * (k % 13));
const inputsOf = (outputs: Outputs): Record<string, Float32Array> =>
  Object.fromEntries(
    topologicalOrder(Object.values(outputs).map(({ of }) => nodeOf(of))).filter(({ op }) =>
      op === "input"
    )
      .map((leaf) => [
        leaf.attributes.name!,
        Float32Array.from({ length: volume(leaf.axes) }, (_, k) => value(k)),
      ]),
  );
const isNear = (a: Float32Array, b: ArrayLike<number>) => {
  const most = Array.from(b).reduce((most, x) => Math.max(most, Math.abs(x)), 1);
  return a.every((x, k) => Math.abs(x - b[k]) <= 1e-5 * most);
};

/** A NaN that no kernel writes. */
const untouched = 0x7fc0dead;
/** Bytes of such between two arrays. */
const gap = 256;

/** Runs a program with each of its arrays first and last in memory. */
const runAtEdges = (outputs: Outputs, engine: Engine, wanted: Record<string, Float32Array>) => {
  const { steps, lowered, scratchBytes } = compile({ outputs }, { engine });
  const launches = steps.flatMap((step) => step.launches);
  const shared = helpers(engine);
  const scratch: Storage = {
    id: -1,
    dtype: "f32",
    role: "temporary",
    dims: [{ axis: "scratch", size: scratchBytes / 4 }],
  };
  const storages = [...new Set(launches.flatMap((one) => one.storages)), scratch];
  const bytes = storages.reduce((sum, one) => sum + byteLength(one) + gap, 4096);
  const pages = Math.ceil(bytes / 65536), end = 65536 * pages;
  const memory = memoryOf(pages, false);
  const functions = [...shared, ...launches.map(({ func }) => func)];
  const module = new WebAssembly.Module(assemble(functions, pages, false) as BufferSource);
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const words = new Uint32Array(memory.buffer);
  const inputs = inputsOf(outputs);
  for (const edge of storages) {
    for (const side of ["first", "last"] as const) {
      words.fill(untouched);
      const places = new Map<Storage, number>();
      places.set(edge, side === "first" ? 0 : end - 4 * size(edge.dims));
      // The others stand in between, at the lines of the cache that they stand at elsewhere.
      let at = side === "first" ? Math.ceil((byteLength(edge) + gap) / 64) * 64 : 64;
      const take = (length: number) => {
        const from = at;
        at = Math.ceil((at + length + gap) / 64) * 64;
        return from;
      };
      for (const one of storages) if (one !== edge) places.set(one, take(byteLength(one)));
      const floats = (of: Storage) =>
        new Float32Array(memory.buffer, places.get(of)!, size(of.dims));
      for (const one of lowered.inputs) {
        if (places.has(one)) floats(one).set(inputs[one.name!]);
      }
      const args = launches.map((one) => {
        const from = take(4 * one.storages.length);
        words.set(one.storages.map((storage) => places.get(storage)!), from / 4);
        return from;
      });
      launches.forEach(({ units }, k) => {
        const run = exports[`f${shared.length + k}`] as Kernel;
        run(args[k], 0, units, places.get(scratch)!);
      });
      for (const [name, of] of Object.entries(lowered.outputs)) {
        assert(isNear(floats(of), wanted[name]), `${name}, ${edge.role} ${side}`);
      }
      for (const one of storages) words.fill(untouched, places.get(one)! / 4, endOf(one, places));
      launches.forEach((one, k) =>
        words.fill(untouched, args[k] / 4, args[k] / 4 + one.storages.length)
      );
      const wrong = words.findIndex((word) => word !== untouched);
      assertEquals(wrong, -1, `${edge.role} ${side}: something is written at ${4 * wrong}`);
    }
  }
};
const endOf = (of: Storage, places: ReadonlyMap<Storage, number>): number =>
  places.get(of)! / 4 + size(of.dims);

const input = (name: string, axes: Record<string, number>): AnyTensor => d.input(name, axes);
const product = (a: AnyTensor, b: AnyTensor): AnyTensor =>
  d.contract(a as never, b as never, "t" as never);
const flip = (of: AnyTensor, axis: string): AnyTensor => d.flip(of as never, axis as never);
const slice = (of: AnyTensor, axis: string, from: number, length: number): AnyTensor =>
  d.slice(of as never, axis as never, from, length);

/** Products of some rows, terms and columns, of operands that stand in memory in several ways. */
const kinds: Readonly<Record<string, (r: number, t: number, c: number) => AnyTensor>> = {
  "rows": (r, t, c) => product(input("x", { r, t }), input("y", { t, c })),
  "columns": (r, t, c) => product(input("x", { t, r }), input("y", { c, t })),
  "flipped rows": (r, t, c) => product(flip(input("x", { r, t }), "r"), input("y", { c, t })),
  "flipped terms": (r, t, c) => product(flip(input("x", { t, r }), "t"), input("y", { t, c })),
  "the last rows": (r, t, c) =>
    product(slice(input("x", { r: r + 2, t }), "r", 2, r), input("y", { t, c })),
  "the last columns": (r, t, c) =>
    product(slice(input("x", { t, r: r + 3 }), "r", 3, r), input("y", { t, c })),
  "the last terms": (r, t, c) =>
    product(slice(input("x", { r, t: t + 1 }), "t", 1, t), input("y", { t, c })),
  "something done to them": (r, t, c) => {
    const x = input("x", { r, t }), y = input("y", { t, c });
    return d.exp(product(d.mul(x, x) as AnyTensor, y) as never) as AnyTensor;
  },
  "something done to columns": (r, t, c) => {
    const x = input("x", { t, r }), y = input("y", { c, t });
    return d.add(
      product(d.mul(x, x) as AnyTensor, y) as never,
      input("z", { c }) as never,
    ) as never;
  },
};

const rowCounts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 24, 41];
const termCounts = [3, 8, 17, 5, 2, 261];
const columnCounts = [5, 8, 17, 20, 35, 3];

for (const [kind, make] of Object.entries(kinds)) {
  Deno.test(`products reach nothing outside of their operands: ${kind}`, async () => {
    for (const [n, rows] of rowCounts.entries()) {
      const of = make(rows, termCounts[n % termCounts.length], columnCounts[n % 5 + n % 2]);
      const outputs: Outputs = { y: { of, order: n % 3 === 0 ? ["c", "r"] : ["r", "c"] } };
      const machine = await referenceBackend().open({ main: { outputs } });
      const wanted = await machine.run("main", inputsOf(outputs)) as Record<string, Float32Array>;
      machine.close();
      for (const engine of engines) runAtEdges(outputs, engine, wanted);
    }
  });
}

const flipped = (): Outputs => {
  const x = input("x", { b: 7, t: 255 }), y = input("y", { q: 7, t: 255 });
  return { y: { of: product(flip(x, "b"), y), order: ["b", "q"] } };
};
const atTheEnd = (): Outputs => {
  const z = d.mul(input("u", { a: 16, c: 128 }), input("w", { a: 16, c: 128, t: 64 })) as AnyTensor;
  const other = d.rename(z as never, "a" as never, "q" as never);
  const y = d.contract(z as never, other, ["c", "t"] as never[]) as AnyTensor;
  return { z: { of: z, order: ["a", "c", "t"] }, y: { of: y, order: ["a", "q"] } };
};

Deno.test("rows before the beginning of memory, and behind its end, are not read", async () => {
  for (const outputs of [flipped(), atTheEnd()]) {
    const inputs = inputsOf(outputs);
    const run = async (backend: typeof wasm) => {
      const machine = await backend.open({ main: { outputs } });
      const found = await machine.run("main", inputs) as Record<string, Float32Array>;
      machine.close();
      return found;
    };
    const wanted = await run(referenceBackend());
    const { x, y } = inputs;
    if (x !== undefined) {
      const sum = (i: number, j: number) =>
        Array.from({ length: 255 }, (_, k) => x[(6 - i) * 255 + k] * y[j * 255 + k])
          .reduce((a, b) => a + b);
      const byHand = Array.from({ length: 49 }, (_, k) => sum(Math.floor(k / 7), k % 7));
      assert(isNear(wanted.y, byHand));
    }
    const backends = [wasm, wasmPlain, wasmWide, ...(webgpu === undefined ? [] : [webgpu])];
    for (const backend of backends) {
      for (const [name, found] of Object.entries(await run(backend))) {
        assert(isNear(found, wanted[name]), `${name} on ${backend.device}`);
      }
    }
  }
});
