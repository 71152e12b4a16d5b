// Threads that read recordings. Each has two questions at a time, so that it never waits for the next; what
// comes does not depend on how many there are.
import type { Question, Settings } from "./worker.ts";

/** Threads that answer questions. */
export interface Pool {
  /** The answer to a question, which is put when a thread is about to take it. */
  readonly ask: <A>(question: () => Question) => Promise<A>;
  readonly close: () => void;
}

/** As many threads as there are processors but one, which computes; at least one and at most 16. */
export const usualThreads = (): number =>
  Math.max(1, Math.min(16, navigator.hardwareConcurrency - 1));

interface Waiting {
  readonly question: () => Question;
  readonly done: (answer: unknown) => void;
  readonly failed: (error: Error) => void;
}

/** Starts threads; until they are closed the process does not end. */
export const openPool = (settings: Settings, threads: number = usualThreads()): Pool => {
  const queue: Waiting[] = [];
  let closed = false;
  const workers = Array.from({ length: threads }, () => {
    const worker = new Worker(new URL("./worker.ts", import.meta.url).href, { type: "module" });
    const open: Waiting[] = [];
    const give = () => {
      while (open.length < 2 && queue.length > 0) {
        const next = queue.shift()!;
        open.push(next);
        worker.postMessage(next.question());
      }
    };
    worker.onmessage = ({ data }) => {
      open.shift()!.done(data);
      give();
    };
    // A mistake of ours, or a machine without memory; the question is not to wait for ever.
    worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`a thread that reads recordings ended: ${event.message}`);
      open.splice(0).forEach(({ failed }) => failed(error));
    };
    const first: Question = { kind: "settings", settings };
    open.push({ question: () => first, done: () => {}, failed: () => {} });
    worker.postMessage(first);
    return { worker, give };
  });
  return {
    ask: <A>(question: () => Question) => {
      if (closed) throw new Error("recordings are read after they were closed");
      const answer = new Promise<A>((resolve, reject) =>
        queue.push({ question, done: resolve as Waiting["done"], failed: reject })
      );
      workers.forEach(({ give }) => give());
      return answer;
    },
    close: () => {
      closed = true;
      workers.forEach(({ worker }) => worker.terminate());
    },
  };
};
