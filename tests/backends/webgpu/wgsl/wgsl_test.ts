// The generated WGSL of one small kernel for each lowering rule, as it is. A change of a printer
// shows here as text: read it, and put it in place of the old if it is what was meant.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertStrictEquals,
} from "@std/assert";
import { lower } from "../../../../backends/lower/pipeline.ts";
import { emitter } from "../../../../backends/webgpu/wgsl/emit.ts";
import { printExpression } from "../../../../backends/webgpu/wgsl/rows.ts";
import { binder } from "../../../../backends/webgpu/wgsl/bindings.ts";
import { matricesOf } from "../../../../backends/webgpu/discovery/subgroup_matrix.ts";
import { moduleOf } from "../../../../backends/webgpu/wgsl/module.ts";
import { printScan } from "../../../../backends/webgpu/wgsl/scan.ts";
import type { AnyTensor, Axes } from "../../../../dsl/axes.ts";
import { nodeOf } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { checkBackend, numbers } from "../../../support/check.ts";
import { devices } from "../../../support/device.ts";

/** The only kernel of an expression, on a CPU with subgroups of so many lanes or without. */
const kernel = (of: AnyTensor, subgroup?: number) => {
  const lowered = lower({ outputs: { y: { of, order: Object.keys(nodeOf(of).axes) } } });
  assertStrictEquals(lowered.kernels.length, 1);
  const [made] = lowered.kernels;
  const bound = binder();
  const body = made.shape === "scan"
    ? printScan(made, lowered.stored, bound, { onCpu: true, subgroup })
    : printExpression(made, lowered.stored, { onCpu: true, subgroup }, bound);
  const code = moduleOf([body], bound);
  return { shape: made.shape, grid: code.grid, lines: code.wgsl.trim().split("\n") };
};

const x = d.input("x", { time: 5, channel: 70 });

const kernels: Readonly<
  Record<string, { readonly of: AnyTensor; readonly is: ReturnType<typeof kernel> }>
