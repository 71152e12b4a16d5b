// Random programs on WebGPU against the reference. They are compared in groups, since opening a
// machine costs more than a run; when one disagrees, fast-check takes over at that program, shrinks
// it and prints it with the seed. FORMANT_SEED=n tries other programs than the usual ones, and
// FORMANT_PROGRAMS=n so many of them (`deno task nightly`).
import fc from "fast-check";
import { ok } from "assert";
import type { Backend, Program, Values } from "../../backends/backend.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { type Case, checkDerivatives, disagreement, program, read } from "../check.ts";
import { programs, type Recipe, recipes } from "../random_programs.ts";
import { unfused } from "../unfused.ts";
import { type Node, node, reachable } from "../../dsl/node.ts";
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
} from "../device.ts";
import { print } from "../../dsl/print.ts";

const seed = Number(Deno.env.get("FORMANT_SEED") ?? 20260);
const COUNT = Number(Deno.env.get("FORMANT_PROGRAMS") ?? 300), GROUP = 25;
/** Disagreement, of the largest value of an output, in f32 and where values are rounded to f16. */
const TOLERANCE = 1e-4, ROUNDED = 5e-3;

/** The programs of a recipe as one program, with gradients for every fifth. */
const whole = (recipe: Recipe, k: number): { program: Program; values: Values } | undefined => {
  const cases = programs(recipe);
  if (cases.length === 0) return undefined;
  const made = cases.map((of) => program(k % 5 === 0 ? of : { ...of, wrt: {} }));
  const outputs = made.flatMap((one, i) =>
    Object.entries(one.program.outputs).map(([name, of]) => [`${name} ${i}`, of] as const)
  );
  const values = Object.assign({}, ...made.map((one) => one.values));
  const all: Program = { outputs: Object.fromEntries(outputs) };
  return { program: all, values: read(all, values) };
};

/** The same program with its outputs laid out the other way round. */
const turned = ({ outputs }: Program): Program => ({
  outputs: Object.fromEntries(
    Object.entries(outputs).map((
      [name, { of, order }],
    ) => [name, { of, order: order.toReversed() }]),
  ),
});

/** What the backend says wrong about each of some recipes. */
const complaints = async (
  backend: Backend,
  list: readonly { readonly recipe: Recipe; readonly k: number }[],
  tolerance: number,
): Promise<readonly (string | undefined)[]> => {
  const made = list.map(({ recipe, k }) => whole(recipe, k));
  const open = Object.fromEntries(
    made.flatMap((one, k) =>
      one === undefined ? [] : [[`${k}`, k % 2 === 0 ? one.program : turned(one.program)]]
    ),
  );
  const [expected, found] = await Promise.all(
    [referenceBackend(), backend].map((one) => one.open(open)),
  );
  try {
    const said: (string | undefined)[] = [];
    for (const [k, one] of made.entries()) {
      if (one === undefined) {
        said.push(undefined);
        continue;
      }
      const [want, got] = [
        await expected.run(`${k}`, one.values),
        await found.run(`${k}`, one.values),
      ];
      said.push(disagreement(want, got, tolerance, 1));
    }
    return said;
  } finally {
    expected.close();
    found.close();
  }
};

/** What is different about each of some recipes when no operation is fused with another. */
const complaintsUnfused = async (
  backend: Backend,
  list: readonly { readonly recipe: Recipe; readonly k: number }[],
): Promise<readonly (string | undefined)[]> => {
  const made = list.map(({ recipe, k }) => {
    const one = whole(recipe, k);
    return one === undefined ? undefined : { ...one, apart: unfused(`${k}`, one.program) };
  });
  const open = made.map((one, k) =>
    one === undefined ? {} : { [`${k}`]: one.program, ...one.apart.programs }
  );
  const machine = await backend.open(Object.assign({}, ...open));
  try {
    const said: (string | undefined)[] = [];
    for (const [k, one] of made.entries()) {
      if (one === undefined) {
        said.push(undefined);
        continue;
      }
      const fused = await machine.run(`${k}`, one.values);
      said.push(disagreement(await one.apart.run(machine, one.values), fused, TOLERANCE, 1));
    }
    return said;
  } finally {
    machine.close();
  }
};

