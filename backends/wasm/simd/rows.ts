// Kernels that evaluate expressions over a space: maps, and rows, which reduce over some axes.
// Vectors lie along the axis that is contiguous in most memory accesses: within a row, or across
// rows that are adjacent in memory.
import { rowStages } from "../../codegen/row_stages.ts";
import type { Node } from "../../../dsl/node.ts";
import { reduce } from "../../../dsl/structure.ts";
import { descend } from "../../../dsl/walk.ts";
import { work } from "../../lower/cost_model.ts";
import * as affine from "../../codegen/index_math.ts";
import {
  type Dim,
  dims,
  type ExpressionKernel,
  size,
  type Storage,
} from "../../lower/kernel_ir.ts";
import type { Value } from "../assembler/builder.ts";
import { emitter } from "./emit.ts";
import type { Emitter, Env } from "./emitter.ts";
import { atOnce, type Engine } from "../engine.ts";
import { acrossLanes, joinVectors, sumsAtOnce } from "./horizontal_reduce.ts";
import { width } from "./lanes.ts";
import { type Launch, launchOf } from "./launch.ts";
import { trailing, type VectorLoop, vectorLoop } from "./vector_axis.ts";
import { isReadOften, turnedFor } from "./transposed.ts";

/** Units that are enough for all threads; if there are fewer, longer loops are cut. */
const enoughUnits = 64;
/** Least elements of a piece of a cut loop. */
const leastElements = 1024;
/** Most positions of an axis whose rows are reduced together, with shared values read once. */
const fewRows = 4;
/** Parallel vectors of each of them. */
const vectorsOfFew = 2;
/** Most values that are searched for sharing between rows. */
const mostLooks = 1024;
/** Most sums over the same axes that each get all their parallel accumulators. */
const fewSums = 3;
/** Most operations that are repeated for all vectors of the other operand. */
const cheap = 4;

/** The values that a kernel computes although they are stored. */
export const computedHere = (
  kernel: ExpressionKernel,
  stored: ReadonlyMap<Node, Storage>,
): ReadonlySet<Node> => {
  // A root that another storage holds as well is only copied from there.
  const computed = kernel.roots.filter((root) => stored.get(root.node) === root.storage);
  return new Set([
    ...computed.map((root) => root.node),
    ...kernel.reductions,
    ...kernel.again,
  ]);
};

/**
 * Emits the values of some roots, then their stores, since a store may overwrite what another root
 * reads. Adjacent vectors are stored in descending order, which lets V8 fuse each pair into one
 * 256-bit store. `before` runs before the values at each environment.
 */
export const storeRoots = (
  emit: Emitter,
  kernel: ExpressionKernel,
  envs: readonly Env[],
  which: (node: Node) => boolean = () => true,
  before: (env: Env) => void = () => {},
): void => {
  const roots = kernel.roots.filter((root) => which(root.node));
  const values = envs.map((env) => {
    before(env);
    return roots.map((root) => emit.emit(root.node, env));
  });
  const last = envs.length - 1;
  roots.forEach((root, k) =>
    envs.forEach((_, n) => emit.store(root.storage, envs[last - n], values[last - n][k]))
  );
};

/** Runs `inside` for the vectors of a unit: of a whole loop, or of one of its pieces. */
const inPieces = (
  emit: Emitter,
  outer: readonly Dim[],
  extent: number,
  piece: number,
  unroll: number,
  inside: (env: Env, at: readonly affine.IndexExpr[]) => void,
): number => {
  const pieces = Math.ceil(extent / piece);
  const units = size(outer) * pieces;
  emit.units(units, (unit) => {
    const env = emit.unflatten(affine.quotient(unit, pieces), outer);
    if (pieces === 1) return emit.vectors(extent, (at) => inside(env, at), undefined, unroll);
    const from = affine.times(affine.remainder(unit, pieces), piece);
    emit.vectors(extent, (at) => inside(env, at), { from, most: piece }, unroll);
  });
  return units;
};

const without = (dims: readonly Dim[], some: readonly Dim[]) =>
  dims.filter((dim) => !some.includes(dim));

