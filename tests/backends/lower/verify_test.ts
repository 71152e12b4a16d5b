// The verifier of graphs and of lowered programs: what is right passes, and each kind of fault that a
// pass could make is told with the pass or kernel and the place.
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { phasesOf, verifyPhases } from "../../../backends/lower/scans/phases.ts";
import type {
  Contraction,
  ExpressionKernel,
  Kernel,
  LoweredProgram,
  ScanKernel,
  Storage,
} from "../../../backends/lower/kernel_ir.ts";
import { lower } from "../../../backends/lower/pipeline.ts";
import { graphVerifier, verifyLowered } from "../../../backends/lower/verify.ts";
import type { AnyTensor, Axes } from "../../../dsl/axes.ts";
import { grad } from "../../../dsl/grad.ts";
import { intern, type Node, nodeOf, topologicalOrder } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";

const output = (of: AnyTensor, ...order: string[]) => ({ of, order });

Deno.test("a graph with two sizes of one axis, or with axes that do not follow, is refused", () => {
  const x = d.input("x", { a: 3, b: 5 }), y = d.input("y", { a: 4 });
  const verify = (...of: readonly AnyTensor[]) => graphVerifier()("a pass", of.map(nodeOf));
  verify(d.sum(x, "a"), d.exp(x));
  assertThrows(() => verify(x, y), Error, "in the pass 'a pass': 'a' is 3 in input, but 4 here");
  const wrongSum = intern("reduce", "f32", { a: 3 }, [nodeOf(x)], { how: "add", over: ["a"] });
  assertThrows(() => graphVerifier()("a pass", [wrongSum]), Error, "reduce has the axes { a: 3 }");
  const wrongMul = intern("mul", "f32", { a: 3 }, [nodeOf(x), nodeOf(x)]);
  assertThrows(() => graphVerifier()("a pass", [wrongMul]), Error, "mul has the axes");
  const lost = intern("index", "f32", { a: 3 }, [nodeOf(x)], { places: {}, fill: 0 });
  assertThrows(() => graphVerifier()("a pass", [lost]), Error, "does not say where each axis");
});

Deno.test("what a later pass adds is verified, alone where it gives a name another size", () => {
  const x = nodeOf(d.input("x", { a: 3 })), y = nodeOf(d.input("y", { a: 4 }));
  const z = nodeOf(d.input("z", { a: 4, b: 2 })),
    sum = nodeOf(d.sum(d.exp(d.input("z", { a: 4 })), "a"));
  const verify = graphVerifier();
  verify("first", [x]);
  verify("second", [y, z]);
  assertThrows(
    () => verify("third", [sum, x, z]),
    Error,
    "in the pass 'third': 'a' is 4 in exp, but 3 here",
  );
  const wrong = intern("mul", "f32", { a: 3 }, [z, z]);
  assertThrows(() => graphVerifier()("fourth", [z, wrong]), Error, "in the pass 'fourth'");
  const other = graphVerifier();
  other("first", [z]);
  assertThrows(() => other("second", [z, wrong]), Error, "in the pass 'second'");
});

/** Nodes that a pass could make, as it should not. */
const x = d.input("x", { a: 3, b: 5 });
const wrong = (
  op: Node["op"],
  axes: Axes,
  args: readonly Node[],
  attributes: Node["attributes"] = {},
  dtype: Node["dtype"] = "f32",
) => graphVerifier()("a pass", [intern(op, dtype, axes, args, attributes)]);

