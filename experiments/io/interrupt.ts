// Interruption by Ctrl-C (SIGINT) or a scheduler (SIGTERM), as an AbortSignal. A command listens only
// while it has something to clean up; otherwise the system ends it at once, even in a call that never
// returns.
import { setImmediate } from "node:timers/promises";

/** Signals that ask the process to end. */
export const endings: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM"];

/** A running listener. */
export interface Listening {
  /** Aborted when a signal arrives. */
  readonly signal: AbortSignal;
  /** The signal that arrived, if any. */
  readonly asked: () => Deno.Signal | undefined;
  /** Stops listening. */
  readonly forget: () => void;
}

/** Starts listening; `also` is the signal of a caller that listens for longer. */
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

/** The awaited value, or undefined as soon as the signal is aborted, however long the value takes. */
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
 * Whether the signal is aborted, to be called between the steps of a long computation: signals are only
 * handled between tasks of the event loop, and such steps run within one task.
 */
export const isEnded = async (signal: AbortSignal | undefined): Promise<boolean> => {
  if (signal === undefined) return false;
  await setImmediate();
  return signal.aborted;
};
