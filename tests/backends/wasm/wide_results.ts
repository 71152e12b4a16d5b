// `deno run -A tests/backends/wasm/wide_results.ts`: the results of training steps and of random programs with
// vectors in pairs, as one line of JSON: bits of each, joined. Run with the flags that make 256 bits of
// pairs, it shows whether these change anything.
import { assert } from "@std/assert";
import fc from "fast-check";
import type { Backend, Machine, Values } from "../../../backends/backend.ts";
import { wasmBackend } from "../../../backends/wasm/backend.ts";
import { volume } from "../../../dsl/axes.ts";
import { withFreshTable } from "../../../dsl/node.ts";
import { leavesOf } from "../../../experiments/inspect/explain.ts";
import { program, read } from "../../support/check.ts";
import { programs, recipes } from "../../programs/recipes.ts";
import { tinyStep } from "../../support/tiny_steps.ts";

/** A number for each result, by its name: the same if all bits are, and hardly otherwise. */
export type Results = Readonly<Record<string, number>>;

const mixed = (values: Values): number => {
  let hash = 0;
  for (const name of Object.keys(values).sort()) {
    const { buffer, byteOffset, length } = values[name];
    for (const bits of new Uint32Array(buffer, byteOffset, length)) {
      // Which of the many that are no numbers a device gives is its own affair.
      hash = (Math.imul(hash, 31) + ((bits & 0x7fffffff) > 0x7f800000 ? 1 : bits)) | 0;
    }
  }
  return hash;
};

/** Two training steps of one block of each family, at the published size and a batch of 8 clips. */
const steps = async (open: Backend["open"]): Promise<Results> => {
  const found: Record<string, number> = {};
  for (const family of ["transformer", "mamba", "xlstm"] as const) {
    const step = withFreshTable(() => tinyStep(family, "all", 1));
    const machine: Machine = await open({ step });
    const leaves = leavesOf(step);
    // Positive, as second moments are.
    const valueOf = ({ dtype, axes }: typeof leaves[number], seed: number) =>
      dtype === "f32"
        ? Float32Array.from(
          { length: volume(axes) },
          (_, k) => 0.01 + 0.04 * Math.abs(Math.sin(k + seed)),
        )
        : new Uint32Array(volume(axes)).fill(seed);
    const held = leaves.filter(({ op }) => op === "param");
    const given = leaves.filter(({ op }) => op === "input");
    const values = (of: typeof leaves): Values =>
      Object.fromEntries(
        of.map((leaf) => [leaf.attributes.name!, valueOf(leaf, leaf.attributes.name!.length)]),
      );
    machine.write(values(held));
    for (let k = 0; k < 2; k++) await machine.run("step", values(given));
    const after = await machine.read(held.map((leaf) => leaf.attributes.name!));
    assert(Object.values(after).every((one) => one.every(Number.isFinite)), family);
    found[family] = mixed(after);
    machine.close();
  }
  return found;
};

const groups = 5, ofGroup = 20;
const random = async (open: Backend["open"]): Promise<Results> => {
  const sampled = fc.sample(recipes, { seed: 20261, numRuns: groups * ofGroup });
  const found: Record<string, number> = {};
  for (let group = 0; group < groups; group++) {
    // In a table of their own: what is left of programs that were made before decides no order here.
    const made = withFreshTable(() =>
      sampled.slice(group * ofGroup, (group + 1) * ofGroup).map(programs)
        .flatMap((list, k) => list.map((one, n) => [`${group * ofGroup + k}.${n}`, one] as const))
        .map(([name, one]) => [name, program(one)] as const)
    );
    const machine = await open(Object.fromEntries(made.map(([name, one]) => [name, one.program])));
    for (const [name, one] of made) {
      found[name] = mixed(await machine.run(name, read(one.program, one.values)));
    }
    machine.close();
  }
  return found;
};

/** The results with vectors in pairs or one by one; as the engine wants it, by default. */
export const results = async (wide?: boolean): Promise<Results> => {
  const backend = wasmBackend({ threads: 1, wide });
  try {
    return { ...await steps(backend.open), ...await random(backend.open) };
  } finally {
    backend.close();
  }
};

if (import.meta.main) {
  console.log(
    JSON.stringify({ device: wasmBackend({ threads: 1 }).device, found: await results() }),
  );
  Deno.exit(0);
}
