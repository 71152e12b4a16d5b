// The innermost loop of products: a few rows of the left operand times a panel of columns of the right
// one, in registers; five and eight, or six and sixteen where vectors are wide. An engine that checks every access (Deno's does) makes reads the bottleneck,
// so four of the rows come with one read and are spread over vectors from there: ten sums, two
// vectors of the panel, and the two that are at work fill the fifteen registers that there are.
import {
  access,
  doWhile,
  type Func,
  get,
  i32,
  instruction,
  set,
  shuffle,
  when,
} from "./assemble.ts";
import type { Engine } from "./engine.ts";
import { width } from "./lanes.ts";

/** The tile of results that is held in registers. */
export interface Tiling {
  readonly rows: number;
  readonly vectors: number;
  /** Columns of a panel of the packed right operand: the elements of one row of it are neighbours. */
  readonly panel: number;
}

/** Pairs of vectors are one register where vectors are wide, so that a tile has twice as many. */
export const tilingOf = ({ wide }: Engine): Tiling => {
  const [rows, vectors] = wide ? [6, 4] : [5, 2];
  return { rows, vectors, panel: width * vectors };
};

/** Most terms that are summed before the sums go back to memory. */
export const depth = 256;
/** Elements of each term in a packed tile: those of the rows, filled up so that reads are aligned. */
export const tileStride = 8;
/** Elements from one row to the next of rows that are to be packed; rows do not share cache sets. */
export const rowStride = depth + 16;

/** The places of its parameters. */
const [left, right, result, pitch, terms, more] = [0, 1, 2, 3, 4, 5];

/** The rows that come with one read. */
const together = 4;

/**
 * A function of the addresses of the packed tile, the panel and the results, the bytes between rows of
 * results, the number of terms, and whether they are added to what is there. Of a tile with fewer rows
 * the others are not looked at.
 */
