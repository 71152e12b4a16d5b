// A checkpoint with its encoder: parameters in a safetensors file, and the encoder's description in its
// metadata. Nothing is trusted: the encoder is built, and each of its parameters must be in the file with
// its shape.
import type * as t from "io-ts";
import * as E from "fp-ts/Either.js";
import type { TaskEither } from "fp-ts/TaskEither.js";
import type { Values } from "../../backends/backend.ts";
import { AxisError } from "../../dsl/axes.ts";
import { input } from "../../dsl/ops.ts";
import { type Parameter, parameters } from "../../dsl/parameters.ts";
import { type Encoder, features } from "../../models/encoder.ts";
import { faithful, type Fidelity } from "../../models/fidelity.ts";
import type { FrontEnd } from "../../models/frontend.ts";
import { fieldError, fieldErrorText, numberThat } from "../io/schema.ts";
import { isLoaded, loadEncoder, moduleErrorText, withBlock } from "./user_module.ts";
import { parseJson } from "../../backends/runtime/json.ts";
import { encoder, type EncoderSpec, fidelity, frontEnd } from "./config.ts";
import {
  decode,
  type Safetensors,
  type SafetensorsError,
  safetensorsErrorText,
  type TensorData,
} from "../../backends/runtime/safetensors.ts";
import { readTensors } from "../formats/safetensors_file.ts";
import { reasonOf } from "../io/reason.ts";

/** The description of the encoder in a checkpoint. */
export interface Description {
  readonly encoder: Encoder;
  readonly frontEnd: FrontEnd;
  /** Frames of the encoder's input. */
  readonly frames: number;
  /** Fidelity of its training; "faithful" if the file does not say. */
  readonly fidelity: Fidelity;
}

/** An encoder with its parameters. */
export interface Checkpoint extends Description {
  /** The encoder's parameters by name. The file may have more: a predictor, a decoder. */
  readonly values: Values;
}

/** Why a file is not a usable checkpoint. */
export type CheckpointError =
  | { readonly _tag: "Unreadable"; readonly file: string; readonly reason: string }
  | { readonly _tag: "NotSafetensors"; readonly file: string; readonly error: SafetensorsError }
  | { readonly _tag: "NoEncoder"; readonly file: string }
  | {
    /** The encoder's module is not loaded. */
    readonly _tag: "ModuleMissing";
    readonly file: string;
    readonly encoder: EncoderSpec;
  }
  | {
    /** The metadata at `key` is invalid. */
    readonly _tag: "BadMetadata";
    readonly file: string;
    readonly key: string;
    readonly problems: readonly string[];
  }
  | {
    /** Tensors that are missing, or not what the encoder needs; each is listed by its name. */
    readonly _tag: "Misfit";
    readonly file: string;
    readonly problems: readonly string[];
  };

/** Reads a checkpoint. */
export const readCheckpoint =
  (file: string): TaskEither<CheckpointError, Checkpoint> => async () => {
    let bytes: Uint8Array;
    try {
      const read = readTensors(file);
      if (E.isLeft(read)) return E.left({ _tag: "NotSafetensors", file, error: read.left });
      bytes = read.right;
    } catch (error) {
      return E.left({ _tag: "Unreadable", file, reason: reasonOf(error) });
    }
    return await openCheckpoint(bytes, file);
  };

/** The checkpoint in the given bytes; loads the encoder's module if it has one. */
export const openCheckpoint = async (
  bytes: Uint8Array,
  file: string,
): Promise<E.Either<CheckpointError, Checkpoint>> => {
  const decoded = decodeCheckpoint(bytes, file);
  if (E.isRight(decoded) || decoded.left._tag !== "ModuleMissing") return decoded;
  const loaded = await loadEncoder(decoded.left.encoder);
  return E.isRight(loaded) ? decodeCheckpoint(bytes, file) : E.left({
    _tag: "BadMetadata",
    file,
    key: "encoder",
    problems: [moduleErrorText(loaded.left)],
  });
};

