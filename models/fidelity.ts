// Where the published code and sound practice part. "faithful" is what the published code does, to
// the bit where it can be; "corrected" mends each point, and each has a name of its own.

/** The points; every one is an option of an experiment. */
export interface Fidelity {
  /**
   * Whether the token that stands for a hidden patch carries its position. Published: "dropped", so
   * that all hidden patches are equal, and a Transformer, which knows order only from positions,
   * predicts one and the same patch for all of them.
   */
  readonly maskedPositions: "dropped" | "kept";
  /**
   * Patches that the loss is over. Published, and kept: "all". Embeddings are outputs at patches that
   * are seen, which "masked", usual where a decoder fills in, leaves to chance
   * (docs/decisions/0014-loss-over-all-patches.md).
   */
  readonly loss: "all" | "masked";
  /**
   * Which axis is taken for the slower one when output tokens are put together to a row per time
   * step. Tokens are in time order; published: "frequency", which mixes five time steps in a row.
   */
  readonly rows: "frequency" | "time";
  /**
   * Standard deviation that an embedded clip is divided by. Published: "sample" (n - 1), although
   * training divides by the "population" one (n).
   */
  readonly deviation: "sample" | "population";
  /**
   * Silence after a clip whose frames fill its last stretch. Published: "always", a whole stretch of
   * nothing that is run and cut off again; else only "as needed".
   */
  readonly padding: "always" | "as needed";
}

/** What the published code does. */
export const faithful: Fidelity = {
  maskedPositions: "dropped",
  loss: "all",
  rows: "frequency",
  deviation: "sample",
  padding: "always",
};

/** The same with every point mended that needs it: the default of new experiments. */
export const corrected: Fidelity = {
  maskedPositions: "kept",
  loss: "all",
  rows: "time",
  deviation: "population",
  padding: "as needed",
};
