// `import`: a checkpoint of other code, PyTorch's or bare safetensors, becomes a checkpoint of ours:
// the same names and layouts, with the description of the encoder as metadata.
import * as E from "fp-ts/Either.js";
import { input } from "../../dsl/ops.ts";
import { type Parameter, parameters } from "../../dsl/parameters.ts";
import { encode as encodeWith, predict } from "../../models/encoder.ts";
import { faithful } from "../../models/fidelity.ts";
import { publishedFrontEnd } from "../../models/frontend.ts";
import { inPublishedOrder } from "../../models/checkpoint_order.ts";
import { type FileError, fileErrorText, writeWhole } from "../io/files.ts";
import { asFloat32 } from "../formats/float16.ts";
import { openPth, type PthError, pthErrorText } from "../formats/pth.ts";
import { fileSource, type Source } from "../formats/zip.ts";
import { quoted } from "../../backends/runtime/text.ts";
import { openRegular } from "../io/regular_files.ts";
import { recognise, type Recognised, type Shapes, sizeOf } from "../encoders/identify.ts";
import {
  decode,
  encode,
  type SafetensorsError,
  safetensorsErrorText,
  type TensorData,
} from "../../backends/runtime/safetensors.ts";
import { commandOf, whole } from "./command.ts";
import { reasonOf } from "../io/reason.ts";

/** How the tensors of a file correspond to those of the model. */
export interface Keys {
  /** In both, with the same shape. */
  readonly matched: readonly string[];
  /** In the model, not in the file. */
  readonly missing: readonly string[];
  /** In the file, not in the model. */
  readonly leftOver: readonly string[];
  /** In both, with different shapes. */
  readonly unfit: readonly string[];
}

