// A process of its own, as far as expressions go: compiles a training step after others were built.
import { compile as compileWasm } from "../../../backends/wasm/compile.ts";
import { showFunc } from "../../../backends/wasm/assembler/disassemble.ts";
import { compile as compileWebgpu, type Place } from "../../../backends/webgpu/compile.ts";
import type { Spec } from "../../../experiments/specs/spec.ts";
import { programsOf } from "../../../experiments/training/programs.ts";
import { littleSpec } from "../../support/small_spec.ts";
import { gpuLimits } from "../../support/tiny_steps.ts";
import mamba from "../../../experiments/specs/presets/mamba.json" with { type: "json" };

const little = (depth: number): Spec =>
  littleSpec({ encoder: { ...mamba.encoder, dim: 16, depth, state: 4 } });

const place: Place = {
  name: "a GPU",
  limits: gpuLimits,
  target: { onCpu: false },
  oneForParams: true,
};

const code = (spec: Spec) => {
  const { train } = programsOf(spec).programs;
  return {
    wgsl: compileWebgpu(train, place).steps.map(({ code }) => code.wgsl),
    wasm: compileWasm(train, { engine: { relaxed: true, wide: false } }).steps.flatMap((
      { launches },
    ) => launches.map(({ func }) => showFunc(func))),
  };
};

const scope = self as unknown as {
  onmessage: (event: MessageEvent<{ readonly before: readonly number[] }>) => void;
  postMessage: (code: unknown) => void;
};
scope.onmessage = ({ data: { before } }) => {
  // They stay alive, so that what they share with the program would be found again.
  const built = before.map((depth) => programsOf(little(depth)));
  scope.postMessage({ ...code(little(1)), built: built.length });
};