Deno.test("each kind of node follows from its arguments", () => {
  const [of, row, b] = [x, d.input("row", { b: 5 }), d.input("short", { b: 4 })].map(nodeOf);
  wrong("mul", { a: 3, b: 5 }, [of, row]);
  // Axes by name and size, whatever their order.
  wrong("mul", { b: 5, a: 3 }, [of, row]);
  assertThrows(() => wrong("mul", { a: 3, b: 5, c: 1 }, [of, row]), Error, "mul has the axes");
  assertThrows(
    () => wrong("mul", { a: 3, b: 5 }, [of, row], {}, "u32"),
    Error,
    "mul has a wrong dtype",
  );
  assertThrows(() => wrong("less", { a: 3, b: 5 }, [of, row]), Error, "less has a wrong dtype");
  assertThrows(() => wrong("mul", { b: 5 }, [row, b]), Error, "'b' is 5");
  assertThrows(
    () => wrong("reduce", { a: 3, b: 5 }, [of], { how: "add", over: ["c"] }),
    Error,
    "over 'c', which",
  );
  wrong("reduce", { b: 5 }, [of], { how: "max", over: ["a"] });
  for (const op of ["stop", "recompute", "materialise"] as const) {
    wrong(op, { a: 3, b: 5 }, [of]);
    assertThrows(() => wrong(op, { a: 3 }, [of]), Error, `${op} has the axes`);
  }
  const at = nodeOf(d.input("at", { t: 7 }, "u32"));
  wrong("gather", { b: 5, t: 7 }, [of, at], { axis: "a" });
  assertThrows(
    () => wrong("gather", { a: 3, b: 5, t: 7 }, [of, at], { axis: "a" }),
    Error,
    "gather has the axes",
  );
  assertThrows(
    () => wrong("gather", { b: 5 }, [of, at], { axis: "a" }),
    Error,
    "gather has the axes",
  );
  const later = intern("input", "f32", { a: 3 }, [], { name: "later" });
  const early = { ...intern("neg", "f32", { a: 3 }, [later]), id: later.id };
  assertThrows(() => graphVerifier()("a pass", [early]), Error, "neg was made before its argument");
});

Deno.test("a movement says where each axis is read, along axes that it has", () => {
  const place = (axis: string) => ({
    terms: [{ axis, times: 1 }],
    offset: 0,
    divisor: 1,
    exact: false,
    modulo: 0,
  });
  const index = (places: Record<string, ReturnType<typeof place>>) => () =>
    wrong("index", { k: 3, b: 5 }, [nodeOf(x)], { places, fill: 0 });
  (index({ a: place("k"), b: place("b") }))();
  assertThrows(index({ a: place("k") }), Error, "does not say where each axis");
  assertThrows(
    index({ a: place("k"), b: place("b"), c: place("b") }),
    Error,
    "does not say where each axis",
  );
  assertThrows(index({ a: place("k"), c: place("b") }), Error, "does not say where each axis");
  assertThrows(index({ a: place("k"), b: place("c") }), Error, "moves along 'c', which it lacks");
});

/** A running sum, whose scan may be changed. */
const running = (change: (scan: Node) => Node["attributes"] = ({ attributes }) => attributes) => {
  const each = d.input("each", { t: 4, b: 5 });
  const from: AnyTensor = d.expand(d.constant(0), { b: 5 });
  const { out } = d.scan({ over: "t", from: { h: from }, each: { x: each } }, ({ h }, { x }) => ({
    next: { h: d.add(h, x) },
    out: { y: d.sum(d.add(h, x), "b"), z: d.add(h, x) },
  }));
  const [scan] = nodeOf(out.z as AnyTensor).args;
  const { op, dtype, axes, args } = scan;
  return intern(op, dtype, axes, args, change(scan));
};
const partOf = (scan: Node, name: string, axes: Axes) => () =>
  graphVerifier()("a pass", [intern("part", "f32", axes, [scan], { name })]);

Deno.test("parts of a scan have the axes of what is carried and put out, with its own", () => {
  const scan = running();
  for (
    const [name, axes] of [
      ...[["final.h", { b: 5 }], ["prev.h", { t: 4, b: 5 }], ["out.y", { t: 4 }]] as const,
      ...[["out.z", { t: 4, b: 5 }], ["partial.y", { t: 4, more: 2 }]] as const,
    ]
  ) (partOf(scan, name, axes))();
  assertThrows(partOf(scan, "final.h", { t: 4, b: 5 }), Error, "part has the axes");
  assertThrows(partOf(scan, "prev.h", { b: 5 }), Error, "part has the axes");
  assertThrows(partOf(scan, "out.y", { t: 4, b: 5 }), Error, "part has the axes");
  assertThrows(partOf(scan, "out.z", { b: 5 }), Error, "part has the axes");
});

