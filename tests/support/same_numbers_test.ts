import { assertThrows } from "@std/assert";
import { assertSameNumbers } from "./same_numbers.ts";

Deno.test("assertSameNumbers tells 0 from -0 wherever it stands", () => {
  const made = (zero: number): readonly unknown[] => [
    zero,
    [1, zero],
    Float32Array.of(1, zero),
    Float64Array.of(zero, NaN),
    { a: { b: [Float32Array.of(zero)] } },
    new Map([["a", [zero]]]),
  ];
  const positive = made(0), negative = made(-0);
  positive.forEach((one, k) => {
    assertSameNumbers(one, made(0)[k]);
    assertSameNumbers(negative[k], made(-0)[k]);
    assertThrows(() => assertSameNumbers(one, negative[k], "text"), Error, "text");
    assertThrows(() => assertSameNumbers(negative[k], one), Error, "sign");
  });
  assertThrows(() => assertSameNumbers(Float32Array.of(1), Float32Array.of(2)));
});
