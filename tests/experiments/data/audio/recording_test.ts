// Recordings: what each container, rate and channel count gives, checked against the tone that is in
// it; and that no damaged file is taken for a whole one.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
  fail,
} from "@std/assert";
import fc from "fast-check";
import * as E from "fp-ts/Either.js";
import {
  type AudioError,
  audioErrorText,
  decodeRecording,
  listRecordings,
} from "../../../../experiments/data/audio/recording.ts";
import { recordingErrorText } from "../../../../experiments/data/audio/errors.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const right = <A>(result: E.Either<unknown, A>): A => {
  if (E.isLeft(result)) fail(JSON.stringify(result.left));
  return result.right;
};

const samplesOf = async (file: Uint8Array): Promise<Float32Array> =>
  right(await decodeRecording(file)());

const reasonOf = async (file: Uint8Array): Promise<string> => {
  const result = await decodeRecording(file)();
  assert(E.isLeft(result), "it should not be of use");
  return recordingErrorText(result.left);
};

const problemOf = <A>(result: E.Either<AudioError, A>): string => {
  assert(E.isLeft(result), "it should not have worked");
  return audioErrorText(result.left);
};

const recorded = (name: string): Uint8Array =>
  Deno.readFileSync(new URL(`../../../support/recordings/${name}`, import.meta.url));

