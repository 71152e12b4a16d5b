// The shell and its options, on the reference: what each order, mask, style and option must do.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertNotEquals,
  assertStrictEquals,
} from "@std/assert";
import type { Values } from "../../backends/backend.ts";
import { referenceBackend } from "../../backends/reference/backend.ts";
import type { AnyTensor } from "../../dsl/axes.ts";
import { nodeOf } from "../../dsl/node.ts";
import { input } from "../../dsl/ops.ts";
import { parameters } from "../../dsl/parameters.ts";
import { randomKey } from "../../dsl/random.ts";
import { initialValues } from "../../experiments/encoders/initial_values.ts";
import { encode, type Encoder, patchTokens } from "../../models/encoder.ts";
import { corrected, faithful } from "../../models/fidelity.ts";
import type { Sequence } from "../../models/layers.ts";
import { type Masking, type PerToken, randomMask, visible } from "../../models/masking.ts";
import type { Spectrogram } from "../../models/patches.ts";
import { publishedEncoder } from "../../models/sizes.ts";
import type { Order } from "../../models/stack.ts";
import { stack } from "../../models/stack.ts";
import { forward, type Pretraining } from "../../models/training.ts";
import { numbers } from "../support/check.ts";
import { assertSameNumbers } from "../support/same_numbers.ts";

const families = ["transformer", "mamba", "xlstm"] as const;
const patch = { time: 4, frequency: 8 };

/** Small encoders of every family; xLSTM with both kinds of block. */
const small = (family: (typeof families)[number]): Encoder => {
  const of = publishedEncoder(family, "tiny");
  const common = { dim: 16, depth: 2, patch };
  switch (of.family) {
    case "transformer":
      return { ...of, ...common, heads: 2 };
    case "mamba":
      return { ...of, ...common, state: 4 };
    case "xlstm":
      return { ...of, ...common, heads: 2, slstm: [1] };
  }
};

const frames = 24, mels = 16, clips = 2, count = 12;
const x: Spectrogram = input("x", {
  batch: clips as number,
  time: frames as number,
  mel: mels as number,
});
const clip = numbers(1, clips * frames * mels);

/** A value on the reference, with the initial parameters but noise in place of zeros. */
const valueOf = async (of: AnyTensor, inputs: Values): Promise<Float32Array> => {
  const all = parameters([of]);
  const machine = await referenceBackend().open({
    main: { outputs: { y: { of, order: Object.keys(nodeOf(of).axes) } } },
  });
  const initial = initialValues(all, 3);
  machine.write(Object.fromEntries(
    Object.entries(initial).map(([name, values], k) => [
      name,
      /pos_embed/.test(name) ? values : values.map((v, i) => v + numbers(k, i + 1, -0.1, 0.1)[i]),
    ]),
  ));
  const { y } = await machine.run("main", inputs);
  machine.close();
  return y as Float32Array;
};

/** The clip with noise in one patch of the first recording. */
const disturbed = (token: number): Float32Array => {
  const columns = mels / patch.frequency;
  const noise = numbers(77, clip.length);
  return clip.map((v, k) => {
    const row = Math.floor((k % (frames * mels)) / mels), column = k % mels;
    const at = Math.floor(row / patch.time) * columns + Math.floor(column / patch.frequency);
    return k < frames * mels && at === token ? v + noise[k] : v;
  });
};

/** Which output tokens of the first recording change when one patch does. */
const reach = async (encoder: Encoder, token: number): Promise<readonly boolean[]> => {
  const y = patchTokens(encoder, encode(encoder)(x));
  const before = await valueOf(y, { x: clip }), after = await valueOf(y, { x: disturbed(token) });
  const order = Object.keys(nodeOf(y).axes);
  assertEquals([...order].sort(), ["batch", "channel", "token"]);
  const step = (axis: string) =>
    order.slice(order.indexOf(axis) + 1).reduce((n, name) => n * Number(nodeOf(y).axes[name]), 1);
  return Array.from(
    { length: count },
    (_, t) =>
      Array.from({ length: encoder.dim }, (_, c) => t * step("token") + c * step("channel"))
        .some((k) => Math.abs(before[k] - after[k]) > 1e-9),
  );
};

