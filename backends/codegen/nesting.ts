// Bounds the recursion of printers. Printers of expressions are recursive, and the steps of scans,
// which are never cut, may be deeper than the stack. An expression that is too deep is printed
// first by itself: printing is aborted, restarts at that subexpression, and then once more from the
// top, with the subexpression known.

/**
 * Deepest nesting while printing: each level takes a few calls, so that this takes a quarter of a
 * stack. No kernel in training is that deep.
 */
const mostNested = 512;
/** Most restarts at one place: a kernel has at most a few thousand operations, so it ends sooner. */
const mostRestarts = 10_000;

/** Thrown to abort printing. */
const tooDeep = new Error("an expression is too deep");

/** Tracks the depth of a printer in an expression. */
export interface Nestings {
  /**
   * Runs `inside`. If that is too deep, printing is aborted, `alone` is called at the top, and
   * printing restarts: `alone` does the same as `inside` and remembers the result.
   */
  readonly nested: <T>(inside: () => T, alone: () => void) => T;
  /** Runs `inside` as a new top: for a block of its own, which must not be aborted from within. */
  readonly apart: (inside: () => void) => void;
}

/** A new tracker at depth 0. */
export const nestings = (): Nestings => {
  let depth = 0;
  let deepest = () => {};
  const nested: Nestings["nested"] = (inside, alone) => {
    if (depth === mostNested) {
      deepest = alone;
      throw tooDeep;
    }
    if (depth > 0) {
      depth++;
      try {
        return inside();
      } finally {
        depth--;
      }
    }
    // At the top. Subexpressions that were too deep are printed from here, the last first.
    const waiting: (() => void)[] = [];
    for (let restarts = 0;; restarts++) {
      if (restarts > mostRestarts) {
        throw new Error("internal error of the compiler: printing an expression does not end");
      }
      depth = 1;
      try {
        if (waiting.length === 0) return inside();
        waiting[waiting.length - 1]();
        waiting.pop();
      } catch (error) {
        if (error !== tooDeep) throw error;
        waiting.push(deepest);
      } finally {
        depth = 0;
      }
    }
  };
  return {
    nested,
    apart: (inside) => {
      const around = depth;
      depth = 0;
      try {
        inside();
      } finally {
        depth = around;
      }
    },
  };
};
