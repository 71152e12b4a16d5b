// Held-out clips as reconstructed by a trained model, saved with its run, so that a study can show the
// same clips for several models.
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import { type FileError, writeWhole } from "../io/files.ts";
import { parseJson } from "../../backends/runtime/json.ts";
import { decode, encode, type TensorData } from "../../backends/runtime/safetensors.ts";
import type { Example } from "../plots/spectrogram.ts";

const file = (run: string): string => `${run}/held-out.safetensors`;

/** Writes examples into a run's folder: `K.original`, `K.reconstructed` and `K.mask` of each. */
export const saveExamples = (
  run: string,
  examples: readonly Example[],
): TaskEither<FileError, void> => {
  const tensors = examples.flatMap(
    ({ original, reconstructed, mask }, k): readonly (readonly [string, TensorData])[] => {
      const shape = [original.frames, original.mels];
      return [
        [`${k}.original`, { dtype: "F32", shape, data: original.values }],
        [`${k}.reconstructed`, { dtype: "F32", shape, data: reconstructed.values }],
        [`${k}.mask`, { dtype: "F32", shape: [mask.length], data: Float32Array.from(mask) }],
      ];
    },
  );
  const names = JSON.stringify(examples.map(({ name }) => name));
  return writeWhole(file(run), encode(new Map(tensors), { names }));
};

/** The examples in a run's folder; empty if the file is missing or damaged. */
export const readExamples = (run: string): readonly Example[] => {
  let bytes: Uint8Array;
  try {
    bytes = Deno.readFileSync(file(run));
  } catch {
    return [];
  }
  const decoded = decode(bytes);
  if (E.isLeft(decoded)) return [];
  const { tensors, metadata } = decoded.right;
  const names = parseJson(metadata.names ?? "");
  if (E.isLeft(names) || !Array.isArray(names.right)) return [];
  return names.right.flatMap((name, k): readonly Example[] => {
    const [original, reconstructed, mask] = ["original", "reconstructed", "mask"]
      .map((of) => tensors.get(`${k}.${of}`));
    if (original === undefined || reconstructed === undefined || mask === undefined) return [];
    const [frames, mels] = original.shape;
    return [{
      name: `${name}`,
      original: { frames, mels, values: original.data as Float32Array },
      reconstructed: { frames, mels, values: reconstructed.data as Float32Array },
      mask: mask.data as Float32Array,
    }];
  });
};
