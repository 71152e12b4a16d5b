// The functions that stand first in every module, each by itself: what packs tiles of rows and columns,
// and what multiplies them, for all numbers of rows and vectors, on whole numbers, where nothing is
// rounded. What they do not have to write they leave alone.
import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import { assemble, hasRelaxed, memoryOf } from "../../../../backends/wasm/assembler/encode.ts";
import type { Engine } from "../../../../backends/wasm/engine.ts";
import {
  depth,
  helperIndex,
  helpers,
  packerIndex,
  type Rows,
  rowStride,
  tileStride,
  tilingOf,
} from "../../../../backends/wasm/simd/micro_kernel.ts";

const engines: readonly Engine[] = [
  { relaxed: false, wide: false },
  ...hasRelaxed() ? [{ relaxed: true, wide: false }, { relaxed: true, wide: true }] : [],
  { relaxed: false, wide: true },
];
const named = ({ relaxed, wide }: Engine): string =>
  `${relaxed ? "fused" : "plain"}${wide ? ", in pairs" : ""}`;

/** The first element of what is read, of a second operand and of what is written, at lines of the cache. */
const [first, second, written] = [4096, 16384, 28672];
const elements = 2 ** 15;
const untouched = -7777;
const term = [1, 2, 3, 4, 5, 7, 8, 9, 13];
/** Whole numbers that differ from their neighbours in every direction. */
const value = (k: number): number => (k * 37 + (k >> 3) * 11) % 61 - 30;

/** Runs a function on numbers from `first` and `second` on, and gives what it has written, by place. */
const runOf = (engine: Engine) => {
  const functions = helpers(engine);
  const memory = memoryOf(4 * elements / 65536, false);
  const module = new WebAssembly.Module(
    assemble(functions, 4 * elements / 65536, false) as BufferSource,
  );
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const held = new Float32Array(memory.buffer);
  return (index: number, args: readonly number[], start = untouched) => {
    held.fill(start);
    for (let k = first; k < written - 4096; k++) held[k] = value(k);
    const before = held.slice();
    assertStrictEquals((exports[`f${index}`] as (...of: number[]) => void).length, args.length);
    (exports[`f${index}`] as (...of: number[]) => void)(...args);
    const changed = new Map<number, number>();
    held.forEach((x, k) => {
      if (x !== before[k]) changed.set(k - written, x);
    });
    return changed;
  };
};
const sorted = (of: Iterable<readonly [number, number]>) => [...of].sort(([a], [b]) => a - b);

for (const engine of engines) {
  const tiling = tilingOf(engine), { rows, vectors, panel } = tiling;

  Deno.test(`rows and columns are packed in tiles, ${named(engine)}`, () => {
    const run = runOf(engine);
    for (let count = 1; count <= rows; count++) {
      for (const terms of term) {
        for (const pitch of [16, 23]) {
          const by = [4 * first, 4 * written, terms, 4 * pitch];
          const tile = (there: number, at: (i: number, t: number) => number) =>
            Array.from(
              { length: terms },
              (_, t) =>
                Array.from({ length: there }, (_, i) =>
                  [t * tileStride + i, value(first + at(i, t))] as const),
            ).flat();
          // Missing rows are the last one again, missing columns are left out.
          assertEquals(
            sorted(run(packerIndex("rows", count, tiling), by)),
            tile(rows, (i, t) => Math.min(i, count - 1) * pitch + t),
            `${count} rows of ${terms}, ${pitch} apart`,
          );
          assertEquals(
            sorted(run(packerIndex("columns", count, tiling), by)),
            tile(count, (i, t) => t * pitch + i),
            `${count} columns of ${terms}, ${pitch} apart`,
          );
        }
      }
    }
  });

  Deno.test(`tiles are multiplied with panels, ${named(engine)}`, () => {
    const run = runOf(engine);
    const kinds: readonly Rows[] = engine.wide ? ["packed", "standing"] : ["packed"];
    for (const kind of kinds) {
      for (let count = 1; count <= rows; count++) {
        for (let across = 1; across <= vectors; across++) {
          for (const terms of term) {
            for (const more of [0, 1]) {
              const pitch = 4 * vectors + 3, leftPitch = terms + 5;
              const left = (i: number, t: number) =>
                kind === "packed" ? t * tileStride + i : i * leftPitch + t;
              const wanted = Array.from(
                { length: count },
                (_, i) =>
                  Array.from({ length: 4 * across }, (_, j) => {
                    let sum = more === 1 ? untouched : 0;
                    for (let t = 0; t < terms; t++) {
                      sum += value(first + left(i, t)) * value(second + t * panel + j);
                    }
                    return [i * pitch + j, sum] as const;
                  }),
              ).flat();
              const args = [4 * first, 4 * second, 4 * written, 4 * pitch, terms, more];
              if (kind === "standing") args.push(4 * leftPitch);
              const found = run(helperIndex(count, across, kind, tiling), args);
              // A sum may be what stood there before.
              const changed = wanted.filter(([, sum]) => sum !== untouched);
              assertEquals(
                sorted(found),
                changed,
                `${kind}: ${count} rows, ${across} vectors, ${terms} terms, ${more}`,
              );
            }
          }
        }
      }
    }
  });
}

Deno.test("tiles fill the registers that there are, and their rows do not share cache sets", () => {
  assertEquals(tilingOf({ relaxed: true, wide: false }), { rows: 5, vectors: 2, panel: 8 });
  assertEquals(tilingOf({ relaxed: true, wide: true }), { rows: 6, vectors: 4, panel: 16 });
  assert(tileStride >= 6 && tileStride % 4 === 0);
  assertEquals([depth, rowStride], [256, 272]);
  // Every function has a place of its own.
  for (const wide of [false, true]) {
    const engine = { relaxed: false, wide }, tiling = tilingOf(engine);
    const places = Array.from({ length: tiling.rows }, (_, i) => [
      ...[packerIndex("rows", i + 1, tiling), packerIndex("columns", i + 1, tiling)],
      ...(wide ? ["packed", "standing"] as const : ["packed"] as const).flatMap((kind) =>
        Array.from({ length: tiling.vectors }, (_, j) => helperIndex(i + 1, j + 1, kind, tiling))
      ),
    ]).flat();
    assertEquals(
      places.sort((a, b) => a - b),
      Array.from({ length: helpers(engine).length }, (_, k) => k),
    );
  }
});
