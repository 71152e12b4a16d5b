// The published sizes, names, order and first values of parameters, for every family.
import { assert, assertEquals, assertLessOrEqual, assertStrictEquals } from "@std/assert";
import { volume } from "../../dsl/axes.ts";
import { input } from "../../dsl/ops.ts";
import { count, type Parameter, parameters } from "../../dsl/parameters.ts";
import { initialValues } from "../../experiments/encoders/initial_values.ts";
import { encode, type Encoder, predict } from "../../models/encoder.ts";
import type { PerToken } from "../../models/masking.ts";
import type { Spectrogram } from "../../models/patches.ts";
import { inPublishedOrder } from "../../models/checkpoint_order.ts";
import { type FamilyName, publishedEncoder, type SizeName } from "../../models/sizes.ts";

const modelOf = (encoder: Encoder, frames = 200, mels = 80): readonly Parameter[] => {
  const x: Spectrogram = input("x", {
    batch: 1 as number,
    time: frames as number,
    mel: mels as number,
  });
  const token = (frames / encoder.patch.time) * (mels / encoder.patch.frequency);
  const mask: PerToken = input("mask", { batch: 1 as number, token });
  return parameters([
    predict(encoder)(encode(encoder, { hidden: { mask, positions: "dropped" } })(x)),
  ]);
};

Deno.test("parameter counts are those of the published encoders", () => {
  const counts: readonly (readonly [FamilyName, SizeName, object, number])[] = [
    ["transformer", "tiny", {}, 5_401_024],
    ["transformer", "small", {}, 21_492_544],
    ["transformer", "base", {}, 85_747_264],
    ["mamba", "tiny", {}, 4_760_512],
    ["mamba", "small", {}, 17_889_088],
    ["mamba", "base", {}, 69_250_624],
    ["xlstm", "tiny", {}, 2_917_408],
    ["xlstm", "small", {}, 11_216_800],
    ["xlstm", "base", {}, 43_962_016],
    ["xlstm", "tiny", { expand: 3 }, 4_343_584],
    ["xlstm", "small", { expand: 3 }, 16_723_360],
    ["xlstm", "base", { expand: 3 }, 65_591_968],
    ["xlstm", "tiny", { depth: 24 }, 5_772_160],
    ["xlstm", "small", { depth: 24 }, 22_234_624],
    ["xlstm", "base", { depth: 24 }, 87_231_232],
  ];
  const positions = { tiny: 48_192, small: 96_384, base: 192_768 } as Record<SizeName, number>;
  for (const [family, size, changes, trainable] of counts) {
    const all = modelOf({ ...publishedEncoder(family, size), ...changes });
    const found = count(all.filter((parameter) => parameter.trainable));
    assertStrictEquals(found, trainable, `${family} ${size} ${JSON.stringify(changes)}`);
    assertStrictEquals(count(all), trainable + positions[size]);
  }
});

/** Names and shapes of the parameters that a golden file stores, in its order. */
const stored = async (file: string): Promise<readonly (readonly [string, readonly number[]])[]> => {
  const bytes = await Deno.readFile(new URL(`../golden/${file}`, import.meta.url));
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.slice(8, 8 + length)));
  return Object.entries(header as Record<string, { shape: number[] }>)
    .filter(([name]) => name.startsWith("param."))
    .map(([name, { shape }]) => [name.slice("param.".length), shape]);
};

const mini: Readonly<Record<FamilyName, string>> = {
  transformer: "model_ssast_mini_4x16.safetensors",
  mamba: "model_mamba_mini_4x16.safetensors",
  xlstm: "model_xlstm_mini_4x16.safetensors",
};

for (const family of ["transformer", "mamba", "xlstm"] as const) {
  Deno.test(`${family}: names, shapes and order are those of the published checkpoints`, async () => {
    const of = publishedEncoder(family, "tiny");
    const heads = of.family === "transformer" ? { heads: 2 } : {};
    const ours = inPublishedOrder(
      modelOf({ ...of, dim: 16, depth: 2, ...heads } as Encoder, 24, 16),
    )
      .map(({ name, axes }) => [name, Object.values(axes)]);
    assertEquals<unknown>(ours, await stored(mini[family]));
  });

  Deno.test(`${family}: first values have the published statistics`, async () => {
    const text = await Deno.readTextFile(
      new URL("../golden/init_stats_tiny.json", import.meta.url),
    );
    const published: Readonly<Record<string, Statistics>> = JSON.parse(text)[
      { transformer: "ssast", mamba: "mamba", xlstm: "xlstm" }[family]
    ];
    const some = modelOf(publishedEncoder(family, "tiny")).filter(({ name }) => name in published);
    assertStrictEquals(some.length, Object.keys(published).length);
    const values = initialValues(some, 0);
    for (const { name, axes } of some) {
      const found = statistics(values[name] as Float32Array), wanted = published[name];
      assertEquals<readonly unknown[]>(Object.values(axes), wanted.shape, name);
      // Both are samples: a mean is uncertain by σ/√n, a deviation by about σ/√(2n); six of each.
      const n = volume(axes), slack = 6 * Math.SQRT2;
      const close = (what: "mean" | "std", by: number) =>
        assertLessOrEqual(
          Math.abs(found[what] - wanted[what]),
          by,
          `${name}: ${what} ${found[what]} instead of ${wanted[what]}`,
        );
      close("mean", slack * wanted.std / Math.sqrt(n) + 1e-6);
      close("std", slack * wanted.std / Math.sqrt(2 * n) + 1e-6);
      if (n >= 1000 && wanted.std > 0) {
        // Uniform or normal: the largest of so many values tells.
        const share = found.max / wanted.max;
        assert(share > 0.6 && share < 1.6, `${name}: largest ${found.max}, not ${wanted.max}`);
      }
    }
  });
}

interface Statistics {
  readonly shape: readonly number[];
  readonly mean: number;
  readonly std: number;
  readonly max: number;
}

const statistics = (x: Float32Array): Omit<Statistics, "shape"> => {
  const mean = x.reduce((a, b) => a + b, 0) / x.length;
  const std = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length);
  return { mean, std, max: x.reduce((a, b) => Math.max(a, b), -Infinity) };
};

Deno.test("Mamba: A counts up along the state, D is one, steps lie between 0.001 and 0.1", () => {
  const first = modelOf(publishedEncoder("mamba", "tiny"))
    .filter(({ name }) => /^blocks\.0\.mixer\.(A_log|D|dt_proj\.bias)$/.test(name));
  const values = initialValues(first, 0);
  assert(
    values["blocks.0.mixer.A_log"].every((value, k) =>
      Math.abs(value - Math.log(k % 24 + 1)) < 1e-6
    ),
  );
  const steps = values["blocks.0.mixer.dt_proj.bias"].map((bias) => Math.log1p(Math.exp(bias)));
  assert(steps.every((step) => step > 9.9e-4 && step < 0.1001));
  assert(values["blocks.0.mixer.D"].every((value) => value === 1));
});
