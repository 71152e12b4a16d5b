// The processes that share a run: each computes its share of every batch, and they exchange gradients and
// errors. mpirun or srun starts them together, and they communicate by MPI. Only rank 0 writes and logs.
import * as E from "fp-ts/Either.js";
import { openWorld, type World } from "./mpi.ts";

/** The share of every batch that this process computes: `rank`, from 0, of `of`. */
export interface Share {
  readonly rank: number;
  readonly of: number;
}

/** f32 arrays by name. */
export type Sums = Readonly<Record<string, Float32Array>>;

/**
 * The processes that share a run, as seen by one of them. All call the same functions in the same order; a
 * process that fails sends its error in place of its next message.
 */
export interface Processes {
  readonly share: Share;
  /** The messages of all processes, by rank. */
  readonly gather: (own: string) => Promise<readonly string[]>;
  /**
   * Sums arrays over all processes, by name (all-reduce). All pass the same names and sizes and get the
   * same bits, which are valid until the next call.
   */
  readonly reduce: (own: Sums) => Promise<Sums>;
  /** Threads that this process may use without slowing others down; undefined: all. */
  readonly threads?: number;
  /** Waits for all processes and disconnects; no call may follow. */
  readonly finish: () => Promise<void>;
  /** Ends all processes at once, when this one cannot report an error. */
  readonly abort: () => void;
}

/** A process that does not share its run. */
export const alone: Processes = {
  share: { rank: 0, of: 1 },
  gather: (own) => Promise.resolve([own]),
  reduce: (own) => Promise.resolve(own),
  finish: () => Promise.resolve(),
  abort: () => {},
};

/** The reason of one process, labelled for all of them. */
export const labelled = ({ share: { rank, of } }: Processes, reason: string): string =>
  rank === 0 ? reason : `process ${rank} of ${of} on ${Deno.hostname()}: ${reason}`;

/** The error that ends the run, the same for all processes: that of the lowest rank with one. */
export const agreeOnError = async (
  processes: Processes,
  own?: string,
): Promise<string | undefined> =>
  (await processes.gather(own ?? "")).find((reason) => reason !== "");

/** A difference between the processes in what must be equal for all, in words; undefined if none. */
export const findDifference = async (
  { gather }: Processes,
  own: Readonly<Record<string, string>>,
): Promise<string | undefined> => {
  const [first, ...others] = (await gather(JSON.stringify(own)))
    .map((text): typeof own => JSON.parse(text));
  for (const [k, other] of others.entries()) {
    const what = Object.keys(own).find((name) => other[name] !== first[name]);
    if (what === undefined) continue;
    const whose = `the ${what} of process ${k + 1} is not that of process 0`;
    return `${whose}; all processes of a run need the same files, where all machines see them`;
  }
  return undefined;
};

/** Bytes of gradients summed at once. */
const bucketBytes = 2 ** 22;

const bytesOf = (of: Float32Array | Int32Array): Uint8Array =>
  new Uint8Array(of.buffer, of.byteOffset, of.byteLength);

/** The processes of an MPI world. */
export const processesOf = (world: World): Processes => {
  const { rank, size } = world;

  // Lengths first: nearly always all are zero, and then nothing more is sent.
  const gather = async (own: string): Promise<readonly string[]> => {
    const text = new TextEncoder().encode(own), lengths = new Int32Array(size);
    await world.allGather(bytesOf(Int32Array.of(text.length)), bytesOf(lengths));
    const longest = Math.max(...lengths);
    if (longest === 0) return Array.from(lengths, () => "");
    const padded = new Uint8Array(longest), all = new Uint8Array(longest * size);
    padded.set(text);
    await world.allGather(padded, all);
    return Array.from(
      lengths,
      (length, k) => new TextDecoder().decode(all.subarray(k * longest, k * longest + length)),
    );
  };

  // All-reduce in buckets over one flat array. Each process receives one piece of a bucket from all others,
  // adds it up in the order of the ranks, and sends the sum to all. So each sum is computed once, in one
  // place and in a fixed order: all processes have the same bits in every run, with any MPI library (MPI
  // only recommends this for its own all-reduce). No process sends more than twice its data.
  const most = Math.max(1, Math.floor(bucketBytes / 4 / size));
  const pieces = new Float32Array(most * size), sums = new Float32Array(most);
  const exact = new Float64Array(most);
  let flat = new Float32Array(0);
  const reduce = async (own: Sums): Promise<Sums> => {
    const names = Object.keys(own).sort();
    const count = names.reduce((n, name) => n + own[name].length, 0);
    // Padded, so that the last bucket divides into equal pieces.
    if (flat.length !== count + size) flat = new Float32Array(count + size);
    let filled = 0;
    for (const name of names) {
      flat.set(own[name], filled);
      filled += own[name].length;
    }
    for (let at = 0; at < count;) {
      const piece = Math.min(most, Math.ceil((count - at) / size));
      const bucket = bytesOf(flat.subarray(at, at + piece * size));
      await world.allToAll(bucket, bytesOf(pieces.subarray(0, piece * size)));
      exact.fill(0, 0, piece);
      for (let k = 0; k < size; k++) {
        for (let i = 0, j = k * piece; i < piece; i++, j++) exact[i] += pieces[j];
      }
      for (let i = 0; i < piece; i++) sums[i] = exact[i];
      await world.allGather(bytesOf(sums.subarray(0, piece)), bucket);
      at += piece * size;
    }
    let read = 0;
    return Object.fromEntries(names.map((name) => {
      const from = read;
      read += own[name].length;
      return [name, flat.subarray(from, read)];
    }));
  };

  return {
    share: { rank, of: size },
    gather,
    reduce,
    finish: async () => {
      await gather("");
      world.finalize();
    },
    abort: world.abort,
  };
};

/** Number of processes according to the launcher's variables, this one included; 1 without a launcher. */
export const launched = (env: (name: string) => string | undefined): number => {
  // Open MPI's mpirun; MPICH's mpiexec and its kin, and srun --mpi=pmi2; srun.
  const names = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
  return Number(names.map(env).find((size) => /^\d+$/.test(size ?? "")) ?? 1);
};

/** The CPU affinity of this process, if the system reports it. */
const processors = (): string => {
  try {
    return /^Cpus_allowed_list:\s*(\S+)/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1] ??
      "";
  } catch {
    return "";
  }
};

/**
 * The processes started together with this one; only this one if there is no launcher, in which case no MPI
 * library is loaded. On the left, why they cannot communicate, in words.
 */
export const openProcesses = async (): Promise<E.Either<string, Processes>> => {
  const size = launched((name) => Deno.env.get(name));
  if (size <= 1) return E.right(alone);
  const opened = openWorld();
  if (E.isLeft(opened)) return opened;
  const world = opened.right;
  if (world.size !== size) {
    world.finalize();
    return E.left(
      `${size} processes were started together, but MPI sees ${world.size}: the MPI library is ` +
        "not the launcher's; name the launcher's libmpi in FORMANT_MPI, or with srun say which " +
        "interface the library speaks, such as --mpi=pmix",
    );
  }
  const processes = processesOf(world);
  // Launchers may bind each process to its own processors. Processes with the same ones share them.
  const places = await processes.gather(`${Deno.hostname()} ${processors()}`);
  const sharing = places.filter((place) => place === places[world.rank]).length;
  return E.right({
    ...processes,
    threads: Math.max(1, Math.floor(navigator.hardwareConcurrency / sharing)),
  });
};
