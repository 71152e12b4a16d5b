// The work queue: a thread takes tasks of the current call until none are left, waits until the
// other threads have finished theirs, and goes on to the next call. The tasks of a call do not
// depend on the threads, so results do not depend on their number.

/** A function to be called for all of its units. */
export interface Call {
  readonly func: number;
  /** The address of its arguments. */
  readonly args: number;
  readonly units: number;
}

/** A machine, as threads need it. */
export interface Job {
  readonly machine: number;
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly programs: readonly (readonly Call[])[];
  /** The scratch memory of each thread. */
  readonly scratch: readonly number[];
}

/** A job as one thread runs it. */
export interface Ready {
  readonly programs: readonly (readonly Call[])[];
  readonly functions: readonly Kernel[];
}

type Kernel = (args: number, from: number, to: number, scratch: number) => void;

/** The functions of a job. */
export const ready = ({ module, memory, programs }: Job): Ready => {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const count = Object.keys(exports).length;
  return {
    programs,
    functions: Array.from({ length: count }, (_, k) => exports[`f${k}`] as Kernel),
  };
};

/** Most tasks that a call's units are divided into. */
const mostTasks = 64;
/** Polls of a value that other threads change before a thread goes to sleep on it. */
const looks = 2000;

// The i32 elements of control memory, all of them changed only by atomic operations.
/** Counts commands, so that threads notice a new one. */
export const generation = 0;
/** The machine and program to run. */
export const machineWord = 1;
export const programWord = 2;
/** 1 while a run may be joined. */
export const running = 3;
/** How many threads have joined it. */
export const joined = 4;
/** Messages sent to each thread. */
export const messages = 5;
/** Counts tasks that were taken, which distinguishes a working thread from a dead one. */
export const progress = 6;
/** The call, from 1, in which a kernel failed; 0 if none has. */
const failedWord = 7;
/** The length of its message, in bytes. */
const saidWord = 8;
/** From here on: for each call, the next task, and the number of tasks done. */
const saidFrom = 16;
const counters = 144;
const saidBytes = 4 * (counters - saidFrom);
export const controlWords = (mostCalls: number): number => counters + 2 * mostCalls;

/**
 * Resets the tasks of the run before, so that one with so many calls can begin. No thread is
 * running.
 */
export const reset = (control: Int32Array, calls: number): void => {
  control.fill(0, failedWord, controlWords(calls));
};

/**
 * Added to the number of finished tasks of a call in which a kernel failed: no thread waits for the
 * rest.
 */
const failure = 2 * mostTasks;

/** Reports to all threads that a kernel failed in a call; the first message is kept. */
const fail = (control: Int32Array, call: number, error: unknown): void => {
  if (Atomics.compareExchange(control, failedWord, 0, call + 1) === 0) {
    const said = new TextEncoder().encode(`${error}`).subarray(0, saidBytes);
    new Uint8Array(control.buffer, 4 * saidFrom, saidBytes).set(said);
    control[saidWord] = said.length;
  }
};

/** Why a run did not finish, such as a kernel that trapped. */
export interface Failure {
  /** The index of the kernel's call in the program, if known. */
  readonly call?: number;
  readonly said: string;
}

/** The failure of the run, if there was one. All threads have left it. */
export const failureOf = (control: Int32Array): Failure | undefined => {
  const call = Atomics.load(control, failedWord) - 1;
  if (call < 0) return undefined;
  // TextDecoder does not accept shared memory.
  const said = new Uint8Array(control.buffer, 4 * saidFrom, control[saidWord]).slice();
  return { call, said: new TextDecoder().decode(said) };
};

/** Thrown if the other threads have made no progress for too long. */
export class Lost extends Error {}

/**
 * Waits until an element of control memory satisfies a condition: first polling, then asleep until
 * notified. Gives up after `patience` milliseconds without any progress.
 */
export const waitUntil = (
  control: Int32Array,
  word: number,
  isWanted: (value: number) => boolean,
  patience: number,
): void => {
  let value = Atomics.load(control, word);
  let seen = -1, since = 0;
  for (let look = 0; !isWanted(value); look++) {
    if (look > looks) {
      const now = performance.now(), moved = Atomics.load(control, progress) + value;
      if (moved !== seen) [seen, since] = [moved, now];
      else if (now - since >= patience) throw new Lost();
      Atomics.wait(control, word, value, patience);
    }
    value = Atomics.load(control, word);
  }
};

/** Called when a call has ended. */
export type Ended = (call: number) => void;

/** Takes part in a run of a program until all calls have ended, or one has failed. */
export const takePart = (
  { functions }: Ready,
  calls: readonly Call[],
  scratch: number,
  control: Int32Array,
  patience: number,
  ended: Ended = () => {},
): void => {
  for (const [k, { func, args, units }] of calls.entries()) {
    const call = functions[func];
    const tasks = Math.min(units, mostTasks);
    const next = counters + 2 * k, done = next + 1;
    let mine = 0;
    try {
      for (;;) {
        const task = Atomics.add(control, next, 1);
        if (task >= tasks) break;
        Atomics.add(control, progress, 1);
        const from = Math.floor(task * units / tasks), to = Math.floor((task + 1) * units / tasks);
        call(args, from, to, scratch);
        mine++;
      }
    } catch (error) {
      fail(control, k, error);
      mine += failure;
    }
    const isEnd = (sum: number) => sum >= tasks;
    if (mine > 0 && isEnd(Atomics.add(control, done, mine) + mine)) Atomics.notify(control, done);
    else waitUntil(control, done, isEnd, patience);
    if (Atomics.load(control, done) > tasks) return;
    ended(k);
  }
};

/** Runs a program on this thread alone; returns a failure. */
export const runAlone = (
  { functions }: Ready,
  calls: readonly Call[],
  scratch: number,
  ended: Ended = () => {},
): Failure | undefined => {
  for (const [k, { func, args, units }] of calls.entries()) {
    try {
      functions[func](args, 0, units, scratch);
    } catch (error) {
      return { call: k, said: `${error}` };
    }
    ended(k);
  }
};
