// Addresses: what is folded has the value of what was written, in the 32-bit arithmetic of devices.
import { assert, assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import * as affine from "../../../backends/codegen/index_math.ts";

/** An expression in the variables x (0 ... 41) and y (0 ... 6), and what it is meant to be. */
interface Meant {
  readonly int: affine.IndexExpr;
  readonly of: (x: number, y: number) => number;
}

const x: Meant = { int: affine.variable("x", 42), of: (x) => x };
const y: Meant = { int: affine.variable("y", 7), of: (_, y) => y };

const meant: fc.Arbitrary<Meant> = fc.letrec<{ any: Meant }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(x, y),
    fc.integer({ min: -9, max: 9 }).map((n) => ({ int: affine.int(n), of: () => n })),
    fc.tuple(tie("any"), tie("any")).map(([a, b]) => ({
      int: affine.sum(a.int, b.int),
      of: (x: number, y: number) => a.of(x, y) + b.of(x, y),
    })),
    fc.tuple(tie("any"), fc.integer({ min: -5, max: 12 })).map(([a, n]) => ({
      int: affine.times(a.int, n),
      of: (x: number, y: number) => a.of(x, y) * n,
    })),
    fc.tuple(tie("any"), fc.integer({ min: 1, max: 9 })).map(([a, n]) => ({
      int: affine.quotient(a.int, n),
      of: (x: number, y: number) => Math.floor(a.of(x, y) / n),
    })),
    fc.tuple(tie("any"), fc.integer({ min: 1, max: 9 })).map(([a, n]) => ({
      int: affine.remainder(a.int, n),
      of: (x: number, y: number) => a.of(x, y) - n * Math.floor(a.of(x, y) / n),
    })),
  ),
})).any;

/** Divisions as integer divisions: innermost brackets first. */
const truncating = (text: string): string => {
  let out = "";
  for (let k = 0; k < text.length; k++) {
    if (text[k] !== "(") {
      out += text[k];
      continue;
    }
    let depth = 0, end = k;
    for (; end < text.length; end++) {
      if (text[end] === "(") depth++;
      if (text[end] === ")" && --depth === 0) break;
    }
    const inner = truncating(text.slice(k + 1, end));
    const isDivision = / \/ \d+$/.test(inner);
    out += isDivision ? `Math.trunc(${inner})` : `(${inner})`;
    k = end;
  }
  return out;
};

/** The value of a text where integers are divided towards zero. */
const valueOf = (text: string): (x: number, y: number) => number =>
  new Function("x", "y", `return ${truncating(text)};`) as never;

Deno.test("folded addresses have the value of what was written, within their bounds", () => {
  fc.assert(
    fc.property(meant, ({ int, of }) => {
      const value = valueOf(affine.show(int));
      for (let x = 0; x < 42; x++) {
        for (let y = 0; y < 7; y++) {
          const wanted = of(x, y);
          assertStrictEquals(value(x, y) + 0, wanted + 0, `${affine.show(int)} at ${x}, ${y}`);
          assert(affine.low(int) <= wanted && wanted <= affine.high(int), affine.show(int));
        }
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("terms that cancel are gone", () => {
  const a = affine.variable("a", 6), b = affine.variable("b", 4);
  const none = affine.sum(affine.sum(affine.times(a, 3), b), affine.times(a, -3));
  assertEquals(none.terms.map(({ atom }) => atom.text), ["b"]);
  assertEquals(affine.depends(none), ["b"]);
  assertEquals(affine.sum(affine.int(2), affine.int(-2)), affine.int(0));
});

Deno.test("what was unflattened is flattened to what it was", () => {
  const flat = affine.variable("flat", 6 * 5 * 4);
  const places = [
    affine.quotient(flat, 20),
    affine.remainder(affine.quotient(flat, 4), 5),
    affine.remainder(flat, 4),
  ];
  const [a, b, c] = places;
  const address = affine.sum(affine.sum(affine.times(a, 20), affine.times(b, 4)), c);
  assertStrictEquals(affine.show(address), "flat");
  // Another order of the axes is another address.
  const other = affine.sum(affine.sum(affine.times(b, 24), affine.times(a, 4)), c);
  assert(/%/.test(affine.show(other)), affine.show(other));
});
