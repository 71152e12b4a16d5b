// The table of docs/numbers.md: what functions give of NaN, infinities, zeros, the ends of their
// ranges and positions beyond the end, the same on every device.
import { assert, assertStrictEquals, assertThrows } from "@std/assert";
import { referenceBackend } from "../../backends/reference/backend.ts";
import type { Backend, Values } from "../../backends/backend.ts";
import type { AnyTensor } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import { nodeOf, topologicalOrder } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import { devices, webgpuAsGpu, webgpuInLoops, webgpuInParts } from "../support/device.ts";

const inf = Infinity, nan = NaN;

/** What an expression must be; a number alone stands for all elements. */
interface Row {
  readonly of: AnyTensor;
  readonly is: readonly number[];
  /** How far off, relative to each value; 0 is to the bit, as numbers. */
  readonly within?: number;
}

const rows: Record<string, Row> = {};
const values: Record<string, Float32Array | Uint32Array> = {};
const leaf = (name: string, data: readonly number[], dtype: "f32" | "u32" = "f32"): AnyTensor => {
  values[name] = dtype === "f32" ? Float32Array.from(data) : Uint32Array.from(data);
  return d.input(name, { n: data.length }, dtype);
};
/** A function of one argument at some places. */
const unary = (
  name: string,
  f: (x: AnyTensor) => AnyTensor,
  places: readonly (readonly [number, number])[],
  within = 0,
) => {
  rows[name] = { of: f(leaf(name, places.map(([x]) => x))), is: places.map(([, y]) => y), within };
};
const binary = (
  name: string,
  f: (a: AnyTensor, b: AnyTensor) => AnyTensor,
  places: readonly (readonly [number, number, number])[],
  dtype: "f32" | "u32" = "f32",
  within = 0,
) => {
  const a = leaf(`${name} a`, places.map(([a]) => a), dtype);
  const b = leaf(`${name} b`, places.map(([, b]) => b), dtype);
  rows[name] = { of: f(a, b), is: places.map(([, , y]) => y), within };
};

const largest: readonly (readonly [number, number, number])[] = [
  [nan, 1, nan],
  [1, nan, nan],
  [nan, nan, nan],
  [nan, -inf, nan],
  [inf, nan, nan],
  [-inf, -3, -3],
  [2, inf, inf],
  [-1, -2, -1],
];
binary("max", d.maximum, largest);
binary("min", d.minimum, largest.map(([a, b, y]) => [-a, -b, -y]));
unary("max(0, x)", (x) => d.maximum(d.constant(0), x), [[nan, nan], [-1, 0], [2, 2], [inf, inf]]);
unary("relu", d.relu, [[nan, nan], [-inf, 0], [inf, inf], [-1, 0], [3, 3]]);
binary("less", (a, b) => d.toFloat(d.less(a, b)), [
  [nan, 1, 0],
  [1, nan, 0],
  [-inf, inf, 1],
  [1, 2, 1],
]);
binary("equal", (a, b) => d.toFloat(d.equal(a, b)), [
  [nan, nan, 0],
  [inf, inf, 1],
  [-0, 0, 1],
  [1, 2, 0],
]);
binary("select", (a, b) => d.select(d.less(a, b), a, b), [
  [nan, 1, 1],
  [1, nan, nan],
  [-inf, 2, -inf],
  [3, inf, 3],
]);
unary("isFinite", (x) => d.toFloat(d.isFinite(x)), [
  [nan, 0],
  [inf, 0],
  [-inf, 0],
  [3.4e38, 1],
  [0, 1],
]);
binary("div", d.div, [
  [1, 0, inf],
  [-1, 0, -inf],
  [1, -0, -inf],
  [0, 0, nan],
  [inf, 0, inf],
  [inf, inf, nan],
  [1, inf, 0],
  [nan, 1, nan],
  [1, nan, nan],
  [2e38, 1e38, 2],
  [1e38, 2e38, 0.5],
  [3e38, 1e-38, inf],
  [0, 1e-39, 0],
  [49, 49, 1],
  [287, 41, 7],
]);
unary("x / 0", (x) => d.div(x, d.constant(0)), [[1, inf], [0, nan], [-1, -inf], [nan, nan]]);
unary("1 / x", d.recip, [[0, inf], [-0, -inf], [inf, 0], [nan, nan], [-8, -0.125]]);
unary("x + constant", (x) => d.add(x, d.constant(-inf)), [[1, -inf], [inf, nan]]);
unary("x + NaN", (x) => d.add(x, d.constant(nan)), [[1, nan]]);
binary("mul", d.mul, [[inf, 0, nan], [inf, -2, -inf], [3e38, 10, inf], [nan, 0, nan]]);
unary("pad with -Infinity", (x) => d.pad(x, "n", 1, 1, -inf), [[1, 1]]);
rows["pad with -Infinity"] = { ...rows["pad with -Infinity"], is: [-inf, 1, -inf] };
unary("pad with NaN", (x) => d.pad(x, "n", 0, 1, nan), [[1, 1]]);
rows["pad with NaN"] = { ...rows["pad with NaN"], is: [1, nan] };

