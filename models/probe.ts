// The classifier that embeddings are scored with: hear-eval-kit's perceptron with batch norm and
// dropout (Turian et al., "HEAR: Holistic evaluation of audio representations", 2022) as the published
// comparison sets it up. Everything has an axis `trial`: seeds, folds and points of the grid are
// trained in parallel by one program, each with rows, rate, dropout and random key of its own.
import type { AnyTensor, Tensor } from "../dsl/axes.ts";
import { valueAndGrad } from "../dsl/grad.ts";
import type { Initialiser, Key } from "../dsl/node.ts";
import {
  add,
  constant,
  contract,
  div,
  exp,
  expand,
  gather,
  input,
  less,
  log,
  max,
  maximum,
  mean,
  mul,
  named,
  on,
  param,
  recip,
  relu,
  rename,
  select,
  sigmoid,
  softmax,
  softplus,
  sqrt,
  square,
  stopGradient,
  sub,
  sum,
  toFloat,
} from "../dsl/ops.ts";
import { type Parameter, parameters } from "../dsl/parameters.ts";
import { foldIn, keyForName, uniform } from "../dsl/random.ts";
import { fanIn, ones, spread, zeros } from "./initialisers.ts";
import { adamW } from "./optimiser.ts";

/** Sizes that determine a probe's programs. */
export interface ProbeSizes {
  /** Probes trained in parallel. */
  readonly trials: number;
  /** Clips of all splits: the first axis of the parameters `embeddings` and `targets`. */
  readonly clips: number;
  /** Size of an embedding. */
  readonly features: number;
  /** Hidden layers; published: one of 1024 units. */
  readonly layers: number;
  readonly hidden: number;
  readonly classes: number;
  /** One label per clip, or any number of them. */
  readonly prediction: "multiclass" | "multilabel";
}

/** One number per trial. */
export type PerTrial = Tensor<{ trial: number }>;
type Rows = Tensor<{ trial: number; row: number }>;
type Channels = Tensor<{ trial: number; row: number; channel: number }>;
type Updates = Readonly<Record<string, AnyTensor>>;

/** PyTorch's defaults of BatchNorm1d and Adam. */
const momentum = 0.1, epsilon = 1e-5;
const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };

/** Xavier (Glorot and Bengio 2010), normal: a gain times √(2 / (fan-in + fan-out)). */
const xavierNormal = (inputs: number, outputs: number, gain: number): Initialiser =>
  spread(gain * Math.sqrt(2 / (inputs + outputs)));

/** What training needs in addition to a batch: which rows count, and the key of dropout. */
interface Training {
  readonly present: Rows;
  readonly dropout: PerTrial;
  readonly key: Key<{ trial: number }>;
}

/** Activations, and new values of parameters that are not trained. */
interface Layered {
  readonly y: Channels;
  readonly updates: Updates;
}

/** How many rows of each trial count; 1 where none does. */
const counted = (present: Rows): PerTrial => maximum(sum(present, "row"), constant(1));

/** The layers of the network; every parameter has the axis `trial`. */
const layersOf = ({ trials, hidden }: ProbeSizes) => {
  /** y = W x + b; weights are (out, in), and biases are initialised as in PyTorch. */
  const linear =
    (name: string, from: number, to: number, gain: number) => (x: Channels): Channels => {
      const weights = { trial: trials, out: to, channel: from };
      const weight = param(`${name}.weight`, weights, xavierNormal(from, to, gain));
      const bias = param(`${name}.bias`, { trial: trials, channel: to }, fanIn(from));
      const y = rename(contract(x, weight, "channel"), "out", "channel");
      return on.add(y, bias);
    };

  /** Batch norm (Ioffe and Szegedy 2015) over the valid rows, or with the running moments. */
  const batchNorm = (name: string, training?: Training) => (x: Channels): Layered => {
    const own = (part: string, init: Initialiser, trainable: boolean) =>
      param(`${name}.${part}`, { trial: trials, channel: hidden }, init, { trainable });
    const running = {
      mean: own("running_mean", zeros, false),
      variance: own("running_var", ones, false),
    };
    const weight = own("weight", ones, true), bias = own("bias", zeros, true);
    const finished = (centred: Channels, variance: typeof weight): Channels =>
      on.add(on.mul(on.div(centred, sqrt(add(variance, epsilon))), weight), bias);
    if (training === undefined) {
      return { y: finished(on.sub(x, running.mean), running.variance), updates: {} };
    }
    const { present } = training, count = counted(present);
    const average = (of: Channels) => on.div(contract(of, present, "row"), count);
    const centre = average(x), centred = on.sub(x, centre);
    const variance = average(square(centred));
    const unbiased = on.mul(variance, div(count, maximum(add(count, -1), constant(1))));
    const moved = (old: typeof weight, now: typeof weight) =>
      on.add(mul(old, 1 - momentum), mul(now, momentum));
    return {
      y: finished(centred, variance),
      updates: {
        [`${name}.running_mean`]: moved(running.mean, centre),
        [`${name}.running_var`]: moved(running.variance, unbiased),
      },
    };
  };
  return { linear, batchNorm };
};

/** Dropout (Srivastava et al. 2014): kept units are scaled by 1 / (1 - dropout). */
const dropped =
  (name: string, hidden: number, rows: number, { dropout, key }: Training) =>
  (x: Channels): Channels => {
    const units = { row: rows, channel: hidden };
    const chance = uniform(keyForName(key, name), units);
    const kept = on(chance, recip(add(mul(dropout, -1), 1)));
    return mul(x, select(less(chance, dropout), constant(0), kept));
  };

