// Training steps on the smallest device that is accepted: no kernel may bind more buffers than it
// allows, nor more of the arena at once; and what is too large for a device is refused with the numbers.
import { assertGreater, assertLessOrEqual, assertThrows } from "@std/assert";
import type { Program } from "../../../backends/backend.ts";
import { byteLength } from "../../../backends/lower/storage/plan_memory.ts";
import { sharedNames } from "../../../backends/webgpu/wgsl/bindings.ts";
import { compile } from "../../../backends/webgpu/compile.ts";
import { NEEDED_LIMITS } from "../../../backends/webgpu/discovery/adapter.ts";
import { input, mul } from "../../../dsl/ops.ts";
import { corrected } from "../../../models/fidelity.ts";
import { type FamilyEncoder, type FamilyName, publishedEncoder } from "../../../models/sizes.ts";
import { type Style, trainingStep } from "../../../models/training.ts";
import { tinyStep } from "../../support/tiny_steps.ts";

const least = {
  ...NEEDED_LIMITS,
  maxStorageBufferBindingSize: 1 << 27,
  minStorageBufferOffsetAlignment: 256,
} as unknown as GPUSupportedLimits;

const place = (limits: GPUSupportedLimits, onCpu: boolean) => ({
  name: "the least device",
  limits,
  target: { onCpu },
});

const small = (family: FamilyName): FamilyEncoder => {
  const of = publishedEncoder(family, "tiny");
  return of.family === "xlstm"
    ? { ...of, dim: 64, depth: 2, slstm: [1] }
    : { ...of, dim: 60, depth: 2 };
};

const step = (family: FamilyName, objective: Style): Program => {
  const { loss, updates } = trainingStep({
    encoder: small(family),
    objective,
    masking: { kind: "unstructured", ratio: 0.5 },
    fidelity: corrected,
    batch: 4,
    frames: 64,
    mels: 32,
    seed: 0,
  }, { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05 });
  return { outputs: { loss: { of: loss, order: [] } }, updates };
};

for (const family of ["transformer", "mamba", "xlstm"] as const) {
  Deno.test(`a training step of ${family} binds no more than the least device does`, () => {
    const program = step(family, { style: "ssast" });
    for (const onCpu of [true, false]) {
      for (const { code: { wgsl } } of compile(program, place(least, onCpu)).steps) {
        const bound = wgsl.match(/var<storage/g)!.length;
        assertLessOrEqual(
          bound,
          least.maxStorageBuffersPerShaderStage,
          `${bound} buffers are bound in\n${wgsl}`,
        );
      }
    }
  });
}

for (const family of ["transformer", "mamba", "xlstm"] as const) {
  Deno.test(`a training step of ${family}-tiny binds no more at once than the least device does`, () => {
    const limits = { ...least, maxBufferSize: 2 ** 31 };
    const program = tinyStep(family, "all", 12);
    for (const onCpu of [true, false]) {
      const { steps, offsets, arenaBytes } = compile(program, {
        ...place(limits, onCpu),
        oneForParams: true,
      });
      assertGreater(
        arenaBytes,
        2 * limits.maxStorageBufferBindingSize,
        `the arena has ${arenaBytes} bytes`,
      );
      for (const { code: { packed, wgsl } } of steps) {
        const bound = wgsl.match(/var<storage/g)!.length;
        assertLessOrEqual(
          bound,
          limits.maxStorageBuffersPerShaderStage,
          `${bound} buffers are bound`,
        );
        for (const name of sharedNames(packed).filter((name) => name.startsWith("arena"))) {
          const own = packed.filter((of) => of.name === name).map(({ storage }) => storage);
          const first = Math.min(...own.map((of) => offsets.get(of.id)!));
          const end = Math.max(...own.map((of) => offsets.get(of.id)! + byteLength(of)));
          assertLessOrEqual(
            end - first,
            limits.maxStorageBufferBindingSize,
            `${end - first} bytes in ${name}`,
          );
        }
      }
    }
  });
}

Deno.test("what is too large for a device is refused with the numbers", () => {
  const x = input("x", { time: 1 << 20 });
  const program = { outputs: { y: { of: mul(x, x), order: ["time"] } } };
  const limited = (limits: Readonly<Record<string, number>>) => () =>
    compile(program, place({ ...least, ...limits }, true));
  assertThrows(
    limited({ maxBufferSize: 4e6 }),
    Error,
    "needs 4194304 bytes for intermediate values, but the least device allows buffers of 4000000",
  );
  assertThrows(
    limited({ maxStorageBufferBindingSize: 4e6 }),
    Error,
    "the kernel 'mul' needs a value of time 1048576 = 1048576 elements, which is 4194304 bytes",
  );
  assertThrows(
    limited({ maxStorageBuffersPerShaderStage: 1 }),
    Error,
    "the kernel 'mul' needs 2 buffers, but the least device allows 1 ",
  );
});