/** The checkpoint in the given bytes; `file` is its name in errors. */
export const decodeCheckpoint = (
  bytes: Uint8Array,
  file: string,
): E.Either<CheckpointError, Checkpoint> => {
  const decoded = decode(bytes);
  if (E.isLeft(decoded)) return E.left({ _tag: "NotSafetensors", file, error: decoded.left });
  const described = describedBy(decoded.right, file);
  if (E.isLeft(described)) return described;
  const values = valuesOf(described.right, decoded.right, file);
  return E.isLeft(values) ? values : E.right({ ...described.right, values: values.right });
};

/** Why a checkpoint cannot be used, in one sentence. */
export function checkpointErrorText(error: CheckpointError): string {
  const { file } = error;
  switch (error._tag) {
    case "Unreadable":
      return `the checkpoint ${file} cannot be read: ${error.reason}`;
    case "NotSafetensors":
      return safetensorsErrorText(error.error, file);
    case "NoEncoder":
      return `${file} does not say which encoder it holds: its metadata has no 'encoder'; give a ` +
        `checkpoint that 'deno task experiment' wrote, or make one with 'deno task import'`;
    case "ModuleMissing":
      return `${file}: the module of its encoder was not loaded`;
    case "BadMetadata":
      return `${file}: '${error.key}' in its metadata: ${several(error.problems)}`;
    case "Misfit":
      return `${file} does not hold the encoder that its metadata describes: ` +
        several(error.problems);
  }
}

/** The first few items of a list as one clause. */
const several = (problems: readonly string[]): string => {
  const most = 4, more = problems.length - most;
  return problems.slice(0, most).join("; ") + (more > 0 ? `; and ${more} more` : "");
};

// ---------------------------------------------------------------- metadata

// Sizes beyond those of any front end are errors, which otherwise would show when memory runs out.
const upTo = (most: number): t.Type<number> =>
  numberThat(`a whole number from 1 to ${most}`, (n) => Number.isInteger(n) && n >= 1 && n <= most);

const describedBy = (
  { metadata }: Safetensors,
  file: string,
): E.Either<CheckpointError, Description> => {
  const bad = (key: string, problems: readonly string[]): E.Either<CheckpointError, never> =>
    E.left({ _tag: "BadMetadata", file, key, problems });
  const read = <A>(key: string, codec: t.Type<A>): E.Either<CheckpointError, A> => {
    if (metadata[key] === undefined) return bad(key, ["it is missing"]);
    const json = parseJson(metadata[key]);
    if (E.isLeft(json)) return bad(key, [`it is not JSON: ${json.left.problem}`]);
    const decoded = codec.decode(json.right);
    return E.isLeft(decoded)
      ? bad(key, decoded.left.map((error) => fieldErrorText(fieldError(error))))
      : decoded;
  };
  if (metadata.encoder === undefined) return E.left({ _tag: "NoEncoder", file });
  const found = {
    encoder: read("encoder", encoder),
    frontEnd: read("frontEnd", frontEnd),
    frames: read("frames", upTo(100_000)),
    fidelity: metadata.fidelity === undefined
      ? E.right<CheckpointError, Fidelity>(faithful)
      : read("fidelity", fidelity),
  };
  if (E.isLeft(found.encoder)) return found.encoder;
  if (E.isLeft(found.frontEnd)) return found.frontEnd;
  if (E.isLeft(found.frames)) return found.frames;
  if (E.isLeft(found.fidelity)) return found.fidelity;
  if (!isLoaded(found.encoder.right)) {
    return E.left({ _tag: "ModuleMissing", file, encoder: found.encoder.right });
  }
  const description = {
    encoder: withBlock(found.encoder.right),
    frontEnd: found.frontEnd.right,
    frames: found.frames.right,
    fidelity: found.fidelity.right,
  };
  const [conflict] = conflicts(description);
  return conflict === undefined ? E.right(description) : bad(...conflict);
};

