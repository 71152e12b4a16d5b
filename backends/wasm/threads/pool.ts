// The thread pool: workers that share the memory of machines with the main thread, which works as
// well. Without workers or shared memory the main thread does all the work, with the same results.
// A kernel that fails on any thread ends its run and no other; the pool does not wait for a thread
// that died.
import {
  controlWords,
  type Ended,
  type Failure,
  failureOf,
  generation,
  type Job,
  joined,
  Lost,
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
} from "./work_queue.ts";
import type { Message } from "./worker.ts";

/** A machine that a pool runs. */
export interface Team {
  /** Runs a program by its number, to the end; returns the failure, if there is one. */
  readonly run: (program: number, ended?: Ended) => Failure | undefined;
  readonly close: () => void;
}

/** Options of a pool. */
export interface PoolOptions {
  /** The module of the workers. */
  readonly script?: string;
  /** Milliseconds without progress after which participating threads count as dead. */
  readonly patience?: number;
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

/**
 * Closed machines, and their bytes, that workers may still hold. A worker sleeps between runs and
 * makes hardly any garbage, so its engine does not collect it and keeps the memory of all machines
 * that it has seen.
 */
const mostClosed = { machines: 32, bytes: 2 ** 26 };

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

const startWorkers = (count: number, script: string): Set<Worker> => {
  const workers = new Set<Worker>();
  try {
    for (let k = 0; k < count; k++) {
      const worker = new Worker(script, { type: "module" });
      workers.add(worker);
      // An error that a worker cannot survive, such as a missing module, ends that worker only.
      worker.onerror = (event) => {
        event.preventDefault();
        workers.delete(worker);
      };
    }
  } catch {
    workers.forEach((worker) => worker.terminate());
    workers.clear();
  }
  return workers;
};

/** A pool of `threads` threads; of one if workers are not available. */
export const openPool = (
  threads: number,
  { script = new URL("./worker.ts", import.meta.url).href, patience = 300_000 }: PoolOptions = {},
): Pool => {
  const mayWait = typeof SharedArrayBuffer !== "undefined" && typeof Worker !== "undefined" &&
    !("document" in globalThis);
  let workers = threads > 1 && mayWait ? startWorkers(threads - 1, script) : new Set<Worker>();
  if (workers.size === 0) return alone;
  let control = new Int32Array(new SharedArrayBuffer(0));
  const jobs = new Map<number, Job>();
  const wake = () => {
    Atomics.add(control, generation, 1);
    Atomics.notify(control, generation);
  };
  const tell = (message: (thread: number) => Message) => {
    [...workers].forEach((worker, k) => worker.postMessage(message(k + 1)));
    Atomics.add(control, messages, 1);
    wake();
  };
  const begin = () => {
    control = new Int32Array(new SharedArrayBuffer(4 * controlWords(mostCalls)));
    tell((thread) => ({ tell: "control", control, thread, patience }));
    jobs.forEach((job) => tell(() => ({ tell: "open", job })));
  };
  // A thread that sleeps on shared memory cannot be terminated from outside.
  const end = () => tell(() => ({ tell: "end" }));
  let closed = { machines: 0, bytes: 0 };
  /** Replaces the workers. */
  const renew = () => {
    end();
    workers = startWorkers(threads - 1, script);
    closed = { machines: 0, bytes: 0 };
    begin();
  };
  begin();
  let machines = 0;
  return {
    threads: workers.size + 1,
    shared: true,
    open: (job) => {
      const most = Math.max(0, ...job.programs.map((calls) => calls.length));
      if (most > mostCalls) {
        throw new RangeError(
          `a program has ${most} kernels, but threads share out ${mostCalls} at most; use one thread`,
        );
      }
      const machine = machines++;
      const whole = { ...job, machine };
      const own: Ready = ready(whole);
      jobs.set(machine, whole);
      tell(() => ({ tell: "open", job: whole }));
      let gone: Failure | undefined;
      const close = () => {
        if (!jobs.delete(machine)) return;
        const { byteLength } = job.memory.buffer;
        closed = { machines: closed.machines + 1, bytes: closed.bytes + byteLength };
        const isTooMuch = closed.machines > mostClosed.machines || closed.bytes > mostClosed.bytes;
        if (isTooMuch) renew();
        else tell(() => ({ tell: "close", machine }));
      };
      return {
        run: (program, ended) => {
          if (gone !== undefined) return gone;
          const calls = own.programs[program];
          reset(control, calls.length);
          Atomics.store(control, machineWord, machine);
          Atomics.store(control, programWord, program);
          Atomics.store(control, running, 1);
          wake();
          try {
            takePart(own, calls, job.scratch[0], control, patience, ended);
            // No thread may join any more, and those that have must leave before the next run.
            Atomics.store(control, running, 0);
            waitUntil(control, joined, (there) => there === 0, patience);
            return failureOf(control);
          } catch (error) {
            Atomics.store(control, running, 0);
            if (!(error instanceof Lost)) throw error;
            // If the thread is still alive, it may write to this machine's memory at any time.
            gone = { said: "a thread does not answer any more; open the machine again" };
            jobs.delete(machine);
            workers.forEach((worker) => worker.terminate());
            renew();
            return gone;
          }
        },
        close,
      };
    },
    close: () => {
      jobs.clear();
      end();
    },
  };
};
