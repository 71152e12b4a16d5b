// The norm of all gradients that clipping goes by, on every device, for every family and both styles
// of pre-training: it sums squares over parameters whose axes have the same names and other sizes.
import { assert, assertLess, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../../backends/backend.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { openSource } from "../../../experiments/data/open.ts";
import { parseMetrics } from "../../../experiments/training/metrics.ts";
import { train } from "../../../experiments/training/train.ts";
import mamba from "../../../experiments/specs/presets/mamba.json" with { type: "json" };
import transformer from "../../../experiments/specs/presets/transformer.json" with { type: "json" };
import xlstm from "../../../experiments/specs/presets/xlstm.json" with { type: "json" };
import { wasm, wasmWide, webgpu } from "../../support/device.ts";
import { inFolder, littleSpec } from "../../support/small_spec.ts";

const encoders = {
  mamba: { ...mamba.encoder, dim: 16, depth: 1, state: 4 },
  transformer: { ...transformer.encoder, dim: 24, depth: 1, heads: 3 },
  xlstm: { ...xlstm.encoder, dim: 16, depth: 1 },
};
const objectives = {
  ssast: { style: "ssast" },
  mae: { style: "mae", decoder: { depth: 1, dim: 24 } },
};

/** The gradient norms of the first step of a run. */
const normsOf = async (backend: Backend, encoder: unknown, objective: unknown) => {
  const spec = littleSpec({
    encoder,
    objective,
    optimiser: { ...mamba.optimiser, clipNorm: 1e-2 },
    clip: { frames: 32 },
    schedule: { warmupSteps: 0, steps: 1 },
    evaluateEvery: 1,
    checkpointEvery: 1,
  });
  let norms: readonly number[] = [];
  await inFolder(async (folder) => {
    const source = await openSource(spec);
    assert(E.isRight(source));
    const run = { spec, backend, source: source.right, folder, interrupted: () => false };
    assert(E.isRight(await train(run)));
    const text = await Deno.readTextFile(`${folder}/metrics.jsonl`);
    const parsed = parseMetrics(text, "metrics.jsonl");
    assert(E.isRight(parsed));
    norms = parsed.right.flatMap(({ gradientNorm }) => gradientNorm ?? []);
  });
  return norms;
};

const devices: readonly (readonly [string, Backend | undefined])[] = [
  ["WebAssembly", wasm],
  ["WebAssembly with vectors in pairs", wasmWide],
  ["WebGPU", webgpu],
];
for (const [family, encoder] of Object.entries(encoders)) {
  for (const [style, objective] of Object.entries(objectives)) {
    Deno.test(`${family}, ${style}: the norm of all gradients is the reference's`, async () => {
      const want = await normsOf(referenceBackend(), encoder, objective);
      assertStrictEquals(want.length, 1);
      for (const [name, backend] of devices) {
        if (backend === undefined || backend === webgpu && style === "mae") continue;
        const got = await normsOf(backend, encoder, objective);
        const off = Math.abs(got[0] / want[0] - 1);
        assertLess(off, 1e-5, `${name}: ${got[0]}, the reference ${want[0]}`);
      }
    });
  }
}
