// Memory planning: offsets of temporary values in one arena, by lifetime, before anything runs
// (greedy by size).
import { size, type Storage } from "../kernel_ir.ts";

/**
 * Bytes of a storage: 4 for each element, or 2 for f16; no storage is empty, and sizes are
 * multiples of 4.
 */
export const byteLength = (of: Storage): number =>
  4 * Math.max(1, of.half ? Math.ceil(size(of.dims) / 2) : size(of.dims));

/** Offsets of storages in an arena, and the size of the arena. */
export interface Arena {
  readonly offsets: ReadonlyMap<number, number>;
  readonly bytes: number;
}

/**
 * Places temporaries and outputs. `uses[k]` are the storages that kernel k reads or writes; those
 * in `kept` live until the end. Largest first, each at the lowest offset that is free during its
 * lifetime.
 */
export const plan = (
  uses: readonly (readonly Storage[])[],
  kept: readonly Storage[],
  alignment: number,
): Arena => {
  const lives = new Map<number, { storage: Storage; from: number; to: number }>();
  uses.forEach((storages, k) => {
    for (const storage of storages) {
      if (storage.role !== "temporary" && storage.role !== "output") continue;
      const life = lives.get(storage.id);
      if (life === undefined) lives.set(storage.id, { storage, from: k, to: k });
      else life.to = k;
    }
  });
  for (const storage of kept) {
    const life = lives.get(storage.id);
    if (life !== undefined) life.to = uses.length;
  }
  const offsets = new Map<number, number>();
  /** Placed storages by offset. */
  const placed: { from: number; to: number; start: number; end: number }[] = [];
  let total = 0;
  const order = [...lives.values()].sort((a, b) =>
    byteLength(b.storage) - byteLength(a.storage) || a.storage.id - b.storage.id
  );
  for (const { storage, from, to } of order) {
    const length = Math.ceil(byteLength(storage) / alignment) * alignment;
    let start = 0, next = 0;
    for (; next < placed.length; next++) {
      const other = placed[next];
      if (start + length <= other.start) break;
      if (other.from <= to && from <= other.to) start = Math.max(start, other.end);
    }
    offsets.set(storage.id, start);
    while (next > 0 && placed[next - 1].start > start) next--;
    placed.splice(next, 0, { from, to, start, end: start + length });
    total = Math.max(total, start + length);
  }
  return { offsets, bytes: total };
};
