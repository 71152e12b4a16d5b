// The layout of a machine's single memory: parameters, inputs and literals, the arena that programs
// share, argument lists of functions, and scratch memory for each thread.
import type { Storage } from "../lower/kernel_ir.ts";
import { alignment, byteLength, type Compiled } from "./compile.ts";

/** The size of a 32-bit address space in bytes. */
const reachable = 2 ** 32;
const pageBytes = 65536;
/** The first bytes are unused, so that an address of 0 is a mistake. */
const firstByte = 1024;

/** A storage at an address. */
export interface Held {
  readonly storage: Storage;
  readonly address: number;
}

/** Addresses in a memory. */
export interface Layout {
  readonly params: ReadonlyMap<string, Held>;
  /** Inputs by program and name. */
  readonly inputs: ReadonlyMap<string, ReadonlyMap<string, Held>>;
  readonly literals: readonly Held[];
  /** The address of a storage of a program. */
  readonly address: (program: string, storage: Storage) => number;
  /** The addresses of the argument lists of a program's launches, in order. */
  readonly args: ReadonlyMap<string, readonly number[]>;
  /** The address of each thread's scratch memory. */
  readonly scratch: readonly number[];
  readonly pages: number;
}

/** Lays programs out for some threads. A RangeError states the size if it is too large. */
export const layOut = (
  programs: ReadonlyMap<string, Compiled>,
  threads: number,
): Layout => {
  let end = firstByte;
  const take = (bytes: number): number => {
    const at = end;
    end += Math.ceil(bytes / alignment) * alignment;
    return at;
  };
  const params = new Map<string, Held>();
  const inputs = new Map<string, Map<string, Held>>();
  const literals: Held[] = [];
  const addresses = new Map<Storage, number>();
  const shared = new Map<Float32Array | Uint32Array, Held>();
  for (const [key, { lowered }] of programs) {
    for (const storage of lowered.params) {
      const name = storage.name!;
      const held = params.get(name) ?? { storage, address: take(byteLength(storage)) };
      params.set(name, held);
      addresses.set(storage, held.address);
    }
    const own = new Map<string, Held>();
    for (const storage of lowered.inputs) {
      const held = { storage, address: take(byteLength(storage)) };
      own.set(storage.name!, held);
      addresses.set(storage, held.address);
    }
    inputs.set(key, own);
    for (const storage of lowered.literals) {
      const held = shared.get(storage.data!) ?? { storage, address: take(byteLength(storage)) };
      if (!shared.has(storage.data!)) literals.push(held);
      shared.set(storage.data!, held);
      addresses.set(storage, held.address);
    }
  }
  const args = new Map([...programs].map(([key, { steps }]) => [
    key,
    steps.flatMap(({ launches }) => launches.map((one) => take(4 * one.storages.length))),
  ]));
  const list = [...programs.values()];
  const arenaBytes = Math.max(0, ...list.map((one) => one.arenaBytes));
  const arena = take(arenaBytes);
  const scratchBytes = Math.max(0, ...list.map((one) => one.scratchBytes));
  const scratch = Array.from({ length: threads }, () => take(scratchBytes));
  if (end > reachable) {
    throw new RangeError(
      `the programs need ${end} bytes of memory, of which ${arenaBytes} are for intermediate` +
        ` values, but WebAssembly reaches ${reachable}; use a smaller batch`,
    );
  }
  return {
    params,
    inputs,
    literals,
    address: (key, storage) =>
      addresses.get(storage) ?? arena + programs.get(key)!.offsets.get(storage.id)!,
    args,
    scratch,
    pages: Math.ceil(end / pageBytes),
  };
};
