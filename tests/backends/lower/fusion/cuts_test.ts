// Where long expressions are cut: at which depth, at how many operations of each kind and at how many
// movements, which value is stored for it, and what does not count.
import { assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import {
  cutsOf,
  mostDepth,
  mostInStep,
  mostMoved,
  mostOperations,
  refuseLongSteps,
} from "../../../../backends/lower/fusion/cuts.ts";
import type { AnyTensor } from "../../../../dsl/axes.ts";
import { type Node, nodeOf, tensorOf, topologicalOrder } from "../../../../dsl/node.ts";
import * as d from "../../../../dsl/ops.ts";
import { apply } from "../../../../dsl/primitives.ts";
import type { ScalarName } from "../../../../dsl/node.ts";
import { index } from "../../../../dsl/structure.ts";

const x: AnyTensor = d.input("x", { n: 6 });
const given = x;

/** The values in a row that each follow from the one before. */
const chain = (count: number, link: (of: Node, k: number) => Node, from = nodeOf(x)) => {
  const list: Node[] = [];
  for (let k = 0; k < count; k++) list.push(link(list.at(-1) ?? from, k));
  return list;
};
const cutsIn = (...roots: readonly Node[]): ReadonlySet<Node> => {
  const order = topologicalOrder(roots), users = new Map<Node, number>();
  for (const of of order) {
    for (const arg of new Set(of.args)) users.set(arg, (users.get(arg) ?? 0) + 1);
  }
  return cutsOf(order, users);
};
/** Which links of a chain, counted from 1, are cut. */
const cutLinks = (list: readonly Node[]): readonly number[] => {
  const cuts = cutsIn(list.at(-1)!);
  return list.flatMap((of, k) => cuts.has(of) ? [k + 1] : []);
};
const as = (of: Node): AnyTensor => tensorOf(of);
const by = (name: ScalarName) => (of: Node) => apply(name, of);
const sines = (count: number, from?: Node) => chain(count, by("sin"), from);

Deno.test("a chain is cut where it is 1024 deep", () => {
  assertEquals([mostDepth, mostOperations, mostMoved, mostInStep], [1024, 4096, 16, 3000]);
  const plus = (of: Node, k: number) =>
    apply("add", of, apply("mul", nodeOf(x), nodeOf(d.constant(k + 2))));
  // The first link is two deep.
  assertEquals(cutLinks(chain(1023, plus)), []);
  assertEquals(cutLinks(chain(1024, plus)), [1023]);
  assertEquals(cutLinks(chain(2047, plus)), [1023, 2046]);
  // Whichever argument is the deep one.
  const turned = (of: Node, k: number) =>
    apply("add", apply("mul", nodeOf(x), nodeOf(d.constant(k + 2))), of);
  assertEquals(cutLinks(chain(1024, turned)), [1023]);
  // Given values and constants are not deep, and need no place.
  assertStrictEquals(cutsIn(nodeOf(x), nodeOf(d.add(x, 2))).size, 0);
});

Deno.test("functions count as what they are made of", () => {
  const operations: Readonly<Partial<Record<ScalarName, number>>> = {
    ...{ sin: 84, cos: 84, erf: 40, erfc: 40, log: 28, log1p: 30, tanh: 24, exp: 15, sqrt: 5 },
  };
  for (const [name, count] of Object.entries(operations)) {
    const most = Math.floor(mostOperations / count);
    assertEquals(cutLinks(chain(2 * most + 1, by(name as ScalarName))), [most, 2 * most], name);
  }
});

Deno.test("an expression that is broad is cut from 4096 operations on", () => {
  // As many products as terms, and one sum less.
  const broad = (terms: number): Node => {
    let list = Array.from(
      { length: terms },
      (_, k) => apply("mul", nodeOf(d.input("x", { n: 6 })), nodeOf(d.constant(k + 2))),
    );
    while (list.length > 1) {
      list = Array.from(
        { length: Math.ceil(list.length / 2) },
        (_, k) =>
          2 * k + 1 < list.length ? apply("add", list[2 * k], list[2 * k + 1]) : list[2 * k],
      );
    }
    return list[0];
  };
  assertEquals([2048, 2049].map((terms) => cutsIn(broad(terms)).size), [0, 1]);
});

Deno.test("what several values use counts for each of them in part", () => {
  const shared = sines(30), other = nodeOf(d.input("y", { n: 6 }));
  // Twenty more sines of a shared value: all of it would be 50 of them.
  const users = [0, 1].map((k) => {
    const start = apply("add", shared.at(-1)!, apply("mul", other, nodeOf(d.constant(k + 2))));
    return sines(20, start).at(-1)!;
  });
  assertStrictEquals(cutsIn(...users).size, 0);
  assertStrictEquals(cutsIn(users[0]).size, 1);
  // An argument that is used twice by one value is one.
  assertEquals(cutLinks(chain(60, (of) => apply("mul", of, of))), []);
});

Deno.test("of several arguments the largest is stored, and others while it is too much", () => {
  const [long, short, third] = [40, 30, 25].map((count, k) =>
    sines(count, nodeOf(d.input(`x${k}`, { n: 6 }))).at(-1)!
  );
  assertEquals([...cutsIn(apply("add", long, short))], [long]);
  assertEquals([...cutsIn(apply("add", short, long))], [long]);
  const less = apply("less", third, short);
  assertEquals([...cutsIn(less)], [short]);
  assertEquals([...cutsIn(apply("select", less, long, short))].length, 2);
  // 24 of each are as much as there may be.
  const [a, b] = [0, 1].map((k) => sines(24, nodeOf(d.input(`x${k}`, { n: 6 }))).at(-1)!);
  assertEquals([...cutsIn(apply("add", a, b))], []);
});

Deno.test("sixteen movements in a row that read beyond their argument, eight that divide", () => {
  const n = "n" as never;
  const pads = (of: Node) => nodeOf(d.neg(d.slice(d.pad(as(of), n, 1, 0), n, 0, 6)));
  const flips = (of: Node) => nodeOf(d.neg(d.flip(as(of), n)));
  const divides = (of: Node) => {
    const parts = d.flip(d.split(as(of), n, { a: 2, b: 3 }), "a" as never) as AnyTensor;
    return nodeOf(d.neg(d.merge(parts, ["b", "a"] as never[], n)));
  };
  assertEquals(cutLinks(chain(16, pads)), []);
  assertStrictEquals(cutsIn(chain(17, pads).at(-1)!).size, 1);
  assertEquals(cutLinks(chain(100, flips)), []);
  assertStrictEquals(cutsIn(chain(33, pads).at(-1)!).size, 2);
  const most = chain(12, divides).map((of) => cutsIn(of).size);
  assertEquals(most, [...Array(8).fill(0), ...Array(4).fill(1)]);
  // One axis that is divided is enough, by two or by a remainder.
  const wide = nodeOf(d.input("wide", { n: 6, m: 2 }));
  const plain = { offset: 0, divisor: 1, exact: false, modulo: 0 };
  const reads = (place: Readonly<Record<string, number>>) => (of: Node) =>
    apply(
      "neg",
      index(of, wide.axes, {
        n: { ...plain, ...place, terms: [{ axis: "n", times: 1 }] },
        m: { ...plain, terms: [{ axis: "m", times: 1 }] },
      }),
    );
  for (const place of [{ divisor: 2, modulo: 0 }, { divisor: 1, modulo: 3 }]) {
    const cuts = chain(9, reads(place), wide).map((of) => cutsIn(of).size);
    assertEquals(cuts, [...Array(8).fill(0), 1], JSON.stringify(place));
  }
});

Deno.test("a sum of many terms is one operation, what is stored in any case is none", () => {
  const through = (middle: (of: AnyTensor) => AnyTensor, wide = 20) => {
    const before = sines(40, nodeOf(d.input("x", { n: 6, m: wide }))).at(-1)!;
    return cutsIn(sines(40, nodeOf(middle(as(before)))).at(-1)!).size;
  };
  assertEquals([17, 16].map((wide) => through((of) => d.sum(of, "m" as never), wide)), [0, 1]);
  assertStrictEquals(through((of) => d.neg(of)), 1);
  const w = d.input("w", { m: 64, o: 8 });
  assertStrictEquals(through((of) => d.contract(of, w, "m" as never) as AnyTensor, 64), 0);
  assertStrictEquals(through((of) => d.recurrence("n", d.sigmoid(of), of)), 0);
  // What is looked up is stored, positions are computed.
  const at = d.input("at", { t: 9 }, "u32");
  assertStrictEquals(through((of) => d.gather(of, "m" as never, at) as AnyTensor), 0);
});

/** A scan of which each step has so many operations that wait for each other. */
const longStep = (operations: number, turned = false, x: AnyTensor = given): AnyTensor => {
  const from: AnyTensor = d.constant(0);
  return d.scan({ over: "n", from: { h: from }, each: { x } }, ({ h }, { x }) => {
    let y: AnyTensor = h;
    for (let k = 0; k < operations; k++) y = turned ? d.add(x, d.neg(y)) : d.sin(y);
    return { next: { h }, out: { y } };
  }).out.y;
};

Deno.test("steps of more than 3000 operations in a row are refused, also within steps", () => {
  const refuse = (of: AnyTensor) => () => refuseLongSteps([nodeOf(of)]);
  (refuse(longStep(3000)))();
  assertMatch(
    assertThrows(refuse(longStep(3001)), Error).message,
    /'n' has 3001 operations that wait for each other.*most 3000/,
  );
  (refuse(longStep(1500, true)))();
  assertThrows(refuse(longStep(1501, true)), Error, "3002 operations");
  const inner = (operations: number): AnyTensor => {
    const zero: AnyTensor = d.constant(0), z: AnyTensor = d.input("z", { m: 4 });
    return d.scan({ over: "m", from: { s: zero }, each: { z } }, ({ s }, { z }) => ({
      next: { s: d.add(s, z) as AnyTensor },
      out: { y: d.sum(longStep(operations, false, d.mul(x, z)), "n" as never) as AnyTensor },
    })).out.y;
  };
  (refuse(inner(2990)))();
  assertThrows(refuse(inner(3001)), Error, "over 'n' has 3001");
});
