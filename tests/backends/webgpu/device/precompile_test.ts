// Compiling ahead with more devices: that it happens where it should, and that a program comes out
// right whether the others help or fail.
import { assert, assertGreater, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { webgpuBackend } from "../../../../backends/webgpu/backend.ts";
import type { WebgpuDevice } from "../../../../backends/webgpu/device/device.ts";
import { openDevice } from "../../../../backends/webgpu/discovery/discover.ts";
import type { Tensor } from "../../../../dsl/axes.ts";
import { add, constant, exp, input, mul, param, sum } from "../../../../dsl/ops.ts";
import type { Program } from "../../../../backends/backend.ts";

const none = () => {
  throw new Error("not asked for");
};

/**
 * Kernels that no cache knows, as each has new constants: a long one that takes a while to compile,
 * and `short` short ones, each along its own axis so that none is joined with another.
 */
const fresh = (short: number): Program => {
  const chain = (of: Tensor<{ time: 64 }>): Tensor<{ time: 64 }> => {
    let y = of;
    for (let k = 0; k < 300; k++) y = exp(mul(y, constant(-Math.random())));
    return y;
  };
  const x = input("x", { time: 64 });
  const both = () => mul(chain(x), chain(x)), four = mul(both(), both());
  const outputs = Array.from({ length: short }, (_, k) => {
    const w = param(`w${k}`, { [`axis${k}`]: 100 + k } as { axis: number }, none);
    return [`y${k}`, {
      of: add(mul(w, constant(1 + k)), constant(Math.random())),
      order: [`axis${k}`],
    }];
  });
  return {
    outputs: { ...Object.fromEntries(outputs), y: { of: sum(four, "time"), order: [] } },
  };
};

const computes = async (device: WebgpuDevice, short: number): Promise<void> => {
  const program = fresh(short);
  const machine = await webgpuBackend(device).open({ program });
  machine.write(Object.fromEntries(
    Array.from({ length: short }, (_, k) => [`w${k}`, new Float32Array(100 + k).fill(2)]),
  ));
  const values = await machine.run("program", { x: new Float32Array(64) });
  for (let k = 0; k < short; k++) {
    assertStrictEquals(Math.floor(values[`y${k}`][99]), 2 + 2 * k);
  }
  assert(values.y[0] > 0 && values.y[0] <= 64);
  machine.close();
};

Deno.test("devices that share what they compile are asked to help with many new kernels", async () => {
  const found = await openDevice("auto")();
  if (E.isLeft(found)) return console.log("skipped: there is no device");
  const opened = found.right;
  try {
    if (opened.another === undefined) return console.log("skipped: this driver compiles at once");
    let asked = 0;
    const another = async () => {
      asked += 1;
      return await opened.another!();
    };
    await computes({ ...opened, another }, 2);
    assertStrictEquals(asked, 0, "for a few kernels no device is opened");
    await computes({ ...opened, another }, 20);
    if (navigator.hardwareConcurrency > 1) assertGreater(asked, 0, "no other device was opened");
    await computes({ ...opened, another: () => Promise.reject(new Error("no more devices")) }, 20);
  } finally {
    opened.close();
  }
});
