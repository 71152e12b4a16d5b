// What is compared, in our language: each workload is a few expressions of leaves that are given to
// both sides. Results are stored on the device as a training step stores its parameters, so that
// nothing large is read back, and nothing that a peer stores is left out on our side.
import { type AnyTensor, sameAxes, volume } from "../dsl/axes.ts";
import { valueAndGrad } from "../dsl/grad.ts";
import { nodeOf } from "../dsl/node.ts";
import { contract, gelu, mean, mul, named, param, softmax, square, sub, sum } from "../dsl/ops.ts";
import { type Parameter, parameters } from "../dsl/parameters.ts";
import { zeros } from "../models/initialisers.ts";
import { norm, scope, type Sequence } from "../models/layers.ts";
import { selectiveScan } from "../models/mamba.ts";
import { adamW, moments } from "../models/optimiser.ts";
import { attention, transformerBlock } from "../models/transformer.ts";
import { draw } from "../experiments/io/random.ts";
import type { Values } from "./peer.ts";

/** Sizes of the encoder's blocks: SSAM-tiny's and SSAST-tiny's, at a batch of 8 clips. */
export const SIZES = { batch: 8, token: 251, channel: 192, heads: 3, mlp: 4, depth: 4 } as const;
/** AdamW's numbers in the training step. */
export const ADAMW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.01 } as const;

/** One program to compare. */
export interface Workload {
  readonly name: string;
  /** What is computed and compared, by name. Names of leaves are their new values. */
  readonly results: Readonly<Record<string, AnyTensor>>;
  /** A matrix product, or several: there is little to do but multiply and add. */
  readonly isProduct?: boolean;
  /** The scalar among the results that is read back in every run, if there is one. */
  readonly loss?: AnyTensor;
}

const leaf = (name: string, axes: Readonly<Record<string, number>>): AnyTensor =>
  param(name, axes, zeros, { trainable: !name.startsWith("given.") });

const { batch, token, channel, heads, mlp, depth } = SIZES;
const sequence = (name: string): Sequence => leaf(name, { batch, token, channel }) as Sequence;
const same = scope("");

const product = (m: number, k: number, n: number): Workload => ({
  name: `matmul ${m}x${k}x${n}`,
  results: { y: contract(leaf("a", { m, k }), leaf("b", { k, n }), "k") as AnyTensor },
  isProduct: true,
});

/** The two products of attention: scores of all pairs of tokens, and values weighted by them. */
const attentionProducts = () => {
  const all = { batch, head: heads }, feature = channel / heads;
  const queries = leaf("q", { ...all, query: token, feature });
  const keys = leaf("k", { ...all, key: token, feature });
  const weights = leaf("weights", { ...all, query: token, key: token });
  const values = leaf("v", { ...all, key: token, feature });
  return {
    scores: {
      name: `attention scores [${batch}, ${heads}, ${token}, ${token}]`,
      results: { y: contract(queries, keys, "feature") as AnyTensor },
      isProduct: true,
    },
    values: {
      name: `attention values [${batch}, ${heads}, ${token}, ${feature}]`,
      results: { y: contract(weights, values, "key") as AnyTensor },
      isProduct: true,
    },
  } satisfies Record<string, Workload>;
};

/** The axes of a value in the order of a leaf that has the same, or with batch and token first. */
export const orderOf = (of: AnyTensor): Readonly<Record<string, number>> => {
  const axes = nodeOf(of).axes as Readonly<Record<string, number>>;
  const alike = parameters([of]).find((leaf) => sameAxes(leaf.axes, axes));
  if (alike !== undefined) return alike.axes as Readonly<Record<string, number>>;
  const first = ["batch", "token"].filter((axis) => axis in axes);
  return Object.fromEntries([...first, ...Object.keys(axes)].map((axis) => [axis, axes[axis]]));
};

/** Forward only: `y`. */
const forward = (name: string, y: AnyTensor): Workload => ({ name, results: { y } });

/** The loss Σ y · g for a given `g`, and its gradients for every leaf but `g`. */
const backward = (name: string, y: AnyTensor): Workload => {
  const axes = orderOf(y);
  const loss = sum(mul(y, leaf("given.g", axes)), Object.keys(axes) as never[]) as AnyTensor;
  const wrt = Object.fromEntries(
    parameters([y]).map((parameter) => [parameter.name, parameter.tensor]),
  );
  const { value, gradients } = valueAndGrad(loss, wrt);
  const named = Object.entries(gradients).map(([key, of]) => [`gradient of ${key}`, of] as const);
  return { name, results: { loss: value, ...Object.fromEntries(named) }, loss: value };
};

