// The micro-kernel of contractions (BLIS's term): a few rows of the left operand times a panel of
// columns of the right one, in registers. Bounds checks make loads the bottleneck, so rows are
// packed in tiles, four of whose elements come with one load and are splatted from there: ten sums
// of five rows, two vectors of the panel and two temporaries fit into the fifteen registers. With
// wide vectors there are no checks: six rows and sixteen columns, and rows with contiguous terms
// are read in place, element by element.
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
} from "../assembler/encode.ts";
import type { Engine } from "../engine.ts";
import { width } from "./lanes.ts";

/** The tile of results in registers. */
export interface Tiling {
  readonly rows: number;
  readonly vectors: number;
  /** Columns of a panel of the packed right operand: the elements of one row of it are neighbours. */
  readonly panel: number;
}

/** With wide vectors, a pair of vectors is one register, so a tile has twice as many. */
export const tilingOf = ({ wide }: Engine): Tiling => {
  const [rows, vectors] = wide ? [6, 4] : [5, 2];
  return { rows, vectors, panel: width * vectors };
};

/** Most terms that are summed before the sums go back to memory. */
export const depth = 256;
/** Elements of each term in a packed tile: those of the rows, padded so that loads are aligned. */
export const tileStride = 8;
/** The stride of rows that are to be packed; rows do not share cache sets. */
export const rowStride = depth + 16;

/** The positions of its parameters. */
const [left, right, result, pitch, terms, more, leftPitch] = [0, 1, 2, 3, 4, 5, 6];

/** The rows that come with one load. */
const together = 4;

const plus = (local: number, by: number): readonly number[] => [
  ...[...get(local), ...i32(by), ...instruction["i32.add"], ...set(local)],
];

/** Sets the addresses of rows below the first, from one to the next. */
const downFrom = (pointers: readonly number[], pitch: number): readonly number[] =>
  pointers.slice(1).flatMap((pointer, i) => [
    ...[...get(pointers[i]), ...get(pitch), ...instruction["i32.add"], ...set(pointer)],
  ]);

/** The rows of the left operand: packed in a tile, or in place. */
export type Rows = "packed" | "standing";

/**
 * A function of the addresses of the packed tile, the panel and the results, the bytes between rows
 * of results, the number of terms, and whether to accumulate onto the results. Missing rows of a
 * tile are ignored. For rows in place, the address of the first one takes the tile's place, and the
 * last argument is the bytes between them.
 */