const expected: Readonly<Record<Order, (from: number, to: number, family: string) => boolean>> = {
  causal: (from, to) => to >= from,
  reversed: (from, to) => to <= from,
  alternating: () => true,
  bidirectional: () => true,
};

for (const family of families) {
  Deno.test(`${family}: what each order lets a patch reach`, async () => {
    for (const order of ["causal", "reversed", "alternating", "bidirectional"] as const) {
      const found = await reach({ ...small(family), order }, 5);
      const wanted = found.map((_, to) => expected[order](5, to, family));
      assertEquals(found, wanted, order);
    }
  });
}

const pretraining = (encoder: Encoder, more: Partial<Pretraining> = {}) => ({
  encoder,
  objective: { style: "ssast" as const },
  masking: { kind: "unstructured" as const, ratio: 0.5 },
  fidelity: faithful,
  ...more,
});
const mask: PerToken = input("mask", { batch: clips as number, token: count as number });
const hidden = [1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0];
const masks = Float32Array.from([...hidden, ...hidden.toReversed()]);

/** Predictions of the first recording, a list per patch. */
const predicted = async (of: ReturnType<typeof pretraining>, given: Float32Array) => {
  const { prediction } = forward(of, x, mask);
  assertEquals(Object.keys(nodeOf(prediction).axes).sort(), ["batch", "pixel", "token"]);
  const values = await valueOf(prediction, { x: given, mask: masks });
  const order = Object.keys(nodeOf(prediction).axes);
  const size = { batch: clips, token: count, pixel: 32 } as Record<string, number>;
  const step = (axis: string) =>
    order.slice(order.indexOf(axis) + 1).reduce((n, name) => n * size[name], 1);
  return Array.from(
    { length: count },
    (_, t) => Array.from({ length: 32 }, (_, p) => values[t * step("token") + p * step("pixel")]),
  );
};

Deno.test("faithful, a Transformer predicts one patch for all hidden ones; corrected, not", async () => {
  const spread = async (fidelity: typeof faithful) => {
    const all = await predicted(pretraining(small("transformer"), { fidelity }), clip);
    const [first, ...rest] = all.filter((_, t) => hidden[t] === 1);
    return Math.max(
      ...rest.map((patch) => Math.max(...patch.map((v, k) => Math.abs(v - first[k])))),
    );
  };
  assertLess(await spread(faithful), 1e-9);
  assertGreater(await spread(corrected), 1e-3);
});

for (const family of families) {
  Deno.test(`${family}, MAE style: hidden patches are not seen, visible ones are in their places`, async () => {
    const objective = { style: "mae" as const, decoder: { dim: 16, depth: 1 } };
    const of = pretraining(small(family), { objective, fidelity: corrected });
    const before = await predicted(of, clip);
    assertSameNumbers(await predicted(of, disturbed(4)), before);
    assertNotEquals(await predicted(of, disturbed(5)), before);
    // All patches are predicted differently: every token has its own position.
    assertStrictEquals(new Set(before.map((patch) => patch[0].toFixed(6))).size, count);
  });
}

Deno.test("registers, learnt positions and RMS norm are parameters of the encoder", async () => {
  const encoder = { ...small("mamba"), registers: 3, positions: "learned", norm: "rms" } as const;
  const y = encode(encoder)(x);
  assertStrictEquals(nodeOf(y).axes.token, 1 + 3 + count);
  const names = parameters([y]).map(({ name }) => name);
  assert(names.includes("register_tokens") && !names.includes("encoder_norm.bias"));
  assert(parameters([y]).find(({ name }) => name === "pos_embed")!.trainable);
  const of = pretraining(encoder);
  assertStrictEquals((await predicted(of, clip)).length, count);
});