Deno.test("a step carries on what it began with, and reads its own arguments", () => {
  const scan = (change?: Parameters<typeof running>[0]) => () => {
    graphVerifier()("a pass", [running(change)]);
  };
  (scan())();
  const withNext = (build: (h: Node) => Node) =>
    scan(({ attributes }) => {
      const step = attributes.step!;
      return { ...attributes, step: { ...step, next: { h: build(step.next.h) } } };
    });
  (withNext((h) => intern("neg", "f32", h.axes, [h])))();
  assertThrows(
    withNext((h) => intern("reduce", "f32", {}, [h], { how: "add", over: ["b"] })),
    Error,
    "the carry 'h' is { b: 5 } and then",
  );
  assertThrows(withNext((h) => intern("less", "bool", h.axes, [h, h])), Error, "the carry 'h' is");
  const leaf = (level: number) => (h: Node) =>
    intern("add", "f32", h.axes, [
      h,
      intern("local", "f32", h.axes, [], { level, name: "each.other" }),
    ]);
  const { level } = running().attributes.step!;
  assertMatch(
    assertThrows(withNext(leaf(level)), Error).message,
    /reads 'each.other', which is no argument of it/,
  );
  (withNext(leaf(level + 1)))();
  // What is wrong inside of a step is seen as well.
  assertThrows(
    withNext((h) => intern("neg", "f32", h.axes, [intern("neg", "f32", {}, [h])])),
    Error,
    "neg has the axes",
  );
  const { attributes, args, axes } = running();
  // An input without the axis of the steps, or with more of them.
  const two = { ...attributes, eachs: [...attributes.eachs!, "more"] };
  const more = (of: Axes) => () =>
    graphVerifier()("a pass", [
      intern("scan", "f32", axes, [...args, nodeOf(d.input("more", of))], two),
    ]);
  (more({ t: 4 }))();
  assertThrows(more({ b: 5 }), Error, "its inputs have 2 lengths along 't'");
  assertThrows(more({ t: 6 }), Error, "its inputs have 2 lengths along 't'");
});

/** A sum of rows after a map whose value is kept: two kernels. */
const program = (): LoweredProgram => {
  const x = d.input("x", { a: 40, b: 500 });
  const y = d.contract(d.exp(x), d.input("w", { b: 500, c: 40 }), "b");
  return lower({ outputs: { y: output(d.sum(d.tanh(y), "c"), "a"), z: output(y, "a", "c") } });
};

const withKernel = (
  of: LoweredProgram,
  change: (kernel: ExpressionKernel) => ExpressionKernel,
) => ({
  ...of,
  kernels: of.kernels.map((kernel) => kernel.shape === "scan" ? kernel : change(kernel)),
});

Deno.test("a lowered program that reads too early, or runs over other sizes, is refused", () => {
  const right = program();
  verifyLowered(right);
  assertMatch(
    assertThrows(() => verifyLowered({ ...right, kernels: right.kernels.toReversed() }), Error)
      .message,
    /kernel: it reads .* before that is computed/,
  );
  assertThrows(
    () => verifyLowered({ ...right, kernels: [] }),
    Error,
    "an output is never computed",
  );
  assertMatch(
    assertThrows(
      () => verifyLowered({ ...right, inputs: [...right.inputs, ...right.inputs] }),
      Error,
    ).message,
    /'.' is stored in two places/,
  );
  const longer = withKernel(right, (kernel) => ({
    ...kernel,
    space: kernel.space.map((dim) => ({ ...dim, size: dim.size + 1 })),
  }));
  assertMatch(assertThrows(() => verifyLowered(longer), Error).message, /does not fit|elements of/);
  const narrower = withKernel(right, (kernel) => ({
    ...kernel,
    over: kernel.over.map((dim) => ({ ...dim, size: dim.size - 1 })),
  }));
  assertMatch(
    assertThrows(() => verifyLowered(narrower), Error).message,
    /does not fit|elements of/,
  );
});

/** A lowered program with a row kernel, a product and a scan of which lanes give partial sums. */
const ofAllShapes = (): LoweredProgram => {
  const x = d.input("x", { a: 40, b: 500 });
  const product = d.contract(d.exp(x), d.input("w", { b: 500, c: 40 }), "b");
  const { u, v }: Readonly<Record<string, AnyTensor>> = {
    u: d.input("u", { t: 30, n: 300 }),
    v: d.input("v", { t: 30, n: 300 }),
  };
  const h = d.recurrence("t", d.sigmoid(u), v);
  return lower({
    outputs: {
      soft: output(d.softmax(x, "b"), "a", "b"),
      product: output(product, "a", "c"),
      total: output(d.sum(d.mul(h, d.sin(v)), "n"), "t"),
    },
  });
};

