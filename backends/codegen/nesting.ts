// How deep printers of expressions go. They are recursive, as expressions are, and the steps of scans,
// which are never cut, may be deeper than a stack. What lies too deep in an expression is printed before
// it: printing is broken off there, begins again from there, and then once more from the top, where all
// that has been printed is known.

/**
 * Most values that are nested in each other as they are printed: each takes a few calls, so that all
 * take a quarter of a stack. No kernel of training is that deep.
 */
const mostNested = 512;

/** Thrown where printing is broken off. */
const tooDeep = new Error("an expression is too deep");

/** Counts how deep a printer is in an expression. */
export interface Nestings {
  /**
   * Runs `inside`. Where that is too deep, everything is broken off, `alone` is called at the top, and
   * all begins again: `alone` does the same as `inside` in a way that it need not be done twice.
   */
  readonly nested: <T>(inside: () => T, alone: () => void) => T;
  /** Runs `inside` where nothing can be broken off around it: a block of its own. */
  readonly apart: (inside: () => void) => void;
}

/** Nothing is nested yet. */
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
    // Here is the top. What is waited for is printed from here as well, the last first.
    const waiting: (() => void)[] = [];
    for (;;) {
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
