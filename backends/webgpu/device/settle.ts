// Waiting for Dawn in Deno. Dawn notices that work is done only when an immediate of the event loop
// asks it, and Deno goes to sleep between immediates; so while anything is awaited, immediates are
// kept coming. Between them the thread naps for a small part of the time already waited, because a
// software driver needs the core. Measurements: docs/decisions/0001-waiting-for-dawn.md.
import { setImmediate } from "node:timers";

/** Part of the time already waited that one nap may take: what a late answer costs at most. */
const NAP_SHARE = 0.05;
/** Milliseconds a nap takes at most, so that the rest of the program is not held up. */
const NAP_LIMIT = 2;

/** How long to nap, in milliseconds, after `waited` milliseconds without an answer. */
export const napAfter = (waited: number): number => Math.min(NAP_LIMIT, NAP_SHARE * waited);

/**
 * Makes a function that settles promises of Dawn without stalling: what the promise gives, or its
 * rejection, at most a twentieth later than the device was done (and 2 ms at most). One loop serves
 * all promises that are awaited at once.
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
