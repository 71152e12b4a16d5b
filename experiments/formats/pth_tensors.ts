// The meaning of PyTorch's names in a pickle: storages, tensors as views of them, and a few containers. A
// tensor must lie within its storage before any of its data are read.
import * as E from "fp-ts/Either.js";
import { brain, half } from "./float16.ts";
import { quoted } from "../../backends/runtime/text.ts";
import type { TensorData } from "../../backends/runtime/safetensors.ts";
import { emptyDict, kindText, type Meanings, type Value } from "./pickle_read.ts";

/** Supported element types of PyTorch's storages. */
export type StorageType = keyof typeof widths;

/** Bytes per element. */
const widths = {
  Float: 4,
  Double: 8,
  Half: 2,
  BFloat16: 2,
  Long: 8,
  Int: 4,
  Short: 2,
  Char: 1,
  Byte: 1,
  Bool: 1,
} as const;

/** A storage: elements in the archive's entry `data/KEY`. */
export interface Storage {
  readonly kind: "storage";
  readonly key: string;
  readonly type: StorageType;
  readonly elements: number;
}

/** A view of a storage; `strides` and `offset` are in elements. */
export interface TensorView {
  readonly kind: "tensor";
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

type Known = Storage | TensorView;

/** A value in the pickle of a PyTorch file. */
export type PthValue = Value<Known>;

type Result = E.Either<string, PthValue>;

/** Limit on the number of axes, above PyTorch's own. */
const mostAxes = 64;

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

/** A tuple of sizes, strides or the like. */
const counts = (value: PthValue): readonly number[] | undefined =>
  typeof value === "object" && value !== null && value.kind === "tuple" &&
    value.items.length <= mostAxes && value.items.every(isCount)
    ? value.items as readonly number[]
    : undefined;

const known = <K extends Known["kind"]>(
  value: PthValue,
  kind: K,
): Extract<Known, { readonly kind: K }> | undefined =>
  typeof value === "object" && value !== null && value.kind === "other" &&
    value.value.kind === kind
    ? value.value as Extract<Known, { readonly kind: K }>
    : undefined;

/** The value as a tensor, if it is one. */
export const tensorOf = (value: PthValue): TensorView | undefined => known(value, "tensor");

/** The number of elements of a shape. */
export const volume = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Bytes of a storage in its file. */
export const storageBytes = ({ type, elements }: Storage): number => elements * widths[type];

/** torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, ...) */
const rebuildTensor = (args: readonly PthValue[]): Result => {
  const storage = known(args[0] ?? null, "storage");
  if (storage === undefined) return E.left("a tensor is made of something that is no storage");
  const [, offset, sizes, steps] = args;
  const shape = counts(sizes ?? null), strides = counts(steps ?? null);
  if (!isCount(offset) || shape === undefined || strides?.length !== shape.length) {
    return E.left("a tensor's offset, sizes and strides are not whole numbers from 0 that fit");
  }
  const count = volume(shape);
  const last = shape.reduce((at, size, k) => at + (size - 1) * strides[k], offset);
  if (!Number.isSafeInteger(count) || (count > 0 && !(last < storage.elements))) {
    return E.left(
      `a tensor of [${shape.join(", ")}] at ${offset} with strides [${strides.join(", ")}] ` +
        `reaches past the ${storage.elements} elements of its storage`,
    );
  }
  return E.right({
    kind: "other",
    value: { kind: "tensor", storage, offset, shape, strides },
  });
};

/** torch._utils._rebuild_parameter(tensor, requires_grad, hooks) */
const rebuildParameter = ([tensor = null]: readonly PthValue[]): Result =>
  tensorOf(tensor) === undefined
    ? E.left(`a parameter is made of ${kindText(tensor)}, not of a tensor`)
    : E.right(tensor);

/** torch.Size((2, 3)) */
const size = ([sizes = null]: readonly PthValue[]): Result =>
  counts(sizes) === undefined ? E.left("a torch.Size is not made of sizes") : E.right(sizes);

const empty = (type: "OrderedDict" | "Namespace") => (args: readonly PthValue[]): Result =>
  args.length === 0 ? E.right(emptyDict(type)) : E.left(`an ${type} is made of arguments`);

/** A storage: ('storage', type, key, device, number of elements). */
const reference = (id: PthValue): Result => {
  const parts = typeof id === "object" && id?.kind === "tuple" ? id.items : [];
  const [tag, type, key, , elements] = parts;
  const name = typeof type === "object" && type?.kind === "name"
    ? /^torch\.(\w+)Storage$/.exec(type.name)?.[1]
    : undefined;
  if (tag !== "storage" || name === undefined || typeof key !== "string" || !isCount(elements)) {
    return E.left("an outside reference is not a storage");
  }
  const storage = { kind: "storage", key, type: name as StorageType, elements } as const;
  return Number.isSafeInteger(storageBytes(storage))
    ? E.right({ kind: "other", value: storage })
    : E.left(`the storage ${quoted(key)} has ${elements} elements`);
};

/** The names that a file may mention, and their effects. */
export const torchMeanings: Meanings<Known> = {
  names: new Map([
    ...Object.keys(widths).map((type) => [`torch.${type}Storage`, undefined] as const),
    ["torch._utils._rebuild_tensor_v2", rebuildTensor] as const,
    ["torch._utils._rebuild_parameter", rebuildParameter] as const,
    ["torch.Size", size] as const,
    ["collections.OrderedDict", empty("OrderedDict")] as const,
    ["argparse.Namespace", empty("Namespace")] as const,
  ]),
  reference,
};

// ---------------------------------------------------------------- data

/** Calls `put(k, at)` for each element of a view in row-major order; `at` is its index in the storage. */
const walk = (
  { shape, strides, offset }: TensorView,
  put: (k: number, at: number) => void,
): void => {
  const index = shape.map(() => 0);
  let at = offset;
  for (let k = 0, count = volume(shape); k < count; k++) {
    put(k, at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < shape[axis]) break;
      at -= shape[axis] * strides[axis];
      index[axis] = 0;
    }
  }
};

