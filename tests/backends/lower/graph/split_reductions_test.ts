// Products of few tiles and scans of few lanes on a device that they do not fill: that they are split,
// when, into what, and that they have the same values as before.
import { assert, assertEquals, assertGreaterOrEqual, assertStrictEquals } from "@std/assert";
import type { KernelReport, Output } from "../../../../backends/backend.ts";
import { lower } from "../../../../backends/lower/pipeline.ts";
import { compile, programReport } from "../../../../backends/webgpu/compile.ts";
import { parallelismOf } from "../../../../backends/webgpu/schedules.ts";
import { type AnyTensor, type Axes, volume } from "../../../../dsl/axes.ts";
import { grad } from "../../../../dsl/grad.ts";
import { nodeOf } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { explanationText } from "../../../../experiments/inspect/explain.ts";
import { type Case, checkBackend, numbers, program } from "../../../support/check.ts";
import { webgpuInParts, webgpuInPartsAsGpu, widest } from "../../../support/device.ts";
import { gpuLimits } from "../../../support/tiny_steps.ts";

type Named = Readonly<Record<string, AnyTensor>>;

const inputs = (axes: Readonly<Record<string, Axes>>): Named =>
  Object.fromEntries(Object.entries(axes).map(([name, of]) => [name, d.input(name, of)]));

const made = (
  axes: Readonly<Record<string, Axes>>,
  build: (x: Named) => AnyTensor,
  given: Readonly<Record<string, Float32Array>> = {},
): Case => {
  const wrt = inputs(axes);
  const values = Object.entries(axes)
    .map(([name, of], k) => [name, given[name] ?? numbers(k + 5, volume(of))]);
  return { of: build(wrt), wrt, values: Object.fromEntries(values) };
};

const gelu = (x: AnyTensor): AnyTensor => d.gelu(x);

const products: Record<string, Case> = {
  "few results, with what surrounds them": made(
    { x: { i: 9, k: 1003 }, y: { k: 1003, j: 7 }, bias: { j: 7 }, z: { i: 9, j: 7 } },
    ({ x, y, bias, z }) =>
      d.add(gelu(d.add(d.mul(d.contract(d.tanh(x), y, "k"), 0.1), bias)), d.mul(z, bias)),
  ),
  "transposed": made(
    { x: { k: 131, i: 37 }, y: { j: 29, k: 131 } },
    ({ x, y }) => d.contract(x, y, "k"),
  ),
  "batched": made(
    { x: { b: 3, i: 17, k: 260 }, y: { b: 3, k: 260, j: 33 } },
    ({ x, y }) => d.contract(x, y, "k"),
  ),
  "over two axes": made(
    { x: { i: 19, k: 6, l: 67 }, y: { l: 67, j: 18, k: 6 } },
    ({ x, y }) => d.contract(x, y, ["k", "l"]),
  ),
  "over a padded axis, of itself": made(
    { x: { i: 13, k: 150 } },
    ({ x }) => d.contract(d.pad(x, "k", 3, 7), d.rename(d.pad(x, "k", 3, 7), "i", "j"), "k"),
  ),
};

