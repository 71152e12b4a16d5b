// A batch in parts is the batch: the same masks, depths and losses, whether its parts are computed one
// after the other or by several processes that add up their gradients.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { Backend } from "../../../backends/backend.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { openSource } from "../../../experiments/data/open.ts";
import { type Metric, parseMetrics } from "../../../experiments/training/metrics.ts";
import type { Spec } from "../../../experiments/specs/spec.ts";
import { decodeSpec, specErrorText } from "../../../experiments/specs/decode.ts";
import { train } from "../../../experiments/training/train.ts";
import { processesOf } from "../../../experiments/machines/processes.ts";
import { wasm, webgpu } from "../../support/device.ts";
import { worlds } from "../../support/worlds.ts";
import mamba from "../../../experiments/specs/presets/mamba.json" with { type: "json" };
import { inFolder, littleSpec } from "../../support/small_spec.ts";

const little = (changes: Record<string, unknown>): Spec =>
  littleSpec({
    encoder: { ...mamba.encoder, dim: 16, depth: 2, state: 4, stochasticDepth: 0.4 },
    schedule: { warmupSteps: 2, steps: 50 },
    batch: 8,
    data: { kind: "synthetic", clips: 20, seconds: 1, heldOutFraction: 0.3 },
    evaluateEvery: 25,
    checkpointEvery: 50,
    ...changes,
  });

const metricsIn = async (folder: string): Promise<readonly Metric[]> => {
  const parsed = parseMetrics(await Deno.readTextFile(`${folder}/metrics.jsonl`), "metrics.jsonl");
  assert(E.isRight(parsed));
  return parsed.right;
};

const trained = async (
  spec: Spec,
  backend: Backend,
  folder: string,
  shared: Pick<Parameters<typeof train>[0], "processes" | "interrupted"> = {
    interrupted: () => false,
  },
) => {
  const source = await openSource(spec);
  assert(E.isRight(source));
  return await train({ spec, backend, source: source.right, folder, ...shared });
};

const together = (of: number) => worlds(of).map(processesOf);

const assertSameCurve = (got: readonly Metric[], want: readonly Metric[], within: number) => {
  assertStrictEquals(got.length, want.length);
  got.forEach((metric, k) => {
    assertStrictEquals(metric.step, want[k].step);
    for (const key of ["loss", "heldOutLoss"] as const) {
      const [a, b] = [metric[key], want[k][key]];
      assertStrictEquals(a === undefined, b === undefined);
      if (a === undefined || b === undefined) continue;
      assertLessOrEqual(Math.abs(a - b), within, `step ${metric.step}, ${key}: ${a}, ${b}`);
    }
  });
};

const backends: readonly (readonly [string, Backend | undefined])[] = [
  ["WebAssembly", wasm],
  ["WebGPU", webgpu],
];
for (const [name, backend] of backends) {
  Deno.test({
    name: `parts of a batch give the loss curve of the whole on ${name}`,
    ignore: backend === undefined,
    fn: () =>
      inFolder(async (folder) => {
        const steps = name === "WebGPU" ? { schedule: { warmupSteps: 2, steps: 6 } } : {};
        const whole = little(steps);
        assert(E.isRight(await trained(whole, backend!, `${folder}/whole`)));
        const want = await metricsIn(`${folder}/whole`);
        assertLess(want.at(-1)!.heldOutLoss!, want[0].heldOutLoss!);
        const parts = little({ ...steps, accumulate: 4 });
        assert(E.isRight(await trained(parts, backend!, `${folder}/parts`)));
        assertSameCurve(await metricsIn(`${folder}/parts`), want, 1e-5);

        const spec = little({ ...steps, accumulate: 2 });
        const results = await Promise.all(
          together(2).map((processes) =>
            trained(spec, backend!, `${folder}/shared`, { processes, interrupted: () => false })
          ),
        );
        assert(results.every(E.isRight));
        assertSameCurve(await metricsIn(`${folder}/shared`), want, 1e-5);
      }),
  });
}

Deno.test("all processes stop in the step in which one is asked to", () =>
  inFolder(async (folder) => {
    const spec = little({});
    let asked = 0;
    const results = await Promise.all(
      together(2).map((processes, rank) =>
        trained(spec, wasm, folder, {
          processes,
          interrupted: () => rank === 1 && ++asked > 7,
        })
      ),
    );
    for (const result of results) {
      assert(E.isLeft(result));
      assertMatch(result.left.message, /^interrupted after step 7;/);
    }
  }));

Deno.test("clipped gradients keep their direction, and averages follow the parameters", () =>
  inFolder(async (folder) => {
    const optimiser = { ...mamba.optimiser, clipNorm: 1e-3, emaDecay: 0.5 };
    const changes = { schedule: { warmupSteps: 0, steps: 4 }, batch: 4 };
    const spec = little({ ...changes, optimiser });
    for (const [place, backend] of [["wasm", wasm], ["reference", referenceBackend()]] as const) {
      assert(E.isRight(await trained(spec, backend, `${folder}/${place}`)));
    }
    const [got, want] = [await metricsIn(`${folder}/wasm`), await metricsIn(`${folder}/reference`)];
    assertSameCurve(got, want, 1e-4);
    got.slice(1).forEach(({ gradientNorm }, k) => {
      assertGreater(gradientNorm!, 1e-3, `nothing was clipped: ${gradientNorm}`);
      assertLess(Math.abs(gradientNorm! / want[k + 1].gradientNorm! - 1), 1e-3);
    });
    const parts = little({ ...changes, optimiser, accumulate: 2 });
    assert(E.isRight(await trained(parts, wasm, `${folder}/parts`)));
    assertSameCurve(await metricsIn(`${folder}/parts`), got, 1e-5);
  }));

Deno.test("a batch that its parts do not divide is told", () => {
  const told = decodeSpec({ ...mamba, accumulate: 3 });
  assert(E.isLeft(told));
  assertEquals(told.left.map(specErrorText), [
    "accumulate: the batch, 8, is not divisible by 3 parts",
  ]);
});
