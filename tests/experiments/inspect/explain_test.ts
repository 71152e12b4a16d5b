// What `explain` shows: the floor without fusion in closed form, shares computed from known numbers,
// and a small program measured on whatever device there is.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertNotMatch,
  assertStrictEquals,
} from "@std/assert";
import * as E from "fp-ts/Either.js";
import type { KernelReport, Program } from "../../../backends/backend.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import { unfusedBytes } from "../../../backends/codegen/traffic.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import { nodeOf } from "../../../dsl/node.ts";
import { add, contract, exp, input, mul, on, param, recurrence, sum } from "../../../dsl/ops.ts";
import {
  type Explanation,
  explanationJson,
  explanationText,
  measured,
  totalsOf,
  totalsText,
} from "../../../experiments/inspect/explain.ts";
import { webgpu } from "../../support/device.ts";

const ones = () => {
  throw new Error("not asked for");
};
const floor = (of: AnyTensor): number => unfusedBytes([nodeOf(of)]);

Deno.test("without fusion every operation reads its arguments and writes its result", () => {
  const x = input("x", { time: 10, channel: 3 }), b = input("b", { channel: 3 });
  assertStrictEquals(floor(exp(x)), 4 * (30 + 30));
  assertStrictEquals(floor(add(x, on(x, b))), 4 * (30 + 3 + 30));
  assertStrictEquals(floor(exp(add(x, on(x, b)))), 4 * (30 + 3 + 30 + 30 + 30));
  assertStrictEquals(floor(sum(x, "time")), 4 * (30 + 3));
  // One value used twice is computed once.
  const e = exp(x);
  assertStrictEquals(floor(mul(e, e)), 4 * (60 + 30 + 30 + 30));
});

Deno.test("a sum of products is one operation, unless the product itself is wanted", () => {
  const x = input("x", { row: 5, k: 7 }), w = input("w", { k: 7, column: 11 });
  assertStrictEquals(floor(contract(x, w, "k")), 4 * (35 + 77 + 55));
  const y = mul(input("x", { k: 7 }), input("w", { k: 7 }));
  assertStrictEquals(unfusedBytes([nodeOf(sum(y, "k")), nodeOf(y)]), 4 * (7 + 7 + 7 + 7 + 1));
});

Deno.test("a scan's step counts once a step", () => {
  const a = input("a", { time: 6, channel: 4 }), b = input("b", { time: 6, channel: 4 });
  // a · h and + b, for each of six steps.
  assertStrictEquals(floor(recurrence("time", a, b)), 6 * 4 * (4 + 4 + 4 + 4 + 4 + 4));
});

Deno.test("what other kernels stored is read, not computed again", () => {
  const x = input("x", { time: 10 });
  const inner = exp(x), outer = exp(inner);
  assertStrictEquals(unfusedBytes([nodeOf(outer)], (of) => of === nodeOf(inner)), 4 * 20);
});

const kernel = (path: string, flops: number, bytes: number): KernelReport => ({
  path,
  shapes: ["map"],
  grid: [2, 1, 1],
  flops,
  bytesRead: bytes / 4,
  bytesWritten: 3 * bytes / 4,
  unfusedBytes: 2 * bytes,
  code: `// ${path}`,
  writes: [{ time: 3 }],
});

const untimed: Explanation = {
  report: {
    kernels: [kernel("first > add", 1e6, 4e6), kernel("second > mul", 8e6, 2e6)],
    pipelines: 2,
    peakBytes: 5e6,
    precision: "f32",
  },
  unfusedBytes: 18e6,
};
const timed: Explanation = {
  ...untimed,
  timing: { kernels: [2, 8], peaks: { bytesPerSecond: 4e9, flopsPerSecond: 2e9 } },
};

Deno.test("several programs are a line of totals each", () => {
  assertEquals(totalsText({ one: totalsOf(timed), other: totalsOf(untimed) }).split("\n"), [
    "       kernels  pipelines  peak MB  Gflop  moved MB  unfused MB     ms",
    "one          2          2     5.00   0.01      6.00       18.00  10.00",
    "other        2          2     5.00   0.01      6.00       18.00      -",
  ]);
  assertNotMatch(totalsText({ other: totalsOf(untimed) }), /ms/);
});

