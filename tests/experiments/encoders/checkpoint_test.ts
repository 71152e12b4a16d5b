// Checkpoints: what describes an encoder and holds it is read, for every family; all else is refused
// in one sentence that names what is wrong, however the file is broken.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertStrictEquals,
  fail,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import {
  checkpointErrorText,
  decodeCheckpoint,
  type Description,
  parametersOf,
  readCheckpoint,
} from "../../../experiments/encoders/checkpoint.ts";
import { encode, type TensorData } from "../../../backends/runtime/safetensors.ts";
import type { Encoder } from "../../../models/encoder.ts";
import { corrected, faithful } from "../../../models/fidelity.ts";
import { publishedFrontEnd } from "../../../models/frontend.ts";
import { type FamilyName, publishedEncoder } from "../../../models/sizes.ts";
import { numbers } from "../../support/check.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const families: readonly FamilyName[] = ["transformer", "mamba", "xlstm"];
const small = { dim: 16, depth: 2 };
const describe = (family: FamilyName, changes: object = {}): Description => {
  const heads = family === "mamba" ? {} : { heads: 2 };
  const encoder = {
    ...publishedEncoder(family, "tiny"),
    ...small,
    ...heads,
    ...changes,
  } as Encoder;
  return { encoder, frontEnd: publishedFrontEnd, frames: 8, fidelity: corrected };
};

const textOf = (of: Description): Readonly<Record<string, string>> => ({
  encoder: JSON.stringify(of.encoder),
  frontEnd: JSON.stringify(of.frontEnd),
  frames: JSON.stringify(of.frames),
  fidelity: JSON.stringify(of.fidelity),
});

const tensorsOf = (of: Description): Map<string, TensorData> =>
  new Map(
    parametersOf(of).map(({ name, axes }, k) => {
      const shape = Object.values(axes).map(Number);
      const data = numbers(k, shape.reduce((a, b) => a * b, 1));
      return [name, { dtype: "F32", shape, data }];
    }),
  );

const said = (bytes: Uint8Array): string => {
  const found = decodeCheckpoint(bytes, "a.safetensors");
  assert(E.isLeft(found), "it should not have been accepted");
  return checkpointErrorText(found.left);
};

for (const family of families) {
  Deno.test(`a ${family} checkpoint gives back what was written, and no more`, () => {
    const of = describe(family), tensors = tensorsOf(of);
    const rest: TensorData = { dtype: "I64", shape: [1], data: BigInt64Array.of(7n) };
    const bytes = encode(new Map([...tensors, ["steps", rest]]), textOf(of));
    const found = decodeCheckpoint(bytes, "a.safetensors");
    if (E.isLeft(found)) fail(checkpointErrorText(found.left));
    const { values, ...description } = found.right;
    assertEquals(description, of);
    assertSameNumbers(
      values,
      Object.fromEntries([...tensors].map(([name, { data }]) => [name, data])),
    );
  });
}

Deno.test("all options of an encoder are read", () => {
  const of = describe("xlstm", {
    slstm: [1],
    order: "reversed",
    positions: "learned",
    norm: "rms",
    registers: 3,
    stochasticDepth: 0.1,
    form: "chunkwise",
  });
  const found = decodeCheckpoint(encode(tensorsOf(of), textOf(of)), "a.safetensors");
  if (E.isLeft(found)) fail(checkpointErrorText(found.left));
  assertEquals(found.right.encoder, of.encoder);
});

Deno.test("fidelity is the published one where nothing is said", () => {
  const of = describe("mamba"), { fidelity: _, ...text } = textOf(of);
  const fidelityOf = (metadata: Readonly<Record<string, string>>) => {
    const found = decodeCheckpoint(encode(tensorsOf(of), metadata), "a.safetensors");
    return E.isRight(found) ? found.right.fidelity : checkpointErrorText(found.left);
  };
  assertEquals(fidelityOf(text), faithful);
  const rows = JSON.stringify({ ...corrected, rows: "diagonal" });
  assertMatch(
    `${fidelityOf({ ...text, fidelity: rows })}`,
    /'fidelity' in its metadata: rows: expected "frequency" or "time", found "diagonal"/,
  );
});

Deno.test("tensors that are missing or do not fit are told by name", () => {
  const of = describe("transformer");
  const changed = (change: (tensors: Map<string, TensorData>) => void): string => {
    const tensors = tensorsOf(of);
    change(tensors);
    return said(encode(tensors, textOf(of)));
  };
  const float = (shape: readonly number[], data: readonly number[]): TensorData => ({
    dtype: "F32",
    shape,
    data: Float32Array.from(data),
  });
  const bias = Array.from({ length: 16 }, () => 0);
  assertMatch(
    changed((of) => of.delete("blocks.1.mlp.layer1.bias")),
    /: 'blocks\.1\.mlp\.layer1\.bias' is missing$/,
  );
  assertMatch(
    changed((of) => of.set("blocks.0.norm1.bias", float([4, 4], bias))),
    /: 'blocks\.0\.norm1\.bias' is \[4, 4\], where \[16\] was expected$/,
  );
  assertMatch(
    changed((of) =>
      of.set("encoder_norm.bias", { dtype: "F64", shape: [16], data: new Float64Array(16) })
    ),
    /: 'encoder_norm\.bias' is F64, where F32 was expected$/,
  );
  assertMatch(
    changed((of) => of.set("encoder_norm.bias", float([16], [...bias.slice(1), NaN]))),
    /: 'encoder_norm\.bias' holds NaN, which no weight can be, at 15$/,
  );
  assertMatch(
    changed((of) => {
      for (const name of of.keys()) if (name.startsWith("blocks.1.")) of.delete(name);
    }),
    /it should have 2 blocks, but the tensors are of 1$/,
  );
  assertMatch(
    changed((of) => {
      for (const name of of.keys()) if (name.endsWith("bias")) of.delete(name);
    }),
    /: '[\w.]+' is missing; (?:'[\w.]+' is missing; ){3}and \d+ more$/,
  );
});