/** The converted checkpoint. */
export interface Imported extends Recognised {
  readonly keys: Keys;
  /** Entries of the file's dict that are not tensors. */
  readonly others: number;
  /** The bytes of the safetensors file. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Why a file could not be imported. */
export type ImportError =
  | { readonly _tag: "Unreadable"; readonly reason: string }
  /** The output path is the input file. */
  | { readonly _tag: "SameFile" }
  | { readonly _tag: "PyTorch"; readonly error: PthError }
  | { readonly _tag: "Safetensors"; readonly error: SafetensorsError }
  | { readonly _tag: "Unrecognised"; readonly reason: string }
  /** Tensors that the encoder needs are missing or have other shapes. */
  | { readonly _tag: "Misfit"; readonly keys: Keys }
  | { readonly _tag: "BadValue"; readonly tensor: string; readonly problem: string }
  | { readonly _tag: "Unwritten"; readonly error: FileError };

interface Opened {
  readonly shapes: Shapes;
  readonly others: number;
  readonly read: (
    names: readonly string[],
  ) => E.Either<ImportError, ReadonlyMap<string, TensorData>>;
}

/** Size limit in bytes of a safetensors file, which is read whole; the largest published model has 2.5 GB. */
const mostAtOnce = 2 ** 32;

const pytorch = (error: PthError): ImportError => ({ _tag: "PyTorch", error });

const open = (source: Source): E.Either<ImportError, Opened> => {
  // A safetensors file begins with the length of its header; the header begins with a brace.
  if (source.read(8, 1)[0] !== 0x7b) {
    const pth = openPth(source);
    return E.isLeft(pth) ? E.left(pytorch(pth.left)) : E.right({
      ...pth.right,
      read: (names) => E.mapLeft(pytorch)(pth.right.read(names)),
    });
  }
  if (source.size > mostAtOnce) {
    const reason = `it has ${source.size} bytes, where at most ${mostAtOnce} are read`;
    return E.left({ _tag: "Unreadable", reason });
  }
  const decoded = decode(source.read(0, source.size));
  if (E.isLeft(decoded)) return E.left({ _tag: "Safetensors", error: decoded.left });
  const { tensors } = decoded.right;
  return E.right({
    shapes: new Map([...tensors].map(([name, { shape }]) => [name, shape])),
    others: 0,
    read: (names) => E.right(new Map(names.map((name) => [name, tensors.get(name)!]))),
  });
};

/** The parameters of an encoder with its predictor and mask token, in published order. */
export const wholeModel = (
  { encoder, frames }: Recognised,
): readonly Parameter[] => {
  const { mels } = publishedFrontEnd, batch: number = 1;
  const token = frames / encoder.patch.time * (mels / encoder.patch.frequency);
  const x = input("spectrogram", { batch, time: frames, mel: mels });
  const hidden = { mask: input("mask", { batch, token }), positions: "dropped" } as const;
  return inPublishedOrder(parameters([predict(encoder)(encodeWith(encoder, { hidden })(x))]));
};

const shapeOf = ({ axes }: Parameter): readonly number[] => Object.values(axes).map(Number);

const compare = (model: readonly Parameter[], shapes: Shapes): Keys => {
  const names = new Set(model.map(({ name }) => name));
  const fits = (of: Parameter): boolean => `${shapes.get(of.name)}` === `${shapeOf(of)}`;
  const there = model.filter(({ name }) => shapes.has(name));
  return {
    matched: there.filter(fits).map(({ name }) => name),
    unfit: there.filter((of) => !fits(of)).map((of) =>
      `${of.name} is [${shapes.get(of.name)!.join(", ")}], not [${shapeOf(of).join(", ")}]`
    ),
    missing: model.filter(({ name }) => !shapes.has(name)).map(({ name }) => name),
    leftOver: [...shapes.keys()].filter((name) => !names.has(name)),
  };
};

/** Parameters that only pre-training needs: a checkpoint without them can still embed. */
const isExtra = (name: string): boolean => name.startsWith("pred.") || name === "mask_token";

/**
 * Reads a checkpoint of PyTorch, or a safetensors file without description, and converts it. `heads`:
 * see `recognise`.
 */
export const importFrom = (
  source: Source,
  options: { readonly heads?: number } = {},
): E.Either<ImportError, Imported> => {
  const opened = open(source);
  if (E.isLeft(opened)) return opened;
  const { shapes, others, read } = opened.right;
  const recognised = recognise(shapes, options);
  if (E.isLeft(recognised)) return E.left({ _tag: "Unrecognised", reason: recognised.left });
  const keys = compare(wholeModel(recognised.right), shapes);
  if (keys.unfit.length > 0 || !keys.missing.every(isExtra)) {
    return E.left({ _tag: "Misfit", keys });
  }
  const found = read(keys.matched);
  if (E.isLeft(found)) return found;
  const tensors = new Map<string, TensorData>();
  for (const [name, tensor] of found.right) {
    const data = asFloat32(tensor), at = data?.findIndex((value) => !Number.isFinite(value)) ?? -1;
    const problem = data === undefined
      ? `is ${tensor.dtype}, where floating point was expected`
      : at < 0
      ? undefined
      : `holds ${data[at]}, which no weight can be, at ${at}`;
    if (data === undefined || problem !== undefined) {
      return E.left({ _tag: "BadValue", tensor: name, problem: problem! });
    }
    tensors.set(name, { dtype: "F32", shape: tensor.shape, data });
  }
  return E.right({
    ...recognised.right,
    keys,
    others,
    bytes: encode(tensors, metadataOf(recognised.right)),
  });
};

/** What `embed` reads in addition to the tensors. */
const metadataOf = ({ encoder, frames }: Recognised): Readonly<Record<string, string>> => ({
  format: "pt",
  encoder: JSON.stringify(encoder),
  frontEnd: JSON.stringify(publishedFrontEnd),
  frames: `${frames}`,
  fidelity: JSON.stringify(faithful),
});

// ---------------------------------------------------------------- what is printed

/** A title and the first names of a list, one per line. */
const listText = (title: string, names: readonly string[]): readonly string[] => {
  const most = 20, more = names.length - most;
  if (names.length === 0) return [];
  const shown = names.slice(0, most).map((name) => `  ${quoted(name).slice(1, -1)}`);
  return [`${title}:`, ...shown, ...(more > 0 ? [`  and ${more} more`] : [])];
};

/** How many keys matched, and which did not. */
export const keysText = ({ matched, missing, leftOver, unfit }: Keys): string =>
  [
    `keys: ${matched.length} matched, ${missing.length} missing, ${leftOver.length} left over` +
    (unfit.length > 0 ? `, ${unfit.length} of another shape` : ""),
    ...listText("missing", missing),
    ...listText("left over", leftOver),
    ...listText("of another shape", unfit),
  ].join("\n");

const familyNames = { transformer: "Transformer", mamba: "Mamba", xlstm: "xLSTM" } as const;

/** An encoder in one line. */
export const encoderText = ({ encoder, frames }: Recognised): string => {
  const { family, dim, depth, patch } = encoder, size = sizeOf(encoder);
  return [
    familyNames[family] + (size === undefined ? "" : ` of size ${size}`),
    `width ${dim}`,
    `${depth} ${depth === 1 ? "block" : "blocks"}`,
    ...(family === "mamba" ? [] : [`${encoder.heads} heads`]),
    `patches of ${patch.time} frames × ${patch.frequency} bands`,
    `${frames} frames`,
  ].join(", ");
};

/** Why a file could not be imported, in one sentence; `file` is its name in the message. */
export function importErrorText(error: ImportError, file: string): string {
  switch (error._tag) {
    case "Unreadable":
      return `${file} cannot be read: ${error.reason}`;
    case "SameFile":
      return `${file} would be replaced by a file without all that is left over; give OUT another name`;
    case "PyTorch":
      return pthErrorText(error.error, file);
    case "Safetensors":
      return safetensorsErrorText(error.error, file);
    case "Unrecognised":
      return `${file} holds no encoder that is known here: ${error.reason}`;
    case "Misfit":
      return `${file} does not hold a whole encoder; nothing was written\n${keysText(error.keys)}`;
    case "BadValue":
      return `${file}: the tensor ${quoted(error.tensor)} ${error.problem}`;
    case "Unwritten":
      return fileErrorText(error.error);
  }
}

const withFile = <A>(
  path: string,
  use: (source: Source) => E.Either<ImportError, A>,
): E.Either<ImportError, A> => {
  let file: Deno.FsFile;
  try {
    file = openRegular(path);
  } catch (error) {
    return E.left({ _tag: "Unreadable", reason: reasonOf(error) });
  }
  try {
    return file.statSync().isFile
      ? use(fileSource(file))
      : E.left({ _tag: "Unreadable", reason: "it is no file" });
  } finally {
    file.close();
  }
};

const isSame = (from: string, to: string): boolean => {
  try {
    return Deno.realPathSync(from) === Deno.realPathSync(to);
  } catch {
    // One of them does not exist.
    return false;
  }
};

/** Imports `from` to `to`, prints what matched, and gives the exit status. */
export const importFile = async (
  from: string,
  to: string,
  options: { readonly heads?: number } = {},
): Promise<number> => {
  const failed = (error: ImportError): number => {
    console.error(importErrorText(error, from));
    return 1;
  };
  if (isSame(from, to)) return failed({ _tag: "SameFile" });
  const imported = withFile(from, (source) => importFrom(source, options));
  if (E.isLeft(imported)) return failed(imported.left);
  const written = await writeWhole(to, imported.right.bytes)();
  if (E.isLeft(written)) return failed({ _tag: "Unwritten", error: written.left });
  const { keys, others } = imported.right;
  console.log(`${from}: ${encoderText(imported.right)}`);
  console.log(keysText(keys));
  if (others > 0) console.log(`${others} of the dict's values are no tensors`);
  console.log(`wrote ${to}`);
  return 0;
};

export const command = commandOf({
  summary: "makes a checkpoint of a PyTorch file; runs no code of the file",
  notes: `\
Makes a checkpoint that 'embed' reads of one of the published code: prints which encoder it holds,
which keys matched, were missing or left over, and writes OUT, safetensors with the same names.
Nothing in the file is run.`,
  words: {
    usage: "IN OUT",
    help: {
      IN:
        "what torch.save wrote (a state_dict, or a dict with one under 'model' or 'state_dict'), " +
        "or a safetensors file",
      OUT: "where to write",
    },
    suggests: { paths: "files" },
    wrong: (files) =>
      files.length === 2 ? undefined : "two files are needed: the one to read and the one to write",
  },
  options: {
    heads: whole("N", "attention heads of a Transformer from whose width they do not follow", {
      from: 1,
      to: 9999,
      otherwise: undefined,
      expected: "a whole number from 1",
    }),
  },
  run: async ({ words: [from, to], options: { heads } }) =>
    E.right(await importFile(from, to, heads === undefined ? {} : { heads })),
});
