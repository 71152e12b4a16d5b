// `deno task tune NAME`: measures schedules of the kernels of an experiment's training step.
import * as E from "fp-ts/Either.js";
import { tune } from "../inspect/tune.ts";
import { commandOf, text } from "./command.ts";
import { deviceWithout } from "./options.ts";
import { oneSpec, set } from "./spec_options.ts";

export const command = commandOf({
  summary: "measures schedules of a step's kernels on this GPU; later runs use the faster ones",
  notes: `\
Measures alternative schedules of the kernels of an experiment's training step on this device, and
stores those that are faster; later runs on the device use them. Results may differ in the last
bits, as sums are in another order.`,
  words: oneSpec,
  options: {
    set,
    device: deviceWithout("wasm", "reference"),
    out: text("F", "where to write instead of the user's cache folder; runs do not look there", {
      paths: "files",
    }),
  },
  run: async ({ words: [spec], options: { set: changes, device = "auto", out } }) =>
    E.right(await tune(spec, { changes, device, out })),
});