/** The program with one kernel of a shape changed. */
const changed = <S extends Kernel["shape"]>(
  shape: S,
  change: (kernel: Kernel & { readonly shape: S }) => Kernel,
) => {
  const right = ofAllShapes();
  const k = right.kernels.findIndex((kernel) => kernel.shape === shape);
  const kernel = change(right.kernels[k] as Kernel & { readonly shape: S });
  return () => verifyLowered({ ...right, kernels: right.kernels.with(k, kernel) });
};
const twice = <T>(list: readonly T[]): readonly T[] => [...list, ...list];

Deno.test("a kernel runs over the axes of what it computes, each once", () => {
  const right = ofAllShapes();
  verifyLowered(right);
  assertEquals([...new Set(right.kernels.map(({ shape }) => shape))].sort(), [
    ...["contraction", "map", "row", "scan"],
  ]);
  assertThrows(
    changed("row", (of) => ({ ...of, space: [...of.space, ...of.over] })),
    Error,
    "it runs over an axis twice",
  );
  assertMatch(
    assertThrows(changed("row", (of) => ({ ...of, over: [] })), Error).message,
    /the result .* does not fit: 'b' is 500/,
  );
  const more = { axis: "more", size: 2 };
  assertThrows(
    changed("row", (of) => ({ ...of, space: [...of.space, more] })),
    Error,
    "a result has 20000 elements of 40000",
  );
  assertThrows(
    changed("row", (of) => ({
      ...of,
      roots: of.roots.map((root) => ({
        ...root,
        storage: { ...root.storage, dims: root.storage.dims.slice(1) },
      })),
    })),
    Error,
    "a result has 500 elements of 20000",
  );
  // Sums over other axes than those of the rows, of which one is of a result that has them all.
  const other = nodeOf(d.sum(d.exp(d.input("x", { a: 40, b: 500 })), "a"));
  assertThrows(
    changed("row", (of) => ({ ...of, reductions: [other] })),
    Error,
    "it reduces over a in rows of b",
  );
  const wide = nodeOf(d.sum(d.input("wide", { a: 40, b: 500, z: 3 }), "b" as never));
  assertThrows(
    changed("row", (of) => ({ ...of, reductions: [wide] })),
    Error,
    "a reduction does not fit: 'z' is 3, but the kernel runs over no such axis",
  );
  const narrow = nodeOf(d.sum(d.input("narrow", { b: 500 }), "b"));
  assertThrows(
    changed("row", (of) => ({ ...of, reductions: [narrow] })),
    Error,
    "a reduction lacks an axis",
  );
  // Rows may lie along their axes in any order.
  const deep = d.input("deep", { a: 40, b: 30, c: 20 });
  const rows = lower({ outputs: { y: output(d.sum(d.exp(deep), ["b", "c"]), "a") } });
  verifyLowered(withKernel(rows, (kernel) => ({ ...kernel, over: kernel.over.toReversed() })));
});

Deno.test("a product has operands and results of its rows, columns and terms", () => {
  const product = (change: (of: Contraction) => Partial<Contraction>) =>
    changed("contraction", (of) => ({
      ...of,
      contraction: { ...of.contraction!, ...change(of.contraction!) },
    }));
  (product(() => ({})))();
  for (const role of ["rows", "columns", "over"] as const) {
    assertThrows(product(() => ({ [role]: [] })), Error, "an operand does not fit");
  }
  const more = [{ axis: "more", size: 2 }];
  for (const role of ["batch", "rows", "columns"] as const) {
    assertThrows(
      product((of) => ({ [role]: [...of[role], ...more] })),
      Error,
      "its product does not fit: 'more' is 2, but the kernel runs over no such axis",
    );
  }
  const stranger = nodeOf(d.input("stranger", { a: 40, q: 2 }));
  for (const side of ["left", "right", "node"] as const) {
    assertThrows(product(() => ({ [side]: stranger })), Error, "an operand does not fit: 'q' is 2");
  }
});