const top = Math.fround(88.72283);
unary("exp", d.exp, [
  [nan, nan],
  [inf, inf],
  [-inf, 0],
  [top, Math.exp(top)],
  [88.75, inf],
  [0, 1],
  [-200, 0],
  [-1e30, 0],
  [1e30, inf],
], 2e-5);
unary("log", d.log, [[nan, nan], [inf, inf], [-inf, nan], [-1, nan], [0, -inf], [-0, -inf], [
  1,
  0,
]]);
unary("log1p", d.log1p, [[nan, nan], [inf, inf], [-1, -inf], [-2, nan], [0, 0]]);
unary("sqrt", d.sqrt, [[nan, nan], [inf, inf], [-1, nan], [0, 0], [4, 2]], 1e-6);
unary("tanh", d.tanh, [[nan, nan], [inf, 1], [-inf, -1], [1e-20, 1e-20], [50, 1]], 1e-6);
unary("erf", d.erf, [[nan, nan], [inf, 1], [-inf, -1], [0, 0], [10, 1]], 1e-6);
unary("erfc", d.erfc, [
  [nan, nan],
  [inf, 0],
  [-inf, 2],
  [0, 1],
  [5, 1.5374597944280347e-12],
  [9, 4.137031746513809e-37],
], 2e-5);
const waves = [1e6, 1e7, 3e7, 1e8, 1e10, 1e20, 3.4028234663852886e38, -16e6];
unary("sin", d.sin, [[nan, nan], [inf, nan], [-inf, nan], [0, 0]]);
unary("cos", d.cos, [[nan, nan], [inf, nan], [-inf, nan], [0, 1]]);
const far = waves.map(Math.fround);
unary("sin of large", d.sin, far.map((x) => [x, Math.sin(x)]), 2e-6);
unary("cos of large", d.cos, far.map((x) => [x, Math.cos(x)]), 2e-6);
unary("sigmoid", d.sigmoid, [[nan, nan], [inf, 1], [-inf, 0], [0, 0.5]]);
unary("softplus", d.softplus, [[nan, nan], [inf, inf], [-inf, 0]]);
const tails = [-5, -8, -11, -12.5];
/** x Phi(x) by a continued fraction for the tail. */
const geluTail = (x: number): number => {
  let fraction = 0;
  for (let n = 200; n >= 1; n--) fraction = n / (-x + fraction);
  return x * Math.exp(-x * x / 2) / (Math.sqrt(2 * Math.PI) * (-x + fraction));
};
unary("gelu", d.gelu, [
  [nan, nan],
  [inf, inf],
  [0, 0],
  ...tails.map((x) => [x, geluTail(x)] as const),
], 1e-4);
const x = leaf("slope", tails);
const slopeOf = (x: number) => geluTail(x) / x + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
rows["the gradient of gelu"] = {
  of: grad(d.sum(d.gelu(x), "n"), { x }).x,
  is: tails.map(slopeOf),
  within: 1e-4,
};

binary(
  "quotient",
  d.floorDivide,
  [[7, 0, 7], [0, 0, 0], [7, 2, 3], [0xffffffff, 0, 0xffffffff]],
  "u32",
);
binary("remainder", d.modulo, [[7, 0, 0], [0, 0, 0], [7, 2, 1]], "u32");
unary("quotient by a constant 0", (x) => {
  return d.floorDivide(d.toU32(x), d.constant(0, "u32"));
}, [[7, 7]]);
binary("shiftLeft", d.shiftLeft, [[1, 32, 1], [1, 33, 2], [3, 31, 0x80000000]], "u32");
binary("shiftRight", d.shiftRight, [[8, 32, 8], [8, 35, 1]], "u32");
unary("toWord", d.toU32, [
  [nan, 0],
  [-1, 0],
  [-inf, 0],
  [2.9, 2],
  [5e9, 0xffffffff],
  [inf, 0xffffffff],
  [4294967040, 4294967040],
]);
values.table = Float32Array.of(10, 20, 30);
const table = d.input("table", { place: 3 });
rows.gather = {
  of: d.gather(table, "place", leaf("positions", [0, 2, 3, 0xffffffff], "u32")),
  is: [10, 30, 30, 30],
};