const scans: Record<string, Case> = {};
for (const reverse of [false, true]) {
  const way = reverse ? "back" : "forth";
  for (const [t, c] of [[64, 3], [37, 5], [1000, 1]]) {
    scans[`${t} steps of ${c}, ${way}`] = made(
      { a: { t, c }, b: { t, c } },
      ({ a, b }) => d.recurrence("t", d.mul(a, 0.95), d.sin(b), { reverse }),
    );
  }
  scans[`a selective scan, ${way}`] = made(
    {
      u: { b: 2, t: 53, c: 3 },
      dt: { b: 2, t: 53, c: 3 },
      A: { c: 3, n: 2 },
      B: { b: 2, t: 53, n: 2 },
      C: { b: 2, t: 53, n: 2 },
    },
    ({ u, dt, A, B, C }) => {
      const delta = d.softplus(dt);
      const a = d.exp(d.mul(delta, d.neg(d.exp(A))));
      const h = d.recurrence("t", a, d.mul(d.mul(delta, B), u), { reverse });
      return d.add(d.contract(h, C, "n"), u);
    },
  );
  scans[`a sum of all before, ${way}`] = made(
    { x: { t: 77, c: 2 } },
    ({ x }) => d.recurrence("t", d.on(x, d.constant(1)), x, { reverse }),
  );
  // Of what is linear in the carry there are gradients in chunks as well.
  for (const bend of [(x: AnyTensor) => x, (x: AnyTensor) => d.tanh(x)]) {
    const isLinear = bend(d.constant(1)) === d.constant(1);
    const name = `a start, last carries, ${
      isLinear ? "sums" : "curved sums"
    }, gates that close, ${way}`;
    const whole = made(
      { x: { t: 45, c: 3 }, gate: { t: 45 }, start: { c: 3 }, total: {}, w: { c: 3 } },
      ({ x, gate, start, total, w }) => {
        const opens = d.less(d.constant(-0.5), d.stopGradient(gate));
        const { final, out } = d.scan(
          { over: "t", from: { h: start, total }, each: { x, gate, opens }, reverse },
          ({ h, total }, { x, gate, opens }) => {
            const kept = d.select(opens, d.mul(d.add(h, w), gate), d.sin(x));
            const next = d.sub(d.mul(w, x), kept);
            const more = d.sum(d.mul(bend(next), w), "c");
            return { next: { h: next, total: d.add(total, more) }, out: { y: d.mul(next, x) } };
          },
        );
        return d.add(d.mul(d.add(out.y, final.h), w), final.total);
      },
    );
    scans[name] = isLinear ? whole : { ...whole, wrt: {} };
  }
}
// Products of gates are infinite here, of nothing for most of the time.
const steep = new Float32Array(70).map((_, k) => k === 66 ? 1 : 0);
scans["gates that let grow what is not there"] = {
  ...made(
    { x: { t: 70 } },
    ({ x }) => d.recurrence("t", d.on(x, d.constant(1e20)), x),
    { x: steep },
  ),
  wrt: {},
};

for (
  const [device, backend] of [
    ["WebGPU", webgpuInParts],
    ["WebGPU with a GPU's kernels", webgpuInPartsAsGpu],
  ] as const
) {
  for (const [kind, cases] of Object.entries({ products, scans })) {
    Deno.test({
      name: `split ${kind} on ${device} agree with the reference, forward and backward`,
      ignore: backend === undefined,
      fn: () => checkBackend(backend!, cases),
    });
  }
}

Deno.test("all of these are split", () => {
  const pathsOf = (of: Case, shape: string) =>
    lower(program(of).program, undefined, undefined, widest).kernels
      .flatMap((kernel) => kernel.shape === shape ? [kernel.path] : []);
  for (const [name, of] of Object.entries(products)) {
    assert(pathsOf(of, "contraction").some((path) => path.includes(" parts of ")), name);
  }
  for (const [name, of] of Object.entries(scans)) {
    const paths = pathsOf(of, "scan");
    assert(paths.length >= 3 && paths.every((path) => path.includes("chunk")), `${name}: ${paths}`);
  }
});

// ---- what is split, and into what ---------------------------------------------------------------

const output = (of: AnyTensor): Output => ({ of, order: Object.keys(nodeOf(of).axes) });

/** The kernels of a program on a GPU, or on a CPU with a driver for it. */
const kernelsOn = (onCpu: boolean, outputs: Named): readonly KernelReport[] =>
  programReport(compile(
    { outputs: Object.fromEntries(Object.entries(outputs).map(([k, of]) => [k, output(of)])) },
    { name: "a device", limits: gpuLimits, target: { onCpu } },
  )).kernels;
const onGpu = (outputs: Named) => kernelsOn(false, outputs);
const shapesOf = (kernels: readonly KernelReport[]) => kernels.flatMap(({ shapes }) => shapes);
const groupsOf = ({ grid }: KernelReport) => grid.reduce((a, b) => a * b, 1);

const product = (rows: number, columns: number, terms: number, batch = 1): AnyTensor => {
  const { x, y } = inputs({
    x: { batch, term: terms, row: rows },
    y: { batch, term: terms, column: columns },
  });
  return d.contract(x, y, "term");
};

