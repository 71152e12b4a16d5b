// Results that must be the same numbers. `assertEquals` takes 0 and -0 as equal, whose bits differ.
import { assertEquals } from "@std/assert";

/** Where in a value -0 stands. */
const negativeZeros = (value: unknown, path = ""): readonly string[] => {
  if (Object.is(value, -0)) return [path];
  if (typeof value !== "object" || value === null) return [];
  if (value instanceof Map) return negativeZeros([...value], path);
  if (Array.isArray(value) || value instanceof Float32Array || value instanceof Float64Array) {
    const found: string[] = [];
    for (let k = 0; k < value.length; k++) {
      const one = value[k];
      // Most are numbers other than -0: no path is made for those.
      if (typeof one === "number" && !Object.is(one, -0)) continue;
      found.push(...negativeZeros(one, `${path}[${k}]`));
    }
    return found;
  }
  return ArrayBuffer.isView(value)
    ? []
    : Object.entries(value).flatMap(([key, of]) => negativeZeros(of, `${path}.${key}`));
};

/** Fails unless two values are equal in structure, and each 0 in them has the same sign. */
export const assertSameNumbers = <T>(actual: T, expected: T, msg?: string): void => {
  assertEquals(actual, expected, msg);
  const what = "each 0 has its sign";
  assertEquals(
    negativeZeros(actual),
    negativeZeros(expected),
    msg === undefined ? what : `${msg}: ${what}`,
  );
};
