// `deno task accuracy`: errors of a device's scalar functions.
import * as E from "fp-ts/Either.js";
import { measureAccuracy } from "../inspect/accuracy.ts";
import { commandOf, noWords, whole } from "./command.ts";
import { device } from "./options.ts";

export const command = commandOf({
  summary: "measures the largest errors of the scalar functions over all floats",
  notes: `\
Measures every function of one float over all floats against float64: a table of the largest
errors in units in the last place (ulp), and where. Status 1 if an error is larger than
docs/numbers.md promises.`,
  words: noWords,
  options: {
    device,
    stride: whole("N", "only every Nth float; 1, all of them, takes hours", {
      from: 1,
      to: 2 ** 31,
      otherwise: 1,
      expected: "a whole number from 1, such as 1009",
    }),
  },
  run: async ({ options: { device = "auto", stride } }) =>
    E.right(await measureAccuracy(device, stride)),
});
