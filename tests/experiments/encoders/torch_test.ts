// Round trips with PyTorch itself, where a python3 has it (Debian: python3-torch): what is written
// here loads there by name, with the same shapes and bits, and what it writes now is read here.
import { assert, assertEquals, assertStrictEquals, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { importErrorText, importFrom } from "../../../experiments/commands/import.ts";
import { bytesSource } from "../../../experiments/formats/zip.ts";
import { decode, encode, type TensorData } from "../../../backends/runtime/safetensors.ts";
import { publishedEncoder } from "../../../models/sizes.ts";
import {
  checkCheckpoints,
  makeCheckpoints,
  pythonWithTorch,
  runPython,
  shapesOf,
} from "../../support/torch.ts";
import { tensorsIn, valuesOf } from "../../support/torch.ts";

const python = pythonWithTorch();
const test = (name: string, run: (python: string, folder: string) => void) =>
  Deno.test({
    name: python === undefined ? `${name} (ignored: no python3 here has torch)` : name,
    ignore: python === undefined,
    fn: () => {
      const folder = Deno.makeTempDirSync();
      try {
        run(python!, folder);
      } finally {
        Deno.removeSync(folder, { recursive: true });
      }
    },
  });

test("checkpoints that PyTorch writes now are read to its values", (python, folder) => {
  makeCheckpoints(python, folder);
  checkCheckpoints(folder);
});

const load = new URL("../../support/checkpoints/load.py", import.meta.url).pathname;
const counts = { transformer: 5_449_216, mamba: 4_808_704, xlstm: 2_965_600 };

for (const family of ["transformer", "mamba", "xlstm"] as const) {
  test(`a ${family} of size tiny loads in PyTorch by name, and comes back`, (python, folder) => {
    const encoder = publishedEncoder(family, "tiny"), of = { encoder, frames: 200 };
    const tensors = new Map(
      shapesOf(of).map(([name, shape], k): [string, TensorData] => [
        name,
        { dtype: "F32", shape, data: valuesOf(k, shape).map((value) => value / 3) },
      ]),
    );
    const path = `${folder}/tiny.safetensors`;
    Deno.writeFileSync(path, encode(tensors, { encoder: JSON.stringify(encoder) }));
    const sizes = JSON.stringify({ heads: 0, state: 0, expand: 0, tokens: 250, ...encoder });
    assertStrictEquals(
      runPython(python, [load, path, sizes]),
      `<All keys matched successfully>\n${counts[family]}\n`,
    );

    const back = Deno.readFileSync(`${path}.pth`), found = tensorsIn(back);
    // Also in the order of such modules.
    assertSameNumbers([...found], [...tensors]);
    const imported = importFrom(bytesSource(back));
    if (E.isLeft(imported)) fail(importErrorText(imported.left, "tiny.pth"));
    assertEquals(imported.right.encoder, encoder);
    const written = decode(imported.right.bytes);
    assert(E.isRight(written));
    assertSameNumbers([...written.right.tensors], [...tensors]);
  });
}

const loadAny = `
import json, struct, sys, torch
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
expected = torch.load(sys.argv[2])
expected = expected.get("model", expected.get("state_dict", expected))
header = json.loads(data[8:8 + size])
header.pop("__metadata__")
for name, at in header.items():
    begin, end = (8 + size + k for k in at["data_offsets"])
    numbers = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
    there = expected[name] if name in expected else expected["module." + name]
    assert torch.equal(numbers.reshape(at["shape"]), there.float()), name
print(len(header))
`;
import { assertSameNumbers } from "../../support/same_numbers.ts";

test("what is imported of every family is what PyTorch itself loads", (python, folder) => {
  makeCheckpoints(python, folder);
  for (const [family, count] of [["transformer", 23], ["mamba", 32], ["xlstm", 39]] as const) {
    const path = `${folder}/${family}.pth`;
    const options = family === "transformer" ? { heads: 2 } : {};
    const imported = importFrom(bytesSource(Deno.readFileSync(path)), options);
    if (E.isLeft(imported)) fail(importErrorText(imported.left, path));
    Deno.writeFileSync(`${path}.safetensors`, imported.right.bytes);
    const said = runPython(python, ["-c", loadAny, `${path}.safetensors`, path]);
    assertStrictEquals(said, `${count}\n`);
  }
});
