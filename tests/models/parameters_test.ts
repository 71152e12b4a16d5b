// The published sizes, names and order of parameters.
import assert from "assert";
import { count, parameters } from "../../dsl/parameters.ts";
import { encode, predict, published } from "../../models/encoder.ts";
import { inPublishedOrder } from "../../models/published.ts";
import { input } from "../../dsl/ops.ts";
import type { PerToken } from "../../models/masking.ts";
import type { Spectrogram } from "../../models/patches.ts";
import { initialValues } from "../../experiments/initialise.ts";

const modelOf = (size: keyof typeof published) => {
  const sizes = published[size];
  const x: Spectrogram = input("x", { batch: 1 as number, time: 200 as number, mel: 80 as number });
  const mask: PerToken = input("mask", { batch: 1 as number, token: 250 as number });
  return parameters([predict(64)(encode(sizes, mask)(x))]);
};

Deno.test("parameter counts are those of the published encoders", () => {
  const counts = { tiny: 4_760_512, small: 17_889_088, base: 69_250_624 };
  const fixed = { tiny: 48_192, small: 96_384, base: 192_768 };
  for (const size of ["tiny", "small", "base"] as const) {
    const all = modelOf(size);
    assert.equal(count(all.filter((parameter) => parameter.trainable)), counts[size]);
    assert.equal(count(all), counts[size] + fixed[size]);
  }
});

Deno.test("names, shapes and order are those of the published checkpoints", async () => {
  const bytes = await Deno.readFile(
    new URL("../golden/model_mamba_mini_4x16.safetensors", import.meta.url),
  );
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.slice(8, 8 + length)));
  const stored = Object.entries(header as Record<string, { shape: number[] }>)
    .filter(([name]) => name.startsWith("param."))
    .map(([name, { shape }]) => [name.slice("param.".length), shape]);
  const sizes = { ...published.tiny, dim: 16, depth: 2 };
  const x: Spectrogram = input("x", { batch: 2 as number, time: 24 as number, mel: 16 as number });
  const mask: PerToken = input("mask", { batch: 2 as number, token: 6 as number });
  const ours = inPublishedOrder(parameters([predict(64)(encode(sizes, mask)(x))]))
    .map(({ name, axes }) => [name, Object.values(axes)]);
  assert.deepEqual(ours, stored);
});

Deno.test("first values have the published statistics", () => {
  const values = initialValues(
    modelOf("tiny").filter(({ name }) => !/^blocks\.([1-9]|10)\./.test(name)),
    0,
  );
  const deviation = (name: string) => {
    const x = Float64Array.from(values[name]);
    const mean = x.reduce((a, b) => a + b, 0) / x.length;
    return Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length);
  };
  const near = (name: string, expected: number) => {
    const share = deviation(name) / expected;
    assert.ok(share > 0.9 && share < 1.1, `${name}: ${deviation(name)} instead of ${expected}`);
  };
  // A uniform number in ±b has the standard deviation b / √3.
  near("blocks.0.mixer.in_proj.weight", 1 / Math.sqrt(192 * 3));
  near("blocks.0.mixer.out_proj.weight", 1 / Math.sqrt(576 * 12 * 3));
  near("blocks.0.mixer.dt_proj.weight", 1 / Math.sqrt(12 * 3));
  near("patch_embed.proj.weight", Math.sqrt(6 / (64 + 64 * 192) / 3));
  near("mask_token", 0.02);
  assert.ok(
    values["blocks.0.mixer.A_log"].every((value, k) =>
      Math.abs(value - Math.log(k % 24 + 1)) < 1e-6
    ),
  );
  const steps = values["blocks.0.mixer.dt_proj.bias"].map((bias) => Math.log1p(Math.exp(bias)));
  assert.ok(steps.every((step) => step > 9.9e-4 && step < 0.1001));
  assert.ok(values["blocks.0.mixer.D"].every((value) => value === 1));
});
