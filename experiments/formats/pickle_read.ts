// Reads Python's pickle format, as far as PyTorch writes it (protocols 2 to 5), as data. A pickle is a
// program that may call anything that Python can import; here it can only build numbers, strings, tuples,
// lists and dicts, and use the few names that the caller defines. Any other name is an error: no code
// from a file ever runs.
import * as E from "fp-ts/Either.js";
import { quoted } from "../../backends/runtime/text.ts";

/** A value in a pickle. `Known` is the type of what the caller's names build. */
export type Value<Known> =
  | null
  | boolean
  | number
  | bigint
  | string
  | Tuple<Known>
  | List<Known>
  | Dict<Known>
  | Name
  | Other<Known>;

/** A tuple. `depth` counts nested containers, this one included. */
export interface Tuple<Known> {
  readonly kind: "tuple";
  readonly items: readonly Value<Known>[];
  readonly depth: number;
}

/** A list. */
export interface List<Known> {
  readonly kind: "list";
  readonly items: Value<Known>[];
  depth: number;
}

/** A dict; keys other than strings and numbers are not compared by value. */
export interface Dict<Known> {
  readonly kind: "dict";
  /** Its Python type: a plain or ordered dict, or an object that only has fields. */
  readonly type: "dict" | "OrderedDict" | "Namespace";
  readonly entries: Map<Value<Known>, Value<Known>>;
  depth: number;
}

/** A name that Python would import, such as `torch.FloatStorage`. */
export interface Name {
  readonly kind: "name";
  readonly name: string;
}

/** A value built by one of the caller's names. */
export interface Other<Known> {
  readonly kind: "other";
  readonly value: Known;
}

/** Why a pickle cannot be read; `at` is an offset in bytes. */
export type PickleError =
  /** It uses something that could run code; `what` names it. */
  | { readonly _tag: "Refused"; readonly at: number; readonly what: string }
  | { readonly _tag: "BadPickle"; readonly at: number; readonly problem: string };

/** The meaning of names and persistent ids. On the left, what is wrong with the arguments, in words. */
export interface Meanings<Known> {
  /** The result of calling a name; undefined for names that may only be mentioned, such as types. */
  readonly names: ReadonlyMap<
    string,
    ((args: readonly Value<Known>[]) => E.Either<string, Value<Known>>) | undefined
  >;
  /** The value of a persistent id: in PyTorch's files, a storage. */
  readonly reference: (id: Value<Known>) => E.Either<string, Value<Known>>;
}

const most = {
  /** Instructions: about 130 for each parameter of a model that is saved with its optimiser. */
  instructions: 2 ** 19,
  /** Values on the stack, and in the memo. */
  stack: 2 ** 18,
  memo: 2 ** 19,
  /** Nesting of containers. */
  depth: 100,
  /** Bytes of an integer. */
  integer: 64,
};

/** An empty dict of a given type. */
export const emptyDict = <Known>(type: Dict<Known>["type"]): Dict<Known> => ({
  kind: "dict",
  type,
  entries: new Map(),
  depth: 1,
});

/** The value that a pickle describes. */
export const unpickle = <Known>(
  bytes: Uint8Array,
  meanings: Meanings<Known>,
): E.Either<PickleError, Value<Known>> => {
  const machine = start<Known>(bytes, meanings);
  try {
    return E.right(run(machine));
  } catch (stopped) {
    if (stopped instanceof Stop) return E.left(stopped.error);
    throw stopped;
  }
};

// ---------------------------------------------------------------- the machine

// Thrown to end reading from within an instruction; caught in this file.
class Stop {
  constructor(readonly error: PickleError) {}
}

interface Machine<Known> {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly meanings: Meanings<Known>;
  /** Offset of the next byte, and of the current instruction. */
  next: number;
  at: number;
  readonly stack: Value<Known>[];
  /** Stack heights of the marks. */
  readonly marks: number[];
  readonly memo: Map<number, Value<Known>>;
}

const start = <Known>(bytes: Uint8Array, meanings: Meanings<Known>): Machine<Known> => ({
  bytes,
  view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  meanings,
  next: 0,
  at: 0,
  stack: [],
  marks: [],
  memo: new Map(),
});

