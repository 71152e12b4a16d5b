// What programs cost when they are compiled, as numbers: kernels, functions, bytes that are moved and
// held, operations, how long the code is, and a checksum of it. No device is needed. costs.json has them as they should
// be; `deno run -A tests/backends/lower/costs.ts` writes it anew, for a change that is meant to change them.
import fc from "fast-check";
import type { Program, ProgramReport } from "../../../backends/backend.ts";
import * as onWasm from "../../../backends/wasm/compile.ts";
import * as onGpu from "../../../backends/webgpu/compile.ts";
import type { Target } from "../../../backends/webgpu/target.ts";
import type { AnyTensor, Axes } from "../../../dsl/axes.ts";
import { grad } from "../../../dsl/grad.ts";
import { nodeOf, tensorOf } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";
import { rename } from "../../../dsl/structure.ts";
import { zeros } from "../../../models/initialisers.ts";
import { chunkwiseMlstm, type MlstmInputs, parallelMlstm } from "../../../models/mlstm.ts";
import { slstm, type Units } from "../../../models/slstm.ts";
import { kindsOf } from "../../programs/kinds.ts";
import { generate, programOf as randomProgram, recipes } from "../../programs/recipes.ts";
import { plainMatrices } from "../../support/plain_matrices.ts";
import { gpuLimits, tinyStep } from "../../support/tiny_steps.ts";

/** Numbers of a compiled program. Lengths of code are in bytes of functions or characters of WGSL. */
export interface Cost {
  readonly kernels: number;
  /** Distinct pieces of code. */
  readonly functions: number;
  /** What starts: calls of functions, or dispatches. */
  readonly starts: number;
  /** Units of work or workgroups of all that starts. */
  readonly units: number;
  readonly flops: number;
  readonly moved: number;
  readonly held: number;
  readonly code: number;
  /** FNV-1a of all code, in the order in which it runs: it is other code, where nothing else tells. */
  readonly checksum: string;
}
/** The numbers in the order in which costs.json has them, for each device and program. */
export const costNames = [
  ...["kernels", "functions", "starts", "units", "flops", "moved", "held", "code"] as const,
  "checksum" as const,
] satisfies (keyof Cost)[];

type Build = (x: Readonly<Record<string, AnyTensor>>) => AnyTensor;
const output = (of: AnyTensor) => ({ of, order: Object.keys(nodeOf(of).axes) });
const programOf = (outputs: Readonly<Record<string, AnyTensor>>): Program => ({
  outputs: Object.fromEntries(Object.entries(outputs).map(([name, of]) => [name, output(of)])),
});
const made: Record<string, Program> = {};
const inputs = (axes: Readonly<Record<string, Axes>>) =>
  Object.fromEntries(Object.entries(axes).map(([name, of]) => [name, d.input(name, of)]));
const slopes = (of: AnyTensor, x: Readonly<Record<string, AnyTensor>>) => {
  const weights: AnyTensor = d.input("slope", nodeOf(of).axes);
  return grad(d.sum(d.mul(of, weights) as AnyTensor, Object.keys(nodeOf(of).axes)), x);
};
/** A value; and its gradients, unless it has none. */
const both = (name: string, axes: Readonly<Record<string, Axes>>, build: Build): void => {
  const x = inputs(axes), of = build(x);
  made[name] = programOf({ of });
  made[`${name}, back`] = programOf(slopes(of, x));
};
const one = (name: string, axes: Readonly<Record<string, Axes>>, build: Build): void => {
  made[name] = programOf({ of: build(inputs(axes)) });
};
const renamed = (x: AnyTensor, from: string, to: string): AnyTensor =>
  tensorOf(rename(nodeOf(x), from, to));
const all = (x: AnyTensor): AnyTensor => d.sum(x, Object.keys(nodeOf(x).axes));
const times = (n: number, of: (x: AnyTensor) => AnyTensor, x: AnyTensor): AnyTensor =>
  n === 0 ? x : times(n - 1, of, of(x));