Deno.test("a product of one tile is split; what follows it follows the sum of the parts", () => {
  const { bias } = inputs({ bias: { column: 64 } });
  const of = gelu(d.add(product(64, 64, 100_000), bias));
  const [parts, rest, ...others] = onGpu({ of });
  assertStrictEquals(others.length, 0);
  assertEquals([...parts.shapes, ...rest.shapes], ["contraction", "row"]);
  const { groups } = parallelismOf({ onCpu: false });
  assertStrictEquals(groupsOf(parts), groups);
  assertStrictEquals(parts.bytesWritten, 4 * 64 * 64 * groups);
  assertStrictEquals(rest.bytesRead, parts.bytesWritten + 4 * 64);
  assertStrictEquals(rest.bytesWritten, 4 * 64 * 64);
  assert(rest.code.includes("erfc_"));
  // Each invocation adds up 64 results, where a product that is not split has smaller tiles.
  assert(parts.code.includes("array<f32, 64>"));
  const report = { kernels: [parts, rest], pipelines: 2, peakBytes: 0, precision: "f32" as const };
  assert(
    explanationText({ report, unfusedBytes: 0 }, false).includes("128 parts of term > reduce"),
  );
  const [few] = kernelsOn(true, { of });
  assertStrictEquals(groupsOf(few), parallelismOf({ onCpu: true }).groups);
});

Deno.test("products are split where they have few tiles, and enough terms to be worth a kernel", () => {
  const count = (onCpu: boolean, ...sizes: Parameters<typeof product>) =>
    shapesOf(kernelsOn(onCpu, { of: product(...sizes) })).length;
  // Gradients of weights for one batch of clips, which smaller tiles do for, and for many.
  assertStrictEquals(count(false, 192, 768, 8 * 251), 1);
  assertStrictEquals(count(false, 192, 768, 64 * 251), 2);
  assertStrictEquals(count(false, 48, 32, 20_000, 3), 2);
  assertStrictEquals(count(false, 64, 64, 500), 1);
  assertStrictEquals(count(false, 1024, 1024, 20_000), 1);
  assertStrictEquals(count(true, 192, 768, 64 * 251), 1);
  assertStrictEquals(count(true, 64, 64, 2008), 1);
  assertStrictEquals(count(true, 1024, 1024, 1024), 1);
});

Deno.test("a sum of all of a value is as many sums first as fill a GPU", () => {
  const { x } = inputs({ x: { term: 4_000_000 } });
  const [parts, rest, ...others] = onGpu({ of: d.sum(d.exp(x), ["term"]) });
  assertStrictEquals(others.length, 0);
  assertGreaterOrEqual(groupsOf(parts), parallelismOf({ onCpu: false }).groups, `${parts.grid}`);
  assertStrictEquals(rest.bytesRead, parts.bytesWritten);
});

Deno.test("the parts of a sum are of one of its axes if that leaves nothing over", () => {
  const { x, y } = inputs({
    x: { clip: 64, token: 251, row: 192 },
    y: { clip: 64, token: 251, column: 192 },
  });
  const [parts] = onGpu({ of: d.contract(x, y, ["clip", "token"]) });
  assertEquals(parts.writes, [{ "clip.part:16": 16, row: 192, column: 192 }]);
});

/** A scan of what reads no carry but in the way that `step` does, of one batch. */
const selective = (token: number, channel: number, batch = 1) => {
  const wide = { batch, token, channel }, narrow = { batch, token, state: 16 };
  const x = inputs({ u: wide, dt: wide, A: { channel, state: 16 }, B: narrow, C: narrow });
  const delta = d.softplus(x.dt);
  const a = d.exp(d.mul(delta, d.neg(d.exp(x.A))));
  const h = d.recurrence("token", a, d.mul(d.mul(delta, x.B), x.u));
  return { y: d.add(d.contract(h, x.C, "state"), x.u), x };
};
const gradients = ({ y, x }: ReturnType<typeof selective>) => {
  const weights = d.input("weights", nodeOf(y).axes);
  const loss = d.sum(d.mul(y, weights), Object.keys(nodeOf(y).axes));
  return grad(loss, x);
};

