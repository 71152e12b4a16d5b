// Builds one function: nested blocks of instructions in which every value is a local. A value is
// computed once, in the outermost block that has all its dependencies, so loops repeat no
// loop-invariant work.
import {
  access,
  type Bytes,
  call,
  doWhile,
  type Func,
  get,
  i32,
  type Instruction,
  instruction,
  onLane,
  set,
  shuffle,
  type Type,
  when,
  words,
} from "./encode.ts";

/** A value in a local; a constant integer has no local. */
export interface Value {
  readonly type: Type;
  readonly local: number;
  readonly known?: number;
  /** The maximum of a non-negative integer. */
  readonly most?: number;
  /** The depth of the block that computes it. */
  readonly level: number;
  /** Whether it may differ between the lanes of a vector. */
  readonly varies: boolean;
}

/** A local that is written more than once. */
export interface Variable {
  readonly type: Type;
  readonly local: number;
}

interface Block {
  readonly code: number[];
  readonly variables: ReadonlySet<string>;
  readonly memo: Map<string, Value>;
  /** The vectors computed in it. */
  readonly vectors: number[];
  readonly trips: number;
}

/** Builds one function. */
export interface Builder {
  /** The value of an instruction, computed in the outermost block that has all its operands. */
  readonly op: (name: Instruction, ...args: readonly Value[]) => Value;
  /** One lane of a vector: an i32, or for an f32 splat its scalar. */
  readonly extract: (of: Value, lane: number) => Value;
  /** `of` with the first lane of `by` in place of `lane`. */
  readonly replace: (of: Value, lane: number, by: Value) => Value;
  readonly shuffle: (a: Value, b: Value, lanes: readonly number[]) => Value;
  /** A load that the function does not overwrite before. */
  readonly load: (
    how: "i32.load" | "v128.load" | "v128.load32_splat" | "v128.load32_zero" | "v128.load64_zero",
    address: Value,
    offset: number,
  ) => Value;
  /** `into` with one lane read from memory. */
  readonly loadLane: (into: Value, lane: number, address: Value, offset: number) => Value;
  /** A load, at this point. */
  readonly loadUnhoisted: (
    how: "v128.load" | "v128.load32_splat" | "v128.load32_zero" | "v128.load64_zero",
    address: Value,
    offset: number,
  ) => Value;
  /** A store, at this point. */
  readonly store: (
    how: "v128.store" | "v128.store32_lane" | "v128.store64_lane",
    address: Value,
    offset: number,
    value: Value,
    lane?: number,
  ) => void;
  readonly whole: (value: number) => Value;
  /** A vector of four 32-bit values. */
  readonly vector: (of: readonly number[]) => Value;
  readonly splat: (float: number) => Value;
  /** A parameter of the function. */
  readonly parameter: (index: number) => Value;
  readonly variable: (type: Type, from: Value) => Variable;
  readonly assign: (to: Variable, value: Value) => void;
  /** The current value of a variable. */
  readonly current: (of: Variable, varies?: boolean) => Value;
  readonly call: (index: number, args: readonly Value[]) => void;
  /** Runs `inside` in a loop from `from` while below `to`. */
  readonly loop: (
    name: string,
    from: Value,
    to: Value,
    step: number,
    trips: number,
    inside: (at: Value) => void,
  ) => void;
  /** As {@linkcode Builder.loop}, down from `from` to 0. */
  readonly loopDown: (
    name: string,
    from: Value,
    trips: number,
    inside: (at: Value) => void,
  ) => void;
  /** Prints `inside` under a condition; with a name, that variable is set there. */
  readonly when: (
    condition: Value | undefined,
    inside: () => void,
    names?: readonly string[],
  ) => void;
  readonly depth: () => number;
  readonly levelOf: (names: readonly string[]) => number;
  /** Vector operations so far, those in loops times their iterations. */
  readonly work: () => number;
  readonly func: () => Func;
}

const floatBits = (value: number): number => {
  const bits = new DataView(new ArrayBuffer(4));
  bits.setFloat32(0, value);
  return bits.getUint32(0);
};