// Products around the sizes from which on tiles, parts and more results for each invocation pay.
for (
  const [m, n, k] of [
    ...[[3, 100, 100], [4, 100, 100], [100, 4, 100], [100, 100, 7], [100, 100, 8]],
    ...[[16, 16, 8], [15, 16, 8], [33, 65, 300], [64, 64, 4096], [64, 64, 1024], [1, 500, 500]],
    ...[[64, 128, 40_000], [500, 500, 500], [1024, 192, 768]],
    ...[[20, 20, 100], [64, 64, 256], [64, 64, 512], [64, 64, 2048], [128, 192, 2048]],
    ...[[256, 256, 1000], [40, 900, 60], [900, 20, 60], [7, 9, 33], [2000, 10, 12]],
  ]
) {
  one(
    `product ${m} x ${n} over ${k}`,
    { x: { m, k }, y: { k, n } },
    ({ x, y }) => d.contract(x, y, "k"),
  );
}
both(
  "batched product",
  { x: { b: 6, m: 50, k: 40 }, y: { b: 6, k: 40, n: 30 } },
  ({ x, y }) => d.gelu(d.contract(d.tanh(x), y, "k")),
);
both(
  "product over two axes",
  { x: { m: 50, k: 6, l: 9 }, y: { l: 9, n: 30, k: 6 } },
  ({ x, y }) => d.contract(x, y, ["k", "l"]),
);
both("product with bias and norm", { x: { m: 300, k: 96 }, w: { k: 96, n: 64 }, b: { n: 64 } }, (
  { x, w, b },
) => d.softmax(d.add(d.contract(x, w, "k"), b), "n"));
both("convolution", { x: { t: 250, c: 16 }, w: { tap: 5, c: 16, o: 24 } }, ({ x, w }) =>
  d.contract(
    d.slidingWindows(x, "t", { out: "t", tap: "tap", size: 5 }, { stride: 2, before: 2, after: 2 }),
    w,
    ["tap", "c"],
  ));
both(
  "depthwise convolution",
  { x: { t: 250, c: 16 }, w: { tap: 4, c: 16 } },
  ({ x, w }) =>
    d.silu(d.sum(
      d.mul(d.slidingWindows(x, "t", { out: "t", tap: "tap", size: 4 }, { before: 3 }), w),
      "tap",
    )),
);

// Values that several kernels use: computed again, or stored, by their work and by their size.
for (const [size, link] of [[40, 1], [40, 5], [300, 1], [300, 2], [300, 3], [300, 5], [300, 9]]) {
  one(`a value of ${size} x ${size} and ${link} functions, summed both ways`, {
    x: { i: size, j: size },
  }, ({ x }) => {
    const y = times(link, (x) => d.exp(d.mul(x, x)), x);
    return d.add(d.sum(y, "i") as AnyTensor, renamed(d.sum(y, "j") as AnyTensor, "i", "j"));
  });
  one(`a value of ${size} x ${size} and ${link} functions, in two products`, {
    ...{ x: { i: size, j: size }, a: { j: size, k: 64 }, b: { j: size, k: 64 } },
  }, ({ x, a, b }) => {
    const y = times(link, (x) => d.sin(d.mul(x, x)), x);
    return d.add(d.contract(y, a, "j"), d.contract(y, b, "j"));
  });
}
for (const size of [8, 15, 16, 17, 40]) {
  both(
    `sums of ${size} terms that elements use`,
    { x: { i: 200, j: size } },
    ({ x }) => d.mul(x, d.sum(d.square(x), "j")),
  );
  one(
    `a sum of ${size} sums`,
    { x: { i: size, j: size, k: 100 } },
    ({ x }) => d.sum(d.square(d.sum(d.exp(x), "i")), "j"),
  );
}
for (const [i, j] of [[7, 5], [200, 33], [2000, 33], [3, 1500], [1, 1000], [100_000, 2]]) {
  both(`softmax of ${i} x ${j}`, { x: { i, j } }, ({ x }) => d.softmax(x, "j"));
  both(`norm of ${i} x ${j}`, { x: { i, j }, w: { j } }, ({ x, w }) => {
    const centred = d.sub(x, d.mean(x, "j"));
    return d.mul(d.div(centred, d.sqrt(d.add(d.mean(d.square(centred), "j"), 1e-5))), w);
  });
  one(`softmax along the first axis of ${i} x ${j}`, { x: { j, i } }, ({ x }) => d.softmax(x, "j"));
}
// Long sums around the sizes from which on they are done in parts.
for (
  const axes of [
    ...[{ i: 65_535 }, { i: 65_536 }, { i: 1_000_003 }, { i: 65_536, j: 64 }, { i: 65_536, j: 65 }],
    ...[{ i: 31, j: 33 }, { i: 32, j: 32 }, { i: 100, j: 2000 }, { i: 7, j: 600, k: 5000 }],
  ] as readonly Axes[]
) {
  const sizes = Object.entries(axes).map(([axis, size]) => `${axis} ${size}`).join(", ");
  one(
    `the sum of ${sizes}`,
    { x: axes },
    ({ x }) =>
      d.sum(d.exp(x), Object.keys(nodeOf(x).axes).filter((axis) => axis !== "k" && axis !== "j")),
  );
  one(`the sum of all of ${sizes}`, { x: axes }, ({ x }) => all(d.exp(x)));
  one(`the maximum of ${sizes}`, { x: axes }, ({ x }) => d.max(x, "i"));
}

