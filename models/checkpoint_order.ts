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
  "norm1.weight",
  "norm1.bias",
  "attn.qkv_layer.weight",
  "attn.qkv_layer.bias",
  "attn.proj_layer.weight",
  "attn.proj_layer.bias",
  "norm2.weight",
  "norm2.bias",
  "mlp.layer1.weight",
  "mlp.layer1.bias",
  "mlp.layer2.weight",
  "mlp.layer2.bias",
  "layer.learnable_skip",
  "layer.proj_up.weight",
  "layer.q_proj.weight",
  "layer.k_proj.weight",
  "layer.v_proj.weight",
  "layer.conv1d.conv.weight",
  "layer.conv1d.conv.bias",
  "layer.mlstm_cell.igate.weight",
  "layer.mlstm_cell.igate.bias",
  "layer.mlstm_cell.fgate.weight",
  "layer.mlstm_cell.fgate.bias",
  "layer.mlstm_cell.outnorm.weight",
  "layer.proj_down.weight",
];

const indexOf = (list: readonly string[], name: string): number => {
  const at = list.indexOf(name);
  return at < 0 ? list.length : at;
};

const place = (name: string): readonly number[] => {
  const group = order.findIndex((pattern) => pattern.test(name));
  const block = name.match(/^blocks\.(\d+)\.(.*)$/);
  if (block !== null) return [group, Number(block[1]), indexOf(within, block[2])];
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