const trainingStep = (name: string): Workload => {
  const blocks = Array.from(
    { length: depth },
    (_, k) => named(`block ${k}`, () => transformerBlock(scope(`blocks.${k}`), { heads, mlp })),
  );
  const x = sequence("given.x");
  const y = blocks.reduce<Sequence>((h, block) => block(h), x);
  const error = square(sub(y, sequence("given.target"))) as AnyTensor;
  const loss = mean(error, ["batch", "token", "channel"] as never[]) as AnyTensor;
  const trained = parameters([loss]).filter((parameter) => parameter.trainable);
  const wrt = Object.fromEntries(trained.map((parameter) => [parameter.name, parameter.tensor]));
  const { value, gradients } = valueAndGrad(loss, wrt);
  const scalar = (key: string) => leaf(key, {}) as never;
  const step = { rate: scalar("given.rate"), step: scalar("given.step") };
  const updates = adamW(ADAMW, trained, gradients, step);
  return { name, results: { loss: value, ...updates }, loss: value };
};

const recurrence = (): AnyTensor => {
  const steps = { batch, token }, inner = 576, state = 24;
  return selectiveScan({
    u: leaf("u", { ...steps, channel: inner }),
    delta: leaf("delta", { ...steps, channel: inner }),
    A: leaf("A", { channel: inner, state }),
    B: leaf("B", { ...steps, state }),
    C: leaf("C", { ...steps, state }),
  }) as AnyTensor;
};

const attend = (): AnyTensor => attention(same, { heads })(sequence("x")) as AnyTensor;

/** All workloads by name; each is made when it is asked for. */
export const WORKLOADS: Readonly<Record<string, () => Workload>> = Object.fromEntries(
  [
    ["matmul 512", () => product(512, 512, 512)],
    ["matmul 1024", () => product(1024, 1024, 1024)],
    ["matmul 2008x192x768", () => product(2008, 192, 768)],
    ["attention scores", () => attentionProducts().scores],
    ["attention values", () => attentionProducts().values],
    [
      "softmax",
      () =>
        forward(
          "softmax [8, 3, 251, 251]",
          softmax(leaf("x", { batch, head: heads, token, key: token }), "key"),
        ),
    ],
    [
      "layer norm",
      () => forward("layer norm [8, 251, 192]", norm(same, 1e-6)(sequence("x")) as AnyTensor),
    ],
    [
      "gelu",
      () => forward("GELU [8, 251, 768]", gelu(leaf("x", { batch, token, channel: 4 * channel }))),
    ],
    ["attention", () => forward("attention, forward", attend())],
    ["attention backward", () => backward("attention, forward and backward", attend())],
    [
      "block",
      () =>
        backward(
          "Transformer block, forward and backward",
          transformerBlock(same, { heads, mlp })(sequence("x")) as AnyTensor,
        ),
    ],
    ["training step", () => trainingStep("training step, four blocks, AdamW")],
    ["recurrence", () => forward("recurrence [8, 251, 576, 24], forward", recurrence())],
    [
      "recurrence backward",
      () => backward("recurrence [8, 251, 576, 24], forward and backward", recurrence()),
    ],
  ] as const,
);

const between = (low: number, high: number) => (u: number): number => low + (high - low) * u;

/** What the values of a leaf are drawn from, so that every workload stays in its usual range. */
const rangeOf = ({ name, axes }: Parameter): (u: number) => number => {
  const [first, second] = Object.values(axes).map(Number);
  if (name === "given.rate") return () => 1e-4;
  if (name === "given.step") return () => 10;
  if (name.startsWith(moments("").square)) return between(1e-6, 2e-6);
  if (name.startsWith(moments("").mean)) return between(-1e-3, 1e-3);
  if (name === "A") return between(-1.5, -0.5);
  if (name === "delta") return between(0.01, 0.1);
  if (name.endsWith("weight") && second !== undefined) {
    const bound = Math.sqrt(6 / (first + second));
    return between(-bound, bound);
  }
  if (name.endsWith("weight")) return between(0.5, 1.5);
  return between(-1, 1);
};

/** The leaves of a workload, sorted by name. */
export const leavesOf = ({ results }: Workload): readonly Parameter[] =>
  parameters(Object.values(results));

/** Values of a workload's leaves: the same at every call. */
export const valuesOf = (workload: Workload): Values =>
  Object.fromEntries(
    leavesOf(workload).map((parameter, n) => {
      const value = rangeOf(parameter);
      const data = Float32Array.from(
        { length: volume(parameter.axes) },
        (_, k) => value(draw(0, n, k)),
      );
      return [parameter.name, { shape: Object.values(parameter.axes).map(Number), data }];
    }),
  );
