// Contractions, in the manner of BLIS: one function packs the right operand in panels of columns;
// then each unit of work packs a block of rows of the left operand, or reads it in place,
// multiplies it with the panels, and computes the epilogue while the block of results is in the
// cache. Point-wise producers of the operands are computed while packing.
import type { Node } from "../../../dsl/node.ts";
import * as affine from "../../codegen/index_math.ts";
import {
  type Contraction,
  type Dim,
  type ExpressionKernel,
  size,
  type Storage,
} from "../../lower/kernel_ir.ts";
import type { Value } from "../assembler/builder.ts";
import { emitter } from "./emit.ts";
import type { Emitter, Env } from "./emitter.ts";
import { atOnce, type Engine } from "../engine.ts";
import { computedHere, storeRoots } from "./rows.ts";
import { type Launch, launchOf } from "./launch.ts";
import { vectorLoop } from "./vector_axis.ts";
import { width } from "./lanes.ts";
import { matrixIn, matrixOf, type Span } from "./strided_matrix.ts";
import {
  depth,
  helperIndex,
  packerIndex,
  rowStride,
  tileStride,
  tilingOf,
} from "./micro_kernel.ts";

/** Tiles in the most and the fewest rows of a block, which are multiples of four. */
const [mostTiles, fewestTiles] = [8, 4];
/** Most columns of a block of results. */
const mostColumns = 512;
/** Columns that are packed together: reads then begin and end with cache lines. */
const columnsAtOnce = 64;
/** Least columns of a block of results that may be cut in two. */
const severalColumns = 64;
/** Least terms of a piece. */
const leastTerms = 64;
/** Units of work that are enough for all threads. */
const enoughUnits = 16;

const [panelAxis, columnAxis, rowAxis, termAxis] = [
  "panel of columns",
  "column of a panel",
  "row of a block",
  "term of a block",
];
const [tileAxis, tileRowAxis] = ["tile of rows", "row of a tile"];

/** Axes in the order of a storage; others first. */
const inOrderOf = (dims: readonly Dim[], storage: Storage): readonly Dim[] => {
  const place = ({ axis }: Dim) => storage.dims.findIndex((dim) => dim.axis === axis);
  return [...dims].sort((a, b) => place(a) - place(b));
};

/** The contraction with results contiguous along the columns; operands may be swapped. */
const arranged = (kernel: ExpressionKernel, of: Contraction): Contraction => {
  const widest = [...kernel.roots].sort((a, b) => size(b.storage.dims) - size(a.storage.dims))[0];
  const last = widest.storage.dims.findLast((dim) => dim.size > 1)?.axis;
  const turned = of.rows.some((dim) => dim.axis === last)
    ? { ...of, left: of.right, right: of.left, rows: of.columns, columns: of.rows }
    : of;
  const { batch, rows, columns } = turned;
  const order = (dims: readonly Dim[]) => inOrderOf(dims, widest.storage);
  return { ...turned, batch: order(batch), rows: order(rows), columns: order(columns) };
};

/** An integer variable of the kernel, clamped below `extent`. */
const bounded = (emit: Emitter, of: affine.IndexExpr, extent: number): affine.IndexExpr =>
  affine.high(of) < extent ? of : emit.named(emit.atMost(of, extent - 1), extent);

/** The number of elements from `from` on, of `all` in blocks of `most`. */
const left = (emit: Emitter, all: number, from: affine.IndexExpr, most: number): Value =>
  emit.atMost(affine.sum(affine.int(all), affine.times(from, -1)), most);

/** `count` rows or columns from `of` on, kept below `extent`. */
const span = (
  emit: Emitter,
  what: "row" | "column",
  of: affine.IndexExpr,
  count: number,
  extent: number,
): Span => {
  const first = bounded(emit, of, extent - count + 1);
  return { first, any: affine.sum(first, affine.variable(what, count)) };
};

