// The protocol between a decoder process and its client.

/** A decoding request. */
export interface Wanted {
  /** Sample rate of the result in Hz. */
  readonly rate: number;
  /** Minimum length of a recording in seconds. */
  readonly shortest: number;
}

/** Numbers at the start of a request: bytes of the file that follows, rate in Hz, minimum seconds. */
export const requestNumbers = 3;

/** Numbers at the start of an answer: bytes of an error as JSON, and the number of samples after it. */
export const answerNumbers = 2;

/** Length in bytes of the handshake that the process writes when it is ready. */
export const greeting = 1;
