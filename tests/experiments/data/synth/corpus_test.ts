// The synthesised corpus: the same for the same seed, usable whatever is asked for, and of kinds that
// differ in what is heard and not only in name.
import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertNotStrictEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { dice, shuffled, subkey } from "../../../../experiments/data/synth/random.ts";
import {
  synthesise,
  type SynthesisedClip,
  synthesisedKinds,
} from "../../../../experiments/data/synth/corpus.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const kindOf = ({ name }: SynthesisedClip): string => {
  const kind = /^\d{4,}-(.+)$/.exec(name)![1];
  return kind.includes("+") ? "mix" : kind;
};
const kinds = synthesisedKinds.length;
const peak = (samples: Float32Array) => samples.reduce((m, x) => Math.max(m, Math.abs(x)), 0);

Deno.test("the same seed gives the same sounds, bit for bit, however many are made", () => {
  const clips = synthesise(5, 2 * kinds, 0.8);
  assertSameNumbers(synthesise(5, 2 * kinds, 0.8), clips);
  assertSameNumbers(synthesise(5, kinds + 3, 0.8), clips.slice(0, kinds + 3));
  assert(clips.every(({ samples }) => samples.length === 12800));
});

Deno.test("other seeds give other sounds, large and negative ones too", () => {
  const seeds = [0, 1, 2, -1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER];
  const corpora = seeds.map((seed) => synthesise(seed, kinds, 0.3));
  const prints = corpora.map((clips) =>
    clips.map(({ samples }) => samples.slice(1000, 1004).join())
  );
  assertStrictEquals(new Set(prints.flat()).size, seeds.length * kinds);
  assertThrows(() => synthesise(0.5, 1, 1), Error, "the seed 0.5 is not a whole number");
});

Deno.test("kinds are equally frequent and in an order that no stride follows", () => {
  const found = synthesise(3, 20 * kinds, 0.05).map(kindOf);
  for (const kind of synthesisedKinds) {
    assertStrictEquals(found.filter((one) => one === kind).length, 20, kind);
  }
  // A held-out part, taken as every so manyth sound or from either end, has most kinds.
  for (const stride of [2, 5, 7, 10, kinds, 20]) {
    const part = new Set(found.filter((_, i) => i % stride === stride - 1));
    assertGreaterOrEqual(
      part.size,
      Math.min(kinds, 14 * 20 / stride) * 0.55,
      `every ${stride}: ${part.size}`,
    );
  }
  assertGreaterOrEqual(new Set(found.slice(-24)).size, 0.9 * kinds);
});

Deno.test("every sound is finite, heard, never too loud, and begins and ends softly", () => {
  const levels: number[] = [];
  for (const { name, samples } of synthesise(11, 10 * kinds, 2)) {
    assert(samples.every(Number.isFinite), name);
    const level = peak(samples);
    levels.push(level);
    assert(level > 0.05 && level < 0.95, `${name}: ${level}`);
    assert(Math.abs(samples[0]) < 0.1 * level && Math.abs(samples.at(-1)!) < 0.1 * level, name);
    // Not one click in silence: it is heard in at least a tenth of its stretches of 10 ms.
    const stretches = Array.from(
      { length: 200 },
      (_, i) => samples.subarray(i * 160, i * 160 + 160),
    );
    const heard = stretches.filter((stretch) => peak(stretch) > 0.01 * level).length;
    assertGreaterOrEqual(heard, 20, `${name}: heard in ${heard} of 200`);
    assert(stretches.every((stretch) => peak(stretch) > 0), `${name}: dead silence`);
  }
  assert(Math.min(...levels) < 0.12 && Math.max(...levels) > 0.7, "levels vary");
});

Deno.test("very short sounds, long ones and none at all can be asked for", () => {
  assertEquals(synthesise(0, 0, 1), []);
  for (const seconds of [0, 1 / 16000, 0.01, 9]) {
    for (const { samples } of synthesise(2, kinds, seconds)) {
      assertStrictEquals(samples.length, Math.round(seconds * 16000));
      assert(samples.every((x) => Math.abs(x) < 0.95));
    }
  }
});

// Logarithms of the power at 28 pitches in each 32 ms, as means and deviations over time.
const size = 512;
const waves = Array.from({ length: 28 }, (_, k) => {
  const turn = 2 * Math.PI * 90 * 1.175 ** k / 16000;
  const shape = (wave: (x: number) => number) =>
    Float64Array.from(
      { length: size },
      (_, n) => wave(turn * n) * Math.sin(Math.PI * (n + 0.5) / size) ** 2,
    );
  return [shape(Math.cos), shape(Math.sin)];
});

function features(samples: Float32Array): readonly number[] {
  const level = peak(samples);
  const frames = Array.from(
    { length: Math.floor(samples.length / size) },
    (_, f) =>
      waves.map((pair) => {
        let power = 1e-6;
        for (const wave of pair) {
          let sum = 0;
          for (let n = 0; n < size; n++) sum += wave[n] * samples[f * size + n];
          power += (sum / level) ** 2;
        }
        return Math.log(power);
      }),
  );
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return waves.flatMap((_, k) => {
    const course = frames.map((frame) => frame[k]);
    const middle = mean(course);
    return [middle, 2 * Math.sqrt(mean(course.map((x) => (x - middle) ** 2)))];
  });
}

Deno.test("kinds sound different: the nearest other sound is mostly of the same kind", () => {
  const clips = synthesise(1, 12 * kinds, 2).filter((clip) => kindOf(clip) !== "mix");
  const seen = clips.map((clip) => ({ kind: kindOf(clip), at: features(clip.samples) }));
  const same = seen.filter((one) => {
    const distances = seen.map((other) =>
      other === one ? Infinity : one.at.reduce((sum, x, i) => sum + (x - other.at[i]) ** 2, 0)
    );
    return seen[distances.indexOf(Math.min(...distances))].kind === one.kind;
  });
  // Guessing would find one in thirteen.
  assertGreater(same.length, 0.6 * seen.length, `${same.length} of ${seen.length}`);
});

Deno.test("dice are even, do not follow one another, and each key has its own", () => {
  const draws = 20_000;
  const correlation = (a: readonly number[], b: readonly number[]) =>
    12 * a.reduce((sum, x, i) => sum + (x - 0.5) * (b[i] - 0.5), 0) / a.length;
  const series = [0, 1, 2, -1].map((key) => {
    const { between } = dice(subkey(7, key));
    return Array.from({ length: draws }, () => between(0, 1));
  });
  for (const one of series) {
    const bins = new Array<number>(20).fill(0);
    for (const x of one) bins[Math.floor(20 * x)]++;
    const surprise = bins.reduce((sum, n) => sum + (n - draws / 20) ** 2 / (draws / 20), 0);
    assertLess(surprise, 50, `chi squared ${surprise} with 19 degrees of freedom`);
    assertLess(Math.abs(correlation(one, [...one.slice(1), one[0]])), 0.03);
  }
  for (const [i, one] of series.entries()) {
    for (const other of series.slice(i + 1)) assertLess(Math.abs(correlation(one, other)), 0.03);
  }
  const first = Array.from(
    { length: 3000 },
    (_, key) => shuffled([0, 1, 2], dice(subkey(9, key)))[0],
  );
  for (const item of [0, 1, 2]) {
    assertLess(Math.abs(first.filter((x) => x === item).length - 1000), 120);
  }
  const { noise } = dice(4);
  const [a, b] = [noise(), noise()];
  assertStrictEquals(a(3), a(3));
  assertNotStrictEquals(a(3), b(3));
});
