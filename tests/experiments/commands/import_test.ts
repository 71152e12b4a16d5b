// Import: the encoder is told from names and shapes, the keys are compared, and what is written
// embeds.
import { assert, assertEquals, assertMatch, assertStrictEquals, fail } from "@std/assert";
import { join } from "node:path";
import * as E from "fp-ts/Either.js";
import { checkpointErrorText, decodeCheckpoint } from "../../../experiments/encoders/checkpoint.ts";
import {
  importErrorText,
  importFile,
  importFrom,
  keysText,
} from "../../../experiments/commands/import.ts";
import { bytesSource } from "../../../experiments/formats/zip.ts";
import { recognise, type Recognised } from "../../../experiments/encoders/identify.ts";
import { decode, encode, type TensorData } from "../../../backends/runtime/safetensors.ts";
import { faithful } from "../../../models/fidelity.ts";
import { publishedFrontEnd } from "../../../models/frontend.ts";
import {
  type FamilyEncoder,
  type FamilyName,
  publishedEncoder,
  sizeNames,
} from "../../../models/sizes.ts";
import { shapesOf, small, valuesOf } from "../../support/torch.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const families: readonly FamilyName[] = ["transformer", "mamba", "xlstm"];
const checkpoints = new URL("../../support/checkpoints", import.meta.url).pathname;
const bytesOf = (family: FamilyName) => Deno.readFileSync(join(checkpoints, `${family}.pth`));
const heads = (family: FamilyName) => family === "transformer" ? { heads: 2 } : {};

const recognised = (
  shapes: Iterable<readonly [string, readonly number[]]>,
  options: { readonly heads?: number } = {},
): Recognised | string => {
  const found = recognise(new Map(shapes), options);
  return E.isRight(found) ? found.right : found.left;
};

for (const family of families) {
  Deno.test(`every published size of ${family} is told from its names and shapes`, () => {
    for (const size of sizeNames) {
      const encoder = publishedEncoder(family, size), of = { encoder, frames: 200 };
      // The blocks are alike, so that two of them do for the graph.
      const two = new Map(shapesOf({ ...of, encoder: { ...encoder, depth: 2 } }));
      const shapes = [...two].flatMap(([name, shape]) =>
        !name.startsWith("blocks.1.") ? [[name, shape] as const] : Array.from(
          { length: encoder.depth - 1 },
          (_, k) => [name.replace("blocks.1.", `blocks.${k + 1}.`), shape] as const,
        )
      );
      assertEquals(recognised(shapes), of);
    }
  });
}

Deno.test("what is not published is told where it leaves a trace", () => {
  const same = (encoder: FamilyEncoder, frames: number, options = {}) =>
    assertEquals(recognised(shapesOf({ encoder, frames }), options), { encoder, frames });
  const [transformer, mamba, xlstm] = families.map((family) => ({
    ...publishedEncoder(family, "tiny"),
    dim: 32,
    depth: 2,
  }));
  const patch = { time: 8, frequency: 8 };
  same({ ...transformer, heads: 8, mlp: 2.5, patch } as FamilyEncoder, 64, { heads: 8 });
  same({ ...mamba, state: 7, conv: 3, expand: 2, norm: "rms", registers: 3 } as FamilyEncoder, 4);
  same({ ...xlstm, heads: 2, conv: 5, expand: 3, patch } as FamilyEncoder, 400);
  same({ ...xlstm, dim: 64, slstm: [0] } as FamilyEncoder, 200);
  same({ ...transformer, dim: 128, heads: 2 } as FamilyEncoder, 200);
});