const show = (recipe: Recipe): string =>
  programs(recipe).map((of: Case) => print(of.of)).join("\n\n");

/** Whether a gradient is stopped, other than at the maximum within a softmax, where it is zero. */
const stops = (root: Node): boolean =>
  reachable([root]).some((of) => of.op === "stop" && !of.path.includes("softmax"));

Deno.test("derivatives of random programs agree with central differences", () => {
  let checked = 0;
  fc.assert(
    fc.property(recipes, (recipe) => {
      for (const of of programs(recipe)) {
        if (Object.keys(of.wrt).length === 0 || node(of.of).dtype !== "f32") continue;
        // Differences do not stop where the gradient is told to.
        if (stops(node(of.of))) continue;
        checkDerivatives(show(recipe), of);
        checked++;
      }
    }),
    { seed, numRuns: 200 },
  );
  ok(checked > 100, `only ${checked} programs have a gradient`);
});

type Compare = typeof complaintsUnfused;
const toReference = (tolerance: number): Compare => (backend, list) =>
  complaints(backend, list, tolerance);
const exact = toReference(TOLERANCE);

/** Devices, the share of the programs that each gets, and what they are compared with. */
const devices: readonly (readonly [string, Backend | undefined, number, Compare])[] = [
  ["WebGPU agree with the reference", webgpu, 1, exact],
  ["WebGPU with a GPU's kernels agree with the reference", webgpuAsGpu, 3, exact],
  ["WebGPU in loops agree with the reference", webgpuInLoops, 3, exact],
  ["WebGPU in parts agree with the reference", webgpuInParts, 3, exact],
  ["WebGPU in parts with a GPU's kernels agree with the reference", webgpuInPartsAsGpu, 5, exact],
  ["WebGPU by matrices agree with the reference", webgpuByMatrices, 5, exact],
  ["WebGPU in f16 agree with the reference", webgpuHalves, 3, toReference(ROUNDED)],
  ["WebGPU agree with themselves unfused", webgpu, 10, complaintsUnfused],
  ["WebAssembly agree with the reference", wasm, 1, exact],
  ["WebAssembly with plain SIMD agree with the reference", wasmPlain, 3, exact],
  ["WebAssembly with vectors in pairs agree with the reference", wasmWide, 3, exact],
  ["WebAssembly in loops agree with the reference", wasmInLoops, 3, exact],
  ["WebAssembly agree with themselves unfused", wasm, 3, complaintsUnfused],
];

for (const [name, backend, share, compare] of devices) {
  const count = Math.ceil(COUNT / share);
  Deno.test({
    name: `${count} random programs on ${name}`,
    ignore: backend === undefined,
    fn: async () => {
      const all = fc.sample(recipes, { seed, numRuns: count }).map((recipe, k) => ({ recipe, k }));
      for (let start = 0; start < count; start += GROUP) {
        const group = all.slice(start, start + GROUP);
        let said: readonly (string | undefined)[];
        try {
          said = await compare(backend!, group);
        } catch {
          // One of the group does not open; which one, the runs below find out.
          said = group.map(() => "the group does not open");
        }
        for (const [i, { k }] of group.entries()) {
          if (said[i] === undefined) continue;
          const property = fc.asyncProperty(recipes, async (recipe) => {
            const [alone] = await compare(backend!, [{ recipe, k }]);
            ok(alone === undefined, `${alone}\n${show(recipe)}`);
          });
          await fc.assert(property, { seed, path: `${k}`, numRuns: 1, endOnFailure: false });
        }
        const first = said.findIndex((one) => one !== undefined && !one.startsWith("the group"));
        ok(
          first < 0,
          `only in its group, program ${start + first} of seed ${seed}: ${said[first]}`,
        );
      }
    },
  });
}