> = {
  "map": {
    of: d.mul(d.exp(d.flip(x, "time")), d.input("w", { channel: 70 })),
    is: {
      shape: "map",
      grid: [6, 1, 1],
      lines: `
@group(0) @binding(0) var<storage, read> b0: array<f32>;
@group(0) @binding(1) var<storage, read> b1: array<f32>;
@group(0) @binding(2) var<storage, read_write> b2: array<f32>;
fn exp_(x: f32) -> f32 {
  return select(exp(x), x, ((bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u));
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
  let local = invocation.x;
  let flat = (i32(group.x) + i32(group.y) * 6) * 64 + i32(local);
  if (flat >= 350) { return; }
  let i0 = (flat / 70);
  let i1 = (flat % 70);
  let v2: f32 = b0[(i0 * -70 + i1 + 280)];
  let v3: f32 = exp_(v2);
  let v4: f32 = b1[i1];
  let v5: f32 = (v3 * v4);
  b2[flat] = v5;
}
`.trim().split("\n"),
    },
  },
  "row": {
    of: d.softmax(x, "channel"),
    is: {
      shape: "row",
      grid: [5, 1, 1],
      lines: `
@group(0) @binding(0) var<storage, read> b0: array<f32>;
@group(0) @binding(1) var<storage, read_write> b1: array<f32>;
var<workgroup> t0: array<f32, 64>;
var<private> infinity_: u32;
fn max_(a: f32, b: f32) -> f32 {
  let most = max(bitcast<u32>(a) & 0x7fffffffu, bitcast<u32>(b) & 0x7fffffffu);
  return select(max(a, b), a + b, most > 0x7f800000u);
}
fn exp_(x: f32) -> f32 {
  return select(exp(x), x, ((bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u));
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
  let local = invocation.x;
  infinity_ = 0x7f800000u | (group.x >> 24u);
  let row = i32(group.x) + i32(group.y) * 5;
  let lane = i32(local);
  var s0 = bitcast<f32>(infinity_ | 0x80000000u);
  for (var k1 = lane; k1 < 70; k1 += 64) {
    let v2: f32 = b0[(row * 70 + k1)];
    s0 = max_(s0, v2);
  }
  t0[lane] = s0;
  workgroupBarrier();
  for (var h = 32; h > 0; h = h / 2) {
    if (lane < h) {
      t0[lane] = max_(t0[lane], t0[lane + h]);
    }
    workgroupBarrier();
  }
  let s3 = t0[0];
  workgroupBarrier();
  var s4 = 0.0;
  let v7: f32 = (-s3);
  for (var k5 = lane; k5 < 70; k5 += 64) {
    let v6: f32 = b0[(row * 70 + k5)];
    let v8: f32 = (v6 + v7);
    let v9: f32 = exp_(v8);
    s4 = s4 + v9;
  }
  t0[lane] = s4;
  workgroupBarrier();
  for (var h = 32; h > 0; h = h / 2) {
    if (lane < h) {
      t0[lane] = t0[lane] + t0[lane + h];
    }
    workgroupBarrier();
  }
  let s10 = t0[0];
  workgroupBarrier();
  let v15: f32 = (1.0 / s10);
  for (var k11 = lane; k11 < 70; k11 += 64) {
    let v12: f32 = b0[(row * 70 + k11)];
    let v13: f32 = (v12 + v7);
    let v14: f32 = exp_(v13);
    let v16: f32 = (v14 * v15);
    b1[(row * 70 + k11)] = v16;
  }
}
`.trim().split("\n"),
    },
  },
  "product, with what follows it": {
    of: d.tanh(d.contract(x, d.input("w", { channel: 70, out: 9 }), "channel")),
    is: {
      shape: "contraction",
      grid: [1, 1, 1],
      lines: `
@group(0) @binding(0) var<storage, read> b0: array<f32>;
@group(0) @binding(1) var<storage, read> b1: array<f32>;
@group(0) @binding(2) var<storage, read_write> b2: array<f32>;
fn tanh_(x: f32) -> f32 {
  let a = abs(x);
  let z = x * x;
  let near = x * (1.0 + z * (-0.33333334 + z * (0.13333334 + z * (-0.053968254 + z * (0.021869488 + z * (-0.008863236 + z * 0.003592128))))));
  return select(near, sign(x) * (1.0 - 2.0 / (exp(2.0 * min(a, 20.0)) + 1.0)), a > 0.5);
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
  let local = invocation.x;
  let lane = i32(local);
  let tx = lane % 8;
  let ty = lane / 8;
  let column0 = (i32(group.x) % 1) * 16;
  let row0 = (i32(group.y) % 1) * 8;
  let item = i32(group.x) / 1 + (i32(group.y) / 1) * 1;
  var acc0_0 = 0.0;
  var acc0_1 = 0.0;
  let m0 = min(row0 + 0 + ty, 4);
  let m1 = min(column0 + 0 + tx, 8);
  let m2 = min(column0 + 8 + tx, 8);
  for (var k = 0; k < 70; k++) {
    let v3: f32 = b0[(m0 * 70 + k)];
    let v4: f32 = b1[(k * 9 + m1)];
    let v5: f32 = b1[(k * 9 + m2)];
    acc0_0 = fma(v3, v4, acc0_0);
    acc0_1 = fma(v3, v5, acc0_1);
  }
  var results = array<f32, 2>(acc0_0, acc0_1);
  for (var i = 0; i < 1; i++) {
    let r = row0 + i * 8 + ty;
    if (r < 5) {
      for (var j = 0; j < 2; j++) {
        let c = column0 + j * 8 + tx;
        if (c < 9) {
          let v6: f32 = tanh_(results[i * 2 + j]);
          b2[(r * 9 + c)] = v6;
        }
      }
    }
  }
}
`.trim().split("\n"),
    },
  },
  "scan, with what surrounds it": {
    of: d.mul(d.recurrence("time", d.sigmoid(x), x), x),
    is: {
      shape: "scan",
      grid: [2, 1, 1],
      lines: `
@group(0) @binding(0) var<storage, read> b0: array<f32>;
@group(0) @binding(1) var<storage, read_write> b1: array<f32>;
fn exp_(x: f32) -> f32 {
  return select(exp(x), x, ((bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u));
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
  let local = invocation.x;
  let lane = i32(local);
  let item = i32(group.y) + i32(group.z) * 1;
  let own = i32(group.x) * 64 + lane;
  let at = min(own, 69);
  var h0: f32;
  h0 = 0.0f;
  for (var s = 0; s < 5; s++) {
    let v1: f32 = b0[(s * 70 + at)];
    let v2: bool = (v1 < 0.0f);
    let v3: f32 = (-v1);
    let v4: f32 = select(v3, v1, v2);
    let v5: f32 = exp_(v4);
    let v6: f32 = (v5 + 1.0f);
    let v7: f32 = (1.0 / v6);
    let v8: f32 = (v5 * v7);
    let v9: f32 = select(v7, v8, v2);
    let c10 = h0;
    let v11: f32 = (v9 * c10);
    let v12: f32 = (v11 + v1);
    let v13: f32 = (v12 * v1);
    if (own < 70) {
      b1[(s * 70 + at)] = v13;
    }
    h0 = v12;
  }
}
`.trim().split("\n"),
    },
  },
};

