// Embeddings of clips of any length: equal to the expressions of the model on each whole clip, and
// not changed by how stretches are put into batches; and the command as a user meets it.
import {
  assert,
  assertEquals,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import type { Backend } from "../../../backends/backend.ts";
import { interpret, ordered } from "../../../backends/reference/interpret.ts";
import { referenceBackend } from "../../../backends/reference/backend.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import { nodeOf } from "../../../dsl/node.ts";
import { literal, pad, slice } from "../../../dsl/ops.ts";
import { parametersOf } from "../../../experiments/encoders/checkpoint.ts";
import { named } from "../../../experiments/commands/embed.ts";
import {
  embedAll,
  type EmbeddingModel,
  openEmbedder,
} from "../../../experiments/encoders/embedder.ts";
import { initialValues } from "../../../experiments/encoders/initial_values.ts";
import { encode, type TensorData } from "../../../backends/runtime/safetensors.ts";
import { cutOf, momentsOf, timestamps } from "../../../models/embedding.ts";
import { type Encoder, features } from "../../../models/encoder.ts";
import { corrected, faithful, type Fidelity } from "../../../models/fidelity.ts";
import { type FrontEnd, logMel, standardise } from "../../../models/frontend.ts";
import { publishedEncoder } from "../../../models/sizes.ts";
import { numbers } from "../../support/check.ts";
import { webgpu } from "../../support/device.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const frontEnd: FrontEnd = {
  sampleRate: 16000,
  fft: 64,
  window: 64,
  hop: 32,
  mels: 8,
  fMin: 50,
  fMax: 8000,
};
const patch = { time: 2, frequency: 4 };
const frames = 8;

/** A little encoder; Mamba hears what came before, so wrong stretches show. */
const modelOf = (fidelity: Fidelity): EmbeddingModel => {
  const encoder = {
    ...publishedEncoder("mamba", "tiny"),
    dim: 8,
    depth: 2,
    state: 3,
    patch,
  } as Encoder;
  const values = initialValues(parametersOf({ encoder, frontEnd, frames }), 3);
  return { encoder, frontEnd, frames, fidelity, values };
};

/** Noise whose loudness changes, so that parts of a clip differ in their moments from the whole. */
const clip = (samples: number, seed = 1): Float32Array =>
  numbers(seed, samples).map((x, k) => x * (0.1 + Math.sin(k / 700) ** 2));

const embedded = async (
  backend: Backend,
  model: EmbeddingModel,
  clips: readonly Float32Array[],
  batch: number,
) => {
  const embedder = await openEmbedder(backend, model, batch);
  try {
    return await embedAll(embedder, clips);
  } finally {
    embedder.close();
  }
};

/** The embeddings of one clip from the expressions of the front end and of the encoder alone. */
const expected = (model: EmbeddingModel, samples: Float32Array): number[][] => {
  const { encoder, fidelity, values } = model;
  const x = literal({ batch: 1, sample: samples.length }, samples) as AnyTensor;
  const spectrum: AnyTensor = standardise(
    logMel(frontEnd)(x),
    fidelity.deviation === "sample" ? 1 : 0,
  );
  const total = 1 + Math.floor(samples.length / frontEnd.hop);
  const width = encoder.dim * frontEnd.mels / patch.frequency;
  const rows: number[][] = [];
  for (let first = 0; first < total; first += frames) {
    const there = Math.min(frames, total - first);
    const stretch: AnyTensor = pad(
      slice(spectrum, "time", first, there),
      "time",
      0,
      frames - there,
    );
    const y = nodeOf(features(encoder, fidelity.rows)(stretch));
    const [found] = interpret([y], (leaf) => values[leaf.attributes.name!]);
    const flat = Array.from(ordered(found, y, ["batch", "step", "feature"]));
    const steps = frames / patch.time;
    const kept = steps - Math.floor(steps * (frames - there) / frames);
    for (let row = 0; row < kept; row++) rows.push(flat.slice(row * width, (row + 1) * width));
  }
  return rows;
};

const near = (found: ArrayLike<number>, wanted: ArrayLike<number>, within: number) => {
  assertStrictEquals(found.length, wanted.length);
  for (let k = 0; k < wanted.length; k++) {
    assertLessOrEqual(
      Math.abs(found[k] - wanted[k]),
      within,
      `[${k}]: ${found[k]}, not ${wanted[k]}`,
    );
  }
};

