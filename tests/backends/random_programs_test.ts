// Random programs on every device against what they should give (tests/programs/expected.ts). They
// are compared in groups, since opening a machine costs more than a run; when one disagrees, fast-check
// takes over at that program, shrinks it and prints it with the seed. FORMANT_SEED=n tries other
// programs than the usual ones, and FORMANT_PROGRAMS=n so many of them (`deno task nightly`).
import fc from "fast-check";
import { assert, assertGreater, assertLess, assertLessOrEqual } from "@std/assert";
import type { Backend } from "../../backends/backend.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import {
  again,
  type Compare,
  print,
  refused,
  toExpected,
  withoutFusion,
} from "../programs/compare.ts";
import { kindsOf, shares } from "../programs/kinds.ts";
import {
  byReference,
  complaint,
  type Expected,
  expectedOf,
  halved,
  single,
  slopesOf,
} from "../programs/expected.ts";
import { generate, type Random, type Recipe, recipes } from "../programs/recipes.ts";
import {
  wasm,
  wasmInLoops,
  wasmPlain,
  wasmWide,
  webgpu,
  webgpuAsGpu,
  webgpuByMatrices,
  webgpuHalves,
  webgpuInLoops,
  webgpuInParts,
  webgpuInPartsAsGpu,
} from "../support/device.ts";

const seed = Number(Deno.env.get("FORMANT_SEED") ?? 20260);
const COUNT = Number(Deno.env.get("FORMANT_PROGRAMS") ?? 120), GROUP = 25;

const sampled = fc.sample(recipes, { seed, numRuns: COUNT });

/** What the first programs should give is worked out once for all devices. */
const REMEMBERED = 300;
const remembered = new Map<Recipe, Promise<Expected>>();
const rememberable = new Set(sampled.slice(0, REMEMBERED));
const expectation = (recipe: Recipe, of: Random): Promise<Expected> => {
  const found = remembered.get(recipe) ?? expectedOf(of);
  if (rememberable.has(recipe)) remembered.set(recipe, found);
  return found;
};

const exact = toExpected(single, expectation);

Deno.test("the reference agrees with the eager library, and gradients with its differences", async () => {
  const count = Math.min(COUNT, 1000);
  let slopes = 0, kinks = 0;
  const check = async (recipe: Recipe): Promise<void> => {
    const of = generate(recipe);
    if (of === undefined) return;
    const found = await byReference(of);
    const said = complaint(await expectation(recipe, of), found, { tolerance: 1e-6, times: 1e-2 });
    assert(said === undefined, `${said}\n${print(recipe)}`);
    for (const slope of slopesOf(of, found.runs[0])) {
      slopes++;
      if (slope.expected === undefined) {
        kinks++;
        continue;
      }
      const tolerance = slope.name === "first derivative" ? 1e-5 : 1e-3;
      const off = Math.abs(slope.found - slope.expected);
      assertLessOrEqual(
        off,
        tolerance * (0.01 + slope.size),
        `the ${slope.name} is ${slope.found}, differences say ${slope.expected}\n${print(recipe)}`,
      );
    }
  };
  for (const [k, recipe] of sampled.slice(0, count).entries()) {
    try {
      await check(recipe);
    } catch {
      const property = fc.asyncProperty(recipes, check);
      await fc.assert(property, { seed, path: `${k}`, numRuns: 1, endOnFailure: false });
      throw new Error(`program ${k} of seed ${seed} is wrong only once`);
    }
  }
  assertGreater(slopes, count / 3, `only ${slopes} derivatives`);
  assertLess(kinks, slopes / 5, `${kinks} of ${slopes} derivatives stand at a kink`);
});

Deno.test("random programs are of all kinds, each at least a tenth of them", () => {
  const made = fc.sample(recipes, { seed, numRuns: Math.max(400, COUNT) }).map((recipe) =>
    generate(recipe)
  );
  const some = made.filter((of) => of !== undefined);
  const table = shares(some.map(kindsOf));
  if (Deno.env.has("FORMANT_PROGRAMS")) {
    for (const [kind, share] of table) console.log(`${(100 * share).toFixed(0)}% ${kind}`);
  }
  const few = table.filter(([, share]) => share < 0.1).map(([kind]) => kind);
  assert(few.length === 0, `less than a tenth: ${few.join(", ")}`);
});

/** Devices, the share of the programs that each gets, and what they are compared with. */
const devices: readonly (readonly [string, Backend | undefined, number, Compare])[] = [
  ["WebGPU", webgpu, 6, exact],
  ["WebGPU with a GPU's kernels", webgpuAsGpu, 12, exact],
  ["WebGPU in loops", webgpuInLoops, 12, exact],
  ["WebGPU in parts", webgpuInParts, 12, exact],
  ["WebGPU in parts with a GPU's kernels", webgpuInPartsAsGpu, 12, exact],
  ["WebGPU by matrices", webgpuByMatrices, 12, exact],
  ["WebGPU in f16", webgpuHalves, 12, toExpected(halved, expectation)],
  ["WebGPU unfused", webgpu, 24, withoutFusion],
  ["WebAssembly", wasm, 1, exact],
  ["WebAssembly with plain SIMD", wasmPlain, 3, exact],
  ["WebAssembly with vectors in pairs", wasmWide, 3, exact],
  ["WebAssembly in loops", wasmInLoops, 3, exact],
  ["WebAssembly unfused", wasm, 8, withoutFusion],
  ["WebAssembly opened again", wasmPlain, 4, again],
  ["WebAssembly, each with a mistake,", wasmPlain, 4, refused],
  ["the reference, each with a mistake,", referenceBackend(), 4, refused],
];

for (const [name, backend, share, compare] of devices) {
  const count = Math.ceil(COUNT / share);
  Deno.test({
    name: `${count} random programs on ${name}`,
    ignore: backend === undefined,
    fn: async () => {
      for (let start = 0; start < count; start += GROUP) {
        const group = sampled.slice(start, Math.min(start + GROUP, count));
        let said: readonly (string | undefined)[];
        try {
          said = await compare(backend!, group);
        } catch {
          // One of the group does not open; which one, the runs below find out.
          said = group.map(() => "the group does not open");
        }
        for (const i of group.keys()) {
          if (said[i] === undefined) continue;
          const property = fc.asyncProperty(recipes, async (recipe) => {
            const [alone] = await compare(backend!, [recipe]);
            assert(alone === undefined, `${alone}\n${print(recipe)}`);
          });
          const at = { seed, path: `${start + i}`, numRuns: 1, endOnFailure: false };
          await fc.assert(property, at);
        }
        const first = said.findIndex((one) => one !== undefined && !one.startsWith("the group"));
        assertLess(
          first,
          0,
          `only in its group, program ${start + first} of seed ${seed}: ${said[first]}`,
        );
      }
    },
  });
}
