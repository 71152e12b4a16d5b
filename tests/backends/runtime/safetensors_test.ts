// Safetensors: bytes laid out as the format says, any content read again as it was, and no damaged
// file read as if it were whole.
import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertMatch,
  assertStrictEquals,
  assertThrows,
  fail,
} from "@std/assert";
import fc from "fast-check";
import * as E from "fp-ts/Either.js";
import {
  decode,
  type Dtype,
  encode,
  type Safetensors,
  safetensorsErrorText,
  type TensorData,
} from "../../../backends/runtime/safetensors.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const read = (bytes: Uint8Array): Safetensors => {
  const decoded = decode(bytes);
  if (E.isLeft(decoded)) fail(safetensorsErrorText(decoded.left, "the file"));
  return decoded.right;
};

const problem = (bytes: Uint8Array): string => {
  const decoded = decode(bytes);
  assert(E.isLeft(decoded), "a damaged file was read");
  return safetensorsErrorText(decoded.left, "x.safetensors");
};

// A file from its header's text and the size of its data.
const file = (header: string | Uint8Array, data = 0): Uint8Array => {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + data);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
};

const small = new Map<string, TensorData>([
  ["w", { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 0, NaN, Infinity) }],
  ["count", { dtype: "I64", shape: [], data: BigInt64Array.of(-(2n ** 62n)) }],
  ["bits", { dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 255) }],
]);

Deno.test("a file is laid out as the format says: 8-byte types first, the header padded", () => {
  const bytes = encode(small, { op: "an example" });
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = '{"__metadata__":{"op":"an example"},' +
    '"count":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
    '"w":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},' +
    '"bits":{"dtype":"U8","shape":[3],"data_offsets":[32,35]}}';
  assertStrictEquals(new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd(), header);
  assertStrictEquals(length % 8, 0);
  assertStrictEquals(bytes.length, 8 + length + 35);
  assertStrictEquals(new DataView(bytes.buffer).getBigInt64(8 + length, true), -(2n ** 62n));
  assertStrictEquals(new DataView(bytes.buffer).getFloat32(8 + length + 16, true), 3.5);
  assertEquals([...bytes.subarray(-3)], [1, 2, 255]);
});

Deno.test("a file that another program wrote is read, from any place in memory", () => {
  // No padding, entries out of order, and a float64 at an odd place.
  const text = '{"b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]},' +
    '"a":{"shape":[1],"dtype":"BOOL","data_offsets":[0,1]}}   ';
  const bytes = file(text, 9);
  bytes[8 + text.length] = 1;
  new DataView(bytes.buffer).setFloat64(8 + text.length + 1, Math.PI, true);
  const shifted = new Uint8Array(bytes.length + 3).subarray(3);
  shifted.set(bytes);
  const { metadata, tensors } = read(shifted);
  assertEquals(metadata, {});
  assertSameNumbers([...tensors], [
    ["b", { dtype: "F64", shape: [1], data: Float64Array.of(Math.PI) }],
    ["a", { dtype: "BOOL", shape: [1], data: Uint8Array.of(1) }],
  ]);
});

const makers: { readonly [D in Dtype]: (bytes: Uint8Array<ArrayBuffer>) => TensorData["data"] } = {
  F64: (b) => new Float64Array(b.buffer),
  I64: (b) => new BigInt64Array(b.buffer),
  U64: (b) => new BigUint64Array(b.buffer),
  F32: (b) => new Float32Array(b.buffer),
  I32: (b) => new Int32Array(b.buffer),
  U32: (b) => new Uint32Array(b.buffer),
  F16: (b) => new Uint16Array(b.buffer),
  BF16: (b) => new Uint16Array(b.buffer),
  I16: (b) => new Int16Array(b.buffer),
  U16: (b) => new Uint16Array(b.buffer),
  I8: (b) => new Int8Array(b.buffer),
  U8: (b) => b,
  BOOL: (b) => b,
};

const anyTensor: fc.Arbitrary<TensorData> = fc.record({
  dtype: fc.constantFrom(...Object.keys(makers) as Dtype[]),
  shape: fc.array(fc.nat(4), { maxLength: 4 }),
}).chain(({ dtype, shape }) => {
  const elements = shape.reduce((a, b) => a * b, 1);
  const width = makers[dtype](new Uint8Array(8)).BYTES_PER_ELEMENT;
  return fc.uint8Array({ minLength: elements * width, maxLength: elements * width })
    .map((bytes) => ({ dtype, shape, data: makers[dtype](bytes.slice()) } as TensorData));
});

const byName = <A>([a]: readonly [string, A], [b]: readonly [string, A]) => a < b ? -1 : 1;
const bits = ({ data }: TensorData) => [...new Uint8Array(data.buffer, data.byteOffset)];

Deno.test("whatever is written is read again, bit for bit, and writes the same bytes again", () => {
  const anyName = fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.constantFrom("0", "7", "__proto__", "a.b", 'quo"te', "constructor"),
  ).filter((name) => name !== "__metadata__");
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(anyName, anyTensor), { maxLength: 6, selector: ([name]) => name }),
      fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
      (tensors, metadata) => {
        const bytes = encode(new Map(tensors), metadata);
        const found = read(bytes);
        assertEquals({ ...found.metadata }, { ...metadata });
        const [was, is] = [tensors, [...found.tensors]].map((list) => [...list].sort(byName));
        assertEquals(
          is.map(([name, t]) => [name, t.dtype, t.shape, bits(t)]),
          was.map(([name, t]) => [name, t.dtype, t.shape, bits(t)]),
        );
        assertEquals(encode(new Map(tensors), metadata), bytes);
      },
    ),
    { numRuns: 200, seed: 1 },
  );
});

