// Reads files of torch.save: a zip archive with a pickle, `data.pkl`, that describes the tensors, and an
// entry with the bytes of each storage. Only the model's tensors are read; the rest of the file, such as
// the optimiser's state, is ignored.
import * as E from "fp-ts/Either.js";
import { quoted } from "../../backends/runtime/text.ts";
import type { TensorData } from "../../backends/runtime/safetensors.ts";
import { kindText, type PickleError, unpickle } from "./pickle_read.ts";
import {
  type PthValue,
  storageBytes,
  tensorData,
  tensorOf,
  type TensorView,
  torchMeanings,
  volume,
} from "./pth_tensors.ts";
import {
  openZip,
  type Source,
  startsLikeZip,
  type Zip,
  type ZipEntry,
  type ZipError,
} from "./zip.ts";

/** Why a file cannot be read. */
export type PthError =
  /** It is not a zip archive of torch.save. */
  | { readonly _tag: "NotPth"; readonly problem: string }
  | { readonly _tag: "Legacy" }
  | { readonly _tag: "TorchScript" }
  | ZipError
  | PickleError
  /** It has values, but no state_dict. */
  | { readonly _tag: "NoModel"; readonly found: string }
  | { readonly _tag: "BadTensor"; readonly tensor: string; readonly problem: string }
  /** Its uncompressed size is out of proportion. */
  | { readonly _tag: "TooLarge"; readonly bytes: number; readonly most: number };

/** An open file. */
export interface Pth {
  /** Shapes of the model's tensors by name, in the file's order. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Entries of the model's dict that are not tensors. */
  readonly others: number;
  /** Reads some of the tensors: floating point as F32. Throws for an unknown name. */
  readonly read: (
    names: readonly string[],
  ) => E.Either<PthError, ReadonlyMap<string, TensorData>>;
}

/** Size limit of the pickle in bytes; it has names, sizes and offsets, usually some 100 KB. */
const mostPickle = 16 * 2 ** 20;

/**
 * Limit on the bytes read from a file: weights hardly compress, half precision doubles, and tensors may
 * share a storage; a file that grows beyond this was made to exhaust memory.
 */
const mostOut = ({ size }: Source): number => 16 * size + 2 ** 20;

const left = (error: PthError): E.Either<PthError, never> => E.left(error);

/** Opens a file: reads names and shapes, but no data. */
export const openPth = (source: Source): E.Either<PthError, Pth> => {
  const head = source.read(0, 16);
  if (!startsLikeZip(head)) {
    // The format before zip archives was a sequence of pickles, the first of them this magic number.
    return left(
      head[0] === 0x80 && head[1] >= 2
        ? { _tag: "Legacy" }
        : { _tag: "NotPth", problem: "it begins neither as a zip archive nor as a pickle" },
    );
  }
  const zip = openZip(source);
  if (E.isLeft(zip)) return zip;
  const root = rootOf(zip.right);
  if (E.isLeft(root)) return root;
  const { folder, pickle } = root.right;
  if (pickle.size > mostPickle) {
    return left({ _tag: "TooLarge", bytes: pickle.size, most: mostPickle });
  }
  const bytes = zip.right.read(pickle);
  if (E.isLeft(bytes)) return bytes;
  const value = unpickle(bytes.right, torchMeanings);
  if (E.isLeft(value)) return value;
  const model = modelOf(value.right);
  if (E.isLeft(model)) return model;
  const { tensors, others } = model.right;
  return E.right({
    shapes: new Map([...tensors].map(([name, { shape }]) => [name, shape])),
    others,
    read: (names) => {
      const chosen = names.map((name): readonly [string, TensorView] => {
        const tensor = tensors.get(name);
        if (tensor === undefined) throw new RangeError(`there is no tensor ${name}`);
        return [name, tensor];
      });
      return readTensors(source, zip.right, folder, chosen);
    },
  });
};

interface Root {
  /** The folder of all entries, with a slash, and the pickle's entry. */
  readonly folder: string;
  readonly pickle: ZipEntry;
}

const rootOf = ({ entries, read }: Zip): E.Either<PthError, Root> => {
  const found = [...entries.values()].filter(({ name }) => /^[^/]*\/data\.pkl$/.test(name));
  if (found.length !== 1) {
    const problem = found.length === 0 ? "no data.pkl" : "more than one data.pkl";
    return left({ _tag: "NotPth", problem: `it is a zip archive with ${problem}` });
  }
  const [pickle] = found, folder = pickle.name.slice(0, -"data.pkl".length);
  if (entries.has(`${folder}constants.pkl`)) return left({ _tag: "TorchScript" });
  const order = entries.get(`${folder}byteorder`);
  if (order !== undefined) {
    const bytes = order.size <= 16 ? read(order) : E.right(new Uint8Array());
    if (E.isLeft(bytes)) return bytes;
    if (new TextDecoder().decode(bytes.right) !== "little") {
      return left({ _tag: "NotPth", problem: "its numbers are not little-endian" });
    }
  }
  return E.right({ folder, pickle });
};

interface Model {
  readonly tensors: ReadonlyMap<string, TensorView>;
  readonly others: number;
}