async function inFolder(act: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await act(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

// ---------------------------------------------------------------- making wav files

type Sample = "u8" | "s16" | "s24" | "s32" | "f32";
const bits: Readonly<Record<Sample, number>> = { u8: 8, s16: 16, s24: 24, s32: 32, f32: 32 };

interface Wav {
  readonly rate?: number;
  readonly sample?: Sample;
  /** Chunks between the format and the audio, and after it. */
  readonly before?: readonly number[];
  readonly after?: readonly number[];
}

// Chunks of zeros of given sizes.
const junk = (sizes: readonly number[]): number[] =>
  sizes.flatMap((size) => [
    ...new TextEncoder().encode("LIST"),
    ...new Uint8Array(Uint32Array.of(size).buffer),
    ...new Uint8Array(size + size % 2),
  ]);

function wav(channels: readonly ArrayLike<number>[], options: Wav = {}): Uint8Array<ArrayBuffer> {
  const { rate = 16000, sample = "s16", before = [], after = [] } = options;
  const width = bits[sample] / 8;
  const size = channels.length * channels[0].length * width;
  const [first, last] = [junk(before), junk(after)];
  const start = 44 + first.length;
  const bytes = new Uint8Array(start + size + size % 2 + last.length);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode("RIFF    WAVEfmt "));
  view.setUint32(4, bytes.length - 8, true);
  view.setUint32(16, 16, true);
  view.setUint16(20, sample === "f32" ? 3 : 1, true);
  view.setUint16(22, channels.length, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * channels.length * width, true);
  view.setUint16(32, channels.length * width, true);
  view.setUint16(34, width * 8, true);
  bytes.set(first, 36);
  bytes.set(new TextEncoder().encode("data"), start - 8);
  view.setUint32(start - 4, size, true);
  for (let i = 0, at = start; i < channels[0].length; i++) {
    for (const { [i]: value } of channels) {
      if (sample === "f32") view.setFloat32(at, value, true);
      else {
        const whole = Math.round(value * (2 ** (width * 8 - 1) - 1)) + (sample === "u8" ? 128 : 0);
        for (let byte = 0; byte < width; byte++) bytes[at + byte] = whole >> (8 * byte);
      }
      at += width;
    }
  }
  bytes.set(last, start + size + size % 2);
  return bytes;
}

const tone = (rate: number, seconds: number, amplitude = 0.5, hertz = 440): Float32Array =>
  Float32Array.from(
    { length: Math.round(rate * seconds) },
    (_, i) => amplitude * Math.sin(2 * Math.PI * hertz * i / rate),
  );

// Greatest difference, without what is nearer than 50 ms to an end.
const difference = (a: Float32Array, b: Float32Array): number => {
  assertStrictEquals(a.length, b.length);
  return a.reduce(
    (most, x, i) => i < 800 || i >= a.length - 800 ? most : Math.max(most, Math.abs(x - b[i])),
    0,
  );
};

// ---------------------------------------------------------------- what is decoded

// Each holds 0.4 s of 440 Hz, 0.6 on the left and 0.2 on the right, faded in and out over 20 ms.
for (const [name, near] of [["tone.flac", 1e-4], ["tone.ogg", 0.02], ["tone.mp3", 0.01]] as const) {
  Deno.test(`${name}: two channels at another rate become the tone that is in them`, async () => {
    const samples = await samplesOf(recorded(name));
    assertStrictEquals(samples.length, 6400);
    const most = difference(samples, tone(16000, 0.4, 0.4));
    assertLess(most, near, `off by ${most}`);
  });
}

Deno.test("a wav at 16 kHz is its samples, whatever they are stored as", async () => {
  const samples = tone(16000, 0.1);
  for (const sample of Object.keys(bits) as Sample[]) {
    const step = sample === "f32" ? 0 : 2 ** (1 - bits[sample]);
    const found = await samplesOf(wav([samples], { sample }));
    const most = found.reduce((m, x, i) => Math.max(m, Math.abs(x - samples[i])), 0);
    assertStrictEquals(found.length, samples.length);
    assertLessOrEqual(most, step + 1e-7, `${sample}: off by ${most}`);
  }
});

Deno.test("channels are averaged", async () => {
  const channels = [0.9, -0.3, 0, 0.3, 0.6, 0.3].map((a) => tone(16000, 0.1, a));
  const found = await samplesOf(wav(channels, { sample: "f32" }));
  assertLess(difference(found, tone(16000, 0.1, 0.3)), 1e-6);
});

Deno.test("any rate becomes 16 kHz: same length in seconds, same tone, nothing folded down", async () => {
  for (const rate of [8000, 11025, 15975, 22050, 44100, 48000, 96000]) {
    const found = await samplesOf(wav([tone(rate, 0.48)], { rate, sample: "f32" }));
    const most = difference(found, tone(16000, 0.48));
    assertLess(most, 1e-5, `${rate} Hz: off by ${most}`);
  }
  const above = await samplesOf(wav([tone(48000, 0.5, 0.5, 12000)], { rate: 48000 }));
  assertLess(difference(above, new Float32Array(8000)), 1e-4);
});

Deno.test("a recording that is resampled in pieces has no seams and keeps its end", async () => {
  const seconds = 30;
  const file = wav([tone(44100, seconds)], { rate: 44100, sample: "f32" });
  const most = difference(await samplesOf(file), tone(16000, seconds));
  assertLess(most, 1e-5, `off by ${most}`);
});

Deno.test("chunks before and after the audio, odd ones too, an ID3 tag and unknown sizes", async () => {
  const samples = tone(16000, 0.1);
  const plain = await samplesOf(wav([samples]));
  for (const chunks of [[4], [7], [3, 10, 1]]) {
    const file = wav([samples], { before: chunks, after: chunks });
    assertSameNumbers(await samplesOf(file), plain);
  }
  const piped = wav([samples]);
  new DataView(piped.buffer).setUint32(4, 0xffffffff, true);
  new DataView(piped.buffer).setUint32(40, 0xffffffff, true);
  assertSameNumbers(await samplesOf(piped), plain);
  for (const name of ["tone.mp3", "tone.flac"]) {
    const tag = Uint8Array.of(0x49, 0x44, 0x33, 3, 0, 0, 0, 0, 1, 2, ...new Uint8Array(130));
    const file = recorded(name);
    assertSameNumbers(await samplesOf(Uint8Array.of(...tag, ...file)), await samplesOf(file));
  }
});

// ---------------------------------------------------------------- what is not

Deno.test("a file that is cut anywhere is never taken for a whole one", async () => {
  const files = {
    wav: wav([tone(16000, 0.05)]),
    "wav with a last chunk": wav([tone(16000, 0.05)], { after: [20] }),
    flac: recorded("tone.flac"),
    ogg: recorded("tone.ogg"),
    mp3: recorded("tone.mp3"),
  };
  for (const [name, file] of Object.entries(files)) {
    for (let size = 0; size < file.length; size += size < 60 ? 1 : 37) {
      const result = await decodeRecording(file.slice(0, size))();
      assert(E.isLeft(result), `${name} cut to ${size} of ${file.length} bytes was accepted`);
    }
    const last = await reasonOf(file.slice(0, -1 - file.length % 2));
    assertMatch(last, /^it is damaged: /, `${name}: ${last}`);
  }
});

Deno.test("the reason says what is wrong", async () => {
  const samples = tone(16000, 0.1);
  const whole = wav([samples]);
  const changed = (at: number, to: number) => whole.with(at, to);
  const flawed = samples.slice();
  flawed[800] = NaN;
  const endless = samples.slice();
  endless[0] = -Infinity;
  const loud = samples.slice();
  loud[400] = -3e38;
  const cases: readonly (readonly [Uint8Array, string])[] = [
    [new Uint8Array(), "the file is empty"],
    [new TextEncoder().encode("a diary\n"), "its content is not wav, flac, ogg or mp3"],
    [whole.slice(0, -200), "it is damaged: its audio should have 3200 bytes, but 3000 are there"],
    [whole.slice(0, 40), "it is damaged: it ends before its audio"],
    [
      whole.slice(0, 30),
      "it is damaged: its chunk at byte 12 should have 16 bytes, but 10 are there",
    ],
    [changed(12, 0x46), "it is damaged: it does not say what its audio is made of"],
    [changed(22, 2), "it is damaged: 2 channels of 16 bits do not fill frames of 2 bytes"],
    [changed(22, 0), "it is damaged: it has no channels"],
    [changed(20, 0x55), "it cannot be decoded: Unsupported WAV format: 0x55"],
    [wav([[]]), "it is damaged: its header says that it holds no audio"],
    [wav([tone(16000, 0.02)]), "it lasts 20 ms, less than 25 ms"],
    [wav([samples], { rate: 5 }), "its sample rate is 5 Hz, where 1000 to 768000 can be read"],
    [
      wav([flawed, samples], { sample: "f32" }),
      "the sample at 0.050 s is not a finite number",
    ],
    [wav([endless], { sample: "f32" }), "the sample at 0.000 s is not a finite number"],
    [
      wav([samples, loud], { sample: "f32" }),
      "the sample at 0.025 s is -3.00e+38, where samples go from -1 to 1 and up to 1e+15 are read",
    ],
    [
      // Their mean is more than float32 can hold.
      wav([loud, loud], { sample: "f32" }),
      "the sample at 0.025 s is -3.00e+38, where samples go from -1 to 1 and up to 1e+15 are read",
    ],
    [
      recorded("tone.ogg").with(4000, recorded("tone.ogg")[4000] ^ 1),
      "it is damaged: page 2 does not match its checksum",
    ],
  ];
  for (const [file, reason] of cases) assertStrictEquals(await reasonOf(file), reason);
  assertMatch(
    await reasonOf(recorded("tone.flac").slice(0, 4000)),
    /^it is damaged: it should hold 8820 samples, but \d+ can be decoded$/,
  );
});

Deno.test("whatever is done to a file's bytes, there are finite samples or a reason", async () => {
  const files = [wav([tone(16000, 0.05)]), ...["tone.flac", "tone.ogg", "tone.mp3"].map(recorded)];
  const changes = fc.array(fc.tuple(fc.nat(8000), fc.nat(255)), { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...files), changes, async (file, changes) => {
      const bytes = file.slice();
      for (const [at, to] of changes) bytes[at % (at % 2 ? 64 : bytes.length)] = to;
      const result = await decodeRecording(bytes)();
      if (E.isRight(result)) assert(result.right.every(Number.isFinite));
      else assertGreater(recordingErrorText(result.left).length, 0);
    }),
    { numRuns: 200, seed: 1 },
  );
});