Deno.test("rotary positions tell a Transformer the order, and nothing else does without them", async () => {
  // Two patches of the clip change places: without positions the outputs only change places too.
  const swapped = clip.slice();
  for (let row = 0; row < 4; row++) {
    for (let band = 0; band < 8; band++) {
      const a = row * mels + band, b = a + 8;
      [swapped[a], swapped[b]] = [clip[b], clip[a]];
    }
  }
  const difference = async (positions: Encoder["positions"]) => {
    const encoder = { ...small("transformer"), positions };
    const y = encode(encoder)(x);
    const cls = async (given: Float32Array) => (await valueOf(y, { x: given }));
    const order = Object.keys(nodeOf(y).axes);
    assertEquals(order, ["batch", "token", "channel"]);
    const [a, b] = [await cls(clip), await cls(swapped)];
    return Math.max(...Array.from({ length: encoder.dim }, (_, c) => Math.abs(a[c] - b[c])));
  };
  assertLess(await difference("none"), 1e-9);
  assertGreater(await difference("rotary"), 1e-6);
  assertGreater(await difference("sin-cos"), 1e-6);
});

Deno.test("stochastic depth: a clip skips the block, or gets what it adds scaled up", async () => {
  const sizes = { ...small("mamba"), depth: 1, stochasticDepth: 0.4 };
  const many = 200;
  const h: Sequence = input("h", {
    batch: many as number,
    token: 3 as number,
    channel: 16 as number,
  });
  const values = numbers(5, many * 48);
  const plain = await valueOf(stack((name) => name, sizes)(h), { h: values });
  const drawn = await valueOf(stack((name) => name, sizes, randomKey(1))(h), { h: values });
  let skipped = 0;
  for (let k = 0; k < many; k++) {
    const same = values.subarray(k * 48, (k + 1) * 48).every((v, i) =>
      Math.abs(drawn[k * 48 + i] - v) < 1e-9
    );
    if (same) skipped++;
    else {
      for (let i = k * 48; i < (k + 1) * 48; i++) {
        assertLess(Math.abs(drawn[i] - (values[i] + (plain[i] - values[i]) / 0.6)), 1e-5);
      }
    }
  }
  assert(skipped > 55 && skipped < 105, `${skipped} of ${many} skipped, 80 expected`);
});

const grid = { time: 6, frequency: 5 };
const drawMask = async (masking: Masking) => {
  const of = randomMask(randomKey(9), masking, grid, 50);
  const order = Object.keys(nodeOf(of).axes);
  const values = await valueOf(of, {});
  assertEquals(order.toSorted(), ["batch", "token"]);
  const at = (b: number, t: number) => order[0] === "batch" ? b * 30 + t : t * 50 + b;
  return Array.from(
    { length: 50 },
    (_, b) => Array.from({ length: 30 }, (_, t) => values[at(b, t)]),
  );
};

Deno.test("masks of every kind hide the same number in every clip, and what belongs together", async () => {
  const block = { time: 2, frequency: 3 };
  for (
    const masking of [
      { kind: "unstructured", ratio: 0.5 },
      { kind: "time", ratio: 0.5 },
      { kind: "frequency", ratio: 0.4 },
      { kind: "blocks", block, ratio: 0.3 },
    ] as const
  ) {
    const drawn = await drawMask(masking);
    const keep = visible(30, masking.ratio);
    for (const mask of drawn) {
      assertStrictEquals(mask.filter((m) => m === 0).length, keep, masking.kind);
    }
    assertGreater(new Set(drawn.map((mask) => mask.join(""))).size, 5, `${masking.kind} is random`);
    const group = (t: number) => {
      const row = Math.floor(t / 5), column = t % 5;
      return {
        unstructured: t,
        time: row,
        frequency: column,
        blocks: Math.floor(row / 2) * 2 + Math.floor(column / 3),
      }[masking.kind];
    };
    for (const mask of drawn) {
      const mixed = new Set<number>();
      mask.forEach((m, t) => {
        if (mask.some((other, u) => group(u) === group(t) && other !== m)) mixed.add(group(t));
      });
      // At most the one group in which the ratio falls is hidden in part.
      assertLessOrEqual(mixed.size, 1, `${masking.kind}: ${mixed.size} groups are mixed`);
      if (masking.kind === "time" || masking.kind === "frequency") {
        assertStrictEquals(mixed.size, 0);
      }
    }
  }
});