Deno.test("the table names every kernel, its bytes, the floor and the totals", () => {
  const text = explanationText(untimed, false);
  assertMatch(text, /shape +grid +Mflop +read MB +write MB +unfused +path/);
  assertMatch(text, /1 map +2x1x1 +1\.0 +1\.00 +3\.00 +8\.00 +first > add/);
  assertMatch(text, /2 kernels, 2 unique pipelines, 5\.00 MB of intermediate values at most/);
  assertMatch(
    text,
    /0\.01 Gflop, 6\.00 MB moved; unfused floor: 18\.00 MB .*\(3\.0 times as much\)/,
  );
  assertNotMatch(text, /\/\/ first/);
  assertMatch(explanationText(untimed, true), /first > add\n\/\/ first > add\n/);
});

Deno.test("times come with shares of what the device does, and the slowest first", () => {
  const text = explanationText(timed, false);
  // 4 MB in 2 ms are half of 4 GB/s; 1 Mflop in 2 ms is a quarter of 2 Gflop/s.
  assertMatch(text, /2\.000 +50% +25% {2}first > add/);
  assertMatch(text, /8\.000 +6% +50% {2}second > mul/);
  assertMatch(
    text,
    /the slowest, 100% of the time:\n +2 map .*second > mul\n +1 map .*first > add\n/,
  );
  assertMatch(
    text,
    /10\.00 ms on the device: 15% of its copy bandwidth \(4\.0 GB\/s\), 45% of its/,
  );
});

Deno.test("the same as one JSON object", () => {
  const { device, kernels, totals, peaks } = JSON.parse(explanationJson(timed, "a device", false));
  assertStrictEquals(device, "a device");
  const { code: _, ...first } = kernel("first > add", 1e6, 4e6);
  assertEquals(kernels[0], { ...first, ms: 2, ofCopy: 0.5, ofFlops: 0.25 });
  assertEquals(totals, {
    kernels: 2,
    pipelines: 2,
    peakBytes: 5e6,
    precision: "f32",
    flops: 9e6,
    bytes: 6e6,
    unfusedBytes: 18e6,
    ms: 10,
  });
  assertEquals(peaks, { bytesPerSecond: 4e9, flopsPerSecond: 2e9 });
  const plain = JSON.parse(explanationJson(untimed, "a device", true));
  assertStrictEquals(plain.kernels[0].code, "// first > add");
  assert(!("ms" in plain.totals) && !("peaks" in plain));
});

const program: Program = {
  outputs: {
    y: {
      of: contract(
        input("x", { row: 256, k: 256 }),
        param("w", { k: 256, column: 256 }, ones),
        "k",
      ),
      order: ["row", "column"],
    },
  },
  updates: { w: add(param("w", { k: 256, column: 256 }, ones), input("w step", {})) },
};

Deno.test("the reference interpreter says that it can not be measured", async () => {
  const backend = referenceBackend();
  const found = await measured(backend, await backend.open({ program }), "program", program);
  assert(E.isLeft(found));
  assertMatch(found.left, /reference interpreter.*no timestamps/);
});

Deno.test("a program is measured with inputs and parameters made up for it", async () => {
  if (webgpu === undefined) return;
  const machine = await webgpu.open({ program });
  const found = await measured(webgpu, machine, "program", program);
  if (E.isLeft(found)) {
    console.log(`skipped: ${found.left}`);
    return;
  }
  const { kernels, peaks } = found.right;
  const report = machine.report("program");
  assertStrictEquals(kernels.length, report.kernels.length);
  assert(kernels.every((ms) => ms >= 0) && kernels.some((ms) => ms > 0), `${kernels}`);
  // No kernel does more than the device can: a product's 2 · 256³ operations took their time.
  const product = report.kernels.findIndex(({ shapes }) => shapes.includes("contraction"));
  assert(peaks.bytesPerSecond > 1e8 && peaks.flopsPerSecond > 1e8, JSON.stringify(peaks));
  const rate = report.kernels[product].flops / (kernels[product] / 1000);
  assertLess(rate, 1.5 * peaks.flopsPerSecond, `${rate} of ${peaks.flopsPerSecond}`);
  assertStrictEquals(report.kernels[product].flops, 2 * 256 ** 3);
  machine.close();
});
