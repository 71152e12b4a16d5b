// The colour map of spectrograms: from near-black blue over magenta and orange to pale yellow. A path in
// Oklab with constant speed, so that equal steps of a value are perceived as equal; it also works in
// greyscale.

/** Red, green and blue of `count` colours from the lowest value to the highest, 3 bytes each. */
export function colourMap(count: number): Uint8Array {
  // Arc length along the path, finely sampled, to place the colours at equal distances.
  const fine = 2048;
  const points = Array.from({ length: fine + 1 }, (_, i) => pathAt(i / fine));
  const walked = [0];
  for (let i = 1; i <= fine; i++) walked.push(walked[i - 1] + distance(points[i - 1], points[i]));
  const bytes = new Uint8Array(3 * count);
  let segment = 0;
  for (let i = 0; i < count; i++) {
    const target = walked[fine] * i / (count - 1);
    while (segment < fine - 1 && walked[segment + 1] < target) segment++;
    const step = walked[segment + 1] - walked[segment];
    const share = step === 0 ? 0 : (target - walked[segment]) / step;
    bytes.set(screen(pathAt((segment + share) / fine)), 3 * i);
  }
  return bytes;
}

type Triple = readonly [number, number, number];

// Lightness rises linearly, hue turns by half a circle, and chroma peaks in the middle, reduced to what
// sRGB can show.
function pathAt(t: number): Triple {
  const lightness = 0.17 + 0.8 * t;
  const hue = (282 + 184 * t) * Math.PI / 180;
  const wanted = 0.08 + 0.105 * Math.sin(Math.PI * t) ** 0.7;
  const at = (chroma: number): Triple => [
    lightness,
    chroma * Math.cos(hue),
    chroma * Math.sin(hue),
  ];
  if (showable(at(wanted))) return at(wanted);
  let [low, high] = [0, wanted];
  for (let i = 0; i < 30; i++) {
    const middle = (low + high) / 2;
    if (showable(at(middle))) low = middle;
    else high = middle;
  }
  return at(low);
}

function distance(a: Triple, b: Triple): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

// Oklab to linear sRGB (B. Ottosson, "A perceptual color space for image processing", 2020).
function linear([lightness, a, b]: Triple): Triple {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
  ];
}

function showable(lab: Triple): boolean {
  return linear(lab).every((part) => part >= 0 && part <= 1);
}

// The 8-bit sRGB values of a colour.
function screen(lab: Triple): number[] {
  return linear(lab).map((part) => {
    const light = Math.min(1, Math.max(0, part));
    const curved = light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055;
    return Math.round(255 * curved);
  });
}
