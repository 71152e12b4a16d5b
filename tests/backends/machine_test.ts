// The contract of a machine, the same on every device: what is refused when programs are opened and
// when values are given, calls that overlap, the end, and what is left of what failed.
import * as E from "fp-ts/Either.js";
import {
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import type { Backend, Program } from "../../backends/backend.ts";
import { inTurn } from "../../backends/in_turn.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import { assemble } from "../../backends/wasm/assembler/encode.ts";
import { wasmBackend } from "../../backends/wasm/backend.ts";
import { webgpuBackend } from "../../backends/webgpu/backend.ts";
import { openDevice } from "../../backends/webgpu/discovery/discover.ts";
import type { AnyTensor } from "../../dsl/axes.ts";
import * as d from "../../dsl/ops.ts";
import { parameters } from "../../dsl/parameters.ts";
import { devices } from "../support/device.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

const all: readonly (readonly [string, Backend])[] = [
  ["the reference", referenceBackend()],
  ["WebAssembly with two threads", wasmBackend({ threads: 2 })],
  ...devices.flatMap(([name, backend]) => backend === undefined ? [] : [[name, backend] as const]),
];
const onAll = (title: string, body: (backend: Backend) => Promise<void>) => {
  for (const [name, backend] of all) Deno.test(`${title}: ${name}`, () => body(backend));
};

const zero = () => d.constant(0);
const n = 1000;
const x: AnyTensor = d.input("x", { n });
const p: AnyTensor = d.param("p", { n }, zero);
const of = (of: AnyTensor, ...order: string[]) => ({ of, order });
const all1000 = (value: number) => new Float32Array(n).fill(value);
const programs: Readonly<Record<string, Program>> = {
  total: { outputs: { y: of(d.sum(x, "n")) } },
  grow: { outputs: { y: of(d.sum(d.mul(p, x), "n")) }, updates: { p: d.add(p, x) } },
};

onAll("calls that overlap are answered in order", async (backend) => {
  const machine = await backend.open(programs);
  const answers: string[] = [];
  const told = (name: string, answer: Promise<unknown>) =>
    answer.finally(() => answers.push(name)) as Promise<never>;
  machine.write({ p: all1000(1) });
  const mine = all1000(1);
  const calls = [1, 2, 3].map((k) => {
    mine.fill(k);
    return told(`total ${k}`, machine.run("total", { x: mine })).then(({ y }) => y[0]);
  });
  mine.fill(9);
  const grown = told("grow", machine.run("grow", { x: all1000(2) })).then(({ y }) => y[0]);
  const before = told("read", machine.read(["p"]));
  const values = all1000(10);
  machine.write({ p: values });
  values.fill(0);
  const wrong = told("wrong", machine.run("total", { x: new Float32Array(3) }));
  const after = told("read again", machine.read(["p"]));
  const again = told("grow again", machine.run("grow", { x: all1000(1) })).then(({ y }) => y[0]);
  await assertRejects(() => wrong, Error, "has { n: 1000 } = 1000 elements, but got 3");
  assertEquals(await Promise.all(calls), [1000, 2000, 3000]);
  assertStrictEquals(await grown, 2000);
  assertSameNumbers(await before, { p: all1000(3) });
  assertSameNumbers(await after, { p: all1000(10) });
  assertStrictEquals(await again, 10000);
  assertEquals(answers, [
    ...["total 1", "total 2", "total 3", "grow", "read", "wrong", "read again", "grow again"],
  ]);
  machine.close();
});

onAll("after the end each call is a sentence, those that waited too", async (backend) => {
  const machine = await backend.open(programs);
  machine.write({ p: all1000(1) });
  const begun = machine.run("total", { x: all1000(1) });
  const waiting = [
    machine.run("total", { x: all1000(2) }),
    machine.read(["p"]),
    ...(machine.time === undefined ? [] : [machine.time("total", { x: all1000(2) })]),
  ].map(async (call) =>
    assertMatch(String(await assertRejects(() => call, Error)), /^Error: this machine is closed/)
  );
  machine.close();
  machine.close();
  assertStrictEquals((await begun).y[0], 1000);
  await Promise.all(waiting);
  assertMatch(
    String(await assertRejects(() => machine.run("total", { x: all1000(1) }), Error)),
    /^Error: this machine is closed/,
  );
  assertMatch(
    String(await assertRejects(() => machine.read(["p"]), Error)),
    /^Error: this machine is closed/,
  );
  assertMatch(
    String(assertThrows(() => machine.write({ p: all1000(1) }), Error)),
    /^Error: this machine is closed/,
  );
  assertMatch(
    String(assertThrows(() => machine.report("total"), Error)),
    /^Error: this machine is closed/,
  );
  machine.close();
});

Deno.test("after the end of its device each call is a sentence", async () => {
  for (const backend of [referenceBackend(), wasmBackend({ threads: 2 })]) {
    const machine = await backend.open(programs);
    backend.close();
    backend.close();
    assertMatch(
      String(await assertRejects(() => machine.run("total", { x: all1000(1) }), Error)),
      /^Error: the device .* is closed/,
    );
    assertMatch(
      String(assertThrows(() => machine.write({ p: all1000(1) }), Error)),
      /^Error: the device .* is closed/,
    );
    assertMatch(
      String(await assertRejects(() => backend.open(programs), Error)),
      /^Error: the device .* is closed/,
    );
    const { peaks } = backend;
    if (peaks !== undefined) await assertRejects(() => peaks(), Error, "is closed");
    machine.close();
  }
});

onAll("what is given must be what is asked for", async (backend) => {
  const machine = await backend.open(programs);
  const said = async (name: string, given: unknown, sentence: string) => {
    const error = await assertRejects(() => machine.run(name, given as never), Error);
    assertStrictEquals(error.message, sentence);
  };
  await said("grow", { x: all1000(1) }, "the parameter 'p' has not been set");
  assertStrictEquals(
    (await assertRejects(() => machine.read(["p"]), Error)).message,
    "the parameter 'p' has not been set",
  );
  assertStrictEquals(
    (await assertRejects(() => machine.read(["q"]), Error)).message,
    "there is no parameter 'q'",
  );
  await said("other", {}, "there is no program 'other'; there is total, grow");
  assertMatch(
    assertThrows(() => machine.report("other"), Error).message,
    /^there is no program 'other'/,
  );
  const shape = "{ n: 1000 }";
  await said("total", {}, `the input 'x' is missing; it has ${shape} = 1000 elements of f32`);
  await said(
    "total",
    { x: new Uint32Array(n) },
    `the input 'x' holds f32 ${shape} and takes a Float32Array, not a Uint32Array`,
  );
  await said(
    "total",
    { x: [1, 2] },
    `the input 'x' holds f32 ${shape} and takes a Float32Array, not a Array`,
  );
  assertStrictEquals(
    assertThrows(() => machine.write({ p: all1000(1).subarray(1) }), Error).message,
    `the parameter 'p' has ${shape} = 1000 elements, but got 999`,
  );
  // Nobody asked for it.
  machine.write({ p: all1000(1), other: new Uint32Array(1) });
  assertStrictEquals((await machine.run("grow", { x: all1000(1) })).y[0], 1000);
  machine.close();
});

const two = { a: 2, b: 2 };
const a: AnyTensor = d.param("p", { a: 2 }, zero), ab: AnyTensor = d.input("ab", two);
const square: AnyTensor = d.param("p", two, zero);
const turned: AnyTensor = d.param("p", { b: 2, a: 2 }, zero);
const opens: Readonly<Record<string, [Readonly<Record<string, Program>>, string]>> = {
  "an update of more axes": [
    { step: { outputs: { y: of(a, "a") }, updates: { p: d.add(a, ab) } } },
    "the parameter 'p' is f32 { a: 2 }, but the program 'step' updates it with f32 { a: 2, b: 2 }",
  ],
  "an update of fewer axes than another program's parameter": [
    { read: { outputs: { y: of(a, "a") } }, step: { outputs: {}, updates: { p: d.constant(1) } } },
    "the parameter 'p' is f32 { a: 2 }, but the program 'step' updates it with f32 {}",
  ],
  "an update of another size": [
    {
      step: { outputs: {}, updates: { p: d.pad(a, "a", 0, 1) } },
      read: { outputs: { y: of(a, "a") } },
    },
    "the parameter 'p' is f32 { a: 2 }, but the program 'step' updates it with f32 { a: 3 }",
  ],
  "an update of another dtype": [
    { step: { outputs: {}, updates: { p: d.less(a, d.constant(1)) } } },
    "the parameter 'p' is f32 { a: 2 }, but the program 'step' updates it with bool { a: 2 }",
  ],
  "updates of other axes of what nobody reads": [
    {
      one: { outputs: {}, updates: { q: d.input("x", { a: 2 }) } },
      two: { outputs: {}, updates: { q: ab } },
    },
    "the parameter 'q' is f32 { a: 2 }, but the program 'two' updates it with f32 { a: 2, b: 2 }",
  ],
  "an update in another order, by who does not read it": [
    { one: { outputs: { y: of(turned, "a", "b") } }, two: { outputs: {}, updates: { p: ab } } },
    "the parameter 'p' has the order { b: 2, a: 2 }, but the program 'two', which does not read it," +
    " updates it in the order { a: 2, b: 2 }; give both one order",
  ],
  "an output that lacks an axis": [
    { main: { outputs: { y: of(ab, "a") } } },
    "the output 'y' of the program 'main' has { a: 2, b: 2 }, but its order is ['a']; name each of" +
    " its axes once",
  ],
  "an output that names an axis twice": [
    { main: { outputs: { y: of(ab, "a", "a") } } },
    "the output 'y' of the program 'main' has { a: 2, b: 2 }, but its order is ['a', 'a']; name each" +
    " of its axes once",
  ],
  "an input of other axes": [
    {
      main: {
        outputs: {
          y: of(d.add(d.input("x", { time: 3 }), d.input("x", { key: 3 })), "time", "key"),
        },
      },
    },
    "the input 'x' is { time: 3 } in one place and { key: 3 } in another",
  ],
  "an input in another order": [
    { main: { outputs: { y: of(d.add(ab, d.input("ab", { b: 2, a: 2 })), "a", "b") } } },
    "the input 'ab' is { a: 2, b: 2 } in one place and { b: 2, a: 2 } in another",
  ],
  "an input of another size, in an update": [
    { main: { outputs: { y: of(ab, "a", "b") }, updates: { q: d.input("ab", { a: 2, b: 3 }) } } },
    "the input 'ab' is { a: 2, b: 2 } in one place and { a: 2, b: 3 } in another",
  ],
  "an input of another dtype": [
    {
      main: {
        outputs: { y: of(d.input("k", { a: 2 }), "a"), z: of(d.input("k", { a: 2 }, "u32"), "a") },
      },
    },
    "the input 'k' is f32 { a: 2 } in one place and u32 { a: 2 } in another",
  ],
  "a parameter of other axes in another program": [
    { one: { outputs: { y: of(a, "a") } }, two: { outputs: { y: of(square, "a", "b") } } },
    "the parameter 'p' is { a: 2 } in one place and { a: 2, b: 2 } in another",
  ],
  "a parameter in another order in another program": [
    {
      one: { outputs: { y: of(square, "a", "b") } },
      two: { outputs: { y: of(turned, "a", "b") } },
    },
    "the parameter 'p' is { a: 2, b: 2 } in one place and { b: 2, a: 2 } in another",
  ],
  "a parameter that is trained and is not": [
    {
      one: { outputs: { y: of(a, "a") } },
      two: { outputs: { y: of(d.param("p", { a: 2 }, zero, { trainable: false }), "a") } },
    },
    "the parameter 'p' is trained in one place and left alone in another",
  ],
  "a size without a number": [
    { main: { outputs: { y: of(d.input("x", { time: "T" }), "time") } } },
    "axis 'time' of 'input' has the symbolic size T; bind it before the program is opened",
  ],
};
onAll("programs that speak of a name in two ways are refused", async (backend) => {
  for (const [what, [wrong, sentence]] of Object.entries(opens)) {
    const error = await assertRejects(() => backend.open(wrong), Error, "", what);
    assertEquals([error.name, error.message], ["AxisError", sentence], what);
  }
});

Deno.test("the parameters of a model are refused alike", () => {
  assertThrows(
    () => parameters([d.add(square, turned)]),
    Error,
    "{ a: 2, b: 2 } in one place and { b: 2",
  );
});

onAll("what is used outside of its step is refused", async (backend) => {
  let leaked: AnyTensor = x;
  d.scan({ over: "n", from: { h: d.constant(0) }, each: { x } }, ({ h }, { x }) => {
    leaked = d.add(h, x);
    return { next: { h: leaked }, out: {} };
  });
  assertMatch(
    String(
      await assertRejects(() => backend.open({ main: { outputs: { y: of(leaked) } } }), Error),
    ),
    /^AxisError: '(carry|each)\.\w' is known in the step of a scan alone, but is used outside of it/,
  );
});

onAll("names may be shared where nothing is unclear", async (backend) => {
  // An input and a parameter; inputs of two programs; a parameter made twice, and updated in place.
  const name = "x", twin: AnyTensor = d.param(name, { a: 2 }, () => d.constant(1));
  const own: AnyTensor = d.param(name, { a: 2 }, () => d.constant(2));
  const given: AnyTensor = d.input(name, { a: 2 });
  const machine = await backend.open({
    one: {
      outputs: { y: of(d.mul(given, own), "a"), z: of(d.exp(d.sum(twin, "a"))) },
      updates: { x: d.mul(twin, 2), only: d.add(own, twin) },
    },
    two: { outputs: { y: of(d.input(name, two), "b", "a") } },
  });
  machine.write({ x: Float32Array.of(1, 0) });
  const { y, z } = await machine.run("one", { x: Float32Array.of(3, 4) });
  assertSameNumbers(y, Float32Array.of(3, 0));
  assertLess(Math.abs(z[0] - Math.E), 1e-5);
  assertSameNumbers(await machine.read(["x", "only"]), {
    x: Float32Array.of(2, 0),
    only: Float32Array.of(2, 0),
  });
  assertSameNumbers(
    await machine.run("two", { x: Float32Array.of(1, 2, 3, 4) }),
    { y: Float32Array.of(1, 3, 2, 4) },
  );
  machine.close();
});

Deno.test("a program that does not open leaves no buffer on a device", async () => {
  const found = await openDevice("auto")();
  if (E.isLeft(found)) return console.log("skipped: no device");
  const { device } = found.right;
  const alive = new Set<GPUBuffer>();
  let isBroken = true;
  const counting = new Proxy(device, {
    get: (target, key) => {
      if (key === "createBuffer") {
        return (of: GPUBufferDescriptor) => {
          const buffer = device.createBuffer(of), { destroy } = buffer;
          alive.add(buffer);
          buffer.destroy = () => {
            alive.delete(buffer);
            destroy.call(buffer);
          };
          return buffer;
        };
      }
      if (key === "createComputePipelineAsync" && isBroken) {
        return () => Promise.reject(new Error("no such pipeline"));
      }
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const backend = webgpuBackend({ ...found.right, device: counting, another: undefined });
  const before = alive.size;
  await assertRejects(() => backend.open(programs), Error, "no such pipeline");
  assertStrictEquals(alive.size, before);
  isBroken = false;
  const machine = await backend.open(programs);
  assertGreater(alive.size, before);
  assertStrictEquals((await machine.run("total", { x: all1000(2) })).y[0], 2000);
  machine.write({ p: all1000(1) });
  await machine.read(["p"]);
  machine.close();
  assertStrictEquals(alive.size, before);
  backend.close();
});

Deno.test("machines that are closed leave no memory behind, and those that are open work", async () => {
  const backend = wasmBackend({ threads: 2 });
  const large = d.slice(d.input("x", { n: 8e6 }), "n", 0, 8);
  const machine = await backend.open(programs);
  const values = new Float32Array(8e6).fill(1);
  const before = Deno.memoryUsage().rss;
  let most = 0;
  for (let k = 0; k < 40; k++) {
    const one = await backend.open({ head: { outputs: { y: of(large, "n") } } });
    assertSameNumbers((await one.run("head", { x: values })).y, new Float32Array(8).fill(1));
    one.close();
    assertStrictEquals((await machine.run("total", { x: all1000(k) })).y[0], 1000 * k);
    most = Math.max(most, Deno.memoryUsage().rss - before);
  }
  backend.close();
  // Forty of them have 1280 MB.
  assertLess(most, 640e6, `${most} bytes`);
});

/** Does something while all modules that are compiled trap, whichever of their functions is called. */
const trapping = async <R>(action: () => Promise<R>): Promise<R> => {
  const { Memory, compile } = WebAssembly;
  let shape: WebAssembly.MemoryDescriptor = { initial: 0 };
  WebAssembly.Memory = class extends Memory {
    constructor(of: WebAssembly.MemoryDescriptor) {
      super(of);
      shape = of;
    }
  };
  WebAssembly.compile = (async (bytes: Uint8Array<ArrayBuffer>) => {
    const count = WebAssembly.Module.exports(await compile(bytes)).length;
    const traps = Array.from({ length: count }, () => ({ params: 4, locals: [], body: [0x00] }));
    return await compile(assemble(traps, shape.initial, shape.shared ?? false));
  }) as typeof compile;
  try {
    return await action();
  } finally {
    Object.assign(WebAssembly, { Memory, compile });
  }
};

for (const threads of [1, 2]) {
  Deno.test(`a kernel that traps is told with its place, on ${threads} threads`, async () => {
    const backend = wasmBackend({ threads });
    const machine = await trapping(() => backend.open(programs));
    const sound = await backend.open(programs);
    for (let k = 1; k < 4; k++) {
      const runs = [machine, sound].map((one) => one.run("total", { x: all1000(k) }));
      assertMatch(
        String(await assertRejects(() => runs[0], Error)),
        /^Error: the kernel 'reduce' of the program 'total' failed: RuntimeError: unreachable/,
      );
      assertStrictEquals((await runs[1]).y[0], 1000 * k);
    }
    machine.close();
    sound.close();
    backend.close();
  });
}

Deno.test("what a run that failed may have changed is not taken for a value", async () => {
  let isBroken = true;
  const bare = referenceBackend();
  const backend = inTurn({
    ...bare,
    open: async (programs) => {
      const machine = await bare.open(programs);
      return {
        ...machine,
        run: (key, inputs) =>
          isBroken ? Promise.reject(new Error("it trapped")) : machine.run(key, inputs),
      };
    },
  });
  const machine = await backend.open(programs);
  machine.write({ p: all1000(1) });
  await assertRejects(() => machine.run("total", { x: all1000(1) }), Error, "it trapped");
  assertSameNumbers(await machine.read(["p"]), { p: all1000(1) });
  await assertRejects(() => machine.run("grow", { x: all1000(1) }), Error, "it trapped");
  const sentence =
    "the parameter 'p' may be old or new in part, as a run that updates it failed; " +
    "write it again";
  assertStrictEquals((await assertRejects(() => machine.read(["p"]), Error)).message, sentence);
  isBroken = false;
  assertStrictEquals(
    (await assertRejects(() => machine.run("grow", { x: all1000(1) }), Error)).message,
    sentence,
  );
  machine.write({ p: all1000(2) });
  assertStrictEquals((await machine.run("grow", { x: all1000(1) })).y[0], 2000);
});
