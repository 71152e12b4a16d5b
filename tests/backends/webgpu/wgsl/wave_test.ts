// sin and cos on WebGPU against float64, within the bounds that dsl/primitives.ts states, on whatever
// device there is: what WGSL itself offers is a thousand times farther off on some.
import { assert, assertLessOrEqual } from "@std/assert";
import { cos, input, sin } from "../../../../dsl/ops.ts";
import { scalar } from "../../../../dsl/primitives.ts";
import { numbers } from "../../../support/check.ts";
import { webgpu } from "../../../support/device.ts";

/** sin and cos of some floats on the device. */
const waves = async (xs: Float32Array) => {
  const x = input("x", { n: xs.length });
  const order = ["n"];
  const program = { outputs: { sin: { of: sin(x), order }, cos: { of: cos(x), order } } };
  const machine = await webgpu!.open({ program });
  const { sin: sine, cos: cosine } = await machine.run("program", { x: xs });
  machine.close();
  return { sin: sine, cos: cosine };
};

for (const far of [1, 10, 1000, 1e6, 2 ** 28]) {
  Deno.test({
    name: `sin and cos on WebGPU are within 2e-7 up to ${far}`,
    ignore: webgpu === undefined,
    fn: async () => {
      const xs = numbers(far, 2 ** 18, -far, far);
      for (const [name, found] of Object.entries(await waves(xs))) {
        const { meaning } = scalar[name as "sin" | "cos"];
        let worst = 0, at = 0;
        xs.forEach((x, k) => {
          const off = Math.abs(found[k] - meaning(x, 0, 0));
          if (!(off <= worst)) [worst, at] = [off, x];
        });
        assertLessOrEqual(worst, 2e-7, `${name}(${at}) is off by ${worst}`);
      }
    },
  });
}

Deno.test({
  name: "sin and cos on WebGPU keep the digits of small numbers, and have no value at infinity",
  ignore: webgpu === undefined,
  fn: async () => {
    const small = Float32Array.of(0.7, -0.03, 1e-5, -1e-20, 1e-37, 0);
    const near = await waves(small);
    small.forEach((x, k) => {
      assertLessOrEqual(
        Math.abs(near.sin[k] - Math.sin(x)),
        2e-7 * Math.abs(x),
        `sin(${x}) is ${near.sin[k]}`,
      );
    });
    const far = await waves(Float32Array.of(Infinity, -Infinity, NaN));
    for (const found of Object.values(far)) assert(found.every(Number.isNaN), `${found}`);
  },
});
