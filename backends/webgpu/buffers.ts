// The buffers of programs that are open together: one arena for all intermediate values, one buffer
// for each parameter, input and literal, and where in them each storage lies.
import type { Storage } from "../lower/program.ts";
import { size } from "../lower/program.ts";
import { byteLength, type Compiled, describe } from "./compile.ts";
import { inArena } from "./emit.ts";
import type { Code } from "./kernels.ts";

/** A storage and the buffer that holds it. */
export interface Held {
  readonly storage: Storage;
  readonly buffer: GPUBuffer;
}

/** The buffers of open programs. */
export interface Buffers {
  readonly arena: GPUBuffer;
  readonly params: ReadonlyMap<string, Held>;
  /** Inputs by program and name. */
  readonly inputs: ReadonlyMap<string, ReadonlyMap<string, Held>>;
  /** Where a storage of a program lies. */
  readonly place: (one: Compiled, storage: Storage) => Required<GPUBufferBinding>;
  /** What a kernel binds, in order. */
  readonly bindings: (one: Compiled, code: Code, path: string) => readonly GPUBufferBinding[];
  /** One more buffer, freed with the others. */
  readonly buffer: (bytes: number, usage: number, label: string) => GPUBuffer;
  readonly destroy: () => void;
}

/** Sets a buffer. Throws when the data does not fit the storage. */
export const fill = (
  device: GPUDevice,
  { storage, buffer }: Held,
  data: Float32Array | Uint32Array,
  what: string,
): void => {
  const wanted = storage.dtype === "f32" ? Float32Array : Uint32Array;
  if (!(data instanceof wanted)) {
    throw new TypeError(
      `${what} holds ${storage.dtype} and takes a ${wanted.name}, not a ${data.constructor.name}`,
    );
  }
  if (data.length !== size(storage.dims)) {
    throw new RangeError(`${what} has ${describe(storage)}, but got ${data.length}`);
  }
  device.queue.writeBuffer(
    buffer,
    0,
    data.buffer as ArrayBuffer,
    data.byteOffset,
    data.byteLength,
  );
};

/** The elements of a storage that was copied to `offset` of some bytes. */
export const take = (
  bytes: ArrayBuffer,
  storage: Storage,
  offset: number,
): Float32Array | Uint32Array => {
  const Kind = storage.dtype === "f32" ? Float32Array : Uint32Array;
  return new Kind(bytes.slice(offset, offset + 4 * size(storage.dims)));
};

/** Makes the buffers of some programs. A RangeError says what does not fit together. */
export const allocate = (
  device: GPUDevice,
  name: string,
  programs: ReadonlyMap<string, Compiled>,
): Buffers => {
  const { limits } = device;
  const made: GPUBuffer[] = [];
  const buffer = (bytes: number, usage: number, label: string): GPUBuffer => {
    const one = device.createBuffer({ size: Math.ceil(bytes / 4) * 4, usage, label });
    made.push(one);
    return one;
  };
  const inOut = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  const arenaBytes = Math.max(4, ...[...programs.values()].map((one) => one.arenaBytes));
  const arena = buffer(arenaBytes, inOut, "arena");
  const params = new Map<string, Held>();
  const inputs = new Map<string, Map<string, Held>>();
  const held = new Map<Storage, GPUBuffer>();
  const literals = new Map<Float32Array | Uint32Array, Held>();
  for (const [key, { lowered }] of programs) {
    for (const storage of lowered.params) {
      const label = storage.name!;
      const known = params.get(label) ??
        { storage, buffer: buffer(byteLength(storage), inOut, label) };
      if (describe(known.storage) !== describe(storage)) {
        throw new RangeError(
          `the parameter '${label}' is ${describe(known.storage)} in one program and ${
            describe(storage)
          } in another`,
        );
      }
      params.set(label, known);
      held.set(storage, known.buffer);
    }
    const own = new Map<string, Held>();
    for (const storage of lowered.inputs) {
      const one = { storage, buffer: buffer(byteLength(storage), inOut, storage.name!) };
      own.set(storage.name!, one);
      held.set(storage, one.buffer);
    }
    inputs.set(key, own);
    for (const storage of lowered.literals) {
      const data = storage.data!;
      const known = literals.get(data);
      const one = known ?? { storage, buffer: buffer(byteLength(storage), inOut, "literal") };
      if (known === undefined) fill(device, one, data, "a literal");
      literals.set(data, one);
      held.set(storage, one.buffer);
    }
  }

  const place = (one: Compiled, storage: Storage): Required<GPUBufferBinding> => ({
    buffer: inArena(storage) ? arena : held.get(storage)!,
    offset: inArena(storage) ? one.offsets.get(storage.id)! : 0,
    size: byteLength(storage),
  });

  /** The stretch of the arena that holds all that a kernel packs, and where in it each value is. */
  const packed = (one: Compiled, code: Code, path: string): readonly GPUBufferBinding[] => {
    if (code.packed.length === 0) return [];
    const starts = code.packed.map((storage) => one.offsets.get(storage.id)!);
    const start = Math.min(...starts);
    const end = Math.max(...code.packed.map((storage, k) => starts[k] + byteLength(storage)));
    if (end - start > limits.maxStorageBufferBindingSize) {
      throw new RangeError(
        `the kernel '${path}' needs ${end - start} bytes in one binding, but ${name} allows` +
          ` ${limits.maxStorageBufferBindingSize} (maxStorageBufferBindingSize); use a smaller batch`,
      );
    }
    const places = new Uint32Array(Math.ceil(starts.length / 4) * 4);
    starts.forEach((at, k) => places[k] = (at - start) / 4);
    const { UNIFORM, COPY_DST } = GPUBufferUsage;
    const told = buffer(places.byteLength, UNIFORM | COPY_DST, `${path} places`);
    device.queue.writeBuffer(told, 0, places);
    return [{ buffer: arena, offset: start, size: end - start }, { buffer: told }];
  };

  return {
    arena,
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