/** The network on rows of embeddings: logits, and in training the new running moments. */
const logits = (sizes: ProbeSizes, rows: number, training?: Training) => (x: Channels): Layered => {
  const { features, layers, hidden, classes } = sizes;
  const { linear, batchNorm } = layersOf(sizes);
  let y = x, updates: Updates = {}, from = features;
  for (let k = 0; k < layers; k++) {
    // The gain depends on the layer before: none for the first, a ReLU for the others.
    const before = linear(`hidden.${k}`, from, hidden, k === 0 ? 1 : Math.SQRT2)(y);
    const normal = named("batch norm", () => batchNorm(`norm.${k}`, training)(before));
    updates = { ...updates, ...normal.updates };
    y = relu(
      training === undefined
        ? normal.y
        : named("dropout", () => dropped(`dropout.${k}`, hidden, rows, training)(normal.y)),
    );
    from = hidden;
  }
  const gain = layers === 0 ? 1 : Math.SQRT2;
  return { y: linear("output", from, classes, gain)(y), updates };
};

/** The loss of every row: cross-entropy, or the mean over classes of binary cross-entropy. */
const losses = (prediction: ProbeSizes["prediction"], logit: Channels, target: Channels): Rows => {
  if (prediction === "multilabel") {
    return mean(sub(softplus(logit), mul(logit, target)), "channel");
  }
  const top = stopGradient(max(logit, "channel"));
  const shifted = on.sub(logit, top);
  const chosen = contract(shifted, target, "channel");
  return sub(log(sum(exp(shifted), "channel")), chosen);
};

/** Rows of the shared embeddings and targets at the input `rows`, positions along the axis of clips. */
const batchOf = ({ trials, clips, features, classes }: ProbeSizes, rows: number) => {
  const positions = input("rows", { trial: trials, row: rows }, "u32");
  const held = (name: string, size: number): Channels => {
    const all = param(name, { clip: clips, channel: size }, zeros, { trainable: false });
    return gather(all, "clip", positions);
  };
  return { embeddings: held("embeddings", features), targets: held("targets", classes) };
};

/** Every trial's own random key: inputs `seed` and `stream`, two u32. */
const keyOf = ({ trials }: ProbeSizes): Key<{ trial: number }> => ({
  high: input("seed", { trial: trials }, "u32"),
  low: input("stream", { trial: trials }, "u32"),
});

/**
 * One step of Adam for every trial, on `rows` clips of each. Inputs, all by trial: `rows` (positions,
 * `[trial, row]`), `present` (1 for a valid row, else 0), `rate`, `dropout`, `step` (u32, from 0),
 * `seed` and `stream`. A trial without valid rows is not updated. Gives each trial's loss.
 */
export const probeStep = (sizes: ProbeSizes, rows: number): {
  readonly loss: PerTrial;
  readonly updates: Updates;
  readonly trained: readonly Parameter[];
} => {
  const { trials, prediction } = sizes;
  const perTrial = { trial: trials };
  const present = input("present", { trial: trials, row: rows });
  const step = input("step", perTrial, "u32");
  const training = {
    present,
    dropout: input("dropout", perTrial),
    key: foldIn(keyOf(sizes), step),
  };
  const { embeddings, targets } = batchOf(sizes, rows);
  const { y, updates: moved } = logits(sizes, rows, training)(embeddings);
  const each = contract(losses(prediction, y, targets), present, "row");
  const loss = div(each, counted(present));
  const total = sum(loss, "trial");
  const trained = parameters([total]).filter(({ trainable }) => trainable);
  const wrt = Object.fromEntries(trained.map(({ name, tensor }) => [name, tensor]));
  const { gradients } = valueAndGrad(total, wrt);
  const counts = { rate: input("rate", perTrial), step: add(toFloat(step), 1) };
  const updates = { ...adamW(adam, trained, gradients, counts), ...moved };
  const old = new Map(parameters(Object.values(updates)).map(({ name, tensor }) => [name, tensor]));
  const active = less(constant(0), sum(present, "row"));
  return {
    loss,
    updates: Object.fromEntries(
      Object.entries(updates).map(([name, now]) => [name, select(active, now, old.get(name)!)]),
    ),
    trained,
  };
};

/** The probes' predictions for clips, as probabilities `[trial, row, channel]`: input `rows`. */
export const probePredictions = (sizes: ProbeSizes, rows: number): Channels => {
  const { y } = logits(sizes, rows)(batchOf(sizes, rows).embeddings);
  return sizes.prediction === "multilabel" ? sigmoid(y) : softmax(y, "channel");
};

/**
 * First values for the trials that begin, as updates of all that `probeStep` changes: inputs `fresh`
 * (1 for a trial that begins), `seed` and `stream`. A probe's values depend on nothing else, so that
 * it is the same whichever others are trained with it.
 */
export const probeStart = (sizes: ProbeSizes, changed: readonly Parameter[]): Updates => {
  const fresh = less(constant(0), input("fresh", { trial: sizes.trials }));
  const key = keyOf(sizes);
  return Object.fromEntries(changed.map(({ name, axes, init, tensor }) => {
    const { trial: _, ...inner } = axes;
    const first = expand(init(keyForName(key, name), inner), axes);
    return [name, select(fresh, first, tensor)];
  }));
};
