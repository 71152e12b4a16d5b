// What is particular to WebAssembly: the same bits whatever the number of threads, functions shared by
// equal kernels, machines beside each other, and refusals in words.
import {
  assert,
  assertGreater,
  assertLessOrEqual,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import type { Machine, Program, Values } from "../../../backends/backend.ts";
import { wasmBackend } from "../../../backends/wasm/backend.ts";
import { type AnyTensor, type Axes, volume } from "../../../dsl/axes.ts";
import { nodeOf, topologicalOrder } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { type Case, numbers, program } from "../../support/check.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const axes: Readonly<Record<string, Axes>> = {
  x: { batch: 3, token: 37, channel: 24 },
  w: { channel: 24, out: 50 },
  a: { out: 50, state: 7 },
  scale: { out: 50 },
};

/** A norm, a product, a recurrence and a sum over all of it, with all gradients. */
const mixed = (): { readonly program: Program; readonly values: Values } => {
  const wrt = Object.fromEntries(
    Object.keys(axes).map((name) => [name, d.input(name, axes[name])]),
  );
  const { x, w, a, scale } = wrt as Readonly<Record<string, AnyTensor>>;
  const centred = d.sub(x, d.mean(x, "channel"));
  const norm = d.div(centred, d.sqrt(d.add(d.mean(d.square(centred), "channel"), 0.1)));
  const u = d.tanh(d.contract(norm, w, "channel"));
  const decay = d.exp(d.neg(d.mul(d.softplus(u), d.exp(a))));
  const h = d.recurrence("token", decay, d.mul(u, a));
  const of = d.softmax(d.mul(d.sum(h, "state"), scale), "out");
  const values = Object.fromEntries(
    Object.keys(axes).map((name, k) => [name, numbers(k, volume(axes[name]))]),
  );
  return program({ of, wrt, values } as Case);
};

const results = async (machine: Machine, values: Values): Promise<Values> => {
  await machine.run("main", values);
  // Once more, so that what a run leaves behind would show.
  return await machine.run("main", values);
};

Deno.test("results are the same bits with one thread, two, three and seven", async () => {
  const { program, values } = mixed();
  const found = [];
  for (const threads of [1, 2, 3, 7]) {
    const backend = wasmBackend({ threads });
    const machine = await backend.open({ main: program });
    found.push(await results(machine, values));
    machine.close();
    backend.close();
  }
  assertGreater(Object.keys(found[0]).length, 3);
  for (const other of found.slice(1)) assertSameNumbers(other, found[0]);
});

Deno.test("without workers or shared memory one thread does all the work, with the same bits", async () => {
  const { program, values } = mixed();
  const found = [];
  const missing = { Worker: undefined, SharedArrayBuffer: undefined, nothing: undefined };
  for (const name of Object.keys(missing) as (keyof typeof missing)[]) {
    const had = Reflect.get(globalThis, name);
    Reflect.deleteProperty(globalThis, name);
    try {
      const backend = wasmBackend({ threads: 2 });
      assert(
        backend.device.endsWith(name === "nothing" ? " 2 threads)" : " 1 thread)"),
        backend.device,
      );
      const machine = await backend.open({ main: program });
      found.push(await results(machine, values));
      machine.close();
      backend.close();
    } finally {
      if (had !== undefined) Reflect.set(globalThis, name, had);
    }
  }
  for (const other of found.slice(1)) assertSameNumbers(other, found[0]);
});

Deno.test("a scan back over a recurrence computes its exponential once", async () => {
  const steps = { token: 40, channel: 4 }, kept = { token: 40, state: 3 };
  const wrt = {
    u: d.input("u", steps),
    delta: d.input("delta", steps),
    A: d.input("A", { channel: 4, state: 3 }),
    B: d.input("B", kept),
    C: d.input("C", kept),
  };
  const { u, delta, A, B, C } = wrt as Readonly<Record<string, AnyTensor>>;
  const h: AnyTensor = d.recurrence("token", d.exp(d.mul(delta, A)), d.mul(d.mul(delta, B), u));
  const of: AnyTensor = d.contract(h, C, "state");
  const machine = await wasmBackend({ threads: 1 }).open({
    main: program({ of, wrt, values: {} } as Case).program,
  });
  const scans = machine.report("main").kernels.filter(({ shapes }) => shapes.includes("scan"));
  // The upper bound of an exponent is in exponentials only.
  const counts = scans.map(({ code }) => code.split("f32x4.pmin").length - 1);
  assert(counts.length >= 2 && Math.max(...counts) === 1, counts.join());
});