const meanOf = (rows: readonly (readonly number[])[]): number[] =>
  rows[0].map((_, k) => rows.reduce((sum, row) => sum + row[k], 0) / rows.length);

// ---------------------------------------------------------------- arithmetic

Deno.test("a clip has as many rows as published", () => {
  // Seconds at 16 kHz and rows, from stretches of 200 frames with 50 rows.
  const published = [[0.81, 21], [1, 26], [2, 51], [4, 101], [4.77, 120], [5, 126], [18.64, 467]];
  for (const [seconds, rows] of published) {
    const frames = 1 + Math.floor(16000 * seconds / 160);
    assertStrictEquals(cutOf(frames, 200, 50, "always").rows, rows);
    assertStrictEquals(cutOf(frames, 200, 50, "as needed").rows, rows);
  }
});

Deno.test("a clip that fills its stretches gets one more only where it is always filled up", () => {
  assertEquals(cutOf(400, 200, 50, "always"), { stretches: 3, rows: 100 });
  assertEquals(cutOf(400, 200, 50, "as needed"), { stretches: 2, rows: 100 });
  assertEquals(cutOf(1, 200, 50, "as needed"), { stretches: 1, rows: 1 });
});

Deno.test("moments with n and n - 1, and times that divide the duration", () => {
  const values = Float32Array.of(1, 2, 3, 6);
  assertEquals(momentsOf(values, "population"), { mean: 3, deviation: Math.sqrt(14 / 4) });
  assertEquals(momentsOf(values, "sample"), { mean: 3, deviation: Math.sqrt(14 / 3) });
  assertEquals([...timestamps(4, 16000, 16000)], [0, 250, 500, 750]);
});

// ---------------------------------------------------------------- embeddings

for (const [name, fidelity] of Object.entries({ faithful, corrected })) {
  Deno.test(`any length of clip equals the expressions, ${name}`, async () => {
    const model = modelOf(fidelity);
    // 64 frames are a stretch of the front end: one more, exactly as many, several and a bit.
    const lengths = [63 * 32, 64 * 32, 3 * 64 * 32 + 17, 7 * 32, 8 * 32, 40, 33];
    const clips = lengths.map((length, k) => clip(length, k));
    const found = await embedded(referenceBackend(), model, clips, 3);
    clips.forEach((samples, k) => {
      const rows = expected(model, samples);
      near(found[k].embeddings, rows.flat(), 1e-4);
      near(found[k].scene, meanOf(rows), 1e-4);
      near(found[k].timestamps, [...timestamps(rows.length, lengths[k], 16000)], 0);
    });
  });
}

Deno.test("one sample is a clip of one row", async () => {
  const model = modelOf(faithful);
  const [found] = await embedded(referenceBackend(), model, [Float32Array.of(0.3)], 1);
  assertStrictEquals(found.embeddings.length, 16);
  assert(found.embeddings.every(Number.isFinite));
  assertSameNumbers(found.scene, found.embeddings);
  assertEquals([...found.timestamps], [0]);
});

Deno.test("batches do not change results", async () => {
  const model = modelOf(faithful);
  const clips = [700, 3000, 40, 256, 2000].map(clip);
  const one = await embedded(referenceBackend(), model, clips, 1);
  for (const batch of [2, 7]) {
    assertSameNumbers(await embedded(referenceBackend(), model, clips, batch), one);
  }
  assertSameNumbers(
    await embedded(referenceBackend(), model, clips.toReversed(), 2),
    one.toReversed(),
  );
});

Deno.test({
  name: "a device gives the same bits to a clip in any company",
  ignore: webgpu === undefined,
  fn: async () => {
    const model = modelOf(faithful), clips = [700, 3000, 40, 256].map(clip);
    const together = await embedded(webgpu!, model, clips, 4);
    const alone = await embedded(webgpu!, model, clips.slice(1, 2), 4);
    assertSameNumbers(alone[0], together[1]);
    near(together[1].embeddings, expected(model, clips[1]).flat(), 1e-4);
  },
});

