// A whole run in little: the same bits for the same seed, files whole, a stop that loses nothing.
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertNotMatch,
  assertStrictEquals,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../../backends/backend.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { openSource } from "../../../experiments/data/open.ts";
import { parseMetrics } from "../../../experiments/training/metrics.ts";
import { decode } from "../../../backends/runtime/safetensors.ts";
import type { Spec } from "../../../experiments/specs/spec.ts";
import { train } from "../../../experiments/training/train.ts";
import { wasm, webgpu } from "../../support/device.ts";
import mamba from "../../../experiments/specs/presets/mamba.json" with { type: "json" };
import { inFolder, littleSpec } from "../../support/small_spec.ts";

const little = (changes: Record<string, unknown> = {}): Spec =>
  littleSpec({ schedule: { warmupSteps: 2, steps: 6 }, evaluateEvery: 3, ...changes });

const run = async (spec: Spec, backend: Backend, folder: string, interrupted = () => false) => {
  const source = await openSource(spec);
  assert(E.isRight(source));
  return await train({ spec, backend, source: source.right, folder, interrupted });
};

const losses = async (folder: string) => {
  const parsed = parseMetrics(await Deno.readTextFile(`${folder}/metrics.jsonl`), "metrics.jsonl");
  assert(E.isRight(parsed));
  return parsed.right.map(({ step, loss, heldOutLoss }) => ({ step, loss, heldOutLoss }));
};

const backends: readonly (readonly [string, Backend | undefined])[] = [
  ["the reference", referenceBackend()],
  ["WebGPU", webgpu],
  ["WebAssembly", wasm],
];
for (const [name, backend] of backends) {
  Deno.test({
    name: `the same seed gives the same checkpoint, bit for bit, on ${name}`,
    ignore: backend === undefined,
    fn: () =>
      inFolder(async (folder) => {
        for (const [place, seed] of [["a", 3], ["b", 3], ["c", 4]] as const) {
          const result = await run(little({ seed }), backend!, `${folder}/${place}`);
          assert(E.isRight(result), JSON.stringify(result));
          const files = [...Deno.readDirSync(`${folder}/${place}`)].map((entry) => entry.name)
            .sort();
          assertEquals(files, [
            ".lock",
            "checkpoint.safetensors",
            "checkpoints",
            "held-out.safetensors",
            "metrics.csv",
            "metrics.jsonl",
            "report.html",
            "run.json",
            "spec.json",
            "timing.jsonl",
          ]);
        }
        const bytes = (place: string) =>
          Deno.readFileSync(`${folder}/${place}/checkpoint.safetensors`);
        assertEquals(bytes("a"), bytes("b"));
        assertNotEquals(bytes("a"), bytes("c"));
        assertEquals(await losses(`${folder}/a`), await losses(`${folder}/b`));
        const decoded = decode(bytes("a"));
        assert(E.isRight(decoded));
        assertStrictEquals([...decoded.right.tensors.keys()][0], "cls_token");
        assertEquals(decoded.right.tensors.get("blocks.0.mixer.conv1d.weight")!.shape, [
          32,
          1,
          4,
        ]);
        assertStrictEquals(decoded.right.metadata.step, "6");
      }),
  });
}

const common = { dim: 16, depth: 2, norm: "layer", positions: "sin-cos" };
const shared = { ...common, registers: 0, stochasticDepth: 0 };
const encoders = {
  transformer: { family: "transformer", ...shared, order: "bidirectional", heads: 2, mlp: 2 },
  mamba: { ...mamba.encoder, ...shared, state: 4 },
  xlstm: {
    ...{ family: "xlstm", ...shared, order: "alternating" },
    ...{ heads: 2, expand: 2, conv: 4, slstm: [1], form: "parallel" },
  },
};

/** Held-out loss of a short run with these changes, and what predicting the mean gives. */
const learns = (backend: Backend, changes: Record<string, unknown>) =>
  inFolder(async (folder) => {
    const spec = little({
      schedule: { warmupSteps: 5, steps: 120 },
      evaluateEvery: 120,
      checkpointEvery: 120,
      optimiser: { ...mamba.optimiser, peakLearningRate: 0.01 },
      fidelity: { from: "corrected", loss: "all" },
      data: { kind: "synthetic", clips: 80, seconds: 1, heldOutFraction: 0.1 },
      ...changes,
    });
    const result = await run(spec, backend, folder);
    assert(E.isRight(result), JSON.stringify(result));
    const { first, last, baseline } = result.right;
    assert(last < 0.95 * baseline && last < 0.95 * first, JSON.stringify(result.right));
  });

Deno.test("training brings the held-out loss below that of the clip's mean on the reference", () =>
  learns(referenceBackend(), {
    encoder: { ...encoders.mamba, depth: 1, expand: 2 },
  }));

