// A spec that trains in a moment, and folders that are gone after a test.
import { assert } from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { Spec } from "../../experiments/specs/spec.ts";
import { decodeSpec } from "../../experiments/specs/decode.ts";
import mamba from "../../experiments/specs/presets/mamba.json" with { type: "json" };

/** A small Mamba's spec, with changes. */
export const littleSpec = (changes: Readonly<Record<string, unknown>> = {}): Spec => {
  const decoded = decodeSpec({
    ...mamba,
    name: "little",
    clip: { frames: 40 },
    encoder: { ...mamba.encoder, dim: 16, depth: 1, state: 4 },
    schedule: { warmupSteps: 2, steps: 8 },
    batch: 2,
    data: { kind: "synthetic", clips: 6, seconds: 1, heldOutFraction: 0.3 },
    logEvery: 1,
    evaluateEvery: 4,
    checkpointEvery: 2,
    report: { examples: 1 },
    ...changes,
  });
  assert(E.isRight(decoded), JSON.stringify(decoded));
  return decoded.right;
};

/** Gives `body` an empty folder. */
export const inFolder = async (body: (folder: string) => Promise<void>): Promise<void> => {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};