Deno.test("clips are asked for when there is room for them", async () => {
  const embedder = await openEmbedder(referenceBackend(), modelOf(faithful), 2);
  let asked = 0;
  const clips = function* () {
    for (let k = 0; k < 50; k++) {
      asked++;
      yield { of: k, samples: clip(500) };
    }
  };
  for await (const { of } of embedder.embed(clips())) {
    assertLessOrEqual(asked, of + 4, `${asked} clips were asked for when clip ${of} was embedded`);
    if (of === 9) break;
  }
  assertLess(asked, 15);
  embedder.close();
});

Deno.test("names in the output folder are all different", () => {
  const of = (...found: [string, string][]) =>
    named(found.map(([path, inside]) => ({ path, inside }))).map(({ name }) => name);
  assertEquals(of(["in/a.wav", "a.wav"], ["in/b/a.wav", "b/a.wav"]), ["a", "b/a"]);
  assertEquals(of(["in/a.wav", "a.wav"], ["in/a.flac", "a.flac"]), ["a.wav", "a.flac"]);
  assertEquals(
    of(["x/one/a.wav", "a.wav"], ["x/two/a.wav", "a.wav"], ["x/two/b.wav", "b.wav"]),
    ["one/a.wav", "two/a.wav", "b"],
  );
  assertEquals(of(["in/a.wav", "a.wav"], ["./in/a.wav", "a.wav"]), ["a"]);
  assertEquals(of(["a.wav", "a.wav"], ["a.wav.ogg", "a.wav.ogg"], ["a.ogg", "a.ogg"]), [
    "a.wav",
    "a.wav.ogg",
    "a.ogg",
  ]);
});

// ---------------------------------------------------------------- the command

const cli = decodeURIComponent(
  new URL("../../../experiments/commands/main.ts", import.meta.url).pathname,
);

const ran = async (args: readonly string[], cwd: string) => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", cli, "embed", ...args],
    cwd,
    env: { NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const err = text(stderr);
  assert(!/^\s+at /m.test(err), `a stack trace: ${err}`);
  return { code, out: text(stdout), err };
};

/** A wav file of noise at 16 kHz, in floats, which are decoded to what they are. */
const wav = (samples: number, seed: number): Uint8Array => wavOf(clip(samples, seed));

const wavOf = (data: Float32Array): Uint8Array => {
  const bytes = new Uint8Array(44 + data.byteLength), view = new DataView(bytes.buffer);
  const text = (at: number, word: string) => bytes.set(new TextEncoder().encode(word), at);
  text(0, "RIFF");
  view.setUint32(4, bytes.length - 8, true);
  text(8, "WAVEfmt ");
  // 16 bytes of format: floats, 1 channel, rate, bytes a second, bytes and bits of a sample.
  [16, 3 + (1 << 16), 16000, 64000, 4 + (32 << 16)].forEach((word, k) =>
    view.setUint32(16 + 4 * k, word, true)
  );
  text(36, "data");
  view.setUint32(40, data.byteLength, true);
  bytes.set(new Uint8Array(data.buffer), 44);
  return bytes;
};