for (const [name, { of, is }] of Object.entries(kernels)) {
  Deno.test(`WGSL of a ${name}`, () => assertEquals(kernel(of), is));
}

Deno.test("a product by matrices of subgroups", () => {
  const x = d.input("x", { time: 20, channel: 32 });
  const of = d.neg(d.contract(d.exp(x), d.input("w", { channel: 32, out: 16 }), "channel"));
  const { kernels: [made], stored } = lower({ outputs: { y: { of, order: ["time", "out"] } } });
  const [matrices] = matricesOf(
    [{ componentType: "f16", resultComponentType: "f32", M: 16, N: 16, K: 16 }],
    64,
  );
  const bound = binder();
  assert(made.shape === "contraction");
  const target = { onCpu: false, halvesFrom: 4096, matrices };
  const code = moduleOf([printExpression(made, stored, target, bound)], bound);
  assertEquals(
    code.wgsl.trim().split("\n"),
    `
enable f16;
enable chromium_experimental_subgroup_matrix;
enable subgroups;
@group(0) @binding(0) var<storage, read> b0: array<f32>;
@group(0) @binding(1) var<storage, read> b1: array<f32>;
@group(0) @binding(2) var<storage, read_write> b2: array<f32>;
var<workgroup> left: array<f16, 768>;
var<workgroup> right: array<f16, 1280>;
var<workgroup> results: array<f32, 512>;
fn exp_(x: f32) -> f32 {
  return select(exp(x), x, ((bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u));
}
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>, @builtin(subgroup_id) subgroup: u32) {
  let local = invocation.x;
  let lane = i32(local);
  let sub_column = i32(subgroup) % 2 * 16;
  let column0 = (i32(group.x) % 1) * 32;
  let row0 = (i32(group.y) % 2) * 16;
  let item = i32(group.x) / 1 + (i32(group.y) / 2) * 1;
  var acc0_0: subgroup_matrix_result<f32, 16, 16>;
  for (var k0 = 0; k0 < 32; k0 += 32) {
    for (var e0 = lane; e0 < 512; e0 += 128) {
      let m1 = e0 / 32;
      let k2 = e0 % 32;
      let m3 = min(row0 + m1, 19);
      let k4 = min(k0 + k2, 31);
      let v5: f32 = b0[(m3 * 32 + k4)];
      let v6: f32 = exp_(v5);
      left[k2 * 24 + m1] = f16(select(0.0, v6, row0 + m1 < 20));
    }
    for (var e7 = lane; e7 < 1024; e7 += 128) {
      let m8 = e7 % 32;
      let k9 = e7 / 32;
      let m10 = min(column0 + m8, 15);
      let k11 = min(k0 + k9, 31);
      let v12: f32 = b1[(k11 * 16 + m10)];
      right[k9 * 40 + m8] = f16(select(0.0, v12, column0 + m8 < 16));
    }
    workgroupBarrier();
    let x0_0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, col_major>(&left, u32(0), 24u);
    let y0_0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&right, u32(sub_column + 0), 40u);
    acc0_0 = subgroupMatrixMultiplyAccumulate(x0_0, y0_0, acc0_0);
    let x16_0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, col_major>(&left, u32(384), 24u);
    let y16_0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&right, u32(sub_column + 640), 40u);
    acc0_0 = subgroupMatrixMultiplyAccumulate(x16_0, y16_0, acc0_0);
    workgroupBarrier();
  }
  for (var turn = 0; turn < 1; turn++) {
    switch (turn) {
      default: {
        subgroupMatrixStore<row_major>(&results, u32(subgroup * 256), acc0_0, 16u);
      }
    }
    workgroupBarrier();
    for (var e = lane; e < 512; e += 128) {
      let r = row0 + (e / 256 / 2 * 1 + turn / 1) * 16 + e % 256 / 16;
      let c = column0 + (e / 256 % 2 * 1 + turn % 1) * 16 + e % 16;
      if (r < 20 && c < 16) {
        let v13: f32 = (-results[e]);
        b2[(r * 16 + c)] = v13;
      }
    }
    workgroupBarrier();
  }
}
`.trim().split("\n"),
  );
});

