// Parses JSON; errors have a line and a column, which the engine's own message gives only for some.
import * as E from "fp-ts/Either.js";

/** Whether a JSON value is an object: neither a list nor null. */
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Why a text is not JSON. Line and column count from 1. */
export interface JsonError {
  /** What kind of error it is. */
  readonly _tag: "NotJson";
  /** Line of the mistake. */
  readonly line: number;
  /** Column of the mistake, in UTF-16 units. */
  readonly column: number;
  /** What stood there and what could have, e.g. `expected ',' or '}', found "depth"`. */
  readonly problem: string;
}

/** The value of a JSON text, or where the text stops being JSON. */
export function parseJson(text: string): E.Either<JsonError, unknown> {
  try {
    return E.right(JSON.parse(text));
  } catch (error) {
    const { at, expected } = mistake(text);
    const before = text.slice(0, at).split("\n");
    return E.left({
      _tag: "NotJson",
      line: before.length,
      column: before[before.length - 1].length + 1,
      problem: expected === undefined
        ? (error as Error).message
        : `expected ${expected}, found ${shownAt(text, at)}`,
    });
  }
}

// What stands at a position, short enough for a message.
function shownAt(text: string, at: number): string {
  if (at >= text.length) return "the end of the text";
  const word = /^(?:"[^"\n]{0,40}"?|[\w.+-]{1,40}|.)/su.exec(text.slice(at))![0];
  if (word === "\n") return "the end of the line";
  return word.startsWith('"') ? word : word === "'" ? "a single quote" : `'${word}'`;
}

interface Mistake {
  readonly at: number;
  readonly expected?: string;
}

const tokens: Readonly<Record<string, RegExp>> = {
  text: /"(?:[^"\\\p{Cc}]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy,
  scalar: /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?![\w.])/y,
  space: /[ \t\n\r]*/y,
};

// Walks the grammar only to find where the text leaves it.
function mistake(text: string): Mistake {
  const match = (name: string, at: number): number | undefined => {
    const pattern = tokens[name];
    pattern.lastIndex = at;
    return pattern.test(text) ? pattern.lastIndex : undefined;
  };
  const skip = (at: number): number => match("space", at)!;
  const fail = (at: number, expected: string): never => {
    throw { at, expected } satisfies Mistake;
  };
  const string = (at: number, expected: string): number =>
    match("text", at) ??
      fail(at, text[at] === '"' ? "a text that is closed on its line" : expected);

  const isComment = (at: number): boolean => /^(\/\/|\/\*|#)/.test(text.slice(at, at + 2));
  const noComment = "no comment, which JSON does not have";

  const items = (start: number, close: string, item: (at: number) => number): number => {
    let at = skip(start + 1);
    if (text[at] === close) return at + 1;
    for (;;) {
      at = skip(item(at));
      if (text[at] === close) return at + 1;
      if (text[at] !== ",") fail(at, `',' or '${close}'`);
      at = skip(at + 1);
      if (text[at] === close) fail(at, "something after the last comma, or no comma");
    }
  };
  const field = (start: number): number => {
    const at = skip(string(start, isComment(start) ? noComment : "a field name in double quotes"));
    if (text[at] !== ":") fail(at, "':' after the field name");
    return value(skip(at + 1));
  };
  const value = (at: number): number => {
    if (text[at] === "{") return items(at, "}", field);
    if (text[at] === "[") return items(at, "]", value);
    if (text[at] === '"') return string(at, "a text");
    const expected = isComment(at)
      ? noComment
      : text[at] === "'"
      ? "a text in double quotes"
      : "a value";
    return match("scalar", at) ?? fail(at, expected);
  };

  try {
    const end = skip(value(skip(0)));
    return end < text.length ? { at: end, expected: "nothing more" } : { at: end };
  } catch (found) {
    return found as Mistake;
  }
}