Deno.test("a file that is cut anywhere is told, with where it ends and where it should", () => {
  const bytes = encode(small, { op: "an example" });
  for (let size = 0; size < bytes.length; size++) {
    assertMatch(problem(bytes.slice(0, size)), /^x\.safetensors is cut: it ends at byte \d+, but/);
  }
  assertStrictEquals(
    problem(bytes.slice(0, -1)),
    `x.safetensors is cut: it ends at byte ${bytes.length - 1}, but the tensors should reach ` +
      `byte ${bytes.length}; copy or write it again`,
  );
  assertMatch(problem(new Uint8Array()), /the header's length should reach byte 8/);
});

Deno.test("each mistake in a header is one clear sentence", () => {
  const entry = (fields: string) => `{"w":{${fields}}}`;
  const cases: readonly (readonly [Uint8Array, RegExp])[] = [
    [new TextEncoder().encode("RIFF....WAVEfmt "), /announce a header of \d+ bytes, where at most/],
    [file('{"w":'), /its header is not JSON \(line 1, column 6: expected a value/],
    [file("[]"), /its header is not a JSON object/],
    [file(Uint8Array.of(0x7b, 0xff, 0x7d)), /its header is not UTF-8/],
    [file('{"__metadata__":{"a":1}}'), /'__metadata__' in its header is not an object of texts/],
    [file('{"w":3}'), /tensor 'w': its entry in the header is not an object/],
    [
      file(entry('"dtype":"F31","shape":[],"data_offsets":[0,4]'), 4),
      /tensor 'w': its dtype is "F31", where one of F64, I64, /,
    ],
    [file(entry('"shape":[],"data_offsets":[0,4]'), 4), /its dtype is missing/],
    [
      file(entry('"dtype":"F32","shape":[-1],"data_offsets":[0,4]'), 4),
      /its shape is \[-1\], where a list of sizes was expected/,
    ],
    [
      file(entry('"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,4]'), 4),
      /its shape is/,
    ],
    [
      file(entry('"dtype":"F32","shape":[1],"data_offsets":[4,0]'), 4),
      /its data_offsets are \[4,0\], where \[begin, end\]/,
    ],
    [
      file(entry('"dtype":"F32","shape":[2,3],"data_offsets":[0,20]'), 20),
      /F32 of shape \[2,3\] takes 24 bytes, but its data_offsets hold 20/,
    ],
    [
      file(entry('"dtype":"U8","shape":[4],"data_offsets":[2,6]'), 6),
      /begins at byte 2 of the data, but the one before it ends at 0/,
    ],
    [
      file(
        '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},' +
          '"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}',
        6,
      ),
      /tensor 'b': it begins at byte 2 of the data, inside the tensor before it, which ends at 4/,
    ],
    [file("{}", 5), /5 bytes at the end belong to no tensor/],
  ];
  for (const [bytes, expected] of cases) assertMatch(problem(bytes), expected);
});

Deno.test("mistakes in code throw: data that do not fill their shape, a reserved name", () => {
  const wrong = (name: string, shape: readonly number[]) =>
    encode(new Map([[name, { dtype: "F32", shape, data: new Float32Array(3) }]]));
  assertThrows(
    () => wrong("w", [2]),
    Error,
    "tensor 'w': 3 elements of Float32Array are not F32 of",
  );
  assertThrows(() => wrong("__metadata__", [3]), Error, "no tensor can be called '__metadata__'");
});

Deno.test("whatever is done to a file's bytes, reading gives tensors that agree or an error", () => {
  const whole = encode(small, { op: "an example" });
  const change = fc.oneof(
    fc.record({ kind: fc.constant("set"), at: fc.nat(whole.length - 1), to: fc.nat(255) }),
    fc.record({ kind: fc.constant("cut"), at: fc.nat(whole.length - 1), to: fc.nat(40) }),
    fc.record({ kind: fc.constant("add"), at: fc.nat(whole.length - 1), to: fc.nat(255) }),
  );
  let damaged = 0;
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      let bytes: number[] = [...whole];
      for (const { kind, at, to } of changes) {
        if (kind === "set") bytes[Math.min(at, bytes.length - 1)] = to;
        else bytes = bytes.toSpliced(at, kind === "cut" ? to : 0, ...(kind === "add" ? [to] : []));
      }
      const decoded = decode(Uint8Array.from(bytes));
      if (E.isLeft(decoded)) {
        damaged++;
        assertMatch(safetensorsErrorText(decoded.left, "x"), /^x is /);
        return;
      }
      let size = 0;
      for (const { shape, data } of decoded.right.tensors.values()) {
        assertStrictEquals(data.length, shape.reduce((a, b) => a * b, 1));
        size += data.byteLength;
      }
      assertLess(size, bytes.length);
    }),
    { numRuns: 500, seed: 2 },
  );
  assertGreater(damaged, 200, `only ${damaged} of 500 changes were noticed`);
});

Deno.test("every golden file is read, and writes again to the same tensors", () => {
  const folder = new URL("../../../../shared/golden/", import.meta.url);
  let names: readonly string[];
  try {
    names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch {
    console.log("skipped: there is no ../shared/golden");
    return;
  }
  const files = names.filter((name) => name.endsWith(".safetensors"));
  assertGreater(files.length, 0);
  for (const name of files) {
    const found = read(Deno.readFileSync(new URL(name, folder)));
    assertGreater(found.tensors.size, 0, name);
    assertSameNumbers(read(encode(found.tensors, found.metadata)), found);
  }
  const { tensors } = read(Deno.readFileSync(new URL("lr_schedule.safetensors", folder)));
  assertEquals(tensors.get("official.lr")?.shape, [12]);
  assertInstanceOf(tensors.get("official.lr")?.data, Float64Array);
});
