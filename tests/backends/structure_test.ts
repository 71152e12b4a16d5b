// The structural primitives and what is made of them: derivatives against central differences, and
// devices against the reference. Sizes are 1, primes, and numbers that neither 4 nor 64 divides.
import { assert, assertStrictEquals } from "@std/assert";
import { size } from "../../backends/lower/kernel_ir.ts";
import { lower } from "../../backends/lower/pipeline.ts";
import type { AnyTensor, Axes } from "../../dsl/axes.ts";
import { volume } from "../../dsl/axes.ts";
import type { Tensors } from "../../dsl/grad.ts";
import { grad } from "../../dsl/grad.ts";
import { nodeOf, tensorOf } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import * as structure from "../../dsl/structure.ts";
import { type Case, checkBackend, checkDerivatives, numbers, words } from "../support/check.ts";
import { devices, webgpuAsGpu } from "../support/device.ts";

/** Inputs `x0`, `x1`, ... of the given axes, and the expression that `build` makes of them. */
const made = (
  axes: readonly Axes[],
  build: (...x: readonly AnyTensor[]) => AnyTensor,
  { low = -1, high = 1, words: given = {} }: {
    readonly low?: number;
    readonly high?: number;
    readonly words?: Readonly<Record<string, Uint32Array>>;
  } = {},
): Case => {
  const wrt: Tensors = Object.fromEntries(axes.map((one, k) => [`x${k}`, d.input(`x${k}`, one)]));
  const floats = axes.map((one, k) => [`x${k}`, numbers(k + 5, volume(one), low, high)]);
  return {
    of: build(...Object.values(wrt)),
    wrt,
    values: { ...Object.fromEntries(floats), ...given },
  };
};

/** `rename` for axes that the checker does not know. */
const renamed = (x: AnyTensor, from: string, to: string): AnyTensor =>
  tensorOf(structure.rename(nodeOf(x), from, to));

const curved = (x: AnyTensor): AnyTensor => d.mul(x, d.sin(x));

const movements: Record<string, Case> = {};
for (const [i, j] of [[1, 7], [7, 6], [67, 12], [130, 3]]) {
  const x = { i, j };
  const move = (name: string, build: (x: AnyTensor) => AnyTensor) => {
    movements[`${name} of ${i} x ${j}`] = made([x], (x) => curved(build(curved(x))));
  };
  move("rename", (x) => renamed(x, "i", "k"));
  move("merge", (x) => d.merge(x, ["j", "i"], "k"));
  if (j % 3 === 0) move("split", (x) => d.split(x, "j", { a: j / 3, b: 3 }));
  if (j % 3 === 0) {
    move(
      "split and merge the other way",
      (x) => d.merge(d.split(x, "j", { a: j / 3, b: 3 }), ["b", "a"], "j"),
    );
  }
  move("slice", (x) => d.slice(x, "j", 1, 2));
  if (i > 4) move("slice by steps", (x) => d.slice(x, "i", 1, Math.floor((i - 2) / 3) + 1, 3));
  move("pad", (x) => d.pad(x, "i", 2, 1));
  move("pad with a number", (x) => d.pad(x, "j", 0, 3, 0.7));
  move("flip", (x) => d.flip(x, "j"));
  move("pick", (x) => d.take(x, "j", j - 1));
  move("expand", (x) => d.expand(x, { k: 5 }));
  move("concat", (x) => d.concat(x, d.flip(x, "i"), "i"));
  move("windows", (x) => d.slidingWindows(x, "j", { out: "at", tap: "tap", size: 3 }));
  move(
    "windows with strides",
    (x) =>
      d.slidingWindows(x, "i", { out: "at", tap: "tap", size: 4 }, {
        stride: 2,
        before: 3,
        after: 2,
      }),
  );
  move(
    "windows with gaps",
    (x) =>
      d.slidingWindows(x, "i", { out: "at", tap: "tap", size: 3 }, {
        dilation: 2,
        before: 4,
        after: 1,
      }),
  );
  move(
    "windows apart",
    (x) =>
      d.slidingWindows(x, "i", { out: "at", tap: "tap", size: 2 }, {
        stride: 5,
        before: 1,
        after: 4,
      }),
  );
  move("windows of windows", (x) =>
    d.slidingWindows(
      d.slidingWindows(x, "i", { out: "m", tap: "t", size: 3 }, { stride: 2, before: 2, after: 2 }),
      "m",
      { out: "n", tap: "u", size: 2 },
      { before: 1 },
    ));
  move("slice of flip of pad", (x) => d.slice(d.flip(d.pad(x, "i", 1, 3), "i"), "i", 1, i + 1));
}

