// `deno task explain NAME...`: the kernels of an experiment's training step.
import * as E from "fp-ts/Either.js";
import { explain } from "../inspect/explain.ts";
import { commandOf, flag } from "./command.ts";
import { device } from "./options.ts";
import { set, someSpecs } from "./spec_options.ts";

export const command = commandOf({
  summary: "shows the kernels of a training step: shapes, flops, bytes",
  notes: `\
Shows the kernels of an experiment's training step: shape, grid, flops, bytes read and written, the
bytes if every operation read and wrote memory (the floor without fusion), and the totals. Of several
experiments, only the totals: a line for each.`,
  words: someSpecs,
  options: {
    set,
    device,
    time: flag(
      "measures each kernel, and the device's copy bandwidth and flop rate for comparison",
    ),
    json: flag("one JSON object"),
    code: flag("also prints each kernel's WGSL"),
  },
  run: async ({ words, options: { set: changes, device = "auto", ...options } }) =>
    E.right(await explain(words, { ...options, changes, device })),
});