Deno.test("what makes no encoder is told in a sentence", () => {
  const shapes = new Map(shapesOf(small("mamba")));
  const said = (changes: Readonly<Record<string, readonly number[] | undefined>>) =>
    recognised(
      [...shapes, ...Object.entries(changes)].filter(([name]) =>
        !(name in changes && changes[name] === undefined)
      ).map(([name, shape]) => [name, shape!]),
    );
  assertStrictEquals(
    recognised([["conv1.weight", [64, 3, 7, 7]], ["fc.bias", [10]]]),
    "its tensors should be named for one family, as 'blocks.0.attn.qkv_layer.weight' " +
      "(transformer), 'blocks.0.mixer.A_log' (mamba) or 'blocks.0.layer.mlstm_cell.igate.weight' " +
      "(xlstm) are; it has 2, such as 'conv1.weight', 'fc.bias'",
  );
  assertMatch(`${recognised([])}`, / are; it has 0$/);
  assertMatch(`${said({ "blocks.0.attn.qkv_layer.weight": [24, 8] })}`, /^its tensors should be/);
  assertStrictEquals(
    said({ cls_token: undefined }),
    "there is no 'cls_token', from which sizes follow",
  );
  assertStrictEquals(
    said({ pos_embed: [11, 8] }),
    "'pos_embed' is [11, 8], where 3 axes were expected",
  );
  assertStrictEquals(
    said({ pos_embed: [1, 11, 9] }),
    "'pos_embed' is 9 wide, but patches are embedded in 8 channels",
  );
  assertStrictEquals(
    said({ pos_embed: [1, 12, 8] }),
    "'pos_embed' has 12 rows, which are not one more than a multiple of the 5 patches in 80 mel bands",
  );
  assertStrictEquals(
    said({ "patch_embed.proj.weight": [8, 1, 4, 11] }),
    "patches of 11 bands do not divide the 80 mel bands",
  );
  assertStrictEquals(
    said({ "patch_embed.proj.weight": [6, 1, 4, 16] }),
    "its width, 6, is not a multiple of 4",
  );
  assertStrictEquals(
    said({ "patch_embed.proj.weight": [0, 1, 4, 16] }),
    "'patch_embed.proj.weight' is [0, 1, 4, 16], where 4 axes were expected",
  );
  assertStrictEquals(
    said({ "blocks.0.mixer.A_log": [17, 4] }),
    "'blocks.0.mixer.A_log' has 17 inner channels, which are not a multiple of its width, 8",
  );
  assertStrictEquals(said({ "blocks.7.norm.bias": [8] }), "it has 3 blocks, but none numbered 2");
  const many = Array.from({ length: 300 }, (_, k) => [`blocks.${k}.norm.bias`, [8]]);
  assertStrictEquals(
    said(Object.fromEntries(many)),
    "it has 300 blocks, where at most 256 are expected",
  );
  assertStrictEquals(
    recognised(shapesOf(small("transformer"))),
    "the number of heads does not follow from its width, 8; give it with --heads",
  );
  assertStrictEquals(
    recognised(shapesOf(small("transformer")), { heads: 3 }),
    "its width, 8, is not a multiple of 3 heads",
  );
  assertStrictEquals(
    recognised(shapesOf(small("xlstm")), { heads: 2 }),
    "its gates are of 4 heads, and not of the 2 that were asked for",
  );
});

for (const family of families) {
  Deno.test(`a ${family} of PyTorch becomes a checkpoint that embeds, in the published order`, () => {
    const imported = importFrom(bytesSource(bytesOf(family)), heads(family));
    if (E.isLeft(imported)) fail(importErrorText(imported.left, family));
    const checkpoint = decodeCheckpoint(imported.right.bytes, "out.safetensors");
    if (E.isLeft(checkpoint)) fail(checkpointErrorText(checkpoint.left));
    const { values, ...description } = checkpoint.right;
    assertEquals(description, {
      ...small(family),
      frontEnd: publishedFrontEnd,
      fidelity: faithful,
    });
    const shapes = shapesOf(small(family));
    for (const [name, value] of Object.entries(values)) {
      const k = shapes.findIndex(([other]) => other === name);
      assertSameNumbers(value, valuesOf(k, shapes[k][1]));
    }
    const file = decode(imported.right.bytes);
    assert(E.isRight(file));
    assertEquals(
      [...file.right.tensors].map(([name, { shape }]) => [name, shape] as const),
      shapes.filter(([name]) => family !== "mamba" || name !== "mask_token"),
    );
  });
}

Deno.test("keys are counted, and named up to twenty", () => {
  const imported = importFrom(bytesSource(bytesOf("mamba")));
  assert(E.isRight(imported));
  assertStrictEquals(
    keysText(imported.right.keys),
    "keys: 32 matched, 1 missing, 1 left over\nmissing:\n  mask_token\nleft over:\n  head.weight",
  );
  const names = Array.from({ length: 23 }, (_, k) => `n${k}\x07`);
  const text = keysText({ matched: [], missing: [], leftOver: names, unfit: ["x"] });
  const lines = text.split("\n");
  assertStrictEquals(lines[0], "keys: 0 matched, 0 missing, 23 left over, 1 of another shape");
  assertEquals(lines.slice(1, 3), ["left over:", "  n0\\u0007"]);
  assertEquals(lines.slice(21), ["  n19\\u0007", "  and 3 more", "of another shape:", "  x"]);
});

const tensorsOf = (family: FamilyName): Map<string, TensorData> =>
  new Map(
    shapesOf(small(family)).map(([name, shape], k) => [
      name,
      { dtype: "F32", shape, data: valuesOf(k, shape) },
    ]),
  );

