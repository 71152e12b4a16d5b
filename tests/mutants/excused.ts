// Changes that no test can notice, each with the reason: the program that comes out is the same. They
// are listed when they are drawn, and another change is drawn in their place.

/** A change by its file and the lines that it touches, as the tool prints them. */
export interface Excuse {
  readonly file: string;
  readonly before: string;
  readonly after: string;
  readonly why: string;
}

export const excused: readonly Excuse[] = [];

/** At most so many of a hundred. */
export const mostExcused = 5;
