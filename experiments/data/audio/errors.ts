// Errors of single recordings, and limits on recordings.

/** Supported sample rates in Hz. */
export const recordingRates = { least: 1000, most: 768_000 } as const;

/**
 * The largest accepted sample magnitude; sound is nominally within -1 to 1. Above about 10¹⁷ the power of
 * a frame overflows float32, and no recording is as loud as that.
 */
export const loudestSample = 1e15;

/** Why one recording could not be used. */
export type RecordingError =
  | { readonly _tag: "Unreadable"; readonly reason: string }
  | { readonly _tag: "EmptyFile" }
  | { readonly _tag: "UnknownContainer" }
  | { readonly _tag: "Damaged"; readonly problem: string }
  | { readonly _tag: "Undecodable"; readonly reason: string }
  | { readonly _tag: "StrangeRate"; readonly rate: number }
  | { readonly _tag: "TooShort"; readonly seconds: number; readonly shortest: number }
  | { readonly _tag: "NotFinite"; readonly seconds: number }
  | { readonly _tag: "TooLoud"; readonly seconds: number; readonly sample: number };

/** Why one recording could not be used, to follow its path. */
export function recordingErrorText(error: RecordingError): string {
  switch (error._tag) {
    case "Unreadable":
      return `it cannot be read: ${error.reason}`;
    case "EmptyFile":
      return "the file is empty";
    case "UnknownContainer":
      return "its content is not wav, flac, ogg or mp3";
    case "Damaged":
      return `it is damaged: ${error.problem}`;
    case "Undecodable":
      return `it cannot be decoded: ${error.reason}`;
    case "StrangeRate":
      return `its sample rate is ${error.rate} Hz, where ${recordingRates.least} to ${recordingRates.most} can be read`;
    case "TooShort":
      return error.seconds === 0
        ? "it holds no samples"
        : `it lasts ${milliseconds(error.seconds)}, less than ${milliseconds(error.shortest)}`;
    case "NotFinite":
      return `the sample at ${error.seconds.toFixed(3)} s is not a finite number`;
    case "TooLoud":
      return `the sample at ${error.seconds.toFixed(3)} s is ${
        error.sample.toPrecision(3)
      }, where ` +
        `samples go from -1 to 1 and up to ${loudestSample.toExponential()} are read`;
  }
}

const milliseconds = (seconds: number): string => `${+(seconds * 1000).toPrecision(3)} ms`;
