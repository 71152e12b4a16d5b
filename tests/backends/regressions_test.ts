// Small programs in which random ones met a fault, on every device against what they should give:
// values by the reference, which has other code for all of it.
import { assert } from "@std/assert";
import type { KernelDraft } from "../../backends/lower/fusion/kernel_draft.ts";
import { reaches } from "../../backends/lower/fusion/reachability.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import type { Program, Values } from "../../backends/backend.ts";
import type { AnyTensor } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import { nodeOf, tensorOf, topologicalOrder } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";
import { part } from "../../dsl/scan.ts";
import { disagreement, numbers } from "../support/check.ts";
import { devices, webgpuAsGpu } from "../support/device.ts";

const output = (of: AnyTensor, ...order: string[]) => ({ of, order });

interface Found {
  readonly program: Program;
  readonly inputs: Values;
  readonly params?: Values;
}

/** A scan computed again for its gradient begins at stored carries, not at what it first began at. */
const updatedStart = (): Found => {
  const Q = d.param("Q", { c: 3 }, () => d.constant(0));
  const v = d.input("v", { a: 3 }), s = d.input("s", { a: 3, b: 3 });
  const from = { h: v, g: d.expand(d.mean(Q, "c"), { a: 3 }) };
  const { final } = d.scan({ over: "b", from, each: { s } }, ({ h, g }) => ({
    next: { h: d.add(d.mul(h, 0.5), d.mul(d.tanh(h), 0.5)), g: d.sin(d.add(g, h)) },
    out: {},
  }));
  const y = d.sin(final.h), g = grad(d.sum(y, "a"), { v }).v;
  return {
    program: {
      outputs: { y: output(y, "a"), g: output(g, "a") },
      updates: { Q: d.add(Q, d.mean(y, "a")) },
    },
    inputs: { v: numbers(1, 3), s: numbers(2, 9) },
    params: { Q: numbers(3, 3) },
  };
};

/** A lane computes its own carries again, and reads those of other lanes from memory. */
const movedInOutput = (): Found => {
  const x = d.input("x", { b: 3, c: 3 }), i = d.input("i", { t: 3 });
  const { out } = d.scan({ over: "t", from: { h: x }, each: { i } }, ({ h }, { i }) => ({
    next: { h: d.mul(h, 0.7) },
    out: { y: d.mul(d.pad(h, "b", 1, 0), i) },
  }));
  const g = grad(d.sum(d.square(out.y), ["t", "b", "c"]), { i }).i;
  return {
    program: { outputs: { g: output(g, "t") } },
    inputs: { x: numbers(1, 9), i: numbers(2, 3) },
  };
};

/** What a step keeps and then moves along is held, though no carry is in it. */
const movedInStep = (): Found => {
  const s = d.input("s", { t: 2, a: 3, b: 3 }), z = d.input("z", {});
  const { out } = d.scan({ over: "t", from: { h: z }, each: { s } }, ({ h }, { s }) => {
    const m = d.softmax(s, "a");
    const next = d.add(d.mul(h, 0.5), d.tanh(d.mean(d.concat(m, m, "b"), ["a", "b"])));
    return { next: { h: next }, out: { y: next } };
  });
  return {
    program: { outputs: { y: output(out.y, "t") } },
    inputs: { s: numbers(4, 18), z: numbers(5, 1) },
  };
};

/** A slice of what a step keeps is of its lanes, not of those that read it. */
const slicedInStep = (): Found => {
  const s = d.input("s", { t: 3, a: 3, b: 3 }), h = d.input("h", { a: 3, b: 3 });
  const { out } = d.scan({ over: "t", from: { h }, each: { s } }, ({ h }, { s }) => {
    const k = d.rename(s, "a", "k");
    const m = d.contract(d.softmax(d.contract(s, k, "b"), "k"), k, "k");
    return { next: { h: d.tanh(d.add(h, m)) }, out: { o: d.slice(m, "a", 0, 2, 2), m } };
  });
  return {
    program: { outputs: { o: output(out.o, "t", "a", "b"), m: output(out.m, "t", "a", "b") } },
    inputs: { s: numbers(6, 27), h: numbers(7, 9) },
  };
};

/** A parameter that nothing reads in the end keeps what it was given. */
const unread = (): Found => {
  const p = d.param("p", { t: 3, a: 2 }, () => d.constant(0));
  const x = d.input("x", { t: 3, a: 2 }), h = d.input("h", { a: 2 });
  const { out } = d.scan({ over: "t", from: { h }, each: { x, p } }, ({ h }, { x }) => ({
    next: { h: d.tanh(d.add(h, x)) },
    out: { h },
  }));
  return {
    program: { outputs: { y: output(d.sum(d.mul(out.h, x), "a"), "t") } },
    inputs: { x: numbers(8, 6), h: numbers(9, 2) },
    params: { p: numbers(10, 6) },
  };
};

/** A carry of which a sum is taken outside of the scan back is stored, though others are computed again. */
const summedOutside = (): Found => {
  const h = d.input("h", { t: 3, b: 3 }), g = d.input("g", { t: 3, b: 3 });
  const w = d.input("w", { n: 3, c: 65, b: 3 }), s = d.input("s", { t: 3, a: 3, b: 3 });
  const m = d.expand(d.mean(w, ["n", "c"]), { t: 3 });
  const step = { over: "a", from: { h, g }, each: { s } } as const;
  const { out } = d.scan(step, ({ h, g }, { s }) => {
    const mean = d.on(h, d.sigmoid(d.mean(h, "t")));
    const next = { h: d.add(d.mul(h, 0.7), d.mul(mean, 0.3)), g: d.sin(d.add(g, m)) };
    return { next, out: { h: d.mul(h, s), w } };
  });
  const slopes = grad(d.sum(out.w, ["a", "n", "c", "b"]), { w, h, g });
  return {
    program: {
      outputs: {
        w: output(slopes.w, "n", "c", "b"),
        h: output(slopes.h, "t", "b"),
        g: output(slopes.g, "t", "b"),
      },
    },
    inputs: { h: numbers(11, 9), g: numbers(12, 9), w: numbers(13, 585), s: numbers(14, 27) },
  };
};