// What is moved about.
one("look-ups", { x: { row: 50, j: 20 } }, ({ x }) => {
  const at = d.input("at", { t: 300 }, "u32");
  return d.exp(d.gather(x, "row", at) as AnyTensor);
});
both(
  "gather and its gradient",
  { x: { row: 50, j: 20 } },
  ({ x }) => d.gather(x, "row", d.input("at", { t: 300 }, "u32")) as AnyTensor,
);
both("movements", { x: { i: 120, j: 30 } }, ({ x }) => {
  const split = d.split(d.flip(d.pad(x, "i", 2, 6), "i"), "i", { a: 16, b: 8 });
  return d.concat(d.merge(split, ["b", "a"], "i"), d.slice(x, "i", 3, 50, 2), "i");
});
both("a value and its transpose", { x: { i: 90, j: 90 } }, ({ x }) => {
  const turned = renamed(renamed(renamed(d.sin(x), "i", "k"), "j", "i"), "k", "j");
  return d.add(d.exp(x), turned);
});
// With two heads of 32 tokens, a mask is as large as what may be stored in loops, and scores are larger.
// That is worth a loop where the product is more than eight times as large as what it is made of.
for (const [h, t, f] of [[3, 60, 16], [2, 32, 1], [2, 32, 2], [2, 64, 2]]) {
  both(`attention of ${t} tokens by ${f} features`, {
    q: { h, t, f },
    k: { h, s: t, f },
    v: { h, s: t, f },
  }, (
    { q, k, v },
  ) => {
    const hidden = d.less(d.iota("t", t), d.iota("s", t)) as AnyTensor;
    const scores = d.select(hidden, d.constant(-1e9), d.contract(q, k, "f")) as AnyTensor;
    return d.contract(d.softmax(scores, "s"), v, "s");
  });
}