Deno.test("safetensors without a description are described; half precision becomes float32", () => {
  const tensors = tensorsOf("xlstm"),
    one = (length: number) => Array.from({ length }, () => 0x3c00);
  tensors.set("cls_token", { dtype: "F16", shape: [1, 1, 8], data: Uint16Array.from(one(8)) });
  const imported = importFrom(bytesSource(encode(tensors)));
  if (E.isLeft(imported)) fail(importErrorText(imported.left, "a"));
  const checkpoint = decodeCheckpoint(imported.right.bytes, "a");
  if (E.isLeft(checkpoint)) fail(checkpointErrorText(checkpoint.left));
  assertSameNumbers(checkpoint.right.values["cls_token"], Float32Array.from(one(8), () => 1));
});

Deno.test("an encoder that is not whole, or not of numbers, is not written", () => {
  const said = (change: (tensors: Map<string, TensorData>) => void): string => {
    const tensors = tensorsOf("mamba");
    change(tensors);
    const imported = importFrom(bytesSource(encode(tensors)));
    return E.isLeft(imported) ? importErrorText(imported.left, "a") : fail("it was imported");
  };
  assertStrictEquals(
    said((of) => {
      of.delete("blocks.1.mixer.D");
      of.set("encoder_norm.bias", { dtype: "F32", shape: [4], data: new Float32Array(4) });
    }),
    "a does not hold a whole encoder; nothing was written\n" +
      "keys: 31 matched, 1 missing, 0 left over, 1 of another shape\n" +
      "missing:\n  blocks.1.mixer.D\n" +
      "of another shape:\n  encoder_norm.bias is [4], not [8]",
  );
  const vector = (values: readonly number[]): TensorData => ({
    dtype: "F64",
    shape: [8],
    data: Float64Array.from({ length: 8 }, (_, k) => values[k] ?? 0),
  });
  assertStrictEquals(
    said((of) => of.set("encoder_norm.bias", vector([0, NaN]))),
    "a: the tensor 'encoder_norm.bias' holds NaN, which no weight can be, at 1",
  );
  assertStrictEquals(
    said((of) => of.set("encoder_norm.bias", vector([1e39]))),
    "a: the tensor 'encoder_norm.bias' holds Infinity, which no weight can be, at 0",
  );
  assertStrictEquals(
    said((of) =>
      of.set("encoder_norm.bias", { dtype: "I64", shape: [8], data: new BigInt64Array(8) })
    ),
    "a: the tensor 'encoder_norm.bias' is I64, where floating point was expected",
  );
});

const cli = new URL("../../../experiments/commands/main.ts", import.meta.url).pathname;
const run = (...args: readonly string[]) => {
  const { code, stdout, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", cli, "import", ...args],
    env: { NO_COLOR: "1" },
  }).outputSync();
  return { code, said: new TextDecoder().decode(stdout), told: new TextDecoder().decode(stderr) };
};

Deno.test("the command tells the encoder and the keys, and writes the file", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const from = join(checkpoints, "mamba.pth"), to = join(folder, "out.safetensors");
    assertEquals(run(from, to), {
      code: 0,
      said: `${from}: Mamba, width 8, 2 blocks, patches of 4 frames × 16 bands, 8 frames\n` +
        "keys: 32 matched, 1 missing, 1 left over\nmissing:\n  mask_token\nleft over:\n" +
        `  head.weight\nwrote ${to}\n`,
      told: "",
    });
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["out.safetensors"]);
    const transformer = join(checkpoints, "transformer.pth");
    assertStrictEquals(run(transformer, to, "--heads", "2").code, 0);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("the command tells what it does not understand, and what it cannot read or write", async () => {
  assertEquals(run("a.pth"), {
    code: 2,
    said: "",
    told:
      "two files are needed: the one to read and the one to write; see deno task import --help\n",
  });
  assertStrictEquals(
    run("a.pth", "b", "--heads", "0").told,
    "--heads: expected a whole number from 1, found '0'; see deno task import --help\n",
  );
  const errors: string[] = [], error = console.error;
  console.error = (text: string) => errors.push(text);
  try {
    const mamba = join(checkpoints, "mamba.pth");
    assertStrictEquals(await importFile("no.pth", "b"), 1);
    assertStrictEquals(await importFile(checkpoints, "b"), 1);
    assertStrictEquals(await importFile(mamba, join(checkpoints, ".", "mamba.pth")), 1);
    assertStrictEquals(await importFile(mamba, join(checkpoints, "none", "b")), 1);
    assertStrictEquals(await importFile(join(checkpoints, "transformer.pth"), "b"), 1);
    assertEquals(errors, [
      "no.pth cannot be read: there is no such file",
      `${checkpoints} cannot be read: it is no file`,
      `${mamba} would be replaced by a file without all that is left over; give OUT another name`,
      `cannot write the file ${join(checkpoints, "none", "b")}: its folder does not exist`,
      `${join(checkpoints, "transformer.pth")} holds no encoder that is known here: ` +
      "the number of heads does not follow from its width, 8; give it with --heads",
    ]);
  } finally {
    console.error = error;
  }
});