Deno.test("descriptions that are missing or make no sense are told by field", () => {
  const of = describe("mamba"), tensors = tensorsOf(of), text = textOf(of);
  const told = (changes: Readonly<Record<string, unknown>>, sentence: RegExp) => {
    const metadata = Object.fromEntries(
      Object.entries({ ...text, ...changes }).flatMap(([key, value]) =>
        value === undefined
          ? []
          : [[key, typeof value === "string" ? value : JSON.stringify(value)]]
      ),
    );
    assertMatch(said(encode(tensors, metadata)), sentence);
  };
  const { encoder, frontEnd } = of;
  told({ encoder: undefined }, /does not say which encoder it holds/);
  told({ encoder: "{" }, /'encoder' in its metadata: it is not JSON: expected/);
  told({ encoder: 7 }, /'encoder' in its metadata: expected an object .*, found 7$/);
  told(
    { encoder: { ...encoder, family: "rnn" } },
    /family: expected .*"xlstm" or "module", found "rnn"/,
  );
  told({ encoder: { ...encoder, state: 0.5 } }, /state: expected a whole number .*, found 0.5/);
  told({ encoder: { ...encoder, depht: 2 } }, /depht: unknown field; did you mean 'depth'\?/);
  told({ encoder: { ...encoder, depth: 1e12 } }, /it should have 1000000000000 blocks, but .* 2$/);
  told(
    { encoder: { ...encoder, dim: 4e9 } },
    /'encoder_norm\.weight' is \[16\], where \[4000000000\]/,
  );
  told({ encoder: { ...encoder, registers: 1e9 } }, /: 'register_tokens' is missing$/);
  told({ frontEnd: undefined }, /'frontEnd' in its metadata: it is missing/);
  told({ frontEnd: { ...frontEnd, fft: 1e9 } }, /fft: expected a whole number from 2 to 8192/);
  told({ frontEnd: { ...frontEnd, hop: 500 } }, /hop: 500 is more than fft, 400/);
  told({ frontEnd: { ...frontEnd, mels: 81 } }, /mels: 81 is not divisible by a patch's 16 bands/);
  told({ frontEnd: { ...frontEnd, fMax: 9000 } }, /50 to 9000 Hz is no range/);
  told({ frames: "10" }, /'frames' in its metadata: 10 is not divisible by a patch's 4 frames/);
  told({ frames: "many" }, /'frames' in its metadata: it is not JSON/);
  told({ frames: "1e9" }, /'frames' in its metadata: expected a whole number from 1 to 100000/);
  told({ frames: "80" }, /: 'pos_embed' is \[1, 11, 16\], where \[1, 101, 16\] was expected$/);
  const odd = describe("transformer"), heads = { ...odd.encoder, heads: 3 };
  assertMatch(
    said(encode(tensorsOf(odd), { ...textOf(odd), encoder: JSON.stringify(heads) })),
    /^a\.safetensors: 'encoder' in its metadata: /,
  );
});

Deno.test("files that are not there are told", async () => {
  const found = await readCheckpoint("nowhere.safetensors")();
  assert(E.isLeft(found));
  assertStrictEquals(
    checkpointErrorText(found.left),
    "the checkpoint nowhere.safetensors cannot be read: there is no such file",
  );
});

Deno.test("a file with any byte changed or missing is read or refused, and nothing else", () => {
  const of = describe("mamba"), whole = encode(tensorsOf(of), textOf(of));
  const header = 8 + Number(new DataView(whole.buffer).getBigUint64(0, true));
  let refused = 0;
  for (let k = 0; k < 2000; k++) {
    const [where, what] = numbers(k, 2, 0, 1);
    const bytes = whole.slice(0, k % 10 === 0 ? Math.floor(where * whole.length) : whole.length);
    // Most of the harm that can be done is in the header.
    const at = Math.floor(where * (k % 3 === 0 ? whole.length : header));
    if (at < bytes.length) bytes[at] ^= 1 << Math.floor(what * 8);
    const found = decodeCheckpoint(bytes, "a.safetensors");
    if (E.isRight(found)) continue;
    refused++;
    const sentence = checkpointErrorText(found.left);
    assert(sentence.includes("a.safetensors") && !sentence.includes("undefined"), sentence);
    assertLess(sentence.length, 1000, sentence);
  }
  assertGreater(refused, 1000, `${refused} refused`);
});
