// Bindings of a module: each storage has its own while there are few; else those of one buffer
// share a binding, at offsets that are passed at run time, so that equal modules differ only in
// what is bound. Storages too far apart for one binding take several, called windows.
import { byteLength } from "../../lower/storage/plan_memory.ts";
import type { Storage } from "../../lower/kernel_ir.ts";

/** A storage bound to a module. */
export interface Binding {
  readonly storage: Storage;
  readonly name: string;
  readonly written: boolean;
}

/** Which storages share a binding: none, intermediate values, or parameters as well. */
export type Packing = "none" | "arena" | "all";

/** How a storage is accessed: its name, and the number of its offset if it shares a binding. */
export interface Reach {
  readonly name: string;
  readonly place?: number;
}

/** A storage with a possibly shared binding, and the name of the binding. */
export interface Packed {
  readonly storage: Storage;
  readonly name: string;
}

/** The storages of a module, in the order of first access. */
export interface Binder {
  readonly reach: (storage: Storage, written: boolean) => Reach;
  readonly bindings: () => readonly Binding[];
  readonly packed: () => readonly Packed[];
}

/** True for storages in an arena. */
export const inArena = ({ role }: Storage): boolean => role === "temporary" || role === "output";

/**
 * The buffer of packed storages. f16 values have an arena of their own, as no two bindings of a
 * module may overlap.
 */
export const sharedBuffer = (of: Storage): string =>
  of.role === "param" ? "params" : of.half ? "halves" : "arena";

/** The names of the shared bindings, in the order of modules. */
export const sharedNames = (packed: readonly Packed[]): readonly string[] => [
  ...new Set(packed.map(({ name }) => name)),
];

/** The window of a storage, by its id. */
export type Windows = ReadonlyMap<number, number>;

/**
 * The fewest windows on arenas, of `most` bytes at most, that cover all accesses of a module. They
 * do not overlap, since storages that are alive together do not.
 */
export const windowsOf = (
  storages: readonly Storage[],
  offsets: ReadonlyMap<number, number>,
  most: number,
): Windows => {
  const windows = new Map<number, number>();
  const from = (of: Storage) => offsets.get(of.id)!;
  for (const halves of [false, true]) {
    const own = storages.filter((of) => inArena(of) && (of.half ?? false) === halves)
      .sort((a, b) => from(a) - from(b));
    let window = 0, start = own.length > 0 ? from(own[0]) : 0;
    for (const of of own) {
      if (from(of) + byteLength(of) - start > most) {
        window++;
        start = from(of);
      }
      windows.set(of.id, window);
    }
  }
  return windows;
};

/** A binder of one module; without windows, one binding covers an arena. */
export const binder = (packing: Packing = "none", windows: Windows = new Map()): Binder => {
  const bindings = new Map<number, { storage: Storage; name: string; written: boolean }>();
  const packed = new Map<number, Packed & { readonly place: number }>();
  const isPacked = (storage: Storage): boolean =>
    (packing !== "none" && inArena(storage)) || (packing === "all" && storage.role === "param");
  const nameOf = (storage: Storage): string =>
    `${sharedBuffer(storage)}${windows.get(storage.id) || ""}`;
  return {
    reach: (storage, written) => {
      if (isPacked(storage)) {
        const found = packed.get(storage.id) ??
          { storage, name: nameOf(storage), place: packed.size };
        packed.set(storage.id, found);
        return { name: found.name, place: found.place };
      }
      const found = bindings.get(storage.id) ??
        { storage, name: `b${bindings.size}`, written };
      found.written ||= written;
      bindings.set(storage.id, found);
      return { name: found.name };
    },
    bindings: () => [...bindings.values()],
    packed: () => [...packed.values()],
  };
};
