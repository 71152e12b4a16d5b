// Where the published code differs from sound practice. "faithful" does what the published code does,
// bit for bit where possible; "corrected" fixes each point. Each point has its own name.

/** The points; each is an option of an experiment. */
export interface Fidelity {
  /**
   * Whether the token that stands for a hidden patch carries its position. Published: "dropped", so
   * that all hidden patches are equal, and a Transformer, which knows order only from positions,
   * predicts one and the same patch for all of them.
   */
  readonly maskedPositions: "dropped" | "kept";
  /**
   * Patches that the loss is computed over. Published, and kept: "all". Embeddings are outputs at
   * visible patches, which "masked", usual with a decoder, does not train
   * (docs/decisions/0014-loss-over-all-patches.md).
   */
  readonly loss: "all" | "masked";
  /**
   * Which axis counts as the slower one when output tokens are combined into one row per time step.
   * Tokens are in time order; published: "frequency", which mixes five time steps in a row.
   */
  readonly rows: "frequency" | "time";
  /**
   * Standard deviation that an embedded clip is divided by. Published: "sample" (n - 1), although
   * training divides by the "population" deviation (n).
   */
  readonly deviation: "sample" | "population";
  /**
   * Padding of a clip whose frames fill its last segment exactly. Published: "always" adds a whole
   * segment of silence, which is encoded and dropped again; "as needed" adds none.
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

/** The same with every point fixed that needs it: the default of new experiments. */
export const corrected: Fidelity = {
  maskedPositions: "kept",
  loss: "all",
  rows: "time",
  deviation: "population",
  padding: "as needed",
};