const run = <Known>(m: Machine<Known>): Value<Known> => {
  const protocol = m.bytes[1];
  if (m.bytes[0] !== 0x80 || !(protocol >= 2 && protocol <= 5)) {
    return fail(m, "it does not begin as a pickle of protocol 2 to 5");
  }
  for (let count = 0; count < most.instructions; count++) {
    m.at = m.next;
    const code = m.bytes[take(m, 1)];
    if (code === stop) {
      const value = pop(m);
      if (m.stack.length > 0) fail(m, "it ends with more than one value");
      return m.next === m.bytes.length ? value : fail(m, "there are bytes after its end");
    }
    const act = instructions[code] as ((m: Machine<Known>) => void) | undefined;
    if (act === undefined) unknown(m, code);
    else act(m);
    if (m.stack.length > most.stack || m.marks.length > most.stack) {
      return fail(m, `more than ${most.stack} values are on its stack`);
    }
  }
  return fail(m, `it has more than ${most.instructions} instructions`);
};

const fail = <Known>({ at }: Machine<Known>, problem: string): never => {
  throw new Stop({ _tag: "BadPickle", at, problem });
};

const refuse = <Known>({ at }: Machine<Known>, what: string): never => {
  throw new Stop({ _tag: "Refused", at, what });
};

/** Offset of the next `count` bytes, which are consumed. */
const take = <Known>(m: Machine<Known>, count: number): number => {
  const from = m.next;
  if (count > m.bytes.length - from) fail(m, "it ends in the middle");
  m.next = from + count;
  return from;
};

const pop = <Known>(m: Machine<Known>): Value<Known> => {
  const floor = m.marks.at(-1) ?? 0;
  return m.stack.length > floor ? m.stack.pop()! : fail(m, "it takes a value that is not there");
};

const top = <Known>(m: Machine<Known>): Value<Known> => {
  const value = pop(m);
  m.stack.push(value);
  return value;
};

const popToMark = <Known>(m: Machine<Known>): Value<Known>[] => {
  const from = m.marks.pop();
  return from === undefined ? fail(m, "it takes a mark that is not there") : m.stack.splice(from);
};

const depthOf = <Known>(value: Value<Known>): number =>
  typeof value === "object" && value !== null && "depth" in value ? value.depth : 0;

/** The depth of a container of these values. */
const around = <Known>(m: Machine<Known>, values: readonly Value<Known>[]): number => {
  const depth = values.reduce((deepest: number, value) => Math.max(deepest, depthOf(value)), 0) + 1;
  return depth <= most.depth
    ? depth
    : fail(m, `its containers are more than ${most.depth} deep inside one another`);
};

const push = <Known>(m: Machine<Known>, value: Value<Known>): void => {
  m.stack.push(value);
};

const pushTuple = <Known>(m: Machine<Known>, items: readonly Value<Known>[]): void =>
  push(m, { kind: "tuple", items, depth: around(m, items) });

const popMany = <Known>(m: Machine<Known>, count: number): Value<Known>[] =>
  Array.from({ length: count }, () => pop(m)).reverse();

const append = <Known>(m: Machine<Known>, items: readonly Value<Known>[]): void => {
  const list = top(m);
  if (!isKind(list, "list")) return fail(m, `it appends to ${kindText(list)}`);
  list.depth = Math.max(list.depth, around(m, items));
  for (const item of items) list.items.push(item);
};

const setItems = <Known>(m: Machine<Known>, items: readonly Value<Known>[]): void => {
  const dict = top(m);
  if (!isKind(dict, "dict")) return fail(m, `it sets items of ${kindText(dict)}`);
  if (items.length % 2 !== 0) return fail(m, "it sets a key without a value");
  dict.depth = Math.max(dict.depth, around(m, items));
  for (let k = 0; k < items.length; k += 2) {
    const key = items[k];
    if (isKind(key, "list") || isKind(key, "dict")) fail(m, `a dict's key is ${kindText(key)}`);
    if (dict.entries.has(key)) {
      fail(m, `a dict has ${typeof key === "string" ? quoted(key) : "the same key"} twice`);
    }
    dict.entries.set(key, items[k + 1]);
  }
};

