// Tuning tables on disk: for each adapter a JSON document in the user's cache folder, with the schedule
// edits that `deno task tune` found to be faster.
import { join } from "node:path";
import * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import { NUMBERS, WORDS } from "../../backends/webgpu/schedules.ts";
import type { Edit, Tuning } from "../../backends/webgpu/target.ts";
import { cacheFolder } from "../../backends/webgpu/discovery/swiftshader.ts";
import { fieldError, fieldErrorText, fields, numberThat, oneOf, optional } from "../io/schema.ts";

/** A tuning table and the device it was measured on. */
export interface TuningTable {
  /** The version of this format: 1. */
  readonly version: 1;
  /** The device's description, as in `deno task doctor`. */
  readonly device: string;
  /** Edits by kernel key, applied in order. */
  readonly kernels: Tuning;
}

const among = <N extends number>(numbers: readonly N[]): t.Type<number | undefined> =>
  optional(numberThat(`one of ${numbers.join(", ")}`, (n) => numbers.some((one) => one === n)));

type Whole = { readonly [K in keyof Required<Edit>]: Edit[K] };
const edit = fields<Whole>({
  side: among(NUMBERS.side),
  down: among(NUMBERS.down),
  across: among(NUMBERS.across),
  depth: among(NUMBERS.depth),
  threads: among(NUMBERS.threads),
  from: optional(oneOf(...WORDS.from)),
  by: optional(oneOf(...WORDS.by)),
}) as t.Type<Edit>;

const table: t.Type<TuningTable> = fields<TuningTable>({
  version: numberThat("1", (n) => n === 1) as t.Type<1>,
  device: t.string,
  kernels: t.record(t.string, t.array(edit)) as unknown as t.Type<Tuning>,
});

/** The path of a device's table in the user's cache folder. */
export const tuningPath = (device: string): string =>
  join(cacheFolder(), "tuning", `${device.replace(/[^A-Za-z0-9.]+/g, "-")}.json`);

/** Decodes a table; on the left, what is wrong with it. */
export const decodeTuning = (json: unknown): E.Either<string, TuningTable> => {
  const read = table.decode(json);
  return E.isRight(read)
    ? read
    : E.left(read.left.map((error) => fieldErrorText(fieldError(error))).join("; "));
};

/**
 * The table in a file, or undefined if there is no such file. On the left, why an existing file cannot be
 * used, in words.
 */
export const readTuning = (
  path: string,
  device: string,
): E.Either<string, TuningTable | undefined> => {
  const refused = (reason: string) =>
    E.left(`the tuning table ${path} is not used: ${reason}; 'deno task tune' makes a new one`);
  let json: unknown;
  try {
    json = JSON.parse(Deno.readTextFileSync(path));
  } catch (cause) {
    return cause instanceof Deno.errors.NotFound ? E.right(undefined) : refused(`${cause}`);
  }
  const read = decodeTuning(json);
  if (E.isLeft(read)) return refused(read.left);
  return read.right.device === device ? read : refused(`it was measured on ${read.right.device}`);
};
