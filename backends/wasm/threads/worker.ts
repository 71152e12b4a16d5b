// A thread of the pool. It sleeps on the pool's control memory until there is a run, takes part in
// it, and returns to its messages when a new machine is announced.
/// <reference lib="webworker" />
import {
  generation,
  type Job,
  joined,
  machineWord,
  messages,
  programWord,
  type Ready,
  ready,
  running,
  takePart,
} from "./work_queue.ts";

/** A message to a thread. */
export type Message =
  | {
    readonly tell: "control";
    readonly control: Int32Array;
    readonly thread: number;
    readonly patience: number;
  }
  | { readonly tell: "open"; readonly job: Job }
  | { readonly tell: "close"; readonly machine: number }
  | { readonly tell: "end" };

const jobs = new Map<number, { readonly ready: Ready; readonly scratch: number }>();
let control: Int32Array | undefined;
let thread = 0;
let patience = 0;
let heard = 0;

/** Takes part in runs for as long as there are no messages to be read. */
const serve = (control: Int32Array): void => {
  for (;;) {
    const seen = Atomics.load(control, generation);
    if (Atomics.load(control, messages) !== heard) return;
    Atomics.add(control, joined, 1);
    try {
      const job = Atomics.load(control, running) === 1
        ? jobs.get(Atomics.load(control, machineWord))
        : undefined;
      if (job !== undefined) {
        const program = job.ready.programs[Atomics.load(control, programWord)];
        takePart(job.ready, program, job.scratch, control, patience);
      }
    } catch {
      // The other threads do not respond. The thread that started the run notices that as well.
    } finally {
      Atomics.sub(control, joined, 1);
      Atomics.notify(control, joined);
    }
    Atomics.wait(control, generation, seen);
  }
};

self.addEventListener("message", ({ data }: MessageEvent<Message>) => {
  heard++;
  switch (data.tell) {
    case "control":
      ({ control, thread, patience } = data);
      break;
    case "open":
      try {
        jobs.set(data.job.machine, { ready: ready(data.job), scratch: data.job.scratch[thread] });
      } catch {
        // Without memory for it, this thread takes no part in the machine's runs; others compute
        // them.
      }
      break;
    case "close":
      jobs.delete(data.machine);
      break;
    case "end":
      // A thread that sleeps on shared memory cannot be terminated from outside.
      return self.close();
  }
  serve(control!);
});