Deno.test("a long scan of few lanes has chunks, and its gradient the same ones", () => {
  const { x } = inputs({ x: { batch: 1, token: 100_000, channel: 8 } });
  const h = d.recurrence("token", d.sigmoid(x), x);
  const [ends, across, chunks, ...others] = onGpu({ of: d.sum(h, ["token"]) });
  assertEquals(shapesOf([ends, across, chunks]), ["scan", "scan", "scan"]);
  assert(shapesOf(others).every((shape) => shape !== "scan"));
  // 256 steps, and 391 chunks of them; the outputs lie as they would without chunks.
  assertEquals(ends.grid, [1, 391, 1]);
  assertEquals(across.grid, [1, 1, 1]);
  assertEquals(chunks.grid, [1, 391, 1]);
  const [axes] = chunks.writes;
  assertEquals(Object.entries(axes).slice(0, 2), [["token.chunk", 391], ["token.step", 256]]);
  assertEquals(
    [ends, across, chunks].map(({ path }) => path.split(" > ").slice(-2)[0]),
    ["ends of 391 chunks", "from chunk to chunk", "391 chunks"],
  );
  const back = onGpu(gradients(selective(20_000, 32)));
  assertStrictEquals(shapesOf(back).filter((shape) => shape === "scan").length, 6);
  for (const axes of back.flatMap(({ writes }) => writes)) {
    const isWhole = volume(axes) >= 20_000 * 32 * 16;
    assert(!isWhole, `${Object.entries(axes)} is stored`);
  }
});

Deno.test("a scan has chunks if it is linear, has few lanes, and takes long enough", () => {
  const scansIn = (onCpu: boolean, of: AnyTensor) =>
    shapesOf(kernelsOn(onCpu, { of: d.sum(of, ["token"]) })).filter((shape) => shape === "scan")
      .length;
  const plain = (token: number, channel: number, batch = 1): AnyTensor => {
    const { a, b } = inputs({ a: { batch, token, channel }, b: { batch, token, channel } });
    return d.recurrence("token", d.sigmoid(a), b);
  };
  const linear = (token: number, channel: number) => scansIn(false, plain(token, channel));
  assertStrictEquals(linear(100_000, 8), 3);
  assertStrictEquals(linear(10_000, 4800), 1);
  assertStrictEquals(linear(251, 8), 1);
  assertStrictEquals(scansIn(true, plain(100_000, 1)), 1);
  // As published: eight clips of 251 tokens in one kernel; one clip of ten minutes in three.
  assertStrictEquals(scansIn(false, selective(251, 576, 8).y), 1);
  assertStrictEquals(scansIn(false, selective(20_000, 576).y), 3);
  const { x } = inputs({ x: { token: 100_000, channel: 8 } });
  const start: AnyTensor = d.expand(d.constant(0), { channel: 8 });
  const curved = d.scan({ over: "token", from: { h: start }, each: { x } }, ({ h }, { x }) => {
    const next = d.tanh(d.add(h, x));
    return { next: { h: next }, out: { y: next } };
  });
  assertStrictEquals(scansIn(false, curved.out.y), 1);
});

Deno.test("a scan whose gates wait for what another computes again is done in a row, and so is that", () => {
  // The output is not linear in the carry, so the gradient's input has to be computed from it.
  const { a, b } = inputs({ a: { token: 20_000, channel: 8 }, b: { token: 20_000, channel: 8 } });
  const h = d.recurrence("token", d.sigmoid(a), b);
  const loss = d.sum(d.square(d.tanh(h)), ["token", "channel"]);
  const kernels = onGpu(grad(loss, { a, b }));
  assertStrictEquals(shapesOf(kernels).filter((shape) => shape === "scan").length, 2);
});

Deno.test("nothing is split where nobody says what fills the device", () => {
  const { kernels } = lower({ outputs: { of: output(product(64, 64, 100_000)) } });
  assertStrictEquals(kernels.length, 1);
});

Deno.test("parts of sums and starts of chunks are f32 in programs in f16", () => {
  const parallelism = { groups: 64, lanes: 2 ** 12, launchCost: 0, gain: 1 };
  const { of } = { of: product(64, 64, 4096) };
  const y = selective(4096, 16).y;
  const { kernels } = lower(
    { outputs: { of: output(of), y: output(y) } },
    undefined,
    1,
    parallelism,
  );
  const stored = kernels.flatMap(({ roots }) => roots.map(({ storage }) => storage));
  const checkpoints = kernels.flatMap((kernel) =>
    kernel.shape === "scan" ? Object.values(kernel.checkpoints?.storage ?? {}) : []
  );
  const parts = stored.filter(({ dims }) => dims.some(({ axis }) => axis.includes(".part:")));
  assert(parts.length === 1 && checkpoints.length === 1);
  assert([...parts, ...checkpoints].every(({ half }) => !half));
});
