// Decodes one recording to mono samples: container, integrity, decoding, resampling. Decoders are
// WebAssembly modules that read untrusted files, so this runs in a separate process
// (decoder_process.ts), whose engine checks their memory accesses.
import decodeAudio from "audio-decode";
import libsamplerate from "libsamplerate";
import * as E from "fp-ts/Either.js";
import { loudestSample, type RecordingError, recordingRates } from "./errors.ts";
import type { Wanted } from "./decoder_protocol.ts";
import { containerOf, damage, plainWav, promisedSamples, withoutId3 } from "./container.ts";
import { reasonOf } from "../../io/reason.ts";

/** Decodes one recording at a time. */
export type Decode = (
  file: Uint8Array,
  wanted: Wanted,
) => Promise<E.Either<RecordingError, Float32Array>>;

/** A decoder that caches its resamplers by rate. */
export const decoder = (): Decode => {
  const resample = resampler();
  return async (file, { rate: to, shortest }) => {
    if (file.length === 0) return E.left({ _tag: "EmptyFile" });
    const bytes = withoutId3(file);
    const container = containerOf(bytes);
    if (container === undefined) return E.left({ _tag: "UnknownContainer" });
    const problem = damage(container, bytes);
    if (problem !== undefined) return E.left({ _tag: "Damaged", problem });

    let channels: readonly Float32Array[], rate: number;
    try {
      ({ channelData: channels, sampleRate: rate } = await decodeAudio(
        container === "wav" ? plainWav(bytes) : bytes,
      ));
    } catch (error) {
      const reason = reasonOf(error);
      return E.left({ _tag: "Undecodable", reason });
    }
    const length = channels[0]?.length ?? 0;
    const promised = promisedSamples(container, bytes);
    if (promised !== undefined && length < promised) {
      const problem = `it should hold ${promised} samples, but ${length} can be decoded`;
      return E.left({ _tag: "Damaged", problem });
    }
    if (length === 0) return E.left({ _tag: "TooShort", seconds: 0, shortest });
    if (!(rate >= recordingRates.least && rate <= recordingRates.most)) {
      return E.left({ _tag: "StrangeRate", rate });
    }
    if (length < shortest * rate) {
      return E.left({ _tag: "TooShort", seconds: length / rate, shortest });
    }
    const mono = meanOf(channels);
    const bad = mono.findIndex((sample) => !(Math.abs(sample) <= loudestSample));
    if (bad >= 0) {
      // The mean of finite samples may overflow.
      const seconds = bad / rate, samples = channels.map((channel) => channel[bad]);
      return samples.every(Number.isFinite)
        ? E.left({ _tag: "TooLoud", seconds, sample: samples.reduce(larger) })
        : E.left({ _tag: "NotFinite", seconds });
    }
    return E.right(await resample(mono, rate, to));
  };
};

const larger = (a: number, b: number): number => Math.abs(b) > Math.abs(a) ? b : a;

function meanOf(channels: readonly Float32Array[]): Float32Array {
  const [first, ...others] = channels;
  if (others.length === 0) return first;
  return first.map((sample, i) =>
    others.reduce((sum, channel) => sum + channel[i], sample) / channels.length
  );
}

type Resample = (samples: Float32Array, rate: number, to: number) => Promise<Float32Array>;

// Creating a resampler costs as much as resampling a second of audio, so one is cached for each pair of
// rates; its state does not leak into the next recording if each is passed whole.
function resampler(): Resample {
  const { create, ConverterType } = libsamplerate;
  const options = { converterType: ConverterType.SRC_SINC_MEDIUM_QUALITY };
  const converters = new Map<string, ReturnType<typeof create>>();
  return async (samples, rate, to) => {
    if (rate === to) return samples;
    const length = Math.round(samples.length * to / rate);
    // Silence is appended to flush the filter's tail.
    const padded = new Float32Array(samples.length + Math.ceil(rate / 20));
    padded.set(samples);
    if (Math.max(padded.length, length + to) > wholeLimit) {
      const converter = await create(1, rate, to, options);
      try {
        return converter.simple(padded).slice(0, length);
      } finally {
        converter.destroy();
      }
    }
    const key = `${rate} to ${to}`;
    const converter = converters.get(key) ?? create(1, rate, to, options);
    converters.set(key, converter);
    return (await converter).simple(padded).slice(0, length);
  };
}

// Longer recordings are resampled in pieces, which leaves state in the resampler.
const wholeLimit = 1_000_000;
