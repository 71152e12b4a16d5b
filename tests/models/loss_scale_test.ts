// Loss scaling: the scale changes no digit of a step, a step that overflows changes nothing else, and
// gradients that f16 alone would lose are kept.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import type { Backend, Machine, Program, Values } from "../../backends/backend.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { withFreshTable } from "../../dsl/node.ts";
import * as d from "../../mod.ts";
import { firstScale, lossScale, lossScaling, rescaled } from "../../models/loss_scale.ts";
import { average, moments, optimise, type Scaling } from "../../models/optimiser.ts";
import { zeros } from "../../models/initialisers.ts";
import { numbers } from "../support/check.ts";
import { wasm, webgpuHalves } from "../support/device.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

const numbersOf = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 };

/** A regression through two layers, the gradient of which may be made as small or large as wanted. */
const step = (optimiser: Scaling): Program => {
  const x = d.input("x", { row: 24, inner: 40 }), y = d.input("y", { row: 24 });
  const w = d.param("w", { inner: 40, hidden: 48 }, zeros), v = d.param("v", { hidden: 48 }, zeros);
  const h = d.tanh(d.contract(x, w, "inner"));
  const error = d.sub(d.contract(h, v, "hidden"), y);
  const size = d.input("size", {});
  const loss = d.mul(d.mean(d.square(error), ["row"]), size);
  const scaled = optimiser.lossScaling ? d.mul(loss, lossScale()) : loss;
  const gradients = d.grad(scaled, { w, v });
  const { updates } = optimise(optimiser, d.parameters([loss]), gradients, {
    rate: d.input("rate", {}),
    step: d.constant(1),
  });
  return { outputs: { loss: { of: loss, order: [] } }, updates };
};

const shape = { w: 1920, v: 48 };
const start = (): Values => ({
  w: numbers(1, shape.w, -0.2, 0.2),
  v: numbers(2, shape.v),
  ...Object.fromEntries(
    Object.entries(shape).flatMap(([name, size]) =>
      [...Object.values(moments(name)), average(name)].map((of) => [of, new Float32Array(size)])
    ),
  ),
  [lossScaling.scale]: Float32Array.of(firstScale),
  [lossScaling.steps]: Float32Array.of(0),
});
const inputs = (size: number): Values => ({
  x: numbers(3, 24 * 40),
  y: numbers(4, 24),
  size: Float32Array.of(size),
  rate: Float32Array.of(0.01),
});
const names = Object.keys(start()).filter((name) => !name.startsWith("lossScale"));

// Which values are rounded follows from the order in which the program was built, and that must not
// follow from the tests before.
const built = (optimiser: Scaling): Program => withFreshTable(() => step(optimiser));

const after = async (
  backend: Backend,
  optimiser: Scaling,
  sizes: readonly number[],
): Promise<{ machine: Machine; values: Values }> => {
  const machine = await backend.open({ step: built(optimiser) });
  machine.write(start());
  for (const size of sizes) await machine.run("step", inputs(size));
  const used = optimiser.emaDecay === undefined
    ? names.filter((name) => !name.startsWith("ema."))
    : names;
  return { machine, values: await machine.read(used) };
};

Deno.test("a scaled loss makes the step of one that is not, with clipping and averages too", async () => {
  for (const more of [{}, { clipNorm: 0.01 }, { clipNorm: 0.01, emaDecay: 0.9 }]) {
    const plain = await after(wasm, { ...numbersOf, ...more }, [1, 1]);
    const scaled = await after(wasm, { ...numbersOf, ...more, lossScaling: true }, [1, 1]);
    for (const [name, values] of Object.entries(plain.values)) {
      const worst = Math.max(...values.map((x, k) => Math.abs(x - scaled.values[name][k])));
      assertLessOrEqual(worst, 1e-7, `${name} differs by ${worst} with ${JSON.stringify(more)}`);
    }
  }
});

Deno.test("a step that overflows changes nothing and halves the scale; the next one is made", async () => {
  for (const backend of [referenceBackend(), wasm, ...webgpuHalves ? [webgpuHalves] : []]) {
    const optimiser = { ...numbersOf, emaDecay: 0.9, lossScaling: true };
    // In float64 nothing overflows but an infinite loss.
    const { machine, values } = await after(backend, optimiser, [Infinity]);
    const before = start();
    for (const name of names) {
      assertSameNumbers(values[name], before[name], `${backend.name} ${name}`);
    }
    const state = await machine.read(Object.values(lossScaling));
    assertStrictEquals(state[lossScaling.scale][0], firstScale / 2, backend.name);
    await machine.run("step", inputs(1));
    const { w } = await machine.read(["w"]);
    assert(w.some((x, k) => x !== before.w[k]) && w.every(Number.isFinite), backend.name);
    assertStrictEquals((await machine.read([lossScaling.steps]))[lossScaling.steps][0], 1);
    machine.close();
  }
});

Deno.test({
  name: "gradients that are too small for f16 are kept by the scale",
  ignore: webgpuHalves === undefined,
  fn: async () => {
    // Half precision ends at 6e-8.
    const tiny = [2 ** -26];
    const off = async (optimiser: Scaling, of: string) => {
      const wanted = await after(referenceBackend(), optimiser, tiny);
      const { values } = await after(webgpuHalves!, optimiser, tiny);
      const want = wanted.values[of], got = values[of];
      const largest = Math.max(...want.map(Math.abs));
      return Math.max(...want.map((x, k) => Math.abs(x - got[k]))) / largest;
    };
    const { mean, square } = moments("w");
    const plain = await off(numbersOf, mean);
    for (const more of [{}, { clipNorm: 1 }, { clipNorm: 1, emaDecay: 0.9 }]) {
      const optimiser = { ...numbersOf, ...more, lossScaling: true };
      const scaled = await off(optimiser, mean);
      assertLess(scaled, 5e-3, `${scaled} with the scale`);
      assertGreater(plain, 10 * scaled, `${plain} without, ${scaled} with`);
      // Squares of what f16 just holds are far below it.
      assertLess(await off(optimiser, square), 1e-2, `with ${JSON.stringify(more)}`);
    }
  },
});

Deno.test("the scale is doubled after 2000 sound steps, and stays within its bounds", async () => {
  const sound = d.less(d.input("bad", {}), d.constant(0.5));
  const machine = await wasm.open({ step: { outputs: {}, updates: rescaled(sound) } });
  const run = async (scale: number, steps: number, bad: 0 | 1) => {
    machine.write({
      [lossScaling.scale]: Float32Array.of(scale),
      [lossScaling.steps]: Float32Array.of(steps),
    });
    await machine.run("step", { bad: Float32Array.of(bad) });
    const read = await machine.read(Object.values(lossScaling));
    return [read[lossScaling.scale][0], read[lossScaling.steps][0]];
  };
  assertEquals(await run(8, 1998, 0), [8, 1999]);
  assertEquals(await run(8, 1999, 0), [16, 0]);
  assertEquals(await run(8, 7, 1), [4, 0]);
  assertEquals(await run(1, 7, 1), [1, 0]);
  assertEquals(await run(2 ** 24, 1999, 0), [2 ** 24, 0]);
  machine.close();
});