// Scans: by lanes, in chunks, together, with sums inside.
for (
  const [t, c, reverse] of [[30, 7, false], [300, 64, true], [4000, 8, false], [500, 3000, false]]
) {
  both(`recurrence of ${t} x ${c}${reverse ? ", back in time" : ""}`, {
    a: { t: t as number, c: c as number },
    b: { t: t as number, c: c as number },
  }, ({ a, b }) => d.recurrence("t", d.sigmoid(a), b, { reverse: reverse as boolean }));
}
both("selective scan", {
  ...{ u: { b: 2, t: 120, c: 40 }, dt: { b: 2, t: 120, c: 40 }, A: { c: 40, n: 16 } },
  ...{ B: { b: 2, t: 120, n: 16 }, C: { b: 2, t: 120, n: 16 } },
}, ({ u, dt, A, B, C }) => {
  const delta = d.softplus(dt);
  const h = d.recurrence("t", d.exp(d.mul(delta, A)), d.mul(d.mul(delta, B), u));
  return d.add(d.contract(h, C, "n"), u);
});
both("a step with a matrix, a norm and a second carry", {
  ...{ x: { t: 20, b: 3, c: 48 }, w: { c: 48, e: 48 }, s: { c: 48 } },
}, ({ x, w, s }) => {
  const { out, final } = d.scan(
    {
      over: "t",
      from: { h: d.expand(s, { b: 3 }) as AnyTensor, n: d.constant(0.1) as AnyTensor },
      each: { x },
    },
    ({ h, n }, { x }) => {
      const mixed = renamed(d.contract(h, w, "c"), "e", "c");
      const next = d.tanh(d.add(d.add(mixed, x), n));
      const norm = d.mean(d.square(next), ["b", "c"]);
      return {
        next: { h: next, n: d.add(d.mul(n, 0.5), norm) as AnyTensor },
        out: { y: next, z: d.sum(next, "c") },
      };
    },
  );
  return d.add(d.add(out.y, out.z), final.n) as AnyTensor;
});
{
  const zero = d.expand(d.constant(0), { batch: 2, head: 4, unit: 64 }) as Units;
  both(
    "sLSTM cell",
    {
      x: { batch: 2, token: 9, gate: 4, head: 4, unit: 64 },
      recurrent: { head: 4, gate: 4, unit: 64, other: 64 },
      bias: { gate: 4, head: 4, unit: 64 },
    },
    ({ x, recurrent, bias }) =>
      slstm({ x, recurrent, bias, from: { y: zero, c: zero, n: zero, m: zero } } as never).out,
  );
}
for (const [name, cell] of [["parallel", parallelMlstm], ["chunkwise", chunkwiseMlstm]] as const) {
  const vector = { batch: 2, head: 2, token: 96, feature: 24 };
  const gate = { batch: 2, head: 2, token: 96 };
  both(`mLSTM cell, ${name}`, {
    ...{ q: vector, k: vector, v: vector, inputGate: gate, forgetGate: gate },
  }, (x) => cell(x as unknown as MlstmInputs));
}

// Recurrences from few lanes to many and from few steps to many, of little work and of more.
for (const t of [20, 200, 2000]) {
  for (const c of [1, 8, 64, 512, 4096]) {
    const axes = { a: { t, c }, b: { t, c } };
    one(`little recurrence of ${t} x ${c}`, axes, ({ a, b }) => d.recurrence("t", a, b));
    one(`recurrence with sums of ${t} x ${c}`, { ...axes, x: { t, c, n: 6 } }, ({ a, b, x }) => {
      const zero = { h: d.expand(d.constant(0), { c, n: 6 }) as AnyTensor };
      const { out } = d.scan({ over: "t", from: zero, each: { a, b, x } }, ({ h }, { a, b, x }) => {
        const next = d.add(d.mul(d.sigmoid(a), h), d.mul(b, d.exp(x))) as AnyTensor;
        return { next: { h: next }, out: { y: d.sum(d.mul(next, d.sub(x, d.mean(x, "n"))), "n") } };
      });
      return out.y;
    });
  }
}

// Blocks one after the other: what the gradient needs late is kept, or computed again.
for (
  const [depth, rows, width] of [
    ...[[3, 64, 64], [10, 64, 64], [3, 512, 64], [10, 512, 64], [6, 255, 64], [6, 256, 64]],
  ]
) {
  const x = inputs({ x: { row: rows, c: width } });
  const weights = Object.fromEntries(
    Array.from({ length: depth }, (_, k) => [`w${k}`, d.input(`w${k}`, { c: width, e: width })]),
  );
  const block = (h: AnyTensor, w: AnyTensor): AnyTensor => {
    const parts = d.split(h, "c", { g: width / 8, u: 8 });
    const centred = d.sub(parts, d.mean(parts, "u")) as AnyTensor;
    const normal = d.div(centred, d.sqrt(d.add(d.mean(d.square(centred), "u"), 0.1)));
    const mixed = d.contract(d.merge(normal as AnyTensor, ["g", "u"], "c") as AnyTensor, w, "c");
    return d.add(h, d.gelu(renamed(mixed, "e", "c")));
  };
  made[`${depth} blocks of ${rows} x ${width}`] = programOf(
    slopes(Object.values(weights).reduce(block, x.x), { ...x, ...weights }),
  );
}

