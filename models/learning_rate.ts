// The learning rate: linear warmup, then half a cosine down.

/** Peak and final rate, the length of the warmup and of the whole, in any one unit of time. */
export interface Schedule {
  readonly peak: number;
  readonly least: number;
  readonly warmup: number;
  readonly total: number;
}

/** The learning rate at a (fractional) time. */
export const learningRate = ({ peak, least, warmup, total }: Schedule, at: number): number =>
  at < warmup
    ? peak * at / warmup
    : least + (peak - least) * 0.5 * (1 + Math.cos(Math.PI * (at - warmup) / (total - warmup)));