/** Packs the right operand: panels of columns, in each the terms one after the other. */
const printPacking = (
  of: Contraction,
  packed: Storage,
  engine: Engine,
  fresh: () => Emitter,
): Launch => {
  const { panel, vectors: tileVectors } = tilingOf(engine);
  const { batch, columns, over, right } = of;
  const count = size(columns), panels = Math.ceil(count / panel);
  const loop = vectorLoop(
    [...over.map((dim) => [dim]), columns],
    [...batch, ...over, ...columns],
    fresh,
    (emit, env) => {
      emit.emit(right, env);
    },
  )!;
  const emit = fresh();
  const wide = Math.min(panels * panel, columnsAtOnce);
  const groups = Math.ceil(panels * panel / wide);
  const along = over.includes(loop.dims[0]) ? loop.dims[0] : undefined;
  const others = over.filter((dim) => dim !== along);
  // With few columns, units are pieces of one of the summed axes.
  const cut = along ?? over[0];
  const wanted = Math.ceil(enoughUnits / (size(batch) * groups));
  const most = Math.max(1, Math.min(wanted, Math.floor(cut.size / leastTerms)));
  const length = most === 1 ? cut.size : Math.ceil(cut.size / most / width) * width;
  const pieces = Math.ceil(cut.size / length);
  const units = size(batch) * groups * pieces;
  emit.units(units, (unit) => {
    const start = affine.times(affine.remainder(unit, pieces), length);
    const rest = affine.quotient(unit, pieces);
    const group = affine.remainder(rest, groups);
    const outer = emit.unflatten(affine.quotient(rest, groups), batch);
    const first = affine.times(group, wide);
    const loops = (env: Env, inside: (env: Env) => void, k = 0): void => {
      if (k === others.length) return inside(env);
      const dim = others[k];
      const at = (place: affine.IndexExpr) =>
        loops(new Map([...env, [dim.axis, place]]), inside, k + 1);
      if (dim !== cut || pieces === 1) return emit.loop(dim.size, at);
      emit.loop(length, (i) => {
        at(bounded(emit, affine.sum(start, i), dim.size));
      }, left(emit, dim.size, start, length));
    };
    const put = (env: Env, column: affine.IndexExpr, wanted: affine.IndexExpr) => {
      const places = emit.unflatten(column, columns);
      const value = emit.emit(right, new Map([...env, ...places]));
      const own = affine.quotient(wanted, panel), within = affine.remainder(wanted, panel);
      return () =>
        emit.store(packed, new Map([...env, [panelAxis, own], [columnAxis, within]]), value);
    };
    if (along === undefined) {
      loops(outer, (env) => {
        emit.vectors(
          count,
          (ats) => ats.map((at) => put(env, at, at)).reverse().forEach((store) => store()),
          { from: first, most: wide },
          tileVectors,
        );
      });
      return;
    }
    // Columns up to the end of the last panel: those beyond the last column repeat it.
    const extent = left(emit, panels * panel, first, wide);
    loops(outer, (env) => {
      emit.loop(wide, (j) => {
        const wanted = affine.sum(first, j);
        const inside = bounded(emit, wanted, panels * panel);
        const column = bounded(emit, inside, count);
        emit.vectors(
          along.size,
          ([at]) => put(new Map([...env, [along.axis, at]]), column, inside)(),
          pieces === 1 ? undefined : { from: start, most: length },
        );
      }, extent);
    });
  });
  return launchOf(emit, units);
};

/**
 * Block sizes of the units of work: the one with the least reading among those that give enough
 * units.
 */
const blocksOf = (of: Contraction, engine: Engine) => {
  const { panel, rows: tileRows } = tilingOf(engine);
  const batch = size(of.batch), rows = size(of.rows), columns = size(of.columns);
  const sizes = [mostTiles, fewestTiles].flatMap((tiles) =>
    Array.from({ length: Math.ceil(columns / severalColumns) }, (_, k) => ({
      blockRows: tiles * tileRows,
      blockColumns: Math.ceil(columns / (k + 1) / panel) * panel,
    }))
  ).filter(({ blockColumns }) => blockColumns <= mostColumns);
  const choices = sizes.map(({ blockRows, blockColumns }) => {
    const rowBlocks = Math.ceil(rows / blockRows), columnBlocks = Math.ceil(columns / blockColumns);
    const reads = rowBlocks * columns + columnBlocks * rows;
    return { blockRows, blockColumns, units: batch * rowBlocks * columnBlocks, reads };
  });
  const enough = Math.min(enoughUnits, Math.max(...choices.map(({ units }) => units)));
  return choices.filter(({ units }) => units >= enough)
    .reduce((best, one) => one.reads < best.reads ? one : best);
};

