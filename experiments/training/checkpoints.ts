// Training checkpoints, atomic files with everything needed to resume. The latest few are kept in the
// run's folder `checkpoints`; each is a safetensors file with the model under its published names and the
// optimiser's state.
import * as E from "fp-ts/Either.js";
import type { Values } from "../../backends/backend.ts";
import { type Axes, volume } from "../../dsl/axes.ts";
import type { Parameter } from "../../dsl/parameters.ts";
import { lossScaling } from "../../models/loss_scale.ts";
import { average, moments } from "../../models/optimiser.ts";
import { inPublishedOrder } from "../../models/checkpoint_order.ts";
import { ensureFolder, type FileError, writeWhole } from "../io/files.ts";
import { fidelityOf } from "../encoders/config.ts";
import {
  decode,
  encode,
  safetensorsErrorText,
  type TensorData,
} from "../../backends/runtime/safetensors.ts";
import type { Spec } from "../specs/spec.ts";
import { readTensors } from "../formats/safetensors_file.ts";
import { encoderOf, type Programs } from "./programs.ts";
import { reasonOf } from "../io/reason.ts";

/** A tensor of the checkpoint, by name. */
interface Kept {
  readonly name: string;
  readonly axes: Axes;
}

const model = ({ all }: Programs): readonly Parameter[] => inPublishedOrder(all);

const averages = ({ trained }: Programs, spec: Spec): readonly Kept[] =>
  spec.optimiser.emaDecay === undefined
    ? []
    : trained.map(({ name, axes }) => ({ name: average(name), axes }));

const scaling: readonly Kept[] = Object.values(lossScaling).map((name) => ({ name, axes: {} }));

/** All tensors that resuming needs. */
const kept = (of: Programs, spec: Spec): readonly Kept[] => [
  ...model(of),
  ...of.trained.flatMap(({ name, axes }) =>
    Object.values(moments(name)).map((name) => ({ name, axes }))
  ),
  ...averages(of, spec),
  ...(spec.precision === "f16" ? scaling : []),
];

/** The names of all tensors that resuming needs. */
export const stateNames = (of: Programs, spec: Spec): readonly string[] =>
  kept(of, spec).map(({ name }) => name);

const tensorOf = ({ axes }: Kept, data: Values[string]): TensorData => ({
  dtype: "F32",
  shape: Object.values(axes).map(Number),
  data: data as Float32Array,
});

const metadata = (spec: Spec, step: number): Readonly<Record<string, string>> => ({
  format: "pt",
  step: `${step}`,
  spec: JSON.stringify(spec),
  // Metadata with which other commands run the encoder on audio.
  encoder: JSON.stringify(encoderOf(spec)),
  frontEnd: JSON.stringify(spec.frontEnd),
  frames: `${spec.clip.frames}`,
  fidelity: JSON.stringify(fidelityOf(spec.fidelity)),
});

const folderOf = (run: string): string => `${run}/checkpoints`;
const fileOf = (run: string, step: number): string =>
  `${folderOf(run)}/step-${`${step}`.padStart(7, "0")}.safetensors`;

/** The steps of existing checkpoints, the latest first. */
export const savedSteps = (run: string): readonly number[] => {
  try {
    return [...Deno.readDirSync(folderOf(run))]
      .flatMap(({ name }) => /^step-(\d+)\.safetensors$/.exec(name)?.slice(1).map(Number) ?? [])
      .sort((a, b) => b - a);
  } catch {
    return [];
  }
};

/**
 * Writes the checkpoint of a step: `checkpoint.safetensors`, the model alone, `average.safetensors` if
 * averages are kept, and last the state for resuming, so that if it exists, all files exist. Then deletes
 * older ones.
 */
export const saveState = async (
  run: string,
  of: Programs,
  spec: Spec,
  step: number,
  values: Values,
): Promise<E.Either<FileError, void>> => {
  const tensors = (list: readonly Kept[], named = (name: string) => name) =>
    encode(
      new Map(list.map((one) => [named(one.name), tensorOf(one, values[one.name])])),
      metadata(spec, step),
    );
  const made = await ensureFolder(folderOf(run))();
  if (E.isLeft(made)) return made;
  const alone = await writeWhole(`${run}/checkpoint.safetensors`, tensors(model(of)))();
  if (E.isLeft(alone)) return alone;
  if (spec.optimiser.emaDecay !== undefined) {
    const trained = new Set(of.trained.map(({ name }) => name));
    const list = model(of).map(({ name, axes }) => ({
      name: trained.has(name) ? average(name) : name,
      axes,
    }));
    const plain = (name: string) =>
      name.startsWith(average("")) ? name.slice(average("").length) : name;
    const written = await writeWhole(`${run}/average.safetensors`, tensors(list, plain))();
    if (E.isLeft(written)) return written;
  }
  const all = await writeWhole(fileOf(run, step), tensors(kept(of, spec)))();
  if (E.isLeft(all)) return all;
  for (const old of savedSteps(run).slice(spec.keepCheckpoints)) {
    // A file that cannot be deleted does no harm; it is tried again the next time.
    try {
      Deno.removeSync(fileOf(run, old));
    } catch { /* see above */ }
  }
  return E.right(undefined);
};

/** A checkpoint to resume from. */
export interface Saved {
  readonly step: number;
  readonly file: string;
  readonly values: Values;
  /** The spec of the run that wrote it, as JSON. */
  readonly spec: unknown;
}

/** The checkpoint in a file; on the left, why it cannot be used, in words. */
const load = (file: string): E.Either<string, Saved> => {
  let bytes: Uint8Array;
  try {
    const read = readTensors(file);
    if (E.isLeft(read)) return E.left(safetensorsErrorText(read.left, file));
    bytes = read.right;
  } catch (error) {
    return E.left(`${file} cannot be read: ${reasonOf(error)}`);
  }
  const decoded = decode(bytes);
  if (E.isLeft(decoded)) return E.left(safetensorsErrorText(decoded.left, file));
  const { tensors, metadata } = decoded.right;
  const step = Number(metadata.step);
  if (!Number.isSafeInteger(step) || metadata.spec === undefined) {
    return E.left(`${file} does not say which step of which run it is`);
  }
  const values = Object.fromEntries(
    [...tensors].map(([name, { data }]) => [name, data as Float32Array]),
  );
  return E.tryCatch(
    (): Saved => ({ step, file, values, spec: JSON.parse(metadata.spec) }),
    () => `${file} holds a spec that is not JSON`,
  );
};

/** The latest readable checkpoint, and why later ones are not; undefined if there is none. */
export const latest = (
  run: string,
): { readonly saved: Saved | undefined; readonly damaged: readonly string[] } => {
  const damaged: string[] = [];
  for (const step of savedSteps(run)) {
    const saved = load(fileOf(run, step));
    if (E.isRight(saved)) return { saved: saved.right, damaged };
    damaged.push(saved.left);
  }
  return { saved: undefined, damaged };
};

/** Tensors that a checkpoint lacks for resuming, in words; undefined if none. */
export const missingState = (
  { file, values }: Saved,
  of: Programs,
  spec: Spec,
): string | undefined => {
  const missing = kept(of, spec).find(({ name, axes }) => values[name]?.length !== volume(axes));
  return missing === undefined
    ? undefined
    : `${file} lacks '${missing.name}' with ${volume(missing.axes)} numbers`;
};

/** The name of the first tensor with a value that is not finite; undefined if all are finite. */
export const notFinite = (values: Values): string | undefined =>
  Object.keys(values).find((name) => values[name].some((value: number) => !Number.isFinite(value)));
