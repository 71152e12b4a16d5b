// MPI through Deno's foreign functions: the few calls that a run needs, for both binary interfaces of MPI
// libraries, Open MPI's and MPICH's. The main thread makes all calls, and after initialisation none of
// them blocks: a transfer is started and then polled between turns of the event loop, so that timers and
// signals are handled while a process waits for others.
import * as E from "fp-ts/Either.js";
import { setImmediate } from "node:timers/promises";
import { napAfter } from "../../backends/webgpu/device/settle.ts";
import { reasonOf } from "../io/reason.ts";

/**
 * Processes that were started together. All of them make the same calls in the same order, one at a time.
 * An MPI error ends them all with MPI's own message.
 */
export interface World {
  /** The rank of this process. */
  readonly rank: number;
  /** The number of processes. */
  readonly size: number;
  /** Sends piece `k` of `send` to process `k`, and stores what it sends at piece `k` of `receive`. */
  readonly allToAll: (send: Uint8Array, receive: Uint8Array) => Promise<void>;
  /** Sends `send` to all processes, and stores what process `k` sends at piece `k` of `receive`. */
  readonly allGather: (send: Uint8Array, receive: Uint8Array) => Promise<void>;
  /** Waits for all processes, and finalises MPI. */
  readonly finalize: () => void;
  /** Ends all processes at once, including this one. */
  readonly abort: () => void;
}

// A handle is a pointer in Open MPI and an int in MPICH, which reads the lower half of the 64 bits.
const handle = "usize";
const collective = {
  parameters: ["buffer", "i32", handle, "buffer", "i32", handle, handle, "buffer"],
  result: "i32",
} as const;
const functions = {
  MPI_Init_thread: { parameters: ["pointer", "pointer", "i32", "buffer"], result: "i32" },
  MPI_Comm_rank: { parameters: [handle, "buffer"], result: "i32" },
  MPI_Comm_size: { parameters: [handle, "buffer"], result: "i32" },
  MPI_Ialltoall: collective,
  MPI_Iallgather: collective,
  MPI_Test: { parameters: ["buffer", "buffer", "buffer"], result: "i32" },
  MPI_Finalize: { parameters: [], result: "i32" },
  MPI_Abort: { parameters: [handle, "i32"], result: "i32" },
  // Open MPI's handles are the addresses of these symbols; MPICH does not have them.
  ompi_mpi_comm_world: { type: "pointer", optional: true },
  ompi_mpi_byte: { type: "pointer", optional: true },
} as const;

type Library = Deno.DynamicLibrary<typeof functions>["symbols"];

/** MPI_THREAD_FUNNELED: other threads exist, but make no MPI calls. */
const funneled = 1;
/** Milliseconds for which a transfer is polled without sleeping. */
const eager = 0.1;
/** At least the size of MPI_Status. */
const statusBytes = 64;

/** Handles of MPI_COMM_WORLD and MPI_BYTE. */
const handlesOf = ({ ompi_mpi_comm_world: world, ompi_mpi_byte: byte }: Library) =>
  world == null || byte == null
    ? { comm: 0x44000000n, byte: 0x4c00010dn }
    : { comm: Deno.UnsafePointer.value(world), byte: Deno.UnsafePointer.value(byte) };

/** File names of MPI libraries: Open MPI; MPICH and its derivatives. */
const openMpi = ["libmpi.so.40", "libmpi.so"], mpich = ["libmpich.so.12", "libmpi.so.12"];

/** The files to try: the one named by the environment, or all, the launcher's own kind first. */
const filesFor = (env: (name: string) => string | undefined): readonly string[] => {
  const named = env("FORMANT_MPI");
  if (named !== undefined && named !== "") return [named];
  const startedByMpich = env("PMI_SIZE") !== undefined && env("OMPI_COMM_WORLD_SIZE") === undefined;
  return startedByMpich ? [...mpich, ...openMpi] : [...openMpi, ...mpich];
};

const load = (files: readonly string[]): E.Either<string, Library> => {
  const refused: string[] = [];
  for (const file of files) {
    try {
      return E.right(Deno.dlopen(file, functions).symbols);
    } catch (error) {
      const reason = reasonOf(error);
      const own = reason.replace(/^(Could not open library: )+/, "");
      refused.push(
        /: No such file/.test(own) && own.startsWith(`${file}:`) ? `${file} is missing` : own,
      );
    }
  }
  return E.left(
    `no MPI library could be loaded (${refused.join("; ")}); install Open MPI (Debian: ` +
      "openmpi-bin) or MPICH (mpich), or name the library's file in FORMANT_MPI",
  );
};

/** Initialises MPI, which waits for all processes. On the left, why it failed, in words. */
export const openWorld = (
  env: (name: string) => string | undefined = (name) => Deno.env.get(name),
): E.Either<string, World> => {
  const loaded = load(filesFor(env));
  if (E.isLeft(loaded)) return loaded;
  const mpi = loaded.right;
  const { comm, byte } = handlesOf(mpi);
  const found = new Int32Array(1);
  mpi.MPI_Init_thread(null, null, funneled, found);
  if (found[0] < funneled) {
    mpi.MPI_Finalize();
    return E.left(
      "the MPI library cannot be used by a program with threads; name another one in FORMANT_MPI",
    );
  }
  mpi.MPI_Comm_rank(comm, found);
  const [rank] = found;
  mpi.MPI_Comm_size(comm, found);
  const [size] = found;

  const done = new Int32Array(1), status = new Uint8Array(statusBytes);
  const sleeping = new Int32Array(new SharedArrayBuffer(4));
  /** Waits for a transfer with growing sleeps, as another process may need the core. */
  const finished = async (request: Uint8Array<ArrayBuffer>): Promise<void> => {
    const began = performance.now();
    for (;;) {
      mpi.MPI_Test(request, done, status);
      if (done[0] !== 0) return;
      const waited = performance.now() - began;
      if (waited < eager) continue;
      Atomics.wait(sleeping, 0, 0, napAfter(waited));
      await setImmediate();
    }
  };
  // Memory that MPI accesses between calls must not move. V8 may move small arrays whose `buffer` was never
  // accessed; accessing it allocates a fixed one.
  const fixed = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
    new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
  // Nor may it be collected while only MPI refers to it.
  const held = new Set<Uint8Array>();
  const transfer =
    (begin: Library["MPI_Ialltoall"], pieceOf: (send: Uint8Array) => number) =>
    async (send: Uint8Array, receive: Uint8Array): Promise<void> => {
      const piece = pieceOf(send), request = new Uint8Array(8);
      const from = fixed(send), to = fixed(receive);
      held.add(from).add(to);
      begin(from, piece, byte, to, piece, byte, comm, request);
      await finished(request);
      held.clear();
    };
  return E.right({
    rank,
    size,
    allToAll: transfer(mpi.MPI_Ialltoall, (send) => send.byteLength / size),
    allGather: transfer(mpi.MPI_Iallgather, (send) => send.byteLength),
    finalize: () => {
      mpi.MPI_Finalize();
    },
    abort: () => {
      mpi.MPI_Abort(comm, 1);
    },
  });
};
