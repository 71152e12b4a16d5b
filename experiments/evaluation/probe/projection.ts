// Projects embeddings onto the plane of their first two principal components, found by subspace iteration
// without forming the covariance.

/** Points in the plane. */
export interface Projection {
  /** `[row, 2]`: coordinates along the first and second component. */
  readonly points: Float64Array;
  /** Fraction of the variance along each. */
  readonly explained: readonly [number, number];
}

/**
 * The first two principal components of rows of `width` numbers. Signs are such that the largest weight
 * of a component is positive. Directions without variance give 0.
 */
export const principalComponents = (values: Float32Array, width: number): Projection => {
  const rows = values.length / width;
  const centre = new Float64Array(width);
  values.forEach((value, k) => centre[k % width] += value / rows);
  const centred = Float64Array.from(values, (value, k) => value - centre[k % width]);
  const total = centred.reduce((sum, value) => sum + value * value, 0);

  /** Coordinates of all rows along a direction. */
  const along = (direction: Float64Array): Float64Array => {
    const found = new Float64Array(rows);
    for (let row = 0, k = 0; row < rows; row++) {
      for (let j = 0; j < width; j++, k++) found[row] += centred[k] * direction[j];
    }
    return found;
  };
  /** The covariance matrix, up to a factor, times a direction. */
  const spread = (direction: Float64Array): Float64Array => {
    const at = along(direction), found = new Float64Array(width);
    for (let row = 0, k = 0; row < rows; row++) {
      for (let j = 0; j < width; j++, k++) found[j] += at[row] * centred[k];
    }
    return found;
  };
  // More directions than needed, for faster convergence.
  let directions = orthonormal(
    Array.from(
      { length: Math.min(4, width) },
      (_, k) => Float64Array.from({ length: width }, (_, j) => Math.sin((k + 1) * (j + 1.3) ** 2)),
    ),
  );
  for (let step = 0; step < 30; step++) directions = orthonormal(directions.map(spread));
  const found = directions.map((direction) => {
    const largest = direction.reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0);
    const at = along(direction).map((value) => largest < 0 ? -value : value);
    return { at, variance: at.reduce((sum, value) => sum + value * value, 0) };
  }).sort((a, b) => b.variance - a.variance);
  const share = (k: number) => total === 0 ? 0 : (found[k]?.variance ?? 0) / total;
  return {
    points: Float64Array.from({ length: 2 * rows }, (_, k) => found[k % 2]?.at[k >> 1] ?? 0),
    explained: [share(0), share(1)],
  };
};

/** Gram-Schmidt; directions that depend linearly on earlier ones become 0. */
const orthonormal = (directions: readonly Float64Array[]): readonly Float64Array[] => {
  const done: Float64Array[] = [];
  for (const direction of directions) {
    const rest = direction.slice();
    const length = Math.hypot(...rest);
    for (const other of done) {
      const share = rest.reduce((sum, value, k) => sum + value * other[k], 0);
      rest.forEach((_, k) => rest[k] -= share * other[k]);
    }
    const left = Math.hypot(...rest);
    done.push(left <= 1e-10 * length ? rest.fill(0) : rest.map((value) => value / left));
  }
  return done;
};