/** The carries of a scan back that computes another's again are stored where they are asked for. */
const carriesOfGradient = (): Found => {
  const g = d.input("g", { q: 5 }), x = d.input("x", { t: 9, q: 5 });
  const { final } = d.scan({ over: "t", from: { h: g }, each: { x } }, ({ h }, { x }) => ({
    next: { h: d.add(d.mul(h, 0.5), d.mul(d.tanh(d.mul(h, x)), d.on(x, d.mean(x, "q")))) },
    out: {},
  }));
  const slope = nodeOf(grad(d.sum(d.square(final.h), "q"), { x }).x);
  const back = topologicalOrder([slope]).findLast(({ op }) => op === "scan")!;
  return {
    program: {
      outputs: {
        x: output(tensorOf(slope), "t", "q"),
        came: output(tensorOf(part(back, "prev", "g.h")), "t", "q"),
      },
    },
    inputs: { x: numbers(15, 45), g: numbers(16, 5) },
  };
};

/** What a step reads at other positions of an axis that it does not hold is not kept for them. */
const readElsewhere = (): Found => {
  const size = { c: 63, d: 2, b: 3 } as const;
  const h = d.input("h", { c: 63, d: 2 }), x = d.input("x", size), e = d.input("e", size);
  const w = d.input("w", { c: 68, d: 2, b: 3 });
  const { out } = d.scan({ over: "b", from: { h }, each: { x, e, w } }, ({ h }, { x, e, w }) => {
    const mixed = d.on(h, d.mean(d.pad(h, "c", 1, 2), "c"));
    const six = d.add(d.pad(x, "c", 2, 3), 6);
    const wide = d.neg(d.div(d.mul(d.pad(e, "c", 2, 3), d.div(w, six)), six));
    return {
      next: { h: d.add(d.mul(h, 0.5), mixed) },
      out: { y: d.slice(wide, "c", 2, 63) },
    };
  });
  return {
    program: { outputs: { y: output(out.y, "b", "c", "d") } },
    inputs: {
      h: numbers(18, 126),
      x: numbers(19, 378),
      e: numbers(20, 378),
      w: numbers(21, 408),
    },
  };
};

/** What is looked up by a carry is read where the carry is known: in a block of its own condition. */
const lookedUpByCarry = (): Found => {
  const z = d.input("z", { d: 3, b: 3 }), x = d.input("x", { b: 3, c: 3 });
  const s = d.input("s", { t: 2, a: 3, b: 3 }), n = d.constant(0, "u32");
  const { out } = d.scan({ over: "t", from: { h: z, n }, each: { s } }, ({ h, n }) => {
    const row = d.gather(x, "b", d.modulo(n, d.constant(3, "u32")));
    const next = d.tanh(d.mul(d.on.add(h, d.mean(row, "c")), 0.5));
    return { next: { h: next, n: d.add(n, d.constant(1, "u32")) }, out: { h } };
  });
  const slope = grad(d.sum(d.sin(out.h), ["t", "d", "b"]), { z, x });
  return {
    program: { outputs: { z: output(slope.z, "d", "b"), x: output(slope.x, "b", "c") } },
    inputs: { z: numbers(22, 9), x: numbers(23, 9), s: numbers(24, 18) },
  };
};

const found = {
  lookedUpByCarry,
  carriesOfGradient,
  readElsewhere,
  summedOutside,
  updatedStart,
  movedInOutput,
  movedInStep,
  slicedInStep,
  unread,
};

for (const [name, backend] of [...devices, ["WebGPU with a GPU's kernels", webgpuAsGpu] as const]) {
  Deno.test({
    name: `programs in which faults were found agree with the reference on ${name}`,
    ignore: backend === undefined,
    fn: async () => {
      const made = Object.entries(found).map(([key, build]) => ({ key, ...build() }));
      for (const { key, program, inputs, params = {} } of made) {
        const results = [];
        for (const one of [referenceBackend(), backend!]) {
          const machine = await one.open({ program });
          machine.write(params);
          const values = await machine.run("program", inputs);
          results.push({ ...values, ...await machine.read(Object.keys(params)) });
          machine.close();
        }
        const said = disagreement(results[0], results[1]);
        assert(said === undefined, `${key}: ${said}`);
      }
    },
  });
}

Deno.test("a kernel of early and late values waits for all that both wait for", () => {
  // Ids grow along a program: 3 and 50 are stored by one kernel, of which the late one needs 20.
  const stores = (id: number, ...roots: number[]) =>
    ({ id, roots: roots.map((id) => ({ id })) }) as unknown as KernelDraft;
  const goal = stores(0, 20), both = stores(1, 3, 50), first = stores(2, 5);
  const needs = new Map([[first, [both]], [both, [goal]], [goal, []]]);
  assert(reaches(first, (draft) => draft === goal, (draft) => needs.get(draft)!));
  assert(!reaches(goal, (draft) => draft === first, (draft) => needs.get(draft)!));
});
