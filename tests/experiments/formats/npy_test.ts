// The .npy format, byte by byte, and files that are whole or not there.
import { assert, assertEquals, assertStrictEquals, assertThrows, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { npy, npyHeader, openNpy, writeNpy } from "../../../experiments/formats/npy_write.ts";

const inFolder = async (act: (folder: string) => Promise<void> | void) => {
  const folder = await Deno.makeTempDir();
  try {
    await act(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};
const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};

Deno.test("an array as NumPy writes it", () => {
  const bytes = npy(Float32Array.of(0, 1, -2, 0.5, 1e-3, 65504), [2, 3]);
  const dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  const expected = new Uint8Array(128 + 24).fill(0x20);
  expected.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, 118, 0]);
  expected.set(new TextEncoder().encode(dict), 10);
  expected[127] = 0x0a;
  // IEEE 754, little-endian: 0, 1, -2, 0.5, 0.001, 65504.
  expected.set(
    // deno-fmt-ignore
    [0, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f, 0x6f, 0x12, 0x83, 0x3a, 0, 0xe0, 0x7f, 0x47],
    128,
  );
  assertEquals([...bytes], [...expected]);
});

Deno.test("the numbers begin at a multiple of 64, whatever the shape", () => {
  for (
    const shape of [
      [],
      [7],
      [0, 320],
      [123456789, 3840],
      Array.from({ length: 9 }, () => 1e6),
    ]
  ) {
    const header = npyHeader(shape), text = new TextDecoder("latin1").decode(header);
    assertStrictEquals(header.length % 64, 0);
    assertStrictEquals(new DataView(header.buffer).getUint16(8, true), header.length - 10);
    assertStrictEquals(text.indexOf("\n"), header.length - 1);
    const [, inside] = /'shape': \((.*)\), } *\n$/.exec(text)!;
    assertStrictEquals(inside, shape.length === 1 ? `${shape[0]},` : shape.join(", "));
  }
});

Deno.test("values that do not fill the shape are a mistake", () => {
  assertThrows(
    () => npy(new Float32Array(5), [2, 3]),
    Error,
    "5 numbers do not fill the shape (2, 3)",
  );
});

Deno.test("rows that are appended make the same file as all at once", () =>
  inFolder(async (folder) => {
    const values = Float32Array.from({ length: 15 }, (_, k) => k / 7);
    right(await writeNpy(`${folder}/whole.npy`, values, [5, 3])());
    const file = right(openNpy(`${folder}/grown.npy`, [5, 3]));
    right(file.append(values.subarray(0, 6)));
    right(file.append(values.subarray(6)));
    assertEquals(names(folder), ["grown.npy.partial", "whole.npy"]);
    right(file.finish());
    file.discard();
    assertEquals(names(folder), ["grown.npy", "whole.npy"]);
    const [grown, whole] = ["grown", "whole"].map((name) =>
      Deno.readFileSync(`${folder}/${name}.npy`)
    );
    assertEquals(grown, whole);
  }));

Deno.test("a file that is not finished is not there, and the one before it still is", () =>
  inFolder(async (folder) => {
    right(await writeNpy(`${folder}/a.npy`, Float32Array.of(1), [1])());
    const before = Deno.readFileSync(`${folder}/a.npy`);
    const file = right(openNpy(`${folder}/a.npy`, [4]));
    right(file.append(Float32Array.of(2, 3)));
    assertThrows(() => file.finish(), Error, "2 numbers do not fill (4)");
    file.discard();
    assertEquals(names(folder), ["a.npy"]);
    assertEquals(Deno.readFileSync(`${folder}/a.npy`), before);
  }));

Deno.test("a file that can not be made is told, not thrown", () =>
  inFolder((folder) => {
    const opened = openNpy(`${folder}/nowhere/a.npy`, [1]);
    assert(E.isLeft(opened));
    assertStrictEquals(opened.left.path, `${folder}/nowhere/a.npy`);
  }));