// Steps that mix their carry: values kept for later phases, gates of fewer positions than what they gate,
// carries at other positions, several matrices of which a lane holds some.
for (const [b, c, matrices] of [[1, 16, 1], [3, 33, 2], [20, 48, 1], [2, 96, 4], [5, 64, 3]]) {
  const weights = Object.fromEntries(
    Array.from({ length: matrices }, (_, k) => [`w${k}`, { c, e: c }]),
  );
  const axes = { x: { t: 12, b, c }, s: { b, c }, v: { c, g: 4 }, ...weights };
  both(`a step that mixes ${b} x ${c} by ${matrices} matrices`, axes, ({ x, s, v, ...w }) => {
    const { out } = d.scan({ over: "t", from: { h: s, m: s }, each: { x } }, ({ h, m }, { x }) => {
      const turned = Object.values(w).map((w) => renamed(d.contract(h, w, "c"), "e", "c"));
      const mixed = turned.reduce((a, b) => d.add(a, b));
      const gate = d.sigmoid(d.sum(d.tanh(d.contract(m, v, "c")), "g"));
      const next = d.tanh(d.add(d.mul(gate, mixed), x));
      const before = d.flip(m, "c");
      return {
        next: { h: next, m: d.add(d.mul(m, 0.9), d.mul(before, 0.1)) },
        out: { y: d.mul(next, d.sub(h, d.mean(h, "c"))), z: d.add(before, d.max(next, "b")) },
      };
    });
    return d.add(out.y, out.z) as AnyTensor;
  });
}
// Reductions of the same rows, around the most that one kernel takes.
for (const count of [8, 15, 16, 17, 18, 33]) {
  const x = d.input("x", { i: 300, j: 40 });
  const sums = Array.from(
    { length: count },
    (_, k) => [`y${k}`, d.sum(d.sin(d.mul(x, k + 1)), "j") as AnyTensor] as const,
  );
  made[`${count} sums of the same rows`] = programOf(Object.fromEntries(sums));
  made[`${count} sums of two kinds of rows`] = programOf(Object.fromEntries(
    sums.map(([name, y], k) =>
      [name, k % 2 === 0 ? y : d.max(d.mul(x, d.constant(k)), "j") as AnyTensor] as const
    ),
  ));
  made[`${count} sums that one map reads`] = programOf({
    y: sums.map(([, y]) => y).reduce((a, b) => d.add(d.mul(a, b), d.sum(x, "j")) as AnyTensor),
  });
}
// Axes of one name in several sizes, some of them more often than others.
{
  const x = d.input("x", { i: 40, j: 6 });
  const parts = [7, 20, 7, 13].map((size, k) => d.slice(x, "i", k, size) as AnyTensor);
  made["one axis in three sizes"] = programOf({
    ...Object.fromEntries(parts.map((part, k) => [`y${k}`, d.exp(d.sum(part, "j")) as AnyTensor])),
    all: parts.map((part) => d.sum(d.square(part), ["i", "j"]) as AnyTensor)
      .reduce((a, b) => d.mul(a, b) as AnyTensor),
  });
}
// Leaves as outputs and as new values, some of which others overwrite.
{
  const [p, q] = ["p", "q"].map((name) => d.param(name, { i: 6, j: 5 }, zeros) as AnyTensor);
  const x: AnyTensor = d.input("x", { i: 6, j: 5 });
  made["leaves to outputs and parameters"] = {
    outputs: {
      p: { of: p, order: ["j", "i"] },
      x: { of: x, order: ["i", "j"] },
      y: { of: d.add(p, q) as AnyTensor, order: ["i", "j"] },
    },
    updates: { p: q, q: p },
  };
  made["a parameter and its new value"] = {
    outputs: { was: { of: p, order: ["i", "j"] }, turned: { of: q, order: ["j", "i"] } },
    updates: { p: d.exp(p), q: d.add(q, d.sum(p, "j")) as AnyTensor },
  };
}
// Reads along merged, split, padded and strided axes, in rows and in maps.
for (const [i, j] of [[6, 8], [5, 7], [33, 12]]) {
  both(`movements inside of sums of ${i} x ${j}`, { x: { i, j }, y: { i, j } }, ({ x, y }) => {
    const flat = d.merge(d.exp(x), ["i", "j"], "n");
    const wide = d.pad(d.merge(y, ["j", "i"], "n"), "n", 3, 5);
    const every = d.slice(wide, "n", 1, i * j, 1);
    const back = d.split(d.flip(d.mul(flat, every), "n"), "n", { j, i });
    return d.add(d.sum(back, "j"), d.sum(d.mul(back, d.max(back, "i")), "j")) as AnyTensor;
  });
  both(`windows of ${i} x ${j}`, { x: { i, j } }, ({ x }) => {
    const w = d.slidingWindows(x, "j", { out: "j", tap: "k", size: 3 }, {
      stride: 2,
      before: 1,
      after: 2,
    });
    return d.mul(d.softmax(w, "k"), d.sum(w, ["k", "j"])) as AnyTensor;
  });
}
// Who attains a maximum, through renames; f16 keeps what is compared.
both("who attains a maximum", { x: { i: 90, j: 60 } }, ({ x }) => {
  const y = d.sin(d.mul(x, x)), top = d.max(y, "j");
  const isTop = d.equal(renamed(y, "i", "k"), renamed(top, "i", "k")) as AnyTensor;
  return d.mul(d.toFloat(isTop), renamed(y, "i", "k")) as AnyTensor;
});
both("a product of expanded factors", { x: { i: 70, j: 50 }, y: { i: 70 }, z: { j: 50 } }, (
  { x, y, z },
) => {
  const scaled = d.mul(d.mul(x, y), d.mul(d.exp(z), y));
  return d.add(d.sum(d.mul(scaled, d.square(z)), "i"), d.sum(d.mul(scaled, x), "i")) as AnyTensor;
});
for (const chunk of [40, 3000]) {
  both(`recurrences whose outputs read their inputs, ${chunk} steps`, {
    ...{ a: { t: chunk, c: 24 }, b: { t: chunk, c: 24 }, q: { t: chunk, c: 24 } },
  }, ({ a, b, q }) => {
    const { out } = d.scan(
      {
        over: "t",
        from: { h: d.expand(d.constant(0), { c: 24 }) as AnyTensor },
        each: { a, b, q },
      },
      ({ h }, { a, b, q }) => {
        const next = d.add(d.mul(d.sigmoid(a), h), b) as AnyTensor;
        return { next: { h: next }, out: { y: d.mul(q, next), s: d.mul(h, q), u: d.sin(b) } };
      },
    );
    return d.add(d.add(out.y, out.s), out.u) as AnyTensor;
  });
}