const checkpointOf = (
  model: EmbeddingModel,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array => {
  const tensors = new Map(
    parametersOf(model).map(({ name, axes }): [string, TensorData] => [name, {
      dtype: "F32",
      shape: Object.values(axes).map(Number),
      data: model.values[name] as Float32Array,
    }]),
  );
  return encode(tensors, {
    encoder: JSON.stringify(model.encoder),
    frontEnd: JSON.stringify(model.frontEnd),
    frames: `${model.frames}`,
    fidelity: JSON.stringify(model.fidelity),
    ...metadata,
  });
};

const inFolder = async (act: (folder: string) => Promise<void>) => {
  const folder = await Deno.makeTempDir();
  try {
    Deno.mkdirSync(`${folder}/sounds/deep`, { recursive: true });
    Deno.writeFileSync(`${folder}/sounds/a.wav`, wav(3000, 1));
    Deno.writeFileSync(`${folder}/sounds/deep/a.wav`, wav(1000, 2));
    Deno.writeFileSync(`${folder}/model.safetensors`, checkpointOf(modelOf(faithful)));
    await act(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

const filesIn = (folder: string, at = ""): string[] =>
  [...Deno.readDirSync(`${folder}/${at}`)].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesIn(folder, `${at}${name}/`) : [`${at}${name}`]
  ).sort();

/** Numbers and shape of a .npy file. */
const loaded = (path: string) => {
  const bytes = Deno.readFileSync(path);
  const start = 10 + new DataView(bytes.buffer).getUint16(8, true);
  const [, shape] = /'shape': \(([\d, ]*)\)/.exec(
    new TextDecoder().decode(bytes.slice(10, start)),
  )!;
  return {
    shape: shape.split(",").filter((size) => size.trim() !== "").map(Number),
    values: new Float32Array(bytes.slice(start).buffer),
  };
};

const given = ["--checkpoint", "model.safetensors", "--out", "out", "--device", "reference"];

Deno.test("recordings become three files each, in the folders that they are in", () =>
  inFolder(async (folder) => {
    const { code, out, err } = await ran([...given, "--batch", "3", "sounds"], folder);
    assertStrictEquals(code, 0, err);
    assertMatch(
      out,
      /embedded 2 recordings, 0:00 of audio, in .* into out; [\d.]+ clips\/s of 0.02 s/,
    );
    assertEquals(
      filesIn(`${folder}/out`),
      ["a", "deep/a"].flatMap((name) =>
        ["embeddings", "scene", "timestamps"].map((kind) => `${name}.${kind}.npy`)
      ),
    );
    for (const [name, samples, seed] of [["a", 3000, 1], ["deep/a", 1000, 2]] as const) {
      const rows = expected(modelOf(faithful), clip(samples, seed));
      const of = (kind: string) => loaded(`${folder}/out/${name}.${kind}.npy`);
      assertEquals(of("embeddings").shape, [rows.length, 16]);
      near(of("embeddings").values, rows.flat(), 1e-4);
      assertEquals(of("scene").shape, [16]);
      near(of("scene").values, meanOf(rows), 1e-4);
      assertEquals(of("timestamps").shape, [rows.length]);
      near(of("timestamps").values, timestamps(rows.length, samples, 16000), 0);
    }
    const other = ["--fidelity", "corrected", "--out", "other", "sounds/a.wav"];
    assertStrictEquals((await ran([...given, ...other], folder)).code, 0);
    const found = loaded(`${folder}/other/a.embeddings.npy`).values;
    near(found, expected(modelOf(corrected), clip(3000, 1)).flat(), 1e-4);
  }));

Deno.test("what cannot be read is listed at the end, and the others are embedded", () =>
  inFolder(async (folder) => {
    Deno.writeFileSync(`${folder}/sounds/cut.wav`, wav(3000, 1).slice(0, 2000));
    const { code, err } = await ran([...given, "missing.wav", "sounds", "nowhere"], folder);
    assertStrictEquals(code, 1);
    assertMatch(err, /3 recordings could not be embedded:\n/);
    assertMatch(err, /\n {2}missing\.wav: it cannot be read: there is no such file\n/);
    assertMatch(err, /\n {2}nowhere: it cannot be read/);
    assertMatch(err, /\n {2}sounds\/cut\.wav: it is damaged: /);
    const names = filesIn(`${folder}/out`);
    assertStrictEquals(names.length, 6);
    assert(names.every((name) => name.endsWith(".npy")));
  }));

Deno.test("loud but finite audio has finite embeddings, or is refused with its reason", () =>
  inFolder(async (folder) => {
    const scales = [1e3, 1e9, 9e14, 1e16, 1e18, 1e38];
    for (const scale of scales) {
      const samples = clip(3000, 1), most = samples.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
      const bytes = wavOf(samples.map((x) => x / most * scale));
      Deno.writeFileSync(`${folder}/sounds/${scale}.wav`, bytes);
    }
    const { code, err } = await ran([...given, "sounds"], folder);
    assertStrictEquals(code, 1);
    assertMatch(err, /^3 recordings could not be embedded:$/m);
    for (const scale of scales.slice(3)) {
      assert(
        err.includes(`  sounds/${scale}.wav: the sample at `) &&
          /samples go from -1 to 1/.test(err),
        err,
      );
    }
    const names = filesIn(`${folder}/out`);
    assertStrictEquals(names.length, 15);
    for (const name of names) {
      assert(loaded(`${folder}/out/${name}`).values.every(Number.isFinite), name);
    }
  }));

Deno.test("embeddings that are not finite are not written", () =>
  inFolder(async (folder) => {
    const model = modelOf(faithful), { values } = model;
    const vast = Object.fromEntries(
      Object.entries(values).map(([name, of]) => [name, (of as Float32Array).map((x) => 1e30 * x)]),
    );
    Deno.writeFileSync(`${folder}/vast.safetensors`, checkpointOf({ ...model, values: vast }));
    const { code, out, err } = await ran(
      ["--checkpoint", "vast.safetensors", "--out", "out", "--device", "reference", "sounds"],
      folder,
    );
    assertStrictEquals(code, 1);
    assertStrictEquals(out, "");
    const why = "its embedding is not finite; the checkpoint may have diverged";
    assert(err.includes(`  sounds/a.wav: ${why}\n  sounds/deep/a.wav: ${why}\n`), err);
    assertEquals(filesIn(`${folder}/out`), []);
  }));

Deno.test("an interrupt leaves whole files only", () =>
  inFolder(async (folder) => {
    Deno.writeFileSync(`${folder}/long.wav`, wav(400_000, 1));
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", cli, "embed", ...given, "sounds", "long.wav"],
      cwd: folder,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const begun = () =>
      Deno.stat(`${folder}/out/long.embeddings.npy.partial`).then(() => true, () => false);
    for (let k = 0; k < 600 && !await begun(); k++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    child.kill("SIGINT");
    const { code, stderr } = await child.output();
    const err = new TextDecoder().decode(stderr);
    assertStrictEquals(code, 1, err);
    assertMatch(err, /interrupted/);
    assert(!/^\s+at /m.test(err), err);
    assertEquals(
      filesIn(`${folder}/out`).filter((name) => !/^(deep\/)?a\.\w+\.npy$/.test(name)),
      [],
    );
  }));

Deno.test("nothing is read or written for a checkpoint that can not be used", () =>
  inFolder(async (folder) => {
    const model = modelOf(faithful);
    const { "blocks.1.mixer.D": _, ...others } = model.values;
    const rnn = JSON.stringify({ ...model.encoder, family: "rnn" });
    const whole = checkpointOf(model);
    const tensors = parametersOf(model).filter(({ name }) => name in others);
    const refused: readonly (readonly [string, Uint8Array, RegExp])[] = [
      ["cut", whole.slice(0, whole.length - 1), /cut\.safetensors is cut: it ends at byte/],
      ["rnn", checkpointOf(model, { encoder: rnn }), /family: expected "transformer".* "mamba"/],
      ["text", new TextEncoder().encode("not a checkpoint"), /is not a safetensors file/],
      [
        "part",
        encode(
          new Map(tensors.map(({ name, axes }): [string, TensorData] => [name, {
            dtype: "F32",
            shape: Object.values(axes).map(Number),
            data: others[name] as Float32Array,
          }])),
          {
            encoder: JSON.stringify(model.encoder),
            frontEnd: JSON.stringify(frontEnd),
            frames: "8",
          },
        ),
        /does not hold the encoder .*: 'blocks\.1\.mixer\.D' is missing/,
      ],
    ];
    for (const [name, bytes, sentence] of refused) {
      Deno.writeFileSync(`${folder}/${name}.safetensors`, bytes);
      const given = [
        "--checkpoint",
        `${name}.safetensors`,
        "--out",
        "out",
        "--device",
        "reference",
      ];
      const { code, err } = await ran([...given, "sounds"], folder);
      assertStrictEquals(code, 1);
      assertMatch(err, sentence);
      assertStrictEquals(err.trim().split("\n").length, 1, err);
    }
    assert(!filesIn(folder).some((name) => name.startsWith("out")));
  }));

Deno.test("arguments that are missing or wrong are told with status 2", () =>
  inFolder(async (folder) => {
    const told = async (args: readonly string[], sentence: RegExp) => {
      const { code, err } = await ran(args, folder);
      assertStrictEquals(code, 2, err);
      assertMatch(err, sentence);
    };
    await told(["sounds"], /--checkpoint F is missing/);
    await told(["--checkpoint", "model.safetensors", "sounds"], /--out DIR is missing/);
    await told(given, /there is nothing to embed/);
    await told([...given, "--batch", "0", "sounds"], /--batch: .* found '0'/);
    await told([...given, "--fidelity", "best", "sounds"], /--fidelity: .* found 'best'/);
  }));
