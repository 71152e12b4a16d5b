// Names out of files as messages show them: a file decides neither how long a message is nor, by
// control characters, what a terminal does.

/** A text in single quotes, cut after 60 characters, control characters as escapes. */
export const quoted = (text: string): string => {
  const cut = text.length <= 60 ? text : `${text.slice(0, 57)}...`;
  const plain = JSON.stringify(cut).slice(1, -1).replaceAll('\\"', '"');
  return `'${plain.replaceAll(/[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g, "?")}'`;
};
