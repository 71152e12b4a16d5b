// Symbolic sizes: bound expressions are those that would have been written with the numbers.
import { assertStrictEquals, assertThrows } from "@std/assert";
import type { AnyTensor } from "../../dsl/axes.ts";
import { AxisError } from "../../dsl/axes.ts";
import { bind } from "../../dsl/bind.ts";
import { grad } from "../../dsl/grad.ts";
import { nodeOf } from "../../dsl/node.ts";
import * as d from "../../dsl/ops.ts";

/** A normalised recurrence over an axis of any size. */
const model = (time: number | string): AnyTensor => {
  const x = d.input("x", { batch: 2, time }), w = d.input("w", { batch: 2 });
  const h = d.recurrence("time", d.sigmoid(x), d.mul(x, w));
  return d.sum(d.softmax(h, "time"), ["batch", "time"]);
};

Deno.test("a bound expression is the one written with the numbers", () => {
  assertStrictEquals(nodeOf(bind({ y: model("T") }, { T: 9 }).y), nodeOf(model(9)));
  const { y, z } = bind({ y: model("T"), z: model("U") }, { T: 9, U: 4, unused: 1 });
  assertStrictEquals(nodeOf(y), nodeOf(model(9)));
  assertStrictEquals(nodeOf(z), nodeOf(model(4)));
});

Deno.test("what is bound has a gradient, over as many steps as were bound", () => {
  const x = d.input("x", { batch: 2, time: "T" });
  const bound = bind({ x, y: d.sum(d.recurrence("time", x, x), ["batch", "time"]) }, { T: 5 });
  const slope = grad(bound.y, { x: bound.x }).x;
  assertStrictEquals(nodeOf(slope).axes.time, 5);
});

Deno.test("a size that is not bound, or not a size, is refused by its name", () => {
  const x = d.input("x", { batch: 8, time: "T" });
  const refused = (sizes: Readonly<Record<string, number>>, sentence: string) => {
    const error = assertThrows(() => bind({ x }, sizes), AxisError);
    assertStrictEquals(error.message.split("\n")[0], sentence);
  };
  refused({}, "axis 'time' has the symbolic size T, which is not bound; given: none");
  refused({ U: 3 }, "axis 'time' has the symbolic size T, which is not bound; given: 'U'");
  refused(
    { T: 2.5 },
    "axis 'time' can not have the size 2.5; it must be a whole number of at least 1",
  );
  refused({ T: 0 }, "axis 'time' can not have the size 0; it must be a whole number of at least 1");
});

Deno.test("moving along an axis without a number is refused where it is written", () => {
  const x = d.input("x", { time: "T" });
  assertThrows(
    () => d.flip(x, "time"),
    Error,
    "axis 'time' has the symbolic size T; this operation moves along it",
  );
});