// Many parameters, changed side by side.
{
  const weights = Object.fromEntries([[40, 30], [30, 20], [1, 300], [64, 64], [5000, 3]].map(
    ([i, j], k) => [`w${k}`, d.param(`w${k}`, { i, j }, zeros) as AnyTensor],
  ));
  const loss = Object.values(weights).map((w) => all(d.square(d.sin(w))))
    .reduce((a, b) => d.add(a, b) as AnyTensor);
  made["updates"] = {
    ...programOf({ loss }),
    updates: grad(loss, weights),
  };
}
for (const family of ["transformer", "mamba", "xlstm"] as const) {
  made[`${family} step`] = tinyStep(family, "all", 1);
}

// What nobody thought of; long chains, which are tested by themselves, take as long as all the others.
fc.sample(recipes, { seed: 20261, numRuns: 80 }).forEach((recipe, k) => {
  const of = generate(recipe);
  if (of !== undefined && !kindsOf(of).has("a chain of a thousand")) {
    made[`random program ${k}`] = randomProgram(of);
  }
});

const target = (of: Partial<Target>) => (program: Program) => {
  const place = {
    name: "a GPU",
    limits: gpuLimits,
    target: { onCpu: false, ...of },
    oneForParams: true,
  };
  const compiled = onGpu.compile(program, place), report = onGpu.programReport(compiled);
  const printed = compiled.steps.map(({ code: { wgsl } }) => wgsl);
  return { kernels: compiled.lowered.kernels.length, report, printed };
};
const wasm = (wide: boolean, storedLimit?: number) => (program: Program) => {
  const compiled = onWasm.compile(program, { engine: { relaxed: !wide, wide }, storedLimit });
  const functions = new Map(
    compiled.steps.flatMap(({ launches }) =>
      launches.map(({ func }) => [`${func.locals} ${func.body}`, func] as const)
    ),
  );
  const code = [...functions.values()].reduce(
    (n, { body, locals }) => n + body.length + locals.length,
    0,
  );
  const kernels = compiled.lowered.kernels.length;
  const report = onWasm.programReport(compiled, functions.size);
  const launches = compiled.steps.flatMap(({ launches }) => launches);
  return {
    kernels,
    report,
    code,
    printed: launches.flatMap(({ func, units }) => [[units], func.locals.join(), func.body]),
    held: compiled.arenaBytes + compiled.scratchBytes,
    starts: launches.length,
    units: launches.reduce((n, { units }) => n + units, 0),
  };
};