/** Keys under which training code stores the parameters of its model. */
const places = ["model", "state_dict"];
/** Prefixes that wrappers add to all names: data parallelism, compilation. */
const wrappers = ["module.", "_orig_mod."];

const modelOf = (value: PthValue): E.Either<PthError, Model> => {
  const dict = dictOf(value);
  if (dict === undefined) return left({ _tag: "NoModel", found: kindText(value) });
  const inner = places.map((key) => dictOf(dict.get(key) ?? null)).find(hasTensors);
  const chosen = inner ?? (hasTensors(dict) ? dict : undefined);
  if (chosen === undefined) {
    const keys = [...dict.keys()].filter((key) => typeof key === "string");
    const shown = keys.slice(0, 5).map(quoted).join(", ");
    return left({
      _tag: "NoModel",
      found: keys.length === 0 ? "an empty dict" : `a dict with ${shown}`,
    });
  }
  const found = [...chosen].flatMap(([name, value]) => {
    const tensor = tensorOf(value);
    return tensor === undefined || typeof name !== "string" ? [] : [[name, tensor] as const];
  });
  const prefix = wrapperOf(found.map(([name]) => name));
  return E.right({
    tensors: new Map(found.map(([name, tensor]) => [name.slice(prefix.length), tensor])),
    others: chosen.size - found.length,
  });
};

const dictOf = (value: PthValue): ReadonlyMap<PthValue, PthValue> | undefined =>
  typeof value === "object" && value?.kind === "dict" && value.type !== "Namespace"
    ? value.entries
    : undefined;

const hasTensors = (dict: ReadonlyMap<PthValue, PthValue> | undefined): boolean =>
  dict !== undefined && [...dict.values()].some((value) => tensorOf(value) !== undefined);

const wrapperOf = (names: readonly string[], prefix = ""): string => {
  const next = wrappers.find((one) => names.every((name) => name.startsWith(prefix + one)));
  return next === undefined ? prefix : wrapperOf(names, prefix + next);
};

const readTensors = (
  source: Source,
  zip: Zip,
  folder: string,
  chosen: readonly (readonly [string, TensorView])[],
): E.Either<PthError, ReadonlyMap<string, TensorData>> => {
  // Grouped by storage, so that only one storage at a time is in memory besides the tensors.
  const byStorage = new Map<ZipEntry, (readonly [string, TensorView])[]>();
  for (const one of chosen) {
    const [name, { storage }] = one;
    const entry = zip.entries.get(`${folder}data/${storage.key}`);
    const needed = storageBytes(storage);
    const bad = (problem: string) => left({ _tag: "BadTensor", tensor: name, problem });
    if (entry === undefined) return bad(`its storage ${quoted(storage.key)} is not in the archive`);
    if (entry.size !== needed) {
      return bad(`its storage should have ${needed} bytes, but has ${entry.size}`);
    }
    const views = byStorage.get(entry);
    if (views === undefined) byStorage.set(entry, [one]);
    else views.push(one);
  }
  const bytes = [...byStorage.keys()].reduce((sum, { size }) => sum + size, 0) +
    chosen.reduce((sum, [, { shape }]) => sum + 8 * volume(shape), 0);
  if (bytes > mostOut(source)) return left({ _tag: "TooLarge", bytes, most: mostOut(source) });

  const read = new Map<string, TensorData>();
  for (const [entry, views] of byStorage) {
    const content = zip.read(entry);
    if (E.isLeft(content)) return content;
    for (const [name, tensor] of views) read.set(name, tensorData(tensor, content.right));
  }
  return E.right(new Map(chosen.map(([name]) => [name, read.get(name)!])));
};

/** Why a file cannot be read, in one sentence that says what to do; `file` is its name in the message. */
export function pthErrorText(error: PthError, file: string): string {
  const again = "in Python: torch.save(model.state_dict(), 'new.pth')";
  switch (error._tag) {
    case "NotPth":
    case "NotZip":
      return `${file} is not a checkpoint of PyTorch: ${error.problem}`;
    case "Legacy":
      return `${file} is in the format that PyTorch had before 1.6, which is not read here; save ` +
        `it again, in Python: torch.save(torch.load('old.pth', map_location='cpu'), 'new.pth')`;
    case "TorchScript":
      return `${file} is a TorchScript program, which is not read here; save its parameters, in ` +
        `Python: torch.save(torch.jit.load('old.pt').state_dict(), 'new.pth')`;
    case "BadZip":
      return `${file} is damaged: ${error.problem}`;
    case "Refused":
      return `${file} is refused: at byte ${error.at} its pickle asks for ${quoted(error.what)}, ` +
        `and nothing from a file is run here; if you trust the file, load it and save the ` +
        `parameters alone, ${again}`;
    case "BadPickle":
      return `${file} is damaged: at byte ${error.at} of its pickle: ${error.problem}`;
    case "NoModel":
      return `${file} holds ${error.found}, and no state_dict at the top or under 'model' or ` +
        `'state_dict'; save one, ${again}`;
    case "BadTensor":
      return `${file} is damaged: the tensor ${quoted(error.tensor)}: ${error.problem}`;
    case "TooLarge":
      return `${file} is refused: it would unpack to ${error.bytes} bytes, where at most ` +
        `${error.most} are expected of a file of its size`;
  }
}
