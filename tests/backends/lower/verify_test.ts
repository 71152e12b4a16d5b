// The verifier of graphs and of lowered programs: what is right passes, and each kind of fault that a
// pass could make is told with the pass or kernel and the place.
import { assertMatch, assertThrows } from "@std/assert";
import { phasesOf, verifyPhases } from "../../../backends/lower/scans/phases.ts";
import type { ExpressionKernel, Lowered, Storage } from "../../../backends/lower/kernel_ir.ts";
import { lower } from "../../../backends/lower/pipeline.ts";
import { graphVerifier, verifyLowered } from "../../../backends/lower/verify.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import { intern, node, reachable } from "../../../dsl/node.ts";
import * as d from "../../../dsl/ops.ts";

const output = (of: AnyTensor, ...order: string[]) => ({ of, order });

Deno.test("a graph with two sizes of one axis, or with axes that do not follow, is refused", () => {
  const x = d.input("x", { a: 3, b: 5 }), y = d.input("y", { a: 4 });
  const verify = (...of: readonly AnyTensor[]) => graphVerifier()("a pass", of.map(node));
  verify(d.sum(x, "a"), d.exp(x));
  assertThrows(() => verify(x, y), Error, "in the pass 'a pass': 'a' is 3 in input, but 4 here");
  const wrongSum = intern("reduce", "f32", { a: 3 }, [node(x)], { how: "add", over: ["a"] });
  assertThrows(() => graphVerifier()("a pass", [wrongSum]), Error, "reduce has the axes { a: 3 }");
  const wrongMul = intern("mul", "f32", { a: 3 }, [node(x), node(x)]);
  assertThrows(() => graphVerifier()("a pass", [wrongMul]), Error, "mul has the axes");
  const lost = intern("index", "f32", { a: 3 }, [node(x)], { places: {}, fill: 0 });
  assertThrows(() => graphVerifier()("a pass", [lost]), Error, "does not say where each axis");
});

Deno.test("what a later pass adds is verified, alone where it gives a name another size", () => {
  const x = node(d.input("x", { a: 3 })), y = node(d.input("y", { a: 4 }));
  const z = node(d.input("z", { a: 4, b: 2 })),
    sum = node(d.sum(d.exp(d.input("z", { a: 4 })), "a"));
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

/** A sum of rows after a map whose value is kept: two kernels. */
const program = (): Lowered => {
  const x = d.input("x", { a: 40, b: 500 });
  const y = d.contract(d.exp(x), d.input("w", { b: 500, c: 40 }), "b");
  return lower({ outputs: { y: output(d.sum(d.tanh(y), "c"), "a"), z: output(y, "a", "c") } });
};

const withKernel = (of: Lowered, change: (kernel: ExpressionKernel) => ExpressionKernel) => ({
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

Deno.test("a new value of a parameter in place of one that is still read is refused", () => {
  const p = d.param("p", { a: 4 }, () => d.scalarOf(1));
  const q = d.param("q", { a: 4 }, () => d.scalarOf(1));
  const right = lower({ outputs: {}, updates: { p: d.mul(p, q), q: d.add(d.exp(p), q) } });
  verifyLowered(right);
  const place = right.params.find(({ name }) => name === "p")!;
  const first = right.kernels[0] as ExpressionKernel;
  const early: ExpressionKernel = {
    ...first,
    roots: [{ node: node(d.neg(p)), storage: place as Storage }],
  };
  assertMatch(
    assertThrows(() => verifyLowered({ ...right, kernels: [early, ...right.kernels] }), Error)
      .message,
    /it reads .* where .* has been written/,
  );
});

Deno.test("a phase of a step reads what earlier phases have completed, and no other", () => {
  const h = d.input("h", { a: 3 });
  const top = node(d.exp(d.on.sub(h, d.sum(h, "a"))));
  const phases = phasesOf(reachable([top]));
  const [sum] = reachable([top]).filter(({ op }) => op === "reduce");
  verifyPhases([{ of: sum.args[0], phase: 0 }, { of: top, phase: 1 }], phases);
  assertThrows(
    () => verifyPhases([{ of: top, phase: 0 }], phases),
    Error,
    "phase 0 reads reduce, which is complete in phase 0",
  );
});
