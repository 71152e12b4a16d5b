// Spectrograms on the processor are what the front end's program computes, and what torchaudio does.
import { assert, assertEquals, assertLess, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { referenceBackend } from "../../../../backends/reference/backend.ts";
import { fourier } from "../../../../experiments/data/audio/fft.ts";
import { logMelOnHost } from "../../../../experiments/data/audio/log_mel.ts";
import { decode } from "../../../../backends/runtime/safetensors.ts";
import { synthesise } from "../../../../experiments/data/synth/corpus.ts";
import { input } from "../../../../dsl/ops.ts";
import { logMel, publishedFrontEnd } from "../../../../models/frontend.ts";

const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  assertStrictEquals(a.length, b.length);
  return Array.from(a).reduce((most, value, k) => Math.max(most, Math.abs(value - b[k])), 0);
};

Deno.test("transforms of every kind of length are what the definition says", () => {
  for (const size of [1, 2, 3, 4, 5, 7, 8, 12, 30, 49, 121, 210, 400]) {
    const x = Float64Array.from({ length: size }, (_, k) => Math.sin(k * k + 1));
    const y = Float64Array.from({ length: size }, (_, k) => Math.cos(3 * k * k));
    const wanted = Array.from({ length: size }, (_, k) => {
      let re = 0, im = 0;
      for (let n = 0; n < size; n++) {
        const angle = -2 * Math.PI * ((k * n) % size) / size;
        re += x[n] * Math.cos(angle) - y[n] * Math.sin(angle);
        im += x[n] * Math.sin(angle) + y[n] * Math.cos(angle);
      }
      return [re, im];
    });
    const transform = fourier(size);
    // Twice, since nothing may stay from the time before.
    for (let k = 0; k < 2; k++) {
      const re = x.slice(), im = y.slice();
      transform(re, im);
      assertLess(furthest(re, wanted.map(([part]) => part)), 1e-11, `${size}`);
      assertLess(furthest(im, wanted.map(([, part]) => part)), 1e-11, `${size}`);
    }
  }
});

Deno.test("spectrograms agree with torchaudio's", () => {
  const golden = new Uint8Array(Deno.readFileSync("tests/golden/logmel.safetensors"));
  const decoded = decode(golden);
  assert(E.isRight(decoded));
  const { tensors } = decoded.right;
  const wave = tensors.get("input.wav")!, logs = tensors.get("output.logmel")!;
  const [mels, frames] = logs.shape.slice(-2);
  const made = logMelOnHost(publishedFrontEnd)(wave.data as Float32Array);
  assertEquals([made.mels, made.frames], [mels, frames]);
  const turned = Float32Array.from(
    made.values,
    (_, k) => made.values[(k % frames) * mels + Math.floor(k / frames)],
  );
  assertLess(furthest(turned, logs.data as Float32Array), 1e-3);
});

Deno.test("spectrograms agree with the front end's program, of any length and front end", async () => {
  const [{ samples }] = synthesise(4, 1, 0.3);
  const backend = referenceBackend(), batch: number = 1;
  const other = { ...publishedFrontEnd, fft: 256, window: 200, hop: 100, mels: 32 };
  for (const front of [publishedFrontEnd, other]) {
    const extract = logMelOnHost(front);
    // The program reflects half a transform at the ends, which shorter clips do not have.
    for (const length of [201, 320, 1000, 4800]) {
      const clip = samples.slice(0, length);
      const x = input("samples", { batch, sample: length });
      const machine = await backend.open({
        main: { outputs: { logs: { of: logMel(front)(x), order: ["batch", "time", "mel"] } } },
      });
      try {
        const { logs } = await machine.run("main", { samples: clip });
        const made = extract(clip);
        assertEquals([made.frames, made.mels], [1 + Math.floor(length / front.hop), front.mels]);
        assertLess(furthest(made.values, logs as Float32Array), 1e-4, `${length} samples`);
      } finally {
        machine.close();
      }
    }
  }
});

Deno.test("what a short clip has not to reflect is silence", () => {
  const extract = logMelOnHost(publishedFrontEnd);
  const [{ samples }] = synthesise(4, 1, 0.3);
  for (const length of [1, 30, 150]) {
    const clip = samples.slice(0, length), margin = publishedFrontEnd.fft / 2;
    // The same clip among samples that reflect it by hand, of which the middle frames are looked at.
    const long = new Float32Array(length + 2 * 8 * margin);
    const at = (k: number) => {
      const folded = k < length ? k : 2 * (length - 1) - k;
      return clip[Math.abs(k) < length ? Math.abs(k) : folded] ?? 0;
    };
    for (let k = -margin; k < length + margin; k++) long[8 * margin + k] = at(k < 0 ? -k : k);
    const whole = extract(long), made = extract(clip);
    const first = 8 * margin / publishedFrontEnd.hop;
    const { mels } = publishedFrontEnd;
    for (let frame = 0; frame < made.frames; frame++) {
      const row = (of: typeof made, k: number) => of.values.subarray(k * mels, (k + 1) * mels);
      assertLess(furthest(row(made, frame), row(whole, first + frame)), 1e-4, `${length} samples`);
    }
  }
});
