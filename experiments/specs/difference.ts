// The fields in which two documents differ.
import { isObject } from "../../backends/runtime/json.ts";

/** A field in which two documents differ; `undefined` where one does not have it. */
export interface Difference {
  /** Such as `encoder.depth`. */
  readonly path: string;
  readonly one: unknown;
  readonly other: unknown;
}

/** All fields in which two JSON values differ, in the order of the first. Lists are compared as a whole. */
export const differences = (one: unknown, other: unknown, path = ""): readonly Difference[] => {
  if (isObject(one) && isObject(other)) {
    const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])];
    return keys.flatMap((key) =>
      differences(one[key], other[key], path === "" ? key : `${path}.${key}`)
    );
  }
  return JSON.stringify(one) === JSON.stringify(other) ? [] : [{ path, one, other }];
};

const shown = (value: unknown): string => value === undefined ? "nothing" : JSON.stringify(value);

/** One difference as `seed: 0 there, 1 here`, with labels for the two documents. */
export const differenceText = (
  { path, one, other }: Difference,
  [first, second]: readonly [string, string],
): string => `${path}: ${shown(one)} ${first}, ${shown(other)} ${second}`;
