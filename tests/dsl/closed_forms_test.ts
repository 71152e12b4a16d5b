// What the primitives and the functions made of them mean, against numbers known otherwise: table
// values, identities, and loops written out. Every row of the scalar table must be here to compile.
import { assert, assertEquals, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import type { Values } from "../../backends/backend.ts";
import { interpret } from "../../backends/reference/interpret.ts";
import { type AnyTensor, type Axes, volume } from "../../dsl/axes.ts";
import { type Dtype, type Node, nodeOf, tensorOf } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import { apply, constantNode, scalar } from "../../dsl/primitives.ts";
import type { ScalarName } from "../../dsl/node.ts";
import { input } from "../../dsl/structure.ts";
import { numbers, words } from "../support/check.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

const close = (found: number, expected: number, what: string): void => {
  const allowed = 4e-16 * Math.max(1, Math.abs(expected));
  assert(
    Object.is(found, expected) || Math.abs(found - expected) <= allowed,
    `${what} is ${found}, expected ${expected}`,
  );
};

// ---- scalar functions ---------------------------------------------------------------------------

type Known = readonly [args: readonly number[], value: number];

/** Values from tables of functions, and on words those that wrap around. */
const known: Readonly<Record<ScalarName, Partial<Readonly<Record<Dtype, readonly Known[]>>>>> = {
  add: { f32: [[[1.5, -4], -2.5]], u32: [[[0xffffffff, 2], 1]] },
  mul: {
    f32: [[[-3, 2.5], -7.5]],
    u32: [[[0x10001, 0x10001], 0x20001], [[2654435761, 3], 3668339987]],
  },
  max: { f32: [[[-3, -7], -3]], u32: [[[0xffffffff, 1], 0xffffffff]] },
  neg: { f32: [[[2.5], -2.5]] },
  div: { f32: [[[1, -8], -0.125], [[49, 49], 1], [[287, 41], 7], [[2e38, 1e38], 2]] },
  exp: { f32: [[[1], 2.718281828459045], [[-1], 0.36787944117144233]] },
  log: { f32: [[[10], 2.302585092994046], [[0.5], -0.6931471805599453]] },
  log1p: { f32: [[[1], 0.6931471805599453], [[1e-12], 9.999999999995e-13]] },
  sin: { f32: [[[1], 0.8414709848078965], [[Math.PI / 6], 0.5]] },
  cos: { f32: [[[1], 0.5403023058681398], [[Math.PI / 3], 0.5]] },
  sqrt: { f32: [[[2], 1.4142135623730951]] },
  tanh: { f32: [[[1], 0.7615941559557649], [[-0.1], -0.09966799462495582]] },
  erf: {
    f32: [
      [[0.1], 0.1124629160182849],
      [[0.5], 0.5204998778130465],
      [[-1], -0.8427007929497149],
      [[2], 0.9953222650189527],
      [[3], 0.9999779095030014],
      [[0], 0],
    ],
  },
  erfc: {
    f32: [
      [[0], 1],
      [[0.5], 0.4795001221869535],
      [[-1], 1.8427007929497148],
      [[1], 0.15729920705028513],
      [[3], 2.2090496998585445e-5],
      [[10], 2.088487583762545e-45],
    ],
  },
  floor: { f32: [[[-1.5], -2], [[2.9], 2]] },
  less: { f32: [[[-1, 1], 1], [[1, 1], 0]], u32: [[[1, 0xffffffff], 1]] },
  equal: { f32: [[[0.5, 0.5], 1], [[0.5, 0.25], 0]], u32: [[[7, 7], 1]] },
  select: {
    f32: [[[1, 2.5, 3.5], 2.5], [[0, 2.5, 3.5], 3.5]],
    u32: [[[0, 2, 3], 3]],
    bool: [[[1, 0, 1], 0]],
  },
  toFloat: { u32: [[[0xffffffff], 4294967295]], bool: [[[1], 1]] },
  toWord: { f32: [[[2.9], 2], [[-3], 0], [[5e9], 0xffffffff], [[NaN], 0]], bool: [[[1], 1]] },
  bits: { f32: [[[1], 0x3f800000], [[-0.5], 0xbf000000], [[1e300], 0x7f800000]] },
  xor: { u32: [[[0xf0f0f0f0, 0xffffffff], 0x0f0f0f0f]] },
  shiftLeft: { u32: [[[0x80000001, 1], 2], [[1, 31], 0x80000000], [[1, 33], 2]] },
  shiftRight: { u32: [[[0x80000000, 31], 1], [[0x80000000, 32], 0x80000000]] },
  quotient: { u32: [[[0xffffffff, 10], 429496729], [[7, 0], 7]] },
  remainder: { u32: [[[0xffffffff, 10], 5], [[7, 0], 0]] },
};

/** The dtype of each argument, when the values are of `dtype`. */
const dtypesOf = (op: ScalarName, dtype: Dtype): readonly Dtype[] =>
  op === "select" ? ["bool", dtype, dtype] : Array<Dtype>(scalar[op].arity).fill(dtype);

for (const op of Object.keys(scalar) as ScalarName[]) {
  Deno.test(`${op} of known arguments, folded and computed`, () => {
    for (const dtype of ["f32", "u32", "bool"] as const) {
      const list = known[op][dtype];
      const takes = scalar[op].dtype(dtypesOf(op, dtype)) !== undefined;
      assertStrictEquals(
        list !== undefined,
        takes,
        `${op} ${takes ? "takes" : "does not take"} ${dtype}`,
      );
      for (const [args, expected] of list ?? []) {
        const types = dtypesOf(op, dtype);
        const folded = apply(op, ...args.map((x, k) => constantNode(x, types[k])));
        close(folded.attributes.value!, expected, `the constant ${op}(${args})`);
        const leaves = types.map((type, k) => input(`x${k}`, { i: 1 }, type));
        const [[found]] = interpret(
          [apply(op, ...leaves)],
          (leaf) => [args[Number(leaf.attributes.name!.slice(1))]],
        );
        close(found, expected, `${op}(${args})`);
      }
    }
  });
}

// ---- values at every place ----------------------------------------------------------------------

/** Where an element is: its position along every axis. */
type At = Readonly<Record<string, number>>;

const places = (axes: Axes): readonly At[] =>
  Object.entries(axes).reduce<readonly At[]>(
    (all, [axis, size]) =>
      all.flatMap((at) => Array.from({ length: Number(size) }, (_, k) => ({ ...at, [axis]: k }))),
    [{}],
  );

const held: Record<string, Float32Array | Uint32Array> = {};

/** An input with numbers, and how to read them by place. */
const given = (name: string, axes: Axes, below?: number) => {
  const data = below === undefined
    ? numbers(name.length + volume(axes), volume(axes), -2, 2)
    : words(3, volume(axes), below);
  held[name] = data;
  const of: AnyTensor = d.input(name, axes, below === undefined ? "f32" : "u32");
  const at = (place: At): number =>
    data[Object.entries(axes).reduce((sum, [axis, size]) => sum * Number(size) + place[axis], 0)];
  return { of, at };
};

const leaf = (values: Values) => (of: Node) => values[of.attributes.name!];

/** The value is `expected` at every place; both sides by names of axes, so no order matters. */
const agrees = (of: AnyTensor, axes: Axes, expected: (at: At) => number): void => {
  const n = nodeOf(of);
  assertEquals({ ...n.axes }, { ...axes });
  const [found] = interpret([n], leaf(held));
  assertStrictEquals(found.length, volume(axes));
  places(n.axes).forEach((at, k) => {
    const want = expected(at);
    const message = `at ${JSON.stringify(at)} it is ${found[k]}, expected ${want}`;
    assertLessOrEqual(Math.abs(found[k] - want), 1e-12 * (1 + Math.abs(want)), message);
  });
};

const range = (size: number): readonly number[] => Array.from({ length: size }, (_, k) => k);
const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const x = given("x", { i: 7, j: 6 });
const y = given("y", { j: 6, k: 5 });

Deno.test("arguments are joined by the names of their axes", () => {
  const s = given("s", { k: 5 });
  const chosen = d.select(d.less(x.of, y.of), d.add(y.of, s.of), d.mul(x.of, s.of));
  agrees(
    chosen,
    { i: 7, j: 6, k: 5 },
    (at) => x.at(at) < y.at(at) ? y.at(at) + s.at(at) : x.at(at) * s.at(at),
  );
});

Deno.test("on lifts a value to the axes of another", () => {
  const b = given("b", { j: 6 });
  agrees(d.on(x.of, b.of), { i: 7, j: 6 }, (at) => b.at(at));
  agrees(d.on.sub(x.of, b.of), { i: 7, j: 6 }, (at) => x.at(at) - b.at(at));
  agrees(d.on.div(x.of, b.of), { i: 7, j: 6 }, (at) => x.at(at) / b.at(at));
});

Deno.test("reductions", () => {
  const column = (j: number) => range(7).map((i) => x.at({ i, j }));
  agrees(d.sum(x.of, "i"), { j: 6 }, ({ j }) => total(column(j)));
  agrees(d.mean(x.of, "i"), { j: 6 }, ({ j }) => total(column(j)) / 7);
  agrees(d.max(x.of, "i"), { j: 6 }, ({ j }) => Math.max(...column(j)));
  agrees(d.sum(x.of, ["j", "i"]), {}, () => total(range(6).map((j) => total(column(j)))));
  agrees(
    d.contract(x.of, y.of, "j"),
    { i: 7, k: 5 },
    ({ i, k }) => total(range(6).map((j) => x.at({ i, j }) * y.at({ j, k }))),
  );
  agrees(
    d.softmax(x.of, "i"),
    { i: 7, j: 6 },
    ({ i, j }) => Math.exp(x.at({ i, j })) / total(column(j).map(Math.exp)),
  );
});

Deno.test("movements", () => {
  agrees(
    d.rename(x.of, "i" as never, "n" as never),
    { n: 7, j: 6 },
    ({ n, j }) => x.at({ i: n, j }),
  );
  agrees(
    d.split(x.of, "j", { a: 3, b: 2 }),
    { i: 7, a: 3, b: 2 },
    ({ i, a, b }) => x.at({ i, j: 2 * a + b }),
  );
  agrees(
    d.merge(x.of, ["j", "i"], "m"),
    { m: 42 },
    ({ m }) => x.at({ j: Math.floor(m / 7), i: m % 7 }),
  );
  agrees(d.slice(x.of, "i", 1, 3, 2), { i: 3, j: 6 }, ({ i, j }) => x.at({ i: 1 + 2 * i, j }));
  agrees(
    d.pad(x.of, "j", 2, 1, 0.25),
    { i: 7, j: 9 },
    ({ i, j }) => j < 2 || j >= 8 ? 0.25 : x.at({ i, j: j - 2 }),
  );
  agrees(d.flip(x.of, "i"), { i: 7, j: 6 }, ({ i, j }) => x.at({ i: 6 - i, j }));
  agrees(d.take(x.of, "i", 4), { j: 6 }, ({ j }) => x.at({ i: 4, j }));
  agrees(d.expand(x.of, { n: 3 }), { n: 3, i: 7, j: 6 }, (at) => x.at(at));
  agrees(
    d.concat(x.of, d.neg(x.of), "i"),
    { i: 14, j: 6 },
    ({ i, j }) => i < 7 ? x.at({ i, j }) : -x.at({ i: i - 7, j }),
  );
  const { a, b }: { a: AnyTensor; b: AnyTensor } = d.parts(x.of, "i", { a: 2, b: 5 });
  agrees(a, { i: 2, j: 6 }, (at) => x.at(at));
  agrees(b, { i: 5, j: 6 }, ({ i, j }) => x.at({ i: i + 2, j }));
  agrees(d.iota("n", 5), { n: 5 }, ({ n }) => n);
});

Deno.test("windows overlap, skip, spread out, and read zeros beyond the ends", () => {
  for (
    const [size, stride, dilation, before, after] of [[3, 1, 1, 0, 0], [3, 2, 1, 2, 2], [
      2,
      1,
      3,
      1,
      0,
    ], [2, 4, 1, 0, 5]]
  ) {
    const count = Math.floor((7 + before + after - (size - 1) * dilation - 1) / stride) + 1;
    const w = d.slidingWindows(x.of, "i", { out: "o", tap: "t", size }, {
      stride,
      dilation,
      before,
      after,
    });
    agrees(w, { o: count, t: size, j: 6 }, ({ o, t, j }) => {
      const i = o * stride + t * dilation - before;
      return i >= 0 && i < 7 ? x.at({ i, j }) : 0;
    });
  }
});

Deno.test("look-ups; beyond the end is the last element", () => {
  const at = given("at", { t: 9, k: 5 }, 7), far = given("far", { t: 9 }, 20);
  agrees(d.gather(x.of, "i", at.of), { j: 6, t: 9, k: 5 }, (p) => x.at({ i: at.at(p), j: p.j }));
  agrees(
    d.gather(x.of, "i", far.of),
    { j: 6, t: 9 },
    (p) => x.at({ i: Math.min(far.at(p), 6), j: p.j }),
  );
});

Deno.test("functions made of others, also where their parts overflow", () => {
  held.z = Float32Array.of(-800, -30, -1, 0, 1, 30, 800);
  const z: AnyTensor = d.input("z", { n: 7 });
  const at = (f: (x: number) => number) => ({ n }: At) => f(held.z[n]);
  agrees(d.sigmoid(z), { n: 7 }, at((x) => 1 / (1 + Math.exp(-x))));
  agrees(d.softplus(z), { n: 7 }, at((x) => x > 100 ? x : Math.log1p(Math.exp(x))));
  agrees(d.logSigmoid(z), { n: 7 }, at((x) => x < -100 ? x : -Math.log1p(Math.exp(-x))));
  agrees(d.silu(z), { n: 7 }, at((x) => x / (1 + Math.exp(-x))));
  agrees(d.relu(z), { n: 7 }, at((x) => Math.max(x, 0)));
  agrees(d.square(z), { n: 7 }, at((x) => x * x));
  // gelu(1) = Φ(1) from a table of the normal distribution.
  const [gelu] = interpret([nodeOf(d.gelu(z))], leaf(held));
  close(gelu[4], 0.8413447460685429, "gelu(1)");
  assertSameNumbers([gelu[0], gelu[3], gelu[6]].map((value) => value + 0), [0, 0, 800]);
  const [probable] = interpret([nodeOf(d.softmax(d.mul(z, 1e3), "n"))], leaf(held));
  assertSameNumbers([...probable], [0, 0, 0, 0, 0, 0, 1]);
  agrees(d.minimum(z, d.neg(z)), { n: 7 }, at((x) => -Math.abs(x)));
});

// ---- scans --------------------------------------------------------------------------------------

for (const reverse of [false, true]) {
  const way = reverse ? " in reverse" : "";
  const steps = (size: number) => reverse ? [...range(size)].reverse() : range(size);

  Deno.test(`a recurrence is the loop${way}`, () => {
    const values = new Map<string, number>();
    for (const k of range(5)) {
      for (const i of range(7)) {
        let h = 0;
        for (const j of steps(6)) {
          h = x.at({ i, j }) * h + y.at({ j, k });
          values.set(`${i} ${j} ${k}`, h);
        }
      }
    }
    agrees(
      d.recurrence("j", x.of, y.of, { reverse }),
      { i: 7, j: 6, k: 5 },
      ({ i, j, k }) => values.get(`${i} ${j} ${k}`)!,
    );
  });

  Deno.test(`a scan with several carries, words among them, and a value from outside${way}`, () => {
    const w = given("w", { i: 7 });
    const start = {
      h: d.expand(d.constant(0.5), { i: 7 }) as AnyTensor,
      n: d.constant(1, "u32") as AnyTensor,
    };
    const { final, out } = d.scan(
      { over: "j", from: start, each: { x: x.of }, reverse },
      ({ h, n }, { x }) => {
        const next: AnyTensor = d.add(d.mul(h, w.of), d.mul(x as AnyTensor, d.toFloat(n)));
        return { next: { h: next, n: d.add(n, d.constant(2, "u32")) }, out: { before: h, n } };
      },
    );
    const h = range(7).map(() => 0.5);
    const before = new Map<string, number>(), counts = new Map<number, number>();
    let n = 1;
    for (const j of steps(6)) {
      counts.set(j, n);
      for (const i of range(7)) {
        before.set(`${i} ${j}`, h[i]);
        h[i] = h[i] * w.at({ i }) + x.at({ i, j }) * n;
      }
      n += 2;
    }
    agrees(final.h, { i: 7 }, ({ i }) => h[i]);
    agrees(final.n, {}, () => 13);
    agrees(out.before, { i: 7, j: 6 }, ({ i, j }) => before.get(`${i} ${j}`)!);
    agrees(out.n, { j: 6 }, ({ j }) => counts.get(j)!);
  });

  Deno.test(`a scan within the step of a scan${way}`, () => {
    const zero: AnyTensor = d.constant(0);
    const { out } = d.scan(
      { over: "i", from: { h: zero }, each: { x: x.of }, reverse },
      ({ h }, { x }) => {
        const row: AnyTensor = x as AnyTensor;
        const inner = d.scan({ over: "j", from: { g: h }, each: { row } }, ({ g }, { row }) => {
          const next: AnyTensor = d.add(d.mul(g, 0.5), d.mul(row as AnyTensor, h));
          return { next: { g: d.add(next, 1) }, out: { g: next } };
        });
        return { next: { h: d.mul(inner.final.g, 0.25) }, out: { g: inner.out.g } };
      },
    );
    const values = new Map<string, number>();
    let h = 0;
    for (const i of steps(7)) {
      let g = h;
      for (const j of range(6)) {
        g = g * 0.5 + x.at({ i, j }) * h;
        values.set(`${i} ${j}`, g);
        g += 1;
      }
      h = g * 0.25;
    }
    agrees(out.g, { i: 7, j: 6 }, ({ i, j }) => values.get(`${i} ${j}`)!);
  });
}

Deno.test("a dtype that a function does not take is refused in words", () => {
  const word = tensorOf<Axes>(input("word", { i: 7 }, "u32"));
  for (
    const [make, sentence] of [
      [() => d.sin(word), "sin takes an f32, but got u32"],
      [() => d.add(x.of, word), "add takes two f32 or two u32, but got f32, u32"],
      [
        () => d.select(x.of, x.of, x.of),
        "select takes a bool and two values of one dtype, but got f32, f32, f32",
      ],
      [() => d.sum(word, "i"), "reduce takes an f32, but got u32"],
      [() => d.gather(x.of, "i", x.of), "positions must be u32, not f32"],
    ] as const
  ) {
    let said = "";
    try {
      make();
    } catch (error) {
      said = (error as Error).message;
    }
    assertStrictEquals(said.split("\n")[0], sentence);
  }
});
