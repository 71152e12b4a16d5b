// What a process made before must not decide what a program becomes: a run that goes on in another
// process, or after other runs of a study, is compiled to the same kernels in the same order.
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { Backend, Program, Values } from "../../../backends/backend.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { compile as compileWasm } from "../../../backends/wasm/compile.ts";
import { showFunc } from "../../../backends/wasm/assembler/disassemble.ts";
import { compile as compileWebgpu } from "../../../backends/webgpu/compile.ts";
import type { AnyTensor, Axes } from "../../../dsl/axes.ts";
import { cloneGraph, nodeOf, tensorOf, withFreshTable } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { devices } from "../../support/device.ts";
import { gpuLimits } from "../../support/tiny_steps.ts";

interface Compiled {
  readonly wgsl: readonly string[];
  readonly wasm: readonly string[];
  readonly built: number;
}

const after = async (before: readonly number[]): Promise<Compiled> => {
  const worker = new Worker(new URL("./history_worker.ts", import.meta.url), { type: "module" });
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage({ before });
    });
  } finally {
    worker.terminate();
  }
};

Deno.test("a program compiles to the same code whatever was built before it", async () => {
  const [first, later] = await Promise.all([after([]), after([2, 3])]);
  assert(first.wgsl.length > 20 && later.built === 2);
  assertEquals(later.wgsl, first.wgsl);
  assertEquals(later.wasm, first.wasm);
});

// A scan that is made anew when it is compiled: what it reads is computed in its step. The order of
// factors and terms there followed from whether leaves of equal steps had been made before. Each test
// has a number of times of its own, so that nobody has made its leaves before it.
const absorbed = (
  times: number,
  factor: number,
): { readonly program: Program; readonly values: Values } => {
  const channels = 32;
  const renamed = (of: AnyTensor, from: string, to: string): AnyTensor =>
    d.rename(of as never, from as never, to as never);
  const x: AnyTensor = d.input("x", { time: times, channel: channels });
  const keys = renamed(x, "time", "key");
  const scores: AnyTensor = d.mul(d.contract(x, keys, "channel"), factor);
  const isLate = d.less(d.iota("key", times), d.add(d.iota("time", times), 2));
  const masked: AnyTensor = d.mul(d.select(isLate, scores, d.constant(-30)), 0.033);
  const mixed: AnyTensor = d.contract(d.softmax(masked, "key"), keys, "key");
  const start: AnyTensor = d.on(scores, d.constant(1));
  const e0: AnyTensor = d.mul(mixed, masked);
  const e1: AnyTensor = d.mul(d.recurrence("time", start, mixed, { reverse: true }), 0.02);
  const from: AnyTensor = d.expand(d.constant(0.5), { time: times, key: times });
  const { final } = d.scan(
    { over: "channel", from: { h: from }, each: { e0, e1 } },
    ({ h }: Record<string, AnyTensor>, { e0, e1 }: Record<string, AnyTensor>) => {
      const turned = renamed(renamed(e1, "key", "other"), "time", "key");
      const mean: AnyTensor = d.mean(d.mul(d.contract(turned, e0, "key"), 0.057), "other");
      return { next: { h: d.add(d.mul(d.sigmoid(e1), h), d.on(h, mean)) }, out: {} };
    },
  ) as { readonly final: Readonly<Record<string, AnyTensor>> };
  return {
    program: { outputs: { h: { of: final.h, order: ["time", "key"] } } },
    values: {
      x: Float32Array.from({ length: times * channels }, (_, k) => Math.sin(12.9 * k + 7.1)),
    },
  };
};

const compilers: Readonly<Record<string, (program: Program) => readonly string[]>> = {
  WebGPU: (program) =>
    compileWebgpu(program, {
      name: "a GPU",
      limits: gpuLimits,
      target: { onCpu: false },
      oneForParams: true,
    }).steps.map(({ code }) => code.wgsl),
  ...Object.fromEntries([false, true].map((wide) => [
    wide ? "WebAssembly in pairs" : "WebAssembly",
    (program: Program) =>
      compileWasm(program, { engine: { relaxed: true, wide } }).steps.flatMap(({ launches }) =>
        launches.map(({ func }) => showFunc(func))
      ),
  ])),
};

for (const [k, [name, code]] of Object.entries(compilers).entries()) {
  Deno.test(`a program whose scans are made anew has the same code each time: ${name}`, () => {
    const { program } = absorbed(31 + k, 0.043);
    const first = code(program);
    assertNotEquals(code(absorbed(31 + k, 0.3).program), first);
    for (let k = 0; k < 3; k++) assertEquals(code(program), first);
    // The same expressions made once more are other objects.
    const { of, order } = program.outputs.h;
    const again = tensorOf<Axes>(withFreshTable(() => cloneGraph([nodeOf(of)]))[0]);
    assertEquals(code({ outputs: { h: { of: again, order } } }), first);
  });
}

const onDevices: readonly (readonly [string, Backend | undefined])[] = [
  ["the reference", referenceBackend()],
  ...devices,
];
for (const [k, [name, backend]] of onDevices.entries()) {
  Deno.test(`a program has the same bits each time that it is opened: ${name}`, async () => {
    if (backend === undefined) return;
    const { program, values } = absorbed(41 + k, 0.043);
    const bits = async (program: Program) => {
      const machine = await backend.open({ program });
      const { h } = await machine.run("program", values);
      machine.close();
      return new Uint32Array(h.buffer);
    };
    const first = await bits(program);
    assertNotEquals(await bits(absorbed(41 + k, 0.3).program), first);
    for (let k = 0; k < 2; k++) assertEquals(await bits(program), first);
  });
}