const micro = (rows: number, vectors: number, engine: Engine): Func => {
  const { panel } = tilingOf(engine);
  const first = 6;
  const sum = (i: number, j: number) => first + i * vectors + j;
  const across = Array.from({ length: vectors }, (_, j) => first + rows * vectors + j);
  const down = first + rows * vectors + vectors;
  const four = down + 1, place = down + 2;
  const toRow = [...get(place), ...get(pitch), ...instruction["i32.add"], ...set(place)];
  const rowByRow = (run: (i: number, j: number) => readonly number[]) => [
    ...get(result),
    ...set(place),
    // The last vector first: two stores in this order become one of 256 bits where vectors are wide.
    ...Array.from(
      { length: rows },
      (_, i) => [...across.flatMap((_, j) => run(i, vectors - 1 - j)), ...toRow],
    ).flat(),
  ];
  const add = (i: number, j: number) =>
    engine.relaxed
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
  const addRow = (i: number) => across.flatMap((_, j) => add(i, j));
  const term = (k: number) => [
    ...across.flatMap((local, j) => [
      ...get(right),
      ...access["v128.load"](4 * panel * k + 16 * j),
      ...set(local),
    ]),
    ...get(left),
    ...access["v128.load"](4 * tileStride * k),
    ...set(four),
    ...Array.from({ length: Math.min(rows, together) }, (_, i) => [
      ...[...get(four), ...get(four), ...shuffle([i, i, i, i]), ...set(down)],
      ...addRow(i),
    ]).flat(),
    ...Array.from({ length: Math.max(0, rows - together) }, (_, i) => [
      ...get(left),
      ...access["v128.load32_splat"](4 * (tileStride * k + together + i)),
      ...set(down),
      ...addRow(together + i),
    ]).flat(),
  ];
  const advance = (by: number) => [
    ...[...get(left), ...i32(4 * tileStride * by), ...instruction["i32.add"], ...set(left)],
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
      ...Array.from({ length: rows * vectors + vectors + 2 }, () => "v128" as const),
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

/**
 * Packs a tile from its rows, each of them contiguous: a function of their address, the address of the
 * tile, and the number of terms. Rows that are missing are packed as whatever stands there.
 */
const fromRows = (tileRows: number): Func => {
  const [rows, tile, terms] = [0, 1, 2];
  const [vectors, pairs] = [3, 3 + tileRows];
  const halves = [0, 1].flatMap((half) => [[0, 1], [2, 3]].map((pair) => ({ half, pair })));
  return {
    params: 3,
    locals: Array.from({ length: tileRows + halves.length }, () => "v128" as const),
    body: doWhile([
      ...Array.from({ length: tileRows }, (_, i) => [
        ...get(rows),
        ...access["v128.load"](4 * rowStride * i),
        ...set(vectors + i),
      ]).flat(),
      // Two by two, then four by four: the rows become what stands in one term of all of them.
      ...halves.flatMap(({ half, pair: [a, b] }, n) => [
        ...[...get(vectors + a), ...get(vectors + b)],
        ...shuffle([2 * half, 4 + 2 * half, 2 * half + 1, 5 + 2 * half]),
        ...set(pairs + n),
      ]),
      ...Array.from({ length: 4 }, (_, k) => [
        ...get(tile),
        ...[...get(pairs + 2 * (k >> 1)), ...get(pairs + 2 * (k >> 1) + 1)],
        ...shuffle(k % 2 === 0 ? [0, 1, 4, 5] : [2, 3, 6, 7]),
        ...access["v128.store"](4 * tileStride * k),
        ...Array.from({ length: tileRows - together }, (_, i) => [
          ...[...get(tile), ...get(vectors + together + i)],
          ...access["v128.store32_lane"](4 * (tileStride * k + together + i), k),
        ]).flat(),
      ]).flat(),
      ...[...get(rows), ...i32(16), ...instruction["i32.add"], ...set(rows)],
      ...[...get(tile), ...i32(16 * tileStride), ...instruction["i32.add"], ...set(tile)],
      ...[...get(terms), ...i32(-4), ...instruction["i32.add"], ...set(terms)],
    ], [...get(terms), ...i32(1), ...instruction["i32.ge_s"]]),
  };
};

/**
 * The same where the elements of one term are neighbours: a function of the address of the tile's
 * first row, the address of the tile, the number of terms, and the bytes from one term to the next.
 */
const fromColumns = (tileRows: number): Func => {
  const [columns, tile, terms, pitch] = [0, 1, 2, 3];
  return {
    params: 4,
    locals: [],
    body: doWhile([
      ...[...get(tile), ...get(columns), ...access["v128.load"](0), ...access["v128.store"](0)],
      ...Array.from({ length: tileRows - together }, (_, i) => [
        ...[...get(tile), ...get(columns)],
        ...[...access["i32.load"](16 + 4 * i), ...access["i32.store"](16 + 4 * i)],
      ]).flat(),
      ...[...get(columns), ...get(pitch), ...instruction["i32.add"], ...set(columns)],
      ...[...get(tile), ...i32(4 * tileStride), ...instruction["i32.add"], ...set(tile)],
      ...[...get(terms), ...i32(-1), ...instruction["i32.add"], ...set(terms)],
    ], [...get(terms), ...i32(1), ...instruction["i32.ge_s"]]),
  };
};

/** The functions that stand first in every module. */
export const helpers = (engine: Engine): readonly Func[] => {
  const { rows, vectors } = tilingOf(engine);
  const tiles = Array.from(
    { length: rows },
    (_, i) => Array.from({ length: vectors }, (_, j) => micro(i + 1, j + 1, engine)),
  );
  return [fromRows(rows), fromColumns(rows), ...tiles.flat()];
};

/** Which of them packs a tile from rows, or from columns. */
export const packers = { fromRows: 0, fromColumns: 1 } as const;

/** Which of them multiplies so many rows and vectors. */
export const helperIndex = (rows: number, vectors: number, tiling: Tiling): number =>
  2 + (rows - 1) * tiling.vectors + vectors - 1;