Deno.test("lanes of a scan lie along axes of its step, and what they hold is not among those", () => {
  const scan = (change: (of: ScanKernel) => Partial<ScanKernel>) =>
    changed("scan", (of) => ({ ...of, ...change(of) }));
  (scan(() => ({})))();
  assertThrows(
    scan((of) => ({ perLane: of.parallel })),
    Error,
    "an axis is both held and of the lanes",
  );
  assertThrows(
    scan((of) => ({ parallel: twice(of.parallel) })),
    Error,
    "an axis is both held and of the lanes",
  );
  assertThrows(
    scan(() => ({ parallel: [] })),
    Error,
    "of its step does not fit: 'n' is 300, but the kernel runs over no such axis",
  );
  assertThrows(
    scan((of) => ({ parallel: of.parallel.map((dim) => ({ ...dim, size: 299 })) })),
    Error,
    "of its step does not fit: 'n' is 300, but the kernel runs over 299",
  );
  // The reduction whose partial sums lanes give is what they compute.
  const stranger = nodeOf(d.sum(d.input("stranger", { n: 300, q: 2 }), "n"));
  assertThrows(
    scan(({ roots }) => ({
      roots: roots.map((root) => ({
        ...root,
        partial: { ...root.partial!, reduction: stranger },
      })),
    })),
    Error,
    "reduce of its step does not fit: 'q' is 2",
  );
  // An output may have axes that no carry has; a last carry is no output.
  const { u, w }: Readonly<Record<string, AnyTensor>> = {
    u: d.input("u", { t: 9, n: 20 }),
    w: d.input("w", { n: 20, e: 3 }),
  };
  const wide = d.scan(
    { over: "t", from: { h: d.expand(d.constant(0), { n: 20 }) as AnyTensor }, each: { u } },
    ({ h }, { u }) => {
      const next = d.add(h, u) as AnyTensor;
      return { next: { h: next }, out: { y: d.mul(next, w) } };
    },
  );
  const both = lower({
    outputs: {
      y: output(wide.out.y as AnyTensor, "t", "n", "e"),
      h: output(wide.final.h as AnyTensor, "n"),
    },
  });
  verifyLowered(both);
  const less = both.kernels.map((of) =>
    of.shape === "scan"
      ? {
        ...of,
        parallel: of.parallel.filter(({ axis }) => axis === "n"),
        perLane: of.perLane.filter(({ axis }) => axis === "n"),
      }
      : of
  );
  assertThrows(
    () => verifyLowered({ ...both, kernels: less }),
    Error,
    "of its step does not fit: 'e' is 3",
  );
  // A step that reads its neighbour's carry: lanes may not lie along that axis.
  const x: AnyTensor = d.input("x", { t: 9, n: 20 });
  const from: AnyTensor = d.expand(d.constant(0), { n: 20 });
  const { out } = d.scan({ over: "t", from: { h: from }, each: { x } }, ({ h }, { x }) => {
    const next = d.add(d.flip(h, "n" as never), x) as AnyTensor;
    return { next: { h: next }, out: { y: next } };
  });
  const right = lower({ outputs: { y: output(out.y as AnyTensor, "t", "n") } });
  verifyLowered(right);
  const kernels = right.kernels.map((of) =>
    of.shape === "scan" ? { ...of, parallel: of.perLane, perLane: [] } : of
  );
  assertThrows(
    () => verifyLowered({ ...right, kernels }),
    Error,
    "its lanes lie along 'n', and its step moves there",
  );
});

const wideScan = (m: number): AnyTensor => {
  const x: AnyTensor = d.input("x", { t: 5, m });
  return d.recurrence("t", d.sigmoid(x), x);
};

Deno.test("what a kernel computes again need not be there, and is not gone through twice", () => {
  const right = program();
  const y = [...right.stored].find(([{ op, axes }]) => op === "reduce" && "c" in axes)![0];
  const again = withKernel({ ...right, kernels: right.kernels.toReversed() }, (kernel) => ({
    ...kernel,
    again: new Set([y]),
  }));
  verifyLowered(again);
  let square: AnyTensor = d.input("x", { a: 3 });
  for (let k = 0; k < 64; k++) square = d.mul(square, square);
  lower({ outputs: { y: output(square, "a") } });
  // A start that is changed before a scan back is not read by that.
  const u: AnyTensor = d.input("u", { t: 300, n: 30 });
  const start: AnyTensor = d.param("start", { n: 30 }, () => d.constant(1));
  const { out } = d.scan({ over: "t", from: { h: start }, each: { u } }, ({ h }, { u }) => {
    const next = d.add(d.mul(h, d.sigmoid(u)), u) as AnyTensor;
    return { next: { h: next }, out: { y: next } };
  });
  const slope = grad(d.sum(d.square(out.y as AnyTensor), ["t", "n"] as never[]), { u }).u;
  const { kernels, copies } = lower({
    outputs: { slope: output(slope, "t", "n") },
    updates: { start: d.mul(start, 0.5) as AnyTensor },
  });
  const writes = (kernel: Kernel) => kernel.roots.some(({ storage }) => storage.name === "start");
  assertEquals(kernels.map((kernel) => [kernel.shape, writes(kernel)]), [
    ...[["scan", false], ["map", true], ["scan", false]],
  ]);
  assertEquals(copies, []);
});

