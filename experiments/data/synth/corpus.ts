// The synthesised corpus: training data without recordings. Varied synthetic sounds, a function of the
// seed, without files or network.
import { type Dice, dice, shuffled, subkey } from "./random.ts";
import { scenes } from "./scenes.ts";
import { rate } from "./voices.ts";

/** One synthesised sound. */
export interface SynthesisedClip {
  /** Its index and kind, e.g. `0012-birds`, or `0031-rain+voice` for a mix. */
  readonly name: string;
  /** Mono samples at 16000 Hz, below 1. */
  readonly samples: Float32Array;
}

/** The kinds of synthesised sounds. A mix combines two others. */
export const synthesisedKinds: readonly string[] = [...Object.keys(scenes), "mix"];

/**
 * Synthesises `count` sounds of `seconds` each: plucked figures, chords, melodies, bells, drums, sweeps,
 * birds, a voice, an engine, wind, rain, alarms, knocks, and mixes of two, at varied levels over a faint
 * noise.
 *
 * The same seed, a whole number, gives the same sounds, and a sound does not depend on `count`; all kinds
 * are equally frequent, in an order without a fixed period.
 */
export const synthesise = (
  seed: number,
  count: number,
  seconds: number,
): readonly SynthesisedClip[] => [...synthesisedClips(seed, count, seconds)];

/** The same sounds, generated one at a time. */
export function* synthesisedClips(
  seed: number,
  count: number,
  seconds: number,
): Generator<SynthesisedClip> {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`the seed ${seed} is not a whole number`);
  const length = Math.round(seconds * rate);
  const corpus = subkey(seed, Math.floor(seed / 2 ** 32));
  const kinds = synthesisedKinds.length;
  for (let i = 0; i < count; i++) {
    // Each cycle through the kinds has its own order.
    const order = shuffled(synthesisedKinds, dice(subkey(corpus, -1 - Math.floor(i / kinds))));
    const { kind, samples } = clip(order[i % kinds], length, subkey(corpus, i));
    yield { name: `${String(i).padStart(4, "0")}-${kind}`, samples };
  }
}

interface Clip {
  readonly kind: string;
  readonly samples: Float32Array;
}

function clip(kind: string, length: number, key: number): Clip {
  const own = dice(subkey(key, 0));
  if (kind !== "mix") {
    return { kind, samples: finished(scenes[kind](length, dice(subkey(key, 1))), own) };
  }
  const [a, b] = shuffled(Object.keys(scenes), own);
  const first = scenes[a](length, dice(subkey(key, 1)));
  const second = scenes[b](length, dice(subkey(key, 2)));
  const share = own.scaled(0.3, 1) * peak(first) / peak(second);
  for (let i = 0; i < length; i++) first[i] += share * second[i];
  return { kind: `${a}+${b}`, samples: finished(first, own) };
}

// Scaled to a random level, with microphone noise added and faded at both ends.
function finished(sound: Float32Array, own: Dice): Float32Array {
  const loudest = own.scaled(0.08, 0.9);
  const gain = loudest / peak(sound);
  const floor = loudest * own.scaled(2e-4, 3e-3);
  const noise = own.noise();
  const soft = 0.005 * rate;
  const out = new Float32Array(sound.length);
  for (let i = 0; i < out.length; i++) {
    const edge = Math.min(1, (i + 1) / soft, (out.length - i) / soft);
    out[i] = edge * (gain * sound[i] + floor * noise(i));
  }
  return out;
}

// The largest magnitude. Scenes are not silent at their start, but a sound of length 0 or too short must
// not divide by 0.
function peak(sound: Float32Array): number {
  let most = 1e-9;
  for (let i = 0; i < sound.length; i++) most = Math.max(most, Math.abs(sound[i]));
  return most;
}
