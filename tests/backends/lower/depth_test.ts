// Long programs: unrolled loops of many thousand operations are cut into kernels, nothing on the way
// goes into them by recursion, and the time of compiling grows with their length, not its square.
import {
  assert,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import type { Backend, Program } from "../../../backends/backend.ts";
import { cutsOf, mostDepth, mostOperations } from "../../../backends/lower/fusion/cuts.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { compile } from "../../../backends/wasm/compile.ts";
import { compile as compileForGpu } from "../../../backends/webgpu/compile.ts";
import type { AnyTensor, Axes } from "../../../dsl/axes.ts";
import { grad } from "../../../dsl/grad.ts";
import { nodeOf, tensorOf, topologicalOrder } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { print } from "../../../dsl/print.ts";
import { ascend, descend } from "../../../dsl/walk.ts";
import { wasm, webgpu } from "../../support/device.ts";
import { gpuLimits } from "../../support/tiny_steps.ts";

const x = d.input("x", { n: 4 });
const values = { x: Float32Array.of(1, 2, 3, 4) };
const total = 10;

/** y <- 0.999 y + x from y = x on: two operations a step. */
const chain = (operations: number): AnyTensor => {
  let y = x;
  for (let k = 0; k < operations / 2; k++) y = d.add(d.mul(y, d.constant(0.999)), x);
  return d.sum(y, "n");
};
/** 1 + 0.999 + 0.999² and so on, one more term than steps. */
const powers = (operations: number): number => (1 - 0.999 ** (operations / 2 + 1)) / 0.001;

const programOf = (of: AnyTensor): Program => ({
  outputs: { y: { of, order: Object.keys(nodeOf(of).axes) } },
});
const valueOn = async (backend: Backend, of: AnyTensor): Promise<Float32Array> => {
  const machine = await backend.open({ p: programOf(of) });
  try {
    return (await machine.run("p", values)).y as Float32Array;
  } finally {
    machine.close();
  }
};
const near = (got: ArrayLike<number>, wanted: number) => {
  for (const one of Array.from(got)) {
    assertLessOrEqual(
      Math.abs(one - wanted),
      1e-4 * Math.max(1, Math.abs(wanted)),
      `${one} for ${wanted}`,
    );
  }
};
const engine = { relaxed: true, wide: false };

Deno.test("a chain of 100,000 operations has its value and its gradient", async () => {
  const deep = chain(100_000), gradient = grad(deep, { x }).x;
  for (const backend of [referenceBackend(), wasm]) {
    near(await valueOn(backend, deep), total * powers(100_000));
    near(await valueOn(backend, gradient), powers(100_000));
  }
});

Deno.test("a chain of 100,000 operations is printed, and takes ten times as much text as 10,000", () => {
  const long = print(chain(100_000)), short = print(chain(10_000));
  assertLess(long.length, 12 * short.length, `${long.length} characters for ${short.length}`);
});

Deno.test({
  name: "a chain of 10,000 operations has its value on WebGPU",
  ignore: webgpu === undefined,
  fn: async () => near(await valueOn(webgpu!, chain(10_000)), total * powers(10_000)),
});

Deno.test("ten times as many operations are ten times as many kernels, in time that grows with them", () => {
  const measured = (operations: number) => {
    const { steps, took } = compile(programOf(chain(operations)), { engine });
    return { ms: took.lowering + took.printing, kernels: steps.length };
  };
  measured(10_000);
  const short = [measured(10_000), measured(10_000), measured(10_000)], long = measured(100_000);
  for (const { kernels } of short) assertStrictEquals(kernels, Math.ceil(10_000 / mostDepth));
  assertStrictEquals(long.kernels, Math.ceil(100_000 / mostDepth));
  // A pass that looks at all operations for each of them takes a hundred times as long. How near to ten
  // it is depends on what else the machine does: bench/depth.ts measures that.
  const ratio = long.ms / Math.min(...short.map(({ ms }) => ms));
  assertLess(ratio, 50, `${ratio} times as long`);
});

/** What else may be long, with 3,000 links or so, as scalars. */
const shapes: Readonly<Record<string, () => AnyTensor>> = {
  "a sum of many terms": () => {
    let y: AnyTensor = d.constant(0);
    for (let k = 0; k < 3000; k++) y = d.add(y, d.sin(d.mul(x, d.constant(k * 1e-5))));
    return y;
  },
  "a balanced sum of many terms": () => {
    let list: AnyTensor[] = Array.from(
      { length: 2048 },
      (_, k) => d.sin(d.mul(x, d.constant(k * 1e-5))),
    );
    while (list.length > 1) {
      list = Array.from({ length: list.length / 2 }, (_, k) => d.add(list[2 * k], list[2 * k + 1]));
    }
    return list[0];
  },
  "values that are used twice": () => {
    let y: AnyTensor = x;
    for (let k = 0; k < 1000; k++) y = d.add(y, d.mul(d.sin(y), d.constant(0.001)));
    return y;
  },
  "squares of squares": () => {
    let y: AnyTensor = d.mul(x, d.constant(0));
    for (let k = 0; k < 3000; k++) y = d.mul(y, y);
    return y;
  },
  "a product of many factors": () => {
    let y: AnyTensor = x;
    for (let k = 0; k < 3000; k++) y = d.mul(y, d.constant(0.9999 + (k % 7) * 1e-6));
    return y;
  },
  "choices": () => {
    let y: AnyTensor = x;
    for (let k = 0; k < 1000; k++) {
      y = d.select(d.less(y, d.constant(3)), d.add(y, d.constant(0.001)), y);
    }
    return y;
  },
  "renamings": () => {
    let y: AnyTensor = x;
    for (let k = 0; k < 1500; k++) {
      const [from, to] = k % 2 === 0 ? ["n", "k"] : ["k", "n"];
      y = d.rename(d.add(y, d.constant(1)) as AnyTensor, from as never, to) as AnyTensor;
    }
    return y;
  },
  "movements": () => {
    let y: AnyTensor = x;
    for (let k = 0; k < 600; k++) y = d.slice(d.flip(d.pad(y, "n", 1, 0), "n"), "n", 1, 4);
    return y;
  },
  "merged and split axes": () => {
    let y: AnyTensor = d.split(x, "n", { a: 2, b: 2 });
    for (let k = 0; k < 300; k++) {
      y = d.split(d.merge(y, ["b", "a"], "n"), "n", { a: 2, b: 2 });
    }
    return d.merge(y, ["a", "b"], "n");
  },
  "sums": () => {
    let y: AnyTensor = x;
    for (let k = 0; k < 500; k++) {
      y = d.add(y, d.mul(d.expand(d.sum(y, "n"), { n: 4 }), d.constant(-0.01)));
    }
    return y;
  },
  "scans": () => {
    let y: AnyTensor = x;
    for (let k = 0; k < 60; k++) {
      const h = tensorOf<Axes>(nodeOf(y));
      y = d.recurrence("n", d.mul(d.sin(h), d.constant(0.1)), d.mul(h, d.constant(0.9)));
    }
    return y;
  },
};

for (const [name, build] of Object.entries(shapes)) {
  Deno.test(`long programs of ${name} agree with the reference`, async () => {
    const of = build();
    const [wanted, got] = [await valueOn(referenceBackend(), of), await valueOn(wasm, of)];
    wanted.forEach((one, k) => near([got[k]], one));
  });
}

Deno.test("a look-up at any depth of an expression is printed for both targets", () => {
  const at = d.modulo(d.input("at", {}, "u32"), d.constant(3, "u32"));
  const place = { name: "a CPU", limits: gpuLimits, target: { onCpu: true } };
  // Printers begin again below 512 levels.
  for (let links = 505; links < 512; links++) {
    let y: AnyTensor = d.gather(d.input("x", { n: 4, row: 3 }), "row", at);
    for (let k = 0; k < links; k++) y = d.neg(d.add(y, d.constant(1)));
    assertStrictEquals(compile(programOf(y), { engine }).steps.length, 1);
    assertStrictEquals(compileForGpu(programOf(y), place).steps.length, 1);
  }
});

/** A scan of which each step takes so many operations. */
const longStep = (operations: number): AnyTensor =>
  d.scan({ over: "n", from: { h: d.constant(0) }, each: { x } }, ({ h }, { x }) => {
    let y: AnyTensor = h;
    for (let k = 0; k < operations / 2; k++) y = d.add(d.mul(y, d.constant(0.999)), x);
    return { next: { h: tensorOf<Record<never, never>>(nodeOf(y)) }, out: { y } };
  }).out.y;

Deno.test("a step of a scan may be long, and is refused in words where it is too long", async () => {
  const long = longStep(1200);
  const [wanted, got] = [await valueOn(referenceBackend(), long), await valueOn(wasm, long)];
  wanted.forEach((one, k) => near([got[k]], one));
  assertMatch(
    (await assertRejects(() => valueOn(wasm, longStep(4000)), Error)).message,
    /a step of the scan over 'n' has 4000 operations that wait for each other.*at most 3000/,
  );
});

Deno.test("every fifth value of a chain is an output", async () => {
  const outputs: Record<string, Program["outputs"][string]> = {};
  let y = x;
  for (let k = 1; k <= 5000; k++) {
    y = d.add(d.mul(y, d.constant(0.999)), x);
    if (k % 5 === 0) outputs[`y${k}`] = { of: y, order: ["n"] };
  }
  const machine = await wasm.open({ p: { outputs } });
  try {
    const found = await machine.run("p", values);
    for (const k of [5, 2500, 5000]) near([found[`y${k}`][0]], powers(2 * k));
  } finally {
    machine.close();
  }
});

Deno.test("no expression between cuts is deeper or larger than its limits", () => {
  const order = topologicalOrder([nodeOf(chain(20_000))]);
  const users = new Map<(typeof order)[number], number>();
  for (const of of order) {
    for (const arg of new Set(of.args)) users.set(arg, (users.get(arg) ?? 0) + 1);
  }
  const cuts = cutsOf(order, users);
  const depths = new Map<(typeof order)[number], number>();
  for (const of of order) {
    const below = of.args.map((arg) => cuts.has(arg) ? 0 : depths.get(arg)!);
    depths.set(of, of.args.length === 0 ? 0 : 1 + Math.max(...below));
  }
  assertStrictEquals(Math.max(...depths.values()), mostDepth);
  assert(mostOperations > mostDepth && cuts.size >= 20_000 / mostDepth - 1);
});

Deno.test("walks visit in the order of recursion, and each node once", () => {
  const below: Readonly<Record<string, readonly string[]>> = {
    a: ["b", "c"],
    b: ["d"],
    c: ["d", "b"],
    d: [],
  };
  const seen: string[] = [];
  descend(["a"], (of) => {
    seen.push(of);
    return below[of];
  });
  assertStrictEquals(seen.join(""), "abdc");
  const done = new Map<string, number>();
  assertStrictEquals(
    ascend(
      "a",
      done,
      (of) => below[of],
      (of) => 1 + below[of].reduce((sum, one) => sum + done.get(one)!, 0),
    ),
    7,
  );
  assertStrictEquals([...done.keys()].join(""), "dbca");
});