/** Rows of 3, 40 and 300 values, with and without something in them that is no number. */
for (const c of [3, 40, 300]) {
  const hasNan = [false, true, true, false, false, false];
  const data = Float32Array.from({ length: 6 * c }, (_, k) => k % 7 - 3);
  data[c] = nan;
  data[3 * c - 1] = nan;
  data.fill(-inf, 3 * c, 4 * c);
  data.fill(-inf, 4 * c, 5 * c - 1);
  data[5 * c + 1] = inf;
  const name = `rows of ${c}`;
  values[name] = data;
  const x: AnyTensor = d.input(name, { r: 6, c });
  const by = (f: (row: Float32Array) => number) =>
    Array.from({ length: 6 }, (_, r) => f(data.subarray(r * c, r * c + c)));
  const most = by((row) => row.reduce((a, b) => Math.max(a, b), -inf));
  assert(hasNan.every((has, r) => has === Number.isNaN(most[r])));
  rows[`maximum of ${name}`] = { of: d.max(x, "c"), is: most };
  rows[`sum of ${name}`] = { of: d.sum(x, "c"), is: by((row) => row.reduce((a, b) => a + b, 0)) };
  rows[`softmax of ${name}`] = {
    of: d.softmax(x, "c"),
    is: by(() => 0).flatMap((_, r) => {
      const row = data.subarray(r * c, r * c + c);
      const e = Array.from(row, (v) => Math.exp(v - most[r]));
      const total = e.reduce((a, b) => a + b, 0);
      return e.map((v) => v / total);
    }),
    within: 1e-5,
  };
  // Along the other axis, where vectors lie across.
  const turned = Array.from(
    { length: c },
    (_, k) =>
      Array.from({ length: 6 }, (_, r) => data[r * c + k]).reduce((a, b) => Math.max(a, b), -inf),
  );
  rows[`maximum across ${name}`] = { of: d.max(x, "r"), is: turned };
}

// What a product is cut into must not read what is infinite beside it.
const k = 37, m = 19;
values.left = Float32Array.from({ length: m * k }, (_, i) => i % 5 - 2);
values.right = Float32Array.from({ length: k * m }, (_, i) => i % 3 - 1);
values.left[3 * k] = inf;
values.right[4] = nan;
rows.contract = {
  of: d.contract(d.input("left", { i: m, k }), d.input("right", { k, j: m }), "k") as AnyTensor,
  is: Array.from({ length: m * m }, (_, at) => {
    const i = Math.floor(at / m), j = at % m;
    let sum = 0;
    for (let t = 0; t < k; t++) sum += values.left[i * k + t] * values.right[t * m + j];
    return sum;
  }),
};

/** What a device gives otherwise than it must. */
const wrongOn = async (backend: Backend): Promise<readonly string[]> => {
  const names = Object.keys(rows);
  const machine = await backend.open(Object.fromEntries(names.map((name) => {
    const { of } = rows[name];
    return [name, { outputs: { y: { of, order: Object.keys(nodeOf(of).axes) } } }];
  })));
  const wrong: string[] = [];
  for (const name of names) {
    const { of, is, within = 0 } = rows[name];
    const read = topologicalOrder([nodeOf(of)]).filter((n) => n.op === "input");
    const given: Values = Object.fromEntries(
      read.map((n) => [n.attributes.name!, values[n.attributes.name!]]),
    );
    const { y } = await machine.run(name, given);
    assertStrictEquals(y.length, is.length, name);
    is.forEach((want, k) => {
      const same = Number.isNaN(want)
        ? Number.isNaN(y[k])
        : y[k] === want || y[k] === Math.fround(want) ||
          Math.abs(y[k] - want) <= within * Math.abs(want);
      if (!same) wrong.push(`${name}[${k}] is ${y[k]}, not ${want}`);
    });
  }
  machine.close();
  return wrong;
};

const all: readonly (readonly [string, Backend | undefined])[] = [
  ["the reference", referenceBackend()],
  ...devices,
  ["WebGPU with a GPU's schedule", webgpuAsGpu],
  ["WebGPU in loops", webgpuInLoops],
  ["WebGPU in parts", webgpuInParts],
];
for (const [device, backend] of all) {
  Deno.test({
    name: `special values on ${device}`,
    ignore: backend === undefined,
    fn: async () => {
      const wrong = await wrongOn(backend!);
      assertStrictEquals(wrong.join("\n"), "");
    },
  });
  Deno.test({
    name: `quotients of whole numbers are exact on ${device}`,
    ignore: backend === undefined,
    fn: async () => {
      const count = 200 * 50;
      const b = Float32Array.from({ length: count }, (_, k) => 1 + k % 200);
      const a = b.map((d, k) => d * (1 + Math.floor(k / 200)));
      const of = d.floor(d.div(d.input("a", { n: count }), d.input("b", { n: count })));
      const machine = await backend!.open({ p: { outputs: { y: { of, order: ["n"] } } } });
      const { y } = await machine.run("p", { a, b });
      machine.close();
      assertStrictEquals(y.findIndex((q, k) => q !== 1 + Math.floor(k / 200)), -1);
    },
  });
}

Deno.test("concat of tensors whose other axes differ is refused in words", () => {
  const a = d.input("a", { n: 2, m: 3 }), b = d.input("b", { n: 2 });
  assertThrows(
    () => d.concat(a, b as unknown as typeof a, "n"),
    Error,
    "axis 'm' is on the left but not on the right",
  );
});