Deno.test("on a CPU, the lanes of a subgroup read for each other", () => {
  const w = d.input("w", { channel: 70, out: 24 });
  const product = kernel(d.contract(d.input("x", { time: 64, channel: 70 }), w, "channel"), 8);
  // A row for each lane, which is handed around: one read instead of eight.
  const reads = product.lines.filter((line) => / = b0\[/.test(line));
  assertStrictEquals(reads.length, 1, product.lines.join("\n"));
  assertStrictEquals(product.lines.filter((line) => /subgroupBroadcast/.test(line)).length, 8);
  const row = kernel(d.softmax(d.input("x", { time: 2000, channel: 64 }), "channel"), 8);
  assert(row.lines.includes("enable subgroups;"));
  assertStrictEquals(
    row.lines.filter((line) => / = b0\[/.test(line)).length,
    8,
    "a row is read once",
  );
  assert(
    !row.lines.some((line) => /workgroupBarrier/.test(line)),
    "lanes of a subgroup need not wait",
  );
  const of = (name: string, axes: Axes): AnyTensor => d.input(name, axes);
  const b = of("b", { time: 50, state: 20 }), x = of("x", { time: 50, channel: 64 });
  const a = of("a", { time: 50, channel: 64 });
  const scan = d.sum(d.mul(d.recurrence("time", a, d.mul(x, b)), b), "state");
  const read = (subgroup?: number) =>
    kernel(scan, subgroup).lines.filter((line) => / = b\d\[/.test(line)).length;
  // Of 20 states' values, which all channels want, each lane reads three at most.
  assertLessOrEqual(read(8), read() - 16, `${read(8)} reads beside ${read()}`);
  // Lanes that nobody asks read no further than the last of its elements.
  const ends = kernel(scan, 8).lines.flatMap((line) => line.match(/clamp\(.*, 0, (\d+)\)/) ?? []);
  assertGreater(ends.length, 0);
  ends.filter((_, k) => k % 2 === 1).forEach((last) =>
    assertStrictEquals(Number(last), 50 * 20 - 1)
  );
  // A workgroup that is not made of whole subgroups has nobody to read for it.
  const few = kernel(
    d.recurrence("time", d.input("a", { time: 50 }), d.input("x", { time: 50 })),
    8,
  );
  assert(!few.lines.includes("enable subgroups;"));
});

Deno.test("on a CPU, a row is printed element after element only while that is short", () => {
  const x: AnyTensor = d.input("x", { time: 2000, channel: 240 });
  const printed = (of: AnyTensor) =>
    kernel(d.sum(of, "channel"), 8).lines.filter((line) => / = tanh_\(/.test(line)).length;
  assertStrictEquals(printed(d.tanh(x)), 30);
  const heavy = Array.from({ length: 15 }).reduce<AnyTensor>((y) => d.tanh(d.add(y, x)), x);
  assertStrictEquals(printed(heavy), 15, "compilers of drivers take long for long code");
  // What takes a loop of its own for each element is not printed thirty times either.
  const y: AnyTensor = d.input("y", { channel: 240, key: 9 });
  assertStrictEquals(printed(d.mul(d.tanh(x), d.max(d.sin(d.add(x, y)), "key"))), 1);
});

/** More elements than a workgroup does in turn, and not a multiple of them. */
const large = () => {
  const x = d.input("x", { time: 19, channel: 929 });
  return d.mul(d.add(x, d.input("b", { channel: 929 })), d.exp(d.input("s", {})));
};

Deno.test("on a CPU, an invocation of a large map computes several elements", () => {
  const { lines, grid } = kernel(large(), 8);
  assertEquals(grid, [Math.ceil(19 * 929 / (64 * 16)), 1, 1]);
  const loop = lines.findIndex((line) => line.includes("for (var turn = 0; turn < 16; turn++)"));
  const scalar = lines.findIndex((line) => line.includes("= exp_("));
  assert(0 < scalar && scalar < loop, "what is the same for all elements is computed once");
  assert(
    kernel(d.exp(x)).lines.every((line) => !line.includes("var turn")),
    "a small map fills no device",
  );
});

for (const [name, backend] of devices) {
  Deno.test({
    name: `a large map on ${name} agrees with the reference`,
    ignore: backend === undefined,
    fn: () => {
      const of = large();
      const values = {
        x: numbers(1, 19 * 929),
        b: numbers(2, 929),
        s: Float32Array.of(0.3),
      };
      return checkBackend(backend!, { large: { of, wrt: {}, values } });
    },
  });
}

Deno.test("more items than one dimension of a grid holds are folded, and the rest has no work", () => {
  const b = 65_539;
  const product = d.contract(
    d.input("x", { b, m: 4, k: 128 }),
    d.input("y", { b, k: 128, n: 4 }),
    "k",
  );
  const row = d.softmax(d.input("x", { b, k: 300 }), "k");
  for (
    const [of, guard] of [[product, /if \(item >= (\d+)\)/], [
      row,
      />= (\d+)\) \{ return; \}/,
    ]] as const
  ) {
    const { grid, lines } = kernel(of);
    const groups = grid.reduce((a, b) => a * b, 1), found = lines.join("\n").match(guard);
    assertLessOrEqual(Math.max(...grid), 65_535, `a grid of ${grid}`);
    assertStrictEquals(Number(found?.[1]), b, lines.join("\n"));
    if (of === product) assert(groups > b && groups < 1.01 * b, `${groups} workgroups`);
  }
});

Deno.test("tiles read no further than the last row, column and term of their operands", () => {
  const [m, n, k] = [33, 41, 55];
  const of = d.contract(d.input("x", { m, k }), d.input("y", { k, n }), "k");
  const lowered = lower({ outputs: { of: { of, order: ["m", "n"] } } }), bound = binder();
  const [made] = lowered.kernels;
  if (made.shape === "scan") throw new Error("a product is no scan");
  const body = printExpression(made, lowered.stored, { onCpu: false }, bound);
  const { wgsl } = moduleOf([body], bound);
  const ends = [...wgsl.matchAll(/min\((row0|column0|k0) \+ \w+, (\d+)\)/g)];
  assertEquals(
    new Set(ends.map(([, from, last]) => `${from} ${last}`)),
    new Set([`row0 ${m - 1}`, `column0 ${n - 1}`, `k0 ${k - 1}`]),
  );
});

Deno.test("no variable is called like a type", () => {
  const emit = emitter(new Map(), new Set());
  const names = Array.from({ length: 200 }, (_, k) => emit.fresh("iuf"[k % 3]));
  assertEquals(names.filter((name) => ["i32", "u32", "f32", "f16"].includes(name)), []);
  assertStrictEquals(new Set(names).size, names.length);
  const only = emitter(new Map(), new Set());
  assert(!Array.from({ length: 40 }, () => only.fresh("i")).includes("i32"));
});
