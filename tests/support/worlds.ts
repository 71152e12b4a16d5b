// Processes that share a run, all of them in this one: what MPI does, without MPI.
import type { World } from "../../experiments/machines/mpi.ts";

/** A world for each of `size` processes. */
export const worlds = (size: number): readonly World[] => {
  let given: (Uint8Array | undefined)[] = Array.from({ length: size });
  let settle: ((all: readonly Uint8Array[]) => void)[] = [];
  // What all gave, once all have.
  const meet = (rank: number, send: Uint8Array) =>
    new Promise<readonly Uint8Array[]>((resolve, reject) => {
      if (given[rank] !== undefined) return reject(new Error(`process ${rank} came twice`));
      given[rank] = send.slice();
      settle.push(resolve);
      if (settle.length < size) return;
      const all = given as Uint8Array[], heard = settle;
      given = Array.from({ length: size });
      settle = [];
      heard.forEach((tell) => tell(all));
    });
  return Array.from({ length: size }, (_, rank): World => ({
    rank,
    size,
    allToAll: async (send, receive) => {
      const all = await meet(rank, send), piece = send.length / size;
      all.forEach((sent, k) =>
        receive.set(sent.subarray(rank * piece, (rank + 1) * piece), k * piece)
      );
    },
    allGather: async (send, receive) => {
      (await meet(rank, send)).forEach((sent, k) => receive.set(sent, k * send.length));
    },
    finalize: () => {},
    abort: () => {
      throw new Error(`process ${rank} ended the others`);
    },
  }));
};
