// The report: its pictures decode to what they were made from, its numbers and sentences follow from
// the data, and the page is whole, self-contained and the same every time.
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertNotMatch,
  assertNotStrictEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { crc32, inflateSync } from "node:zlib";
import type { Metric, Timing } from "../../../experiments/training/metrics.ts";
import { type Example, type ReportData, reportPage } from "../../../experiments/training/report.ts";
import { colourMap } from "../../../experiments/plots/colour_map.ts";
import { durationText, lossText, wholeText } from "../../../experiments/plots/html.ts";
import { lossFigure } from "../../../experiments/training/loss_chart.ts";
import { encodePng, type Picture } from "../../../experiments/formats/png.ts";
import { melTicks, place, roundStep, ticks } from "../../../experiments/plots/scale.ts";
import { colourRange, panels, picture, score } from "../../../experiments/plots/spectrogram.ts";
import type { Spec } from "../../../experiments/specs/spec.ts";
import { hasBrowser, lookAt } from "../../support/browser.ts";

// ---------------------------------------------------------------- pictures

/** Reads the kind of PNG that we write, checking every chunk's sum. */
function decodePng(bytes: Uint8Array): Picture & { readonly opacity: Uint8Array } {
  assertEquals([...bytes.subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
  const chunks = new Map<string, Uint8Array>();
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = 8;
  while (at < bytes.length) {
    const length = view.getUint32(at);
    const body = bytes.subarray(at + 4, at + 8 + length);
    assertStrictEquals(view.getUint32(at + 8 + length), crc32(body));
    chunks.set(new TextDecoder().decode(body.subarray(0, 4)), body.subarray(4));
    at += 12 + length;
  }
  assertStrictEquals(at, bytes.length);
  assertStrictEquals([...chunks.keys()].at(-1), "IEND");
  const head = chunks.get("IHDR")!;
  const size = new DataView(head.buffer, head.byteOffset);
  const [width, height] = [size.getUint32(0), size.getUint32(4)];
  assertEquals([...head.subarray(8)], [8, 3, 0, 0, 0]);
  const rows = inflateSync(chunks.get("IDAT")!);
  assertStrictEquals(rows.length, height * (width + 1));
  const pixels = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    assertStrictEquals(rows[y * (width + 1)], 0);
    pixels.set(rows.subarray(y * (width + 1) + 1, (y + 1) * (width + 1)), y * width);
  }
  const opacity = chunks.get("tRNS") ?? new Uint8Array();
  return { width, height, pixels, palette: chunks.get("PLTE")!, opacity };
}

Deno.test("a PNG decodes to the same pixels, colours and clear colour", () => {
  for (const [width, height] of [[1, 1], [7, 3], [200, 80]]) {
    const pixels = Uint8Array.from({ length: width * height }, (_, i) => (i * 37 + 5) % 251);
    const palette = Uint8Array.from({ length: 3 * 251 }, (_, i) => i * 7 % 256);
    const read = decodePng(encodePng({ width, height, pixels, palette, clear: 250 }));
    assertEquals([read.width, read.height], [width, height]);
    assertEquals(read.pixels, pixels);
    assertEquals(read.palette, palette);
    assertEquals([...read.opacity], [...Array(250).fill(255), 0]);
  }
});

Deno.test("a picture whose pixels do not fill it is refused", () => {
  const wrong = { width: 2, height: 2, pixels: new Uint8Array(3), palette: new Uint8Array(3) };
  assertThrows(() => encodePng(wrong), Error, "3 pixels do not fill 2 × 2");
});

Deno.test("colours get lighter evenly and differ evenly", () => {
  const map = colourMap(255);
  // From sRGB bytes to Oklab, written down independently of the map's own way back.
  const lab = (i: number): number[] => {
    const [r, g, b] = [0, 1, 2].map((part) => {
      const u = map[3 * i + part] / 255;
      return u <= 0.04045 ? u / 12.92 : ((u + 0.055) / 1.055) ** 2.4;
    });
    const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
    const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
    const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
    return [
      0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
      1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
      0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s,
    ];
  };
  const every = Array.from({ length: 17 }, (_, i) => lab(Math.round(i * 254 / 16)));
  const steps = every.slice(1).map((colour, i) =>
    Math.hypot(...colour.map((part, j) => part - every[i][j]))
  );
  const mean = steps.reduce((a, b) => a + b) / steps.length;
  for (const step of steps) assertLess(Math.abs(step / mean - 1), 0.08, `${step} of ${mean}`);
  for (let i = 1; i < 17; i++) assertGreater(every[i][0], every[i - 1][0] + 0.02);
});

// A clip of 4 frames × 4 bands in patches of 2 × 2: values 0 to 15, the second and third patch
// (low bands then high bands of each time) masked.
const small: Example = {
  name: "small",
  original: { frames: 4, mels: 4, values: Float32Array.from({ length: 16 }, (_, i) => i) },
  reconstructed: { frames: 4, mels: 4, values: Float32Array.from({ length: 16 }, (_, i) => i + 2) },
  mask: [0, 1, 1, 0],
};
const patch = { time: 2, frequency: 2 };

Deno.test("low frequencies are at the bottom, time runs right, masked patches are clear", () => {
  const { width, height, pixels, clear } = picture(small.original, { low: 0, high: 254 / 16 });
  assertEquals([width, height, clear], [4, 4, 255]);
  const level = (value: number): number => Math.round(16 * value);
  assertEquals(
    [...pixels],
    [3, 7, 11, 15, 2, 6, 10, 14, 1, 5, 9, 13, 0, 4, 8, 12].map(level),
  );
  const html = panels(
    small,
    { frontEnd: { sampleRate: 16000, hop: 160, mels: 4, fMin: 50, fMax: 8000 }, patch },
    { low: 0, high: 254 / 16 },
  );
  const shown = [...html.matchAll(/base64,([^"]+)"/g)].map((
    [, text],
  ) => [...decodePng(Uint8Array.fromBase64(text)).pixels]);
  const seen = (hidden: (value: number) => number): number[] =>
    [3, 7, 11, 15, 2, 6, 10, 14, 1, 5, 9, 13, 0, 4, 8, 12].map((value) =>
      [2, 3, 6, 7, 8, 9, 12, 13].includes(value) ? hidden(value) : level(value)
    );
  assertStrictEquals(shown.length, 4);
  assertEquals(shown[0], [...pixels]);
  assertEquals(shown[1], seen(() => 255));
  assertEquals(shown[2], [...pixels].map((p) => Math.min(254, p + 32)));
  assertEquals(shown[3], seen((value) => level(value + 2)));
});

Deno.test("scores are over masked patches only", () => {
  const mean = [2, 3, 6, 7, 8, 9, 12, 13].reduce((sum, v) => sum + (v - 7.5) ** 2, 0) / 8;
  assertEquals(score(small, patch), { model: 4, mean, masked: 2, patches: 4 });
});

Deno.test("a mask of the wrong size is a mistake in code", () => {
  assertThrows(() => score({ ...small, mask: [0, 1] }, patch), Error, "does not go with 2 patches");
});

Deno.test("a flat clip, values that are no numbers, and no clips still have a scale", () => {
  const flat = { ...small, original: { ...small.original, values: new Float32Array(16) } };
  assertEquals(colourRange([flat]), { low: -0.5, high: 0.5 });
  assertEquals(colourRange([]), { low: 0, high: 1 });
  const spoilt = { ...small.original, values: small.original.values.map((v) => v === 3 ? NaN : v) };
  assertStrictEquals(picture(spoilt, { low: -1, high: 15 }).pixels[0], 0);
});

// ---------------------------------------------------------------- axes and numbers

Deno.test("mel ticks stand where the filters' peaks are", () => {
  const marks = melTicks({ mels: 80, fMin: 50, fMax: 8000 });
  assertEquals(marks.map((mark) => mark.label), ["100", "500", "1k", "2k", "4k", "8k"]);
  // Peak of band i on the HTK scale, back to Hz.
  const mel = (f: number): number => 2595 * Math.log10(1 + f / 700);
  const peak = (i: number): number =>
    700 * (10 ** ((mel(50) + (i + 1) * (mel(8000) - mel(50)) / 81) / 2595) - 1);
  for (const [mark, hertz] of [[1, 500], [2, 1000], [3, 2000], [4, 4000]]) {
    const row = marks[mark].at * 80 - 0.5;
    const [below, above] = [Math.floor(row), Math.ceil(row)];
    assert(peak(below) <= hertz && hertz <= peak(above), `${hertz} Hz at row ${row}`);
  }
  const half = melTicks({ mels: 40, fMin: 0, fMax: 4000 }).map((mark) => mark.label);
  assertEquals(half, ["100", "500", "1k", "2k", "4k"]);
});

Deno.test("ticks are round numbers inside the range", () => {
  const labels = (low: number, high: number, log = false): string[] =>
    ticks({ low, high, log }, 6).map((mark) => mark.label);
  assertEquals(labels(0, 1.3), ["0.00", "0.25", "0.50", "0.75", "1.00", "1.25"]);
  assertEquals(labels(-1.7, 3.2), ["−1", "0", "1", "2", "3"]);
  assertEquals(labels(0, 200300), ["0", "50,000", "100,000", "150,000", "200,000"]);
  assertEquals(
    ticks({ low: 0, high: 3, whole: true }, 6).map((mark) => mark.label),
    ["0", "1", "2", "3"],
  );
  assertEquals(labels(0.03, 30, true), [
    "0.05",
    "0.1",
    "0.2",
    "0.5",
    "1",
    "2",
    "5",
    "10",
    "20",
  ]);
  assertLess(Math.abs(place({ low: 0.01, high: 100, log: true }, 1) - 0.5), 1e-12);
});

Deno.test("steps between ticks", () => {
  assertEquals(
    [0.9, 1.3, 11, 150].map((length) => roundStep(length, 6)),
    [0.2, 0.25, 2, 25],
  );
  assertEquals([3, 14, 150].map((length) => roundStep(length, 6, true)), [1, 5, 25]);
});

Deno.test("numbers as a reader expects them", () => {
  assertEquals([0.98765, 0.001234, 0, NaN].map(lossText), [
    "0.988",
    "0.00123",
    "0.000",
    "not a number",
  ]);
  assertEquals([0, 999, 1000, 69250624].map(wholeText), ["0", "999", "1,000", "69,250,624"]);
  assertEquals([4.26, 59, 252, 3599.7, 11100].map(durationText), [
    "4.3 s",
    "59 s",
    "4 min 12 s",
    "1 h 0 min",
    "3 h 5 min",
  ]);
});

// ---------------------------------------------------------------- the page

const spec: Spec = JSON.parse(
  Deno.readTextFileSync(new URL("../../../experiments/specs/presets/mamba.json", import.meta.url)),
);

const metrics: readonly Metric[] = [
  { step: 0, heldOutLoss: 1.25 },
  { step: 1, loss: 1.2, learningRate: 1e-4 },
  { step: 2, loss: 0.9, heldOutLoss: 0.5, learningRate: 2e-4 },
  { step: 3, loss: 0.7, heldOutLoss: 0.6, learningRate: 1e-4 },
];

const timings: readonly Timing[] = [
  { step: 0, elapsed: 0.5, memory: 1e8 },
  { step: 1, clipsPerSecond: 1, elapsed: 8, memory: 1e8 },
  { step: 2, clipsPerSecond: 8, elapsed: 9, memory: 1e8 },
  { step: 3, clipsPerSecond: 9, elapsed: 10, memory: 1e8 },
];

function example(name: string, seed: number): Example {
  const { frames } = spec.clip;
  const { mels } = spec.frontEnd;
  const patches = frames / spec.patch.time * mels / spec.patch.frequency;
  const values = Float32Array.from({ length: frames * mels }, (_, i) => Math.sin(i * seed));
  return {
    name,
    original: { frames, mels, values },
    reconstructed: { frames, mels, values: values.map((value) => value / 2) },
    mask: Uint8Array.from({ length: patches }, (_, i) => (i * 7 + seed) % 2),
  };
}

const data: ReportData = {
  spec: { ...spec, schedule: { warmupSteps: 1, steps: 3 }, batch: 8 },
  device: 'a device <of> "words" & signs',
  parameters: 612352,
  clips: { source: "the folder a&b", training: 90, heldOut: 10 },
  metrics,
  timings,
  baselines: [{ label: "predicting each clip's mean", loss: 1 }],
  examples: [example("<one>.wav", 1), example("two's.flac", 2)],
  units: "standard deviations",
  skipped: [{ path: "bad/<x>.wav", reason: "it is empty" }],
  notes: ["A note & more."],
  versions: { formant: "0.1.0", deno: "2.9.6" },
};

const visible = (html: string): string =>
  html.replace(/<style>[\s\S]*?<\/style>/g, "").replace(/<[^>]*>/g, " ")
    .replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code))).replace(/\s+/g, " ");

