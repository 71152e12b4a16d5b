// Goldens of the encoder's input: log-mel spectrograms, patches, positions.
import type { Backend, Output } from "../../../backends/backend.ts";
import type { AnyTensor } from "../../../dsl/axes.ts";
import * as F from "../../../dsl/ops.ts";
import * as frontend from "../../../models/frontend.ts";
import { patchify, positionTable, type Spectrogram } from "../../../models/patches.ts";
import {
  asked,
  type Golden,
  GoldenError,
  inputOf,
  outputTolerance,
  type Row,
  runAsked,
  shapeOf,
  type Tolerance,
} from "./compare.ts";

export const runLogMel = (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const front = frontend.publishedFrontEnd;
  const wave = F.input("input.wav", { sample: shapeOf(golden, "input.wav")[0] });
  const clip = F.expand(wave, { batch: 1 }) as frontend.Waveform;
  const logs = frontend.logMel(front)(clip);
  const one = (x: AnyTensor) => F.take(x, "batch", 0);
  const frames = shapeOf(golden, "output.normalized")[2];
  const inference = frontend.standardise(logs, 1);
  const training = frontend.standardise(logs, 0);
  const absolute: Tolerance = { abs: 1e-4 };
  const planes = (x: AnyTensor) => F.expand(x, { plane: 1 });
  const order = ["batch", "plane", "time", "mel"];
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {
    "const.window": asked(F.literal({ tap: front.fft }, frontend.hann(front)), ["tap"], {
      rel: 1e-6,
    }),
    "const.mel_fb": asked(
      F.literal({ bin: 201, mel: 80 }, frontend.melFilters(front)),
      ["bin", "mel"],
      outputTolerance,
    ),
    "output.mel_power": asked(one(frontend.melPower(front)(clip)), ["mel", "time"]),
    "output.power_spec": asked(one(frontend.power(front)(clip)), ["bin", "time"]),
    "output.logmel": asked(one(logs), ["mel", "time"], { abs: 1e-3 }),
    "output.normalized": asked(planes(inference), order, absolute),
    "output.normalized_first200": asked(
      planes(frontend.standardise(F.slice(logs, "time", 0, 200) as frontend.Frames<"mel">, 1)),
      order,
      absolute,
    ),
  };
  const centre = [...golden.tensors.keys()].find((name) => name.startsWith("output.train_center"));
  if (centre !== undefined) {
    const length = shapeOf(golden, centre)[1];
    wanted[centre] = asked(
      F.slice(training, "time", Math.floor((frames - length) / 2), length),
      ["batch", "time", "mel"],
      absolute,
    );
  }
  return runAsked(golden, backend, wanted);
};

export const runPatchify = (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {};
  for (const [letter, patch] of Object.entries(patchesIn(golden))) {
    const imgs = inputOf(golden, `${letter}.input.imgs`, ["batch", "plane", "time", "mel"]);
    const x = F.take(imgs, "plane", 0) as Spectrogram;
    for (
      const [name, order] of [["time_first", "time first"], [
        "frequency_first",
        "frequency first",
      ]] as const
    ) {
      const y = patchify(x, patch, order);
      wanted[`${letter}.output.${name}`] = asked(y, ["batch", "token", "pixel"], { abs: 0 });
    }
  }
  return runAsked(golden, backend, wanted);
};

/** Patch sizes parsed from the metadata: `a: img 24x16 patch 4x8, ...`. */
const patchesIn = (
  golden: Golden,
): Readonly<Record<string, { time: number; frequency: number }>> => {
  const found = [
    ...(golden.metadata.cases ?? "").matchAll(/(\w+): img \d+x\d+ patch (\d+)x(\d+)/g),
  ];
  if (found.length === 0) {
    throw new GoldenError(`${golden.file}: its metadata does not say the patch sizes`);
  }
  return Object.fromEntries(
    found.map((
      [, letter, time, frequency],
    ) => [letter, { time: Number(time), frequency: Number(frequency) }]),
  );
};

export const runPositions = (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const wanted: Record<string, { output: Output; tolerance: Tolerance }> = {};
  for (const name of golden.tensors.keys()) {
    const match = name.match(/^pos\.dim(\d+)\.grid(\d+)x(\d+)\.cls$/);
    if (match === null) continue;
    const [dim, time, frequency] = match.slice(1).map(Number);
    const table = F.literal(
      { token: 1 + time * frequency, channel: dim },
      positionTable(dim, { time, frequency }),
    );
    wanted[name] = asked(table, ["token", "channel"], { abs: 1e-5 });
  }
  return runAsked(golden, backend, wanted);
};
