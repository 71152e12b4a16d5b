// The encoder of WebAssembly binaries: only the part of the format that kernels need. A module has
// functions over one imported memory; instructions are plain bytes.

/** Bytes of instructions. */
export type Bytes = readonly number[];

/** The types of values that kernels use. */
export type Type = "i32" | "v128";
const typeByte: Readonly<Record<Type, number>> = { i32: 0x7f, v128: 0x7b };

/** An unsigned number in LEB128. */
export const unsigned = (value: number): Bytes => {
  const bytes: number[] = [];
  let rest = value >>> 0;
  do {
    const low = rest & 0x7f;
    rest >>>= 7;
    bytes.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return bytes;
};

/** A signed 32-bit number in LEB128. */
export const signed = (value: number): Bytes => {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
    bytes.push(done ? low : low | 0x80);
    if (done) return bytes;
  }
};

const simd = (code: number): Bytes => [0xfd, ...unsigned(code)];

/** Instructions without immediate operands, by the names of the specification. */
export const instruction = {
  "i32.eq": [0x46],
  "i32.lt_s": [0x48],
  "i32.lt_u": [0x49],
  "i32.gt_s": [0x4a],
  "i32.ge_s": [0x4e],
  "i32.add": [0x6a],
  "i32.sub": [0x6b],
  "i32.mul": [0x6c],
  "i32.div_u": [0x6e],
  "i32.rem_u": [0x70],
  "i32.and": [0x71],
  "i32.shl": [0x74],
  "i32.shr_u": [0x76],
  "select": [0x1b],
  "i32x4.splat": simd(17),
  "i32x4.eq": simd(55),
  "i32x4.lt_s": simd(57),
  "i32x4.lt_u": simd(58),
  "i32x4.ge_s": simd(63),
  "f32x4.eq": simd(65),
  "f32x4.ne": simd(66),
  "f32x4.lt": simd(67),
  "f32x4.ge": simd(70),
  "i8x16.swizzle": simd(14),
  "v128.any_true": simd(83),
  "v128.not": simd(77),
  "v128.and": simd(78),
  "v128.andnot": simd(79),
  "v128.or": simd(80),
  "v128.xor": simd(81),
  "v128.bitselect": simd(82),
  "f32x4.floor": simd(104),
  "i32x4.shl": simd(171),
  "i32x4.shr_s": simd(172),
  "i32x4.shr_u": simd(173),
  "i32x4.add": simd(174),
  "i32x4.sub": simd(177),
  "i32x4.mul": simd(181),
  "i64x2.extmul_low_i32x4_u": simd(222),
  "i64x2.extmul_high_i32x4_u": simd(223),
  "i32x4.max_u": simd(185),
  "i32x4.min_u": simd(183),
  "f32x4.abs": simd(224),
  "f32x4.neg": simd(225),
  "f32x4.sqrt": simd(227),
  "f32x4.add": simd(228),
  "f32x4.sub": simd(229),
  "f32x4.mul": simd(230),
  "f32x4.div": simd(231),
  "f32x4.pmin": simd(234),
  "f32x4.pmax": simd(235),
  "i32x4.trunc_sat_f32x4_u": simd(249),
  "f32x4.convert_i32x4_s": simd(250),
  "f32x4.convert_i32x4_u": simd(251),
  "f32x4.relaxed_madd": simd(0x105),
  "f32x4.relaxed_nmadd": simd(0x106),
  "i32x4.relaxed_laneselect": simd(0x10b),
} satisfies Readonly<Record<string, Bytes>>;

/** The name of an instruction without immediate operands. */
export type Instruction = keyof typeof instruction;

/** An instruction on one lane of a vector. */
export const onLane = {
  "i32x4.extract_lane": 27,
  "f32x4.extract_lane": 31,
  "f32x4.replace_lane": 32,
  "i32x4.replace_lane": 28,
} as const;

/** Alignment and offset, the immediates of every memory access. */
const place = (align: number, offset: number): Bytes => [align, ...unsigned(offset)];

/** An instruction that reads or writes memory at an offset to the address on the stack. */
export const access = {
  "i32.load": (offset: number): Bytes => [0x28, ...place(2, offset)],
  "i32.store": (offset: number): Bytes => [0x36, ...place(2, offset)],
  "v128.load": (offset: number): Bytes => [...simd(0), ...place(2, offset)],
  "v128.load32_splat": (offset: number): Bytes => [...simd(9), ...place(2, offset)],
  "v128.store": (offset: number): Bytes => [...simd(11), ...place(2, offset)],
  "v128.load32_zero": (offset: number): Bytes => [...simd(92), ...place(2, offset)],
  "v128.load64_zero": (offset: number): Bytes => [...simd(93), ...place(2, offset)],
  "v128.load32_lane": (offset: number, lane: number): Bytes => [
    ...simd(86),
    ...place(2, offset),
    lane,
  ],
  "v128.store32_lane": (offset: number, lane: number): Bytes => [
    ...simd(90),
    ...place(2, offset),
    lane,
  ],
  "v128.store64_lane": (offset: number, lane: number): Bytes => [
    ...simd(91),
    ...place(2, offset),
    lane,
  ],
} as const;