const isContiguous = ({ shape, strides }: TensorView): boolean => {
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== step) return false;
    step *= shape[axis];
  }
  return true;
};

/**
 * The values of a tensor, row-major, from the bytes of its storage: all floating-point types as F32 (out
 * of range becomes infinite), integers and booleans as they are.
 */
export const tensorData = (of: TensorView, bytes: Uint8Array<ArrayBuffer>): TensorData => {
  const { shape, storage, offset } = of, { buffer } = bytes, count = volume(shape);
  if (bytes.byteOffset !== 0 || bytes.length !== storageBytes(storage)) {
    throw new RangeError(`the bytes of storage ${storage.key} are not its own`);
  }
  const floats = (read: (at: number) => number): TensorData => {
    const data = new Float32Array(count);
    walk(of, (k, at) => data[k] = read(at));
    return { dtype: "F32", shape, data };
  };
  const copied = <A extends { [at: number]: number }>(data: A, from: A): A => {
    walk(of, (k, at) => data[k] = from[at]);
    return data;
  };
  switch (storage.type) {
    case "Float": {
      const from = new Float32Array(buffer);
      return isContiguous(of)
        ? { dtype: "F32", shape, data: from.slice(offset, offset + count) }
        : floats((at) => from[at]);
    }
    case "Double": {
      const from = new Float64Array(buffer);
      return floats((at) => from[at]);
    }
    case "Half": {
      const from = new Uint16Array(buffer);
      return floats((at) => half(from[at]));
    }
    case "BFloat16": {
      const from = new Uint16Array(buffer);
      return floats((at) => brain(from[at]));
    }
    case "Long": {
      const from = new BigInt64Array(buffer), data = new BigInt64Array(count);
      walk(of, (k, at) => data[k] = from[at]);
      return { dtype: "I64", shape, data };
    }
    case "Int":
      return { dtype: "I32", shape, data: copied(new Int32Array(count), new Int32Array(buffer)) };
    case "Short":
      return { dtype: "I16", shape, data: copied(new Int16Array(count), new Int16Array(buffer)) };
    case "Char":
      return { dtype: "I8", shape, data: copied(new Int8Array(count), new Int8Array(buffer)) };
    case "Byte":
      return { dtype: "U8", shape, data: copied(new Uint8Array(count), bytes) };
    case "Bool":
      return {
        dtype: "BOOL",
        shape,
        data: copied(new Uint8Array(count), bytes.map((bit) => bit === 0 ? 0 : 1)),
      };
  }
};
