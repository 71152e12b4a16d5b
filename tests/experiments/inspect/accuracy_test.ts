// A sample of what `deno task accuracy` measures, on every device, and NumPy's own points where the
// folder beside the project has them.
import { assert, assertGreater, assertStrictEquals } from "@std/assert";
import type { Backend } from "../../../backends/backend.ts";
import { tensorOf } from "../../../dsl/node.ts";
import { apply } from "../../../dsl/primitives.ts";
import type { ScalarName } from "../../../dsl/node.ts";
import { input } from "../../../dsl/structure.ts";
import {
  accuracy,
  accuracyTable,
  ulp,
  wasmPromises,
  webgpuPromises,
} from "../../../experiments/inspect/accuracy.ts";
import { devices, wasm, wasmPlain, wasmWide } from "../../support/device.ts";

/** About 2^18 floats: a prime, so that all low bits occur. */
const stride = 16381;

for (const [device, backend] of devices) {
  const onWebgpu = device === "WebGPU";
  Deno.test({
    name: `every function of one float is as near as promised on ${device}`,
    ignore: backend === undefined,
    fn: async () => {
      const promises = onWebgpu ? webgpuPromises : wasmPromises;
      const rows = await accuracy(backend!, promises, stride, onWebgpu);
      const wrong = rows.filter(({ share }) => !(share <= 1));
      assertStrictEquals(wrong.length === 0 ? "" : accuracyTable(wrong), "");
    },
  });
}

Deno.test("an error is seen: a function that is another has it, where it is largest", async () => {
  const [row] = await accuracy(wasm, { sin: () => 0 }, 2 ** 16 + 1, false, ["sin"]);
  assert(row.worst > 0.5 && row.share === Infinity);
  assertStrictEquals(ulp(1), 2 ** -23);
  assertStrictEquals(ulp(0.99), 2 ** -24);
  assertStrictEquals(ulp(1e-40), 2 ** -149);
});

const folder = new URL("../../../../shared/foreign/umath/", import.meta.url);
const names: readonly ScalarName[] = ["sin", "cos", "exp", "log", "log1p", "tanh"];
const isThere = await Deno.stat(folder).then((of) => of.isDirectory, () => false);
if (!isThere) console.log("NumPy's points were skipped: ../shared/foreign/umath is not there");

/** Bits of floats as whole numbers in the order of floats. */
const ordered = (bits: number): number => bits >= 2 ** 31 ? 2 ** 31 - bits : bits;

const pointsOn = async (backend: Backend, name: ScalarName): Promise<readonly string[]> => {
  const text = await Deno.readTextFile(new URL(`umath-validation-set-${name}.csv`, folder));
  const points = text.split("\n").map((line) => line.trim().split(","))
    .filter(([dtype]) => dtype === "np.float32")
    .map(([, ...numbers]) => numbers.map(Number));
  assertGreater(points.length, 100);
  const x = new Float32Array(Uint32Array.from(points, ([bits]) => bits).buffer);
  const of = tensorOf(apply(name, input("x", { n: x.length }, "f32")));
  const machine = await backend.open({ p: { outputs: { y: { of, order: ["n"] } } } });
  const { y } = await machine.run("p", { x });
  machine.close();
  const found = new Uint32Array((y as Float32Array).slice().buffer);
  const floats = new Float32Array(Uint32Array.from(points, ([, bits]) => bits).buffer);
  return points.flatMap(([, bits, most], k) => {
    if (Number.isNaN(floats[k]) && Number.isNaN(y[k])) return [];
    const off = Math.abs(ordered(bits) - ordered(found[k]));
    return off <= most ? [] : [`${name}(${x[k]}) is ${y[k]}, ${off} ulp from ${floats[k]}`];
  });
};

for (
  const [device, backend] of [
    ["WebAssembly", wasm],
    ["WebAssembly with plain SIMD", wasmPlain],
    ["WebAssembly with vectors in pairs", wasmWide],
  ] as const
) {
  Deno.test({
    name: `NumPy's points hold on ${device}`,
    ignore: !isThere,
    fn: async () => {
      const wrong: string[] = [];
      for (const name of names) wrong.push(...await pointsOn(backend, name));
      assertStrictEquals(wrong.join("\n"), "");
    },
  });
}