/** Prints a contraction as two functions: packing, and the product with its epilogue. */
export const printContraction = (
  kernel: ExpressionKernel,
  stored: ReadonlyMap<Node, Storage>,
  engine: Engine,
): readonly Launch[] => {
  const of = arranged(kernel, kernel.contraction!);
  const { panel, rows: tileRows } = tilingOf(engine);
  const here = computedHere(kernel, stored);
  const { batch, columns, over } = of;
  const temporary = { dtype: "f32", role: "temporary" } as const;
  const packed: Storage = {
    ...temporary,
    // A unique id: no other kernel writes the storage that it is derived from.
    id: -1 - kernel.roots[0].storage.id,
    dims: [
      ...batch,
      { axis: panelAxis, size: Math.ceil(size(columns) / panel) },
      ...over,
      { axis: columnAxis, size: panel },
    ],
  };
  const { blockRows, blockColumns } = blocksOf(of, engine);
  const loop = vectorLoop(
    [...over.map((dim) => [dim]), of.rows],
    [...batch, ...over, ...of.rows],
    () => emitter(stored, engine, here),
    (emit, env) => {
      emit.emit(of.left, env);
    },
  )!;
  const alongTerms = over.includes(loop.dims[0]);
  const scratch = (id: number, dims: readonly Dim[]): Storage => ({ ...temporary, id, dims });
  // Rows that are not contiguous are computed in order, in sequence or in parallel, and then packed
  // in tiles; with wide vectors, contiguous rows are multiplied in place.
  const raw = scratch(
    -1,
    alongTerms
      ? [
        { axis: rowAxis, size: engine.wide ? blockRows : tileRows },
        { axis: termAxis, size: rowStride },
      ]
      : [{ axis: termAxis, size: depth }, { axis: rowAxis, size: blockRows }],
  );
  const tiles = scratch(-2, [
    { axis: tileAxis, size: blockRows / tileRows },
    { axis: termAxis, size: depth },
    { axis: tileRowAxis, size: tileStride },
  ]);
  const results = scratch(-3, [
    { axis: rowAxis, size: blockRows },
    { axis: columnAxis, size: blockColumns },
  ]);
  const cells = new Map<Storage, number>();
  let scratchBytes = 0;
  for (const storage of [raw, tiles, results]) {
    cells.set(storage, scratchBytes);
    // Each begins at a cache line, in another cache set than the one before.
    scratchBytes += Math.ceil(size(storage.dims) / 16 + 1) * 64;
  }
  const fresh = () => emitter(stored, engine, here, cells);
  const packing = printPacking(of, packed, engine, fresh);
  const places = { packed, raw, tiles, results };
  return [
    packing,
    printProduct(kernel, of, engine, fresh, alongTerms, places, scratchBytes),
  ];
};

