// Means over repeated runs with confidence intervals; quantiles are computed, not tabulated.

/** A mean over runs. */
export interface Interval {
  readonly mean: number;
  /** Half the width of the two-sided confidence interval; absent for a single run. */
  readonly halfWidth?: number;
  readonly runs: number;
}

/**
 * The mean of the scores of independent runs, such as the seeds of a probe, with its confidence interval
 * from Student's t distribution.
 */
export const interval = (values: readonly number[], level: number = 0.95): Interval => {
  const runs = values.length;
  if (runs === 0) throw new RangeError("there is no mean of nothing");
  const mean = values.reduce((sum, value) => sum + value, 0) / runs;
  if (runs === 1) return { mean, runs };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const error = Math.sqrt(squares / (runs - 1) / runs);
  return { mean, halfWidth: tQuantile(level, runs - 1) * error, runs };
};

/**
 * The two-sided quantile of Student's t: |t| is below it with probability `level`; 12.706 for 0.95 and one
 * degree of freedom. `degrees` is a whole number.
 */
export const tQuantile = (level: number, degrees: number): number => {
  if (!(level > 0 && level < 1) || !(Number.isInteger(degrees) && degrees > 0)) {
    throw new RangeError(`no quantile for level ${level} and ${degrees} degrees of freedom`);
  }
  let low = 0, high = 1;
  while (within(high, degrees) < level && high < 2 ** 60) high *= 2;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) return middle;
    if (within(middle, degrees) < level) low = middle;
    else high = middle;
  }
};

// The probability that |t| is below a number, a finite sum for whole degrees of freedom.
function within(t: number, degrees: number): number {
  const angle = Math.atan2(t, Math.sqrt(degrees));
  const sine = Math.sin(angle), cosine = Math.cos(angle);
  const odd = degrees % 2;
  // sine (1 + 1/2 cos² + 1·3/(2·4) cos⁴ + …) for even degrees; the same from cos on for odd ones.
  let term = odd === 1 ? cosine : 1, sum = 0;
  for (let k = odd; k < degrees - 1; k += 2) {
    sum += term;
    term *= cosine * cosine * (k + 1) / (k + 2);
  }
  return odd === 1 ? 2 / Math.PI * (angle + sine * sum) : sine * sum;
}

/** The quantile of the standard normal distribution. */
export const normalQuantile = (probability: number): number => {
  if (!(probability >= 0 && probability <= 1)) return NaN;
  const tail = Math.min(probability, 1 - probability);
  if (tail === 0) return probability === 0 ? -Infinity : Infinity;
  // A rational approximation, refined by Newton's method on the logarithm, which is nearly a parabola.
  const t = Math.sqrt(-2 * Math.log(tail));
  let x = Math.max(0, t - (2.30753 + 0.27061 * t) / (1 + 0.99229 * t + 0.04481 * t * t));
  for (let k = 0; k < 8; k++) {
    const q = upperTail(x);
    x += Math.log(q / tail) * q / density(x);
  }
  return probability < 0.5 ? -x : x;
};

const density = (x: number): number => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);

// The upper tail probability of the standard normal: near 0 by the series x + x³/3 + x⁵/15 + …, farther
// out by the continued fraction 1/(x + 1/(x + 2/(x + …))), both times the density.
function upperTail(x: number): number {
  if (x < 3) {
    let term = x, sum = 0;
    for (let k = 1; sum + term !== sum; k++) {
      sum += term;
      term *= x * x / (2 * k + 1);
    }
    return 0.5 - density(x) * sum;
  }
  let rest = x;
  for (let k = 100; k > 0; k--) rest = x + k / rest;
  return density(x) / rest;
}
