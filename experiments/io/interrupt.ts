// Interruption by Ctrl-C (SIGINT) or a scheduler (SIGTERM), as an AbortSignal. A command listens
// only while it has something to clean up; otherwise the system ends it at once, even in a call
// that never returns.
import { setImmediate } from "node:timers/promises";

/** Signals of the system that ask for an end. */
export const endings: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM"];

/** A command that listens. */
export interface Listening {
  /** Aborted once an end is asked for. */
  readonly signal: AbortSignal;
  /** Which of the system's signals asked, if any did. */
  readonly asked: () => Deno.Signal | undefined;
  /** Listens no more. */
  readonly forget: () => void;
}

/** Begins to listen; `also` is a signal of who listens for longer. */
export const listenForEnd = (also?: AbortSignal): Listening => {
  const controller = new AbortController();
  let asked: Deno.Signal | undefined;
  const listeners = endings.map((name) => {
    const listener = () => {
      asked ??= name;
      controller.abort();
    };
    Deno.addSignalListener(name, listener);
    return () => Deno.removeSignalListener(name, listener);
  });
  return {
    signal: also === undefined ? controller.signal : AbortSignal.any([controller.signal, also]),
    asked: () => asked,
    forget: () => listeners.forEach((forget) => forget()),
  };
};

/** What is waited for, or undefined as soon as an end is asked for, however long it takes by itself. */
export const unlessEnded = async <A>(
  waited: Promise<A>,
  signal: AbortSignal | undefined,
): Promise<A | undefined> => {
  if (signal === undefined) return await waited;
  if (signal.aborted) {
    waited.catch(() => {}); // The rejection has no other listener.
    return undefined;
  }
  const { promise: ended, resolve } = Promise.withResolvers<undefined>();
  const listener = () => resolve(undefined);
  signal.addEventListener("abort", listener, { once: true });
  try {
    return await Promise.race([waited, ended]);
  } finally {
    signal.removeEventListener("abort", listener);
  }
};

/**
 * Whether an end is asked for, to be asked between the steps of a long computation: signals are heard
 * between tasks of the event loop, and steps that are computed here are no such tasks.
 */
export const isEnded = async (signal: AbortSignal | undefined): Promise<boolean> => {
  if (signal === undefined) return false;
  await setImmediate();
  return signal.aborted;
};
