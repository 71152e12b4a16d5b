// The type checker knows the axes of the models, and sees when one is wrong: `deno task check:axes` tries
// every mistake, this a sample.
import { assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import { calls, casts, isSeen, mistakes } from "./models.ts";

Deno.test("models have at most three casts", () => {
  const found = casts();
  assertLessOrEqual(found.length, 3, found.join("\n"));
});

Deno.test("the axes of nearly all tensors in models are known to the checker", () => {
  const { all, unknown } = calls();
  assertGreaterOrEqual(all, 500);
  assertLessOrEqual(unknown.length, 0.07 * all, unknown.join("\n"));
});

Deno.test("most wrong axis names and dropped renames in models are type errors", () => {
  const all = mistakes();
  assertGreaterOrEqual(all.length, 300);
  const sample = all.filter((_, k) => k % 6 === 0), seen = sample.filter(isSeen);
  // Of all of them three quarters are; a sample of 75 may have a few less.
  assertGreaterOrEqual(seen.length, 0.68 * sample.length, `${seen.length} of ${sample.length}`);
});