const positions = (name: string, axes: Axes, below: number) => ({
  tensor: d.input(name, axes, "u32"),
  words: { [name]: words(3, volume(axes), below) },
});

const lookUps: Record<string, Case> = {};
for (const [rows, count] of [[1, 5], [13, 70], [130, 7]]) {
  const at = positions("at", { t: count }, rows);
  lookUps[`gather from ${rows} rows`] = made(
    [{ row: rows, j: 3 }],
    (x) => curved(d.gather(curved(x), "row", at.tensor)),
    { words: at.words },
  );
  const each = positions("each", { j: 3, t: count }, rows);
  lookUps[`gather from ${rows} rows, for each column`] = made(
    [{ row: rows, j: 3 }],
    (x) => curved(d.gather(x, "row", each.tensor)),
    { words: each.words },
  );
}

const reductions: Record<string, Case> = {};
for (const [i, j] of [[1, 1], [7, 5], [3, 130], [257, 6]]) {
  for (const over of [["i"], ["j"], ["i", "j"]]) {
    const name = `over ${over.join(" and ")} of ${i} x ${j}`;
    const reduced = (build: (x: AnyTensor) => AnyTensor) => made([{ i, j }], build);
    // Small sums: a large one's last digit in float32 is a large change of what is made of it.
    reductions[`sum ${name}`] = reduced((x) => curved(d.mul(d.sum(curved(x), over), 1 / 16)));
    reductions[`maximum ${name}`] = reduced((x) => curved(d.max(curved(x), over)));
    reductions[`variance ${name}`] = reduced((x) => {
      const centred = d.sub(x, d.mean(x, over));
      return d.mean(d.square(centred), over);
    });
  }
  reductions[`softmax of ${i} x ${j}`] = made([{ i, j }], (x) => d.softmax(d.mul(x, 3), "j"));
  reductions[`layer norm of ${i} x ${j}`] = made([{ i, j }, { j }, { j }], (x, scale, shift) => {
    const centred = d.sub(x, d.mean(x, "j"));
    const deviation = d.sqrt(d.add(d.mean(d.square(centred), "j"), 0.1));
    return d.add(d.mul(d.div(centred, deviation), scale), shift);
  });
}

const contractions: Record<string, Case> = {};
const product = (name: string, a: Axes, b: Axes, over: string | readonly string[]) => {
  contractions[name] = made([a, b], (x, y) => curved(d.contract(d.sin(x), y, over)));
};
product("tiny", { i: 1, k: 1 }, { k: 1, j: 1 }, "k");
product("tall", { i: 259, k: 5 }, { k: 5, j: 3 }, "k");
product("wide", { i: 2, k: 7 }, { k: 7, j: 261 }, "k");
product("deep", { i: 3, k: 515 }, { k: 515, j: 5 }, "k");
product("square", { i: 65, k: 67 }, { k: 67, j: 66 }, "k");
product("batched", { b: 5, i: 17, k: 9 }, { b: 5, k: 9, j: 33 }, "k");
product("batched twice", { b: 2, h: 3, i: 19, k: 6 }, { j: 21, b: 2, h: 3, k: 6 }, "k");
product("batch on one side", { b: 5, i: 17, k: 9 }, { k: 9, j: 33 }, "k");
product("over two axes", { i: 19, k: 6, l: 11 }, { l: 11, j: 18, k: 6 }, ["k", "l"]);
product("matrix and vector", { i: 130, k: 70 }, { k: 70 }, "k");
product("inner", { k: 131 }, { k: 131 }, "k");
product("transposed", { k: 66, i: 37 }, { j: 41, k: 66 }, "k");
contractions["attention"] = made(
  [{ h: 2, t: 19, f: 6 }, { h: 2, s: 19, f: 6 }, { h: 2, s: 19, f: 6 }],
  (q, k, v) => d.contract(d.softmax(d.contract(q, k, "f"), "s"), v, "s"),
);
contractions["convolution"] = made(
  [{ t: 50, c: 3 }, { tap: 5, c: 3, o: 7 }],
  (x, w) =>
    d.contract(
      d.slidingWindows(x, "t", { out: "t", tap: "tap", size: 5 }, {
        stride: 2,
        before: 2,
        after: 2,
      }),
      w,
      ["tap", "c"],
    ),
);

