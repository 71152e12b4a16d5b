// Decodes a JSON value to a spec: every field is checked, and all mistakes are reported at once.
import * as E from "fp-ts/Either.js";
import { fieldError, fieldErrorText } from "../io/schema.ts";
import { specFields } from "./fields.ts";
import { contradictions } from "./rules.ts";
import type { Spec, SpecError } from "./spec.ts";

/**
 * Decodes an experiment; on the left, everything that is wrong with it.
 *
 * For `{ ..., "encoder": { "depth": "twelve", ... } }` the error's `specErrorText` is
 * `encoder.depth: expected a whole number of at least 1, found "twelve"`.
 */
export function decodeSpec(json: unknown): E.Either<readonly SpecError[], Spec> {
  const read = specFields.decode(json);
  const wrong = E.isLeft(read) ? read.left.map(fieldError) : [];
  // A misspelt field also invalidates the field it resembles, so that rules on that one are skipped.
  const places = wrong.map((error) =>
    error._tag === "UnknownField" ? beside(error.path, error.nearest) : error.path
  );
  const sound = (path: string): boolean =>
    !places.some((place) =>
      place === "" || place === path || path.startsWith(`${place}.`) || place.startsWith(`${path}.`)
    );
  const errors = [...wrong, ...contradictions(json as Spec, sound)];
  return errors.length > 0 ? E.left(errors) : read as E.Either<never, Spec>;
}

const beside = (path: string, name: string | undefined): string =>
  [...path.split(".").slice(0, -1), name ?? ""].join(".");

/** One mistake as one line: `masking.ratio: expected a number between 0 and 1, found 1.5`. */
export function specErrorText(error: SpecError): string {
  return error._tag === "Contradiction" ? `${error.path}: ${error.problem}` : fieldErrorText(error);
}
