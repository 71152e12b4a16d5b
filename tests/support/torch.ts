// PyTorch beside the tests: the Python that has it, if any, and the models whose checkpoints it
// writes with checkpoints/make.py. Run by itself, this file writes the committed ones again:
// deno run -A tests/support/torch.ts
import { assertMatch, assertStrictEquals, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { wholeModel } from "../../experiments/commands/import.ts";
import { openPth, type Pth, pthErrorText } from "../../experiments/formats/pth.ts";
import { bytesSource } from "../../experiments/formats/zip.ts";
import type { TensorData } from "../../backends/runtime/safetensors.ts";
import type { Recognised } from "../../experiments/encoders/identify.ts";
import { type FamilyEncoder, type FamilyName, publishedEncoder } from "../../models/sizes.ts";
import { assertSameNumbers } from "./same_numbers.ts";

const changes: { readonly [F in FamilyName]: object } = {
  transformer: { dim: 8, depth: 1, heads: 2, mlp: 2 },
  mamba: { dim: 8, depth: 2, state: 4, expand: 2 },
  xlstm: { dim: 8, depth: 2 },
};

/** The encoders of the checkpoints. */
export const small = (family: FamilyName): Recognised => ({
  encoder: { ...publishedEncoder(family, "tiny"), ...changes[family] } as FamilyEncoder,
  frames: 8,
});

/** Names and shapes of an encoder's tensors, in the published order. */
export const shapesOf = (of: Recognised): readonly (readonly [string, readonly number[]])[] =>
  wholeModel(of).map(({ name, axes }) => [name, Object.values(axes).map(Number)]);

/** The values that make.py gives tensor `k`. */
export const valuesOf = (k: number, shape: readonly number[]): Float32Array =>
  Float32Array.from(
    { length: shape.reduce((a, b) => a * b, 1) },
    (_, i) => ((7 * i + 13 * k) % 65 - 32) / 64,
  );

/** An open file; fails with the sentence that says why it is not read. */
export const opened = (bytes: Uint8Array): Pth => {
  const pth = openPth(bytesSource(bytes));
  return E.isRight(pth) ? pth.right : fail(pthErrorText(pth.left, "the file"));
};

/** All tensors of a file. */
export const tensorsIn = (bytes: Uint8Array): ReadonlyMap<string, TensorData> => {
  const pth = opened(bytes), found = pth.read([...pth.shapes.keys()]);
  return E.isRight(found) ? found.right : fail(pthErrorText(found.left, "the file"));
};

/** The sentence with which a file is refused, opened or read. */
export const refusal = (bytes: Uint8Array): string => {
  const pth = openPth(bytesSource(bytes));
  if (E.isLeft(pth)) return pthErrorText(pth.left, "x.pth");
  const found = pth.right.read([...pth.right.shapes.keys()]);
  return E.isLeft(found) ? pthErrorText(found.left, "x.pth") : fail("it was read");
};

const f32 = (shape: readonly number[], values: Iterable<number>): TensorData => ({
  dtype: "F32",
  shape,
  data: Float32Array.from(values),
});

/** Compares what is read from a folder of make.py's checkpoints with the values that it gave. */
export const checkCheckpoints = (folder: string): void => {
  const file = (name: string) => Deno.readFileSync(`${folder}/${name}`);
  for (const family of ["transformer", "mamba", "xlstm"] as const) {
    const found = tensorsIn(file(`${family}.pth`));
    const expected = new Map(
      shapesOf(small(family)).map(([name, shape], k) => [name, f32(shape, valuesOf(k, shape))]),
    );
    if (family === "mamba") {
      expected.delete("mask_token");
      expected.set("head.weight", f32([3, 8], Array.from({ length: 24 }, () => 1)));
    }
    assertSameNumbers(found, expected);
  }

  const base = valuesOf(0, [4, 6]), at = (row: number, column: number) => base[6 * row + column];
  const grid = (rows: readonly number[], columns: readonly number[]) =>
    rows.flatMap((row) => columns.map((column) => at(row, column)));
  const range = (n: number) => Array.from({ length: n }, (_, k) => k);
  assertSameNumbers(
    Object.fromEntries(tensorsIn(file("views.pth"))),
    {
      base: f32([4, 6], base),
      transposed: f32([6, 4], range(6).flatMap((column) => grid(range(4), [column]))),
      row: f32([6], grid([2], range(6))),
      column: f32([4], grid(range(4), [1])),
      steps: f32([3, 3], grid([1, 2, 3], [0, 2, 4])),
      expanded: f32([2, 3], range(6).map(() => at(0, 3))),
      tied: f32([4, 6], base),
      parameter: f32([2, 2], valuesOf(1, [4])),
      scalar: f32([], [0.25]),
      empty: f32([0, 3], []),
      half: f32([5], valuesOf(2, [5])),
      halves: f32([5], [65504, -0, 2 ** -24, 1023 * 2 ** -24, 2 ** -14]),
      // 3e38 is rounded to the 8 bits of a bfloat16.
      brain: f32([3], [226 * 2 ** 120, -(2 ** -130), 1.5]),
      double: f32([5], valuesOf(3, [5])),
      long: { dtype: "I64", shape: [2], data: BigInt64Array.of(2n ** 62n, -1n) },
      int: { dtype: "I32", shape: [2], data: Int32Array.of(-7, 7) },
      short: { dtype: "I16", shape: [2], data: Int16Array.of(-300, 300) },
      char: { dtype: "I8", shape: [2], data: Int8Array.of(-128, 127) },
      byte: { dtype: "U8", shape: [2], data: Uint8Array.of(0, 255) },
      bool: { dtype: "BOOL", shape: [2], data: Uint8Array.of(1, 0) },
    },
  );
  assertStrictEquals(opened(file("views.pth")).others, 1);

  assertStrictEquals(
    refusal(file("legacy.pth")),
    "x.pth is in the format that PyTorch had before 1.6, which is not read here; save it again, in " +
      "Python: torch.save(torch.load('old.pth', map_location='cpu'), 'new.pth')",
  );
  assertStrictEquals(
    refusal(file("script.pt")),
    "x.pth is a TorchScript program, which is not read here; save its parameters, in Python: " +
      "torch.save(torch.jit.load('old.pt').state_dict(), 'new.pth')",
  );
  assertMatch(
    refusal(file("hostile.pth")),
    /^x\.pth is refused: at byte \d+ its pickle asks for '(?:posix|nt)\.system', and nothing from a/,
  );
  assertMatch(
    refusal(file("module.pth")),
    /^x\.pth is refused: at byte \d+ its pickle asks for 'torch\.nn\.modules\.linear\.Linear', and/,
  );
};

const here = new URL("./checkpoints/", import.meta.url);

const runs = (python: string): boolean => {
  try {
    const args = ["-c", "import torch"];
    return new Deno.Command(python, { args, stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
};

/** A Python that has PyTorch; undefined where there is none. */
export const pythonWithTorch = (): string | undefined => ["python3", "/usr/bin/python3"].find(runs);

/** Runs a script; throws what it said when it failed. */
export const runPython = (python: string, args: readonly string[]): string => {
  const { success, stdout, stderr } = new Deno.Command(python, { args: [...args] }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
};

/** Writes all checkpoints into a folder. */
export const makeCheckpoints = (python: string, folder: string): void => {
  const families: readonly FamilyName[] = ["transformer", "mamba", "xlstm"];
  const shapes = Deno.makeTempFileSync({ suffix: ".json" });
  try {
    const models = families.map((family) => [family, shapesOf(small(family))]);
    Deno.writeTextFileSync(shapes, JSON.stringify(Object.fromEntries(models)));
    runPython(python, [new URL("make.py", here).pathname, shapes, folder]);
  } finally {
    Deno.removeSync(shapes);
  }
};

if (import.meta.main) {
  const python = pythonWithTorch();
  if (python === undefined) throw new Error("no python3 here has torch");
  makeCheckpoints(python, here.pathname);
}