Deno.test("what a kernel reads has been written by then, and as what it is", () => {
  const right = ofAllShapes();
  const { stored, inputs } = right;
  for (const input of inputs) {
    assertThrows(
      () => verifyLowered({ ...right, inputs: inputs.filter((one) => one !== input) }),
      Error,
      "it reads input before that is computed",
    );
    const node = [...stored].find(([, storage]) => storage === input)![0];
    const other = { ...input, dims: input.dims.toReversed().slice(1) };
    assertMatch(
      assertThrows(() =>
        verifyLowered({
          ...right,
          inputs: inputs.map((one) => one === input ? other : one),
          stored: new Map([...stored, [node, other]]),
        }), Error).message,
      /it reads input of .* as/,
    );
  }
  // The carries that a scan back begins at are stored by the one forth, before it.
  const { u, v }: Readonly<Record<string, AnyTensor>> = {
    u: d.input("u", { t: 300, n: 30 }),
    v: d.input("v", { t: 300, n: 30 }),
  };
  const loss = d.sum(d.square(d.recurrence("t", d.sigmoid(u), v)), ["t", "n"] as never[]);
  const back = lower({ outputs: { g: output(grad(loss, { u }).u, "t", "n") } });
  verifyLowered(back);
  const forget = back.kernels.map((of) =>
    of.shape === "scan" && of.recomputes === undefined ? { ...of, checkpoints: undefined } : of
  );
  assertThrows(
    () => verifyLowered({ ...back, kernels: forget }),
    Error,
    "it reads carries before they are stored",
  );
  const [other] = topologicalOrder([nodeOf(wideScan(7))]).filter(({ op }) => op === "scan");
  const stranger = back.kernels.map((of) =>
    of.shape === "scan" && of.recomputes !== undefined
      ? { ...of, recomputes: { ...of.recomputes, scan: other } }
      : of
  );
  assertThrows(
    () => verifyLowered({ ...back, kernels: stranger }),
    Error,
    "of its step does not fit: 'm' is 7, but the kernel runs over no such axis",
  );
  // A scan that reads what another one gives.
  const second = d.recurrence("t", d.sigmoid(u), d.recurrence("t", d.sigmoid(v), u));
  const stacked = lower({ outputs: { y: output(second, "t", "n") } });
  const turned = { ...stacked, kernels: stacked.kernels.toReversed() };
  assertThrows(() => verifyLowered(turned), Error, "it reads part before that is computed");
  // A copy at the end is of what is there.
  const [first] = back.inputs;
  const from = { ...first, id: 10 ** 6 };
  assertThrows(
    () => verifyLowered({ ...back, copies: [{ from, to: first }] }),
    Error,
    "an output is never computed",
  );
});

Deno.test("a new value of a parameter in place of one that is still read is refused", () => {
  const p = d.param("p", { a: 4 }, () => d.constant(1));
  const q = d.param("q", { a: 4 }, () => d.constant(1));
  const right = lower({ outputs: {}, updates: { p: d.mul(p, q), q: d.add(d.exp(p), q) } });
  verifyLowered(right);
  const place = right.params.find(({ name }) => name === "p")!;
  const first = right.kernels[0] as ExpressionKernel;
  const early: ExpressionKernel = {
    ...first,
    roots: [{ node: nodeOf(d.neg(p)), storage: place as Storage }],
  };
  assertMatch(
    assertThrows(() => verifyLowered({ ...right, kernels: [early, ...right.kernels] }), Error)
      .message,
    /it reads .* where .* has been written/,
  );
});

Deno.test("a phase of a step reads what earlier phases have completed, and no other", () => {
  const h = d.input("h", { a: 3 });
  const top = nodeOf(d.exp(d.on.sub(h, d.sum(h, "a"))));
  const phases = phasesOf(topologicalOrder([top]));
  const [sum] = topologicalOrder([top]).filter(({ op }) => op === "reduce");
  verifyPhases([{ of: sum.args[0], phase: 0 }, { of: top, phase: 1 }], phases);
  assertThrows(
    () => verifyPhases([{ of: top, phase: 0 }], phases),
    Error,
    "phase 0 reads reduce, which is complete in phase 0",
  );
});
