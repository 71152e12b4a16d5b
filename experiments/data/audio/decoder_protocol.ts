// The protocol between a decoder process and its client.

/** What is asked of a decoder. */
export interface Wanted {
  /** Samples per second of the result, in Hz. */
  readonly rate: number;
  /** The shortest recording that is of use, in seconds. */
  readonly shortest: number;
}

/** Numbers at the start of a request: bytes that follow, rate in Hz, shortest in seconds. */
export const requestNumbers = 3;

/** Numbers at the start of an answer: bytes of an error as JSON that follow, and samples after them. */
export const answerNumbers = 2;

/** Bytes that a process writes before it reads. */
export const greeting = 1;
