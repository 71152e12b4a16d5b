// What looks at addresses while kernels are printed: an address outside is a mistake that is told, one that
// cannot be shown to lie inside is kept there by the code, and ranges that are stated are true.
import { assert, assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import * as affine from "../../../backends/codegen/index_math.ts";
import { size, type Storage } from "../../../backends/lower/kernel_ir.ts";
import {
  inKernel,
  isShownInside,
  mustBeInside,
} from "../../../backends/codegen/verify_addresses.ts";
import { assemble, memoryOf } from "../../../backends/wasm/assembler/encode.ts";
import { emitter } from "../../../backends/wasm/simd/emit.ts";
import type { Emitter } from "../../../backends/wasm/simd/emitter.ts";
import { shifted } from "../../../backends/wasm/simd/lanes.ts";
import { launchOf } from "../../../backends/wasm/simd/launch.ts";
import { elementOf, emitter as wgslEmitter } from "../../../backends/webgpu/wgsl/emit.ts";

const engine = { relaxed: true, wide: false };
const storage = (id: number, a: number, role: Storage["role"] = "temporary"): Storage => ({
  id,
  dtype: "f32",
  role,
  dims: [{ axis: "a", size: a }],
});
const at = (place: affine.IndexExpr) => new Map([["a", place]]);
/** Any number from 0 on, of which nothing else is known. */
const opaque = (text: string, extent: number): affine.IndexExpr => ({
  constant: 0,
  terms: [{ atom: { text, low: 0, high: extent - 1, depends: [text] }, times: 1 }],
});

Deno.test("an address lies inside, outside, or nobody can say", () => {
  const place = { elements: 10, words: () => "ten words" };
  const k = affine.variable("k", 5);
  assert(isShownInside(affine.sum(affine.times(k, 2), affine.int(1)), place));
  assert(isShownInside(affine.sum(affine.times(k, -2), affine.int(8)), place));
  assertThrows(
    () => isShownInside(affine.sum(affine.times(k, 2), affine.int(2)), place),
    Error,
    "outside of ten words, which has the elements 0 to 9: element (k * 2 + 2) is from 2 to 10",
  );
  assertThrows(() => isShownInside(affine.sum(k, affine.int(-1)), place), Error, "from -1 to 3");
  // All of it is outside, whatever it is made of.
  assertThrows(
    () => isShownInside(affine.sum(opaque("n", 4), affine.int(10)), place),
    Error,
    "from 10 to 13",
  );
  assertStrictEquals(isShownInside(affine.sum(opaque("n", 4), affine.int(8)), place), false);
  assertThrows(
    () => mustBeInside(affine.sum(opaque("n", 4), affine.int(8)), place),
    Error,
    "from 8 to 11",
  );
  // A narrower range that is known of an expression.
  const both = affine.sum(affine.times(k, 3), affine.variable("i", 3));
  const known = affine.within(both, 0, 9);
  assert(isShownInside(known, place));
  assertStrictEquals(affine.show(affine.spelled(affine.sum(known, k))), "(k * 4 + i)");
  assertMatch(
    String(assertThrows(() => inKernel("block > sum", () => isShownInside(both, place)), Error)),
    /^Error: internal error: .* from 0 to 14, in the kernel 'block > sum'$/,
  );
  assertThrows(() => inKernel("block", () => JSON.parse("{")), SyntaxError);
});

Deno.test("the range of a vector's variable is that of all lanes, and the first leaves room", () => {
  const x: affine.IndexExpr = {
    constant: 0,
    terms: [{ atom: { text: "x", low: 0, high: 7, depends: ["x"] }, times: 1 }],
  };
  for (const lane of [1, 2, 3]) {
    const one = shifted(x, "x", lane, 4);
    assertEquals([affine.low(one), affine.high(one)], [lane, 4 + lane]);
  }
});

/** Runs a function of five units, in a memory of 7s; what is there afterwards. */
const run = (print: (emit: Emitter) => void, scratch = 0): Int32Array => {
  const emit = emitter(new Map(), engine);
  print(emit);
  const { func, storages } = launchOf(emit, 5, scratch);
  const memory = memoryOf(1, false), words = new Int32Array(memory.buffer);
  words.fill(7);
  // Storages are 64 words apart, from word 64 on; arguments stand first.
  words.set(storages.map(({ id }) => 256 * (1 + id)), 0);
  for (let k = 0; k < 64; k++) words[64 + k] = k;
  const module = new WebAssembly.Module(assemble([func], 1, false) as BufferSource);
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  (exports.f0 as (...args: number[]) => void)(0, 0, 5, 0);
  return words;
};
const [given, made] = [storage(0, 6, "input"), storage(1, 8)];

Deno.test("a kernel as WebAssembly whose address lies outside is not printed", () => {
  assertThrows(
    () =>
      run((emit) =>
        emit.units(5, (unit) => emit.store(storage(1, 4), at(unit), emit.make.splat(1)))
      ),
    Error,
    "outside of the temporary of a 4, which has the elements 0 to 3: element unit is from 0 to 4",
  );
  const tooMany = () =>
    run((emit) =>
      emit.vectors(8, ([x]) => {
        emit.store(made, at(x), emit.load(given, at(x)));
      })
    );
  assertMatch(
    assertThrows(tooMany, Error).message,
    /outside of the input of a 6, .* from 0 to 7/,
  );
  // An address that is handed to a function, which reaches more than its first element.
  const tooFar = () =>
    run((emit) =>
      emit.address(made, affine.int(4), affine.sum(affine.int(4), affine.variable("row", 5)))
    );
  assertMatch(
    assertThrows(tooFar, Error).message,
    /outside of the temporary of a 8, .* from 4 to 8/,
  );
  assertMatch(
    assertThrows(() => run((emit) => emit.reachScratch(80), 64), Error).message,
    /80 bytes of scratch memory .* of 64/,
  );
});

Deno.test("an address that cannot be shown to lie inside is kept there, element by element", () => {
  const words = run((emit) =>
    emit.units(5, (unit) => {
      const any = emit.named(emit.whole(unit), 5);
      emit.store(
        storage(1, 3),
        at(affine.sum(any, affine.int(-1))),
        emit.make.vector([9, 9, 9, 9]),
      );
    })
  );
  assertEquals([...words.subarray(126, 133)], [62, 63, 9, 9, 9, 7, 7]);
});

Deno.test("and in vectors", () => {
  for (const shift of [-3, 0, 2]) {
    const words = run((emit) => {
      // What it is, is known to this test alone.
      const any = emit.named(emit.make.parameter(1), 5);
      emit.vectors(8, ([x]) => {
        const place = affine.sum(affine.sum(x, any), affine.int(shift));
        emit.store(made, at(x), emit.load(given, at(place)));
      });
    });
    const wanted = Array.from({ length: 8 }, (_, k) => Math.min(Math.max(k + shift, 0), 5));
    assertEquals([...words.subarray(128, 136)], wanted);
    assertEquals([...words.subarray(136, 150)], Array(14).fill(7));
  }
});

Deno.test("loops end at their extent, and variables stay in their range, whatever they are told", () => {
  const one = (emit: Emitter) => emit.make.vector([9, 9, 9, 9]);
  const large = (emit: Emitter) =>
    emit.make.op("i32.add", emit.make.parameter(2), emit.make.whole(60));
  const printed: readonly ((emit: Emitter) => void)[] = [
    (emit) => emit.loop(3, (k) => emit.store(storage(1, 3), at(k), one(emit)), large(emit)),
    (emit) => emit.loopDown(large(emit), 3, (k) => emit.store(storage(1, 3), at(k), one(emit))),
  ];
  for (const print of printed) {
    assertEquals([...run(print).subarray(128, 133)], [9, 9, 9, 7, 7]);
  }
  const named = (of: (emit: Emitter) => affine.IndexExpr) =>
    run((emit) => emit.store(storage(1, 3), at(of(emit)), one(emit))).subarray(126, 133);
  assertEquals([...named((emit) => emit.named(large(emit), 3))], [62, 63, 7, 7, 9, 7, 7]);
  const below = (emit: Emitter) => emit.make.op("i32.sub", emit.make.whole(0), large(emit));
  assertEquals([...named((emit) => emit.named(below(emit), 3))], [62, 63, 7, 7, 9, 7, 7]);
  // A part of an axis ends with it, and begins where a vector does.
  const part = (from: affine.IndexExpr, most: number) =>
    run((emit) => emit.vectors(8, ([x]) => emit.store(made, at(x), one(emit)), { from, most }));
  assertEquals([...part(affine.int(4), 8).subarray(131, 138)], [7, 9, 9, 9, 9, 7, 7]);
  assertThrows(() => part(affine.int(2), 4), Error, "vectors begin at 2");
  assertThrows(() => part(affine.int(4), 3), Error, "for 3 of 8");
});

Deno.test("WGSL: outside is a mistake, and what cannot be shown is clamped", () => {
  const four = storage(0, 4);
  const emit = wgslEmitter(new Map());
  const outside = /outside of the temporary of a 4, .* element k is from 0 to 4/;
  const above = at(affine.variable("k", 5));
  assertMatch(assertThrows(() => emit.load(four, above), Error).message, outside);
  assertMatch(assertThrows(() => emit.store(four, above, "1.0"), Error).message, outside);
  emit.store(four, at(affine.variable("k", 4)), "1.0");
  emit.store(four, at(affine.sum(opaque("n", 4), affine.int(1))), "2.0");
  assertEquals(emit.lines(), [
    "b0[k] = 1.0;",
    "let i0 = clamp((n + 1), 0, 3);",
    "b0[i0] = 2.0;",
  ]);
  assertStrictEquals(size(four.dims), 4);
  assertStrictEquals(elementOf("w0", affine.variable("k", 4), 4), "w0[k]");
  assertThrows(
    () => elementOf("w0", opaque("n", 5), 4),
    Error,
    "outside of the array 'w0' of a kernel",
  );
});
