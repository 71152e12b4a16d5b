// Safetensors files on disk: what is wrong with one is what reading all of it would say, and costs no more
// memory than its header.
import { assert, assertEquals, assertLess, assertThrows } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { decode, encode, type TensorData } from "../../../backends/runtime/safetensors.ts";
import { readTensors } from "../../../experiments/formats/safetensors_file.ts";

const inFolder = async (body: (folder: string) => void) => {
  const folder = await Deno.makeTempDir();
  try {
    body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

const ones: TensorData = { dtype: "F32", shape: [2, 3], data: new Float32Array(6).fill(1) };
const whole = encode(new Map([["a", ones], ["b", ones]]), { step: "1" });

const startingWith = (length: bigint): Uint8Array => {
  const bytes = whole.slice();
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
};

Deno.test("a file is refused for what reading all of it would refuse it for", () =>
  inFolder((folder) => {
    const cases = [
      whole,
      new Uint8Array(),
      whole.slice(0, 7),
      whole.slice(0, 40),
      whole.slice(0, -1),
      new Uint8Array([...whole, 0]),
      startingWith(3n),
      startingWith(200_000_000n),
      startingWith(2n ** 63n),
    ];
    for (const bytes of cases) {
      Deno.writeFileSync(`${folder}/x`, bytes);
      const read = readTensors(`${folder}/x`), decoded = decode(bytes);
      if (E.isRight(read)) assertEquals(read.right, bytes);
      assertEquals(E.isLeft(read) ? read.left : "", E.isLeft(decoded) ? decoded.left : "");
    }
  }));

Deno.test("a large file of another kind is refused in little memory", () =>
  inFolder((folder) => {
    const path = `${folder}/x`, before = Deno.memoryUsage().rss;
    for (const bytes of [whole, startingWith(200_000_000n), startingWith(16n * 2n ** 20n)]) {
      Deno.writeFileSync(path, bytes);
      Deno.truncateSync(path, 6e9);
      assert(E.isLeft(readTensors(path)));
    }
    assertLess(Deno.memoryUsage().rss, before + 120e6);
  }));

Deno.test("what is not there, or is a folder, throws as Deno does", () =>
  inFolder((folder) => {
    assertThrows(() => readTensors(`${folder}/none`), Deno.errors.NotFound);
    assertThrows(() => readTensors(folder), Deno.errors.IsADirectory);
  }));
