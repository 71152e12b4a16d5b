// A plain way to tell classes apart, for tests of data: logistic regression on the mean and the deviation
// of each mel band over time.
import { logMelOnHost } from "../../experiments/data/audio/log_mel.ts";
import { publishedFrontEnd } from "../../models/frontend.ts";

const extract = logMelOnHost(publishedFrontEnd);

/** Mean and standard deviation of each band. */
export const bandStatistics = (samples: Float32Array): readonly number[] => {
  const { frames, mels, values } = extract(samples);
  const mean = new Array<number>(mels).fill(0), square = new Array<number>(mels).fill(0);
  for (let k = 0; k < values.length; k++) {
    mean[k % mels] += values[k] / frames;
    square[k % mels] += values[k] ** 2 / frames;
  }
  return [...mean, ...square.map((s, k) => Math.sqrt(Math.max(0, s - mean[k] ** 2)))];
};

type Rows = readonly (readonly number[])[];

/** What maps a row to the scores of classes, learnt from rows and the class of each. */
export const logisticRegression = (
  rows: Rows,
  classes: readonly number[],
  count: number,
): (row: readonly number[]) => readonly number[] => {
  const width = rows[0].length;
  const mean = rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0) / rows.length);
  const deviation = mean.map((m, j) =>
    Math.sqrt(rows.reduce((sum, row) => sum + (row[j] - m) ** 2, 0) / rows.length) + 1e-6
  );
  const standard = (row: readonly number[]) => [
    ...row.map((value, j) => (value - mean[j]) / deviation[j]),
    1,
  ];
  const inputs = rows.map(standard);
  const weights = new Float64Array(count * (width + 1));
  const scores = (row: readonly number[]): readonly number[] =>
    Array.from({ length: count }, (_, k) => {
      let score = 0;
      for (let j = 0; j <= width; j++) score += weights[k * (width + 1) + j] * row[j];
      return score;
    });
  for (let step = 0; step < 150; step++) {
    const slope = new Float64Array(weights.length);
    for (const [i, row] of inputs.entries()) {
      const all = scores(row), most = Math.max(...all);
      const odds = all.map((score) => Math.exp(score - most));
      const total = odds.reduce((a, b) => a + b, 0);
      for (let k = 0; k < count; k++) {
        const error = (odds[k] / total - (classes[i] === k ? 1 : 0)) / rows.length;
        for (let j = 0; j <= width; j++) slope[k * (width + 1) + j] += error * row[j];
      }
    }
    for (let k = 0; k < weights.length; k++) weights[k] -= 0.3 * (slope[k] + 1e-3 * weights[k]);
  }
  return (row) => scores(standard(row));
};