type Compiled = {
  readonly kernels: number;
  readonly report: ProgramReport;
  readonly printed: Iterable<string | readonly number[]>;
  readonly code?: number;
  readonly held?: number;
  readonly starts?: number;
  readonly units?: number;
};
/** How programs are compiled for each kind of device. */
const devices: Readonly<Record<string, (program: Program) => Compiled>> = {
  "WebAssembly": wasm(false),
  "WebAssembly with vectors in pairs": wasm(true),
  "WebAssembly in loops": wasm(false, 2 ** 12),
  "a GPU": target({}),
  "a GPU in f16": target({ halvesFrom: 1 }),
  "a GPU in parts": target({
    parallelism: { groups: 2 ** 20, lanes: 2 ** 30, launchCost: 0, gain: 0 },
  }),
  "a GPU by matrices": target({
    matrices: plainMatrices("f32", { rows: 16, columns: 8, over: 8 }, 32),
  }),
  "a CPU": target({ onCpu: true, subgroup: 8, unrolls: true }),
};

/** The kinds of devices that programs are compiled for. */
export const deviceNames: readonly string[] = Object.keys(devices);

const checksumOf = (printed: Compiled["printed"]): string => {
  let hash = 0x811c9dc5;
  for (const piece of printed) {
    for (let k = 0; k < piece.length; k++) {
      const unit = typeof piece === "string" ? piece.charCodeAt(k) : piece[k];
      hash = Math.imul(hash ^ unit, 0x01000193);
    }
  }
  return (hash >>> 0).toString(16).padStart(8, "0");
};

/** What all programs cost on a kind of device, by their names. */
export const costsOn = (device: string): Readonly<Record<string, Cost>> => {
  const total = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
  const costOf = ({ kernels, report, ...own }: Compiled): Cost => {
    const codes = () => [...new Set(report.kernels.map(({ code }) => code))];
    const groups = () => report.kernels.map(({ grid }) => grid.reduce((a, b) => a * b, 1));
    return {
      kernels,
      functions: report.pipelines,
      starts: own.starts ?? report.kernels.length,
      units: own.units ?? total(groups()),
      flops: total(report.kernels.map(({ flops }) => flops)),
      moved: total(report.kernels.map(({ bytesRead, bytesWritten }) => bytesRead + bytesWritten)),
      held: own.held ?? report.peakBytes,
      code: own.code ?? total(codes().map((code) => code.length)),
      checksum: checksumOf(own.printed),
    };
  };
  return Object.fromEntries(
    Object.entries(made).map(([name, of]) => [name, costOf(devices[device](of))]),
  );
};

if (import.meta.main) {
  const lineOf = ([name, cost]: [string, Cost]) =>
    `    ${JSON.stringify(name)}: ${JSON.stringify(costNames.map((key) => cost[key]).join(" "))}`;
  const text = deviceNames.map((device) =>
    `  ${JSON.stringify(device)}: {\n${
      Object.entries(costsOn(device)).map(lineOf).join(",\n")
    }\n  }`
  );
  Deno.writeTextFileSync(new URL("costs.json", import.meta.url), `{\n${text.join(",\n")}\n}\n`);
}
