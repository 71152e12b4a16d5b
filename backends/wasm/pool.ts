// Threads for kernels: workers that share the memory of machines with the main thread, which works as
// well. Without workers or shared memory the main thread does all the work, with the same results.
import {
  controlWords,
  type Ended,
  generation,
  type Job,
  joined,
  machineWord,
  messages,
  programWord,
  type Ready,
  ready,
  reset,
  runAlone,
  running,
  takePart,
  waitUntil,
} from "./calls.ts";
import type { Message } from "./worker.ts";

/** A machine that a pool runs. */
export interface Team {
  /** Runs a program by its number, to the end. */
  readonly run: (program: number, ended?: Ended) => void;
  readonly close: () => void;
}

/** Threads. */
export interface Pool {
  /** How many, the main thread included. */
  readonly threads: number;
  /** Whether the memory of its machines is shared. */
  readonly shared: boolean;
  readonly open: (job: Omit<Job, "machine">) => Team;
  readonly close: () => void;
}

/** Most calls in a program. */
const mostCalls = 65536;

const alone: Pool = {
  threads: 1,
  shared: false,
  open: (job) => {
    const one = ready({ ...job, machine: 0 });
    return {
      run: (program, ended) => runAlone(one, one.programs[program], job.scratch[0], ended),
      close: () => {},
    };
  },
  close: () => {},
};

const startWorkers = (count: number): readonly Worker[] => {
  try {
    return Array.from(
      { length: count },
      () => new Worker(new URL("./worker.ts", import.meta.url).href, { type: "module" }),
    );
  } catch {
    return [];
  }
};

/** A pool of `threads` threads; of one where workers can not be had. */
export const openPool = (threads: number): Pool => {
  const mayWait = typeof SharedArrayBuffer !== "undefined" && typeof Worker !== "undefined" &&
    !("document" in globalThis);
  const workers = threads > 1 && mayWait ? startWorkers(threads - 1) : [];
  if (workers.length === 0) return alone;
  const control = new Int32Array(new SharedArrayBuffer(4 * controlWords(mostCalls)));
  const wake = () => {
    Atomics.add(control, generation, 1);
    Atomics.notify(control, generation);
  };
  const tell = (message: (thread: number) => Message) => {
    workers.forEach((worker, k) => worker.postMessage(message(k + 1)));
    Atomics.add(control, messages, 1);
    wake();
  };
  tell((thread) => ({ tell: "control", control, thread }));
  let machines = 0;
  return {
    threads: workers.length + 1,
    shared: true,
    open: (job) => {
      const machine = machines++;
      const whole = { ...job, machine };
      const own: Ready = ready(whole);
      tell(() => ({ tell: "open", job: whole }));
      return {
        run: (program, ended) => {
          reset(control, own.programs[program].length);
          Atomics.store(control, machineWord, machine);
          Atomics.store(control, programWord, program);
          Atomics.store(control, running, 1);
          wake();
          takePart(own, own.programs[program], job.scratch[0], control, ended);
          // Nobody may join any more, and those who have must leave before the next run.
          Atomics.store(control, running, 0);
          waitUntil(control, joined, (there) => there === 0);
        },
        close: () => tell(() => ({ tell: "close", machine })),
      };
    },
    close: () => tell(() => ({ tell: "end" })),
  };
};
