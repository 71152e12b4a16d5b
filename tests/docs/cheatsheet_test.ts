// Every row of docs/cheatsheet.md runs, and has the axes that it says.
import { assertEquals, assertGreater } from "@std/assert";
import { interpret } from "../../backends/reference/interpret.ts";
import { type AnyTensor, type Axes, volume } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";
import { nodeOf } from "../../dsl/node.ts";
import * as ops from "../../dsl/ops.ts";
import { normal, randomKey } from "../../dsl/random.ts";
import * as verbs from "../../dsl/verbs.ts";

const input = (name: string, axes: Axes, dtype: "f32" | "u32" = "f32"): AnyTensor =>
  ops.input(name, axes, dtype);
const three = { batch: 2, time: 3, channel: 4 };
const [x, y] = [input("x", three), input("y", three)];
const given = {
  x,
  y,
  v: input("v", { channel: 4 }),
  A: input("A", { row: 3, inner: 4 }),
  B: input("B", { inner: 4, column: 5 }),
  c: input("c", { column: 5 }),
  i: input("i", { n: 2 }, "u32"),
  m: ops.less(x, 0),
  k: ops.less(y, 0),
};
const all = { ...ops, ...verbs, grad, normal, randomKey, ...given };

const rows = Deno.readTextFileSync(new URL("../../docs/cheatsheet.md", import.meta.url))
  .split("\n").filter((line) => line.startsWith("|")).map((line) =>
    line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim().replaceAll("\\|", "|"))
  ).filter(([, , , , formant]) => formant.startsWith("`"));

Deno.test("every row of the cheat sheet runs, and has the axes that it says", () => {
  assertGreater(rows.length, 45);
  for (const [, , , , formant, axes] of rows) {
    const code = formant.slice(1, -1);
    const made = new Function(...Object.keys(all), `return ${code}`)(...Object.values(all));
    const node = nodeOf(made);
    assertEquals(Object.keys(node.axes).sort(), axes.split(" ").filter(Boolean).sort(), code);
    const [value] = interpret(
      [node],
      (leaf) =>
        Float64Array.from(
          { length: volume(leaf.axes) },
          (_, k) => leaf.dtype === "u32" ? k : 0.1 * k - 1,
        ),
    );
    assertEquals(value.length, volume(node.axes), code);
  }
});