// ---------------------------------------------------------------- folders

Deno.test("recordings are listed by name, in one order, through folders and links", () =>
  inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/b/deep`, { recursive: true });
    for (
      const name of ["z.wav", "B.FLAC", "a.mp3", "b/x.ogg", "b/deep/1.oga", "notes.txt", "b.wav"]
    ) {
      await Deno.writeTextFile(`${folder}/${name}`, "");
    }
    const names = ["B.FLAC", "a.mp3", "b.wav", "b/deep/1.oga", "b/x.ogg", "z.wav"];
    assertEquals(right(await listRecordings(folder)()), names);
    assertEquals(right(await listRecordings(`${folder}/`)()), names);
    await Deno.symlink(folder, `${folder}/b/around`); // back to where it came from
    await Deno.symlink(`${folder}/z.wav`, `${folder}/link.wav`);
    await Deno.symlink(`${folder}/gone`, `${folder}/missing.wav`);
    assertEquals(
      right(await listRecordings(folder)()),
      [...names, "link.wav", "missing.wav"].sort(),
    );
  }));

Deno.test("a folder that is missing, no folder, or without recordings is told", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/notes.txt`, "");
    const problem = async (path: string) => problemOf(await listRecordings(path)());
    assertStrictEquals(
      await problem(`${folder}/gone`),
      `there is no folder ${folder}/gone; give the path of a folder of recordings`,
    );
    assertStrictEquals(
      await problem(`${folder}/notes.txt`),
      `${folder}/notes.txt is not a folder; give the path of a folder of recordings`,
    );
    assertStrictEquals(
      await problem(folder),
      `no recordings (wav, flac, ogg, mp3) are in ${folder} or the folders in it`,
    );
  }));