Deno.test("many short programs, machines opened and closed between them", async () => {
  const backend = wasmBackend({ threads: 3 });
  const machines: Machine[] = [];
  for (let k = 0; k < 12; k++) {
    const x = d.input("x", { i: 5 + k, j: 33 });
    const of = d.sum(d.mul(x, k), "j");
    machines.push(await backend.open({ main: { outputs: { of: { of, order: ["i"] } } } }));
    if (k % 3 === 2) machines.shift()!.close();
    for (const machine of machines) {
      const [{ writes }] = machine.report("main").kernels;
      const { i } = writes[0];
      const data = new Float32Array(33 * i).fill(1);
      for (let run = 0; run < 20; run++) {
        const { of } = await machine.run("main", { x: data });
        assertSameNumbers(of, new Float32Array(i).fill(33 * (i - 5)));
      }
    }
  }
  machines.forEach((machine) => machine.close());
  backend.close();
});

Deno.test("equal kernels share a function", async () => {
  const w = (name: string) => d.input(name, { channel: 32, out: 32 });
  const layer = (x: AnyTensor, name: string): AnyTensor =>
    d.rename(
      d.tanh(d.contract(x, w(name), "channel")) as never,
      "out" as never,
      "channel" as never,
    );
  const x: AnyTensor = d.input("x", { token: 40, channel: 32 });
  const of = ["a", "b", "c", "d"].reduce(layer, x);
  const machine = await wasmBackend({ threads: 1 }).open({
    main: { outputs: { of: { of, order: ["token", "channel"] } } },
  });
  const { kernels, pipelines } = machine.report("main");
  assertStrictEquals(kernels.length, 4);
  // One function that packs and one that multiplies, for the product in the middle and at the end.
  assertLessOrEqual(pipelines, 4, `${pipelines} functions`);
  assert(kernels.every((kernel) => kernel.flops > 2 * 40 * 32 * 32 - 1));
});

Deno.test("more memory than 32-bit addresses reach is refused with the numbers", async () => {
  const x = d.input("x", { i: 40000, j: 40000 });
  const of = d.sum(x, "j");
  const error = await assertRejects(
    () => wasmBackend({ threads: 1 }).open({ main: { outputs: { of: { of, order: ["i"] } } } }),
    RangeError,
  );
  assertMatch(
    error.message,
    /need 6400\d{6} bytes of memory.*reaches 4294967296.*smaller batch/,
  );
});

Deno.test("what is missing or does not fit is told by its name", async () => {
  const x = d.input("x", { i: 6 });
  const machine = await wasmBackend({ threads: 1 }).open({
    main: { outputs: { of: { of: d.mul(x, 2), order: ["i"] } } },
  });
  assertStrictEquals(topologicalOrder([nodeOf(x)]).length, 1);
  await assertRejects(() => machine.run("main", {}), Error, "the input 'x' is missing");
  await assertRejects(
    () => machine.run("main", { x: new Float32Array(5) }),
    Error,
    "the input 'x' has { i: 6 } = 6 elements, but got 5",
  );
  await assertRejects(
    () => machine.run("main", { x: new Uint32Array(6) }),
    Error,
    "takes a Float32Array",
  );
  await assertRejects(
    () => machine.run("other", {}),
    Error,
    "there is no program 'other'; there is main",
  );
  await assertRejects(() => machine.read(["w"]), Error, "there is no parameter 'w'");
});

Deno.test("the processor's peaks are measured, and each kernel is timed", async () => {
  const backend = wasmBackend({ threads: 2 });
  const { flopsPerSecond, bytesPerSecond } = await backend.peaks!();
  assert(flopsPerSecond > 1e8 && flopsPerSecond < 1e13, `${flopsPerSecond} operations a second`);
  assert(bytesPerSecond > 1e7 && bytesPerSecond < 1e13, `${bytesPerSecond} bytes a second`);
  const { program, values } = mixed();
  const machine = await backend.open({ main: program });
  const times = await machine.time!("main", values);
  const { kernels } = machine.report("main");
  assertStrictEquals(times.length, kernels.length);
  assert(times.every((ms) => ms >= 0));
  machine.close();
  backend.close();
});
