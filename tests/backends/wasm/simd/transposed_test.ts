// Small values that lanes would read one by one are turned first, and nothing else is.
import { assert, assertEquals, assertLess } from "@std/assert";
import type { AnyTensor } from "../../../../dsl/axes.ts";
import * as d from "../../../../dsl/ops.ts";
import type { Program } from "../../../../backends/backend.ts";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import { compile } from "../../../../backends/wasm/compile.ts";
import { wasm, wasmWide } from "../../../support/device.ts";

const order = ["batch", "token", "head", "key"];

/** Decays between tokens, of a number of each head at each token: a row of keys reads all of them. */
const decays = (tokens: number): Program => {
  const gate: AnyTensor = d.input("gate", { token: tokens, batch: 2, head: 4 });
  const q: AnyTensor = d.input("q", { batch: 2, token: tokens, head: 4, key: tokens });
  const other: AnyTensor = d.rename(gate as never, "token" as never, "key" as never);
  const y: AnyTensor = d.mul(q, d.exp(d.sub(gate, other)) as AnyTensor);
  return { outputs: { y: { of: y, order } } };
};

/** Groups of channels with a small matrix each. */
const headwise = (tokens: number): Program => {
  const x: AnyTensor = d.input("x", { token: tokens, group: 24, in: 4 });
  const w: AnyTensor = d.input("w", { group: 24, out: 4, in: 4 });
  const y: AnyTensor = d.contract(x as never, w as never, "in" as never);
  return { outputs: { y: { of: d.silu(y as never), order: ["token", "group", "out"] } } };
};

const shown = (program: Program): readonly (readonly string[])[] =>
  compile(program, { engine: { relaxed: true, wide: true } }).steps.flatMap(({ launches }) =>
    launches.map(({ storages }) =>
      storages.map(({ dims }) => dims.map(({ axis }) => axis).join(" "))
    )
  );

Deno.test("what a kernel reads strided and often is turned, by a kernel before it", () => {
  const [turning, main, ...others] = shown(decays(60));
  assertEquals(turning, ["token batch head", "batch head token"]);
  assert(main.includes("batch head token") && others.length === 0);
  assertEquals(shown(headwise(50))[0], ["group out in", "in group out"]);
});

Deno.test("what is read a few times is not", () => {
  assertEquals(shown(decays(7)).length, 1);
  const x: AnyTensor = d.input("x", { row: 40, column: 30 });
  const turned = { outputs: { y: { of: d.neg(x), order: ["column", "row"] } } };
  assertEquals(shown(turned).length, 1);
});

Deno.test("what is read by steps that no axes make is not turned either", () => {
  const read = (step: number, more: Readonly<Record<string, number>>) => {
    const gate: AnyTensor = d.input("gate", { ...more, channel: 40, head: 3 });
    const q: AnyTensor = d.input("q", { ...more, token: 50, head: 3, key: 20 });
    const every: AnyTensor = d.rename(
      d.slice(gate as never, "channel" as never, 0, 20, step) as never,
      "channel" as never,
      "key" as never,
    );
    const of: AnyTensor = d.mul(q, d.exp(every));
    const order = [...Object.keys(more), "token", "head", "key"];
    return shown({ outputs: { y: { of, order } } });
  };
  // Every second channel: no order of the axes makes them neighbours.
  assertEquals([read(2, {}), read(2, { row: 5 })].map(({ length }) => length), [1, 1]);
  assertEquals(read(1, {})[0], ["channel head", "head channel"]);
  assertEquals(read(1, { row: 5 })[0], ["row channel head", "head row channel"]);
});

Deno.test("a value is turned where each element is read eight times or more", () => {
  const of = (tokens: number) => {
    const gate: AnyTensor = d.input("gate", { key: 20, head: 3 });
    const q: AnyTensor = d.input("q", { token: tokens, head: 3, key: 20 });
    const y: AnyTensor = d.mul(q, d.exp(gate));
    return shown({ outputs: { y: { of: y, order: ["token", "head", "key"] } } }).length;
  };
  assertEquals([of(7), of(8)], [1, 2]);
  // What is summed up is read as often as what is written.
  const summed = (tokens: number) => {
    const gate: AnyTensor = d.input("gate", { key: 20, head: 3 });
    const q: AnyTensor = d.input("q", { token: tokens, head: 3, key: 20 });
    const of: AnyTensor = d.sum(d.mul(q, d.exp(gate)), "key" as never);
    return shown({ outputs: { y: { of, order: ["token", "head"] } } }).length;
  };
  assertEquals([summed(7), summed(8)], [1, 2]);
});

Deno.test("values are the reference's where something is turned", async () => {
  for (
    const [program, inputs] of [
      [decays(60), { gate: 60 * 8, q: 60 * 60 * 8 }],
      [decays(61), { gate: 61 * 8, q: 61 * 61 * 8 }],
      [headwise(50), { x: 50 * 96, w: 24 * 16 }],
    ] as const
  ) {
    const given = Object.fromEntries(
      Object.entries(inputs).map(([name, length]) =>
        [name, Float32Array.from({ length }, (_, k) => Math.sin(k * 0.37))] as const
      ),
    );
    const [wanted, ...found] = await Promise.all(
      [referenceBackend(), wasm, wasmWide].map(async (backend) => {
        const machine = await backend.open({ main: program });
        const { y } = await machine.run("main", given);
        machine.close();
        return y;
      }),
    );
    for (const y of found) {
      y.forEach((one, k) =>
        assertLess(Math.abs(one - wanted[k]), 1e-5, `${k}: ${one}, ${wanted[k]}`)
      );
    }
  }
});