/** Contradicting metadata: the key and the reason. */
const conflicts = (
  { encoder: { patch }, frontEnd: { fft, window, hop, mels, fMin, fMax, sampleRate }, frames }:
    Description,
): readonly (readonly [key: string, problems: readonly string[]])[] => {
  const when = (holds: boolean, key: string, problem: string) =>
    holds ? [[key, [problem]] as const] : [];
  return [
    when(
      frames % patch.time !== 0,
      "frames",
      `${frames} is not divisible by a patch's ${patch.time} frames`,
    ),
    when(
      mels % patch.frequency !== 0,
      "frontEnd",
      `mels: ${mels} is not divisible by a patch's ${patch.frequency} bands`,
    ),
    when(window > fft, "frontEnd", `window: ${window} is more than fft, ${fft}`),
    when(hop > fft, "frontEnd", `hop: ${hop} is more than fft, ${fft}, and would skip samples`),
    when(mels > fft, "frontEnd", `mels: ${mels} bands are more than fft, ${fft}`),
    when(
      fMin >= fMax || fMax > sampleRate / 2,
      "frontEnd",
      `fMin and fMax: ${fMin} to ${fMax} Hz is no range up to half of the rate, ${sampleRate} Hz`,
    ),
  ].flat();
};

// ---------------------------------------------------------------- parameters

/** The parameters that embedding with an encoder reads. */
export const parametersOf = (
  { encoder, frontEnd, frames }: Pick<Description, "encoder" | "frontEnd" | "frames">,
): readonly Parameter[] => {
  const batch: number = 1;
  const x = input("spectrogram", { batch, time: frames, mel: frontEnd.mels });
  return parameters([features(encoder, "time")(x)]);
};

const valuesOf = (
  description: Description,
  { tensors }: Safetensors,
  file: string,
): E.Either<CheckpointError, Values> => {
  const misfit = (problems: readonly string[]): E.Either<CheckpointError, never> =>
    E.left({ _tag: "Misfit", file, problems });
  // Checked first, because these sizes determine what is built: a wrong one must not build without end.
  const { dim, depth, registers } = description.encoder;
  const blocks = new Set(
    [...tensors.keys()].flatMap((name) => /^blocks\.(\d+)\./.exec(name)?.[1] ?? []),
  );
  if (blocks.size !== depth) {
    return misfit([`it should have ${depth} blocks, but the tensors are of ${blocks.size}`]);
  }
  const sizes = [
    { name: "encoder_norm.weight", shape: [dim] },
    ...(registers === 0 ? [] : [{ name: "register_tokens", shape: [1, registers, dim] }]),
  ];
  for (const { name, shape } of sizes) {
    const problem = unfit(tensors.get(name), shape);
    if (problem !== undefined) return misfit([`'${name}' ${problem}`]);
  }
  let wanted: readonly Parameter[];
  try {
    wanted = parametersOf(description);
  } catch (error) {
    if (!(error instanceof AxisError)) throw error;
    return E.left({ _tag: "BadMetadata", file, key: "encoder", problems: [error.message] });
  }
  const problems = wanted.flatMap(({ name, axes }) => {
    const problem = unfit(tensors.get(name), Object.values(axes).map(Number));
    return problem === undefined ? [] : [`'${name}' ${problem}`];
  });
  if (problems.length > 0) return misfit(problems);
  return E.right(
    Object.fromEntries(wanted.map(({ name }) => [name, tensors.get(name)!.data as Float32Array])),
  );
};

/** Why a tensor is not finite floating-point data of the given shape, to follow its name. */
const unfit = (tensor: TensorData | undefined, shape: readonly number[]): string | undefined => {
  if (tensor === undefined) return "is missing";
  if (`${tensor.shape}` !== `${shape}`) {
    return `is [${tensor.shape.join(", ")}], where [${shape.join(", ")}] was expected`;
  }
  if (tensor.dtype !== "F32") return `is ${tensor.dtype}, where F32 was expected`;
  const at = tensor.data.findIndex((value) => !Number.isFinite(value));
  return at < 0 ? undefined : `holds ${tensor.data[at]}, which no weight can be, at ${at}`;
};
