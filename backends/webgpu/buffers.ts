// The buffers of programs that are open together: one arena for all intermediate values, one buffer
// for all parameters if the device can bind it, one for each input and literal; and the offset of
// each storage.
import { type Axes, volume } from "../../dsl/axes.ts";
import { nodeOf } from "../../dsl/node.ts";
import { parameters } from "../../dsl/parameters.ts";
import type { Program } from "../backend.ts";
import { byteLength } from "../lower/storage/plan_memory.ts";
import type { Storage } from "../lower/kernel_ir.ts";
import { size } from "../lower/kernel_ir.ts";
import { inArena, sharedNames } from "./wgsl/bindings.ts";
import type { Compiled } from "./compile.ts";
import type { Code } from "./wgsl/module.ts";

/** A storage, its buffer and its offset in bytes. */
export interface Held {
  readonly storage: Storage;
  readonly buffer: GPUBuffer;
  readonly offset: number;
}

/** The buffers of open programs. */
export interface Buffers {
  readonly params: ReadonlyMap<string, Held>;
  /** Inputs by program and name. */
  readonly inputs: ReadonlyMap<string, ReadonlyMap<string, Held>>;
  /** The buffer and offset of a program's storage. */
  readonly place: (one: Compiled, storage: Storage) => Required<GPUBufferBinding>;
  /** A kernel's bindings, in order. */
  readonly bindings: (one: Compiled, code: Code, path: string) => readonly GPUBufferBinding[];
  /** Allocates one more buffer, freed with the others. */
  readonly buffer: (bytes: number, usage: number, label: string) => GPUBuffer;
  readonly destroy: () => void;
}

/** Writes the elements of a storage to its buffer. */
export const fill = (
  device: GPUDevice,
  { buffer, offset }: Held,
  data: Float32Array | Uint32Array,
): void =>
  device.queue.writeBuffer(
    buffer,
    offset,
    data.buffer as ArrayBuffer,
    data.byteOffset,
    data.byteLength,
  );

/** The elements of a storage that was copied to an offset of some bytes. */
export const take = (
  bytes: ArrayBuffer,
  storage: Storage,
  offset: number,
): Float32Array | Uint32Array => {
  const count = size(storage.dims);
  if (storage.half) return Float32Array.from(new Float16Array(bytes, offset, count));
  const Kind = storage.dtype === "f32" ? Float32Array : Uint32Array;
  return new Kind(bytes.slice(offset, offset + 4 * count));
};

/** The offset of each parameter in one buffer, and the buffer's size. */
export interface ParamPlaces {
  readonly starts: ReadonlyMap<string, number>;
  readonly bytes: number;
}

/** One buffer for the parameters of some programs; undefined if the device can bind less. */
export const paramPlaces = (
  programs: readonly Program[],
  limits: GPUSupportedLimits,
): ParamPlaces | undefined => {
  const step = limits.minStorageBufferOffsetAlignment;
  const starts = new Map<string, number>();
  let bytes = 0;
  const put = (name: string, axes: Axes) => {
    if (starts.has(name)) return;
    starts.set(name, bytes);
    bytes += Math.ceil(4 * Math.max(1, volume(axes)) / step) * step;
  };
  for (const { outputs, updates = {} } of programs) {
    const values = Object.values(outputs).map((output) => output.of);
    parameters([...values, ...Object.values(updates)]).forEach(({ name, axes }) => put(name, axes));
    Object.entries(updates).forEach(([name, of]) => put(name, nodeOf(of).axes));
  }
  const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  return bytes <= most ? { starts, bytes } : undefined;
};

/** Allocates the buffers of some programs. */
export const allocate = (
  device: GPUDevice,
  programs: ReadonlyMap<string, Compiled>,
  together: ParamPlaces | undefined,
): Buffers => {
  const made: GPUBuffer[] = [];
  const buffer = (bytes: number, usage: number, label: string): GPUBuffer => {
    const one = device.createBuffer({ size: Math.ceil(bytes / 4) * 4, usage, label });
    made.push(one);
    return one;
  };
  const inOut = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  const largest = (of: (one: Compiled) => number) => Math.max(4, ...[...programs.values()].map(of));
  const arena = buffer(largest((one) => one.arenaBytes), inOut, "arena");
  const halves = buffer(largest((one) => one.halvesBytes), inOut, "halves");
  const forParams = together === undefined
    ? undefined
    : buffer(Math.max(4, together.bytes), inOut, "parameters");
  const hold = (storage: Storage, label: string): Held => ({
    storage,
    buffer: buffer(byteLength(storage), inOut, label),
    offset: 0,
  });
  const params = new Map<string, Held>();
  const inputs = new Map<string, Map<string, Held>>();
  const held = new Map<Storage, Held>();
  const literals = new Map<Float32Array | Uint32Array, Held>();
  for (const [key, { lowered }] of programs) {
    for (const storage of lowered.params) {
      const label = storage.name!;
      const known = params.get(label) ??
        (forParams === undefined
          ? hold(storage, label)
          : { storage, buffer: forParams, offset: together!.starts.get(label)! });
      params.set(label, known);
      held.set(storage, known);
    }
    const own = new Map<string, Held>();
    for (const storage of lowered.inputs) {
      const one = hold(storage, storage.name!);
      own.set(storage.name!, one);
      held.set(storage, one);
    }
    inputs.set(key, own);
    for (const storage of lowered.literals) {
      const data = storage.data!;
      const known = literals.get(data);
      const one = known ?? hold(storage, "literal");
      if (known === undefined) fill(device, one, data);
      literals.set(data, one);
      held.set(storage, one);
    }
  }

  const place = (one: Compiled, storage: Storage): Required<GPUBufferBinding> => {
    const size = byteLength(storage);
    if (inArena(storage)) {
      const buffer = storage.half ? halves : arena;
      return { buffer, offset: one.offsets.get(storage.id)!, size };
    }
    const { buffer, offset } = held.get(storage)!;
    return { buffer, offset, size };
  };

  /**
   * The ranges of buffers that hold a module's packed storages, and the offset of each value in
   * them.
   */
  const packed = (one: Compiled, code: Code, path: string): readonly GPUBufferBinding[] => {
    if (code.packed.length === 0) return [];
    const at = code.packed.map(({ storage, name }) => ({ ...place(one, storage), storage, name }));
    const stretches = new Map(
      sharedNames(code.packed).map((name) => {
        const own = at.filter((each) => each.name === name);
        const offset = Math.min(...own.map((each) => each.offset));
        const end = Math.max(...own.map((each) => each.offset + each.size));
        return [name, { buffer: own[0].buffer, offset, size: end - offset }];
      }),
    );
    const places = new Uint32Array(Math.ceil(at.length / 4) * 4);
    at.forEach(({ storage, name, offset }, k) => {
      places[k] = (offset - stretches.get(name)!.offset) / (storage.half ? 2 : 4);
    });
    const { UNIFORM, COPY_DST } = GPUBufferUsage;
    const told = buffer(places.byteLength, UNIFORM | COPY_DST, `${path} places`);
    device.queue.writeBuffer(told, 0, places);
    return [...stretches.values(), { buffer: told }];
  };

  return {
    params,
    inputs,
    place,
    bindings: (one, code, path) => [
      ...code.bindings.map(({ storage }) => place(one, storage)),
      ...packed(one, code, path),
    ],
    buffer,
    destroy: () => made.forEach((one) => one.destroy()),
  };
};
