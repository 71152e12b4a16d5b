// How a module reaches its storages: each through a binding of its own while there are few, or those
// of one buffer through one binding, at places that are told at run time. Equal modules then differ
// in nothing but what is bound. What lies too far apart for one binding takes several: windows.
import { byteLength } from "../../lower/storage/plan_memory.ts";
import type { Storage } from "../../lower/kernel_ir.ts";

/** A storage bound to a module. */
export interface Binding {
  readonly storage: Storage;
  readonly name: string;
  readonly written: boolean;
}

/** What shares a binding: nothing, intermediate values, or parameters among themselves as well. */
export type Packing = "none" | "arena" | "all";

/** How a storage is reached: by its name, from the place of this number on if it shares a binding. */
export interface Reach {
  readonly name: string;
  readonly place?: number;
}

/** A storage that is reached through a binding that others may share, and the name of that. */
export interface Packed {
  readonly storage: Storage;
  readonly name: string;
}

/** The storages of a module, in the order in which they were first reached. */
export interface Binder {
  readonly reach: (storage: Storage, written: boolean) => Reach;
  readonly bindings: () => readonly Binding[];
  readonly packed: () => readonly Packed[];
}

/** True for what lives in an arena. */
export const inArena = ({ role }: Storage): boolean => role === "temporary" || role === "output";

/**
 * The shared buffer of what is packed. Halves have an arena of their own, as no two bindings of a
 * module may overlap.
 */
export const sharedBuffer = (of: Storage): string =>
  of.role === "param" ? "params" : of.half ? "halves" : "arena";

/** The names of the bindings that packed storages share, in the order of modules. */
export const sharedNames = (packed: readonly Packed[]): readonly string[] => [
  ...new Set(packed.map(({ name }) => name)),
];

/** By the id of a storage, which of the bindings of its buffer shows it. */
export type Windows = ReadonlyMap<number, number>;

/**
 * The fewest windows on arenas, of `most` bytes or less, that show all that a module reaches there.
 * They do not overlap, since what is alive together does not.
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

/** A binder of one module; without windows, one binding shows all of an arena. */
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
