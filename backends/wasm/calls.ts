// What a thread does in a run: it takes tasks of the call at hand until there are none left, waits
// until the others have ended theirs, and goes on to the next call. The tasks of a call are always the
// same ones, whoever takes them, so results do not depend on the number of threads.

/** A function to be called for all of its units. */
export interface Call {
  readonly func: number;
  /** The address of its arguments. */
  readonly args: number;
  readonly units: number;
}

/** Everything that a thread must know of a machine. */
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

/** Most tasks that a call's units are shared out in. */
const mostTasks = 64;
/** Looks at a number that others change before the thread goes to sleep on it. */
const looks = 2000;

// Words of control memory, all of them changed by atomic operations only.
/** Counts commands, so that threads notice a new one. */
export const generation = 0;
/** The machine and program to run. */
export const machineWord = 1;
export const programWord = 2;
/** 1 while a run may be joined. */
export const running = 3;
/** How many threads have joined it. */
export const joined = 4;
/** How many messages each thread has been sent. */
export const messages = 5;
/** From here on: for each call, the next task, and the number of tasks done. */
const counters = 16;
export const controlWords = (mostCalls: number): number => counters + 2 * mostCalls;

/** Forgets the tasks of the run before, so that one of so many calls can begin. Nobody runs. */
export const reset = (control: Int32Array, calls: number): void => {
  control.fill(0, counters, controlWords(calls));
};

/** Waits until a word of control memory is as wanted: briefly awake, then asleep until notified. */
export const waitUntil = (
  control: Int32Array,
  word: number,
  isWanted: (value: number) => boolean,
): void => {
  let value = Atomics.load(control, word);
  for (let look = 0; !isWanted(value); look++) {
    if (look > looks) Atomics.wait(control, word, value);
    value = Atomics.load(control, word);
  }
};

/** Is told that a call has ended. */
export type Ended = (call: number) => void;

/** Takes part in a run of a program until all calls have ended. */
export const takePart = (
  { functions }: Ready,
  calls: readonly Call[],
  scratch: number,
  control: Int32Array,
  ended: Ended = () => {},
): void => {
  calls.forEach(({ func, args, units }, k) => {
    const call = functions[func];
    const tasks = Math.min(units, mostTasks);
    const next = counters + 2 * k, done = next + 1;
    let mine = 0;
    for (;;) {
      const task = Atomics.add(control, next, 1);
      if (task >= tasks) break;
      call(args, Math.floor(task * units / tasks), Math.floor((task + 1) * units / tasks), scratch);
      mine++;
    }
    if (mine > 0 && Atomics.add(control, done, mine) + mine === tasks) {
      Atomics.notify(control, done);
    } else waitUntil(control, done, (sum) => sum === tasks);
    ended(k);
  });
};

/** Runs a program on this thread alone. */
export const runAlone = (
  { functions }: Ready,
  calls: readonly Call[],
  scratch: number,
  ended: Ended = () => {},
): void =>
  calls.forEach(({ func, args, units }, k) => {
    functions[func](args, 0, units, scratch);
    ended(k);
  });
