// `deno task golden FILE...`: runs the primitive, block or model of a golden file with the inputs and
// parameters stored in it, and compares the results with those of the published PyTorch code.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../backends/backend.ts";
import { AxisError } from "../../dsl/axes.ts";
import { openBackend } from "../machines/device.ts";
import { cases, runCase } from "../inspect/golden/blocks.ts";
import { runLogMel, runPatchify, runPositions } from "../inspect/golden/front_end.ts";
import { runModel } from "../inspect/golden/models.ts";
import { runAdamW, runSchedule } from "../inspect/golden/optimiser.ts";
import { type Golden, GoldenError, type Row, runAsked } from "../inspect/golden/compare.ts";
import { runRuntime } from "../inspect/golden/embeddings.ts";
import { runTiny } from "../inspect/golden/tiny_models.ts";
import type { TinyCompanion } from "../inspect/golden/compare.ts";
import { irregular } from "../io/regular_files.ts";
import {
  decode,
  type Safetensors,
  safetensorsErrorText,
} from "../../backends/runtime/safetensors.ts";
import { readTensors } from "../formats/safetensors_file.ts";
import { commandOf, flag, seeHelp } from "./command.ts";
import { device } from "./options.ts";

export { GoldenError, type Row };

type Runner = (golden: Golden, backend: Backend) => Promise<readonly Row[]>;

/** Runners by kind. A file's kind is a prefix of its name, so that a kind can have variants. */
const kinds: Readonly<Record<string, Runner>> = {
  ...Object.fromEntries(
    Object.entries(cases).map(([kind, make]): [string, Runner] => [
      kind,
      (golden, backend) => runAsked(golden, backend, runCase(golden, make(golden))),
    ]),
  ),
  prim_adamw: runAdamW,
  model_: runModel,
  tiny_: runTiny,
  hear_runtime: runRuntime,
  logmel: runLogMel,
  patchify: runPatchify,
  pos_embed: runPositions,
  lr_schedule: (golden) => Promise.resolve(runSchedule(golden)),
};

/** The runner whose kind is the longest prefix of the name. */
const runnerOf = (name: string): Runner | undefined => {
  const [kind] = Object.keys(kinds).filter((kind) => name.startsWith(kind))
    .sort((a, b) => b.length - a.length);
  return kinds[kind];
};

/**
 * Compares one golden file with the results of a backend: a row per tensor.
 * Throws `GoldenError` with one sentence if the file is missing, damaged or of an unknown kind.
 */
export const checkGolden = async (file: string, backend: Backend): Promise<readonly Row[]> => {
  let read: ReturnType<typeof readTensors>;
  try {
    read = readTensors(file);
  } catch {
    const why = irregular(file);
    throw new GoldenError(
      `${file} can not be read${
        why === undefined ? "" : `, as ${why}`
      }; give the path of a golden ` +
        ".safetensors file",
    );
  }
  const decoded = E.isLeft(read) ? read : decode(read.right);
  if (E.isLeft(decoded)) throw new GoldenError(safetensorsErrorText(decoded.left, file));
  const { metadata, tensors }: Safetensors = decoded.right;
  let companion: TinyCompanion | undefined;
  try {
    companion = JSON.parse(readFileSync(file.replace(/\.safetensors$/, ".json"), "utf8"));
  } catch {
    // Only the tiny models have one; their runner reports if it is missing.
  }
  const kind = basename(file).replace(/\.safetensors$/, "");
  const golden: Golden = { file: basename(file), kind, metadata, tensors, companion };
  const run = runnerOf(kind);
  if (run === undefined) {
    const known = Object.keys(kinds).join(", ");
    throw new GoldenError(`${file}: '${kind}' is no known golden; known are ${known}`);
  }
  try {
    return await run(golden, backend);
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

/** Compares files and prints a row per tensor. Gives the exit status: 0 if all are within tolerance. */
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

export const command = commandOf({
  summary: "compares reference numbers with what a device computes",
  notes:
    "Compares files of reference numbers with what a device computes. Status 0 only if all agree.",
  words: {
    usage: "FILE...",
    help: { FILE: "a golden .safetensors file" },
    suggests: { paths: "files" },
    wrong: (files) => files.length === 0 ? seeHelp : undefined,
  },
  options: { device, json: flag("one JSON object per tensor: file, tensor, rel, abs, ok") },
  run: async ({ words, options: { device = "auto", json } }) =>
    E.right(await golden(words, { device, json })),
});