const remember = <Known>(m: Machine<Known>, place: number): void => {
  m.memo.set(place, top(m));
  if (m.memo.size > most.memo) fail(m, `it remembers more than ${most.memo} values`);
};

const recall = <Known>(m: Machine<Known>, place: number): void => {
  const value = m.memo.get(place);
  if (value === undefined) return fail(m, `it recalls value ${place}, which it never remembered`);
  push(m, value);
};

const pushText = <Known>(m: Machine<Known>, length: number): void => {
  const from = take(m, length);
  push(m, utf8(m, m.bytes.subarray(from, from + length)));
};

const utf8 = <Known>(m: Machine<Known>, bytes: Uint8Array): string => {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail(m, "one of its texts is not UTF-8");
  }
};

/** An integer from little-endian two's complement bytes; a bigint if a double would round it. */
const pushInteger = <Known>(m: Machine<Known>, length: number): void => {
  if (length > most.integer) fail(m, `one of its numbers has ${length} bytes`);
  const from = take(m, length);
  let n = 0n;
  for (let k = length - 1; k >= 0; k--) n = n << 8n | BigInt(m.bytes[from + k]);
  const signed = BigInt.asIntN(8 * length, n), plain = Number(signed);
  push(m, Number.isSafeInteger(plain) ? plain : signed);
};

const line = <Known>(m: Machine<Known>): string => {
  const end = m.bytes.indexOf(0x0a, m.next);
  if (end < 0) return fail(m, "it ends in the middle of a name");
  const from = take(m, end + 1 - m.next);
  return utf8(m, m.bytes.subarray(from, end));
};

const pushName = <Known>(m: Machine<Known>, module: string, of: string): void => {
  const name = `${module}.${of}`;
  if (!m.meanings.names.has(name)) refuse(m, name);
  push(m, { kind: "name", name });
};

/** The result of calling a name or instantiating it: only what the caller's table defines. */
const call = <Known>(m: Machine<Known>): void => {
  const args = pop(m), callee = pop(m);
  if (!isKind(callee, "name")) return refuse(m, `a call of ${kindText(callee)}`);
  if (!isKind(args, "tuple")) return fail(m, `${callee.name} gets ${kindText(args)} for arguments`);
  const build = m.meanings.names.get(callee.name);
  if (build === undefined) return refuse(m, `a call of ${callee.name}`);
  const built = build(args.items);
  if (E.isLeft(built)) return fail(m, built.left);
  push(m, built.right);
};

/** Fields of a Namespace; attributes of an OrderedDict, which are ignored. */
const setState = <Known>(m: Machine<Known>): void => {
  const state = pop(m), of = top(m);
  if (!isKind(of, "dict") || of.type === "dict") return refuse(m, `a state for ${kindText(of)}`);
  if (!isKind(state, "dict")) return fail(m, `the state of ${of.type} is ${kindText(state)}`);
  if (of.type === "Namespace") setItems(m, [...state.entries].flat());
};

/** Whether a value is of a kind. */
const isKind = <Known, K extends "tuple" | "list" | "dict" | "name">(
  value: Value<Known>,
  kind: K,
): value is Extract<Value<Known>, { readonly kind: K }> =>
  typeof value === "object" && value !== null && value.kind === kind;

/** The kind of a value, in words. */
export const kindText = <Known>(value: Value<Known>): string => {
  if (value === null) return "None";
  if (typeof value === "string") return "a text";
  if (typeof value === "boolean") return "a boolean";
  if (typeof value !== "object") return "a number";
  if (value.kind === "name") return `the name ${value.name}`;
  if (value.kind === "dict" && value.type !== "dict") return `an ${value.type}`;
  return value.kind === "other" ? "a tensor or storage" : `a ${value.kind}`;
};

// ---------------------------------------------------------------- instructions

type Act = <Known>(m: Machine<Known>) => void;
const codeOf = (letter: string): number => letter.charCodeAt(0);
const stop = codeOf(".");

const byte: <Known>(m: Machine<Known>) => number = (m) => m.bytes[take(m, 1)];
const word: <Known>(m: Machine<Known>) => number = (m) => m.view.getUint32(take(m, 4), true);
const long: <Known>(m: Machine<Known>) => number = (m) =>
  Number(m.view.getBigUint64(take(m, 8), true));