/** Prints a map or a row kernel, after kernels that transpose some of its operands. */
export const printElements = (
  kernel: ExpressionKernel,
  stored: ReadonlyMap<Node, Storage>,
  engine: Engine,
): readonly Launch[] => {
  const here = computedHere(kernel, stored);
  const freshFrom = (stored: ReadonlyMap<Node, Storage>) => () => emitter(stored, engine, here);
  const rows = kernel.over.length === 0 ? undefined : inOne(kernel, stored);
  const fresh = freshFrom(stored);
  const loop = rows === undefined ? loopOfMap(kernel, fresh) : loopOfRows(rows, fresh);
  const turned = turnedFor(kernel, loop, stored);
  const copies = turned.copies.map((copy) => {
    const fresh = () => emitter(stored, engine);
    return printMap(copy, loopOfMap(copy, fresh), engine, fresh);
  });
  const now = freshFrom(turned.stored);
  const launch = rows === undefined
    ? printMap(kernel, loop, engine, now)
    : printRows(rows, loop, engine, now);
  return [...copies, launch];
};

const loopOfMap = (kernel: ExpressionKernel, fresh: () => Emitter): VectorLoop | undefined => {
  const { space } = kernel;
  const flat = trailing(space);
  const candidates = [...space.map((dim) => [dim]), ...(flat.length > 1 ? [flat] : [])];
  return vectorLoop(candidates, space, fresh, (emit, env) => {
    storeRoots(emit, kernel, [env]);
  }, isReadOften(kernel));
};

const printMap = (
  kernel: ExpressionKernel,
  loop: VectorLoop | undefined,
  engine: Engine,
  fresh: () => Emitter,
): Launch => {
  const { space } = kernel;
  const emit = fresh();
  if (loop === undefined) {
    emit.units(1, () => storeRoots(emit, kernel, [emit.unflatten(affine.int(0), space)]));
    return launchOf(emit, 1);
  }
  const outer = without(space, loop.dims), extent = size(loop.dims);
  const piece = pieceOf(size(outer), extent);
  const units = inPieces(emit, outer, extent, piece, atOnce(engine), (env, at) => {
    storeRoots(emit, kernel, at.map((x) => new Map([...env, ...emit.unflatten(x, loop.dims)])));
  });
  return launchOf(emit, units);
};

/** The length of a loop's pieces that gives enough units. */
const pieceOf = (outer: number, extent: number): number => {
  const wanted = Math.max(leastElements, Math.ceil(outer * extent / enoughUnits));
  return outer >= enoughUnits || wanted >= extent ? extent : Math.ceil(wanted / 16) * 16;
};

/** Whether a value has all reduced axes of a kernel. */
const isFull = ({ over }: ExpressionKernel, node: Node): boolean =>
  over.every((dim) => dim.axis in node.axes);

/** A row kernel, and the sums that replace its reductions while it is printed. */
interface Rows {
  readonly kernel: ExpressionKernel;
  readonly terms: ReadonlyMap<Node, Node>;
}

/**
 * Merges sums of sums, so that values shared by rows are computed once. Only if all reductions of a
 * kernel are over the same axes, and nothing is stored at every position of those.
 */
const inOne = (kernel: ExpressionKernel, stored: ReadonlyMap<Node, Storage>): Rows => {
  const { over, reductions, roots } = kernel;
  const innerOf = ({ attributes, args: [inner] }: Node): Node | undefined =>
    inner.op === "reduce" && inner.attributes.how === attributes.how && !stored.has(inner) &&
      !reductions.includes(inner)
      ? inner
      : undefined;
  const inner = reductions.map(innerOf);
  const axes = new Set(inner.map((of) => of?.attributes.over?.join()));
  if (
    axes.size !== 1 || inner[0] === undefined || roots.some((root) => isFull(kernel, root.node))
  ) {
    return { kernel, terms: new Map(reductions.map((node) => [node, node])) };
  }
  const more = dims(inner[0].args[0].axes, inner[0].attributes.over!);
  const whole = (node: Node, k: number) =>
    reduce(inner[k]!.args[0], node.attributes.how!, [...over, ...more].map((dim) => dim.axis));
  return {
    kernel: { ...kernel, over: [...over, ...more] },
    terms: new Map(reductions.map((node, k) => [node, whole(node, k)])),
  };
};

