// How a module reaches its storages: each through a binding of its own while there are few, or those
// of one buffer through one binding, at places that are told at run time. Equal modules then differ
// in nothing but what is bound.
import type { Storage } from "../lower/program.ts";

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

/** The storages of a module, in the order in which they were first reached. */
export interface Binder {
  readonly reach: (storage: Storage, written: boolean) => Reach;
  readonly bindings: () => readonly Binding[];
  readonly packed: () => readonly Storage[];
}

/** True for what lives in an arena. */
export const inArena = ({ role }: Storage): boolean => role === "temporary" || role === "output";

/** The buffers that several storages share, in the order in which modules bind them. */
export const sharedBuffers = ["arena", "halves", "params"] as const;

/**
 * The shared buffer of what is packed. Halves have an arena of their own, as no two bindings of a
 * module may overlap.
 */
export const sharedBuffer = (of: Storage): typeof sharedBuffers[number] =>
  of.role === "param" ? "params" : of.half ? "halves" : "arena";

/** A binder of one module. */
export const binder = (packing: Packing = "none"): Binder => {
  const bindings = new Map<number, { storage: Storage; name: string; written: boolean }>();
  const packed = new Map<number, { readonly storage: Storage; readonly place: number }>();
  const shared = (storage: Storage): string | undefined =>
    (packing !== "none" && inArena(storage)) || (packing === "all" && storage.role === "param")
      ? sharedBuffer(storage)
      : undefined;
  return {
    reach: (storage, written) => {
      const name = shared(storage);
      if (name !== undefined) {
        const place = packed.get(storage.id)?.place ?? packed.size;
        packed.set(storage.id, { storage, place });
        return { name, place };
      }
      const found = bindings.get(storage.id) ??
        { storage, name: `b${bindings.size}`, written };
      found.written ||= written;
      bindings.set(storage.id, found);
      return { name: found.name };
    },
    bindings: () => [...bindings.values()],
    packed: () => [...packed.values()].map(({ storage }) => storage),
  };
};
