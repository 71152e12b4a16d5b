// The discrete Fourier transform of any length on the CPU, in float64, for spectrograms that are
// computed ahead of training. A length is split into its prime factors (and fours), so 400 costs about
// as much as 512.

/** Transforms `re + i·im` in place; both have the transform's length. */
export type Fourier = (re: Float64Array, im: Float64Array) => void;

const factorsOf = (size: number): readonly number[] => {
  const factors: number[] = [];
  let rest = size;
  for (const p of [4, 2]) {
    for (; rest % p === 0; rest /= p) factors.push(p);
  }
  for (let p = 3; rest > 1; p += 2) {
    for (; rest % p === 0; rest /= p) factors.push(p);
  }
  return factors;
};

/** The transform of any length from 1: `X[k] = Σ x[n]·exp(-2πi·kn / size)`. Not reentrant. */
export const fourier = (size: number): Fourier => {
  const factors = factorsOf(size);
  const cos = Float64Array.from({ length: size }, (_, k) => Math.cos(2 * Math.PI * k / size));
  const sin = Float64Array.from({ length: size }, (_, k) => -Math.sin(2 * Math.PI * k / size));
  const otherRe = new Float64Array(size), otherIm = new Float64Array(size);
  const largest = Math.max(1, ...factors);
  const partRe = new Float64Array(largest), partIm = new Float64Array(largest);

  // One pass of Stockham's autosort algorithm: `stride` interleaved transforms of `n` points become `p`
  // transforms of `n / p` points each.
  const pass = (
    p: number,
    n: number,
    stride: number,
    fromRe: Float64Array,
    fromIm: Float64Array,
    toRe: Float64Array,
    toIm: Float64Array,
  ): void => {
    const m = n / p, turn = size / n, half = (p - 1) >> 1, root = size / p;
    for (let j = 0; j < m; j++) {
      for (let r = 0; r < stride; r++) {
        const at = r + stride * j, step = stride * m, out = r + stride * p * j;
        const put = (t: number, re: number, im: number): void => {
          const angle = j * t * turn, k = out + t * stride;
          toRe[k] = re * cos[angle] - im * sin[angle];
          toIm[k] = re * sin[angle] + im * cos[angle];
        };
        if (p === 4) {
          const a = fromRe[at], ai = fromIm[at];
          const b = fromRe[at + step], bi = fromIm[at + step];
          const c = fromRe[at + 2 * step], ci = fromIm[at + 2 * step];
          const d = fromRe[at + 3 * step], di = fromIm[at + 3 * step];
          const ac = a + c, aci = ai + ci, bd = b + d, bdi = bi + di;
          const am = a - c, ami = ai - ci, bm = b - d, bmi = bi - di;
          toRe[out] = ac + bd;
          toIm[out] = aci + bdi;
          put(1, am + bmi, ami - bm);
          put(2, ac - bd, aci - bdi);
          put(3, am - bmi, ami + bm);
        } else if (p === 2) {
          const a = fromRe[at], ai = fromIm[at], b = fromRe[at + step], bi = fromIm[at + step];
          toRe[out] = a + b;
          toIm[out] = ai + bi;
          put(1, a - b, ai - bi);
        } else {
          // Points k and p - k have equal cosines and opposite sines.
          const first = fromRe[at], firstIm = fromIm[at];
          let sum = first, sumIm = firstIm;
          for (let k = 1; k <= half; k++) {
            const a = fromRe[at + k * step], ai = fromIm[at + k * step];
            const b = fromRe[at + (p - k) * step], bi = fromIm[at + (p - k) * step];
            sum += partRe[k] = a + b;
            sumIm += partIm[k] = ai + bi;
            partRe[p - k] = a - b;
            partIm[p - k] = ai - bi;
          }
          toRe[out] = sum;
          toIm[out] = sumIm;
          for (let t = 1; t <= half; t++) {
            let evenRe = first, evenIm = firstIm, oddRe = 0, oddIm = 0;
            for (let k = 1; k <= half; k++) {
              const angle = ((k * t) % p) * root;
              evenRe += cos[angle] * partRe[k];
              evenIm += cos[angle] * partIm[k];
              oddRe += sin[angle] * partIm[p - k];
              oddIm += sin[angle] * partRe[p - k];
            }
            put(t, evenRe - oddRe, evenIm + oddIm);
            put(p - t, evenRe + oddRe, evenIm - oddIm);
          }
        }
      }
    }
  };

  return (re, im) => {
    let n = size, stride = 1, inOther = false;
    for (const p of factors) {
      if (inOther) pass(p, n, stride, otherRe, otherIm, re, im);
      else pass(p, n, stride, re, im, otherRe, otherIm);
      inOther = !inOther;
      n /= p;
      stride *= p;
    }
    if (inOther) {
      re.set(otherRe);
      im.set(otherIm);
    }
  };
};
