// Waiting for Dawn in Deno. Dawn notices finished work only when an immediate of the event loop
// polls it, and Deno sleeps between immediates; so while a promise is pending, immediates are
// queued again and again. Between them the thread naps for a small part of the time waited so far,
// because a software driver needs the core. Measurements: docs/decisions/0001-waiting-for-dawn.md.
import { setImmediate } from "node:timers";

/** Longest nap as a part of the time waited so far: the most that an answer is delayed. */
const NAP_SHARE = 0.05;
/** Longest nap in milliseconds, so that the rest of the program is not blocked. */
const NAP_LIMIT = 2;

/** How long to nap, in milliseconds, after `waited` milliseconds without an answer. */
export const napAfter = (waited: number): number => Math.min(NAP_LIMIT, NAP_SHARE * waited);

/**
 * Makes a function that settles Dawn's promises without stalling: it gives the result or the
 * rejection at most a twentieth later than the device was done (and 2 ms at most). One loop serves
 * all pending promises.
 */
export const settler = (): <T>(promise: Promise<T>) => Promise<T> => {
  const sleeping = new Int32Array(new SharedArrayBuffer(4));
  let awaited = 0;
  let since = 0;
  let running = false;
  const drive = (): void => {
    if (awaited === 0) {
      running = false;
      return;
    }
    const nap = napAfter(performance.now() - since);
    if (nap > 0) Atomics.wait(sleeping, 0, 0, nap);
    setImmediate(drive);
  };
  return async (promise) => {
    awaited += 1;
    since = performance.now();
    if (!running) {
      running = true;
      setImmediate(drive);
    }
    try {
      return await promise;
    } finally {
      awaited -= 1;
      since = performance.now();
    }
  };
};
