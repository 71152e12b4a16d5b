// The innermost loop of products: a few rows of the left operand times a panel of eight columns of
// the right one, in registers. Six rows and two vectors are twelve sums; with what they multiply,
// that is as many vectors as processors have registers for.
import { access, doWhile, type Func, get, i32, instruction, set, when } from "./assemble.ts";

/** Rows and vectors of a full tile. */
export const tileRows = 6;
export const tileVectors = 2;
/** Columns of a panel of the packed right operand: the elements of one row of it are neighbours. */
export const panel = 4 * tileVectors;
/** Most terms that are summed before the sums go back to memory. */
export const depth = 256;
/** Elements from one row of the packed left operand to the next; rows do not share cache sets. */
export const rowStride = depth + 16;

/** The places of its parameters. */
const [left, right, result, pitch, terms, more] = [0, 1, 2, 3, 4, 5];

/**
 * A function of the addresses of the left rows, the panel and the results, the bytes between rows of
 * results, the number of terms, and whether they are added to what is there.
 */
const micro = (rows: number, vectors: number, relaxed: boolean): Func => {
  const first = 6;
  const sum = (i: number, j: number) => first + i * vectors + j;
  const across = Array.from({ length: vectors }, (_, j) => first + rows * vectors + j);
  const down = first + rows * vectors + vectors;
  const place = down + 1;
  const toRow = [...get(place), ...get(pitch), ...instruction["i32.add"], ...set(place)];
  const rowByRow = (run: (i: number, j: number) => readonly number[]) => [
    ...get(result),
    ...set(place),
    ...Array.from({ length: rows }, (_, i) => [...across.flatMap((_, j) => run(i, j)), ...toRow])
      .flat(),
  ];
  const add = (i: number, j: number) =>
    relaxed
      ? [
        ...get(down),
        ...get(across[j]),
        ...get(sum(i, j)),
        ...instruction["f32x4.relaxed_madd"],
        ...set(sum(i, j)),
      ]
      : [
        ...get(down),
        ...get(across[j]),
        ...instruction["f32x4.mul"],
        ...get(sum(i, j)),
        ...instruction["f32x4.add"],
        ...set(sum(i, j)),
      ];
  const term = (k: number) => [
    ...across.flatMap((local, j) => [
      ...get(right),
      ...access["v128.load"](4 * panel * k + 16 * j),
      ...set(local),
    ]),
    ...Array.from({ length: rows }, (_, i) => [
      ...get(left),
      ...access["v128.load32_splat"](4 * (rowStride * i + k)),
      ...set(down),
      ...across.flatMap((_, j) => add(i, j)),
    ]).flat(),
  ];
  const advance = (by: number) => [
    ...[...get(left), ...i32(4 * by), ...instruction["i32.add"], ...set(left)],
    ...[...get(right), ...i32(4 * panel * by), ...instruction["i32.add"], ...set(right)],
    ...[...get(terms), ...i32(-by), ...instruction["i32.add"], ...set(terms)],
  ];
  const several = 4;
  const atLeast = (count: number) => [...get(terms), ...i32(count), ...instruction["i32.ge_s"]];
  const loop = (by: number) => {
    const body = [...Array.from({ length: by }, (_, k) => term(k)).flat(), ...advance(by)];
    return when(atLeast(by), doWhile(body, atLeast(by)));
  };
  return {
    params: 6,
    locals: [
      ...Array.from({ length: rows * vectors + vectors + 1 }, () => "v128" as const),
      "i32",
    ],
    body: [
      ...when(
        get(more),
        rowByRow((i, j) => [
          ...get(place),
          ...access["v128.load"](16 * j),
          ...set(sum(i, j)),
        ]),
      ),
      ...loop(several),
      ...loop(1),
      ...rowByRow((i, j) => [
        ...get(place),
        ...get(sum(i, j)),
        ...access["v128.store"](16 * j),
      ]),
    ],
  };
};

/** The functions that stand first in every module. */
export const helpers = (relaxed: boolean): readonly Func[] =>
  Array.from(
    { length: tileRows },
    (_, i) => Array.from({ length: tileVectors }, (_, j) => micro(i + 1, j + 1, relaxed)),
  ).flat();

/** Which of them is for so many rows and vectors. */
export const helperIndex = (rows: number, vectors: number): number =>
  (rows - 1) * tileVectors + vectors - 1;
