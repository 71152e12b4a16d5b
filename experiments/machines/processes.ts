// The processes that share a run: each computes its share of every batch, and they exchange what
// they must have in common. mpirun or srun starts them together, and they find each other through
// MPI. Only rank 0 writes and logs.
import * as E from "fp-ts/Either.js";
import { openWorld, type World } from "./mpi.ts";

/** Which share of every batch this process computes: share `rank`, from 0, `of` so many. */
export interface Share {
  readonly rank: number;
  readonly of: number;
}

/** Float32 numbers by name. */
export type Sums = Readonly<Record<string, Float32Array>>;

/**
 * The processes that share a run, as one of them sees them. All call the same functions in the same
 * order: one that cannot go on says so in place of what it would say next.
 */
export interface Processes {
  readonly share: Share;
  /** What each of them says, by rank. */
  readonly gather: (own: string) => Promise<readonly string[]>;
  /**
   * Adds up what each gives, by name; all give the same names and sizes and get the same bits, which
   * are good until the next sum.
   */
  readonly reduce: (own: Sums) => Promise<Sums>;
  /** Threads that this process may use without disturbing the others; undefined: all there are. */
  readonly threads?: number;
  /** Waits for all, and parts; nothing is said any more. */
  readonly finish: () => Promise<void>;
  /** Ends all of them at once, when this one cannot say why it ends. */
  readonly abort: () => void;
}

/** A process that has a run for itself. */
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

/** Why the run does not go on, for all the same: the reason of the first one that has any. */
export const agreeOnError = async (
  processes: Processes,
  own?: string,
): Promise<string | undefined> =>
  (await processes.gather(own ?? "")).find((reason) => reason !== "");

/** In what the processes differ that must be the same for all, in words; undefined where in nothing. */
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

/** Bytes of gradients that are added up at once. */
const bucketBytes = 2 ** 22;

const bytesOf = (of: Float32Array | Int32Array): Uint8Array =>
  new Uint8Array(of.buffer, of.byteOffset, of.byteLength);

/** The processes of a world. */
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

  // Gradients lie behind each other in one array, which is summed a bucket at a time. Of a bucket each
  // process gets one piece from all, adds it up in the order of the ranks, and gives the sum to all. So
  // each sum is made once, in one place and in a fixed order: all processes have the same bits, in every
  // run, whatever the MPI library does, which for its own all-reduce is only advised to see to that. No
  // process sends more than twice what it has.
  const most = Math.max(1, Math.floor(bucketBytes / 4 / size));
  const pieces = new Float32Array(most * size), sums = new Float32Array(most);
  const exact = new Float64Array(most);
  let flat = new Float32Array(0);
  const reduce = async (own: Sums): Promise<Sums> => {
    const names = Object.keys(own).sort();
    const count = names.reduce((n, name) => n + own[name].length, 0);
    // Room to cut the last bucket into equal pieces.
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

/** How many processes a launcher says that it started together, this one included; 1 without one. */
export const launched = (env: (name: string) => string | undefined): number => {
  // Open MPI's mpirun; MPICH's mpiexec and its kin, and srun --mpi=pmi2; srun.
  const names = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
  return Number(names.map(env).find((size) => /^\d+$/.test(size ?? "")) ?? 1);
};

/** The processors that the system lets this process use, where it says so. */
const processors = (): string => {
  try {
    return /^Cpus_allowed_list:\s*(\S+)/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1] ??
      "";
  } catch {
    return "";
  }
};

/**
 * The processes that were started together with this one; only this one where no launcher is at work,
 * and then no MPI library is looked for. On the left, why they cannot find each other, in words.
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
  // Launchers may give each process processors of its own. Those that have the same ones share them.
  const places = await processes.gather(`${Deno.hostname()} ${processors()}`);
  const sharing = places.filter((place) => place === places[world.rank]).length;
  return E.right({
    ...processes,
    threads: Math.max(1, Math.floor(navigator.hardwareConcurrency / sharing)),
  });
};