const scans: Record<string, Case> = {};
for (const reverse of [false, true]) {
  const way = reverse ? "reverse" : "forward";
  for (const [t, c] of [[1, 1], [7, 5], [37, 66], [130, 3]]) {
    const at = `${way}, ${t} steps of ${c}`;
    scans[`recurrence ${at}`] = made(
      [{ t, c }, { t, c }],
      (a, b) => curved(d.recurrence("t", d.mul(a, 0.9), curved(b), { reverse })),
    );
  }
  for (const [t, c] of [[1, 1], [7, 5], [37, 14], [130, 3]]) {
    const at = `${way}, ${t} steps of ${c}`;
    scans[`scan with two carries, last carries, and values from outside ${at}`] = made(
      [{ t, c }, { c }, { c, e: c }, {}],
      (x, w, mix, s) => {
        const made = d.scan(
          { over: "t", from: { h: d.sin(w), n: s }, each: { x }, reverse },
          ({ h, n }, { x }) => {
            const mixed = renamed(d.contract(h, mix, "c"), "e", "c");
            const h2 = d.tanh(d.add(d.add(d.mul(mixed, 1 / c), x), n));
            const n2 = d.add(d.mul(n, 0.5), d.mean(d.mul(h2, w), "c"));
            return { next: { h: h2, n: n2 }, out: { y: d.mul(h2, s), z: n2 } };
          },
        );
        const both = d.add(d.mul(made.out.y, made.out.z), made.final.h);
        return d.add(both, made.final.n);
      },
    );
  }
  scans[`selective scan ${way}`] = made(
    [{ b: 2, t: 19, c: 6 }, { b: 2, t: 19, c: 6 }, { c: 6, n: 5 }, { b: 2, t: 19, n: 5 }, {
      b: 2,
      t: 19,
      n: 5,
    }],
    (u, dt, A, B, C) => {
      const delta = d.softplus(dt);
      const a = d.exp(d.mul(delta, d.neg(d.exp(A))));
      const h = d.recurrence("t", a, d.mul(d.mul(delta, B), u), { reverse });
      return d.add(d.contract(h, C, "n"), u);
    },
  );
}
/** The product of the Hessian of a scalar and a direction, itself differentiable. */
const hessianTimes = (x: AnyTensor, v: AnyTensor, of: (x: AnyTensor) => AnyTensor): AnyTensor => {
  const { x: slope } = grad(of(x), { x });
  const along = d.sum(d.mul(slope, v), Object.keys(nodeOf(x).axes));
  return grad(along, { x }).x;
};
scans["Hessian-vector product through a scan"] = made(
  [{ t: 9, c: 5 }, { t: 9, c: 5 }],
  (x, v) =>
    hessianTimes(x, v, (x) => {
      const start: AnyTensor = d.expand(d.constant(0.2), { c: 5 });
      const { out } = d.scan(
        { over: "t", from: { h: start }, each: { x } },
        ({ h }, { x }) => {
          const next = d.tanh(d.add(d.mul(h, x), x));
          return { next: { h: next }, out: { y: next } };
        },
      );
      return d.sum(d.square(out.y), ["t", "c"]);
    }),
);

