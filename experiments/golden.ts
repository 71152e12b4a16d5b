// `deno task golden FILE...`: runs the primitive, block or model that a golden file describes, with
// the inputs and parameters stored in it, and compares what it stores of the published PyTorch code.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../backends/backend.ts";
import { AxisError } from "../dsl/axes.ts";
import { openBackend } from "./backend.ts";
import { cases, runCase } from "./golden/blocks.ts";
import { runLogMel, runPatchify, runPositions } from "./golden/frontend.ts";
import { runModel } from "./golden/models.ts";
import { runAdamW, runSchedule } from "./golden/optimiser.ts";
import { type Golden, GoldenError, type Row, runAsked } from "./golden/rows.ts";
import { runTiny, type TinyCompanion } from "./golden/tiny.ts";
import { decode, type Safetensors, safetensorsErrorText } from "./safetensors.ts";

export { GoldenError, type Row };

const kinds = (golden: Golden): ((backend: Backend) => Promise<readonly Row[]>) | undefined => {
  const { kind } = golden;
  if (kind === "prim_adamw") return (backend) => runAdamW(golden, backend);
  if (cases[kind] !== undefined) {
    return (backend) => runAsked(golden, backend, runCase(golden, cases[kind](golden)));
  }
  if (kind.startsWith("model_")) return (backend) => runModel(golden, backend);
  if (kind.startsWith("tiny_")) return (backend) => runTiny(golden, backend);
  if (kind === "logmel") return (backend) => runLogMel(golden, backend);
  if (kind === "patchify") return (backend) => runPatchify(golden, backend);
  if (kind === "pos_embed") return (backend) => runPositions(golden, backend);
  if (kind === "lr_schedule") return () => Promise.resolve(runSchedule(golden));
};

/** The longest known kind that a file name begins with, so that variants of a kind are found too. */
const kindOf = (file: string): string => {
  const stem = basename(file).replace(/\.safetensors$/, "");
  const known = [...Object.keys(cases), "prim_adamw"].filter((kind) => stem.startsWith(kind))
    .sort((a, b) => b.length - a.length);
  return known[0] ??
    ["logmel", "patchify", "pos_embed", "lr_schedule"].find((kind) => stem.startsWith(kind)) ??
    stem;
};

/**
 * Compares one golden file with what a backend computes: a row per tensor.
 * Throws `GoldenError` with one sentence for a file that is not there, damaged, or of no known kind.
 */
export const checkGolden = async (file: string, backend: Backend): Promise<readonly Row[]> => {
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(readFileSync(file));
  } catch {
    throw new GoldenError(`${file} can not be read; give the path of a golden .safetensors file`);
  }
  const decoded = decode(bytes);
  if (E.isLeft(decoded)) throw new GoldenError(safetensorsErrorText(decoded.left, file));
  const { metadata, tensors }: Safetensors = decoded.right;
  let companion: TinyCompanion | undefined;
  try {
    companion = JSON.parse(readFileSync(file.replace(/\.safetensors$/, ".json"), "utf8"));
  } catch {
    // Only the tiny models have one, and they say so when it is missing.
  }
  const golden: Golden = { file: basename(file), kind: kindOf(file), metadata, tensors, companion };
  const run = kinds(golden);
  if (run === undefined) {
    const list = [
      ...Object.keys(cases),
      "prim_adamw",
      "model_mamba",
      "tiny_mamba",
      "logmel",
      "patchify",
      "pos_embed",
      "lr_schedule",
    ];
    throw new GoldenError(
      `${file}: '${golden.kind}' is no known golden; known are ${list.join(", ")}`,
    );
  }
  try {
    return await run(backend);
  } catch (error) {
    if (error instanceof AxisError) {
      throw new GoldenError(`${file} does not fit '${golden.kind}': ${error.message}`);
    }
    throw error;
  }
};

const showRow = ({ file, tensor, rel, abs, tolerance, ok }: Row): string =>
  [
    ok ? "ok  " : "FAIL",
    file.replace(/\.safetensors$/, "").padEnd(28),
    tensor.padEnd(44),
    `rel ${rel.toExponential(1)}`.padEnd(13),
    `abs ${abs.toExponential(1)}`.padEnd(13),
    `within ${tolerance}`,
  ].join(" ");

/** Compares files and prints a row per tensor. Gives the exit status: 0 only when all hold. */
export const golden = async (
  files: readonly string[],
  options: { readonly device: string; readonly json: boolean },
): Promise<number> => {
  const chosen = await openBackend(options.device);
  if (E.isLeft(chosen)) {
    console.error(chosen.left);
    return 1;
  }
  const { backend, notes } = chosen.right;
  notes.forEach((note) => console.error(note));
  console.error(`device: ${backend.device}`);
  let total = 0, failed = 0, refused = 0;
  for (const file of files) {
    try {
      for (const row of await checkGolden(file, backend)) {
        total++;
        if (!row.ok) failed++;
        const { file, tensor, rel, abs, ok } = row;
        console.log(options.json ? JSON.stringify({ file, tensor, rel, abs, ok }) : showRow(row));
      }
    } catch (error) {
      if (!(error instanceof GoldenError)) throw error;
      refused++;
      console.error(error.message);
    }
  }
  backend.close();
  if (!options.json) {
    console.log(
      `${total} tensors, ${failed} out of tolerance${
        refused > 0 ? `, ${refused} files refused` : ""
      }`,
    );
  }
  return failed + refused === 0 && total > 0 ? 0 : 1;
};
