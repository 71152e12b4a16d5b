// The models that an evaluation compares: every checkpoint, the same encoder untrained, and statistics of
// log-mel spectrograms.
import * as E from "fp-ts/Either.js";
import { basename, dirname } from "node:path";
import type { Backend } from "../../backends/backend.ts";
import { corrected, faithful, type Fidelity } from "../../models/fidelity.ts";
import {
  type Checkpoint,
  checkpointErrorText,
  openCheckpoint,
  parametersOf,
} from "../encoders/checkpoint.ts";
import { encoderScenes, logMelScenes, type Scenes } from "./probe/pooled.ts";
import { initialValues } from "../encoders/initial_values.ts";
import { parseJson } from "../../backends/runtime/json.ts";
import { decode } from "../../backends/runtime/safetensors.ts";
import { readTensors } from "../formats/safetensors_file.ts";
import type { EvaluatedModel } from "./results.ts";
import { reasonOf } from "../io/reason.ts";

/** A checkpoint and its name in tables. */
export interface NamedCheckpoint {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  /** The seed of its training; 0 if the file does not say. */
  readonly seed: number;
}

/** A model and its embedder. */
export interface Model extends EvaluatedModel {
  readonly scenes: Scenes;
}

/** Reads checkpoints and names them: by their specs if they have them, else by their files. */
export const readCheckpoints = async (
  files: readonly string[],
): Promise<E.Either<string, readonly NamedCheckpoint[]>> => {
  const found: NamedCheckpoint[] = [];
  for (const file of files) {
    let bytes: Uint8Array;
    try {
      const read = readTensors(file);
      if (E.isLeft(read)) {
        return E.left(checkpointErrorText({ _tag: "NotSafetensors", file, error: read.left }));
      }
      bytes = read.right;
    } catch (error) {
      return E.left(checkpointErrorText({ _tag: "Unreadable", file, reason: reasonOf(error) }));
    }
    const checkpoint = await openCheckpoint(bytes, file);
    if (E.isLeft(checkpoint)) return E.left(checkpointErrorText(checkpoint.left));
    const spec = specOf(bytes);
    found.push({
      name: spec.name ?? basename(file).replace(/\.[^.]+$/, ""),
      checkpoint: checkpoint.right,
      seed: spec.seed ?? 0,
    });
  }
  return E.right(distinct(found, files));
};

/** Name and seed of the spec in a checkpoint, if present. */
const specOf = (bytes: Uint8Array): { readonly name?: string; readonly seed?: number } => {
  const decoded = decode(bytes);
  const text = E.isRight(decoded) ? decoded.right.metadata.spec : undefined;
  const json = text === undefined ? undefined : parseJson(text);
  if (json === undefined || E.isLeft(json)) return {};
  const { name, seed } = (json.right ?? {}) as { readonly name?: unknown; readonly seed?: unknown };
  return {
    ...(typeof name === "string" && name !== "" ? { name } : {}),
    ...(typeof seed === "number" && Number.isSafeInteger(seed) && seed >= 0 ? { seed } : {}),
  };
};

/** Makes names distinct: duplicates get their folders and, if still equal, a number. */
const distinct = (
  all: readonly NamedCheckpoint[],
  files: readonly string[],
): readonly NamedCheckpoint[] => {
  const repeats = (names: readonly string[], name: string) =>
    names.filter((other) => other === name).length > 1;
  const names = all.map(({ name }) => name);
  const longer = names.map((name, k) =>
    repeats(names, name) ? `${name} (${basename(dirname(files[k]))})` : name
  );
  return all.map((of, k) => ({
    ...of,
    name: repeats(longer, longer[k]) ? `${longer[k]} ${k + 1}` : longer[k],
  }));
};

/** Opens all models that the checkpoints are compared with, on a device. */
export const openModels = async (
  backend: Backend,
  checkpoints: readonly NamedCheckpoint[],
  fidelity: "faithful" | "corrected" | undefined,
): Promise<readonly Model[]> => {
  const models: Model[] = [];
  for (const { name, checkpoint, seed } of checkpoints) {
    const points: Fidelity = fidelity === undefined
      ? checkpoint.fidelity
      : { faithful, corrected }[fidelity];
    const of = { ...checkpoint, fidelity: points };
    const trained = await encoderScenes(backend, of);
    models.push({ name, kind: "pre-trained", width: trained.width, scenes: trained });
    const values = initialValues(parametersOf(checkpoint), seed);
    const untrained = await encoderScenes(backend, { ...of, values });
    const { width } = untrained;
    models.push({ name: `${name}, untrained`, kind: "untrained", width, scenes: untrained });
  }
  const statistics = logMelScenes(), { width } = statistics;
  const name = "log-mel statistics";
  return [...models, { name, kind: name, width, scenes: statistics }];
};