const isVector = (name: string) => !name.startsWith("i32.") && name !== "v128.any_true";
const isFloat = (name: string) => name.startsWith("f32x4");

/**
 * A new builder of a function of `params` integers. With `forgets`, vectors of a block are dropped
 * after it: an engine that fuses vectors would keep loop-carried ones in registers for nothing.
 */
export const builder = (params: number, forgets = false): Builder => {
  const block = (names: readonly string[], trips: number): Block => ({
    code: [],
    variables: new Set(names),
    memo: new Map(),
    vectors: [],
    trips,
  });
  const blocks: Block[] = [block([], 1)];
  const locals: Type[] = [];
  let work = 0;
  const depth = () => blocks.length - 1;
  /** A local of a block: the current one, or an enclosing one. */
  const fresh = (type: Type, level = depth()): number => {
    const local = params + locals.push(type) - 1;
    if (type === "v128") blocks[level].vectors.push(local);
    return local;
  };
  const push = (level: number, ...pieces: readonly Bytes[]) => {
    const { code } = blocks[level];
    for (const piece of pieces) for (const byte of piece) code.push(byte);
  };
  const read = (of: Value): Bytes => of.known === undefined ? get(of.local) : i32(of.known);
  const keyOf = (of: Value): string => of.known === undefined ? `${of.local}` : `#${of.known}`;
  const tripsTo = (level: number): number => {
    let n = 1;
    for (let k = 0; k <= level; k++) n *= blocks[k].trips;
    return n;
  };

  /** A value in a new local, computed at most once, at the level of its operands. */
  const define = (type: Type, key: string, code: Bytes, args: readonly Value[]): Value => {
    const level = Math.max(0, ...args.map((arg) => arg.level));
    const varies = args.some((arg) => arg.varies);
    const full = `${key} ${args.map(keyOf).join()}`;
    const found = blocks[level].memo.get(full);
    if (found !== undefined) return found;
    const local = fresh(type, level);
    push(level, ...args.map(read), code, set(local));
    const value = { type, local, level, varies };
    blocks[level].memo.set(full, value);
    return value;
  };

  const whole = (value: number): Value => ({
    type: "i32",
    local: -1,
    known: value | 0,
    level: 0,
    varies: false,
  });

  const op: Builder["op"] = (name, ...args) => {
    const type = isVector(name) ? "v128" : "i32";
    if (isFloat(name)) {
      const level = Math.max(0, ...args.map((arg) => arg.level));
      work += tripsTo(level) * (name.includes("madd") ? 2 : 1);
    }
    const [a, b] = args;
    if (type === "i32" && name !== "select" && args.every((arg) => arg.known !== undefined)) {
      const x = a.known!, y = b?.known ?? 0;
      if (name === "i32.add") return whole(x + y);
      if (name === "i32.sub") return whole(x - y);
      if (name === "i32.mul") return whole(Math.imul(x, y));
    }
    if (name === "i32.mul" && b.known !== undefined) {
      if (b.known === 1) return a;
      const shift = Math.log2(b.known);
      if (b.known > 0 && Number.isInteger(shift)) return op("i32.shl", a, whole(shift));
    }
    if (name === "i32.add" && b.known === 0) return a;
    if (name === "i32.add" && a.known === 0) return b;
    return define(name === "select" ? a.type : type, name, instruction[name], args);
  };

  const extract: Builder["extract"] = (of, lane) =>
    define("i32", `extract ${lane}`, [0xfd, onLane["i32x4.extract_lane"], lane], [of]);
  const replace: Builder["replace"] = (of, lane, by) =>
    define(
      "v128",
      `replace ${lane}`,
      [0xfd, onLane["f32x4.extract_lane"], 0, 0xfd, onLane["f32x4.replace_lane"], lane],
      [of, by],
    );

  const loadUnhoisted: Builder["loadUnhoisted"] = (how, address, offset) => {
    const local = fresh("v128");
    push(depth(), read(address), access[how](offset), set(local));
    return { type: "v128", local, level: depth(), varies: true };
  };

  /** A local that is never written. */
  let nothing: number | undefined;
  const enter = (names: readonly string[], trips: number, inside: () => void): Bytes => {
    blocks.push(block(names, trips));
    inside();
    const { code, vectors } = blocks.pop()!;
    if (forgets && vectors.length > 0) {
      nothing ??= fresh("v128", 0);
      for (const local of vectors) code.push(...get(nothing), ...set(local));
    }
    return code;
  };

  const loop: Builder["loop"] = (name, from, to, step, trips, inside) => {
    const local = fresh("i32");
    const at: Value = { type: "i32", local, level: depth() + 1, varies: false };
    const body = enter([name], trips, () => inside(at));
    const next: Bytes = [
      ...get(local),
      ...i32(step),
      ...instruction["i32.add"],
      ...set(local),
    ];
    const again = (code: Bytes) => [...get(local), ...code, ...instruction["i32.lt_s"]];
    push(depth(), read(from), set(local));
    const whole = doWhile([...body, ...next], again(read(to)));
    const surely = from.known !== undefined && to.known !== undefined && from.known < to.known;
    push(depth(), surely ? whole : when(again(read(to)), whole));
  };

  const loopDown: Builder["loopDown"] = (name, from, trips, inside) => {
    const local = fresh("i32");
    const at: Value = { type: "i32", local, level: depth() + 1, varies: false };
    const body = enter([name], trips, () => inside(at));
    const next: Bytes = [...get(local), ...i32(-1), ...instruction["i32.add"], ...set(local)];
    const again: Bytes = [...get(local), ...i32(0), ...instruction["i32.ge_s"]];
    push(depth(), read(from), set(local), when(again, doWhile([...body, ...next], again)));
  };

  return {
    op,
    extract,
    replace,
    shuffle: (a, b, lanes) => define("v128", `shuffle ${lanes}`, shuffle(lanes), [a, b]),
    load: (how, address, offset) =>
      define(
        how === "i32.load" ? "i32" : "v128",
        `${how} ${offset}`,
        access[how](offset),
        [address],
      ),
    loadLane: (into, lane, address, offset) =>
      define(
        "v128",
        `lane ${lane} ${offset}`,
        access["v128.load32_lane"](offset, lane),
        [address, into],
      ),
    loadUnhoisted: loadUnhoisted,
    store: (how, address, offset, value, lane = 0) =>
      push(depth(), read(address), get(value.local), access[how](offset, lane)),
    whole,
    vector: (of) => define("v128", `const ${of.map((word) => word >>> 0)}`, words(of), []),
    splat: (float) => {
      const bits = floatBits(float);
      return define(
        "v128",
        `const ${[bits, bits, bits, bits]}`,
        words([bits, bits, bits, bits]),
        [],
      );
    },
    parameter: (index) => ({ type: "i32", local: index, level: 0, varies: false }),
    variable: (type, from) => {
      const local = fresh(type);
      push(depth(), read(from), set(local));
      return { type, local };
    },
    assign: (to, value) => push(depth(), read(value), set(to.local)),
    current: (of, varies = true) => {
      const local = fresh(of.type);
      push(depth(), get(of.local), set(local));
      return { type: of.type, local, level: depth(), varies };
    },
    call: (index, args) => push(depth(), ...args.map(read), call(index)),
    loop,
    loopDown,
    when: (condition, inside, names = []) => {
      const body = enter(names, 1, inside);
      if (condition === undefined) push(depth(), body);
      else push(depth(), when(read(condition), body));
    },
    depth,
    levelOf: (names) => {
      for (let level = depth(); level > 0; level--) {
        if (names.some((name) => blocks[level].variables.has(name))) return level;
      }
      return 0;
    },
    work: () => work,
    func: () => {
      if (blocks.length !== 1) throw new Error("a block of a kernel was not closed");
      return { params, locals, body: blocks[0].code };
    },
  };
};
