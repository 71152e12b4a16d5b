// Prefetching reader threads. The batches are the same for any number of threads.
import { killDecoder } from "../audio/decoder_client.ts";
import type { Question, Settings } from "./reader_worker.ts";

/** Threads that answer questions. */
export interface Pool {
  readonly ask: <A>(question: Question) => Promise<A>;
  readonly close: () => void;
}

/** Default number of threads: one per processor except one for computing; from 1 to 16. */
export const usualThreads = (processors: number = navigator.hardwareConcurrency): number =>
  Math.max(1, Math.min(16, processors - 1));

interface Waiting {
  readonly question: Question;
  readonly done: (answer: unknown) => void;
  readonly failed: (error: Error) => void;
}

// The training thread answers no message for a whole step, so every reader is given what it
// will do in that time; what it made waits in memory.
const mostOpen = 128;

/** Starts threads, which keep the process alive until closed. */
export const openPool = (
  settings: Omit<Settings, "decoders" | "thread">,
  threads: number = usualThreads(),
): Pool => {
  const decoders = new Int32Array(new SharedArrayBuffer(4 * threads));
  const queue: Waiting[] = [];
  let closed = false;
  const workers = Array.from({ length: threads }, (_, thread) => {
    const worker = new Worker(new URL("./reader_worker.ts", import.meta.url).href, {
      type: "module",
    });
    const open: Waiting[] = [];
    const give = (next: Waiting) => {
      open.push(next);
      worker.postMessage(next.question);
    };
    worker.onmessage = ({ data }) => {
      open.shift()!.done(data);
      const next = queue.shift();
      if (next !== undefined) give(next);
    };
    // A bug, or a machine without memory; pending questions must not wait forever.
    worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`a thread that reads recordings ended: ${event.message}`);
      open.splice(0).forEach(({ failed }) => failed(error));
    };
    give({
      question: { kind: "settings", settings: { ...settings, decoders, thread } },
      done: () => {},
      failed: () => {},
    });
    return { worker, open, give };
  });
  return {
    ask: <A>(question: Question) =>
      new Promise<A>((resolve, reject) => {
        if (closed) throw new Error("recordings are read after they were closed");
        const asked: Waiting = { question, done: resolve as Waiting["done"], failed: reject };
        const idlest = workers.reduce((a, b) => b.open.length < a.open.length ? b : a);
        if (idlest.open.length < mostOpen) idlest.give(asked);
        else queue.push(asked);
      }),
    close: () => {
      closed = true;
      workers.forEach(({ worker }) => worker.terminate());
      decoders.filter((pid) => pid !== 0).forEach((pid) => killDecoder(pid));
    },
  };
};
