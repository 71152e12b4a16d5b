// A block that is run in both directions has one set of parameters, and gradients of both.
import { assert, assertEquals, assertLess, assertMatch, assertThrows } from "@std/assert";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { initialValues } from "../../experiments/encoders/initial_values.ts";
import * as d from "../../mod.ts";
import type { Encoder } from "../../models/encoder.ts";
import { corrected } from "../../models/fidelity.ts";
import { filled, ones, zeros } from "../../models/initialisers.ts";
import { publishedEncoder } from "../../models/sizes.ts";
import { evaluation } from "../../models/training.ts";
import { numbers } from "../support/check.ts";

for (const family of ["mamba", "xlstm"] as const) {
  Deno.test(`${family}, bidirectional: gradients agree with central differences`, async () => {
    const encoder = {
      ...publishedEncoder(family, "tiny"),
      dim: 8,
      depth: 1,
      order: "bidirectional",
      patch: { time: 4, frequency: 16 },
      ...(family === "mamba" ? { state: 4 } : {}),
    } as Encoder;
    const { perClip } = evaluation({
      encoder,
      objective: { style: "ssast" },
      masking: { kind: "unstructured", ratio: 0.5 },
      fidelity: corrected,
      batch: 1,
      frames: 16,
      mels: 80,
      seed: 0,
    });
    const loss = d.sum(perClip, ["batch"]);
    const all = d.parameters([loss]), trained = all.filter(({ trainable }) => trainable);
    const gradients = d.grad(loss, Object.fromEntries(trained.map((of) => [of.name, of.tensor])));
    const machine = await referenceBackend().open({
      slope: {
        outputs: Object.fromEntries(
          trained.map((
            { name, axes },
          ) => [name, { of: gradients[name], order: Object.keys(axes) }]),
        ),
      },
      loss: { outputs: { loss: { of: loss, order: [] } } },
    });
    const values = initialValues(all, 3);
    machine.write(values);
    const given = { spectrogram: numbers(1, 16 * 80), part: Uint32Array.of(0) };
    const slopes = await machine.run("slope", given);
    const h = 1e-3;
    for (const { name } of trained.filter(({ name }) => name.startsWith("blocks."))) {
      const at = Math.min(3, values[name].length - 1);
      const moved = async (by: number): Promise<number> => {
        const changed = Float32Array.from(values[name]);
        changed[at] += by;
        machine.write({ [name]: changed });
        const { loss } = await machine.run("loss", given);
        machine.write({ [name]: values[name] });
        return loss[0];
      };
      const wanted = (await moved(h) - await moved(-h)) / (2 * h);
      const off = Math.abs(slopes[name][at] - wanted);
      assertLess(
        off,
        1e-3 + 0.03 * Math.abs(wanted),
        `${name}: ${slopes[name][at]}, not ${wanted}`,
      );
    }
    machine.close();
  });
}

Deno.test("a gradient for one of two leaves is refused; initialisers of the same numbers are one", () => {
  assertEquals(filled(0) === zeros && filled(1) === ones && filled(2) !== ones, true);
  const of = (value: number) => d.param("w", { channel: 3 }, filled(value));
  const w = of(0.5),
    slope = (other: typeof w) => d.grad(d.sum(d.mul(w, other), ["channel"]), { w });
  assert(slope(of(0.5)).w !== undefined);
  assertMatch(
    String(assertThrows(() => slope(of(0.25)), Error)),
    /^AxisError: the parameter 'w' is made in two places with different initialisers, and would/,
  );
});