const startOf = (emit: Emitter, reduction: Node): Value =>
  emit.make.splat(reduction.attributes.how === "add" ? 0 : -Infinity);

const loopOfRows = (rows: Rows, fresh: () => Emitter): VectorLoop | undefined => {
  const { kernel: { space, over, reductions }, terms } = rows;
  const all = [...space, ...over];
  return vectorLoop(all.map((dim) => [dim]), all, fresh, (emit, env) => {
    for (const reduction of reductions) {
      emit.override(reduction, () => startOf(emit, reduction));
    }
    reductions.forEach((reduction) => emit.emit(terms.get(reduction)!.args[0], env));
    storeRoots(emit, rows.kernel, [env], (node) => isFull(rows.kernel, node));
  }, isReadOften(rows.kernel));
};

const printRows = (
  rows: Rows,
  loop: VectorLoop | undefined,
  engine: Engine,
  fresh: () => Emitter,
): Launch => {
  const { space, reductions } = rows.kernel;
  const emit = fresh();
  const [along] = loop?.dims ?? [];
  if (along !== undefined && space.includes(along)) {
    return launchOf(emit, printAcross(rows, emit, along, togetherIn(rows, along)));
  }
  const scratch = engine.wide ? 16 * (sumsAtOnce + 1) * reductions.length : 0;
  return launchOf(emit, printWithin(rows, engine, emit, along), scratch);
};

/** Vectors lie within a row: their lanes are reduced at the end of each stage. */
const printWithin = (
  { kernel, terms }: Rows,
  engine: Engine,
  emit: Emitter,
  along: Dim | undefined,
): number => {
  const { make } = emit;
  const full = (node: Node) => isFull(kernel, node);
  const others = kernel.over.filter((dim) => dim !== along);
  const loops = (
    env: Env,
    unroll: number,
    inside: (envs: readonly Env[]) => void,
    k = 0,
  ): void => {
    if (k < others.length) {
      const { axis, size } = others[k];
      emit.loop(size, (at) => loops(new Map([...env, [axis, at]]), unroll, inside, k + 1));
    } else if (along === undefined) inside([env]);
    else {
      emit.vectors(
        along.size,
        (at) => inside(at.map((x) => new Map([...env, [along.axis, x]]))),
        undefined,
        unroll,
      );
    }
  };
  const units = size(kernel.space);
  emit.units(units, (unit) => {
    const env = emit.unflatten(unit, kernel.space);
    for (const stage of rowStages(kernel)) {
      // The same number for one sum and for a few: other sums of the kernel then do not change a
      // sum's bits.
      const beside = stage.length <= fewSums ? sumsAtOnce : sumsAtOnce / 2;
      // The remainder goes to one more accumulator, so that each of the others gets the same number
      // of terms.
      const isEven = along !== undefined && along.size % (width * beside) === 0;
      const sums = stage.map((reduction) =>
        Array.from(
          { length: isEven || beside === 1 ? beside : beside + 1 },
          () => make.variable("v128", startOf(emit, reduction)),
        )
      );
      loops(env, beside, (envs) => {
        stage.forEach((reduction, k) =>
          envs.forEach((inner, n) => {
            const variable = sums[k][envs.length === beside ? n : beside];
            const sum = make.current(variable);
            make.assign(variable, emit.joined(terms.get(reduction)!, sum, inner, true));
          })
        );
      });
      const values = stage.map((reduction, k) => {
        const offset = engine.wide ? 16 * (sumsAtOnce + 1) * k : undefined;
        const total = joinVectors(emit, reduction, sums[k].map((sum) => make.current(sum)), offset);
        return along === undefined ? total : acrossLanes(emit, reduction, total);
      });
      stage.forEach((reduction, k) => emit.override(reduction, () => values[k]));
    }
    storeRoots(emit, kernel, [env], (node) => !full(node));
    if (kernel.roots.some((root) => full(root.node))) {
      loops(env, atOnce(engine), (envs) => storeRoots(emit, kernel, envs, full));
    }
  });
  return units;
};

