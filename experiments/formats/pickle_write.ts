// Writes Python's pickle format, protocol 2, for plain data: `pickle.load` of any Python 3 returns it as
// None, bool, int, float, str, list and dict.

/** A value that can be pickled. Whole numbers become int, others float. */
export type Picklable =
  | null
  | boolean
  | number
  | string
  | readonly Picklable[]
  | { readonly [key: string]: Picklable };

/** A value as a pickle. Throws for a string with an unpaired surrogate, which has no UTF-8. */
export const pickle = (value: Picklable): Uint8Array<ArrayBuffer> => {
  const parts: Uint8Array[] = [Uint8Array.of(0x80, 2)];
  write(value, (...bytes) => parts.push(Uint8Array.from(bytes)), (bytes) => parts.push(bytes));
  parts.push(Uint8Array.of(code("."))); // STOP
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

const code = (sign: string): number => sign.charCodeAt(0);

function write(
  value: Picklable,
  op: (...bytes: readonly number[]) => void,
  raw: (bytes: Uint8Array) => void,
): void {
  if (value === null) op(code("N"));
  else if (typeof value === "boolean") op(value ? 0x88 : 0x89); // NEWTRUE, NEWFALSE
  else if (typeof value === "string") {
    if (!value.isWellFormed()) throw new RangeError(`${JSON.stringify(value)} has no UTF-8`);
    const text = new TextEncoder().encode(value);
    op(code("X"), ...littleEndian(text.length)); // BINUNICODE
    raw(text);
  } else if (typeof value === "number") {
    if ((value | 0) === value && !Object.is(value, -0)) {
      op(code("J"), ...littleEndian(value)); // BININT
    } else if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigInt64(0, BigInt(value), true);
      op(0x8a, 8, ...bytes); // LONG1
    } else {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setFloat64(0, value);
      op(code("G"), ...bytes); // BINFLOAT, big-endian
    }
  } else if (isList(value)) {
    op(code("]"), code("(")); // EMPTY_LIST, MARK
    for (const item of value) write(item, op, raw);
    op(code("e")); // APPENDS
  } else {
    op(code("}"), code("(")); // EMPTY_DICT, MARK
    for (const [key, item] of Object.entries(value)) {
      write(key, op, raw);
      write(item, op, raw);
    }
    op(code("u")); // SETITEMS
  }
}

// Array.isArray does not narrow readonly arrays out of a union.
const isList = (value: Picklable): value is readonly Picklable[] => Array.isArray(value);

const littleEndian = (word: number): readonly number[] =>
  [0, 8, 16, 24].map((shift) => (word >> shift) & 0xff);