// Named as in Python's pickletools.
const instructions: Readonly<Record<number, Act>> = Object.fromEntries(
  Object.entries<Act>({
    // PROTO, FRAME: the version, and the length of the next frame.
    "\x80": (m) => {
      if (m.at !== 0) fail(m, "it announces its protocol in the middle");
      take(m, 1);
    },
    "\x95": (m) => {
      const length = long(m);
      if (length > m.bytes.length - m.next) fail(m, "it ends in the middle of a frame");
    },
    // NONE, NEWTRUE, NEWFALSE
    N: (m) => push(m, null),
    "\x88": (m) => push(m, true),
    "\x89": (m) => push(m, false),
    // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
    J: (m) => push(m, m.view.getInt32(take(m, 4), true)),
    K: (m) => push(m, byte(m)),
    M: (m) => push(m, m.view.getUint16(take(m, 2), true)),
    "\x8a": (m) => pushInteger(m, byte(m)),
    "\x8b": (m) => pushInteger(m, word(m)),
    G: (m) => push(m, m.view.getFloat64(take(m, 8), false)),
    // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
    X: (m) => pushText(m, word(m)),
    "\x8c": (m) => pushText(m, byte(m)),
    "\x8d": (m) => pushText(m, long(m)),
    // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
    ")": (m) => pushTuple(m, []),
    "\x85": (m) => pushTuple(m, popMany(m, 1)),
    "\x86": (m) => pushTuple(m, popMany(m, 2)),
    "\x87": (m) => pushTuple(m, popMany(m, 3)),
    t: (m) => pushTuple(m, popToMark(m)),
    // EMPTY_LIST, APPEND, APPENDS, EMPTY_DICT, SETITEM, SETITEMS
    "]": (m) => push(m, { kind: "list", items: [], depth: 1 }),
    a: (m) => append(m, popMany(m, 1)),
    e: (m) => append(m, popToMark(m)),
    "}": (m) => push(m, emptyDict("dict")),
    s: (m) => setItems(m, popMany(m, 2)),
    u: (m) => setItems(m, popToMark(m)),
    // MARK, POP, POP_MARK, DUP
    "(": (m) => {
      m.marks.push(m.stack.length);
    },
    "0": (m) => {
      pop(m);
    },
    "1": (m) => {
      popToMark(m);
    },
    "2": (m) => push(m, top(m)),
    // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
    q: (m) => remember(m, byte(m)),
    r: (m) => remember(m, word(m)),
    "\x94": (m) => remember(m, m.memo.size),
    h: (m) => recall(m, byte(m)),
    j: (m) => recall(m, word(m)),
    // GLOBAL, STACK_GLOBAL
    c: (m) => {
      const module = line(m);
      pushName(m, module, line(m));
    },
    "\x93": (m) => {
      const [module, name] = popMany(m, 2);
      if (typeof module !== "string" || typeof name !== "string") {
        return fail(m, "a name that it imports is not a text");
      }
      pushName(m, module, name);
    },
    // REDUCE, NEWOBJ, BUILD, BINPERSID
    R: call,
    "\x81": call,
    b: setState,
    Q: (m) => {
      const found = m.meanings.reference(pop(m));
      if (E.isLeft(found)) return fail(m, found.left);
      push(m, found.right);
    },
  }).map(([letter, act]) => [codeOf(letter), act]),
);

// Instructions that call or import in a way that PyTorch never uses.
const calls: Readonly<Record<number, string>> = {
  [codeOf("i")]: "INST",
  [codeOf("o")]: "OBJ",
  [codeOf("P")]: "PERSID",
  0x92: "NEWOBJ_EX",
  0x82: "EXT1",
  0x83: "EXT2",
  0x84: "EXT4",
};

const unknown = <Known>(m: Machine<Known>, code: number): void => {
  if (code === codeOf("i")) {
    const module = line(m);
    refuse(m, `${module}.${line(m)}`);
  }
  if (calls[code] !== undefined) refuse(m, `the instruction ${calls[code]}`);
  fail(m, `0x${code.toString(16).padStart(2, "0")} is no instruction that PyTorch writes`);
};