/** What several kernels choose by: booleans that are stored, since they take long to compute. */
const chosen = (x: AnyTensor): AnyTensor => {
  const slow = (x: AnyTensor): AnyTensor => d.sin(d.add(d.exp(d.sin(d.erf(x))), x));
  return d.less(slow(slow(slow(slow(x)))), d.constant(0.2)) as AnyTensor;
};
const truths: Record<string, Case> = {};
for (const [i, j] of [[70, 33], [5, 8]]) {
  truths[`stored, of ${i} x ${j}`] = made(
    [{ i, j }, { i, k: 9 }, { j, k: 9 }],
    (x, a, b) => {
      const is = chosen(x);
      const some = d.select(is, x, d.constant(0.5)) as AnyTensor;
      const others = d.select(is, d.constant(-1), d.sin(x)) as AnyTensor;
      const both = d.add(d.contract(some, b, "j"), a) as AnyTensor;
      return d.add(d.sum(both, "i"), d.contract(d.sum(others, "i") as AnyTensor, b, "j"));
    },
  );
}
Deno.test("booleans that take long to compute are stored", () => {
  const { of } = truths["stored, of 70 x 33"];
  const { stored } = lower({ outputs: { of: { of, order: ["k"] } } });
  assert([...stored.values()].some(({ dtype }) => dtype === "bool"));
});

for (
  const [kind, cases] of Object.entries({
    truths,
    movements,
    lookUps,
    reductions,
    contractions,
    scans,
  })
) {
  Deno.test(`derivatives agree with central differences: ${kind}`, () => {
    for (const [name, of] of Object.entries(cases)) checkDerivatives(name, of);
  });
  for (const [device, backend] of devices) {
    Deno.test({
      name: `${device} agrees with the reference: ${kind}`,
      ignore: backend === undefined,
      fn: () => checkBackend(backend!, cases),
    });
  }
}

// All numbers are below zero: what fills up the last part must be no maximum.
const long: Record<string, Case> = Object.fromEntries(
  [70_001, 65_536].flatMap((i) => {
    const below = { low: -2, high: -1 };
    const maximum = made([{ i, j: 3 }], (x) => d.max(d.tanh(x), "i"), below);
    const mean = made([{ j: 2, i }], (x) => d.mean(d.exp(x), "i"), below);
    // Gradients have no reduction.
    return [
      [`the maximum of ${i}`, { ...maximum, wrt: {} }],
      [`the mean of ${i}`, { ...mean, wrt: {} }],
    ] as const;
  }),
);
for (const [device, backend] of devices) {
  Deno.test({
    name: `${device} agrees with the reference: reductions along one long axis`,
    ignore: backend === undefined,
    fn: () => checkBackend(backend!, long),
  });
}

Deno.test("a reduction along one long axis has work for many invocations", () => {
  for (const { of } of Object.values(long)) {
    const [first, second, ...others] = lower({ outputs: { of: { of, order: ["j"] } } }).kernels;
    assertStrictEquals(others.length, 0);
    const most = (kernel: typeof first) =>
      Math.max(...kernel.roots.map(({ storage }) => size(storage.dims)));
    assert(most(first) >= 2 * 250 && most(second) <= 3, `${most(first)}, then ${most(second)}`);
  }
});

Deno.test({
  name: "the tiled products of GPUs agree with the reference",
  ignore: webgpuAsGpu === undefined,
  fn: () => {
    const names = ["square", "tall", "deep", "batched", "over two axes", "attention"];
    return checkBackend(
      webgpuAsGpu!,
      Object.fromEntries(names.map((name) => [name, contractions[name]])),
    );
  },
});

Deno.test("a stored value has the order of what it is read with, not of its expression", () => {
  const causal = d.less(d.iota("key", 70), d.iota("token", 50));
  const v = d.input("v", { batch: 3, key: 70, feature: 40 });
  /** The order of what a row sums up and a product reads, which takes too long to be computed twice. */
  const order = (of: AnyTensor) => {
    const slow = (x: AnyTensor): AnyTensor => d.tanh(d.exp(d.sin(d.erf(x))));
    const scores = slow(slow(d.select(causal, of, d.constant(0)) as AnyTensor));
    const read: AnyTensor = d.contract(scores as never, v as never, "key" as never);
    const { stored } = lower({
      outputs: {
        read: { of: read, order: ["batch", "token", "feature"] },
        sum: { of: d.sum(scores as never, "key" as never), order: ["batch", "token"] },
      },
    });
    return stored.get(nodeOf(scores))?.dims.map(({ axis }) => axis).join();
  };
  assertStrictEquals(order(d.input("x", { batch: 3, token: 50, key: 70 })), "batch,token,key");
  // Nothing is read that has these axes.
  assertStrictEquals(order(d.input("x", { batch: 3 })), "key,token,batch");
});
