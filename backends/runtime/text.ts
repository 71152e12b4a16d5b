// Names from files in messages: truncated, and without control characters, which a terminal would
// execute.

/** A text without control characters, those that reverse the direction of writing, and the like. */
export const plain = (text: string): string =>
  text.replaceAll(
    // deno-lint-ignore no-control-regex
    /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** A text in single quotes, cut where it would fill the line, without control characters. */
export const quoted = (text: string): string =>
  `'${plain(text.length <= 100 ? text : `${text.slice(0, 97)}...`)}'`;
