// PyTorch beside the tests: the Python that has it, if any, and the models whose checkpoints it
// writes with checkpoints/make.py. Run by itself, this file writes the committed ones again:
// deno run -A tests/experiments/torch.ts
import { wholeModel } from "../../experiments/import.ts";
import type { Recognised } from "../../experiments/recognise.ts";
import { type FamilyName, publishedEncoder } from "../../models/sizes.ts";
import type { Encoder } from "../../models/encoder.ts";

const changes: { readonly [F in FamilyName]: object } = {
  transformer: { dim: 8, depth: 1, heads: 2, mlp: 2 },
  mamba: { dim: 8, depth: 2, state: 4, expand: 2 },
  xlstm: { dim: 8, depth: 2 },
};

/** The encoders of the checkpoints. */
export const small = (family: FamilyName): Recognised => ({
  encoder: { ...publishedEncoder(family, "tiny"), ...changes[family] } as Encoder,
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
