// Text and numbers in HTML.

/** Escapes text for HTML, between tags or in a quoted attribute. */
export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (mark) => `&#${mark.codePointAt(0)};`);
}

/** A loss with three decimals; smaller ones with three digits. */
export function lossText(loss: number): string {
  if (!Number.isFinite(loss)) return "not a number";
  return loss !== 0 && Math.abs(loss) < 0.01 ? `${Number(loss.toPrecision(3))}` : loss.toFixed(3);
}

/** A fraction as a percentage in a style or in SVG: `37.25%`. */
export function percent(share: number): string {
  return `${Number((100 * share).toFixed(3))}%`;
}

/** `1 clip`, `2 clips`. */
export function count(n: number, noun: string): string {
  return `${wholeText(n)} ${n === 1 ? noun : `${noun}s`}`;
}

/** A whole number with thousands separators. */
export function wholeText(n: number): string {
  return thousands(`${Math.round(n)}`);
}

/** Digits with thousands separators: `1,234,567.5`; decimals are unchanged. */
export function thousands(digits: string): string {
  const [whole, ...fraction] = digits.split(".");
  return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...fraction].join(".");
}

/** Seconds as `48 s`, `4 min 12 s` or `3 h 5 min`. */
export function durationText(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${wholeText(Math.floor(minutes / 60))} h ${minutes % 60} min`;
}