/** i8x16.shuffle that picks 32-bit lanes of two vectors: 0 to 3 of the first, 4 to 7 of the second. */
export const shuffle = (lanes: readonly number[]): Bytes => [
  ...simd(13),
  ...lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte)),
];

/** v128.const of four 32-bit values. */
export const words = (of: readonly number[]): Bytes => [
  ...simd(12),
  ...new Uint8Array(Uint32Array.from(of).buffer),
];

/** i32.const */
export const i32 = (value: number): Bytes => [0x41, ...signed(value)];
/** local.get */
export const get = (local: number): Bytes => [0x20, ...unsigned(local)];
/** local.set */
export const set = (local: number): Bytes => [0x21, ...unsigned(local)];
/** local.tee */
export const tee = (local: number): Bytes => [0x22, ...unsigned(local)];
/** call */
export const call = (index: number): Bytes => [0x10, ...unsigned(index)];
/** A loop that runs again while the condition holds; the body runs at least once. */
export const doWhile = (body: Bytes, condition: Bytes): Bytes => [
  ...[0x03, 0x40],
  ...body,
  ...condition,
  ...[0x0d, 0x00, 0x0b],
];
/** if ... end */
export const when = (condition: Bytes, body: Bytes): Bytes => [
  ...condition,
  ...[0x04, 0x40],
  ...body,
  0x0b,
];

/** A function: i32 parameters, locals after them, and a body. */
export interface Func {
  readonly params: number;
  readonly locals: readonly Type[];
  readonly body: Bytes;
}

const vector = (items: readonly Bytes[]): Bytes => [...unsigned(items.length), ...items.flat()];
const text = (of: string): Bytes => {
  const bytes = [...new TextEncoder().encode(of)];
  return [...unsigned(bytes.length), ...bytes];
};

const funcBytes = ({ locals, body }: Func): Bytes => {
  const runs: { type: Type; count: number }[] = [];
  for (const type of locals) {
    const last = runs.at(-1);
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  const head = vector(runs.map(({ type, count }) => [...unsigned(count), typeByte[type]]));
  return [...unsigned(head.length + body.length + 1), ...head, ...body, 0x0b];
};

/** A memory for modules, shared between threads or not. It never grows. */
export const memoryOf = (pages: number, shared: boolean): WebAssembly.Memory =>
  new WebAssembly.Memory({ initial: pages, maximum: pages, shared });

/**
 * A module of functions over a memory of a fixed number of pages, imported as `env.memory`. They
 * are exported as `f0`, `f1`... Since the engine knows the size, its bounds checks compare with a
 * constant.
 */
export const assemble = (
  functions: readonly Func[],
  pages: number,
  shared: boolean,
): Uint8Array<ArrayBuffer> => {
  const arities = [...new Set(functions.map((one) => one.params))].sort((a, b) => a - b);
  const types = arities.map((count) => [
    0x60,
    ...vector(Array.from({ length: count }, () => [typeByte.i32])),
    0,
  ]);
  // Memory with a maximum: 1, or 3 where it is shared.
  const limits = [shared ? 3 : 1, ...unsigned(pages), ...unsigned(pages)];
  const memory = [...text("env"), ...text("memory"), 0x02, ...limits];
  const parts: number[] = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const section = (id: number, content: Bytes) => {
    parts.push(id, ...unsigned(content.length));
    for (const byte of content) parts.push(byte);
  };
  section(1, vector(types));
  section(2, vector([memory]));
  section(3, vector(functions.map((one) => unsigned(arities.indexOf(one.params)))));
  section(7, vector(functions.map((_, k) => [...text(`f${k}`), 0x00, ...unsigned(k)])));
  section(10, vector(functions.map(funcBytes)));
  return Uint8Array.from(parts);
};

/** Whether the engine has fused multiply-add: relaxed SIMD. */
export const hasRelaxed = (): boolean =>
  WebAssembly.validate(assemble(
    [{
      params: 0,
      locals: ["v128"],
      body: [...get(0), ...get(0), ...get(0), ...instruction["f32x4.relaxed_madd"], ...set(0)],
    }],
    1,
    false,
  ));