for (const [family, encoder] of Object.entries(encoders)) {
  for (const style of ["ssast", "mae"]) {
    Deno.test({
      name: `${family}, ${style} style, learns on WebGPU`,
      ignore: webgpu === undefined,
      fn: () => learns(webgpu!, { encoder, objective: { style } }),
    });
  }
}

Deno.test("an interrupted run leaves its last checkpoint whole and says where it is", () =>
  inFolder(async (folder) => {
    let asked = 0;
    const result = await run(little(), referenceBackend(), folder, () => ++asked > 5);
    assert(E.isLeft(result));
    assertMatch(
      result.left.message,
      /^interrupted after step \d+; the checkpoint of step 5 is in /,
    );
    const decoded = decode(Deno.readFileSync(`${folder}/checkpoint.safetensors`));
    assert(E.isRight(decoded));
    assertStrictEquals(decoded.right.metadata.step, "5");
    assert([...Deno.readDirSync(folder)].every((entry) => !entry.name.endsWith(".partial")));
  }));

/** A backend whose scores of held-out clips pass through `change`; `at` counts them from 1. */
const scoring = (change: (loss: Float32Array, at: number) => Float32Array): Backend => {
  let at = 0;
  return {
    ...wasm,
    open: async (programs) => {
      const machine = await wasm.open(programs);
      return {
        ...machine,
        run: async (name, inputs) => {
          const found = await machine.run(name, inputs);
          return name === "evaluate"
            ? { ...found, loss: change(found.loss as Float32Array, ++at) }
            : found;
        },
      };
    },
  };
};

Deno.test("a held-out loss that is not a number stops the run, before a step or after it", () =>
  inFolder(async (folder) => {
    // Batches of held-out clips that are scored at once.
    let batches = 0;
    const counted = scoring((loss) => (batches++, loss));
    assert(E.isRight(await run(little(), counted, `${folder}/whole`)));
    const once = batches / 3;
    for (const [at, step] of [[1, 0], [once + 1, 3], [2 * once + 1, 6]]) {
      const broken = scoring((loss, now) => now === at ? loss.map(() => NaN) : loss);
      const result = await run(little(), broken, `${folder}/${step}`);
      assert(E.isLeft(result));
      const why = `the loss of the held-out clips after step ${step} is not a number; `;
      assert(result.left.message.startsWith(why), result.left.message);
      const metrics = Deno.readTextFileSync(`${folder}/${step}/metrics.jsonl`);
      assertNotMatch(metrics, /null/);
    }
  }));

Deno.test("an end that is asked for while clips are scored is heard before the next of them", () =>
  inFolder(async (folder) => {
    const source = await openSource(little());
    assert(E.isRight(source));
    for (const first of [true, false]) {
      const controller = new AbortController();
      let after = 0;
      const backend = scoring((loss, at) => {
        if (controller.signal.aborted) after++;
        if (first || at > 1) controller.abort();
        return loss;
      });
      const result = await train({
        spec: little({ batch: 1, data: { ...little().data, clips: 8, heldOutFraction: 0.5 } }),
        backend,
        source: source.right,
        folder: `${folder}/${first}`,
        interrupted: () => controller.signal.aborted,
        signal: controller.signal,
      });
      assert(E.isLeft(result));
      assertMatch(result.left.message, /^interrupted (before the first step|after step \d)/);
      assertStrictEquals(after, 0);
    }
  }));

Deno.test("a loss that is not a number stops the run", () =>
  inFolder(async (folder) => {
    const optimiser = { ...mamba.optimiser, peakLearningRate: 1e30 };
    const result = await run(little({ optimiser }), referenceBackend(), folder);
    assert(E.isLeft(result));
    assertMatch(
      result.left.message,
      /^the loss of step 3 is not a number; its clips are in .*failed-step\.safetensors; lower the/,
    );
    const failed = decode(Deno.readFileSync(`${folder}/failed-step.safetensors`));
    assert(E.isRight(failed));
    assertStrictEquals(failed.right.metadata.step, "3");
    assertEquals(failed.right.tensors.get("spectrogram")!.shape, [2, 40, 80]);
    assertNotEquals(
      failed.right.tensors.get("spectrogram")!.data,
      failed.right.tensors.get("previous")!.data,
    );
    const good = decode(Deno.readFileSync(`${folder}/checkpoint.safetensors`));
    assert(E.isRight(good));
    assertStrictEquals(good.right.metadata.step, "2");
    const record = JSON.parse(Deno.readTextFileSync(`${folder}/run.json`));
    assertEquals([record.state, record.reason], ["stopped", result.left.message]);
  }));
