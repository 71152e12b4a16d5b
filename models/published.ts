// The order in which the published checkpoints store a model's parameters.
import type { Parameter } from "../dsl/parameters.ts";

const order = [
  /^cls_token$/,
  /^pos_embed$/,
  /^mask_token$/,
  /^patch_embed\.proj\./,
  /^encoder_norm\./,
  /^pred\./,
  /^blocks\./,
];
const within = [
  "mixer.A_log",
  "mixer.D",
  "mixer.in_proj.weight",
  "mixer.conv1d.weight",
  "mixer.conv1d.bias",
  "mixer.x_proj.weight",
  "mixer.dt_proj.weight",
  "mixer.dt_proj.bias",
  "mixer.out_proj.weight",
  "norm.weight",
  "norm.bias",
];

const place = (name: string): readonly number[] => {
  const group = order.findIndex((pattern) => pattern.test(name));
  const block = name.match(/^blocks\.(\d+)\.(.*)$/);
  if (block !== null) return [group, Number(block[1]), within.indexOf(block[2])];
  const part = name.match(/^pred\.(\d+)\./);
  // Weights come before biases.
  return [
    group < 0 ? order.length : group,
    part === null ? 0 : Number(part[1]),
    name.endsWith(".bias") ? 1 : 0,
  ];
};

/** Parameters in the order of the published checkpoints; names that those lack come last. */
export const inPublishedOrder = (parameters: readonly Parameter[]): readonly Parameter[] =>
  [...parameters].sort((a, b) => {
    const x = place(a.name), y = place(b.name);
    return x[0] - y[0] || x[1] - y[1] || x[2] - y[2];
  });
