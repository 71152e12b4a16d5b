// Progress of a run: on a terminal one line that is redrawn, elsewhere (a file, a pipe, CI) a plain line
// every few seconds. The text of a line is a pure function of the state.

/** The state of a run. */
export interface ProgressState {
  /** What is counted; a training step by default. */
  readonly unit?: string;
  /** Updates made so far. */
  readonly step: number;
  /** Updates of the whole run. */
  readonly steps: number;
  /** The step at which this process started: 0, or that of the checkpoint it resumed from. */
  readonly from: number;
  /** Seconds of training in this process. */
  readonly elapsed: number;
  /** Loss of the last batch. */
  readonly loss?: number;
  /** The last held-out loss. */
  readonly heldOutLoss?: number;
  /** Training clips per second. */
  readonly clipsPerSecond?: number;
}

/** Where progress is written. */
export interface ProgressOutput {
  /** Writes the text as it is; no newline is added. */
  readonly write: (text: string) => void;
  /** Whether lines can be overwritten. */
  readonly terminal: boolean;
  /** Columns of the terminal; queried at every drawing, since windows are resized. */
  readonly columns: () => number;
}

/** A progress display. */
export interface Progress {
  /** Shows the state; cheap enough to call at every step. */
  readonly update: (state: ProgressState) => void;
  /** Writes a separate line, e.g. that a checkpoint was written. */
  readonly note: (text: string) => void;
  /** Shows the last state permanently and ends the line. Also right after an interrupt. */
  readonly finish: () => void;
}

/** Shows progress on an output. */
export function progress(output: ProgressOutput): Progress {
  return output.terminal ? drawn(output) : written(output);
}

/**
 * Standard error: results on standard output stay clean. A run continues when the reader of its output
 * is gone, as after a terminal was closed.
 */
export function standardError(): ProgressOutput {
  const encoder = new TextEncoder();
  return {
    write: (text) => {
      const bytes = encoder.encode(text);
      try {
        for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
      } catch {
        // metrics.jsonl has the same numbers.
      }
    },
    terminal: Deno.stderr.isTerminal(),
    columns: () => {
      try {
        return Deno.consoleSize().columns;
      } catch {
        return 80;
      }
    },
  };
}

/** Shows nothing. */
export const silence: ProgressOutput = { write: () => {}, terminal: false, columns: () => 80 };

const clearLine = "\r\x1b[K";

// At most ten redraws per second.
function drawn(output: ProgressOutput): Progress {
  let state: ProgressState | undefined;
  let shown = -Infinity;
  const draw = (now: ProgressState): void => {
    shown = now.elapsed;
    output.write(clearLine + render(now, output.columns() - 1));
  };
  return {
    update: (now) => {
      state = now;
      if (now.elapsed - shown >= 0.1 || now.step >= now.steps) draw(now);
    },
    note: (text) => {
      output.write(`${clearLine}${text}\n`);
      if (state !== undefined) draw(state);
    },
    finish: () => {
      if (state === undefined) return;
      draw(state);
      output.write("\n");
      state = undefined;
    },
  };
}

const secondsBetweenLines = 5;

function written(output: ProgressOutput): Progress {
  let state: ProgressState | undefined;
  let said: ProgressState | undefined;
  const say = (now: ProgressState): void => {
    if (said?.step === now.step) return;
    said = now;
    output.write(`${plainLine(now)}\n`);
  };
  return {
    update: (now) => {
      state = now;
      const since = said === undefined ? Infinity : now.elapsed - said.elapsed;
      if (since >= secondsBetweenLines || now.step >= now.steps) say(now);
    },
    note: (text) => output.write(`${text}\n`),
    finish: () => {
      if (state !== undefined) say(state);
      state = undefined;
    },
  };
}

/**
 * One line of at most `width` columns: a bar and as much of step, loss, time left, clips per second and
 * held-out loss, in this order of importance, as fits.
 */
export function render(state: ProgressState, width: number): string {
  const step = `${state.step}/${state.steps}`.padStart(2 * `${state.steps}`.length + 1);
  const facts = factsOf(state);
  // Items in the order of the line; the highest rank is dropped first.
  const wanted = [
    { text: facts.loss, rank: 0 },
    { text: facts.heldOut, rank: 3 },
    { text: facts.speed, rank: 2 },
    { text: facts.left, rank: 1 },
  ].flatMap(({ text, rank }) => text === undefined ? [] : [{ text, rank }]);
  const leastBar = 8;
  const length = (upTo: number): number =>
    wanted.filter((fact) => fact.rank < upTo)
      .reduce((sum, fact) => sum + 2 + fact.text.length, step.length + 2 + leastBar);
  let upTo = 4;
  while (upTo > 0 && length(upTo) > width) upTo--;
  if (length(upTo) > width) return step.trimStart().slice(0, Math.max(0, width));
  const room = Math.min(40, leastBar + width - length(upTo));
  const line = [
    step,
    bar(state.step / state.steps, room),
    ...wanted.filter((fact) => fact.rank < upTo).map((fact) => fact.text),
  ];
  return line.join("  ");
}

/** One line with everything, for output that is not a terminal. */
export function plainLine(state: ProgressState): string {
  const { loss, heldOut, speed, left } = factsOf(state);
  return [`${state.unit ?? "step"} ${state.step} of ${state.steps}`, loss, heldOut, speed, left]
    .filter((fact) => fact !== undefined).join(", ");
}

interface Facts {
  readonly loss?: string;
  readonly heldOut?: string;
  readonly speed?: string;
  readonly left?: string;
}

function factsOf(state: ProgressState): Facts {
  const done = state.step - state.from;
  const { loss, heldOutLoss, clipsPerSecond } = state;
  return {
    loss: loss === undefined ? undefined : `loss ${loss.toFixed(4)}`,
    heldOut: heldOutLoss === undefined ? undefined : `held-out ${heldOutLoss.toFixed(4)}`,
    speed: clipsPerSecond === undefined
      ? undefined
      : `${clipsPerSecond.toFixed(clipsPerSecond < 100 ? 1 : 0)} clips/s`,
    left: state.step >= state.steps
      ? `took ${clock(state.elapsed)}`
      : done <= 0
      ? undefined
      : `${clock(state.elapsed / done * (state.steps - state.step))} left`,
  };
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

// A bar of exactly `width` columns, filled to an eighth of a column.
function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const full = "█".repeat(Math.floor(filled / 8)) + eighths[filled % 8];
  return full + "·".repeat(width - full.length);
}

/** Seconds as `0:07`, `12:40` or `3:05:09`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number): string => `${n}`.padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