/** A short axis that a summed value lacks: its rows share the work. */
const togetherIn = ({ kernel: { space, over }, terms }: Rows, along: Dim): Dim | undefined => {
  const lacks = (node: Node, axis: string): boolean => {
    let found = false, looked = 0;
    descend([node], (x) => {
      if (found || ++looked > mostLooks || !over.some((dim) => dim.axis in x.axes)) return [];
      found = !(axis in x.axes);
      return found || x.op === "reduce" ? [] : x.args;
    });
    return found;
  };
  return space.find((dim) =>
    dim !== along && dim.size > 1 && dim.size <= fewRows &&
    [...terms.values()].some((node) => lacks(node.args[0], dim.axis))
  );
};

/**
 * A contraction in which one operand has few rows, as a row kernel: packing the other operand would
 * take longer than reading it once. Undefined for others.
 */
export const printThin = (
  kernel: ExpressionKernel,
  stored: ReadonlyMap<Node, Storage>,
  engine: Engine,
): Launch | undefined => {
  const { node, left, right, rows, columns, over } = kernel.contraction!;
  const [few, many, other] = size(rows) <= fewRows ? [rows, columns, left] : [columns, rows, right];
  if (few.length !== 1 || size(few) > fewRows || work(other).flops > cheap) return undefined;
  const row: ExpressionKernel = { ...kernel, shape: "row", over, reductions: [node] };
  const fresh = () => emitter(stored, engine, computedHere(row, stored));
  const loop = vectorLoop(
    many.map((dim) => [dim]),
    [...kernel.space, ...over],
    fresh,
    (emit, env) => {
      emit.emit(node.args[0], env);
    },
  );
  if (loop === undefined) return undefined;
  const emit = fresh();
  const rowsOf: Rows = { kernel: row, terms: new Map([[node, node]]) };
  return launchOf(emit, printAcross(rowsOf, emit, loop.dims[0], few[0]));
};

/**
 * Vectors lie across rows: each lane has a row of its own. Rows along `together` are reduced in
 * parallel.
 */
const printAcross = (
  { kernel, terms }: Rows,
  emit: Emitter,
  along: Dim,
  together: Dim | undefined,
): number => {
  const { make } = emit;
  const full = (node: Node) => isFull(kernel, node);
  const { over } = kernel;
  const outer = kernel.space.filter(({ axis }) => axis !== along.axis && axis !== together?.axis);
  const loops = (env: Env, inside: (env: Env) => void, k = 0): void => {
    if (k === over.length) return inside(env);
    const { axis, size } = over[k];
    emit.loop(size, (at) => loops(new Map([...env, [axis, at]]), inside, k + 1));
  };
  const unroll = together === undefined ? sumsAtOnce : vectorsOfFew;
  const wide = unroll * width;
  const piece = size(outer) >= enoughUnits ? along.size : Math.min(wide, along.size);
  return inPieces(emit, outer, along.size, piece, unroll, (env, ats) => {
    const rows: readonly Env[] = together === undefined ? [new Map()] : Array.from(
      { length: together.size },
      (_, k) => new Map([[together.axis, affine.int(k)]]),
    );
    const places: readonly Env[] = rows.flatMap((row) =>
      ats.map((at) => new Map([...row, [along.axis, at]]))
    );
    const key = (env: Env) =>
      [along, ...(together === undefined ? [] : [together])]
        .map(({ axis }) => affine.show(env.get(axis)!)).join();
    for (const stage of rowStages(kernel)) {
      const sums = places.map(() =>
        stage.map((reduction) => make.variable("v128", startOf(emit, reduction)))
      );
      loops(env, (inner) => {
        places.forEach((place, n) =>
          stage.forEach((reduction, k) => {
            const sum = make.current(sums[n][k]);
            const here = new Map([...inner, ...place]);
            make.assign(sums[n][k], emit.joined(terms.get(reduction)!, sum, here, false));
          })
        );
      });
      stage.forEach((reduction, k) => {
        const values = new Map(places.map((place, n) => [key(place), make.current(sums[n][k])]));
        emit.override(reduction, (env) => values.get(key(env))!);
      });
    }
    const at = (inner: Env): readonly Env[] => places.map((place) => new Map([...inner, ...place]));
    storeRoots(emit, kernel, at(env), (node) => !full(node));
    if (kernel.roots.some((root) => full(root.node))) {
      loops(env, (inner) => storeRoots(emit, kernel, at(inner), full));
    }
  });
};
