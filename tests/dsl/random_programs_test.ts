// Rewriting and printing of random programs: drawing scans' neighbourhoods into them keeps every
// value, and every expression and its gradient can be shown.
import { assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import { interpret, ordered } from "../../backends/reference/interpret.ts";
import { fuseIntoScans } from "../../dsl/fuse_scans.ts";
import { type Axes, showAxes } from "../../dsl/axes.ts";
import { type Node, nodeOf, tensorOf, topologicalOrder } from "../../dsl/node.ts";
import { print } from "../../dsl/print.ts";
import { derived } from "../support/check.ts";
import { programs, recipes } from "../programs/recipes.ts";

const seed = 20261;

Deno.test("absorbing keeps the values of random programs", () => {
  let rewritten = 0;
  fc.assert(
    fc.property(recipes, (recipe) => {
      for (const { of, values } of programs(recipe)) {
        const before = nodeOf(of);
        const [after] = fuseIntoScans([before]).roots;
        if (after === before) continue;
        rewritten++;
        const leaves = (leaf: Node) => values[leaf.attributes.name!];
        const [[want], [got]] = [before, after].map((root) => interpret([root], leaves));
        const now = ordered(got, after, Object.keys(before.axes));
        want.forEach((value, k) => {
          const agrees = Math.abs(value - now[k]) <= 1e-12 * (1 + Math.abs(value));
          assertStrictEquals(agrees, true, `${now[k]}, expected ${value}, in\n${print(of)}`);
        });
      }
    }),
    { seed, numRuns: 500 },
  );
  assertStrictEquals(rewritten > 50, true, `only ${rewritten} programs have something to absorb`);
});

/** How often a scan stands in a text, its parts not counted. */
const scans = (text: string): number => text.split(/ = scan\(|recurrence\(/).length - 1;

Deno.test("random programs and their gradients print: each name once, and the axes at the end", () => {
  let shown = 0;
  fc.assert(
    fc.property(recipes, (recipe) => {
      for (const one of programs(recipe)) {
        const isFloat = nodeOf(one.of).dtype === "f32" && Object.keys(one.wrt).length > 0;
        const gradients = isFloat ? Object.values(derived(one).gradients) : [];
        for (const of of [one.of, ...gradients].map(nodeOf)) {
          const text = print(tensorOf<Axes>(of));
          const names = [...text.matchAll(/^ *let (\S+) = /gm)].map(([, name]) => name);
          assertStrictEquals(new Set(names).size, names.length, text);
          assertStrictEquals(text.endsWith(showAxes(of.axes)), true, text);
          const own = topologicalOrder([of]).filter((one) => one.op === "scan").length;
          assertStrictEquals(scans(text) >= own, true, text);
          shown++;
        }
      }
    }),
    { seed, numRuns: 200 },
  );
  assertStrictEquals(shown > 150, true);
});