const micro = (rows: number, vectors: number, kind: Rows, engine: Engine): Func => {
  const { panel } = tilingOf(engine);
  const first = kind === "packed" ? 6 : 7;
  const sum = (i: number, j: number) => first + i * vectors + j;
  const across = Array.from({ length: vectors }, (_, j) => first + rows * vectors + j);
  const down = first + rows * vectors + vectors;
  const four = down + 1, place = down + 2;
  // The address of each row in place.
  const standing = Array.from({ length: kind === "packed" ? 0 : rows }, (_, i) => place + i);
  const pointers = standing.map((local, i) => i === 0 ? left : local);
  const toRow = [...get(place), ...get(pitch), ...instruction["i32.add"], ...set(place)];
  const rowByRow = (run: (i: number, j: number) => readonly number[]) => [
    ...get(result),
    ...set(place),
    // The last vector first: V8 fuses two stores in this order into a 256-bit one.
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
  const fromPacked = (k: number) => [
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
  const fromStanding = (k: number) =>
    pointers.flatMap((pointer, i) => [
      ...[...get(pointer), ...access["v128.load32_splat"](4 * k), ...set(down)],
      ...addRow(i),
    ]);
  const term = (k: number) => [
    ...across.flatMap((local, j) => [
      ...get(right),
      ...access["v128.load"](4 * panel * k + 16 * j),
      ...set(local),
    ]),
    ...(kind === "packed" ? fromPacked(k) : fromStanding(k)),
  ];
  const advance = (by: number) => [
    ...(kind === "packed"
      ? plus(left, 4 * tileStride * by)
      : pointers.flatMap((pointer) => plus(pointer, 4 * by))),
    ...plus(right, 4 * panel * by),
    ...plus(terms, -by),
  ];
  const several = 4;
  const atLeast = (count: number) => [...get(terms), ...i32(count), ...instruction["i32.ge_s"]];
  const loop = (by: number) => {
    const body = [...Array.from({ length: by }, (_, k) => term(k)).flat(), ...advance(by)];
    return when(atLeast(by), doWhile(body, atLeast(by)));
  };
  return {
    params: first,
    locals: [
      ...Array.from({ length: rows * vectors + vectors + 2 }, () => "v128" as const),
      ...Array.from({ length: Math.max(1, standing.length) }, () => "i32" as const),
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
      ...downFrom(pointers, leftPitch),
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
 * Packs a tile from contiguous rows: a function of the address of the first row, the address of the
 * tile, the number of terms, and the bytes from one row to the next. The last row is repeated for
 * missing ones.
 */
const fromRows = (tileRows: number, count: number): Func => {
  const [rows, tile, terms, pitch] = [0, 1, 2, 3];
  const own = Array.from({ length: count }, (_, i) => i === 0 ? rows : pitch + i);
  const pointers = Array.from({ length: tileRows }, (_, i) => own[Math.min(i, count - 1)]);
  const vectors = pitch + count, pairs = vectors + tileRows;
  const halves = [0, 1].flatMap((half) => [[0, 1], [2, 3]].map((pair) => ({ half, pair })));
  const atLeast = (count: number) => [...get(terms), ...i32(count), ...instruction["i32.ge_s"]];
  const loop = (body: readonly number[], by: number) => {
    const advance = [
      ...own.flatMap((pointer) => plus(pointer, 4 * by)),
      ...plus(tile, 4 * tileStride * by),
      ...plus(terms, -by),
    ];
    return when(atLeast(by), doWhile([...body, ...advance], atLeast(by)));
  };
  const fourTerms = [
    ...pointers.flatMap((pointer, i) => [
      ...[...get(pointer), ...access["v128.load"](0), ...set(vectors + i)],
    ]),
    // Transposes two by two, then four by four, so that the elements of one term are adjacent.
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
  ];
  const oneTerm = pointers.flatMap((pointer, i) => [
    ...[...get(tile), ...get(pointer)],
    ...[...access["i32.load"](0), ...access["i32.store"](4 * i)],
  ]);
  return {
    params: 4,
    locals: [
      ...Array.from({ length: count - 1 }, () => "i32" as const),
      ...Array.from({ length: tileRows + halves.length }, () => "v128" as const),
    ],
    body: [...downFrom(own, pitch), ...loop(fourTerms, 4), ...loop(oneTerm, 1)],
  };
};

/**
 * The same for contiguous terms: a function of the address of the tile's first row, the address of
 * the tile, the number of terms, and the bytes from one term to the next.
 */
const fromColumns = (count: number): Func => {
  const [columns, tile, terms, pitch] = [0, 1, 2, 3];
  const four = count >= together;
  return {
    params: 4,
    locals: [],
    body: doWhile([
      ...four
        ? [...get(tile), ...get(columns), ...access["v128.load"](0), ...access["v128.store"](0)]
        : [],
      ...Array.from({ length: four ? count - together : count }, (_, k) => {
        const i = four ? together + k : k;
        return [
          ...[...get(tile), ...get(columns)],
          ...[...access["i32.load"](4 * i), ...access["i32.store"](4 * i)],
        ];
      }).flat(),
      ...[...get(columns), ...get(pitch), ...instruction["i32.add"], ...set(columns)],
      ...plus(tile, 4 * tileStride),
      ...plus(terms, -1),
    ], [...get(terms), ...i32(1), ...instruction["i32.ge_s"]]),
  };
};

/** The functions that come first in every module. */
export const helpers = (engine: Engine): readonly Func[] => {
  const { rows, vectors } = tilingOf(engine);
  const kinds: readonly Rows[] = engine.wide ? ["packed", "standing"] : ["packed"];
  const tiles = kinds.flatMap((kind) =>
    Array.from(
      { length: rows },
      (_, i) => Array.from({ length: vectors }, (_, j) => micro(i + 1, j + 1, kind, engine)),
    )
  );
  const counts = Array.from({ length: rows }, (_, i) => i + 1);
  return [
    ...counts.map((count) => fromRows(rows, count)),
    ...counts.map((count) => fromColumns(count)),
    ...tiles.flat(),
  ];
};

/** The one that packs a tile of some rows, from rows or from columns. */
export const packerIndex = (from: "rows" | "columns", rows: number, tiling: Tiling): number =>
  (from === "rows" ? 0 : tiling.rows) + rows - 1;

/** The one that multiplies some rows and vectors. */
export const helperIndex = (
  rows: number,
  vectors: number,
  kind: Rows,
  tiling: Tiling,
): number =>
  2 * tiling.rows + (kind === "packed" ? 0 : tiling.rows * tiling.vectors) +
  (rows - 1) * tiling.vectors +
  vectors - 1;