Deno.test("the page asks for nothing outside itself and runs nothing", () => {
  const page = reportPage(data);
  const written = page.replace(/base64,[A-Za-z0-9+/=]+/g, "");
  assertNotMatch(written, /https?:|\/\/[a-z]|@import|<script|\son\w+=|xlink|<iframe/i);
  assertEquals(written.match(/<link[^>]*>/g), ['<link rel="icon" href="data:,">']);
  // A link is followed only when it is clicked; the one that there is leads to the page of scores.
  const asked = page.replace('<a href="evaluation/evaluation.html">', "<a>");
  assertNotStrictEquals(asked, page);
  for (const [, address] of asked.matchAll(/(?:src|href|url\()=?["']?([^"')\s>]+)/g)) {
    assertMatch(address, /^data:/);
  }
  assertStrictEquals((page.match(/<img /g) ?? []).length, 4 * 2 + 1);
  assertNotMatch(page, /<img (?![^>]*alt="[^"]+")/);
});

Deno.test("every tag is closed where it should be", () => {
  const open: string[] = [];
  const page = reportPage(data).replace(/^<!doctype html>/, "");
  for (const [tag, close, name, own] of page.matchAll(/<(\/?)([a-z][a-z0-9]*)[^<>]*?(\/?)>/g)) {
    if (own === "/" || ["meta", "link", "img"].includes(name)) continue;
    if (close === "") open.push(name);
    else assertStrictEquals(open.pop(), name, tag);
  }
  assertEquals(open, []);
});

Deno.test("the same data gives the same page", () => {
  assertStrictEquals(reportPage(data), reportPage(structuredClone(data)));
});

Deno.test("names from outside stand as text", () => {
  const page = reportPage(data);
  assertNotMatch(page, /<one>|<x>|<of>/);
  const text = visible(page);
  for (const part of ["<one>.wav", "bad/<x>.wav it is empty", 'a device <of> "words" & signs']) {
    assert(text.includes(part), part);
  }
});

Deno.test("the summary and the numbers say what the run did", () => {
  const text = visible(reportPage(data));
  assert(
    text.includes(
      "A Mamba encoder of 612,352 parameters was trained to fill in masked patches of log-mel " +
        "spectrograms: 3 steps of 8 clips each from the folder a&b, in 10 s. On 10 clips that it " +
        "never saw, the loss fell from 1.250 to 0.600; predicting each clip's mean gives 1.000.",
    ),
    text.slice(0, 700),
  );
  for (
    const part of [
      "Held-out loss, first 1.250 (step 0)",
      "Held-out loss, best 0.500 (step 2)",
      "Held-out loss, last 0.600",
      "Predicting each clip's mean 1.000",
      "Clips per second 8.0",
      "A note & more.",
      "1 recording skipped",
      "formant 0.1.0",
    ]
  ) assert(text.includes(part), part);
  assertMatch(text, /"family": "mamba"/);
  const one = { ...data.spec, encoder: { ...data.spec.encoder, depth: 1 } };
  const averaged = metrics.map((metric) => ({ ...metric, averageHeldOutLoss: 0.55 }));
  const other = visible(reportPage({ ...data, spec: one, metrics: averaged }));
  assert(other.includes("Mamba, 1 block of 64 channels"));
  assert(other.includes("Held-out loss, last 0.600 The same with averaged parameters 0.550"));
});

Deno.test("a run that went badly or was stopped is told as such", () => {
  const worse = metrics.map((metric) => metric.step === 3 ? { ...metric, heldOutLoss: 2 } : metric);
  const longer = { ...data.spec, schedule: { warmupSteps: 1, steps: 9 } };
  const text = visible(reportPage({ ...data, spec: longer, metrics: worse, skipped: [] }));
  assert(text.includes("3 of 9 steps of 8 clips"));
  assert(text.includes(
    "the loss rose from 1.250 to 2.000; predicting each clip's mean gives " +
      "1.000, which the model does not beat.",
  ));
  assert(text.includes("No recording was skipped."));
  const broken = metrics.map((metric) => ({ ...metric, loss: NaN, heldOutLoss: NaN }));
  const page = visible(reportPage({ ...data, metrics: broken }));
  assert(page.includes("from not a number to not a number"));
  assert(page.includes("which the model does not beat"));
});

Deno.test("a report of nothing yet is still a page", () => {
  const page = reportPage({
    ...data,
    metrics: [],
    timings: [],
    baselines: [],
    examples: [],
    versions: {},
  });
  assertMatch(page, /<\/html>\n$/);
  assertNotMatch(page, /NaN|undefined|Infinity/);
});

Deno.test("the loss figure: points where they belong, baselines across", () => {
  const html = lossFigure(metrics, data.baselines);
  // The scale ends at 1.25 × 1.04 = 1.3; the step axis at 3.
  assertMatch(html, /<path class="held-out" d="M0 38\.5L666\.7 615\.4L1000 538\.5"\/>/);
  assertMatch(html, /<path class="train" d="M333\.3 76\.9L666\.7 307\.7L1000 461\.5"\/>/);
  assertMatch(html, /<line class="baseline b0" x1="0" x2="100%" y1="23\.077%" y2="23\.077%"\/>/);
  assertMatch(html, /aria-label="Loss by step: training loss from 1\.200 to 0\.700; held-out/);
});

Deno.test("a long run is thinned and smoothed, and a large first loss makes the scale logarithmic", () => {
  const long = Array.from({ length: 4000 }, (_, i): Metric => ({
    step: i + 1,
    loss: i === 0 ? 100 : 1,
  }));
  const html = lossFigure(long, []);
  const [, raw] = /<path class="raw" d="([^"]*)"/.exec(html)!;
  assertStrictEquals(raw.split("L").length, 800);
  assertNotMatch(html, />50</);
  const spiked = lossFigure(long.slice(0, 50), []);
  assertMatch(spiked, />100<\/text>/);
  assertMatch(spiked, />10<\/text>/);
});

Deno.test({
  name: "Chromium shows the page whole, readable and quiet, on a desk and a phone, light and dark",
  ignore: !hasBrowser,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    try {
      const skipped = [{
        path: `${"a/long/path/".repeat(20)}x.wav`,
        reason: "it is empty ".repeat(9),
      }];
      await Deno.writeTextFile(`${folder}/report.html`, reportPage({ ...data, skipped }));
      for (const { width, scheme, problems } of await lookAt(`${folder}/report.html`)) {
        assertEquals(problems, [], `${width} ${scheme}`);
      }
      // What is looked for is found.
      const bad =
        "<body style='background: #fff'><p style='color: #999; font-size: 9px'>faint</p>" +
        "<p style='width: 2000px'>wide</p><img src='http://127.0.0.1:9/x.png'>" +
        "<script>console.error('loud')</script>";
      await Deno.writeTextFile(`${folder}/bad.html`, bad);
      const [look] = await lookAt(`${folder}/bad.html`);
      for (
        const problem of [
          /2008 wide/,
          /beyond 1280/,
          /9px/,
          /contrast of 2\.8/,
          /asks for http/,
          /loud/,
        ]
      ) {
        assert(look.problems.some((one) => problem.test(one)), `${look.problems}`);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