const printProduct = (
  kernel: ExpressionKernel,
  of: Contraction,
  engine: Engine,
  fresh: () => Emitter,
  alongTerms: boolean,
  { packed, raw, tiles, results }: Readonly<
    Record<"packed" | "raw" | "tiles" | "results", Storage>
  >,
  scratchBytes: number,
): Launch => {
  const { batch } = of;
  const tiling = tilingOf(engine);
  const { panel, rows: tileRows } = tiling;
  const rows = size(of.rows), columns = size(of.columns), terms = size(of.over);
  const [{ size: blockRows }, { size: blockColumns }] = results.dims;
  const rowBlocks = Math.ceil(rows / blockRows);
  const columnBlocks = Math.ceil(columns / blockColumns);
  const panels = Math.ceil(columns / panel), blockPanels = blockColumns / panel;
  const emit = fresh();
  const { make } = emit;
  const units = size(batch) * rowBlocks * columnBlocks;

  emit.units(units, (unit) => {
    const blockOf = affine.remainder(unit, rowBlocks);
    const rest = affine.quotient(unit, rowBlocks);
    const columnBlock = affine.remainder(rest, columnBlocks);
    const item = affine.quotient(rest, columnBlocks);
    const outer = emit.unflatten(item, batch);
    const row0 = affine.times(blockOf, blockRows);
    const column0 = affine.times(columnBlock, blockColumns);
    const rowsHere = left(emit, rows, row0, blockRows);
    const columnsHere = left(emit, columns, column0, blockColumns);
    const rowAt = (i: affine.IndexExpr): affine.IndexExpr =>
      bounded(emit, affine.sum(row0, i), rows);
    const rowsAt = (i: affine.IndexExpr, count: number): Span =>
      span(emit, "row", affine.sum(row0, i), count, rows);
    const rowOfTile = (n: affine.IndexExpr): affine.IndexExpr => affine.times(n, tileRows);
    /** An element of a storage that has `stride` elements each of some rows. */
    const inRows = (
      storage: Storage,
      row: affine.IndexExpr,
      count: number,
      stride: number,
    ): Value => {
      const at = affine.times(row, stride);
      const any = affine.sum(row, affine.variable("row", count));
      const last = affine.variable("element of a row", stride);
      return emit.address(storage, at, affine.sum(affine.times(any, stride), last));
    };
    const tileAt = (n: affine.IndexExpr): Value => inRows(tiles, n, 1, depth * tileStride);
    const tilesHere = make.op(
      "i32.div_u",
      make.op("i32.add", rowsHere, make.whole(tileRows - 1)),
      make.whole(tileRows),
    );

    const matrix = matrixOf(emit, of.left, of.rows, of.over, outer);
    const standing = matrix?.[alongTerms ? "columnPitch" : "rowPitch"] === 1 ? matrix : undefined;
    const kind = engine.wide && alongTerms ? "standing" : "packed";
    const asItStands = kind === "standing" && standing !== undefined;
    const rowBytes = 4 * (asItStands ? standing.rowPitch : rowStride);
    /** Terms of a block from `term0` on: the last block ends with the last of all. */
    const termsAt = (term0: affine.IndexExpr): Span => {
      const one = affine.variable("term", Math.min(terms, depth));
      return { first: term0, any: affine.within(affine.sum(term0, one), 0, terms - 1) };
    };
    const leftAt = (n: affine.IndexExpr, count: number, term0: affine.IndexExpr): Value => {
      if (kind === "packed") return tileAt(n);
      return asItStands
        ? standing.address(rowsAt(rowOfTile(n), count), termsAt(term0))
        : inRows(raw, rowOfTile(n), count, rowStride);
    };
    const wholeTiles = make.op("i32.div_u", rowsHere, make.whole(tileRows));
    const last = rows % blockRows, short = last % tileRows;
    /** Runs `inside` for whole tiles of rows, and for what is left of the last block. */
    const eachTile = (inside: (n: affine.IndexExpr, count: number) => void) => {
      emit.loop(blockRows / tileRows, (n) => inside(n, tileRows), wholeTiles);
      if (short === 0) return;
      emit.when(make.op("i32.eq", rowsHere, make.whole(last)), () => {
        inside(affine.int((last - short) / tileRows), short);
      });
    };

    /** Packs terms from `term0` on of the block's rows, with what is done to them. */
    const packLeft = (term0: affine.IndexExpr, termsHere: Value, most: number) => {
      const put = (
        row: affine.IndexExpr,
        i: affine.IndexExpr,
        term: affine.IndexExpr,
        k: affine.IndexExpr,
      ) => {
        const value = emit.emit(
          of.left,
          new Map([...outer, ...emit.unflatten(row, of.rows), ...emit.unflatten(term, of.over)]),
        );
        emit.store(raw, new Map([[rowAxis, i], [termAxis, k]]), value);
      };
      const pack = (from: Value, n: affine.IndexExpr, pitch: number, count = tileRows) => {
        const packer = packerIndex(alongTerms ? "rows" : "columns", count, tiling);
        make.call(packer, [from, tileAt(n), termsHere, make.whole(4 * pitch)]);
      };
      const tilesOf = (inside: (n: affine.IndexExpr) => void) =>
        emit.loop(blockRows / tileRows, inside, tilesHere);
      if (asItStands) return;
      if (kind === "packed" && standing !== undefined) {
        const pitch = alongTerms ? standing.rowPitch : standing.columnPitch;
        eachTile((n, count) => {
          const from = standing.address(rowsAt(rowOfTile(n), count), termsAt(term0));
          pack(from, n, pitch, count);
        });
        return;
      }
      if (alongTerms) {
        const putRow = (row: affine.IndexExpr, i: affine.IndexExpr) =>
          emit.vectors(terms, ([term], [k]) => {
            put(rowAt(row), i, term, k);
          }, { from: term0, most });
        if (kind === "standing") {
          emit.loop(blockRows, (i) => putRow(i, i), rowsHere);
          return;
        }
        tilesOf((n) => {
          const row = rowOfTile(n);
          const here = make.op("i32.sub", rowsHere, emit.whole(row));
          emit.loop(tileRows, (i) => putRow(affine.sum(row, i), i), here);
          pack(inRows(raw, affine.int(0), tileRows, rowStride), n, rowStride);
        });
        return;
      }
      emit.loop(most, (k) => {
        const term = bounded(emit, affine.sum(term0, k), terms);
        emit.vectors(rows, ([row], [i]) => {
          put(row, i, term, k);
        }, { from: row0, most: blockRows });
      }, termsHere);
      tilesOf((n) => {
        const { first, any } = span(emit, "row", rowOfTile(n), tileRows, blockRows);
        const term = affine.times(affine.variable("term", most), blockRows);
        pack(emit.address(raw, first, affine.sum(term, any)), n, blockRows);
      });
    };

    // Without an epilogue, sums are written to their storage directly.
    const [root, ...others] = kernel.roots;
    const isBare = others.length === 0 && root.node === of.node && columns % width === 0;
    const wanted = isBare ? matrixIn(emit, root.storage, of.rows, of.columns, outer) : undefined;
    const target = wanted?.columnPitch === 1 ? wanted : undefined;
    const resultAt = (
      n: affine.IndexExpr,
      count: number,
      j: affine.IndexExpr,
      vectors: number,
    ): Value => {
      const row = rowOfTile(n), column = affine.times(j, panel), across = vectors * width;
      if (target !== undefined) {
        const own = span(emit, "column", affine.sum(column0, column), across, columns);
        return target.address(rowsAt(row, count), own);
      }
      const rowsOf = span(emit, "row", row, count, blockRows);
      const columnsOf = span(emit, "column", column, across, blockColumns);
      const place = (of: keyof Span) =>
        affine.sum(affine.times(rowsOf[of], blockColumns), columnsOf[of]);
      return emit.address(results, place("first"), place("any"));
    };

    /** Multiplies the block's rows with the panels of its columns. */
    const multiply = (term0: affine.IndexExpr, termsHere: Value, more: Value) => {
      const panel0 = affine.times(columnBlock, blockPanels);
      const withPanel = (j: affine.IndexExpr, vectors: number) => {
        // item, panel, term, column: the packed operand flattened.
        const panelOf = bounded(emit, affine.sum(panel0, j), panels);
        const own = affine.sum(affine.times(item, panels), panelOf);
        const { first, any } = termsAt(term0);
        const place = (term: affine.IndexExpr, column: affine.IndexExpr) =>
          affine.sum(affine.times(affine.sum(affine.times(own, terms), term), panel), column);
        const right = emit.address(
          packed,
          place(first, affine.int(0)),
          place(any, affine.variable("column", vectors * width)),
        );
        eachTile((n, count) =>
          make.call(helperIndex(count, vectors, kind, tiling), [
            leftAt(n, count, term0),
            right,
            resultAt(n, count, j, vectors),
            make.whole(4 * (target?.rowPitch ?? blockColumns)),
            termsHere,
            more,
            ...(kind === "standing" ? [make.whole(rowBytes)] : []),
          ])
        );
      };
      const whole = make.op("i32.div_u", columnsHere, make.whole(panel));
      if (columns >= panel) emit.loop(blockPanels, (j) => withPanel(j, tiling.vectors), whole);
      const short = columns % panel;
      if (short === 0) return;
      const there = make.op("i32.rem_u", columnsHere, make.whole(panel));
      emit.when(there, () => {
        const j = blockPanels === 1 ? affine.int(0) : emit.named(
          make.op("i32.div_u", columnsHere, make.whole(panel)),
          blockPanels,
        );
        withPanel(j, Math.ceil(short / width));
      });
    };

    if (terms <= depth) {
      packLeft(affine.int(0), make.whole(terms), terms);
      multiply(affine.int(0), make.whole(terms), make.whole(0));
    } else {
      const blocks = Math.ceil(terms / depth);
      emit.loop(blocks, (b) => {
        const term0 = affine.times(b, depth);
        const termsHere = left(emit, terms, term0, depth);
        packLeft(term0, termsHere, depth);
        multiply(term0, termsHere, emit.whole(b));
      });
    }

    if (target !== undefined) return;
    emit.loop(blockRows, (i) => {
      const places = emit.unflatten(rowAt(i), of.rows);
      emit.vectors(
        columns,
        (ats, since) => {
          const envs = ats.map((column, k) =>
            new Map([
              ...outer,
              ...places,
              ...emit.unflatten(column, of.columns),
              [rowAxis, i],
              [columnAxis, since[k]],
            ])
          );
          storeRoots(emit, kernel, envs, undefined, (env) => {
            emit.override(of.node, () => emit.load(results, env));
          });
        },
        { from: column0, most: blockColumns },
        atOnce(engine),
      );
    }, rowsHere);
  });
  const flops = 2 * size(batch) * rows * columns * terms;
  return launchOf(emit, units, scratchBytes, flops);
};
