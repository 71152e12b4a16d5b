// `deno run -A tests/backends/wasm/memory.ts [FAMILY]`: how much memory this process takes at most over a training
// step of a tiny encoder as WebAssembly, beside what was planned. One line of JSON. Linux alone says
// what the most was.
import { wasmBackend } from "../../../backends/wasm/backend.ts";
import { volume } from "../../../dsl/axes.ts";
import { leavesOf } from "../../../experiments/inspect/explain.ts";
import type { FamilyName } from "../../../models/sizes.ts";
import { tinyStep } from "../../support/tiny_steps.ts";

/** Bytes. */
export interface Memory {
  /** Parameters, moments, inputs and intermediate values. */
  readonly planned: number;
  /** The most that the process held before there was a program, and in all. */
  readonly before: number;
  readonly most: number;
}

const mostHeld = (): number => {
  const status = Deno.readTextFileSync("/proc/self/status");
  return 1024 * Number(status.match(/VmHWM:\s+(\d+)/)![1]);
};

if (import.meta.main) {
  const before = mostHeld();
  const program = tinyStep((Deno.args[0] ?? "mamba") as FamilyName, "all", 12);
  const backend = wasmBackend();
  const machine = await backend.open({ step: program });
  const leaves = leavesOf(program);
  // One array for all, so that there is no second copy of them.
  const floats = new Float32Array(Math.max(...leaves.map(({ axes }) => volume(axes)))).fill(0.01);
  const valueOf = ({ dtype, axes }: typeof leaves[number]) =>
    dtype === "f32" ? floats.subarray(0, volume(axes)) : new Uint32Array(volume(axes));
  for (const leaf of leaves) machine.write({ [leaf.attributes.name!]: valueOf(leaf) });
  const inputs = leaves.filter(({ op }) => op === "input");
  await machine.run(
    "step",
    Object.fromEntries(inputs.map((leaf) => [leaf.attributes.name!, valueOf(leaf)])),
  );
  const memory: Memory = {
    planned: leaves.reduce(
      (sum, { axes }) => sum + 4 * volume(axes),
      machine.report("step").peakBytes,
    ),
    before,
    most: mostHeld(),
  };
  console.log(JSON.stringify(memory));
  Deno.exit(0);
}
