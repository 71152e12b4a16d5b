// The golden of the published runtime: clips of two lengths to spectrograms, timestamps and
// embeddings, by the same code as `deno task embed`.
import type { Backend } from "../../../backends/backend.ts";
import * as F from "../../../dsl/ops.ts";
import { faithful } from "../../../models/fidelity.ts";
import { type Frames, logMel, publishedFrontEnd, standardise } from "../../../models/frontend.ts";
import { embedAll, openEmbedder } from "../../encoders/embedder.ts";
import { encoderOf, numbersIn } from "./models.ts";
import {
  asked,
  compare,
  floats,
  type Golden,
  GoldenError,
  inputOf,
  list,
  outputTolerance,
  paramValues,
  type Row,
  runAsked,
  tensorOf,
} from "./compare.ts";

/** Concatenated values of several clips. */
const joined = (parts: readonly Float32Array[]): Float32Array =>
  Float32Array.from(parts.flatMap((part) => [...part]));

/** All clips of the file, embedded in batches that mix them. */
export const runRuntime = async (golden: Golden, backend: Backend): Promise<readonly Row[]> => {
  const [frames, mels] = list(golden, "img_size");
  const [time, frequency] = list(golden, "patch_size");
  const letters = [...golden.tensors.keys()].filter((name) => name.endsWith(".input.wav"))
    .map((name) => name.slice(0, -".input.wav".length));
  if (letters.length === 0) throw new GoldenError(`${golden.file} has no clips '*.input.wav'`);
  const frontEnd = { ...publishedFrontEnd, mels };
  const spectra = Object.fromEntries(letters.map((letter) => {
    const wav = inputOf(golden, `${letter}.input.wav`, ["batch", "sample"]);
    const spectrum = standardise(logMel(frontEnd)(wav) as Frames<"mel">, 1);
    const order = ["batch", "plane", "time", "mel"];
    return [`${letter}.output.spec`, asked(F.expand(spectrum, { plane: 1 }), order, { abs: 1e-4 })];
  }));
  const rows = [...await runAsked(golden, backend, spectra)];

  const clips = letters.flatMap((letter) => {
    const { shape: [count] } = tensorOf(golden, `${letter}.input.wav`);
    const all = floats(tensorOf(golden, `${letter}.input.wav`)), length = all.length / count;
    return Array.from({ length: count }, (_, k) => ({
      letter,
      samples: all.slice(k * length, (k + 1) * length),
    }));
  });
  const encoder = encoderOf(golden, numbersIn(golden), { time, frequency });
  const values = paramValues(golden);
  const model = { encoder, frontEnd, frames, fidelity: faithful, values };
  const embedder = await openEmbedder(backend, model, 4);
  try {
    const found = await embedAll(embedder, clips.map(({ samples }) => samples));
    for (const letter of letters) {
      const mine = found.filter((_, k) => clips[k].letter === letter);
      const against = (name: string, parts: readonly Float32Array[]) => {
        const key = `${letter}.output.${name}`;
        rows.push(
          compare(golden, key, joined(parts), floats(tensorOf(golden, key)), outputTolerance),
        );
      };
      against("timestamp_embeddings", mine.map(({ embeddings }) => embeddings));
      against("timestamps", mine.map(({ timestamps }) => timestamps));
      against("scene_embedding", mine.map(({ scene }) => scene));
    }
    return rows;
  } finally {
    embedder.close();
  }
};
